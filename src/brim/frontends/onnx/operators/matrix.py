"""ONNX matrix products, reductions, softmax and other operators along axes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import brim.ops.math as m
import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import ramp
from brim.frontends.onnx.operators.math import wide
from brim.frontends.onnx.table import Call, NeedsData, fronts, host, operator
from brim.graph import Value, const
from brim.ops.indexing import along
from brim.types import F64

# ------------------------------------------------------------------ products


@operator("MatMul")
def matmul(call: Call) -> Value:
    return m.matmul(call[0], call[1])


@operator("Gemm")
def gemm(call: Call) -> Value:
    a, b, c = call[0], call[1], call.get(2)
    left = "km" if call.flag("transA") else "mk"
    right = "nk" if call.flag("transB") else "kn"
    alpha, beta = call.float("alpha", 1.0), call.float("beta", 1.0)
    y = p.contract(a, b, spec=f"{left},{right}->mn")
    y = _scaled(y, alpha)
    return y if c is None or beta == 0 else p.add(y, _scaled(c, beta))


def _scaled(x: Value, factor: float) -> Value:
    if factor == 1:
        return x
    if x.dtype.is_integer and factor != int(factor):
        raise ModelError(f"integers times {factor}")
    return p.mul(x, factor)


@operator("Einsum")
def einsum(call: Call) -> Value:
    values = call.values()
    dtype = values[0].dtype
    terms, out = _einsum_terms(call.text("equation"), values)
    if len(set(out)) != len(out) or not set(out) <= set("".join(terms)):
        raise ModelError(f"the result {out!r} of an equation")
    for i, value in enumerate(values):
        values[i], terms[i] = _diagonals(value, terms[i])
    sizes = {c: max(n, 1) for v, t in zip(values, terms) for c, n in zip(t, v.shape) if n != 1}
    for i, value in enumerate(values):
        values[i], terms[i] = _without_stretched(value, terms[i], sizes)
    while len(values) > 1:
        kept = set(out).union(*terms[2:])
        spec = "".join(c for c in dict.fromkeys(terms[0] + terms[1]) if c in kept)
        y = p.contract(values[0], values[1], spec=f"{terms[0]},{terms[1]}->{spec}")
        y = y if y.dtype == dtype else p.cast(y, to=dtype)  # short integers wrap around
        values, terms = [y, *values[2:]], [spec, *terms[2:]]
    x, term = values[0], terms[0]
    dropped = tuple(i for i, c in enumerate(term) if c not in out)
    if dropped:
        x = p.reduce(x, op="add", axes=dropped)
        x = p.reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in dropped))
        term = "".join(c for c in term if c in out)
    return x if term == out else p.transpose(x, perm=tuple(term.index(c) for c in out))


def _einsum_terms(equation: str, values: list[Value]) -> tuple[list[str], str]:
    """The letters of every operand and of the result, '...' spelled out as capital letters."""
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(values):
        raise ModelError(f"equation {equation!r} does not fit {len(values)} operands")
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in equation]
    rank = max(len(v.shape) - len(t.replace("...", "")) for t, v in zip(terms, values))
    dots = "".join(free[:rank]) if "..." in left else ""
    spelled = []
    for term, value in zip(terms, values):
        count = len(value.shape) - len(term.replace("...", ""))
        term = term.replace("...", dots[len(dots) - count :] if count > 0 else "")
        if len(term) != len(value.shape) or (not term.isalpha() and term):
            raise ModelError(f"equation {equation!r} does not fit {value.type}")
        spelled.append(term)
    if arrow:
        return spelled, out.replace("...", dots)
    letters = "".join(spelled).replace(dots, "") if dots else "".join(spelled)
    once = sorted(c for c in set(letters) if letters.count(c) == 1)
    return spelled, dots + "".join(once)


def _without_stretched(x: Value, term: str, sizes: dict[str, int]) -> tuple[Value, str]:
    """x without the axes of '...' that have one element here and more in another operand."""
    kept = [i for i, c in enumerate(term) if not (c.isupper() and x.shape[i] == 1 and c in sizes)]
    if len(kept) == len(term):
        return x, term
    return p.reshape(x, shape=tuple(x.shape[i] for i in kept)), "".join(term[i] for i in kept)


def _diagonals(x: Value, term: str) -> tuple[Value, str]:
    """x without axes whose letter stands twice: only equal positions are kept."""
    for letter in dict.fromkeys(term):
        while term.count(letter) > 1:
            i, j = term.index(letter), term.rindex(letter)
            n = x.shape[i]
            if x.shape[j] != n:
                raise ModelError(f"axes {letter!r} of {x.type} differ")
            rest = tuple(k for k in range(len(term)) if k not in (i, j))
            x = p.transpose(x, perm=(i, j, *rest))
            x = p.reshape(x, shape=(n * n, *x.shape[2:]))
            x = p.gather(x, const(ramp(n) * (n + 1)), axis=0)
            term = letter + "".join(term[k] for k in rest)
    return x, term


# ------------------------------------------------------------------ reductions


def _reduced_axes(call: Call, since_input: int) -> tuple[int, ...]:
    rank = len(call[0].shape)
    noop = False
    axes: tuple[int, ...] | None
    if call.version < since_input:
        axes = call.ints("axes", None)
    else:
        axes = call.int_inputs(1) if call.given(1) else None
        noop = call.flag("noop_with_empty_axes")
    if not axes:
        return () if noop else tuple(range(rank))
    return fronts(axes, rank)


@operator(
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare",
)  # fmt: skip
def reduce(call: Call) -> Value:
    x = call[0]
    axes = _reduced_axes(call, 13 if call.node.op == "ReduceSum" else 18)
    y = _reduce(call, x, tuple(sorted(axes)))
    if call.flag("keepdims", True):
        return y
    return p.reshape(y, shape=tuple(n for i, n in enumerate(y.shape) if i not in axes))


def _reduce(call: Call, x: Value, axes: tuple[int, ...]) -> Value:
    match call.node.op:
        case "ReduceSum":
            return p.reduce(x, op="add", axes=axes)
        case "ReduceMean":
            return m.reduce_mean(x, axes=axes)
        case "ReduceMax" | "ReduceMin":
            return _extreme(call.node.op == "ReduceMax", x, axes)
        case "ReduceProd":
            return p.reduce(x, op="mul", axes=axes)
        case "ReduceL1":
            return p.reduce(p.absolute(x), op="add", axes=axes)
        case "ReduceSumSquare":
            return p.reduce(p.mul(x, x), op="add", axes=axes)
        case "ReduceLogSum":
            return _in_floats(lambda v: p.log(p.reduce(v, op="add", axes=axes)), x)
        case "ReduceL2":
            return _in_floats(lambda v: m.l2_norm(v, axes=axes), x)
    if any(x.shape[a] == 0 for a in axes):
        return _in_floats(lambda v: p.log(p.reduce(v, op="add", axes=axes)), x)
    return _in_floats(lambda v: m.log_sum_exp(v, axes=axes), x)


def _in_floats(function: Callable[[Value], Value], x: Value) -> Value:
    """`function` of x, in f64 where x holds integers and in f32 where it is f16."""
    if x.dtype.is_float:
        return wide(function, x)
    return p.cast(function(p.cast(x, to=F64)), to=x.dtype)


def _extreme(largest: bool, x: Value, axes: tuple[int, ...]) -> Value:
    if any(x.shape[a] == 0 for a in axes):  # ONNX: the type's own limit
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        return p.broadcast(const(np.array(_limit(largest, x), x.dtype.numpy)), shape=shape)
    if x.dtype.kind == "b":
        return p.reduce(x, op="or" if largest else "and", axes=axes)
    return p.reduce(x, op="max" if largest else "min", axes=axes)


def _limit(largest: bool, x: Value) -> float | int | bool:
    if x.dtype.is_float:
        return -math.inf if largest else math.inf
    if x.dtype.kind == "b":
        return not largest
    info = np.iinfo(x.dtype.numpy)
    return int(info.min if largest else info.max)


@operator("ArgMax", "ArgMin")
def arg(call: Call) -> Value:
    axis, op = call.axis("axis", 0), call.node.op[3:].lower()
    y = p.argreduce(call[0], op=op, axis=axis, last=call.flag("select_last_index"))
    if call.flag("keepdims", True):
        return y
    return p.reshape(y, shape=tuple(n for i, n in enumerate(y.shape) if i != axis))


@operator("CumSum", "CumProd")
def cumulate(call: Call) -> Value:
    axis = fronts([int(call.array(1).reshape(-1)[0])], len(call[0].shape))[0]
    op = "add" if call.node.op == "CumSum" else "mul"
    exclusive, reverse = call.flag("exclusive"), call.flag("reverse")
    return wide(
        lambda x: p.cumulate(x, op=op, axis=axis, exclusive=exclusive, reverse=reverse), call[0]
    )


# ------------------------------------------------------------------ softmax


_SOFT = {"Softmax": m.softmax, "LogSoftmax": m.log_softmax}


@operator(*_SOFT)
def softmax_flat(call: Call) -> Value:
    """Before operator set 13: over all axes from `axis` on."""
    x, axis = call[0], call.axis("axis", 1)
    if x.type.size == 0:
        return x
    if axis == len(x.shape) - 1:
        return _SOFT[call.node.op](x, axis=axis)
    flat = p.reshape(x, shape=(math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
    return p.reshape(_SOFT[call.node.op](flat, axis=1), shape=x.shape)


@operator(*_SOFT, since=13)
def softmax(call: Call) -> Value:
    x, axis = call[0], call.axis("axis", -1)
    return _SOFT[call.node.op](x, axis=axis) if x.type.size else x


@operator("Hardmax")
def hardmax(call: Call) -> Value:
    x = call[0]
    axis = call.axis("axis", -1 if call.version >= 13 else 1)
    shape = x.shape
    if x.type.size == 0:
        return x
    if call.version < 13:
        x = p.reshape(x, shape=(math.prod(shape[:axis]), math.prod(shape[axis:])))
        axis = 1
    best = p.argreduce(x, op="max", axis=axis, last=False)
    places = const(along(ramp(x.shape[axis]), axis, len(x.shape)))
    return p.reshape(p.cast(p.eq(best, places), to=x.dtype), shape=shape)


@operator("Det")
def determinant(call: Call) -> Value:
    x = call[0]
    if x.shape[-2:] != (2, 2):
        if not x.is_const:
            raise NeedsData("a determinant")
        exact = np.linalg.det(x.data.astype(np.float64))  # type: ignore[union-attr]
        return const(exact.astype(x.dtype.numpy))
    parts = [
        p.reshape(
            p.slice(
                x,
                starts=(*(0,) * (len(x.shape) - 2), i, j),
                sizes=(*x.shape[:-2], 1, 1),
                steps=(1,) * len(x.shape),
            ),
            shape=x.shape[:-2],
        )
        for i in (0, 1)
        for j in (0, 1)
    ]
    return p.sub(p.mul(parts[0], parts[3]), p.mul(parts[1], parts[2]))


# ------------------------------------------------------------------ order


@host("TopK")
def top_k_attribute(call: Call, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _top_k(x, call.int("k"), call.axis("axis", -1, x.ndim), True)


@host("TopK", since=10)
def top_k(call: Call, x: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    call.ignore("sorted")  # a sorted result is right in both cases
    axis = call.axis("axis", -1, x.ndim)
    return _top_k(x, int(k.reshape(-1)[0]), axis, call.flag("largest", True))


def _top_k(x: np.ndarray, count: int, axis: int, largest: bool) -> tuple[np.ndarray, np.ndarray]:
    if not 0 <= count <= x.shape[axis]:
        raise ModelError(f"the best {count} of {x.shape[axis]}")
    if largest:  # stable from the back, so that the first of equal elements comes first
        order = x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis=axis, kind="stable")
        order = np.flip(order, axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    order = np.take(order, ramp(count), axis=axis)
    return np.take_along_axis(x, order, axis=axis), order.astype(np.int64)
