"""Gradients compiled: of every operator, of loops and choices, equal to interpreted ones."""

from __future__ import annotations

import numpy as np
import pytest

import brim
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.ops import OPS
from brim.ops import primitive as p
from brim.ops.registry import emit
from brim.passes.autodiff import gradient
from tests.conformance import CASES, has_slope
from tests.control_gradients import CONTROL, Feeds, with_gradients
from tests.storage_numbers import plain

OPERATORS = {
    name: rows for name in sorted(CASES) if (rows := [c for c in CASES[name] if has_slope(name, c)])
}
# The odd ones; the others take a minute together.
FAST = {"cumulate", "max_pool", "reduce", "resample", "scatter", "slice"}


def compare(graph: Graph, feeds: Feeds, host_steps: bool = False) -> None:
    """Compiled results equal interpreted ones, up to the rounding of sums."""
    model = brim.compile(graph)
    assert bool(model.report().host_steps) == host_steps
    found, wanted = model.run(feeds), evaluate(graph, feeds)
    for name, want in wanted.items():
        near = {2: 8e-3, 4: 2e-5, 8: 1e-10}[want.dtype.itemsize]
        scale = max(1.0, float(np.abs(plain(want)).max(initial=0)))
        assert found[name].dtype == want.dtype
        np.testing.assert_allclose(
            plain(found[name]) / scale, plain(want) / scale, rtol=near, atol=near, err_msg=name
        )


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in OPERATORS]
)
def test_gradients_of_operators(name: str) -> None:
    inputs: dict[str, Value] = {}
    outputs: dict[str, Value] = {}
    feeds: Feeds = {}
    random = np.random.default_rng(0)
    for number, case in enumerate(OPERATORS[name]):
        args = [placeholder(type) for type in case.types()]
        names = [f"x{number}_{column}" for column in range(len(args))]
        inputs.update(zip(names, args))
        feeds.update(zip(names, case.arrays()))
        result = emit(OPS[name], *args, **case.attrs)
        weights = const(random.standard_normal(result.shape).astype(result.dtype.numpy))
        floats = {n: arg for n, arg in zip(names, args) if arg.dtype.is_float}
        found = gradient(p.mul(result, weights), list(floats.values()))
        outputs.update((f"slope of {n}", slope) for n, slope in zip(floats, found))
    compare(Graph(inputs, outputs, name), feeds)


@pytest.mark.parametrize("name", CONTROL)
def test_gradients_of_control_flow(name: str) -> None:
    graph, feeds = CONTROL[name]()
    compare(with_gradients(graph), feeds, host_steps="host" in name)
