"""ONNX products of quantized tensors: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv.

The sums are exact, as ONNX demands. onnxruntime's own ones are `microsoft/quantized.py`.
"""

from __future__ import annotations

from functools import partial

import numpy as np

import brim.ops.math as m
import brim.ops.nn as nn
import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.frontends.onnx.operators.nn import channels_first, convolve
from brim.frontends.onnx.table import MICROSOFT, Call, operator
from brim.graph import Value
from brim.types import F32, I32, DType


def sum_type(x: Value, w: Value, zero: Value | None, summed: tuple[int, ...]) -> DType:
    """In which type sums of (x - its zero) * (w - zero) over the axes `summed` of w are exact.

    F32, whose products are many times faster, where w is constant and no partial sum can leave the
    integers that f32 has; else I32.
    """
    if w.data is None or (zero is not None and zero.data is None) or x.dtype.bits > 8:
        return I32
    low, high = q.limits(x.dtype)
    centred = np.abs(w.data - (np.float32(0) if zero is None else zero.data.astype(np.float32)))  # type: ignore[union-attr]
    largest = centred.sum(axis=summed, dtype=np.float64).max(initial=0) * (high - low)
    return F32 if largest <= 1 << 24 else I32


def _zero(zero: Value | None) -> int | None:
    """A zero point of a whole tensor; None: it is not known while compiling, or of each row."""
    if zero is None:
        return 0
    return int(zero.data.reshape(())) if zero.is_const and zero.type.size == 1 else None  # type: ignore[union-attr]


def _weights(w: Value, zero: Value | None) -> Value | None:
    """Constant weights of 8 bits without their zero points; None: they are not."""
    if not w.is_const or w.dtype.bits != 8 or not (zero is None or zero.is_const):
        return None
    return q.centred_weights(w.data, 0 if zero is None else zero.data)  # type: ignore[arg-type]


@operator("MatMulInteger")
def matmul_integer(call: Call) -> Value:
    return matmul_sums(call[0], call.get(2), call[1], call.get(3))


def _whole(total: Value) -> Value:
    """Exact sums as I32, in any case: a factor behind them must not find its way into weights."""
    return total if total.dtype == I32 else p.cast(total, to=I32)


def matmul_sums(a: Value, a_zero: Value | None, b: Value, b_zero: Value | None) -> Value:
    """(a - a_zero) @ (b - b_zero) in I32."""
    rows, columns = of_rows(a_zero, a), of_columns(b_zero)
    known, weights = _zero(rows), _weights(b, columns)
    if known is not None and weights is not None and a.dtype.bits == 8 and len(b.shape) > 1:
        return q.matmul_i32(a, weights, zero=known)
    kind = sum_type(a, b, columns, (max(len(b.shape) - 2, 0),))
    return _whole(m.matmul(q.centred(a, rows, kind), q.centred(b, columns, kind)))


def of_rows(parameter: Value | None, a: Value) -> Value | None:
    """A scale or zero point of matrix a: one number, or one for each row."""
    if parameter is None or parameter.type.size == 1:
        return None if parameter is None else p.reshape(parameter, shape=())
    if len(parameter.shape) == 1 and len(a.shape) > 1:
        return p.reshape(parameter, shape=(*parameter.shape, 1))
    return parameter


def of_columns(parameter: Value | None) -> Value | None:
    """A scale or zero point of matrix b: one number, or one for each column."""
    if parameter is None or parameter.type.size == 1:
        return None if parameter is None else p.reshape(parameter, shape=())
    return parameter


@operator("QLinearMatMul")
def qlinear_matmul(call: Call) -> Value:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (call[i] for i in range(8))
    total = matmul_sums(a, a_zero, b, b_zero)
    scales = [of_rows(a_scale, a), of_columns(b_scale), of_rows(y_scale, a)]
    sa, sb, sy = (p.cast(s, to=F32) for s in scales if s is not None)
    zero = of_rows(y_zero, a)
    assert zero is not None
    return q.requantize(total, p.div(p.mul(sa, sb), sy), zero)


@operator("ConvInteger")
def conv_integer(call: Call) -> Value:
    return channels_first(_conv_sums(call, call[0], call.get(2), call[1], call.get(3)))


def _conv_sums(call: Call, x: Value, x_zero: Value | None, w: Value, w_zero: Value | None) -> Value:
    """The convolution of x - x_zero with w - w_zero, channels-last, in I32."""
    x_zero = None if x_zero is None else p.reshape(x_zero, shape=())
    w_zero = _of_filters(w_zero, w)
    known, weights = _zero(x_zero), _weights(w, w_zero)
    if known is not None and weights is not None and x.dtype.bits == 8:
        return convolve(call, x, weights, partial(q.conv_i32, zero=known))
    kind = sum_type(x, w, w_zero, tuple(range(1, len(w.shape))))
    x, w = q.centred(x, x_zero, kind), q.centred(w, w_zero, kind)
    return _whole(convolve(call, x, w, partial(nn.conv, exact=True)))


def _of_filters(zero: Value | None, w: Value) -> Value | None:
    """A parameter of filters w[O, C, *kernel]: one number, or one for each filter."""
    if zero is None or zero.type.size == 1:
        return None if zero is None else p.reshape(zero, shape=())
    return p.reshape(zero, shape=(w.shape[0], *(1,) * (len(w.shape) - 1)))


@operator("QLinearConv")
def qlinear_conv(call: Call) -> Value:
    return channels_first(_qlinear_conv(call, call[0]))


@operator("QLinearConv", domain=MICROSOFT)
def qlinear_conv_layouts(call: Call) -> Value:
    if not call.flag("channels_last"):
        return channels_first(_qlinear_conv(call, call[0]))
    return _qlinear_conv(call, channels_first(call[0]))


def _qlinear_conv(call: Call, x: Value) -> Value:
    """The convolution of x[N, C, *spatial], channels-last."""
    x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = (call[i] for i in range(1, 8))
    x_scale, y_scale, y_zero = (p.reshape(v, shape=()) for v in (x_scale, y_scale, y_zero))
    total = _conv_sums(call, x, x_zero, w, w_zero)
    if call.given(8):
        total = p.add(total, p.cast(call[8], to=I32))
    w_scale = p.reshape(w_scale, shape=()) if w_scale.type.size == 1 else w_scale
    scale = p.div(p.mul(x_scale, w_scale), y_scale)
    return q.requantize(total, scale, y_zero)
