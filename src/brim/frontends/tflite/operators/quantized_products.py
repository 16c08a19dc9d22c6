"""Convolutions, fully connected layers and matrix products of quantized numbers.

Sums are integers, exact; they become the result's integers at the end (`requantized`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.errors import ModelError
from brim.frontends.tflite.arithmetic import linear, requantized
from brim.frontends.tflite.operators import hybrid
from brim.frontends.tflite.operators.activation import activated, quantized_bounds
from brim.frontends.tflite.operators.convolution import (
    padded,
    rows_for,
    transposed,
    windows,
)
from brim.frontends.tflite.operators.hybrid import Product, Spread
from brim.frontends.tflite.table import Call, quantized
from brim.graph import Value, const
from brim.ops.nn import crop_or_pad
from brim.types import F64, I2, I4, I8, I16, I32, I64, DType

LARGEST_SUM = (1 << 31) - 1


@dataclass(frozen=True, eq=False)
class Weights:
    """Integers whose zero point is taken off, and their scales f32, one or one a channel."""

    value: Value
    scale: np.ndarray
    kind: DType  # in the file

    def moved(self, value: Value) -> Weights:
        return replace(self, value=value)


def weights(call: Call, x: int, index: int) -> Weights:
    """Input `index` as weights of the activations `x`. Raises ModelError."""
    found, w = call.quantization(index), call[index]
    if found is None:
        raise ModelError(f"{call.name} has weights without scales")
    if not (np.isfinite(found.scale).all() and (found.scale >= 0).all()):
        raise ModelError(f"{call.name} has weights with scales that are no positive numbers")
    rank = len(w.shape)
    shape = () if found.per_tensor else tuple(-1 if i == found.axis else 1 for i in range(rank))
    zero = found.zero.reshape(shape)
    scale = found.scale.reshape(() if found.per_tensor else -1)
    if call[x].dtype.is_float:
        value = hybrid.signed(w, zero)
    elif w.data is not None:
        value = q.centred_weights(w.data.astype(np.int16), zero)
    elif zero.any():
        value = p.sub(p.cast(w, to=I16), const(zero.astype(np.int16)))
    else:
        value = w
    return Weights(value, scale, w.dtype)


def layer(call: Call, x: int, w: Weights, bias: int, product: Product, spread: Spread) -> Value:
    """The result of an operator: sums of products, the bias, the scale, the activation.

    x, bias: numbers of inputs. spread: of activations that are floats.
    """
    if call[x].dtype.is_float:
        y = hybrid.real_sums(call[x], w.value, w.scale, product, spread)
        return activated(call, y if call.get(bias) is None else p.add(y, call[bias]))
    unit, zero = linear(call.tensors[x])
    total = with_bias(call, bias, sums(call[x], zero, w.value, product, bound(call.get(bias))))
    return requantized(total, unit * w.scale, call.result(), quantized_bounds(call))


def sums(x: Value, zero: int, w: Value, product: Product, bias: int = 0) -> Value:
    """Sums of (x - zero) * w in i32, in i64 where a sum and its bias might be larger."""
    if x.dtype != I16:
        return product(x, w, zero)
    if (magnitude(w) << 15) + bias <= LARGEST_SUM:
        return product(x, w, 0)
    return p.cast(product(p.cast(x, to=F64), p.cast(w, to=F64), 0), to=I64)  # exact below 2^53


def magnitude(w: Value) -> int:
    """The largest sum of |w| over all axes but the last, or a bound of it."""
    if w.data is None:
        return (w.type.size // max(w.shape[-1], 1)) << (w.dtype.bits - 1)
    total = np.abs(w.data.astype(np.int64)).sum(tuple(range(w.data.ndim - 1)))
    return int(total.max(initial=0))


def bound(bias: Value | None) -> int:
    """The largest magnitude that a bias may have."""
    if bias is None:
        return 0
    if bias.data is None:
        return LARGEST_SUM
    return int(np.abs(bias.data.astype(np.float64)).max(initial=0))


def with_bias(call: Call, index: int, total: Value) -> Value:
    """Integer sums plus the bias, an i32 or i64 in their unit."""
    bias = call.get(index)
    if bias is None:
        return total
    if bias.dtype not in (I32, I64):
        raise ModelError(f"{call.name} has a bias of {bias.dtype} for integer sums")
    return p.add(total, p.cast(bias, to=total.dtype))


# ------------------------------------------------------------------ layers


@quantized("CONV_2D")
def conv_2d(call: Call) -> Value:
    call.ignore("quantized_bias_type")
    w = weights(call, 0, 1)
    w = w.moved(p.transpose(w.value, perm=(1, 2, 3, 0)))  # [O, kH, kW, C / groups] in the file
    even = w.kind == I8 or w.scale.ndim > 0
    return _conv(call, w, call[0].shape[-1] // w.value.shape[-2], even)


@quantized("DEPTHWISE_CONV_2D")
def depthwise_conv_2d(call: Call) -> Value:
    call.ignore("depth_multiplier")
    w = weights(call, 0, 1)
    shape = w.value.shape  # [1, kH, kW, O] in the file
    w = w.moved(p.reshape(w.value, shape=(*shape[1:3], 1, shape[3])))
    return _conv(call, w, call[0].shape[-1], True)


def _conv(call: Call, w: Weights, groups: int, even: bool) -> Value:
    kernel, stride = w.value.shape[:2], windows(call, "hw", "stride_")
    dilation = windows(call, "hw", "dilation_", "_factor")
    low, high = padded(call, call[0].shape[1:-1], kernel, stride, dilation)
    if call[0].dtype.is_float:  # zeros are padded while they are zeros
        call = replace(call, inputs=(crop_or_pad(call[0], low, high), *call.inputs[1:]))
        low = high = (0, 0)
    form = {"stride": stride, "dilation": dilation, "low": low, "high": high, "groups": groups}
    # XNNPACK makes a fully connected layer of a convolution of single pixels
    pixels = kernel == stride == (1, 1) and groups == 1 and w.kind == I8
    spread = Spread(even, (3,) if pixels else (1, 2, 3), (0, 1, 2))
    return layer(call, 0, w, 2, lambda x, w, zero: q.conv_i32(x, w, zero=zero, **form), spread)


@quantized("TRANSPOSE_CONV")
def transpose_conv(call: Call) -> Value:
    call.ignore("quantized_bias_type")
    w = weights(call, 2, 1)
    w = w.moved(p.transpose(w.value, perm=(1, 2, 3, 0)))  # [O, kH, kW, C] in the file
    sizes, stride = call.integers(0)[1:3], windows(call, "hw", "stride_")

    def product(x: Value, w: Value, zero: int) -> Value:
        # gaps between inputs are zeros, so x - zero has to be made: it does not fit 8 bits
        x = p.sub(p.cast(x, to=I16), zero) if zero else x
        return transposed(call, x, w, sizes, stride)

    return layer(call, 2, w, 3, product, Spread(True, (1, 2, 3), None))


@quantized("FULLY_CONNECTED")
def fully_connected(call: Call) -> Value:
    asymmetric = call.flag("asymmetric_quantize_inputs")
    call.ignore("quantized_bias_type", "keep_num_dims")
    if call.choice("weights_format", ("default", "shuffled"), 0) != "default":
        raise call.unsupported("shuffled weights")
    w = weights(call, 0, 1)  # [O, C] in the file
    w = w.moved(p.transpose(w.value, perm=(1, 0)))
    columns, per_channel = w.value.shape[0], w.scale.ndim > 0
    by_xnnpack = (
        w.kind == I8
        or (w.kind == I4 and columns % 2 == 0)
        or (w.kind == I2 and columns % 4 == 0 and per_channel)
    )
    call = replace(call, inputs=(rows_for(call, call[0], call[1]), *call.inputs[1:]))

    return _rows(call, w, 2, by_xnnpack or asymmetric)


@quantized("BATCH_MATMUL")
def batch_matmul(call: Call) -> Value:
    asymmetric = call.flag("asymmetric_quantize_inputs")
    w = weights(call, 0, 1)
    w = w.moved(swapped(w.value)) if call.flag("adj_y") else w
    if call.flag("adj_x"):
        call = replace(call, inputs=(swapped(call[0]), *call.inputs[1:]))

    return _rows(call, w, len(call), w.kind == I8 or asymmetric)


def _rows(call: Call, w: Weights, bias: int, even: bool) -> Value:
    spread = Spread(even, (len(call[0].shape) - 1,), (len(w.value.shape) - 2,))
    return layer(call, 0, w, bias, lambda x, w, zero: q.matmul_i32(x, w, zero=zero), spread)


def swapped(x: Value) -> Value:
    """x with its last two axes exchanged."""
    rank = len(x.shape)
    return p.transpose(x, perm=(*range(rank - 2), rank - 1, rank - 2))
