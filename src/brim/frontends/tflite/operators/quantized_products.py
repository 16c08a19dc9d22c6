"""Convolutions, fully connected layers and matrix products of quantized numbers.

Sums are integers, exact; they become the result's integers at the end (`requantized`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.errors import ModelError
from brim.frontends.tflite.arithmetic import linear, requantized
from brim.frontends.tflite.operators.activation import quantized_bounds
from brim.frontends.tflite.operators.convolution import (
    padded,
    rows_for,
    transposed,
    windows,
)
from brim.frontends.tflite.table import Call, quantized
from brim.graph import Value, const
from brim.types import I8, I16, I32, I64, U8

LARGEST_SUM = (1 << 31) - 1
Product = Callable[[Value, int], Value]  # of activations and their zero point: sums in i32


def weights(call: Call, index: int) -> tuple[Value, np.ndarray]:
    """Integers whose zero point is taken off, and their scales f32, one or one a channel."""
    found, w = call.quantization(index), call[index]
    if found is None:
        raise ModelError(f"{call.name} has weights without scales")
    if not (np.isfinite(found.scale).all() and (found.scale >= 0).all()):
        raise ModelError(f"{call.name} has weights with scales that are no positive numbers")
    shape = (
        () if found.per_tensor else tuple(-1 if i == found.axis else 1 for i in range(len(w.shape)))
    )
    zero = found.zero.reshape(shape)
    scale = found.scale.ravel() if not found.per_tensor else found.scale.reshape(())
    if w.data is not None:
        return q.centred_weights(w.data.astype(np.int16), zero), scale
    if not zero.any():
        return w, scale
    return p.sub(p.cast(w, to=I16), const(zero.astype(np.int16))), scale


def finished(call: Call, x: int, w: Value, scale: np.ndarray, bias: int, product: Product) -> Value:
    """The result of an operator: sums of products, the bias, the scale, the activation.

    x: the number of the input with the activations; w, scale: of `weights`; bias: of its input.
    """
    unit, zero = linear(call.tensors[x])
    total = with_bias(call, bias, sums(call[x], zero, w, product, bound(call.get(bias))))
    return requantized(total, unit * scale, call.result(), quantized_bounds(call))


def sums(x: Value, zero: int, w: Value, product: Product, bias: int = 0) -> Value:
    """Sums of (x - zero) * w in i32, in i64 where a sum and its bias might be larger."""
    if x.dtype != I16:
        return product(x, zero)
    terms = w.type.size // max(w.shape[-1], 1)
    largest = terms * 128 if w.data is None else magnitudes(w.data)
    if (largest << 15) + bias <= LARGEST_SUM:
        return product(x, zero)
    high = product(p.cast(p.shift_right(x, 8), to=I8), 0)  # x = 256 * high + low
    low = product(p.cast(p.bit_and(x, 255), to=U8), 0)
    return p.add(p.mul(p.cast(high, to=I64), 256), p.cast(low, to=I64))


def magnitudes(w: np.ndarray) -> int:
    """The largest sum of |w| over all axes but the last."""
    total = np.abs(w.astype(np.int64)).sum(tuple(range(w.ndim - 1)))
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
    w, scale = weights(call, 1)
    w = p.transpose(w, perm=(1, 2, 3, 0))  # [O, kH, kW, C / groups] in the file
    return _conv(call, w, scale, call[0].shape[-1] // w.shape[-2])


@quantized("DEPTHWISE_CONV_2D")
def depthwise_conv_2d(call: Call) -> Value:
    call.ignore("depth_multiplier")
    w, scale = weights(call, 1)
    w = p.reshape(w, shape=(*w.shape[1:3], 1, w.shape[3]))  # [1, kH, kW, O] in the file
    return _conv(call, w, scale, call[0].shape[-1])


def _conv(call: Call, w: Value, scale: np.ndarray, groups: int) -> Value:
    kernel, stride = w.shape[:2], windows(call, "hw", "stride_")
    dilation = windows(call, "hw", "dilation_", "_factor")
    low, high = padded(call, call[0].shape[1:-1], kernel, stride, dilation)

    def product(x: Value, zero: int) -> Value:
        return q.conv_i32(
            x, w, zero=zero, stride=stride, dilation=dilation, low=low, high=high, groups=groups
        )

    return finished(call, 0, w, scale, 2, product)


@quantized("TRANSPOSE_CONV")
def transpose_conv(call: Call) -> Value:
    call.ignore("quantized_bias_type")
    w, scale = weights(call, 1)
    w = p.transpose(w, perm=(1, 2, 3, 0))  # [O, kH, kW, C] in the file
    sizes, stride = call.integers(0)[1:3], windows(call, "hw", "stride_")

    def product(x: Value, zero: int) -> Value:
        # gaps between inputs are zeros, so x - zero has to be made: it does not fit 8 bits
        x = p.sub(p.cast(x, to=I16), zero) if zero else x
        return transposed(call, x, w, sizes, stride)

    return finished(call, 2, w, scale, 3, product)


@quantized("FULLY_CONNECTED")
def fully_connected(call: Call) -> Value:
    call.ignore("asymmetric_quantize_inputs", "quantized_bias_type")
    if call.choice("weights_format", ("default", "shuffled"), 0) != "default":
        raise call.unsupported("shuffled weights")
    w, scale = weights(call, 1)  # [O, C] in the file
    w = p.transpose(w, perm=(1, 0))
    return finished(
        call, 0, w, scale, 2,
        lambda x, zero: q.matmul_i32(rows_for(call, x, call[1]), w, zero=zero),
    )  # fmt: skip


@quantized("BATCH_MATMUL")
def batch_matmul(call: Call) -> Value:
    call.ignore("asymmetric_quantize_inputs")
    w, scale = weights(call, 1)
    w = swapped(w) if call.flag("adj_y") else w

    def product(x: Value, zero: int) -> Value:
        return q.matmul_i32(swapped(x) if call.flag("adj_x") else x, w, zero=zero)

    return finished(call, 0, w, scale, len(call), product)


def swapped(x: Value) -> Value:
    """x with its last two axes exchanged."""
    rank = len(x.shape)
    return p.transpose(x, perm=(*range(rank - 2), rank - 1, rank - 2))
