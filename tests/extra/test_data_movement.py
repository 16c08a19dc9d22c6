"""Standalone data movement inside a network is a bug: it is counted on the real topologies."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx")

from bench.nets import NETS
from brim.compiler import optimise
from brim.frontends.onnx.importer import import_model
from brim.kernels.lower import lower
from brim.kernels.steps import HostStep
from brim.search.choice import by_price
from brim.search.variants import settle
from brim.targets.target import host


@pytest.mark.parametrize("name", NETS)
def test_no_standalone_moves(name: str, tmp_path: Path) -> None:
    lowered = lower(settle(optimise(import_model(NETS[name]())), by_price(host())))
    assert not [s for s in lowered.steps if isinstance(s, HostStep)]
    moves = [
        (s.fused.ops, s.fused.where)
        for s in lowered.steps
        if not isinstance(s, HostStep) and s.is_move
    ]
    # a resize that a concat stores makes new elements
    assert [ops for ops, where in moves if not where.endswith("(Resize)")] == []
