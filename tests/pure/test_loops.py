"""Loops of known length become kernels; the interpreter of lowered graphs runs them as numpy."""

from __future__ import annotations

import numpy as np
import pytest

import brim.ops.primitive as p
from brim.graph import Graph, const, evaluate, placeholder
from brim.kernels.loops import LINE
from brim.kernels.lower import lower
from brim.kernels.reference import run_lowered
from brim.kernels.steps import HostStep, LoopStep
from brim.ops.control import loop
from brim.runtime.plan import lifetimes
from brim.types import BOOL, F32, I64, Type
from tests.loop_cases import CASES, case, repeated


@pytest.mark.parametrize("trips", [1, 2, 7])
@pytest.mark.parametrize("name", CASES)
def test_lowered_loops_equal_the_reference(name: str, trips: int) -> None:
    graph, feeds = case(name, trips)
    lowered = lower(graph)
    assert not any(isinstance(step, HostStep) for step in lowered.steps)
    assert sum(isinstance(step, LoopStep) for step in lowered.steps) == 1
    found = run_lowered(lowered, feeds)
    for output, want in evaluate(graph, feeds).items():
        np.testing.assert_allclose(found[output], want, rtol=1e-5, atol=1e-5)


def _loop_of(name: str) -> LoopStep:
    (step,) = [s for s in lower(case(name, 7)[0]).steps if isinstance(s, LoopStep)]
    return step


@pytest.mark.parametrize(
    "name", ["a running sum, which is carried and stacked", "rows by the iteration as i32"]
)
def test_nothing_is_copied_between_iterations(name: str) -> None:
    step = _loop_of(name)
    (kernel,) = step.steps
    assert kernel.fused.ops == ("add",), "the row is read where it lies"
    periods = sorted(moving.period for moving in step.moving.values())
    assert periods == [7, 8, 8], "rows of the input; the sums, behind what they start with"


def test_halves_are_whole_cache_lines() -> None:
    moving = _loop_of("rows from the end").moving.values()
    assert all(
        m.stride * 4 % LINE == 0
        for m in _loop_of("two values that change places").moving.values()
        if m.period == 2
    )
    assert not any(m.period == 2 for m in moving)


def test_temporaries_of_a_body_share_memory_with_each_other_only() -> None:
    """What outlives an iteration lives all through the loop."""
    lowered = lower(case("products, whose temporaries share memory", 7)[0])
    number = next(i for i, s in enumerate(lowered.steps) if isinstance(s, LoopStep))
    step = lowered.steps[number]
    assert isinstance(step, LoopStep)
    last = number + len(step.steps) - 1
    for name, (first, end) in lifetimes(lowered).items():
        if name in step.own:
            assert number <= first <= end <= last
        elif name in {m.buffer for m in step.moving.values()}:
            assert first <= number and end >= last


def test_equal_steps_need_no_more_kernels_when_they_are_many() -> None:
    few, many = (len(lower(case("rows from the end", trips)[0]).steps) for trips in (2, 7))
    assert few == many


def test_an_index_out_of_range_is_found() -> None:
    """A body may ask for more rows than there are; then nothing is assumed about its index."""
    graph, feeds = case("a running sum, which is carried and stacked", 9)
    with pytest.raises(Exception, match="out of range"):
        run_lowered(lower(graph), feeds)


def test_other_loops_stay_on_the_host() -> None:
    x, trips = placeholder(Type((2,), F32), "x"), placeholder(Type((), I64), "trips")
    one = placeholder(Type((2,), F32))
    index, alive = placeholder(Type((), I64)), placeholder(Type((), BOOL))
    body = Graph({"i": index, "go": alive, "x": one}, {"go": alive, "y": p.add(one, 1.0)}, "body")
    unknown = loop(trips, const(np.bool_(True)), x, body=body, carried=1, length=None)
    ending = loop(const(np.int64(3)), const(np.bool_(True)), x, body=body, carried=1, length=3)
    for value in (unknown, ending):
        lowered = lower(Graph({"x": x, "trips": trips}, {"y": value}))
        assert any(isinstance(step, HostStep) for step in lowered.steps)


def test_a_loop_in_a_loop_is_compiled_inside() -> None:
    def inner(i, a):
        return [p.add(a, 1.0)]

    def outer(i, a):
        (found,) = repeated(inner, [a], [], 3)
        return [p.mul(found, 2.0)]

    x = placeholder(Type((2,), F32), "x")
    (y,) = repeated(outer, [x], [], 4)
    graph, feeds = Graph({"x": x}, {"y": y}), {"x": np.ones(2, np.float32)}
    lowered = lower(graph)
    (host,) = [step for step in lowered.steps if isinstance(step, HostStep)]
    assert any(isinstance(step, LoopStep) for step in lower(host.value.attrs["body"]).steps)
    np.testing.assert_array_equal(run_lowered(lowered, feeds)["y"], evaluate(graph, feeds)["y"])
