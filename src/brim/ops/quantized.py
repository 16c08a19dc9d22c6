"""Quantization as operators: real = scale * (integer - zero), and integer products of such numbers.

Integers are computed in i32, so results are exact as ONNX demands; lowering may choose narrower
instructions. Recipes and calibration are not here.
"""

from __future__ import annotations

import numpy as np

from brim.graph import Value, const
from brim.ops.primitive import add, cast, div, maximum, minimum, mul, rint, sub
from brim.ops.registry import composite
from brim.ops.storage import convert, decode, encode
from brim.types import BF16, F16, F32, I32, DType


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
    low, high = limits(zero.dtype)
    y = rint(_quotient(x, scale))
    y = add(y, convert(zero, y.dtype))
    y = cast(minimum(maximum(y, low), high), to=zero.dtype.carrier)
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


def requantize(total: Value, scale: Value, zero: Value) -> Value:
    """round(total * scale) + zero for integer sums, limited to the element type of `zero`."""
    low, high = limits(zero.dtype)
    y = rint(mul(cast(total, to=F32), scale))
    y = add(y, cast(zero, to=F32))
    return cast(minimum(maximum(y, low), high), to=zero.dtype)


def zero_like(dtype: DType) -> Value:
    """The zero point 0 of `dtype`."""
    return const(np.zeros((), dtype.numpy))
