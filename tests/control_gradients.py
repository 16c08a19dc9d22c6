"""Graphs of loops and choices whose gradients are asked for, and what their gradients are of.

One table for the tests that compare with slopes and those that compile. Names of those whose steps
run on the host say so. Nothing is run here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from brim.graph import Graph, Value, const, placeholder
from brim.ops import math as maths
from brim.ops import primitive as p
from brim.ops import rnn
from brim.ops.control import cond, loop, results_of
from brim.passes.autodiff import gradient
from brim.types import BOOL, F32, I64, Type
from tests.loop_cases import repeated
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


def lstm(steps: int, ends: bool = False) -> tuple[Graph, Feeds]:
    """An LSTM with peepholes over steps[B 3, H 4], all states used; ends: rows
    end early, and time runs backwards."""
    types = {"x": (steps, 3, 16), "h": (3, 4), "c": (3, 4), "w": (16, 4), "p": (12,)}
    inputs = {name: placeholder(Type(shape, F32)) for name, shape in types.items()}
    step = rnn.lstm_step((maths.sigmoid, p.tanh, p.tanh), None, False)
    lengths = const(np.array([2, steps, 1])) if ends else None
    x, h, c, *weights = inputs.values()
    rows, states = rnn.walk(step, x, [h, c], weights, lengths, reverse=ends)
    outputs = {"rows": rows, "h": states[0], "c": states[1]}
    return Graph(inputs, outputs, "lstm"), {n: normal(*shape) for n, shape in types.items()}


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


def _branches(a: Value, b: Value) -> dict[str, Graph]:
    """Two graphs of two results over values of these types; one of them uses not all of them."""
    inner = [placeholder(value.type) for value in (a, b)]
    names = dict(zip("ab", inner))
    then = {"y": p.mul(inner[0], inner[1]), "z": p.exp(inner[0])}
    orelse = {"y": p.sin(inner[0]), "z": p.mul(inner[0], 2.0)}
    return {"then": Graph(names, then, "then"), "orelse": Graph(names, orelse, "orelse")}


def _choice(holds: bool) -> tuple[Graph, Feeds]:
    a, b, chosen = (placeholder(t) for t in (Type((3,), F32), Type((3,), F32), Type((), BOOL)))
    y, z = results_of(cond(chosen, a, b, **_branches(a, b)))
    graph = Graph({"a": a, "b": b, "chosen": chosen}, {"y": y, "z": z, "w": p.mul(y, a)})
    return graph, {"a": normal(3), "b": normal(3), "chosen": np.array(holds)}


def _choices() -> tuple[Graph, Feeds]:
    def body(i: Value, a: Value, b: Value) -> list[Value]:
        y, z = results_of(cond(p.gt(i, 1), a, b, **_branches(a, b)))
        return [y, p.add(z, b)]

    a, b = (placeholder(Type((3,), F32)) for _ in range(2))
    outputs = dict(zip("yz", repeated(body, [a], [b], 4)))
    return Graph({"a": a, "b": b}, outputs), {"a": normal(3), "b": normal(3)}


def _nested() -> tuple[Graph, Feeds]:
    """The inner loop reads rows of what the outer one captures, and its state."""

    def inner(i: Value, a: Value, w: Value) -> list[Value]:
        new = p.tanh(p.contract(a, w, spec="ij,kj->ik"))
        return [new, new]

    def outer(i: Value, a: Value, xs: Value, w: Value) -> list[Value]:
        last, rows = repeated(inner, [p.add(a, p.gather(xs, i, axis=0))], [w], 3)
        return [p.add(last, a), p.reduce(rows, op="add", axes=(0,))]

    types = {"a": (2, 3), "xs": (4, 2, 3), "w": (3, 3)}
    inputs = {name: placeholder(Type(shape, F32)) for name, shape in types.items()}
    a, xs, w = inputs.values()
    outputs = dict(zip("yz", repeated(outer, [a], [xs, w], 4)))
    return Graph(inputs, outputs), {name: normal(*shape) for name, shape in types.items()}


def _while(limit: float, most: int, trips: int | None = None) -> tuple[Graph, Feeds]:
    """h = tanh(h @ w + i * b), at most so many times, while the sum of squares of h is above a
    limit. trips: how often, as an input."""
    types = {"h": (2, 3), "w": (3, 3), "b": (3,)}
    inputs = {name: placeholder(Type(shape, F32)) for name, shape in types.items()}
    feeds = {name: normal(*shape) / 2 for name, shape in types.items()}
    index, alive = placeholder(Type((), I64)), placeholder(Type((), BOOL))
    h, w, b = (placeholder(Type(shape, F32)) for shape in types.values())
    product = p.contract(h, w, spec="ij,jk->ik")
    new = p.tanh(p.add(product, p.mul(b, p.cast(index, to=F32))))
    squares = p.reshape(p.reduce(p.mul(new, new), op="add", axes=(0, 1)), shape=())
    body = Graph(
        {"i": index, "go": alive, "h": h, "w": w, "b": b},
        {"go": p.gt(squares, limit), "h": new},
        "body",
    )
    count = const(np.int64(most)) if trips is None else placeholder(Type((), I64))
    start = const(np.bool_(True))
    y = loop(count, start, *inputs.values(), body=body, carried=1, length=None)
    if trips is not None:
        inputs, feeds = {**inputs, "trips": count}, {**feeds, "trips": np.array(trips)}
    return Graph(inputs, {"y": y}), feeds


CONTROL: dict[str, Callable[[], tuple[Graph, Feeds]]] = {
    "an LSTM with peepholes": partial(lstm, 5),
    "an LSTM over rows that end early, backwards": partial(lstm, 5, True),
    "GRUs, whose loops read parts of their weights": partial(_gated, 4),
    "a choice that holds, on the host": partial(_choice, True),
    "a choice that does not hold, on the host": partial(_choice, False),
    "a choice in each iteration, on the host": _choices,
    "a loop in a loop, on the host": _nested,
    "a loop of 0 iterations, known at run time, on the host": partial(_while, -1, 9, 0),
    "a loop of 1 iteration, known at run time, on the host": partial(_while, -1, 9, 1),
    "a loop of 6 iterations, known at run time, on the host": partial(_while, -1, 9, 6),
    "a loop that ends when its condition fails, on the host": partial(_while, 0.2, 50),
}
