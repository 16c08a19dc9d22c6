"""ONNX quantization: QuantizeLinear and its inverse, and products of quantized tensors."""

from __future__ import annotations

import numpy as np

import brim.ops.math as m
import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.errors import ModelError
from brim.frontends.onnx.operators_nn import channels_first, convolve
from brim.frontends.onnx.table import Call, front, operator, ramp
from brim.frontends.onnx.tensors import element
from brim.graph import Value, const
from brim.types import F16, F32, I32, U8


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


@operator("MatMulInteger")
def matmul_integer(call: Call) -> Value:
    a, b = call[0], call[1]
    return m.matmul(q.centred(a, _rows(call.get(2), a)), q.centred(b, _columns(call.get(3), b)))


def _rows(zero: Value | None, a: Value) -> Value | None:
    """A zero point of matrix a: one number, or one for each row."""
    if zero is None or zero.type.size == 1:
        return None if zero is None else p.reshape(zero, shape=())
    return p.reshape(zero, shape=(*zero.shape, 1)) if len(zero.shape) == 1 else zero


def _columns(zero: Value | None, b: Value) -> Value | None:
    """A zero point of matrix b: one number, or one for each column."""
    if zero is None or zero.type.size == 1:
        return None if zero is None else p.reshape(zero, shape=())
    return zero


@operator("QLinearMatMul")
def qlinear_matmul(call: Call) -> Value:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (call[i] for i in range(8))
    total = m.matmul(q.centred(a, _rows(a_zero, a)), q.centred(b, _columns(b_zero, b)))
    scales = [_rows(a_scale, a), _columns(b_scale, b), _rows(y_scale, a)]
    sa, sb, sy = (p.cast(s, to=F32) for s in scales if s is not None)
    zero = _rows(y_zero, a)
    assert zero is not None
    return q.requantize(total, p.div(p.mul(sa, sb), sy), zero)


@operator("ConvInteger")
def conv_integer(call: Call) -> Value:
    x, w = call[0], call[1]
    x = q.centred(x, call.get(2) and p.reshape(call[2], shape=()))
    w = q.centred(w, _filters(call.get(3), w))
    return channels_first(convolve(call, x, w))


def _filters(zero: Value | None, w: Value) -> Value | None:
    """A parameter of filters w[O, C, *kernel]: one number, or one for each filter."""
    if zero is None or zero.type.size == 1:
        return None if zero is None else p.reshape(zero, shape=())
    return p.reshape(zero, shape=(w.shape[0], *(1,) * (len(w.shape) - 1)))


@operator("QLinearConv")
def qlinear_conv(call: Call) -> Value:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = (call[i] for i in range(8))
    scalar = (x_scale, x_zero, y_scale, y_zero)
    x_scale, x_zero, y_scale, y_zero = (p.reshape(v, shape=()) for v in scalar)
    total = convolve(call, q.centred(x, x_zero), q.centred(w, _filters(w_zero, w)))
    if call.given(8):
        total = p.add(total, p.cast(call[8], to=I32))
    w_scale = p.reshape(w_scale, shape=()) if w_scale.type.size == 1 else w_scale
    scale = p.div(p.mul(x_scale, w_scale), y_scale)
    return channels_first(q.requantize(total, scale, y_zero))
