"""A fixed sample of the loader fuzz; `python -m tests.extra.fuzz_loaders` runs all of it."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("onnx")
if sys.platform == "win32":
    pytest.skip("memory limits of processes are POSIX", allow_module_level=True)

from tests.extra.fuzz_loaders import fuzz


def test_damaged_models_are_typed_errors() -> None:
    counts, findings = fuzz(count=300, seed=7)
    assert findings == []
    assert sum(counts.values()) == 300
    assert counts["ModelError"] > 100 and counts["success"] > 10


@pytest.mark.peer("ai_edge_litert")
def test_damaged_tflite_models_are_typed_errors() -> None:
    counts, findings = fuzz(count=400, seed=7, family="tflite")
    assert findings == []
    assert sum(counts.values()) == 400
    assert counts["ModelError"] > 100 and counts["success"] > 40
