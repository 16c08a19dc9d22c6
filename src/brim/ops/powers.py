"""Powers: of floats, with short forms for common exponents, and of integers, which are exact."""

from __future__ import annotations

import math

import numpy as np

from brim.graph import Value, const
from brim.ops.math import zero
from brim.ops.primitive import cast, eq, mul, neg, power, select, sqrt
from brim.types import F64


def power_of(x: Value, exponent: Value) -> Value:
    """x ** exponent of x's type, where either is a float; of different types in f64.

    Constant exponents of 2, 1 and 1/2 are a product, x itself, and a root.
    """
    if exponent.is_const and exponent.type.size == 1 and x.dtype.is_float:
        amount = float(exponent.data.reshape(-1)[0])  # type: ignore[union-attr]
        same = len(exponent.shape) <= len(x.shape)
        if same and amount == 2:
            return mul(x, x)
        if same and amount == 0.5:
            return _root(x)
        if same and amount == 1:
            return x
    if x.dtype.is_float and exponent.dtype == x.dtype:
        return power(x, exponent)
    return cast(power(cast(x, to=F64), cast(exponent, to=F64)), to=x.dtype)


def _root(x: Value) -> Value:
    """x ** 0.5, which is the square root but for -0 (0) and -inf (inf), as in IEEE 754."""
    nothing, infinite = (const(np.asarray(n, x.dtype.numpy)) for n in (0, math.inf))
    root = select(eq(x, nothing), nothing, sqrt(x))
    return select(eq(x, neg(infinite)), infinite, root)


def whole_power(x: Value, exponent: np.ndarray) -> Value:
    """x ** exponent in integers, exact modulo 2**bits; by the bits of a known exponent.

    Negative exponents give the whole part of 1 / x ** -exponent (0 for a base of 0).
    """
    bits = int(np.max(exponent, initial=1)).bit_length()
    one, square = const(np.ones((), x.dtype.numpy)), x
    result = select(const(exponent & 1 != 0), x, one)
    for bit in range(1, bits):
        square = mul(square, square)
        result = mul(result, select(const(exponent >> bit & 1 != 0), square, one))
    if (exponent >= 0).all():
        return result
    root = select(eq(x, 1), one, zero(x))
    if x.dtype.kind == "i":
        sign = select(const(exponent & 1 != 0), neg(one), one)
        root = select(eq(x, -1), sign, root)
    return select(const(exponent < 0), root, result)
