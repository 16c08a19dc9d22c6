"""Layers of float activations and integer weights: the activations become integers at run time.

XNNPACK, and LiteRT's own convolutions with one scale a channel, spread 256 integers over the range
of each row (image); LiteRT's other kernels spread 255 around zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.errors import ModelError
from brim.graph import Value, const
from brim.types import F32, I8, I16, I32, U8

Ints = tuple[int, ...]
Product = Callable[[Value, Value, int], Value]  # sums of (x - zero) * w in i32


def signed(w: Value, zero: np.ndarray) -> Value:
    """Constant weights whose zero point is taken off; bytes of old files hold signed integers."""
    if w.data is None:
        if w.dtype == I8 and not zero.any():
            return w
        raise ModelError(f"weights {w.type} for float numbers have to be constant")
    if w.dtype == U8:
        return const(w.data.view(np.int8))
    return q.centred_weights(w.data.astype(np.int16), zero)


def asymmetric(x: Value, axes: Ints) -> tuple[Value, Value, Value]:
    """x (f32) as i8, with the scale f32 and the zero point i32 of each part that `axes` span."""
    low = p.minimum(p.reduce(x, op="min", axes=axes), 0)
    high = p.maximum(p.reduce(x, op="max", axes=axes), 0)
    empty = p.eq(low, high)
    per_unit = p.div(255, p.select(empty, const(np.float32(255)), p.sub(high, low)))
    low, high = p.mul(low, per_unit), p.mul(high, per_unit)
    of_low = p.gt(p.add(p.add(low, -128), p.add(high, 127)), 0)
    zero = p.select(of_low, p.sub(-128, low), p.sub(127, high))
    zero = p.rint(p.minimum(p.maximum(zero, -128), 127))
    y = p.add(p.rint(p.mul(x, per_unit)), zero)
    y = p.cast(p.minimum(p.maximum(y, -128), 127), to=I8)
    return y, p.div(1, per_unit), p.cast(zero, to=I32)


def symmetric(x: Value, axes: Ints) -> tuple[Value, Value]:
    """x (f32) as i8 from -127 to 127, halves away from zero, with the scale f32 of each part."""
    largest = p.reduce(p.absolute(x), op="max", axes=axes)
    largest = p.select(p.eq(largest, 0), const(np.float32(127)), largest)
    y = p.mul(x, p.div(127, largest))
    y = p.trunc(p.add(y, p.mul(p.sign(y), 0.5)))
    return p.cast(p.minimum(p.maximum(y, -127), 127), to=I8), p.div(largest, 127)


@dataclass(frozen=True)
class Spread:
    """How the activations x become integers.

    even: spread over the range of a part of x, else around zero. axes: those of x that share a
    scale. taps: axes of the weights whose sums take a zero point off; None: x has to have none,
    because zeros stand between its elements.
    """

    even: bool
    axes: Ints
    taps: Ints | None


def real_sums(x: Value, w: Value, scale: np.ndarray, product: Product, spread: Spread) -> Value:
    """Sums of products of x with w, f32."""
    if not spread.even:
        y, unit = symmetric(x, spread.axes)
        total = product(y, w, 0)
    else:
        y, unit, zero = asymmetric(x, spread.axes)
        if spread.taps is None:
            total = product(p.sub(p.cast(y, to=I16), p.cast(zero, to=I16)), w, 0)
        else:
            taken = p.reduce(p.cast(w, to=I32), op="add", axes=spread.taps)
            total = p.sub(product(y, w, 0), p.mul(taken, zero))
    return p.mul(p.mul(p.cast(total, to=F32), unit), const(scale))
