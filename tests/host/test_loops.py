"""Loops that compiled code runs: equal to the reference, on threads too, and from an artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import brim
from brim.graph import Graph, evaluate, placeholder
from brim.ops.primitive import contract, gather
from brim.runtime.entry import is_split
from brim.runtime.plan import Loop, Segment
from brim.targets.target import find_target
from brim.types import F32, Type
from tests.loop_cases import CASES, case, repeated


@pytest.mark.parametrize("trips", [1, 2, 7])
@pytest.mark.parametrize("name", CASES)
def test_compiled_loops_equal_the_reference(name: str, trips: int, tmp_path: Path) -> None:
    graph, feeds = case(name, trips)
    model = brim.compile(graph)
    assert not model.report().host_steps
    model.save(tmp_path / "m.brim")
    loaded = brim.load(tmp_path / "m.brim")
    for output, want in evaluate(graph, feeds).items():
        for found in (model.run(feeds), model.run(feeds), loaded.run(feeds)):
            np.testing.assert_allclose(found[output], want, rtol=1e-5, atol=1e-5)


def test_an_index_out_of_range_is_an_error() -> None:
    graph, feeds = case("a running sum, which is carried and stacked", 9)
    with pytest.raises(brim.BrimError, match="out of range"):
        brim.compile(graph).run(feeds)


def test_long_kernels_of_a_loop_are_shared_among_threads() -> None:
    size, trips = 512, 5

    def body(i, a, xs):
        return [contract(gather(xs, i, axis=0), a, spec="mk,kn->mn")]

    a = placeholder(Type((size, size), F32), "a")
    xs = placeholder(Type((trips, size, size), F32), "xs")
    (y,) = repeated(body, [a], [xs], trips)
    model = brim.compile(Graph({"a": a, "xs": xs}, {"y": y}), threads=2)
    segments = [s for s in model._last().compiled.plan.steps if isinstance(s, Segment)]
    loops = [c for s in segments for c in s.calls if isinstance(c, Loop)]
    assert any(is_split(call, find_target("host").fork) for call in loops[0].calls)
    random = np.random.default_rng(0)
    feeds = {
        n: random.standard_normal(v.shape).astype(np.float32) / 20
        for n, v in (("a", a), ("xs", xs))
    }
    want = feeds["a"]
    for x in feeds["xs"]:
        want = x @ want
    np.testing.assert_allclose(model.run(feeds)["y"], want, rtol=1e-3, atol=1e-5)
