"""Quantization as operators: real = scale * (integer - zero), and integer products of such numbers.

Integers are computed in i32, so results are exact as ONNX demands; lowering may choose narrower
instructions. Recipes and calibration are not here.
"""

from __future__ import annotations

import numpy as np

from brim.graph import Value, const
from brim.ops.primitive import add, cast, div, maximum, minimum, mul, rint, sub
from brim.ops.registry import composite
from brim.types import F32, I32, DType


def limits(dtype: DType) -> tuple[int, int]:
    """The smallest and largest integer of a type."""
    info = np.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


@composite()
def quantize(x, scale, zero):
    """round(x / scale) + zero, halves to even, limited to the element type of `zero`."""
    low, high = limits(zero.dtype)
    wide = F32 if zero.dtype.bits <= 16 or x.dtype.bits < 32 else x.dtype
    y = rint(div(x, scale))
    y = y if y.dtype.bits >= 32 else cast(y, to=wide)
    y = add(y, cast(zero, to=y.dtype))
    return cast(minimum(maximum(y, low), high), to=zero.dtype)


@composite()
def dequantize(x, scale, zero):
    """(x - zero) * scale, in the type of `scale`."""
    if x.dtype.bits < 32:  # the difference is exact in i32
        return mul(cast(sub(cast(x, to=I32), cast(zero, to=I32)), to=scale.dtype), scale)
    return mul(cast(sub(x, zero), to=scale.dtype), scale)


def centred(x: Value, zero: Value | None) -> Value:
    """x - zero in i32."""
    wide = cast(x, to=I32)
    if zero is None or (zero.is_const and not zero.data.any()):  # type: ignore[union-attr]
        return wide
    return sub(wide, cast(zero, to=I32))


def requantize(total: Value, scale: Value, zero: Value) -> Value:
    """round(total * scale) + zero for integer sums, limited to the element type of `zero`."""
    low, high = limits(zero.dtype)
    y = rint(mul(cast(total, to=F32), scale))
    y = add(y, cast(zero, to=F32))
    return cast(minimum(maximum(y, low), high), to=zero.dtype)


def zero_like(dtype: DType) -> Value:
    """The zero point 0 of `dtype`."""
    return const(np.zeros((), dtype.numpy))
