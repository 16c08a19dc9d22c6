"""A graph's f32 arithmetic redone in f64: which of two f32 engines is nearer to the truth?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.ops.registry import at, emit
from brim.types import F32, F64, Type


def in_double(graph: Graph) -> Graph:
    """The same graph with every f32 input, constant, cast and result in f64; so its sub-graphs."""
    new: dict[int, Value] = {}
    for value in graph.values():
        if value.op is None:
            widen = value.type.dtype == F32
            if value.data is not None:
                new[id(value)] = const(value.data.astype(np.float64)) if widen else value
            else:
                dtype = F64 if widen else value.type.dtype
                new[id(value)] = placeholder(Type(value.type.shape, dtype))
            continue
        attrs = {name: _in_double(attr) for name, attr in value.attrs.items()}
        with at(value.where):
            new[id(value)] = emit(value.op, *(new[id(arg)] for arg in value.args), **attrs)
    inputs = {name: new[id(value)] for name, value in graph.inputs.items()}
    outputs = {name: new[id(value)] for name, value in graph.outputs.items()}
    return Graph(inputs, outputs, graph.name, widened(graph.state))


def _in_double(attr: Any) -> Any:
    if isinstance(attr, Graph):
        return in_double(attr)
    return F64 if attr == F32 else attr


def evaluate_in_double(graph: Graph, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of a graph, its f32 arithmetic done in f64."""
    return evaluate(in_double(graph), widened(feeds))


def widened(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Its inputs: those in f32 become f64."""
    return {n: x.astype(np.float64) if x.dtype == np.float32 else x for n, x in arrays.items()}
