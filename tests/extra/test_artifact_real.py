"""Artifacts of real models: sub-graphs, several shapes, host steps; the same bits after loading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import brim
from brim.runtime.artifact import difference, open_artifact
from tests.extra.real_models import CASES

CHOSEN = ("ppocr-orient", "silero-vad", "magika", "light_shufflenet")


@pytest.mark.network
@pytest.mark.parametrize("case", [c for c in CASES if c.name in CHOSEN], ids=lambda case: case.name)
def test_real_models_survive_saving(case, tmp_path: Path) -> None:
    feeds = case.feeds()[:2]
    model = brim.load(case.model(tmp_path))
    wanted = [model.run(feed) for feed in feeds]
    path = tmp_path / "model.brim"
    model.save(path)
    open_artifact(path).verify()
    loaded, compiled = brim.load(path), brim.load(path, trust=False)
    for feed, want in zip(feeds, wanted):
        for name, array in loaded.run(feed).items():
            np.testing.assert_array_equal(array, want[name])
        for name, array in compiled.run(feed).items():
            assert difference(array, want[name]) < 1e-5
    case.check(loaded.run)
