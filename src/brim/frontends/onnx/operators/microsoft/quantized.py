"""onnxruntime's operators on quantized tensors (com.microsoft): QLinearAdd, QGemm, ...

Their arithmetic is onnxruntime's to the bit where it is known: a network of a hundred layers turns
one number that is rounded the other way into a different result. Integer products are
`operators/integer.py`, ONNX's own quantization is `operators/quantized.py`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import brim.ops.math as m
import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.errors import ModelError
from brim.frontends.bounds import front
from brim.frontends.onnx.operators.integer import matmul_sums, of_columns, of_rows
from brim.frontends.onnx.operators.microsoft.contrib import contrib, number
from brim.frontends.onnx.operators.nn import (
    average_windows,
    channels_first,
    channels_last,
    max_pool,
)
from brim.frontends.onnx.operators.quantized import dynamically_quantized
from brim.frontends.onnx.operators.rnn import Layers, recurrent_layers
from brim.frontends.onnx.table import MICROSOFT, Call, fronts, operator
from brim.graph import Value, const
from brim.ops.rnn import Product, part
from brim.types import F32, F64, I32, Type


def _zero(call: Call, index: int, like: Value) -> Value:
    """A zero point of the element type of `like`; 0 where it is left out."""
    found = call.get(index)
    return q.zero_like(like.dtype) if found is None else p.reshape(found, shape=())


def _real(call: Call, first: int) -> Value:
    """Inputs first, first + 1 and first + 2 (tensor, scale, zero point) as real numbers in f32."""
    x = call[first]
    return q.dequantize(x, number(call, first + 1), _zero(call, first + 2, x))


# ------------------------------------------------------------------ element by element


@contrib("QLinearAdd")
def qlinear_add(call: Call) -> Value:
    a, b = call[0], call[3]
    a_zero, b_zero, y_zero = _zero(call, 2, a), _zero(call, 5, b), _zero(call, 7, a)
    y_scale = number(call, 6)
    a_ratio, b_ratio = (p.div(number(call, i), y_scale) for i in (1, 4))
    # one multiply-add after the other, each rounded to f32 once: f64 holds the products exactly
    offset = _multiply_add(b_zero, b_ratio, p.mul(p.cast(a_zero, to=F32), a_ratio))
    start = p.sub(p.cast(y_zero, to=F32), offset)
    total = _multiply_add(a, a_ratio, _multiply_add(b, b_ratio, start))
    return q.nearest(total, q.zero_like(y_zero.dtype))


def _multiply_add(x: Value, factor: Value, summand: Value) -> Value:
    """x * factor + summand in f32, rounded once."""
    product = p.mul(p.cast(x, to=F64), p.cast(factor, to=F64))
    return p.cast(p.add(product, p.cast(summand, to=F64)), to=F32)


@contrib("QLinearMul")
def qlinear_mul(call: Call) -> Value:
    a, b = call[0], call[3]
    y_zero = _zero(call, 7, a)
    centred = (q.centred(x, _zero(call, i, x), F32) for x, i in ((a, 2), (b, 5)))
    scale = p.div(p.mul(number(call, 1), number(call, 4)), number(call, 6))
    y = p.add(p.mul(p.mul(*centred), scale), p.cast(y_zero, to=F32))
    return q.nearest(y, q.zero_like(y_zero.dtype))


@contrib("QLinearSigmoid", "QLinearLeakyRelu")
def qlinear_activation(call: Call) -> Value:
    x = _real(call, 0)
    if call.node.op == "QLinearSigmoid":
        y = m.sigmoid(x)
    else:
        y = m.leaky_relu(x, alpha=call.float("alpha", 0.01))
    return q.quantize(y, number(call, 3), _zero(call, 4, call[0]))


@contrib("QLinearWhere", gives=(1,))
def qlinear_where(call: Call) -> Value:
    scale, zero = number(call, 7), _zero(call, 8, call[1])
    x, y = (q.quantize(_real(call, first), scale, zero) for first in (1, 4))
    return p.select(call[0], x, y)


@contrib("QLinearConcat", gives=(1,))
def qlinear_concat(call: Call) -> Value:
    count, rest = divmod(len(call.inputs) - 2, 3)
    if count < 1 or rest:
        raise ModelError(f"QLinearConcat with {len(call.inputs)} inputs", why="2 + 3 for each part")
    scale, zero = number(call, 0), _zero(call, 1, call[1])
    parts = [q.quantize(_real(call, 2 + 3 * i), scale, zero) for i in range(count)]
    return p.concat(*parts, axis=front(call.int("axis"), len(parts[0].shape)))


# ------------------------------------------------------------------ over axes and windows


@contrib("QLinearSoftmax")
def qlinear_softmax(call: Call) -> Value:
    x, axis = _real(call, 0), call.axis("axis", -1)
    shape = x.shape
    if call.int("opset") < 13:  # over all axes from `axis` on
        x = p.reshape(x, shape=(*shape[:axis], math.prod(shape[axis:])))
    y = p.reshape(m.softmax(x, axis=axis), shape=shape)
    return q.quantize(y, number(call, 3), _zero(call, 4, call[0]))


@contrib("QLinearReduceMean")
def qlinear_reduce_mean(call: Call) -> Value:
    x = _real(call, 0)
    axes = fronts(call.ints("axes"), len(x.shape)) or tuple(range(len(x.shape)))
    y = m.reduce_mean(x, axes=axes)
    if not call.flag("keepdims", True):
        y = p.reshape(y, shape=tuple(n for i, n in enumerate(y.shape) if i not in axes))
    return q.quantize(y, number(call, 3), _zero(call, 4, call[0]))


@contrib("QLinearAveragePool")
def qlinear_average_pool(call: Call) -> Value:
    last, x = call.flag("channels_last"), _real(call, 0)
    operand = replace(call, inputs=(channels_first(x) if last else x,))
    y = average_windows(operand, counts_overhang=True)
    y = q.quantize(y, number(call, 3), _zero(call, 4, call[0]))
    return channels_last(y) if last else y


@contrib("QLinearGlobalAveragePool")
def qlinear_global_average_pool(call: Call) -> Value:
    last, x = call.flag("channels_last"), call[0]
    x = q.centred(x, _zero(call, 2, x))
    axes = tuple(range(1, len(x.shape) - 1) if last else range(2, len(x.shape)))
    total = p.reduce(x, op="add", axes=axes)
    count = math.prod(x.shape[axis] for axis in axes)
    scale = p.div(number(call, 1), p.mul(number(call, 3), count))
    return q.requantize(total, scale, _zero(call, 4, call[0]))


@contrib("NhwcMaxPool")
def nhwc_max_pool(call: Call) -> Value:
    y = max_pool(replace(call, inputs=(channels_first(call[0]),)))
    assert isinstance(y, Value)
    return channels_last(y)


# ------------------------------------------------------------------ products


@contrib("MatMulInteger16", gives=(I32,))
def matmul_integer_16(call: Call) -> Value:
    return m.matmul(p.cast(call[0], to=I32), p.cast(call[1], to=I32))


@contrib("MatMulIntegerToFloat", gives=(F32,))
def matmul_integer_to_float(call: Call) -> Value:
    return _matmul_to_float(call, call[0], call[2], call.get(4), (3, 5, 6))


@contrib("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(call: Call) -> Value:
    a, scale, zero = dynamically_quantized(call[0])
    return _matmul_to_float(call, a, scale, zero, (2, 3, 4))


def _matmul_to_float(
    call: Call, a: Value, a_scale: Value, a_zero: Value | None, rest: tuple[int, int, int]
) -> Value:
    """a @ b in f32, plus a bias; rest: where the scale and zero point of b and the bias are."""
    b, b_scale = call[1], of_columns(call[rest[0]])
    rows = of_rows(a_scale, a)
    assert rows is not None
    total = p.cast(matmul_sums(a, a_zero, b, call.get(rest[1])), to=F32)
    y = p.mul(total, p.mul(rows, b_scale))
    return p.add(y, call[rest[2]]) if call.given(rest[2]) else y


def _qgemm_types(call: Call) -> list[Type]:
    return [Type(None, call[8].dtype if call.given(8) else F32)]


@operator("QGemm", domain=MICROSOFT, types=_qgemm_types)
def qgemm(call: Call) -> Value:
    a, b, alpha = call[0], call[3], call.float("alpha", 1.0)
    a = p.transpose(a, perm=(1, 0)) if call.flag("transA") else a
    b = p.transpose(b, perm=(1, 0)) if call.flag("transB") else b
    total = matmul_sums(a, _zero(call, 2, a), b, call.get(5))
    if call.given(6):
        total = p.add(total, call[6])
    b_scale = of_columns(call[4])
    scale = p.mul(p.mul(number(call, 1), b_scale), alpha)
    if not call.given(8):
        return p.mul(p.cast(total, to=F32), scale)
    return q.requantize(total, p.div(scale, number(call, 7)), _zero(call, 8, a))


# ------------------------------------------------------------------ recurrent layers


@contrib("DynamicQuantizeLSTM", gives=(F32, F32, F32))
def dynamic_quantize_lstm(call: Call) -> tuple[Value, ...]:
    w, r = (p.transpose(call[i], perm=(0, 2, 1)) for i in (1, 2))
    # constant: a step of a loop sees its surroundings only through its inputs
    parameters = [const(call.array(i)) for i in range(8, 12)]

    def products(d: int) -> tuple[Product, Product]:
        w_scale, w_zero, r_scale, r_zero = (_direction(v, d) for v in parameters)
        return _dynamic_product(w_scale, w_zero), _dynamic_product(r_scale, r_zero)

    return recurrent_layers(call, Layers("LSTM", w, r, products))


def _direction(parameter: Value, d: int) -> Value:
    """A scale or zero point of direction d: one number, or one for each gate's unit."""
    row = part(parameter, d, 1, 0)
    return p.reshape(row, shape=() if row.type.size == 1 else row.shape[1:])


def _dynamic_product(scale: Value, zero: Value) -> Product:
    """values[.., I], quantized as a whole, times weights[G, I]."""

    def product(x: Value, weights: Value) -> Value:
        a, a_scale, a_zero = dynamically_quantized(x)
        total = matmul_sums(a, a_zero, p.transpose(weights, perm=(1, 0)), zero)
        return p.mul(p.cast(total, to=F32), p.mul(a_scale, scale))

    return product
