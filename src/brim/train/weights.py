"""Weights: how a file holds each, and how the graph reads it.

    %w: f32[8,3,3,3]                                  as the file has it: [O, I, H, W]
    %1: f32[3,3,3,8] = transpose(%w) perm=(2, 3, 1, 0)
    %2: f32[1,5,5,8] = conv(%x, %1)
-->
    %w: f32[3,3,3,8]                                  moved once, before any step
    %2: f32[1,5,5,8] = conv(%x, %w)

and the moves are remembered, so that what was learned gets back into the file's form.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from brim.graph import Graph, Value, placeholder, substitute, users
from brim.ops.primitive import inverse
from brim.types import Shape

MOVES = ("transpose", "reshape")
_LABEL = re.compile(r"(?:.*?: )?(.*?)(?: \(\w+\))?")  # of "model.onnx: name (Conv)"


@dataclass(frozen=True)
class Source:
    """How a file holds a weight: its shape there, and the moves that lead to the graph's layout.

    moves: ("transpose", perm) or ("reshape", shape), in order.
    """

    shape: Shape
    moves: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def inward(self, array: np.ndarray) -> np.ndarray:
        """The file's array, of `shape`, as the graph reads it."""
        for move, to in self.moves:
            array = array.transpose(to) if move == "transpose" else array.reshape(to)
        return np.ascontiguousarray(array)

    def outward(self, array: np.ndarray) -> np.ndarray:
        """The graph's array as the file has it."""
        shapes = [self.shape]
        for move, to in self.moves:
            before = shapes[-1]
            shapes.append(tuple(before[i] for i in to) if move == "transpose" else to)
        for (move, to), before in zip(reversed(self.moves), reversed(shapes[:-1])):
            back = array.transpose(inverse(to)) if move == "transpose" else array.reshape(before)
            array = back
        return np.ascontiguousarray(array)


def label(value: Value) -> str:
    """What a value is called in its file: the name of its node or tensor."""
    found = _LABEL.fullmatch(value.where)
    return found[1] if found else value.where


def moved(graph: Graph, names: Collection[str]) -> tuple[Graph, dict[str, Source]]:
    """The graph with inputs `names` in the layout that it reads them in, and how they get there.

    A weight that is read in several layouts stays as the file has it.
    """
    uses = users(graph)
    ends = {id(value) for value in graph.outputs.values()}
    inputs, sources, replace = dict(graph.inputs), {}, {}
    for name in names:
        value = graph.inputs[name]
        shape, moves = value.shape, []
        while id(value) not in ends and (found := _only_move(uses.get(id(value), []))):
            value = found
            to = value.attrs["perm" if value.op.name == "transpose" else "shape"]  # type: ignore[union-attr]
            moves.append((value.op.name, tuple(to)))  # type: ignore[union-attr]
        sources[name] = Source(shape, tuple(moves))
        if moves:
            inputs[name] = replace[id(value)] = placeholder(value.type, name)
    outputs = substitute(graph.outputs.values(), replace)
    return Graph(inputs, dict(zip(graph.outputs, outputs)), graph.name, graph.state), sources


def _only_move(readers: list[Value]) -> Value | None:
    """The one reader of a value, if all it does is to move it."""
    if len(readers) != 1 or readers[0].op is None or readers[0].op.name not in MOVES:
        return None
    return readers[0]
