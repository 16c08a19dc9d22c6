"""Fourier transforms as products with matrices of sines and cosines, which compile like others.

Long ones of composite length are two short ones with a twist between (Bailey 1990, "FFTs in
external or hierarchical memory"): of n = a * b elements they take n * (a + b) products, not n * n.
"""

from __future__ import annotations

import math

import numpy as np

from brim.errors import OpError
from brim.graph import Value, const
from brim.ops.primitive import add, contract, mul, reshape, slice, sub, transpose

DIRECT = 1 << 9  # a transform of so many elements is one product
LONGEST = 1 << 16


def fourier(
    real: Value, imaginary: Value | None, *, axis: int, count: int, inverse: bool = False
) -> tuple[Value, Value]:
    """The first `count` numbers of the Fourier transform along `axis`: real and imaginary part.

    imaginary: None for real input. inverse: with the opposite sign, and not divided by the length.
    Raises OpError for lengths that are too long.
    """
    n = real.shape[axis]
    if not 1 <= n <= LONGEST or not 0 <= count <= n:
        raise OpError(f"{count} numbers of a Fourier transform of {n} elements")
    rows = 1 << max(n.bit_length() // 2, 1)
    if n > DIRECT and n % rows == 0:
        return _in_steps(real, imaginary, axis, count, (rows, n // rows), inverse)
    if n * count > 1 << 22:
        raise OpError(f"a Fourier transform of {n} elements, which is not a power of two")
    return _direct(real, imaginary, axis, count, inverse)


def _direct(
    real: Value, imaginary: Value | None, axis: int, count: int, inverse: bool
) -> tuple[Value, Value]:
    n = real.shape[axis]
    cos, sin = _waves(np.outer(np.arange(n), np.arange(count)), n, inverse, real)
    letters = "abcdefghij"[: len(real.shape)]
    spec = f"{letters},{letters[axis]}y->{letters.replace(letters[axis], 'y')}"
    a, b = contract(real, cos, spec=spec), contract(real, sin, spec=spec)
    if imaginary is None:
        return a, b
    c, d = contract(imaginary, cos, spec=spec), contract(imaginary, sin, spec=spec)
    return sub(a, d), add(b, c)


def _waves(turns: np.ndarray, n: int, inverse: bool, like: Value) -> tuple[Value, Value]:
    """cos and sin of turns / n of a circle, the sine negative unless inverse."""
    angle = 2 * math.pi / n * (turns % n)
    sine = np.sin(angle) if inverse else -np.sin(angle)
    return const(np.cos(angle).astype(like.dtype.numpy)), const(sine.astype(like.dtype.numpy))


def _in_steps(
    real: Value,
    imaginary: Value | None,
    axis: int,
    count: int,
    factors: tuple[int, int],
    inverse: bool,
) -> tuple[Value, Value]:
    """x[j * b + k] -> y[r + a * s]: transforms over j, a twist by k * r, transforms over k."""
    a, b = factors
    shape = real.shape

    def split(x: Value) -> Value:
        return reshape(x, shape=(*shape[:axis], a, b, *shape[axis + 1 :]))

    parts = (split(real), None if imaginary is None else split(imaginary))
    u, v = _direct(*parts, axis, a, inverse)
    cos, sin = _waves(np.outer(np.arange(a), np.arange(b)), a * b, inverse, real)
    wide = (a, b, *(1,) * (len(shape) - axis - 1))
    cos, sin = reshape(cos, shape=wide), reshape(sin, shape=wide)
    u, v = sub(mul(u, cos), mul(v, sin)), add(mul(u, sin), mul(v, cos))
    u, v = _direct(u, v, axis + 1, b, inverse)
    order = (*range(axis), axis + 1, axis, *range(axis + 2, len(shape) + 1))
    sizes = tuple(count if i == axis else n for i, n in enumerate(shape))

    def join(x: Value) -> Value:
        x = reshape(transpose(x, perm=order), shape=shape)
        return slice(x, starts=(0,) * len(sizes), sizes=sizes, steps=(1,) * len(sizes))

    return join(u), join(v)
