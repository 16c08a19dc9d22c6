"""ONNX quantization: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear."""

from __future__ import annotations

import numpy as np

import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.errors import ModelError
from brim.frontends.bounds import front, ramp
from brim.frontends.onnx.table import MICROSOFT, Call, operator
from brim.frontends.onnx.tensors import element
from brim.graph import Value, const
from brim.ops.storage import FORMATS, convert
from brim.types import BF16, F32, I2, I4, U2, U4, U8, DType

_NARROW = (*FORMATS, I4, U4, I2, U2)  # the storage types that quantized numbers may have


def _parameter(value: Value, x: Value, axis: int, block: int) -> Value:
    """A scale or zero point shaped to broadcast to x: one number, one per slice, or blocks."""
    if not value.shape or (value.type.size == 1 and not block):
        return p.reshape(value, shape=())
    rank = len(x.shape)
    axis = front(axis, rank)
    if block:
        return _blocks(value, x, axis, block)
    if value.shape != (x.shape[axis],):
        raise ModelError(f"{value.type} does not fit axis {axis} of {x.type}")
    return p.reshape(value, shape=tuple(n if i == axis else 1 for i, n in enumerate(x.shape)))


def _blocks(value: Value, x: Value, axis: int, block: int) -> Value:
    """A parameter for each `block` elements along an axis, repeated for each element."""
    n = x.shape[axis]
    count = -(-n // block) if block > 0 else -1
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    if value.shape != (*before, count, *after):
        raise ModelError(
            f"blocks of {block} along axis {axis} do not fit {x.type} and {value.type}"
        )
    if n % block:
        return p.gather(value, const(ramp(n) // block), axis=axis)
    apart = p.reshape(value, shape=(*before, count, 1, *after))
    return p.reshape(p.broadcast(apart, shape=(*before, count, block, *after)), shape=x.shape)


def _zero(call: Call, dtype: DType, x: Value) -> Value:
    """The zero point, 0 of `dtype` where it is left out, shaped to broadcast to x."""
    zero = call.get(2)
    if zero is None:
        return q.zero_like(dtype)
    if zero.dtype != dtype:
        raise ModelError(f"the zero point is {zero.type}, the quantized numbers are {dtype}")
    return _parameter(zero, x, call.int("axis", 1), call.int("block_size", 0))


@operator("QuantizeLinear", storage=True)
@operator("QuantizeLinear", domain=MICROSOFT, storage=True)
def quantize_linear(call: Call) -> Value:
    x, scale, saturate = call[0], call[1], call.flag("saturate", True)
    axis, block = call.int("axis", 1), call.int("block_size", 0)
    number, precision = call.int("output_dtype", 0), call.int("precision", 0)
    zero = call.get(2)
    dtype = element(number) if number else U8 if zero is None else zero.dtype
    if not (dtype.is_integer and dtype.bits <= 16) and dtype not in _NARROW:
        raise call.unsupported(f"results of type {dtype}")
    wide = element(precision) if precision else scale.dtype
    if not precision and not wide.is_float and wide != BF16:  # f8e8m0, i32: no type to divide in
        wide = x.dtype if x.dtype.is_float or x.dtype == BF16 else F32
    if not wide.is_float and wide != BF16:
        raise call.unsupported(f"precision {wide}")
    scale = convert(_parameter(scale, x, axis, block), wide)
    if dtype.is_whole:
        return q.quantize(x, scale, _zero(call, dtype, x))
    return q.quantize_float(x, scale, _zero(call, dtype, x), saturate=saturate)


@operator("DequantizeLinear", storage=True)
@operator("DequantizeLinear", domain=MICROSOFT, storage=True)
def dequantize_linear(call: Call) -> Value:
    x, scale = call[0], call[1]
    axis, block = call.int("axis", 1), call.int("block_size", 0)
    number = call.int("output_dtype", 0)
    dtype = element(number) if number else scale.dtype
    if not dtype.is_float and dtype != BF16:
        raise ModelError(f"{call.node.op} cannot give {dtype}", hint="output_dtype: a float type")
    if not x.dtype.is_integer and x.dtype not in _NARROW:
        raise call.unsupported(f"{x.dtype}")
    shaped = _parameter(scale, x, axis, block)
    if scale.dtype != dtype:
        shaped = convert(shaped, F32)
    return convert(q.dequantize(x, shaped, _zero(call, x.dtype, x)), dtype)


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(call: Call) -> tuple[Value, Value, Value]:
    return dynamically_quantized(call[0])


def dynamically_quantized(x: Value) -> tuple[Value, Value, Value]:
    """x as u8, its scale and its zero point, such that they reach from min(x, 0) to max(x, 0)."""
    axes = tuple(range(len(x.shape)))
    high = p.maximum(p.reshape(p.reduce(x, op="max", axes=axes), shape=()), 0)
    low = p.minimum(p.reshape(p.reduce(x, op="min", axes=axes), shape=()), 0)
    scale = p.div(p.sub(high, low), 255)
    empty = p.eq(scale, 0)  # all zeros: any scale will do
    scale = p.select(empty, const(np.float32(1)), scale)
    zero = p.rint(p.minimum(p.maximum(p.div(p.neg(low), scale), 0), 255))
    zero = p.cast(zero, to=U8)
    return q.quantize(x, scale, zero), scale, zero
