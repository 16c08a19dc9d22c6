"""A graph again with what is settled as constants, value by value: what tells where a network can
be integers looks at constants, and what it finds is carried back.

    %1 = mul(%w, %factor)
    %2 = conv(%x, %1)         -->      %2' = conv(%x, constant of %1's content)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from brim.graph import Graph, Value, const
from brim.model import compile
from brim.train.folding import settled

_COMMUTATIVE = ("add", "mul", "maximum", "minimum")


@dataclass(frozen=True, eq=False)
class Twin:
    """graph: with constants. origin: id of one of its values -> the value it stands for."""

    graph: Graph
    origin: Mapping[int, Value]


def twin(graph: Graph, weights: Mapping[str, np.ndarray], threads: int | None = None) -> Twin:
    """The twin of a graph whose inputs `weights` have these contents.

    What follows of weights is computed by compiled code, as in a step of training.
    """
    known = settled(graph, weights)
    ends = [
        arg
        for value in graph.values()
        if id(value) not in known
        for arg in value.args
        if id(arg) in known
    ]
    ends += [value for value in graph.outputs.values() if id(value) in known]
    found = contents(graph, weights, {id(value): value for value in ends}, threads)
    new: dict[int, Value] = {}
    for value in graph.values():
        if id(value) in found:
            new[id(value)] = const(found[id(value)], value.where)
        elif id(value) not in known:
            args = tuple(new[id(arg)] for arg in value.args)
            if value.op is not None and value.op.name in _COMMUTATIVE and args[0].is_const:
                args = args[::-1]
            new[id(value)] = Value(value.op, args, value.attrs, value.type, None, value.where)
    inputs = {name: new[id(v)] for name, v in graph.inputs.items() if name not in weights}
    outputs = {name: new[id(value)] for name, value in graph.outputs.items()}
    origin = {id(new[id(value)]): value for value in graph.values() if id(value) in new}
    return Twin(Graph(inputs, outputs, graph.name, graph.state), origin)


def contents(
    graph: Graph,
    weights: Mapping[str, np.ndarray],
    values: Mapping[int, Value],
    threads: int | None = None,
) -> dict[int, np.ndarray]:
    """id of each of these settled values -> what it holds."""
    found = {key: value.data for key, value in values.items() if value.data is not None}
    open_ = {f"v{key}": value for key, value in values.items() if key not in found}
    if open_:
        inputs = {name: graph.inputs[name] for name in weights}
        arrays = compile(Graph(inputs, open_, graph.name), threads=threads).run(weights)
        found |= {id(value): arrays[name] for name, value in open_.items()}
    return found
