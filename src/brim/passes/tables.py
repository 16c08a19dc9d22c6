"""Functions of one byte become tables: what a chain of operations gives for each of 256 numbers.

    %1: f32[1,8] = mul(cast(sub(cast(%0) to=i32, 3)) to=f32, 0.02)
    %2: f32[1,8] = tanh(%1)
    %3: i8[1,8] = cast(rint(mul(%2, 128.0))) to=i8
-->
    %1: u8[1,8] = bitcast(%0) to=u8
    %2: i8[1,8] = gather(i8[256], %1) axis=0

So sigmoids, activations and changes of scale of quantized numbers cost a few instructions for a
whole vector, where processors can look up bytes in registers. Elsewhere each one is loaded, which
pays only for long functions. The table is the reference's own: no number differs from it.
"""

from __future__ import annotations

import numpy as np

from brim.graph import Graph, Value, const, rewrite
from brim.ops import primitive as ops
from brim.ops.registry import at, emit
from brim.targets.target import Target
from brim.types import I8, U8

BYTES = (I8, U8)
LONG = {"exp", "log", "tanh", "erf", "sin", "cos", "atan", "power", "sqrt"}


def tabulate(graph: Graph, target: Target) -> Graph:
    """`graph`, of primitives, with tables in place of functions of one byte."""

    def rule(value: Value) -> Value | None:
        source = _source(value, short=target.looks_up_bytes)
        if source is None:
            return None
        numbers = np.arange(256, dtype=np.uint8).view(source.dtype.numpy)
        table = ops.reshape(_applied(value, {id(source): const(numbers)}), shape=(256,))
        index = source if source.dtype == U8 else ops.bitcast(source, to=U8)
        return ops.gather(table, index, axis=0)

    def placed(value: Value) -> Value | None:
        with at(value.where):
            return rule(value)

    return rewrite(graph, placed)


def _applied(value: Value, known: dict[int, Value]) -> Value:
    """The same operations on constants in place of known values: a constant again."""
    if value.is_const or id(value) in known:
        return known.get(id(value), value)
    assert value.op is not None
    found = emit(value.op, *(_applied(arg, known) for arg in value.args), **value.attrs)
    return known.setdefault(id(value), found)


def _source(value: Value, short: bool) -> Value | None:
    """The one value of bytes from which a value of bytes follows number by number.

    short: any function is worth it that is computed in wider numbers; else only a long one.
    """
    if value.op is None or value.op.name != "cast" or value.dtype not in BYTES:
        return None
    found: dict[int, Value] = {}
    stack, seen = list(value.args), set[int]()
    worth = False
    while stack:
        part = stack.pop()
        if id(part) in seen or (part.is_const and part.type.size == 1):
            continue
        seen.add(id(part))
        if part.is_const or part.shape != value.shape:
            return None
        if part.dtype in BYTES:
            found[id(part)] = part
            continue
        if part.op is None or part.op.kind != "elementwise":
            return None
        worth = worth or short or part.op.name in LONG
        stack.extend(part.args)
    return next(iter(found.values())) if worth and len(found) == 1 else None
