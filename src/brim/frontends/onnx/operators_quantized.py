"""ONNX quantization: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear."""

from __future__ import annotations

import numpy as np

import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.errors import ModelError
from brim.frontends.onnx.table import Call, front, operator, ramp
from brim.frontends.onnx.tensors import element
from brim.graph import Value, const
from brim.types import F16, F32, U8


def _parameter(value: Value, x: Value, axis: int, block: int) -> Value:
    """A scale or zero point shaped to broadcast to x: one number, one per slice, or blocks."""
    if value.type.size == 1 and not block:
        return p.reshape(value, shape=())
    rank = len(x.shape)
    axis = front(axis, rank)
    if block:
        if len(value.shape) != rank or value.shape[axis] != -(-x.shape[axis] // block):
            raise ModelError(f"blocks of {block} do not fit {x.type} and {value.type}")
        index = const(ramp(x.shape[axis]) // block)
        return p.gather(value, index, axis=axis)
    if value.shape != (x.shape[axis],):
        raise ModelError(f"{value.type} does not fit axis {axis} of {x.type}")
    return p.reshape(value, shape=tuple(n if i == axis else 1 for i, n in enumerate(x.shape)))


@operator("QuantizeLinear")
def quantize_linear(call: Call) -> Value:
    call.ignore("saturate")
    x, scale = call[0], call[1]
    axis, block = call.int("axis", 1), call.int("block_size", 0)
    number, precision = call.int("output_dtype", 0), call.int("precision", 0)
    if precision and element(precision) != scale.dtype:
        raise call.unsupported(f"precision {precision}")
    zero = call.get(2)
    if zero is None:
        dtype = element(number) if number else U8
        if not dtype.is_integer:
            raise call.unsupported(f"output type {dtype}")
        zero = q.zero_like(dtype)
    else:
        zero = _parameter(zero, x, axis, block)
    if not x.dtype.is_float:
        x = p.cast(x, to=F32)
    scale = _parameter(scale, x, axis, block)
    if scale.dtype != x.dtype:
        scale = p.cast(scale, to=x.dtype)
    if x.dtype == F16:
        raise call.unsupported("f16")
    return q.quantize(x, scale, zero)


@operator("DequantizeLinear")
def dequantize_linear(call: Call) -> Value:
    x, scale = call[0], call[1]
    axis, block = call.int("axis", 1), call.int("block_size", 0)
    number = call.int("output_dtype", 0)
    if number and element(number) != scale.dtype:
        raise call.unsupported(f"output type {element(number)}")
    zero = call.get(2)
    zero = q.zero_like(x.dtype) if zero is None else _parameter(zero, x, axis, block)
    return q.dequantize(x, _parameter(scale, x, axis, block), zero)


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(call: Call) -> tuple[Value, Value, Value]:
    x = call[0]
    axes = tuple(range(len(x.shape)))
    high = p.maximum(p.reshape(p.reduce(x, op="max", axes=axes), shape=()), 0)
    low = p.minimum(p.reshape(p.reduce(x, op="min", axes=axes), shape=()), 0)
    scale = p.div(p.sub(high, low), 255)
    empty = p.eq(scale, 0)  # all zeros: any scale will do
    scale = p.select(empty, const(np.float32(1)), scale)
    zero = p.rint(p.minimum(p.maximum(p.div(p.neg(low), scale), 0), 255))
    zero = p.cast(zero, to=U8)
    return q.quantize(x, scale, zero), scale, zero
