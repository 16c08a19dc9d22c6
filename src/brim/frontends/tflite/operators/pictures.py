"""Custom operators on pictures: pooling that tells where, its inverse, and warping by a flow.

The first two are MediaPipe's (`util/tflite/operations`) and TensorFlow's (`kernels/perception`),
which differ in what positions mean.
"""

from __future__ import annotations

import math
import struct

import numpy as np

import brim.ops.nn as nn
import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import bounded, kept
from brim.frontends.tflite.operators.activation import ACTIVATIONS, activation
from brim.frontends.tflite.operators.convolution import PADDING, Ints, borders
from brim.frontends.tflite.table import Call, operator
from brim.graph import Value, const
from brim.ops.indexing import along
from brim.ops.sampling import Taps, sampled
from brim.types import F32, I32, I64


def _pool_params(call: Call) -> tuple[str, Ints, Ints, str]:
    """Padding, window, stride and activation of options that are TfLitePoolParams as bytes."""
    raw = call.operator.custom or b""
    if len(raw) < 24:
        raise ModelError(f"{call.name} has {len(raw)} bytes of options")
    padding, sw, sh, kw, kh, act = struct.unpack("<6i", raw[:24])
    if padding not in (1, 2) or not 0 <= act < len(ACTIVATIONS):
        raise ModelError(f"{call.name} with padding {padding} and activation {act}")
    return PADDING[padding - 1], *_checked(call, (kh, kw), (sh, sw)), ACTIVATIONS[act]


def _checked(call: Call, size: Ints, stride: Ints) -> tuple[Ints, Ints]:
    if not all(1 <= n <= 1 << 12 for n in (*size, *stride)) or len(call[0].shape) != 4:
        raise ModelError(f"{call.name} of {call[0].type} over {size} every {stride}")
    return size, stride


@operator("MaxPoolingWithArgmax2D")
def max_pooling_with_argmax(call: Call) -> list[Value]:
    """The maximum of each window and where it is, of equals the first.

    TensorFlow's gives i32 positions in the picture, MediaPipe's f32 positions in the window (+
    0.1).
    """
    x, act = call[0], "none"
    ours = call.result_dtype(1) == F32
    if ours:
        padding, size, stride, act = _pool_params(call)
    else:
        size, stride = _checked(call, call.numbers("ksize")[1:3], call.numbers("strides")[1:3])
        padding = str(call.option("padding")).lower()
        if padding not in PADDING or len(size) != 2 or len(stride) != 2:
            raise ModelError(f"{call.name} with padding {padding!r}")
        if call.flag("include_batch_in_index"):
            raise call.unsupported("include_batch_in_index")
    low, high = borders(padding, x.shape[1:-1], size, stride, (1, 1))
    around = nn.crop_or_pad(x, low, high, nn.lowest(x))
    y = p.window(around, axes=(1, 2), size=size, stride=stride, dilation=(1, 1))
    y = p.reshape(y, shape=(*y.shape[:4], math.prod(size)))
    place = p.reshape(p.argreduce(y, op="max", axis=4, last=False), shape=y.shape[:4])
    top = activation(p.reshape(p.reduce(y, op="max", axes=(4,)), shape=y.shape[:4]), act)
    if ours:
        return [top, p.add(p.cast(place, to=F32), 0.1)]
    rows, columns = (
        p.add(offset, const(along(np.arange(*kept(n)) * s - a, axis, 4)))
        for axis, (offset, n, s, a) in enumerate(
            zip(_split(place, size[1]), y.shape[1:], stride, low), 1
        )
    )
    pixel = p.add(p.mul(rows, x.shape[2]), columns)
    found = p.add(p.mul(pixel, x.shape[3]), const(np.arange(x.shape[3])))
    return [top, p.cast(found, to=I32)]


def _split(place: Value, width: int) -> tuple[Value, Value]:
    return p.div(place, width), p.mod(place, width)


@operator("MaxUnpooling2D")
def max_unpooling(call: Call) -> Value:
    """Zeros, with each element where MaxPoolingWithArgmax2D found it; see there for positions."""
    x, place = call[0], call[1]
    padding, size, stride, _ = _pool_params(call)
    batch, *spatial, channels = x.shape
    if place.dtype == F32:
        whole = tuple(n * k for n, k in zip(spatial, size))
        low = [max((n - 1) * s + k - m, 0) // 2 for n, s, k, m in zip(spatial, stride, size, whole)]
        inside = _split(p.cast(place, to=I64), size[1])
        at = [
            p.add(part, const(along(np.arange(*kept(n)) * s - a, axis, 4)))
            for axis, (part, n, s, a) in enumerate(zip(inside, spatial, stride, low), 1)
        ]
        fits = [p.bit_and(p.ge(part, 0), p.lt(part, n)) for part, n in zip(at, whole)]
        pixel, valid = p.add(p.mul(at[0], whole[1]), at[1]), p.bit_and(*fits)
        flat = p.add(p.mul(pixel, channels), const(np.arange(channels)))
    else:
        same = padding == "same"
        whole = tuple(n * s if same else (n - 1) * s + k for n, s, k in zip(spatial, stride, size))
        flat = p.cast(place, to=I64)
        valid = p.bit_and(p.ge(flat, 0), p.lt(flat, math.prod(whole) * channels))
    block = math.prod(bounded((batch, *whole, channels))[1:])
    flat = p.add(flat, const(along(np.arange(*kept(batch)) * block, 0, 4)))
    flat = p.select(valid, flat, const(np.int64(batch * block)))  # behind the pictures
    zero = p.broadcast(const(np.zeros((), np.float32)), shape=(batch * block + 1,))
    count = (x.type.size,)
    y = p.scatter(zero, p.reshape(flat, shape=count), p.reshape(x, shape=count), axis=0, op="set")
    y = p.slice(y, starts=(0,), sizes=(batch * block,), steps=(1,))
    return p.reshape(y, shape=(batch, *whole, channels))


@operator("DenseImageWarp")
def dense_image_warp(call: Call) -> Value:
    """Pixels of x[N, H, W, C] from flow[N, H, W, 2] before them, by linear interpolation."""
    x, flow = call[0], call[1]
    batch, *sizes, channels = x.shape
    if flow.shape != (batch, *sizes, 2) or min(sizes) < 2:
        raise ModelError(f"a flow of {flow.type} for {x.type}")
    axes: list[Taps] = []
    for axis, n in enumerate(sizes):
        part = p.slice(flow, starts=(0, 0, 0, axis), sizes=(batch, *sizes, 1), steps=(1,) * 4)
        part = p.reshape(part, shape=(batch, *sizes))
        own = along(np.arange(*kept(n)).astype(np.float32), axis + 1, 3)
        at = p.sub(const(own), part)
        first = p.minimum(p.maximum(p.floor(at), 0), n - 2)
        rest = p.minimum(p.maximum(p.sub(at, first), 0), 1)
        axes.append([(first, p.sub(1, rest)), (p.add(first, 1), rest)])
    block = math.prod(sizes)
    start = p.broadcast(const(along(np.arange(*kept(batch)) * block, 0, 3)), shape=(batch, *sizes))
    return sampled(p.reshape(x, shape=(batch * block, channels)), start, sizes, axes)
