"""ONNX products of quantized tensors: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv."""

from __future__ import annotations

import brim.ops.math as m
import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.frontends.onnx.operators_nn import channels_first, convolve
from brim.frontends.onnx.table import Call, operator
from brim.graph import Value
from brim.types import F32, I32


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
