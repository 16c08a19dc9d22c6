"""A detector with everything that depends on data, for pictures of several sizes: onnxruntime's."""

from __future__ import annotations

import numpy as np
import pytest

import brim
from tests.detector import detector

pytestmark = pytest.mark.peer("onnxruntime")


@pytest.mark.parametrize("bias", [0.0, -20.0], ids=["boxes", "nothing"])
def test_a_detector_for_pictures_of_any_size(bias: float) -> None:
    import onnxruntime

    data = detector(bias).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    model = brim.load(data)
    found = []
    for height, width in ((64, 64), (96, 128), (40, 200), (8, 8)):
        x = np.random.default_rng(height).normal(size=(1, 3, height, width)).astype(np.float32)
        results = model.run({"picture": x})
        for got, want in zip(results.values(), session.run(None, {"picture": x}), strict=True):
            assert got.dtype == want.dtype
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, 1e-5, 1e-4)  # pixels of some dozens
        found.append(len(results["scores"]))
    assert found == [0] * 4 if bias else min(found) > 0
