"""Quantized numbers by what a TFLite file says of them: to float, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np

import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.errors import ModelError
from brim.frontends.tflite.model import Quantization, Tensor
from brim.frontends.tflite.table import Call, Function, Operand, listed, quantization_of
from brim.graph import Value, const
from brim.ops.storage import computable, convert
from brim.types import I32, DType

Bounds: TypeAlias = tuple[int, int]  # the smallest and the largest integer of a result


def scale_and_zero(found: Quantization, dtype: DType, rank: int) -> tuple[Value, Value]:
    """Scale f32 and zero point of `dtype`, shaped to broadcast to a tensor of `rank`."""
    shape = () if found.per_tensor else tuple(-1 if i == found.axis else 1 for i in range(rank))
    low, high = q.limits(dtype)
    if not low <= found.zero.min() <= found.zero.max() <= high:
        raise ModelError(f"a zero point of {dtype} is not within {low}..{high}")
    scale = const(found.scale.reshape(shape))
    return scale, const(found.zero.astype(dtype.numpy).reshape(shape))


def linear(tensor: Tensor | None) -> tuple[np.float32, int]:
    """Scale and zero point of a tensor that is quantized as a whole. Raises ModelError."""
    found = None if tensor is None else quantization_of(tensor)
    if tensor is None or found is None:
        raise ModelError("a quantized operator has a tensor without a scale")
    scale, zero = found.scale.ravel()[0], int(found.zero.ravel()[0])
    if not found.per_tensor:
        raise ModelError(f"{tensor.name!r} has {found.scale.size} scales where one is wanted")
    if not 0 < scale < np.inf:
        raise ModelError(f"{tensor.name!r} has the scale {scale}")
    if tensor.dtype is not None:
        low, high = q.limits(tensor.dtype)
        if not low <= zero <= high:
            raise ModelError(f"a zero point of {tensor.dtype} is not within {low}..{high}")
    return np.float32(scale), zero


def requantized(
    total: Value, scale: np.ndarray | np.float32, tensor: Tensor, bounds: Bounds | None = None
) -> Value:
    """Integer sums, in which 1 stands for `scale`, as the integers of a tensor.

    LiteRT has two ways to compute this: XNNPACK's, round half even(f32(total) * f32 factor), and
    that of its own kernels, a product with a 32-bit fraction, half away from zero. What both may
    do XNNPACK does by default, so its way is used, with the factor rounded as it rounds it.
    """
    unit, zero = linear(tensor)
    assert tensor.dtype is not None
    factor = const(np.asarray(scale, np.float32) / unit)
    return q.requantize(total, factor, const(np.array(zero, tensor.dtype.numpy)), bounds)


def rescaled(x: Value, given: Tensor | None, wanted: Tensor, bounds: Bounds | None = None) -> Value:
    """The integers x of one tensor as those of another that stand for the same numbers."""
    if given is not None and x.dtype == wanted.dtype and same(given, wanted):
        return x if bounds is None else q.limited(x, bounds)
    scale, zero = linear(given)
    return requantized(p.sub(p.cast(x, to=I32), zero), scale, wanted, bounds)


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
    assert scale.data is not None
    return q.requantize(x, const(1 / scale.data), zero)


def same(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether integers of both tensors mean the same numbers."""
    a, b = (None if tensor is None else quantization_of(tensor) for tensor in (one, other))
    if a is None or b is None:
        return a is b
    return np.array_equal(a.scale, b.scale) and np.array_equal(a.zero, b.zero)


def in_float(function: Function, call: Call) -> list[Operand]:
    """The results of a row that knows no quantized numbers, computed in float between both.

    Numbers of storage types (bf16) are floats meanwhile, too.
    """
    inputs = tuple(_number(operand, call.quantization(i)) for i, operand in enumerate(call.inputs))
    found = listed(function(replace(call, inputs=inputs)))
    return [_as_tensor(value, tensor) for value, tensor in zip(found, call.results)]


def _number(operand: Operand, quantization: Quantization | None) -> Operand:
    """An input as what rows compute with."""
    if not isinstance(operand, Value):
        return operand
    return computable(operand) if quantization is None else dequantized(operand, quantization)


def _as_tensor(value: Operand, tensor: Tensor) -> Operand:
    """A result of a row as what the file says."""
    if not isinstance(value, Value) or not value.dtype.is_float or tensor.dtype is None:
        return value
    if quantization_of(tensor):
        return quantized_as(value, tensor)
    return convert(value, tensor.dtype) if tensor.dtype.kind == "n" else value
