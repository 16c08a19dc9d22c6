"""Quantizers of files that are trained: rounded floats, through which slopes pass.

    %1: u8[4,8] = quantize(%x, 0.1, 128)
    %2: f32[4,8] = dequantize(%1, 0.1, 128)
-->
    %2: f32[4,8] = fake_quant(%x, 0.1, 128.0) low=0 high=255

Both are the same numbers, but no slope passes through an integer: what is in front of it would not
learn, and nothing would tell. Scales that are weights of the file become constants, since what
learns them well needs another form of them, see `brim.train.quantized`. Quantizers of another form
stay; `rounded` finds those that are in the way of training.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from brim.graph import Graph, Value, const, evaluate_values, rewrite, topo
from brim.ops.fake_quant import fake_quant
from brim.ops.quantized import limits
from brim.ops.registry import OPS, at
from brim.ops.storage import convert
from brim.passes.flow import flows, inputs_reached, key_of, reach, types_of
from brim.types import F32

_QUANTIZE, _DEQUANTIZE = OPS["quantize"], OPS["dequantize"]


def straight_through(graph: Graph, weights: Mapping[str, np.ndarray]) -> Graph:
    """The graph with each f32 that is quantized and dequantized as `fake_quant`.

    weights: input name -> content, of those that are weights. Such that are only read as scales
    are no inputs of the result.
    """
    inputs = {id(graph.inputs[name]): array for name, array in weights.items()}

    def settled(value: Value) -> Value:
        """A value as a constant, if it follows from weights and constants alone."""
        leaves = [leaf for leaf in topo([value]) if leaf.op is None and not leaf.is_const]
        if value.is_const or not all(id(leaf) in inputs for leaf in leaves):
            return value
        (found,) = evaluate_values([value], {id(leaf): inputs[id(leaf)] for leaf in leaves})
        return const(found, value.where)

    def rule(value: Value) -> Value | None:
        if value.op not in (_QUANTIZE, _DEQUANTIZE, OPS["quantize_float"]):
            return None
        x, scale, zero = value.args[0], *map(settled, value.args[1:])
        undoes = value.op is _DEQUANTIZE and x.op is _QUANTIZE
        if undoes and _same(x.args[1], scale) and _same(x.args[2], zero):
            (real, *_), (low, high) = x.args, limits(zero.dtype)
            if real.dtype == scale.dtype == F32:
                with at(value.where):
                    return fake_quant(real, scale, convert(zero, F32), low=low, high=high)
        return Value(value.op, (x, scale, zero), value.attrs, value.type, None, value.where)

    found = rewrite(graph, rule)
    read = {id(value) for value in topo(found.outputs.values())}
    kept = {n: v for n, v in found.inputs.items() if n not in weights or id(v) in read}
    return Graph(kept, found.outputs, found.name, found.state)


def _same(one: Value, other: Value) -> bool:
    if one.data is None or other.data is None:
        return one is other
    return one.type == other.type and np.array_equal(one.data, other.data)


def rounded(outputs: Sequence[Value], wrt: Sequence[Value]) -> list[Value]:
    """Where what follows from `wrt` becomes integers that stand for numbers, and these become
    floats again on the way to the outputs. Slopes of `wrt` lack what passes there."""
    order = topo(outputs)
    reached = reach(order, wrt)
    begins: dict[int, Value] = {}  # by the id of integers that stand for numbers
    found: dict[int, Value] = {}
    for value in order:
        sources = [i for i, arg in enumerate(value.args) if key_of(arg) in reached]
        before = [begins[id(arg)] for arg in value.args if id(arg) in begins]
        for graph, numbers in _graphs(value, sources):
            given = list(graph.inputs.values())
            inner = rounded([*graph.outputs.values()], [given[i] for i in numbers])
            found |= {id(each): each for each in inner}
        if (number := _is_rounded(value)) is not None and key_of(number) in reached:
            begins[id(value)] = value
        elif before and value.op in (_DEQUANTIZE, OPS["cast"]) and flows(value.type):
            found |= {id(each): each for each in before}
        elif before and not any(map(flows, types_of(value))):
            begins[id(value)] = before[0]
    return list(found.values())


def _graphs(value: Value, sources: list[int]) -> list[tuple[Graph, Collection[int]]]:
    """The graphs within a control operator, and the numbers of their inputs that arguments of
    numbers `sources` decide."""
    match value.op.name if value.op is not None else "":
        case "loop":
            return [(value.attrs["body"], inputs_reached(value, sources))]
        case "cond":
            numbers = [i - 1 for i in sources if i > 0]
            return [(value.attrs[name], numbers) for name in ("then", "orelse")]
    return []


def _is_rounded(value: Value) -> Value | None:
    """The number that a value is the integer nearest to; None for other values."""
    if value.op is _QUANTIZE:
        return value.args[0]
    if value.op is OPS["cast"] and value.dtype.is_integer and value.args[0].op is OPS["rint"]:
        return value.args[0].args[0]
    return None
