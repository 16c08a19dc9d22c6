"""The primitives: arithmetic, reductions, contraction and data movement.

Each states its type rule, numpy reference and gradient here; its lowering is `brim.kernels.lower`.
Binary operators broadcast like numpy and take equal dtypes. Integer arithmetic wraps. Integer
division truncates toward zero and x / 0 is 0 (machines disagree; a trap must not kill a process).
Casting float to integer truncates, saturates, and maps NaN to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from brim.errors import OpError
from brim.graph import Value, const
from brim.ops.registry import OPS, emit, primitive
from brim.types import BOOL, F32, I64, DType, Type

# ------------------------------------------------------------------ elementwise


def _broadcast(*types: Type) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*(t.dims for t in types))
    except ValueError:
        shapes = " and ".join(str(t.dims) for t in types)
        raise OpError(f"shapes {shapes} do not broadcast") from None


def _same(*types: Type) -> DType:
    if len({t.dtype for t in types}) != 1:
        raise OpError(f"dtypes differ: {', '.join(t.dtype.name for t in types)}", hint="cast first")
    return types[0].dtype


def _kinds(allowed: str) -> Callable[..., Type]:
    def infer(*types: Type) -> Type:
        dtype = _same(*types)
        if dtype.kind not in allowed:
            raise OpError(f"{dtype} is not among the element kinds it takes ({allowed})")
        return Type(_broadcast(*types), dtype)

    return infer


def _compare(*types: Type) -> Type:
    _same(*types)
    return Type(_broadcast(*types), BOOL)


def _int_div(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Truncating division with x / 0 = 0 and lowest / -1 = lowest."""
    safe = np.where(b == 0, np.ones_like(b), b)
    quotient = np.floor_divide(a, safe)
    if a.dtype.kind == "i":
        remainder = a - quotient * safe
        quotient = quotient + ((remainder != 0) & ((a < 0) != (safe < 0))).astype(a.dtype)
    return np.where(b == 0, np.zeros_like(quotient), quotient)


def _div(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _int_div(a, b) if a.dtype.kind in "iu" else np.divide(a, b)


def _mod(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(b == 0, np.zeros_like(a), np.mod(a, np.where(b == 0, np.ones_like(b), b))) if (
        a.dtype.kind in "iu"
    ) else np.mod(a, b)


def _fmod(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a - _int_div(a, b) * b if a.dtype.kind in "iu" else np.fmod(a, b)


def _shift(function: Callable) -> Callable:
    def apply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        bits = a.dtype.itemsize * 8
        amount = b.astype(np.int64)
        inside = (amount >= 0) & (amount < bits)
        moved = function(a, np.where(inside, amount, 0).astype(a.dtype))
        return np.where(inside, moved, np.zeros_like(a))

    return apply


def _erf(x: np.ndarray) -> np.ndarray:
    flat = [math.erf(float(v)) for v in x.ravel()]
    return np.array(flat, x.dtype).reshape(x.shape)


def unbroadcast(g: Value, shape: tuple[int, ...]) -> Value:
    """Sums a cotangent over the axes along which the value of `shape` was broadcast."""
    extra = len(g.shape) - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(shape) if n == 1 and g.shape[extra + i] != 1
    )
    return reshape(reduce(g, op="add", axes=axes), shape=shape) if axes else g


def _binary(infer: Callable, numpy: Callable, grad: Callable | None = None) -> Callable:
    def rule(g: Value, y: Value, a: Value, b: Value) -> list:
        parts = grad(g, y, a, b)  # type: ignore[misc]
        return [None if p is None else unbroadcast(p, v.shape) for p, v in zip(parts, (a, b))]

    return primitive("elementwise", infer, numpy, rule if grad else None)


def _unary(kinds: str, numpy: Callable, grad: Callable | None = None) -> Callable:
    rule = (lambda g, y, x: [grad(g, y, x)]) if grad else None
    return primitive("elementwise", _kinds(kinds), numpy, rule)


def _as(mask: Value, like: Value) -> Value:
    return cast(mask, to=like.dtype)


_NUMBERS = _kinds("fiu")
_FLOATS = _kinds("f")
_WHOLE = _kinds("iub")


@_binary(_NUMBERS, np.add, lambda g, y, a, b: (g, g))
def add(a, b):
    """a + b."""


@_binary(_NUMBERS, np.subtract, lambda g, y, a, b: (g, neg(g)))
def sub(a, b):
    """a - b."""


@_binary(_NUMBERS, np.multiply, lambda g, y, a, b: (mul(g, b), mul(g, a)))
def mul(a, b):
    """a * b."""


@_binary(_NUMBERS, _div, lambda g, y, a, b: (div(g, b), neg(div(mul(g, y), b))))
def div(a, b):
    """a / b; integers truncate toward zero, and x / 0 is 0."""


def _pick(g: Value, a: Value, b: Value, first: Value) -> tuple[Value, Value]:
    """Cotangents of max/min: to `a` where `first`, else to `b` (ties go to a)."""
    return mul(g, _as(first, g)), mul(g, _as(logical_not(first), g))


@_binary(_NUMBERS, np.maximum, lambda g, y, a, b: _pick(g, a, b, ge(a, b)))
def maximum(a, b):
    """The larger of a and b; NaN if either is NaN."""


@_binary(_NUMBERS, np.minimum, lambda g, y, a, b: _pick(g, a, b, le(a, b)))
def minimum(a, b):
    """The smaller of a and b; NaN if either is NaN."""


@_binary(
    _FLOATS,
    lambda a, b: np.power(a, b),
    lambda g, y, a, b: (
        mul(g, mul(b, power(a, sub(b, 1)))),
        mul(g, mul(y, log(maximum(a, np.finfo(a.dtype.numpy).tiny)))),
    ),
)
def power(a, b):
    """a ** b for floats; NaN for a negative base with a fractional exponent."""


@_binary(_NUMBERS, _mod, lambda g, y, a, b: (g, neg(mul(g, floor(div(a, b))))))
def mod(a, b):
    """a - floor(a / b) * b: the sign of b (Python, numpy); integers modulo 0 give 0."""


@_binary(_NUMBERS, _fmod, lambda g, y, a, b: (g, neg(mul(g, trunc(div(a, b))))))
def fmod(a, b):
    """a - trunc(a / b) * b: the sign of a (C)."""


def _atan2_grad(g: Value, y: Value, a: Value, b: Value) -> tuple[Value, Value]:
    scaled = div(g, add(mul(a, a), mul(b, b)))
    return mul(scaled, b), neg(mul(scaled, a))


@_binary(_FLOATS, np.arctan2, _atan2_grad)
def atan2(a, b):
    """The angle of the point (b, a), in radians in [-pi, pi]."""


@_binary(_WHOLE, np.bitwise_and)
def bit_and(a, b):
    """Bitwise (bool: logical) and."""


@_binary(_WHOLE, np.bitwise_or)
def bit_or(a, b):
    """Bitwise (bool: logical) or."""


@_binary(_WHOLE, np.bitwise_xor)
def bit_xor(a, b):
    """Bitwise (bool: logical) exclusive or."""


@_binary(_kinds("iu"), _shift(np.left_shift))
def shift_left(a, b):
    """a << b; 0 when b is not in [0, bits)."""


@_binary(_kinds("iu"), _shift(np.right_shift))
def shift_right(a, b):
    """a >> b (arithmetic for signed types); 0 when b is not in [0, bits)."""


@_binary(_compare, np.equal)
def eq(a, b):
    """a == b, as bool."""


@_binary(_compare, np.not_equal)
def ne(a, b):
    """a != b, as bool."""


@_binary(_compare, np.less)
def lt(a, b):
    """a < b, as bool."""


@_binary(_compare, np.less_equal)
def le(a, b):
    """a <= b, as bool."""


@_binary(_compare, np.greater)
def gt(a, b):
    """a > b, as bool."""


@_binary(_compare, np.greater_equal)
def ge(a, b):
    """a >= b, as bool."""


def _select(c: Type, a: Type, b: Type) -> Type:
    if c.dtype != BOOL:
        raise OpError(f"the condition is {c.dtype}, not bool")
    return Type(_broadcast(c, a, b), _same(a, b))


def _select_grad(g: Value, y: Value, c: Value, a: Value, b: Value) -> list:
    mask = _as(c, g)
    other = _as(logical_not(c), g)
    return [None, unbroadcast(mul(g, mask), a.shape), unbroadcast(mul(g, other), b.shape)]


@primitive("elementwise", _select, lambda c, a, b: np.where(c, a, b), _select_grad)
def select(condition, a, b):
    """a where condition holds, else b."""


@_unary("fi", np.negative, lambda g, y, x: neg(g))
def neg(x):
    """-x."""


@_unary("fiu", np.abs, lambda g, y, x: mul(g, sign(x)))
def absolute(x):
    """|x|."""


@_unary("fiu", np.sign, lambda g, y, x: mul(g, 0))
def sign(x):
    """-1, 0 or 1; NaN stays NaN."""


@_unary("f", np.exp, lambda g, y, x: mul(g, y))
def exp(x):
    """e ** x."""


@_unary("f", np.log, lambda g, y, x: div(g, x))
def log(x):
    """Natural logarithm; -inf at 0, NaN below."""


@_unary("f", np.sqrt, lambda g, y, x: div(mul(g, 0.5), y))
def sqrt(x):
    """Square root; NaN below 0."""


@_unary("f", np.tanh, lambda g, y, x: mul(g, sub(1, mul(y, y))))
def tanh(x):
    """Hyperbolic tangent."""


@_unary("f", _erf, lambda g, y, x: mul(g, mul(2 / math.sqrt(math.pi), exp(neg(mul(x, x))))))
def erf(x):
    """Gauss error function."""


@_unary("f", np.sin, lambda g, y, x: mul(g, cos(x)))
def sin(x):
    """Sine of radians."""


@_unary("f", np.cos, lambda g, y, x: neg(mul(g, sin(x))))
def cos(x):
    """Cosine of radians."""


@_unary("f", np.arctan, lambda g, y, x: div(g, add(1, mul(x, x))))
def atan(x):
    """Arc tangent, in radians."""


@_unary("f", np.floor, lambda g, y, x: mul(g, 0))
def floor(x):
    """Largest whole number not above x."""


@_unary("f", np.ceil, lambda g, y, x: mul(g, 0))
def ceil(x):
    """Smallest whole number not below x."""


@_unary("f", np.trunc, lambda g, y, x: mul(g, 0))
def trunc(x):
    """x without its fraction."""


@_unary("f", np.rint, lambda g, y, x: mul(g, 0))
def rint(x):
    """Nearest whole number; halves go to the even one."""


@primitive("elementwise", _compare, np.isnan)
def is_nan(x):
    """True where x is NaN."""


@primitive("elementwise", _compare, np.isinf)
def is_inf(x):
    """True where x is +inf or -inf."""


@_unary("iub", np.invert)
def bit_not(x):
    """Bitwise (bool: logical) not."""


def logical_not(x: Value) -> Value:
    """Not, for bool values."""
    return bit_not(x)


def cast_array(x: np.ndarray, to: DType) -> np.ndarray:
    """numpy's astype with brim's rule for floats that do not fit an integer: saturate, NaN -> 0."""
    if x.dtype.kind == "f" and to.is_integer:
        info = np.iinfo(to.numpy)
        wide = x.astype(np.float64)
        whole = np.trunc(np.where(np.isnan(wide), 0.0, wide))
        # float(info.max) may round up, so the bounds are compared, never converted
        inside = (whole >= float(info.min)) & (whole < float(info.max) + (1 if to.bits < 64 else 0))
        core = np.where(inside, whole, 0).astype(to.numpy)
        return np.where(inside, core, np.where(whole < 0, info.min, info.max).astype(to.numpy))
    return x.astype(to.numpy)


@primitive(
    "elementwise",
    lambda x, *, to: Type(x.shape, to),
    lambda x, *, to: cast_array(x, to),
    lambda g, y, x, *, to: [cast(g, to=x.dtype) if x.dtype.is_float and to.is_float else None],
)
def cast(x, *, to):
    """x converted to dtype `to`; float to integer truncates, saturates, NaN gives 0."""


def _bitcast(x: Type, *, to: DType) -> Type:
    if x.dtype.bits != to.bits:
        raise OpError(f"{x.dtype} has {x.dtype.bits} bits, {to} has {to.bits}")
    return Type(x.shape, to)


@primitive("elementwise", _bitcast, lambda x, *, to: x.view(to.numpy))
def bitcast(x, *, to):
    """The same bits read as dtype `to` of equal width."""


# ------------------------------------------------------------------ reductions and contraction

_REDUCE = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
}


def _check_axes(x: Type, axes: tuple[int, ...]) -> None:
    if any(not 0 <= a < x.rank for a in axes) or len(set(axes)) != len(axes):
        raise OpError(f"axes {axes} do not fit rank {x.rank}")


def _reduce(x: Type, *, op: str, axes: tuple[int, ...]) -> Type:
    _check_axes(x, axes)
    if op not in _REDUCE:
        raise OpError(f"reduction {op!r} is not one of {list(_REDUCE)}")
    if op in ("max", "min") and any(x.dims[a] == 0 for a in axes):
        raise OpError(f"the {op} of no elements is not defined")
    return Type(tuple(1 if i in axes else n for i, n in enumerate(x.dims)), x.dtype)


def _reduce_numpy(x: np.ndarray, *, op: str, axes: tuple[int, ...]) -> np.ndarray:
    if not axes:
        return x
    if x.dtype == np.float16:  # accumulate in f32 and round once
        return _REDUCE[op].reduce(x.astype(np.float32), axis=axes, keepdims=True).astype(x.dtype)
    return _REDUCE[op].reduce(x, axis=axes, keepdims=True, dtype=x.dtype)


def _reduce_grad(g: Value, y: Value, x: Value, *, op: str, axes: tuple[int, ...]) -> list:
    match op:
        case "add":
            return [broadcast(g, shape=x.shape)]
        case "max" | "min":  # ties share the cotangent equally
            hit = _as(eq(x, y), g)
            return [mul(div(g, reduce(hit, op="add", axes=axes)), hit)]
        case "mul":
            return [div(mul(g, y), x)]
    return [None]


@primitive("reduce", _reduce, _reduce_numpy, _reduce_grad)
def reduce(x, *, op, axes):
    """x combined by `op` (add mul max min and or) over `axes`, which stay with size 1."""


def _argreduce(x: Type, *, op: str, axis: int, last: bool) -> Type:
    _check_axes(x, (axis,))
    if x.dims[axis] == 0:
        raise OpError(f"arg{op} of no elements is not defined")
    return Type(tuple(1 if i == axis else n for i, n in enumerate(x.dims)), I64)


def _argreduce_numpy(x: np.ndarray, *, op: str, axis: int, last: bool) -> np.ndarray:
    find = np.argmax if op == "max" else np.argmin
    if last:
        return x.shape[axis] - 1 - find(np.flip(x, axis), axis=axis, keepdims=True)
    return find(x, axis=axis, keepdims=True)


@primitive("reduce", _argreduce, _argreduce_numpy)
def argreduce(x, *, op, axis, last):
    """Index (i64) of the max or min along `axis`, which stays with size 1: of equals the first, or
    the `last`."""


def _cumulate(x: Type, *, op: str, axis: int, exclusive: bool, reverse: bool) -> Type:
    _check_axes(x, (axis,))
    return x


def _cumulate_numpy(
    x: np.ndarray, *, op: str, axis: int, exclusive: bool, reverse: bool
) -> np.ndarray:
    y = np.flip(x, axis) if reverse else x
    y = _REDUCE[op].accumulate(y, axis=axis, dtype=x.dtype)
    if exclusive and x.size:
        unit = np.full_like(np.take(y, [0], axis), {"add": 0, "mul": 1}[op])
        y = np.concatenate([unit, np.take(y, range(x.shape[axis] - 1), axis)], axis)
    return np.flip(y, axis) if reverse else y


def _cumulate_grad(
    g: Value, y: Value, x: Value, *, op: str, axis: int, exclusive: bool, reverse: bool
) -> list:
    if op != "add":
        return [None]
    return [cumulate(g, op="add", axis=axis, exclusive=exclusive, reverse=not reverse)]


@primitive("scan", _cumulate, _cumulate_numpy, _cumulate_grad)
def cumulate(x, *, op, axis, exclusive, reverse):
    """Running add or mul along `axis`; exclusive: without the element itself; reverse: from the
    end."""


def parse_spec(spec: str) -> tuple[str, str, str]:
    """'nk,ko->no' -> ('nk', 'ko', 'no'). Letters that the output lacks are summed over."""
    left, _, out = spec.partition("->")
    a, _, b = left.partition(",")
    return a, b, out


def _contract(a: Type, b: Type, *, spec: str) -> Type:
    la, lb, lo = parse_spec(spec)
    if len(la) != a.rank or len(lb) != b.rank or len(set(la)) != len(la) or len(set(lb)) != len(lb):
        raise OpError(f"spec {spec!r} does not fit ranks {a.rank} and {b.rank}")
    if not set(lo) <= set(la + lb) or len(set(lo)) != len(lo):
        raise OpError(f"spec {spec!r} has output letters that no input has")
    extent = dict(zip(la, a.dims))
    for letter, n in zip(lb, b.dims):
        if extent.setdefault(letter, n) != n:
            raise OpError(f"axis {letter!r} of {spec!r} has sizes {extent[letter]} and {n}")
    dtype = _same(a, b)
    if dtype.kind not in "fiu":
        raise OpError(f"{dtype} cannot be multiplied and added")
    return Type(tuple(extent[letter] for letter in lo), dtype)


def _contract_numpy(a: np.ndarray, b: np.ndarray, *, spec: str) -> np.ndarray:
    if a.dtype == np.float16:
        wide = _contract_numpy(a.astype(np.float32), b.astype(np.float32), spec=spec)
        return wide.astype(a.dtype)
    return np.einsum(spec, a, b, optimize=a.size * b.size > 4096)


def _contract_grad(g: Value, y: Value, a: Value, b: Value, *, spec: str) -> list:
    la, lb, lo = parse_spec(spec)
    grads = []
    for mine, value, theirs, other in ((la, a, lb, b), (lb, b, la, a)):
        have = set(lo) | set(theirs)
        kept = "".join(c for c in mine if c in have)  # other letters were summed: broadcast back
        part = contract(g, other, spec=f"{lo},{theirs}->{kept}")
        shape = tuple(n if c in have else 1 for c, n in zip(mine, value.shape))
        grads.append(broadcast(reshape(part, shape=shape), shape=value.shape))
    return grads


@primitive("contract", _contract, _contract_numpy, _contract_grad)
def contract(a, b, *, spec):
    """Sum of products over the letters of `spec` that its output lacks: every matrix product and
    convolution."""


# ------------------------------------------------------------------ data movement


def _transpose(x: Type, *, perm: tuple[int, ...]) -> Type:
    if sorted(perm) != list(range(x.rank)):
        raise OpError(f"perm {perm} is not a permutation of {x.rank} axes")
    return Type(tuple(x.dims[p] for p in perm), x.dtype)


def inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes `perm`."""
    return tuple(int(i) for i in np.argsort(perm))


@primitive(
    "move",
    _transpose,
    lambda x, *, perm: np.transpose(x, perm),
    lambda g, y, x, *, perm: [transpose(g, perm=inverse(perm))],
)
def transpose(x, *, perm):
    """Axes in another order: result axis i is axis perm[i] of x."""


def _reshape(x: Type, *, shape: tuple[int, ...]) -> Type:
    if math.prod(shape) != x.size or any(n < 0 for n in shape):
        raise OpError(
            f"{x.dims} ({x.size} elements) cannot become {shape} ({math.prod(shape)} elements)"
        )
    return Type(tuple(shape), x.dtype)


@primitive(
    "move",
    _reshape,
    lambda x, *, shape: x.reshape(shape),
    lambda g, y, x, *, shape: [reshape(g, shape=x.shape)],
)
def reshape(x, *, shape):
    """The same elements in row-major order under another shape."""


def _broadcast_to(x: Type, *, shape: tuple[int, ...]) -> Type:
    if _broadcast(x, Type(tuple(shape), x.dtype)) != tuple(shape):
        raise OpError(f"shape {x.dims} does not broadcast to {shape}")
    return Type(tuple(shape), x.dtype)


@primitive(
    "move",
    _broadcast_to,
    lambda x, *, shape: np.broadcast_to(x, shape),
    lambda g, y, x, *, shape: [unbroadcast(g, x.shape)],
)
def broadcast(x, *, shape):
    """x repeated to `shape` by numpy's rules."""


def _slice(
    x: Type, *, starts: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]
) -> Type:
    if not len(starts) == len(sizes) == len(steps) == x.rank:
        raise OpError(f"starts, sizes and steps need one entry for each of {x.rank} axes")
    for start, size, step, n in zip(starts, sizes, steps, x.dims):
        if size and not (0 <= start < n and 0 <= start + (size - 1) * step < n):
            raise OpError(f"start {start}, size {size}, step {step} leave an axis of {n}")
    return Type(tuple(sizes), x.dtype)


def _slice_numpy(
    x: np.ndarray, *, starts: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]
) -> np.ndarray:
    for axis, (start, size, step) in enumerate(zip(starts, sizes, steps)):
        if (start, size, step) != (0, x.shape[axis], 1):
            x = np.take(x, start + step * np.arange(size), axis=axis)
    return x


def _slice_grad(g: Value, y: Value, x: Value, *, starts: Any, sizes: Any, steps: Any) -> list:
    for axis, (start, size, step) in enumerate(zip(starts, sizes, steps)):
        n = x.shape[axis]
        if step == 1:
            low = tuple(start if i == axis else 0 for i in range(len(g.shape)))
            high = tuple(n - start - size if i == axis else 0 for i in range(len(g.shape)))
            g = pad(g, low=low, high=high, value=0)
        else:
            shape = tuple(n if i == axis else s for i, s in enumerate(g.shape))
            zero = const(np.zeros(shape, g.dtype.numpy))
            g = scatter(zero, const(start + step * np.arange(size)), g, axis=axis, op="add")
    return [g]


@primitive("move", _slice, _slice_numpy, _slice_grad)
def slice(x, *, starts, sizes, steps):
    """Elements start, start+step, ... (`sizes` of them) of every axis; steps may be negative."""


def _pad(x: Type, *, low: tuple[int, ...], high: tuple[int, ...], value: float) -> Type:
    if not len(low) == len(high) == x.rank or min((*low, *high), default=0) < 0:
        raise OpError(f"low {low} and high {high} need one entry >= 0 for each of {x.rank} axes")
    return Type(tuple(a + n + b for a, n, b in zip(low, x.dims, high)), x.dtype)


def _pad_grad(g: Value, y: Value, x: Value, *, low: Any, high: Any, value: float) -> list:
    return [slice(g, starts=low, sizes=x.shape, steps=(1,) * len(low))]


@primitive(
    "move",
    _pad,
    lambda x, *, low, high, value: np.pad(x, tuple(zip(low, high)), constant_values=value),
    _pad_grad,
)
def pad(x, *, low, high, value):
    """x with `low` and `high` elements of `value` around each axis."""


def _concat(*xs: Type, axis: int) -> Type:
    if not xs or any(x.rank != xs[0].rank for x in xs) or not 0 <= axis < xs[0].rank:
        raise OpError(f"axis {axis} does not fit the ranks {[x.rank for x in xs]}")
    rest = {x.dims[:axis] + x.dims[axis + 1 :] for x in xs}
    if len(rest) != 1:
        raise OpError(f"shapes differ outside axis {axis}: {[x.dims for x in xs]}")
    total = sum(x.dims[axis] for x in xs)
    return Type((*xs[0].dims[:axis], total, *xs[0].dims[axis + 1 :]), _same(*xs))


def _concat_grad(g: Value, y: Value, *xs: Value, axis: int) -> list:
    parts, start = [], 0
    for x in xs:
        starts = tuple(start if i == axis else 0 for i in range(len(x.shape)))
        parts.append(slice(g, starts=starts, sizes=x.shape, steps=(1,) * len(x.shape)))
        start += x.shape[axis]
    return parts


@primitive("move", _concat, lambda *xs, axis: np.concatenate(xs, axis), _concat_grad)
def concat(*xs, axis):
    """Tensors one after another along `axis`."""


def _window(
    x: Type,
    *,
    axes: tuple[int, ...],
    size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Type:
    _check_axes(x, axes)
    if min((*size, *stride, *dilation), default=1) < 1:
        raise OpError("window size, stride and dilation must be positive")
    shape = list(x.dims)
    for axis, k, s, d in zip(axes, size, stride, dilation):
        count = (shape[axis] - (k - 1) * d - 1) // s + 1
        if count < 1:
            raise OpError(f"a window of {k} (dilation {d}) does not fit an axis of {shape[axis]}")
        shape[axis] = count
    return Type((*shape, *size), x.dtype)


def _window_numpy(
    x: np.ndarray, *, axes: Any, size: Any, stride: Any, dilation: Any
) -> np.ndarray:
    shape = _window(Type(x.shape, F32), axes=axes, size=size, stride=stride, dilation=dilation).dims
    strides = list(x.strides)
    inner = []
    for axis, s, d in zip(axes, stride, dilation):
        inner.append(strides[axis] * d)
        strides[axis] *= s
    return np.lib.stride_tricks.as_strided(x, shape, (*strides, *inner), writeable=False)


def _window_grad(
    g: Value, y: Value, x: Value, *, axes: Any, size: Any, stride: Any, dilation: Any
) -> list:
    rank = len(x.shape)
    for axis, k, s, d in zip(axes, size, stride, dilation):
        # bring the kernel axis behind its window axis, then add both back into one axis of x
        perm = [i for i in range(len(g.shape)) if i != rank]
        perm.insert(axis + 1, rank)
        g = transpose(g, perm=tuple(perm))
        count = g.shape[axis]
        flat = (*g.shape[:axis], count * k, *g.shape[axis + 2 :])
        index = (np.arange(count)[:, None] * s + np.arange(k)[None, :] * d).ravel()
        zero = const(np.zeros((*flat[:axis], x.shape[axis], *flat[axis + 1 :]), g.dtype.numpy))
        g = scatter(zero, const(index), reshape(g, shape=flat), axis=axis, op="add")
    return [g]


@primitive("move", _window, _window_numpy, _window_grad)
def window(x, *, axes, size, stride, dilation):
    """Sliding windows as a view: `axes` count window positions, new last axes run inside the
    window."""


def _gather(x: Type, index: Type, *, axis: int) -> Type:
    _check_axes(x, (axis,))
    if not index.dtype.is_integer:
        raise OpError(f"indices are {index.dtype}, not integers")
    return Type((*x.dims[:axis], *index.dims, *x.dims[axis + 1 :]), x.dtype)


def _gather_numpy(x: np.ndarray, index: np.ndarray, *, axis: int) -> np.ndarray:
    if index.size and (index.min() < 0 or index.max() >= x.shape[axis]):
        raise OpError(
            f"an index is outside [0, {x.shape[axis]})",
            why=f"indices span [{index.min()}, {index.max()}]",
        )
    return np.take(x, index.astype(np.int64), axis=axis)


def _gather_grad(g: Value, y: Value, x: Value, index: Value, *, axis: int) -> list:
    count = math.prod(index.shape)
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    zero = const(np.zeros(x.shape, x.dtype.numpy))
    flat = reshape(index, shape=(count,))
    return [scatter(zero, flat, reshape(g, shape=shape), axis=axis, op="add"), None]


@primitive("index", _gather, _gather_numpy, _gather_grad)
def gather(x, index, *, axis):
    """Slices of x along `axis` at integer `index` (any shape), each in [0, size)."""


def _scatter(x: Type, index: Type, update: Type, *, axis: int, op: str) -> Type:
    _check_axes(x, (axis,))
    wanted = (*x.dims[:axis], *index.dims, *x.dims[axis + 1 :])
    if index.rank != 1 or update.dims != wanted or not index.dtype.is_integer:
        raise OpError(f"index must be one axis of integers and update {wanted}, not {update.dims}")
    if op not in ("set", "add", "mul", "max", "min"):
        raise OpError(f"scatter by {op!r}")
    return Type(x.dims, _same(x, update))


def _scatter_numpy(
    x: np.ndarray, index: np.ndarray, update: np.ndarray, *, axis: int, op: str
) -> np.ndarray:
    if index.size and (index.min() < 0 or index.max() >= x.shape[axis]):
        raise OpError(f"an index is outside [0, {x.shape[axis]})")
    y = np.moveaxis(x.copy(), axis, 0)
    rows = np.moveaxis(update, axis, 0)
    if op == "set":
        for i, row in zip(index, rows):  # in order: the last of equal indices wins
            y[i] = row
    else:
        _REDUCE[op].at(y, index, rows)
    return np.moveaxis(y, 0, axis)


def _scatter_grad(
    g: Value, y: Value, x: Value, index: Value, update: Value, *, axis: int, op: str
) -> list:
    if op == "add":
        return [g, None, gather(g, index, axis=axis)]
    if op == "set":
        zero = const(np.zeros(update.shape, g.dtype.numpy))
        kept = scatter(g, index, zero, axis=axis, op="set")
        return [kept, None, gather(g, index, axis=axis)]
    return [None, None, None]


@primitive("scatter", _scatter, _scatter_numpy, _scatter_grad)
def scatter(x, index, update, *, axis, op):
    """x with slices of `update` set (or added, multiplied, ...) along `axis` at `index`, in
    order."""


# ------------------------------------------------------------------ sources, tuples


@primitive(
    "source",
    lambda *, size, dtype: Type((size,), dtype),
    lambda *, size, dtype: np.arange(size).astype(dtype.numpy),
)
def iota(*, size, dtype):
    """0, 1, ..., size-1."""


def _item(x: Any, *, index: int) -> Type:
    if not isinstance(x, tuple) or not 0 <= index < len(x):
        raise OpError(f"there is no result {index}")
    return x[index]


@primitive("control", _item, lambda x, *, index: x[index])
def item(x, *, index):
    """One result of an operator that has several."""


def apply(name: str, /, *args: Any, **attrs: Any) -> Value:
    """Any operator by name: what the text parser and tables use."""
    return emit(OPS[name], *args, **attrs)


