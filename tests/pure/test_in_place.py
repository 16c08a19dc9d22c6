"""Steps in another order, over fewer buffers: the same bits, less memory, state where it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from brim.compiler import optimise
from brim.graph import Graph, evaluate, placeholder
from brim.kernels.in_place import in_place
from brim.kernels.lower import lower
from brim.kernels.order import orders
from brim.kernels.reference import run_lowered
from brim.kernels.steps import KernelStep, Lowered
from brim.ops import primitive as p
from brim.passes.autodiff import gradient
from brim.passes.expand import expand
from brim.runtime.plan import allocate, lifetimes
from brim.types import F32, Type
from tests.networks import NETWORKS, network, normal
from tests.random_graphs import RandomGraph, graphs
from tests.state_cases import STATE_CASES

SUMS = {"op": "add", "axis": 0, "reverse": False, "exclusive": False}


def arena_bytes(lowered: Lowered) -> int:
    return allocate(lowered.buffers, lifetimes(lowered))[1]


def copied(lowered: Lowered) -> set[str]:
    """The state that is copied at the end."""
    found = (s.fused.where for s in lowered.steps if isinstance(s, KernelStep))
    return {where.removeprefix("state ") for where in found if where.startswith("state ")}


@pytest.mark.parametrize("name", NETWORKS)
def test_any_order_in_place_gives_the_same_bits(name: str) -> None:
    graph, feeds = network(name)
    plain = lower(graph)
    want = run_lowered(plain, feeds)
    for each in orders(plain, ()):
        found = run_lowered(in_place(each, ()), feeds)
        assert all(found[n].tobytes() == want[n].tobytes() for n in want)


@given(graphs())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_graphs_with_state_give_the_same_bits(case: RandomGraph) -> None:
    """Outputs become the new content of inputs of their type."""
    graph, free = case.graph, dict(case.graph.inputs)
    outputs = {}
    for name, value in graph.outputs.items():
        port = next((n for n, v in free.items() if v.type == value.type), None)
        outputs[name if port is None else port] = value
        free.pop(port or "", None)
    state = {n: case.feeds[n] for n in graph.inputs if n in outputs}
    stateful = expand(optimise(Graph(graph.inputs, outputs, "g", state)))
    plain = lower(stateful)
    want = run_lowered(plain, case.feeds)
    for each in orders(plain, state):
        found = run_lowered(in_place(each, state), case.feeds)
        assert all(found[n].tobytes() == want[n].tobytes() for n in want)


@pytest.mark.parametrize("name", STATE_CASES)
def test_state_is_one_buffer(name: str) -> None:
    case = STATE_CASES[name]
    graph = case.graph()
    plain = lower(graph)
    found = [in_place(each, graph.state) for each in orders(plain, graph.state)]
    assert copied(min(found, key=lambda each: len(copied(each)))) == case.copied
    feeds = {**case.inputs, **case.state}
    for each in found:
        for port in graph.state:
            assert each.outputs[port].buffer == each.inputs[port]
        now = dict(feeds)
        for _ in range(3):
            want, results = evaluate(graph, now), run_lowered(each, now)
            for output, array in want.items():
                np.testing.assert_allclose(results[output], array, rtol=1e-5, atol=1e-6)
            now |= {port: results[port] for port in graph.state}


def test_chains_share_temporaries() -> None:
    """What is made of one temporary, element by element, takes its place."""
    graph, _ = network("attention")
    plain = lower(graph)
    assert arena_bytes(in_place(plain, ())) <= arena_bytes(plain)
    x = placeholder(Type((64, 64), F32))
    both = p.mul(p.cumulate(x, **SUMS), p.cumulate(x, **{**SUMS, "reverse": True}))
    lowered = lower(Graph({"x": x}, {"y": p.cumulate(both, **SUMS)}, "chain"))
    assert arena_bytes(lowered) == 3 * x.type.bytes
    assert arena_bytes(in_place(lowered, ())) == 2 * x.type.bytes


def chain_step(turned: bool) -> Graph:
    """A step of gradient descent on six dense layers with tanh, batch 64, width 64."""
    size = Type((64, 64), F32)
    x, weights = placeholder(size), {f"w{i}": placeholder(size) for i in range(6)}
    y = x
    for w in weights.values():
        y = p.tanh(p.contract(y, w, spec="bi,io->bo"))
    slopes = gradient(p.reduce(p.mul(y, y), op="add", axes=(0, 1)), [*weights.values()])
    new = {n: p.sub(w, p.mul(g, 0.1)) for (n, w), g in zip(weights.items(), slopes)}
    names = list(new)[:: -1 if turned else 1]
    state = {n: normal(64, 64) for n in names}
    return expand(optimise(Graph({"x": x, **weights}, {n: new[n] for n in names}, "chain", state)))


def test_gradients_live_shortly() -> None:
    """Weights are updated as soon as their gradient is known, whatever comes first among results:
    what lives at once are six activations and a gradient."""
    for turned in (False, True):
        graph = chain_step(turned)
        found = [in_place(each, graph.state) for each in orders(lower(graph), graph.state)]
        best = min(found, key=lambda each: (arena_bytes(each), len(copied(each))))
        assert not copied(best)
        assert arena_bytes(best) <= 7 * 64 * 64 * 4 < arena_bytes(lower(chain_step(False)))
