"""Convolutions, depthwise, transposed and in three dimensions; fully connected layers."""

from __future__ import annotations

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.tflite.operators.activation import activated
from brim.frontends.tflite.table import Call, operator
from brim.graph import Value
from brim.ops.math import matmul
from brim.ops.nn import conv, conv_transpose

Ints = tuple[int, ...]
PADDING = ("same", "valid")


def padded(
    call: Call, spatial: Ints, kernel: Ints, stride: Ints, dilation: Ints
) -> tuple[Ints, Ints]:
    """How much is added before and after each spatial axis, by the option `padding`."""
    if min(*spatial, *kernel, *stride, *dilation) < 1:
        raise ModelError(f"{call.name} with kernel {kernel}, stride {stride}, dilation {dilation}")
    return borders(call.choice("padding", PADDING), spatial, kernel, stride, dilation)


def borders(
    padding: str, spatial: Ints, kernel: Ints, stride: Ints, dilation: Ints
) -> tuple[Ints, Ints]:
    """How much is added before and after each spatial axis by a padding of "same" or "valid"."""
    if padding == "valid":
        return (0,) * len(spatial), (0,) * len(spatial)
    totals = [
        max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        for n, k, s, d in zip(spatial, kernel, stride, dilation)
    ]
    return tuple(n // 2 for n in totals), tuple(n - n // 2 for n in totals)


def with_bias(call: Call, y: Value, index: int = 2) -> Value:
    bias = call.get(index)
    return y if bias is None else p.add(y, bias)


def windows(call: Call, names: str, prefix: str = "", suffix: str = "") -> Ints:
    """Options of one kind for several axes: stride_h, stride_w."""
    return tuple(call.int(f"{prefix}{name}{suffix}", 1) for name in names)


@operator("CONV_2D")
def conv_2d(call: Call) -> Value:
    call.ignore("quantized_bias_type")  # says what the bias has anyway
    x, w = call[0], call[1]
    w = p.transpose(w, perm=(1, 2, 3, 0))  # [O, kH, kW, C / groups] in the file
    return activated(call, with_bias(call, _conv(call, x, w, x.shape[-1] // w.shape[-2])))


@operator("DEPTHWISE_CONV_2D")
def depthwise_conv_2d(call: Call) -> Value:
    call.ignore("depth_multiplier")  # the weights tell
    x, w = call[0], call[1]
    w = p.reshape(w, shape=(*w.shape[1:3], 1, w.shape[3]))  # [1, kH, kW, O] in the file
    return activated(call, with_bias(call, _conv(call, x, w, x.shape[-1])))


def _conv(call: Call, x: Value, w: Value, groups: int) -> Value:
    kernel, stride = w.shape[:2], windows(call, "hw", "stride_")
    dilation = windows(call, "hw", "dilation_", "_factor")
    low, high = padded(call, x.shape[1:-1], kernel, stride, dilation)
    return conv(x, w, stride=stride, dilation=dilation, low=low, high=high, groups=groups)


@operator("CONV_3D")
def conv_3d(call: Call) -> Value:
    x, w = call[0], call[1]  # w[kD, kH, kW, C / groups, O]
    stride, dilation = windows(call, "dhw", "stride_"), windows(call, "dhw", "dilation_", "_factor")
    low, high = padded(call, x.shape[1:-1], w.shape[:3], stride, dilation)
    groups = x.shape[-1] // w.shape[-2]
    y = conv(x, w, stride=stride, dilation=dilation, low=low, high=high, groups=groups)
    return activated(call, with_bias(call, y))


@operator("TRANSPOSE_CONV")
def transpose_conv(call: Call) -> Value:
    call.ignore("quantized_bias_type")
    w, x = call[1], call[2]
    w = p.transpose(w, perm=(1, 2, 3, 0))  # [O, kH, kW, C] in the file
    y = transposed(call, x, w, call.integers(0)[1:3], windows(call, "hw", "stride_"))
    return activated(call, with_bias(call, y, 3))


@operator("CONV_3D_TRANSPOSE")
def conv_3d_transpose(call: Call) -> Value:
    call.ignore("dilation_d_factor", "dilation_h_factor", "dilation_w_factor")  # LiteRT takes 1
    w, x = call[1], call[2]
    w = p.transpose(w, perm=(0, 1, 2, 4, 3))  # [kD, kH, kW, O, C] in the file
    y = transposed(call, x, w, call.integers(0)[1:4], windows(call, "dhw", "stride_"))
    return activated(call, with_bias(call, y, 3))


def transposed(call: Call, x: Value, w: Value, sizes: Ints, stride: Ints) -> Value:
    """A transposed convolution whose result has `sizes` spatial elements."""
    ones = (1,) * len(stride)
    low, _ = padded(call, sizes, w.shape[: len(sizes)], stride, ones)
    whole = tuple((n - 1) * s + k for n, s, k in zip(x.shape[1:-1], stride, w.shape))
    high = tuple(n - a - m for n, a, m in zip(whole, low, sizes))
    return conv_transpose(x, w, stride=stride, dilation=ones, low=low, high=high, groups=1)


@operator("Convolution2DTransposeBias")
def convolution_2d_transpose_bias(call: Call) -> Value:
    """MediaPipe's custom operator; its options are TfLiteTransposeConvParams as bytes."""
    x, w = call[0], p.transpose(call[1], perm=(1, 2, 3, 0))
    raw = call.operator.custom or b""
    if len(raw) < 12:
        raise ModelError(f"{call.name} has {len(raw)} bytes of options")
    padding, *steps = (int.from_bytes(raw[i : i + 4], "little") for i in (0, 4, 8))
    stride = (steps[1], steps[0])  # width first
    if padding not in (1, 2) or not all(1 <= s <= 64 for s in stride):
        raise ModelError(f"{call.name} with padding {padding} and stride {stride}")
    kernel, spatial = w.shape[:2], x.shape[1:-1]
    cut = [0, 0]
    if padding == 1:  # same, as MediaPipe computes it
        cut = [max(k - (n - 1) % s - 1, 0) for n, s, k in zip(spatial, stride, kernel)]
    low = tuple(n // 2 for n in cut)
    high = tuple(n - m for n, m in zip(cut, low))
    y = conv_transpose(x, w, stride=stride, dilation=(1, 1), low=low, high=high, groups=1)
    return with_bias(call, y)


@operator("FULLY_CONNECTED")
def fully_connected(call: Call) -> Value:
    call.ignore("asymmetric_quantize_inputs", "quantized_bias_type")
    if call.choice("weights_format", ("default", "shuffled"), 0) != "default":
        raise call.unsupported("shuffled weights")
    x, w = call[0], call[1]  # w[O, C]
    y = matmul(rows_for(call, x, w), p.transpose(w, perm=(1, 0)))
    return activated(call, with_bias(call, y))


def rows_for(call: Call, x: Value, w: Value) -> Value:
    """x as what is multiplied with weights w[O, C]: its axes, or rows of C numbers."""
    if call.flag("keep_num_dims"):
        return x
    return p.reshape(x, shape=(x.type.size // w.shape[1], w.shape[1]))
