"""Graphs with state whose new content is, or is not, written where the old one was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from brim.graph import Graph, Value, placeholder
from brim.ops import primitive as p
from brim.types import F32, I64, Type
from tests.networks import normal

Make = Callable[[dict[str, Value]], dict[str, Value]]
ROWS, COLUMNS = 5, 24


@dataclass(frozen=True)
class StateCase:
    """A graph, and which of its state stays in place: all of it, unless `copied` names it.

    copied: the names whose new content is made beside the old one. inputs: other feeds.
    """

    make: Make
    state: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray]
    copied: frozenset[str] = frozenset()

    def graph(self) -> Graph:
        arrays = {**self.inputs, **self.state}
        kinds = {np.dtype(np.float32): F32, np.dtype(np.int64): I64}
        ports = {n: placeholder(Type(a.shape, kinds[a.dtype])) for n, a in arrays.items()}
        return Graph(ports, self.make(ports), "case", self.state)


def _momentum(v: dict[str, Value]) -> dict[str, Value]:
    slope = p.contract(v["x"], v["y"], spec="bi,bo->io")
    mean = p.add(p.mul(v["mean"], 0.9), slope)
    y = p.contract(v["x"], v["w"], spec="bi,io->bo")  # reads the old weight, as a forward pass does
    return {"w": p.sub(v["w"], p.mul(mean, 0.1)), "mean": mean, "result": y}


def _adam(v: dict[str, Value]) -> dict[str, Value]:
    slope = p.contract(v["x"], v["y"], spec="bi,bo->io")
    step = p.add(v["step"], 1)
    mean = p.add(p.mul(v["mean"], 0.9), p.mul(slope, 0.1))
    square = p.add(p.mul(v["square"], 0.99), p.mul(p.mul(slope, slope), 0.01))
    rate = p.div(0.1, p.sub(1.0, p.power(0.99, p.cast(step, to=F32))))
    moved = p.div(p.mul(mean, rate), p.add(p.sqrt(square), 1e-8))
    return {"w": p.sub(v["w"], moved), "mean": mean, "square": square, "step": step}


def _shifted(v: dict[str, Value]) -> dict[str, Value]:
    rest = p.slice(v["h"], starts=(1, 0), sizes=(ROWS - 1, COLUMNS), steps=(1, 1))
    return {"h": p.concat(rest, v["row"], axis=0)}


def _looked_up(v: dict[str, Value]) -> dict[str, Value]:
    """An embedding and its gradient: the second use of the indices comes after other updates."""
    rows = p.gather(v["table"], v["ids"], axis=0)
    zero = p.mul(v["table"], 0.0)
    slope = p.scatter(zero, v["ids"], p.mul(rows, v["w"]), axis=0, op="add")
    return {"w": p.sub(v["w"], p.mul(rows, 0.1)), "table": p.sub(v["table"], slope)}


def _late_index(v: dict[str, Value]) -> dict[str, Value]:
    """An index that is looked at only after the state would have been written."""
    h = p.add(v["h"], 1.0)
    found = p.gather(v["x"], v["ids"], axis=0)
    return {"h": h, "result": p.add(p.reduce(h, op="add", axes=(0,)), found)}


_W = {"w": normal(ROWS, COLUMNS)}
_XY = {"x": normal(7, ROWS), "y": normal(7, COLUMNS)}
_ZERO = np.zeros((ROWS, COLUMNS), np.float32)
_AB = {"a": normal(ROWS, COLUMNS), "b": normal(ROWS, COLUMNS)}
_IDS = {"ids": np.array([3, 0, 3, 1, 2])}

STATE_CASES: dict[str, StateCase] = {
    "momentum": StateCase(_momentum, {**_W, "mean": _ZERO}, _XY),
    "adam": StateCase(
        _adam, {**_W, "mean": _ZERO, "square": _ZERO, "step": np.zeros((), np.int64)}, _XY
    ),
    "unchanged": StateCase(lambda v: {"w": v["w"], "y": p.mul(v["w"], 2.0)}, _W, {}),
    "the old state is a result": StateCase(lambda v: {"w": p.neg(v["w"]), "y": v["w"]}, _W, {}),
    "the new state is a result": StateCase(
        lambda v: {"w": (n := p.neg(v["w"])), "y": n, "z": p.exp(n)}, _W, {}
    ),
    "normalised": StateCase(
        lambda v: {"w": p.sub(v["w"], p.reduce(v["w"], op="max", axes=(1,)))}, _W, {}
    ),
    "normalised as a whole": StateCase(
        lambda v: {"w": p.div(v["w"], p.reduce(v["w"], op="max", axes=(0, 1)))}, _W, {}
    ),
    "swapped": StateCase(lambda v: {"a": v["b"], "b": v["a"]}, _AB, {}, frozenset("a")),
    "handed on": StateCase(
        lambda v: {"a": p.add(v["x"], v["a"]), "b": v["a"]}, _AB, {"x": _ZERO + 1}
    ),
    "turned round": StateCase(
        lambda v: {
            "a": p.slice(v["a"], starts=(ROWS - 1, 0), sizes=(ROWS, COLUMNS), steps=(-1, 1))
        },
        {"a": _AB["a"]},
        {},
        frozenset("a"),
    ),
    "a product": StateCase(
        lambda v: {"h": p.contract(v["m"], v["h"], spec="ij,jk->ik")},
        {"h": _AB["a"]},
        {"m": normal(ROWS, ROWS) / 3},
        frozenset("h"),
    ),
    "shifted": StateCase(_shifted, {"h": _AB["a"]}, {"row": normal(1, COLUMNS)}, frozenset("h")),
    "looked up": StateCase(_looked_up, {**_W, "table": normal(4, COLUMNS)}, _IDS),
    "a late index": StateCase(
        _late_index, {"h": _AB["a"]}, {"x": _AB["b"], **_IDS}, frozenset("h")
    ),
}
