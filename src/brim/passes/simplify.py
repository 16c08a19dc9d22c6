"""Simplification: constant folding, common subexpressions, dead code and algebra.

    %1: f32[2,8] = transpose(%0) perm=(1, 0)
    %2: f32[8,2] = mul(%1, 1.0)
    %3: f32[2,8] = transpose(%2) perm=(1, 0)
    %4: f32[2,8] = add(%3, 0.0)
-->
    %4 is %0

Every rule keeps the result exactly, with four stated exceptions: x + 0 may change the sign of a
zero, (x * c1) * c2 -> x * (c1 * c2) rounds the product of the constants instead of the product with
x, x ** 2 and x ** 3 become products, and which NaN comes out may differ. Float sums are never
reassociated: (x + c1) - c1 is not x.
Dead code needs no rule: what no output needs is not in the graph. Layouts are `brim.passes.layout`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from brim.graph import Graph, Value, const, rewrite, substitute
from brim.ops import primitive as ops
from brim.ops.registry import OPS, at, emit, folds
from brim.passes.subgraphs import within
from brim.types import DType, Type

ROUNDS = 20  # each round shrinks the graph; chains that need more rounds than this do not occur
_SMALL = 4096  # constants up to this many elements are compared by content, larger ones by identity
_COMMUTATIVE = ("add", "mul", "maximum", "minimum", "bit_and", "bit_or", "bit_xor", "eq", "ne")


def simplify(graph: Graph) -> Graph:
    """A smaller graph of the same meaning; see the file's docstring for what "same" means."""
    for _ in range(ROUNDS):
        seen: dict[Any, Value] = {}

        def rule(value: Value) -> Value:
            return _share(_simplify_value(value), seen)  # noqa: B023 - used within this round

        changed = rewrite(graph, rule)
        if all(a is b for a, b in zip(changed.outputs.values(), graph.outputs.values())):
            break
        graph = changed
    return graph


# ------------------------------------------------------------------ common subexpressions


def _share(value: Value, seen: dict[Any, Value]) -> Value:
    """The first value that computes the same, or `value` itself."""
    if value.op is None:
        if value.data is None:
            return value
        data = value.data
        small = data.size <= _SMALL and data.dtype != object
        key: Any = (str(value.type), data.tobytes() if small else id(data))
    elif value.op.kind in ("host", "control") and value.op is not OPS["item"]:
        return value
    else:
        attrs = tuple((name, attribute_key(attr)) for name, attr in sorted(value.attrs.items()))
        key = (value.op.name, tuple(id(arg) for arg in value.args), attrs)
    return seen.setdefault(key, value)


def attribute_key(attr: Any) -> Any:
    """Equal for equal attributes only: tells 1 from 1.0 and True, -0.0 from 0.0, knows NaN."""
    if isinstance(attr, Graph):
        return id(attr)
    if isinstance(attr, tuple):
        return tuple(attribute_key(part) for part in attr)
    return type(attr).__name__, repr(attr)


# ------------------------------------------------------------------ one value


def _simplify_value(value: Value) -> Value:
    op = value.op
    if op is None:
        return value
    if op.kind == "control":
        return _settled(value) or within(value, simplify) or value
    if op.kind == "host":  # a front end folds those that may be; some draw random numbers
        return value
    if not isinstance(value.type, Type) or not value.type.is_static:
        return value
    if not all(isinstance(arg.type, Type) and arg.type.is_static for arg in value.args):
        return value
    with at(value.where):
        if folds(value):
            return emit(op, *value.args, **value.attrs)
        if op.name in _COMMUTATIVE and value.args[0].is_const and not value.args[1].is_const:
            a, b = value.args
            value = Value(op, (b, a), value.attrs, value.type, None, value.where)
        rule = RULES.get(op.name)
        found = rule(value) if rule else None
        if found is None and op.kind == "elementwise":
            found = _drop_broadcasts(value)
        # a rule may uncover another one at the same place
        return value if found is None else _simplify_value(found)


def _settled(value: Value) -> Value | None:
    """The result of a branch, for a `cond` (or an `item` of one) that is decided by a constant."""
    choice = value.args[0] if value.op is OPS["item"] else value
    if choice.op is None or choice.op.name != "cond" or choice.args[0].data is None:
        return None
    branch = choice.attrs["then" if choice.args[0].data.reshape(-1)[0] else "orelse"]
    found = list(branch.outputs.values())[value.attrs.get("index", 0)]
    if found.type != value.type:  # several results, or a shape that only one branch knows
        return None
    given = {id(a): b for a, b in zip(branch.inputs.values(), choice.args[1:])}
    return substitute([found], given)[0]


def _is(value: Value, number: float) -> bool:
    """True for a constant whose elements all equal `number`."""
    data = value.data
    if data is None or data.size == 0 or value.dtype.kind not in "fiub":
        return False
    return bool(data.flat[0] == number) and bool(np.all(data == number))


def _if_same(value: Value, x: Value) -> Value | None:
    """`x` if it has the type of `value` (no broadcasting was going on)."""
    return x if x.type == value.type else None


def _constant_tail(value: Value) -> tuple[Value, Value, Value] | None:
    """For `op(op(x, c1), c2)` with constants: x, c1, c2; the constants must not enlarge x."""
    inner, c2 = value.args
    if not c2.is_const or inner.op is not value.op or not inner.args[1].is_const:
        return None
    x, c1 = inner.args
    fits = x.shape == value.shape and not x.is_const
    return (x, c1, c2) if fits else None


def _moderate(c: Value) -> bool:
    """Constants whose products stay far from overflow and from subnormal numbers."""
    assert c.data is not None
    size = np.abs(c.data.astype(np.float64))
    return bool(np.all((size > 2.0**-40) & (size < 2.0**40)))


def _add(value: Value) -> Value | None:
    a, b = value.args
    if _is(b, 0):
        return _if_same(value, a)
    if value.dtype.is_integer and (tail := _constant_tail(value)):
        return ops.add(tail[0], ops.add(tail[1], tail[2]))
    return None


def _sub(value: Value) -> Value | None:
    a, b = value.args
    return _if_same(value, a) if _is(b, 0) else None


def _mul(value: Value) -> Value | None:
    a, b = value.args
    if _is(b, 1):
        return _if_same(value, a)
    if tail := _constant_tail(value):
        x, c1, c2 = tail
        wide = value.dtype.name in ("f32", "f64")
        if value.dtype.is_integer or (wide and _moderate(c1) and _moderate(c2)):
            return ops.mul(x, ops.mul(c1, c2))
    return None


def _div(value: Value) -> Value | None:
    a, b = value.args
    if _is(b, 1):
        return _if_same(value, a)
    data = b.data
    if data is not None and value.dtype.is_float and data.size and _moderate(b):
        fraction, _ = np.frexp(data)
        if np.all(np.abs(fraction) == 0.5):  # by powers of two: the reciprocal is exact
            return ops.mul(a, const(np.divide(1, data, dtype=data.dtype)))
    return None


def _power(value: Value) -> Value | None:
    x, exponent = value.args
    if x.type != value.type:
        return None
    if _is(exponent, 1):
        return x
    if _is(exponent, 2):
        return ops.mul(x, x)
    return ops.mul(ops.mul(x, x), x) if _is(exponent, 3) else None


def _extreme(value: Value) -> Value | None:
    a, b = value.args
    if a is b:
        return a
    if tail := _constant_tail(value):
        x, c1, c2 = tail
        return emit(value.op, x, emit(value.op, c1, c2))  # type: ignore[arg-type]
    return None


def _involution(value: Value) -> Value | None:
    inner = value.args[0]
    return inner.args[0] if inner.op is value.op else None


def _idempotent(value: Value) -> Value | None:
    inner = value.args[0]
    return inner if inner.op is value.op else None


def _select(value: Value) -> Value | None:
    condition, a, b = value.args
    if a is b:
        return _if_same(value, a)
    if condition.data is not None and condition.data.size:
        if condition.data.all():
            return _if_same(value, a)
        if not condition.data.any():
            return _if_same(value, b)
    return None


def lossless(a: DType, b: DType) -> bool:
    """Whether every value of `a` is exactly a value of `b`."""
    if a == b:
        return True
    if "str" in (a.name, b.name):
        return False
    if a.kind == "b":
        return True
    if b.kind == "b":
        return False
    if a.is_float:
        return b.is_float and b.bits >= a.bits
    if b.is_float:
        return a.bits <= {16: 11, 32: 24, 64: 53}[b.bits] + (a.kind == "i")
    return b.bits >= a.bits if a.kind == b.kind else a.kind == "u" and b.bits > a.bits


def _cast(value: Value) -> Value | None:
    x, to = value.args[0], value.attrs["to"]
    if x.dtype == to:
        return x
    if x.op is value.op and lossless(x.args[0].dtype, x.dtype):
        source = x.args[0]
        # float to integer saturates where integer to integer wraps
        if x.dtype.is_float and not source.dtype.is_float and to.is_integer:
            return ops.cast(source, to=to) if lossless(source.dtype, to) else None
        return ops.cast(source, to=to)
    return None


# ------------------------------------------------------------------ data movement


def only_units_move(perm: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether transposing `shape` by `perm` leaves the order of elements (it is a reshape)."""
    if math.prod(shape) == 0:
        return True
    moved = [p for p in perm if shape[p] != 1]
    return moved == sorted(moved)


def _transpose(value: Value) -> Value | None:
    x, perm = value.args[0], value.attrs["perm"]
    if perm == tuple(range(len(perm))):
        return x
    if only_units_move(perm, x.shape):
        return ops.reshape(x, shape=value.shape)
    if x.op is value.op:
        return ops.transpose(x.args[0], perm=tuple(x.attrs["perm"][p] for p in perm))
    return None


def _reshape(value: Value) -> Value | None:
    x = value.args[0]
    if x.shape == value.shape:
        return x
    return ops.reshape(x.args[0], shape=value.shape) if x.op is value.op else None


def _broadcast(value: Value) -> Value | None:
    x = value.args[0]
    if x.shape == value.shape:
        return x
    if x.op is value.op:
        return ops.broadcast(x.args[0], shape=value.shape)
    return ops.reshape(x, shape=value.shape) if x.type.size == value.type.size else None


def _drop_broadcasts(value: Value) -> Value | None:
    """An elementwise op broadcasts by itself."""
    stretch = OPS["broadcast"]
    if not any(arg.op is stretch for arg in value.args):
        return None
    args = [arg.args[0] if arg.op is stretch else arg for arg in value.args]
    if np.broadcast_shapes(*(arg.shape for arg in args)) != value.shape:
        return None
    return emit(value.op, *args, **value.attrs)  # type: ignore[arg-type]


def _slice(value: Value) -> Value | None:
    x, attrs = value.args[0], value.attrs
    starts, sizes, steps = attrs["starts"], attrs["sizes"], attrs["steps"]
    if sizes == x.shape and all(n < 2 or step == 1 for n, step in zip(sizes, steps)):
        return x
    if x.op is value.op and value.type.size:
        inner = x.attrs
        first = tuple(s + t * u for s, t, u in zip(inner["starts"], starts, inner["steps"]))
        step = tuple(s * t for s, t in zip(inner["steps"], steps))
        return ops.slice(x.args[0], starts=first, sizes=sizes, steps=step)
    if x.op is OPS["concat"] and value.type.size:
        return _slice_of_concat(value, x)
    return None


def _slice_of_concat(value: Value, joined: Value) -> Value | None:
    """A slice that lies within one part of a concat reads that part."""
    axis, starts = joined.attrs["axis"], list(value.attrs["starts"])
    last = starts[axis] + (value.shape[axis] - 1) * value.attrs["steps"][axis]
    begin = 0
    for part in joined.args:
        end = begin + part.shape[axis]
        if begin <= min(starts[axis], last) and max(starts[axis], last) < end:
            starts[axis] -= begin
            return ops.slice(
                part, starts=tuple(starts), sizes=value.attrs["sizes"], steps=value.attrs["steps"]
            )
        begin = end
    return None


def _pad(value: Value) -> Value | None:
    x, attrs = value.args[0], value.attrs
    if x.shape == value.shape:
        return x
    if x.op is value.op and attribute_key(x.attrs["value"]) == attribute_key(attrs["value"]):
        low = tuple(a + b for a, b in zip(x.attrs["low"], attrs["low"]))
        high = tuple(a + b for a, b in zip(x.attrs["high"], attrs["high"]))
        return ops.pad(x.args[0], low=low, high=high, value=attrs["value"])
    return None


def _concat(value: Value) -> Value | None:
    # a concat in a concat stays: lowering stores both in place, see passes/concat.py
    axis = value.attrs["axis"]
    parts = [arg for arg in value.args if arg.shape[axis]]
    if not parts:
        return value.args[0]
    if len(parts) == 1:
        return parts[0]
    return ops.concat(*parts, axis=axis) if parts != list(value.args) else None


def _gather(value: Value) -> Value | None:
    """Constant indices at equal distances are a slice."""
    x, index = value.args
    if index.data is None or index.data.size == 0:
        return None
    axis, places = value.attrs["axis"], [int(i) for i in index.data.flat]
    step = places[1] - places[0] if len(places) > 1 else 1
    even = all(place == places[0] + i * step for i, place in enumerate(places))
    if not even or step == 0 or min(places) < 0 or max(places) >= x.shape[axis]:
        return None
    rank = x.type.rank
    part = ops.slice(
        x,
        starts=tuple(places[0] if i == axis else 0 for i in range(rank)),
        sizes=tuple(len(places) if i == axis else n for i, n in enumerate(x.shape)),
        steps=tuple(step if i == axis else 1 for i in range(rank)),
    )
    return ops.reshape(part, shape=value.shape)


def _reduce(value: Value) -> Value | None:
    x, op, axes = value.args[0], value.attrs["op"], value.attrs["axes"]
    if all(x.shape[axis] == 1 for axis in axes):
        return x
    nested = x.op is value.op and x.attrs["op"] == op
    if nested and (op not in ("add", "mul") or value.dtype.is_integer):
        return ops.reduce(x.args[0], op=op, axes=tuple(sorted({*axes, *x.attrs["axes"]})))
    return None


RULES: dict[str, Callable[[Value], Value | None]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "power": _power,
    "maximum": _extreme,
    "minimum": _extreme,
    "neg": _involution,
    "bit_not": _involution,
    "absolute": _idempotent,
    "floor": _idempotent,
    "ceil": _idempotent,
    "trunc": _idempotent,
    "rint": _idempotent,
    "select": _select,
    "cast": _cast,
    "transpose": _transpose,
    "reshape": _reshape,
    "broadcast": _broadcast,
    "slice": _slice,
    "pad": _pad,
    "concat": _concat,
    "gather": _gather,
    "reduce": _reduce,
}
