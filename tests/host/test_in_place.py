"""State in place, compiled: as by the interpreter, on several threads, and after failures."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

import brim
from brim.errors import InputError
from brim.graph import Graph, evaluate, placeholder
from brim.ops import primitive as p
from brim.runtime import entry
from brim.types import F32, Type
from tests.state_cases import STATE_CASES


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", STATE_CASES)
def test_steps_equal_the_interpreter(name: str, threads: int) -> None:
    case = STATE_CASES[name]
    graph = case.graph()
    with mock.patch.object(entry, "WORTH", 0.0):  # every kernel is split
        model = brim.compile(graph, threads=threads)
        model.compile()
    now = dict(case.state)
    for _ in range(4):
        want = evaluate(graph, {**case.inputs, **now})
        found = model.run(case.inputs)
        now = {port: want[port] for port in now}
        for output, array in {**found, **model.state}.items():
            np.testing.assert_allclose(array, want[output], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n, c in STATE_CASES.items() if "ids" in c.inputs])
def test_a_bad_index_leaves_the_state(name: str) -> None:
    case = STATE_CASES[name]
    model = brim.compile(case.graph())
    model.run(case.inputs)
    before = model.state
    for index in (-100, 4000):
        with pytest.raises(InputError, match="out of range"):
            model.run({**case.inputs, "ids": np.full_like(case.inputs["ids"], index)})
        for port, array in model.state.items():
            assert array.tobytes() == before[port].tobytes()
    model.run(case.inputs)
    assert any(array.tobytes() != before[port].tobytes() for port, array in model.state.items())


def test_a_program_changes_no_array_that_it_is_given() -> None:
    """Whoever runs a program by hand passes state as any other input."""
    case = STATE_CASES["momentum"]
    model = brim.compile(case.graph())
    model.compile()
    feeds = {n: np.array(a) for n, a in {**case.inputs, **case.state}.items()}
    program = model._last().program
    assert program.quick(feeds) is None
    first, second = program.run(feeds), program.run(feeds)
    for port in case.state:
        assert feeds[port].tobytes() == case.state[port].tobytes()
        assert first[port].tobytes() == second[port].tobytes() != feeds[port].tobytes()


def test_updates_need_no_memory_but_the_gradient() -> None:
    """Adam on a large weight: the arena holds what it is told to change by, once."""
    size = Type((300, 1000), F32)
    v = {n: placeholder(size) for n in ("w", "mean", "square")}
    x, y = placeholder(Type((8, 300), F32)), placeholder(Type((8, 1000), F32))
    slope = p.contract(x, y, spec="bi,bo->io")
    mean = p.add(p.mul(v["mean"], 0.9), slope)
    square = p.add(p.mul(v["square"], 0.9), p.mul(slope, slope))
    w = p.sub(v["w"], p.div(mean, p.add(p.sqrt(square), 1.0)))
    state = {n: np.ones(size.dims, np.float32) for n in v}
    new = {"w": w, "mean": mean, "square": square}
    report = brim.compile(Graph({"x": x, "y": y, **v}, new, "adam", state)).compile()
    assert report.arena_bytes == size.bytes
