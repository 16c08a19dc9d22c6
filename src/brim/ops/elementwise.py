"""Elementwise primitives: arithmetic, comparison, choice, and conversion of single numbers.

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
from brim.ops.registry import apply, primitive
from brim.types import BOOL, DType, Type


def broadcast_shape(*types: Type) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*(t.dims for t in types))
    except ValueError:
        shapes = " and ".join(str(t.dims) for t in types)
        raise OpError(f"shapes {shapes} do not broadcast") from None


def same_dtype(*types: Type) -> DType:
    if len({t.dtype for t in types}) != 1:
        raise OpError(f"dtypes differ: {', '.join(t.dtype.name for t in types)}", hint="cast first")
    return types[0].dtype


def check_plain(dtype: DType) -> None:
    """Raises OpError for storage types, which are moved and converted, never computed with."""
    if dtype.kind == "n":
        raise OpError(f"{dtype} is a storage type", hint="decode it first")


def _kinds(allowed: str) -> Callable[..., Type]:
    def infer(*types: Type) -> Type:
        dtype = same_dtype(*types)
        if dtype.kind not in allowed:
            raise OpError(f"{dtype} is not among the element kinds it takes ({allowed})")
        return Type(broadcast_shape(*types), dtype)

    return infer


def _compare(*types: Type) -> Type:
    check_plain(same_dtype(*types))
    return Type(broadcast_shape(*types), BOOL)


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
    return (
        np.where(b == 0, np.zeros_like(a), np.mod(a, np.where(b == 0, np.ones_like(b), b)))
        if (a.dtype.kind in "iu")
        else np.mod(a, b)
    )


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
    return apply("reshape", apply("reduce", g, op="add", axes=axes), shape=shape) if axes else g


def _binary(infer: Callable, numpy: Callable, grad: Callable | None = None) -> Callable:
    def rule(g: Value, y: Value, a: Value, b: Value) -> list:
        parts = grad(g, y, a, b)  # type: ignore[misc]
        return [None if p is None else unbroadcast(p, v.shape) for p, v in zip(parts, (a, b))]

    return primitive("elementwise", infer, numpy, rule if grad else None)


def _unary(kinds: str, numpy: Callable, grad: Callable | None = None) -> Callable:
    rule = (lambda g, y, x: [grad(g, y, x)]) if grad not in (None, flat) else grad
    return primitive("elementwise", _kinds(kinds), numpy, rule)


def flat(g: Value, y: Value, *args: Value, **attrs: Any) -> list:
    """The gradient of what is constant wherever it has a slope: no cotangent goes through it."""
    return [None] * len(args)


def where(condition: Value, g: Value) -> Value:
    """A cotangent where a condition holds, else 0, whatever the cotangent is there."""
    return select(condition, g, const(np.zeros((), g.dtype.numpy)))


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


def _share(g: Value, a: Value, b: Value, wins: Callable[..., Value]) -> tuple[Value, Value]:
    """Cotangents of max (wins: gt) and min (lt). Of equal numbers the one that is no constant takes
    all, as in torch's clamp; two that vary take half each, as in torch's maximum."""
    if a.is_const or b.is_const:
        return where(logical_not(wins(b, a)), g), where(logical_not(wins(a, b)), g)
    mine = select(eq(a, b), mul(g, 0.5), where(wins(a, b), g))
    return mine, select(eq(a, b), mine, where(wins(b, a), g))


@_binary(_NUMBERS, np.maximum, lambda g, y, a, b: _share(g, a, b, gt))
def maximum(a, b):
    """The larger of a and b; NaN if either is NaN."""


@_binary(_NUMBERS, np.minimum, lambda g, y, a, b: _share(g, a, b, lt))
def minimum(a, b):
    """The smaller of a and b; NaN if either is NaN."""


def _power_grad(g: Value, y: Value, a: Value, b: Value) -> tuple[Value, Value]:
    """To the base 0 where the exponent is 0, to the exponent 0 where the base is, as in torch."""
    of_base = mul(g, mul(b, power(a, sub(b, 1))))
    zero_base, zero_exponent = eq(a, 0), eq(b, 0)
    logarithm = log(select(zero_base, const(np.ones((), a.dtype.numpy)), a))
    return where(logical_not(zero_exponent), of_base), mul(g, mul(y, logarithm))


@_binary(_FLOATS, lambda a, b: np.power(a, b), _power_grad)
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
    return Type(broadcast_shape(c, a, b), same_dtype(a, b))


def _select_grad(g: Value, y: Value, c: Value, a: Value, b: Value) -> list:
    parts = where(c, g), where(logical_not(c), g)
    return [None, unbroadcast(parts[0], a.shape), unbroadcast(parts[1], b.shape)]


@primitive("elementwise", _select, lambda c, a, b: np.where(c, a, b), _select_grad)
def select(condition, a, b):
    """a where condition holds, else b."""


@_unary("fi", np.negative, lambda g, y, x: neg(g))
def neg(x):
    """-x."""


@_unary("fiu", np.abs, lambda g, y, x: mul(g, sign(x)))
def absolute(x):
    """|x|."""


@_unary("fiu", np.sign, flat)
def sign(x):
    """-1, 0 or 1; NaN stays NaN."""


def _exp_grad(g: Value, y: Value, x: Value) -> Value:
    """Of an infinite y the largest number: what 1 / (1 + y) hands back is 0, and stays 0."""
    return mul(g, minimum(y, np.finfo(y.dtype.numpy).max))


@_unary("f", np.exp, _exp_grad)
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


@_unary("f", np.floor, flat)
def floor(x):
    """Largest whole number not above x."""


@_unary("f", np.ceil, flat)
def ceil(x):
    """Smallest whole number not below x."""


@_unary("f", np.trunc, flat)
def trunc(x):
    """x without its fraction."""


@_unary("f", np.rint, flat)
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


def _cast(x: Type, *, to: DType) -> Type:
    if "n" in x.dtype.kind + to.kind:
        raise OpError(f"{x.dtype} is not cast to {to}", hint="storage types: decode, encode")
    return Type(x.shape, to)


@primitive(
    "elementwise",
    _cast,
    lambda x, *, to: cast_array(x, to),
    lambda g, y, x, *, to: [cast(g, to=x.dtype) if x.dtype.is_float and to.is_float else None],
)
def cast(x, *, to):
    """x converted to dtype `to`; float to integer truncates, saturates, NaN gives 0."""


def _bitcast(x: Type, *, to: DType) -> Type:
    stored = x.dtype.kind == "n" or to.kind == "n"
    if stored and x.dtype != to.carrier and to != x.dtype.carrier:
        raise OpError(f"{x.dtype} and {to}: a storage type and its carrier are exchanged")
    if not stored and x.dtype.bits != to.bits:
        raise OpError(f"{x.dtype} has {x.dtype.bits} bits, {to} has {to.bits}")
    return Type(x.shape, to)


@primitive("elementwise", _bitcast, lambda x, *, to: x.view(to.numpy))
def bitcast(x, *, to):
    """The same bits read as dtype `to` of equal width; a storage type and its carrier as well."""
