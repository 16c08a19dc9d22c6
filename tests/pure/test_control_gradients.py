"""Gradients through cond and loop: equal to slopes in f64, without products of weights in loops."""

from __future__ import annotations

import numpy as np
import pytest

import brim.ops.primitive as p
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.ops import math as maths
from brim.ops import rnn
from brim.passes.autodiff import gradient
from brim.tools.in_double import in_double
from brim.types import F32, Type
from tests.loop_cases import CASES, case
from tests.networks import normal

Feeds = dict[str, np.ndarray]


def loss_of(graph: Graph) -> Value:
    """A weighted sum of all outputs."""
    random, total = np.random.default_rng(0), None
    for value in graph.outputs.values():
        weights = random.standard_normal(value.shape).astype(value.dtype.numpy)
        part = p.reduce(p.mul(value, weights), op="add", axes=tuple(range(len(value.shape))))
        part = p.reshape(part, shape=())
        total = part if total is None else p.add(total, part)
    assert total is not None
    return total


def with_gradients(graph: Graph, names: list[str] | None = None) -> Graph:
    """The graph's loss, and its gradients by the float inputs (or those named)."""
    loss = loss_of(graph)
    names = names or [n for n, v in graph.inputs.items() if v.dtype.is_float]
    found = gradient(loss, [graph.inputs[name] for name in names])
    return Graph(graph.inputs, {"loss": loss, **dict(zip(names, found))}, "gradients")


def check(graph: Graph, feeds: Feeds) -> None:
    """<gradient, direction> is the slope along random directions, in f64."""
    wide = in_double(graph)
    feeds = {n: x.astype(np.float64) if x.dtype == np.float32 else x for n, x in feeds.items()}
    both = with_gradients(wide)
    found = evaluate(both, feeds)
    only = Graph(both.inputs, {"loss": both.outputs["loss"]})
    random, step = np.random.default_rng(1), 1e-6
    for name in list(both.outputs)[1:]:
        direction = random.normal(size=feeds[name].shape)
        ends = [
            evaluate(only, {**feeds, name: feeds[name] + sign * step * direction})["loss"]
            for sign in (1, -1)
        ]
        slope = float(ends[0] - ends[1]) / (2 * step)
        assert np.isclose(slope, np.sum(found[name] * direction), rtol=1e-6, atol=1e-7), name


@pytest.mark.parametrize("trips", [1, 2, 7])
@pytest.mark.parametrize("name", CASES)
def test_loops_of_known_length(name: str, trips: int) -> None:
    check(*case(name, trips))


def _time(steps: int, length: bool = False) -> tuple[Graph, Feeds]:
    """An LSTM with peepholes over steps[B 3, H 4], all states used; lengths: rows end early."""
    types = {"x": (steps, 3, 16), "h": (3, 4), "c": (3, 4), "w": (16, 4), "p": (12,)}
    inputs = {name: placeholder(Type(shape, F32)) for name, shape in types.items()}
    step = rnn.lstm_step((maths.sigmoid, p.tanh, p.tanh), None, False)
    lengths = const(np.array([2, steps, 1])) if length else None
    x, h, c, *weights = inputs.values()
    rows, states = rnn.walk(step, x, [h, c], weights, lengths, reverse=length)
    outputs = {"rows": rows, "h": states[0], "c": states[1]}
    return Graph(inputs, outputs, "lstm"), {n: normal(*shape) for n, shape in types.items()}


@pytest.mark.parametrize("length", [False, True])
def test_recurrent_layers(length: bool) -> None:
    check(*_time(5, length))


def _loops(graph: Graph) -> list[Value]:
    return [v for v in graph.values() if v.op is not None and v.op.name == "loop"]


def test_products_of_weights_are_made_after_the_loop() -> None:
    """No iteration adds to the gradient of a weight, nor contracts rows to its shape."""
    graph, _ = _time(5)
    both = with_gradients(graph)
    for value in _loops(both):
        carried = value.args[2 : 2 + value.attrs["carried"]]
        assert all(arg.type.size < graph.inputs["w"].type.size for arg in carried)
        inside = value.attrs["body"].values()
        products = [v for v in inside if v.op is not None and v.op.name == "contract"]
        assert len(products) == 1, "of the state, or of its cotangent, with the weights"


def _gated(steps: int) -> tuple[Graph, Feeds]:
    """A GRU, whose loop reads parts of its weights."""
    types = {"x": (steps, 2, 9), "h": (2, 3), "w": (9, 3), "b": (3,)}
    inputs = {name: placeholder(Type(shape, F32)) for name, shape in types.items()}
    x, h, *weights = inputs.values()
    outputs = {}
    for linear in (False, True):
        step = rnn.gru_step((maths.sigmoid, p.tanh), 2.0, linear)
        rows, (last,) = rnn.walk(step, x, [h], weights, None, False)
        outputs |= {f"rows{linear}": rows, f"last{linear}": last}
    return Graph(inputs, outputs, "gru"), {n: normal(*shape) for n, shape in types.items()}


def test_loops_that_read_parts_of_what_they_capture() -> None:
    check(*_gated(4))


def test_second_derivatives_of_loops() -> None:
    graph, feeds = _time(3)
    once = with_gradients(graph)
    slopes = {name: value for name, value in once.outputs.items() if name in ("w", "x")}
    check(Graph(graph.inputs, slopes), feeds)
