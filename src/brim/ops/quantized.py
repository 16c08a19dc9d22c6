"""Quantization as operators: real = scale * (integer - zero), and integer products of such numbers.

Sums are exact, in i32. Their operands stay 8-bit integers up to the kernels, which multiply them
four at a time where the processor can. Recipes and calibration are not here.
"""

from __future__ import annotations

import numpy as np

from brim.graph import Value, const
from brim.ops.math import matmul
from brim.ops.nn import Ints, conv, crop_or_pad, pooled, window_counts
from brim.ops.primitive import (
    add,
    cast,
    div,
    maximum,
    minimum,
    mul,
    reduce,
    reshape,
    rint,
    sign,
    sub,
)
from brim.ops.registry import composite
from brim.ops.storage import convert, decode, encode
from brim.types import BF16, F16, F32, I8, I16, I32, DType


def limits(dtype: DType) -> tuple[int, int]:
    """The smallest and largest integer of a type; of i4, u4, i2 and u2, too."""
    low = -(1 << (dtype.bits - 1)) if dtype.name[0] == "i" else 0
    return low, low + (1 << dtype.bits) - 1


def _quotient(x: Value, scale: Value) -> Value:
    """x / scale, rounded to the type of `scale`; of 16-bit floats as an f32."""
    wide = convert(x, scale.dtype)
    if scale.dtype == BF16:  # f32 has more than twice its digits: rounding twice changes nothing
        return convert(convert(div(decode(wide, to=F32), decode(scale, to=F32)), BF16), F32)
    quotient = div(wide, scale)
    return convert(quotient, F32) if scale.dtype == F16 else quotient


@composite()
def quantize(x, scale, zero):
    """round(x / scale) + zero, halves to even, limited to the element type of `zero`.

    The quotient is rounded to the type of `scale` before.
    """
    return nearest(_quotient(x, scale), zero)


def nearest(x: Value, zero: Value, bounds: tuple[int, int] | None = None) -> Value:
    """round(x) + zero, halves to even, limited to `bounds` (None: all of the element type of
    `zero`). NaN gives the zero point, as 0 does."""
    low, high = (sub(float(n), convert(zero, x.dtype)) for n in bounds or limits(zero.dtype))
    y = cast(rint(minimum(maximum(x, low), high)), to=I32)
    y = cast(add(y, convert(zero, I32)), to=zero.dtype.carrier)
    return y if zero.dtype.kind != "n" else convert(y, zero.dtype)


@composite()
def quantize_float(x, scale, zero, *, saturate):
    """x / scale + zero as the float8 or float4 type of `zero`; saturate: see `encode`.

    The quotient is rounded to the type of `scale` before.
    """
    y = _quotient(x, scale)
    return encode(add(y, decode(zero, to=y.dtype)), to=zero.dtype, saturate=saturate, rounding="up")


@composite()
def dequantize(x, scale, zero):
    """(x - zero) * scale, in the type of `scale`; 16-bit floats are rounded once, at the end."""
    wide = F32 if scale.dtype.bits == 16 else scale.dtype
    if x.dtype.kind == "n" and not x.dtype.is_whole:
        number = sub(decode(x, to=wide), decode(zero, to=wide))
    elif x.dtype.bits < 32:  # the difference is exact in i32
        number = cast(sub(convert(x, I32), convert(zero, I32)), to=wide)
    else:
        number = cast(sub(x, zero), to=wide)
    return convert(mul(number, convert(scale, wide)), scale.dtype)


def centred(x: Value, zero: Value | None, to: DType = I32) -> Value:
    """x - zero, exact in i32 and, for x of up to 16 bits, in f32."""
    wide = cast(x, to=to)
    if zero is None or (zero.is_const and not zero.data.any()):  # type: ignore[union-attr]
        return wide
    return sub(wide, cast(zero, to=to))


def centred_weights(w: np.ndarray, zero: np.ndarray | int = 0) -> Value:
    """w - zero for weights of 8 bits, as a constant: i8 where all of it fits, else i16."""
    centred = w.astype(np.int16) - np.asarray(zero, np.int16)
    low, high = limits(I8)
    fits = centred.size == 0 or (low <= centred.min() and centred.max() <= high)
    return const(centred.astype((I8 if fits else I16).numpy))


@composite()
def conv_i32(x, w, *, zero, stride, dilation, low, high, groups):
    """Sums of (x - zero) * w, exact in i32: `conv` of x[N, *spatial, C], i8 or u8.

    w[*kernel, C / groups, O] of 8 or 16 bits, its zero point taken off. zero: an integer, which
    also stands before and after each spatial axis, low and high times. Result [N, *spatial', O].
    """
    inside = (0,) * len(low)
    x = crop_or_pad(x, low, high, zero)
    total = conv(
        x, w, stride=stride, dilation=dilation, low=inside, high=inside, groups=groups, exact=True
    )
    return _without_zero(total, w, zero, tuple(range(len(w.shape) - 1)), w.shape[-1:])


@composite()
def matmul_i32(x, w, *, zero):
    """Sums of (x - zero) * w, exact in i32: the matrix product of x[.., M, K] (or [K]), i8 or u8,
    and w[.., K, N] of 8 or 16 bits, its zero point taken off. zero: an integer."""
    *lead, _, columns = w.shape
    rows = (1,) if len(x.shape) > 1 else ()
    return _without_zero(matmul(x, w), w, zero, (len(lead),), (*lead, *rows, columns))


def _without_zero(total: Value, w: Value, zero: int, axes: Ints, shape: Ints) -> Value:
    """Sums of (x - zero) * w from those of x * w. shape: of the sums of constant w over `axes`."""
    if not zero:
        return total
    sums = reshape(reduce(cast(w, to=I32), op="add", axes=axes), shape=shape)
    return add(total, mul(sums, -zero))


@composite()
def average_pool_i32(x, *, size, stride, dilation, low, high):
    """Means over windows of the integers x[N, *spatial, C], to the nearest, halves away from zero,
    as i32. low, high: padding, which is not counted. Sums have to fit 24 bits."""
    ones = (1,) * len(size)
    total = pooled(crop_or_pad(cast(x, to=I32), low, high), "add", size, stride, dilation)
    counts = np.ones(ones, np.int64)
    for axis, n in enumerate(x.shape[1:-1]):
        step = (stride[axis], size[axis], dilation[axis])
        found = window_counts(total.shape[1 + axis], step, low[axis], n + low[axis])
        counts = counts * found.reshape([-1 if i == axis else 1 for i in range(len(ones))])
    # a quotient that is no half is far enough from one: f32 decides as the integers would
    total = cast(total, to=F32)
    mean = div(total, const(counts[..., None].astype(np.float32)))
    return cast(add(mean, mul(sign(total), 0.5)), to=I32)


def limited(y: Value, bounds: tuple[int, int]) -> Value:
    """Integers limited to `bounds`, which lie in their element type."""
    low, high = bounds
    return y if bounds == limits(y.dtype) else minimum(maximum(y, low), high)


def requantize(
    total: Value, scale: Value, zero: Value, bounds: tuple[int, int] | None = None
) -> Value:
    """round(total * scale) + zero for integer sums, limited to `bounds`, which lie in the element
    type of `zero` (None: all of it)."""
    return nearest(mul(cast(total, to=F32), scale), zero, bounds)


def zero_like(dtype: DType) -> Value:
    """The zero point 0 of `dtype`."""
    return const(np.zeros((), dtype.numpy))
