"""onnxruntime's own operators (com.microsoft), one at a time, against onnxruntime.

By default the imported graph is interpreted; the slow tests run the same cases compiled.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("ml_dtypes")

import brim
from brim.frontends.onnx import import_model
from brim.graph import evaluate
from tests.extra import contrib_cases
from tests.extra.contrib_cases import Case

pytestmark = pytest.mark.peer
CASES = dict(contrib_cases.cases())


@functools.cache
def expected(name: str) -> list[np.ndarray]:
    return peer(CASES[name])


def peer(case: Case) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    data = case.model().SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, case.feeds)


def check(case: Case, found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted):
        assert a.shape == b.shape and a.dtype == b.dtype
        if b.dtype.kind in "iub":
            assert np.abs(a.astype(np.int64) - b.astype(np.int64)).max(initial=0) <= case.quanta
        else:
            # sums of rounded products in another order; a few units in the last place of f16
            limit = {2: 4e-3, 4: 1e-5, 8: 1e-12}[b.dtype.itemsize]
            scale = max(1.0, float(np.abs(b).max(initial=0)))
            np.testing.assert_allclose(a, b, rtol=limit, atol=limit * scale)


@pytest.mark.parametrize("name", CASES)
def test_meaning(name: str) -> None:
    case = CASES[name]
    found = evaluate(import_model(case.model()), case.feeds)
    check(case, list(found.values()), expected(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_compiled(name: str) -> None:
    case = CASES[name]
    found = brim.load(case.model().SerializeToString()).run(case.feeds)
    check(case, list(found.values()), expected(name))
