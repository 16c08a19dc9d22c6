"""Quantized numbers by what a TFLite file says of them: to float, and back."""

from __future__ import annotations

import numpy as np

import brim.ops.quantized as q
from brim.errors import ModelError
from brim.frontends.tflite.model import Quantization, Tensor
from brim.frontends.tflite.table import quantization_of
from brim.graph import Value, const
from brim.types import DType


def scale_and_zero(found: Quantization, dtype: DType, rank: int) -> tuple[Value, Value]:
    """Scale f32 and zero point of `dtype`, shaped to broadcast to a tensor of `rank`."""
    shape = () if found.per_tensor else tuple(-1 if i == found.axis else 1 for i in range(rank))
    low, high = q.limits(dtype)
    if not low <= found.zero.min() <= found.zero.max() <= high:
        raise ModelError(f"a zero point of {dtype} is not within {low}..{high}")
    scale = const(found.scale.reshape(shape))
    return scale, const(found.zero.astype(dtype.numpy).reshape(shape))


def dequantized(x: Value, found: Quantization) -> Value:
    """The real numbers (f32) that the integers x stand for."""
    scale, zero = scale_and_zero(found, x.dtype, len(x.shape))
    return q.dequantize(x, scale, zero)


def quantized_as(x: Value, tensor: Tensor) -> Value:
    """x (f32) as the integers of a tensor, to the nearest, limited to its type."""
    found = quantization_of(tensor)
    if found is None or tensor.dtype is None:
        raise ModelError(f"{tensor.name!r} has no quantization")
    scale, zero = scale_and_zero(found, tensor.dtype, len(x.shape))
    return q.quantize(x, scale, zero)


def same(a: Quantization | None, b: Quantization | None) -> bool:
    """Whether integers of both mean the same numbers."""
    if a is None or b is None:
        return a is b
    return np.array_equal(a.scale, b.scale) and np.array_equal(a.zero, b.zero)
