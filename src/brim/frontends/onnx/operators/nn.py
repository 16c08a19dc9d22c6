"""ONNX layers: convolution, pooling, normalisation. ONNX is channels-first, brim's ops are not:
every row transposes in and out, and the layout pass removes what cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import brim.ops.nn as nn
import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import bounded, kept, ramp
from brim.frontends.onnx.operators.math import wide
from brim.frontends.onnx.table import Call, fronts, host, operator
from brim.graph import Value, const
from brim.ops.math import reduce_mean
from brim.types import F16, F32, F64

Ints = tuple[int, ...]


def channels_last(x: Value) -> Value:
    """x[N, C, *spatial] as [N, *spatial, C]."""
    rank = len(x.shape)
    return p.transpose(x, perm=(0, *range(2, rank), 1)) if rank > 2 else x


def channels_first(x: Value) -> Value:
    """x[N, *spatial, C] as [N, C, *spatial]."""
    rank = len(x.shape)
    return p.transpose(x, perm=(0, rank - 1, *range(1, rank - 1))) if rank > 2 else x


def kernel_last(w: Value) -> Value:
    """w[O, C, *kernel] as [*kernel, C, O]."""
    return p.transpose(w, perm=(*range(2, len(w.shape)), 1, 0))


def window_ints(call: Call, name: str, spatial: int, default: int = 1) -> Ints:
    """A window attribute with one positive entry for each spatial axis."""
    found = call.ints(name, (default,) * spatial)
    if len(found) != spatial or min(found, default=1) < 1 or max(found, default=1) > 1 << 31:
        raise ModelError(f"{name} {found} does not fit {spatial} spatial axes")
    return found


def padding(
    call: Call, sizes: Ints, kernel: Ints, stride: Ints, dilation: Ints
) -> tuple[Ints, Ints]:
    """Elements before and after each spatial axis, from pads or auto_pad."""
    spatial = len(sizes)
    pads = call.ints("pads", (0,) * (2 * spatial))
    mode = call.choice("auto_pad", "NOTSET", ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"))
    if mode == "VALID":
        return (0,) * spatial, (0,) * spatial
    if mode == "NOTSET":
        if len(pads) != 2 * spatial or max(map(abs, pads), default=0) > 1 << 31:
            raise ModelError(f"pads {pads} do not fit {spatial} spatial axes")
        return pads[:spatial], pads[spatial:]
    low, high = [], []
    for n, k, s, d in zip(sizes, kernel, stride, dilation):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        small, large = total // 2, total - total // 2
        low.append(small if mode == "SAME_UPPER" else large)
        high.append(large if mode == "SAME_UPPER" else small)
    return tuple(low), tuple(high)


# ------------------------------------------------------------------ convolution


@operator("Conv")
def conv(call: Call) -> Value:
    x, w = call[0], call[1]
    spatial = len(x.shape) - 2
    if spatial < 1 or len(w.shape) != spatial + 2:
        raise ModelError(f"convolution of {x.type} with {w.type}")
    y = convolve(call, x, w)
    if call.given(2):
        y = p.add(y, call[2])
    return channels_first(y)


def convolve(call: Call, x: Value, w: Value, by: Callable[..., Value] = nn.conv) -> Value:
    """The convolution that a Conv-like node describes, channels-last, without its bias.

    by: what computes it, with the arguments of `nn.conv`.
    """
    spatial = len(x.shape) - 2
    kernel = w.shape[2:]
    if call.ints("kernel_shape", kernel) != kernel:
        raise ModelError(f"kernel_shape differs from the weights' {kernel}")
    stride = window_ints(call, "strides", spatial)
    dilation = window_ints(call, "dilations", spatial)
    low, high = padding(call, x.shape[2:], kernel, stride, dilation)
    bounded((*x.shape[:2], *(a + n + b for a, n, b in zip(low, x.shape[2:], high))))
    return by(
        channels_last(x),
        kernel_last(w),
        stride=stride,
        dilation=dilation,
        low=low,
        high=high,
        groups=call.int("group", 1),
    )


@operator("ConvTranspose")
def conv_transpose(call: Call) -> Value:
    x, w, groups = call[0], call[1], call.int("group", 1)
    spatial, kernel = len(x.shape) - 2, w.shape[2:]
    if spatial < 1 or len(w.shape) != spatial + 2 or groups < 1 or w.shape[0] % groups:
        raise ModelError(f"convolution of {x.type} with {w.type} in {groups} groups")
    if call.ints("kernel_shape", kernel) != kernel:
        raise ModelError(f"kernel_shape differs from the weights' {kernel}")
    stride = window_ints(call, "strides", spatial)
    dilation = window_ints(call, "dilations", spatial)
    extra = call.ints("output_padding", (0,) * spatial)
    if len(extra) != spatial or min(extra) < 0:
        raise ModelError(f"output_padding {extra} does not fit {spatial} spatial axes")
    sizes = x.shape[2:]
    full = tuple(
        (n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(sizes, stride, kernel, dilation)
    )
    wanted = call.ints("output_shape", None)
    mode = call.choice("auto_pad", "NOTSET", ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"))
    pads = call.ints("pads", (0,) * (2 * spatial))
    if len(pads) != 2 * spatial:
        raise ModelError(f"pads {pads} do not fit {spatial} spatial axes")
    low, high = pads[:spatial], pads[spatial:]
    if wanted is None and mode.startswith("SAME"):
        wanted = tuple(n * s for n, s in zip(sizes, stride))
    if wanted is not None:
        total = [f + e - n for f, e, n in zip(full, extra, wanted[-spatial:], strict=True)]
        # negative (SAME with a stride beyond the kernel): zeros that no kernel reaches are added
        small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        low, high = (small, large) if mode == "SAME_UPPER" else (large, small)
        if mode in ("NOTSET", "VALID") and "output_shape" in call.node.attributes:
            low, high = large, small
    high = tuple(b - e for b, e in zip(high, extra))
    bounded((*x.shape[:2], *(f - a - b for f, a, b in zip(full, low, high))))
    outputs = w.shape[1]
    w = p.reshape(w, shape=(groups, w.shape[0] // groups, outputs, *kernel))
    w = p.transpose(w, perm=(*range(3, 3 + spatial), 1, 0, 2))
    w = p.reshape(w, shape=(*kernel, w.shape[spatial], groups * outputs))
    y = nn.conv_transpose(
        channels_last(x), w, stride=stride, dilation=dilation, low=low, high=high, groups=groups
    )
    if call.given(2):
        y = p.add(y, call[2])
    return channels_first(y)


# ------------------------------------------------------------------ pooling


def _pooling(call: Call) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
    """size, stride, dilation, low, high, and how much of high was added by ceil_mode."""
    x = call[0]
    spatial = len(x.shape) - 2
    size = window_ints(call, "kernel_shape", spatial, 0)
    stride = window_ints(call, "strides", spatial)
    dilation = window_ints(call, "dilations", spatial)
    low, high = padding(call, x.shape[2:], size, stride, dilation)
    if min(low + high) < 0:
        raise ModelError("pooling with negative padding")
    extra = [0] * spatial
    if call.flag("ceil_mode"):
        for i, (n, k, s, d) in enumerate(zip(x.shape[2:], size, stride, dilation)):
            room = n + low[i] + high[i] - (k - 1) * d - 1
            count = -(-room // s) + 1
            if (count - 1) * s >= n + low[i]:  # a window must not start in the padding after
                count -= 1
            extra[i] = max((count - 1) * s - room, 0)
    bounded((*x.shape[:2], *(a + n + b for a, n, b in zip(low, x.shape[2:], high))))
    return size, stride, dilation, low, tuple(a + b for a, b in zip(high, extra)), tuple(extra)


@operator("MaxPool")
def max_pool(call: Call) -> object:
    call.ignore("storage_order")
    size, stride, dilation, low, high, _ = _pooling(call)
    x = channels_last(call[0])
    y = nn.max_pool(x, size=size, stride=stride, dilation=dilation, low=low, high=high)
    if not call.wants(1):
        return channels_first(y)
    return channels_first(y), _max_positions(call, size, stride, dilation, low, high)


def _max_positions(
    call: Call, size: Ints, stride: Ints, dilation: Ints, low: Ints, high: Ints
) -> Value:
    """Where in the flattened input each window's maximum is, as MaxPool's second result."""
    x = channels_last(call[0])
    spatial, count = len(size), math.prod(size)
    windows = nn.crop_or_pad(x, low, high, nn.lowest(x))
    axes = tuple(range(1, 1 + spatial))
    windows = p.window(windows, axes=axes, size=size, stride=stride, dilation=dilation)
    shape = windows.shape[: spatial + 2]
    inner = tuple(range(len(shape), len(shape) + spatial))
    top = p.reduce(windows, op="max", axes=inner)
    order = const(ramp(count).reshape(size))  # the first of equal elements wins
    is_top = p.eq(windows, top)
    if x.dtype.is_float:
        is_top = p.bit_or(is_top, p.is_nan(windows))
    for i, n in enumerate(call[0].shape[2:]):  # padding is no element, even if it equals the top
        places = ramp(shape[1 + i])[:, None] * stride[i] - low[i] + ramp(size[i]) * dilation[i]
        fits = [1] * len(windows.shape)
        fits[1 + i], fits[inner[i]] = places.shape
        is_top = p.bit_and(is_top, const(((places >= 0) & (places < n)).reshape(fits)))
    found = p.select(is_top, order, const(np.int64(count - 1)))
    best = channels_first(p.reshape(p.reduce(found, op="min", axes=inner), shape=shape))
    out, sizes = shape[1:-1], call[0].shape[2:]
    column_major = call.flag("storage_order")
    strides = [
        math.prod(sizes[:i]) if column_major else math.prod(sizes[i + 1 :]) for i in range(spatial)
    ]
    # position = start of the window + offset inside it, both as flattened indices
    kept(*out)
    start = np.zeros((), np.int64)
    for i in range(spatial):
        start = start[..., None] + (ramp(out[i]) * stride[i] - low[i]) * strides[i]
    inside = np.zeros((), np.int64)
    for i in range(spatial):
        inside = inside[..., None] + ramp(size[i]) * dilation[i] * strides[i]
    offset = p.gather(const(inside.ravel()), best, axis=0)
    images = ramp(shape[0] * shape[-1]).reshape(shape[0], shape[-1], *(1,) * spatial)
    return p.add(p.add(offset, const(start)), const(images * math.prod(sizes)))


@operator("AveragePool")
def average_pool(call: Call) -> Value:
    return average_windows(call, counts_overhang=False)


def average_windows(call: Call, counts_overhang: bool) -> Value:
    """AveragePool; counts_overhang: what ceil_mode adds behind is as good as padding."""
    size, stride, dilation, low, high, extra = _pooling(call)
    counted = call.flag("count_include_pad")
    none = (0,) * len(size)
    if counts_overhang:
        extra = none
    attributes = {
        "size": size,
        "stride": stride,
        "dilation": dilation,
        "low": low,
        "high": high,
        "counted_low": low if counted else none,
        "counted_high": tuple(h - e for h, e in zip(high, extra)) if counted else none,
    }
    return channels_first(wide(lambda x: nn.average_pool(x, **attributes), channels_last(call[0])))


@operator("LpPool")
def lp_pool(call: Call) -> Value:
    size, stride, dilation, low, high, _ = _pooling(call)
    attributes = {"size": size, "stride": stride, "dilation": dilation, "low": low, "high": high}
    power = call.int("p", 2)
    x = channels_last(call[0])
    return channels_first(wide(lambda v: nn.lp_pool(v, p=power, **attributes), x))


@operator("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(call: Call) -> Value:
    x = channels_last(call[0])
    axes = tuple(range(1, len(x.shape) - 1))
    match call.node.op:
        case "GlobalAveragePool":
            y = reduce_mean(x, axes=axes)
        case "GlobalMaxPool":
            y = p.reduce(x, op="max", axes=axes)
        case _:
            power = call.int("p", 2)
            y = wide(lambda v: _lp_size(v, power, axes), x)
    return channels_first(y)


def _lp_size(x: Value, power: int, axes: Ints) -> Value:
    total = p.reduce(p.power(p.absolute(x), power), op="add", axes=axes)
    return p.power(total, 1 / power)


@host("MaxUnpool")
def max_unpool(call: Call, x: np.ndarray, index: np.ndarray, shape: np.ndarray | None = None):
    spatial = x.ndim - 2
    size = window_ints(call, "kernel_shape", spatial, 0)
    stride = window_ints(call, "strides", spatial)
    pads = call.ints("pads", (0,) * (2 * spatial))
    found = [
        (n - 1) * s + k - a - b
        for n, s, k, a, b in zip(x.shape[2:], stride, size, pads[:spatial], pads[spatial:])
    ]
    natural = bounded((*x.shape[:2], *found))
    wanted = natural if shape is None else bounded(shape)
    y = np.zeros(math.prod(wanted), x.dtype)
    # the indices count in the natural shape; a larger output only adds zeros behind
    positions = np.unravel_index(index.ravel(), natural)
    y[np.ravel_multi_index(positions, wanted)] = x.ravel()
    return y.reshape(wanted)


# ------------------------------------------------------------------ normalisation


@operator("BatchNormalization")
def batch_normalization(call: Call) -> object:
    call.ignore("momentum", "is_test")
    epsilon = call.float("epsilon", 1e-5)
    spatial = call.flag("spatial", True)  # until set 8; without, every element has its own moments
    trains = call.scope is not None and call.scope.trains  # then the passes give its training form
    if call.flag("training_mode") and not trains:
        return _batch_training(call, epsilon)
    x = call[0]
    scale, shift, mean, variance = (call[i] for i in (1, 2, 3, 4))
    dtype = x.dtype
    if dtype == F16 or scale.dtype != dtype or mean.dtype != dtype:
        x, scale, shift, mean, variance = (
            v if v.dtype == F32 else p.cast(v, to=F32) for v in (x, scale, shift, mean, variance)
        )
    if spatial:
        y = nn.batch_norm(channels_last(x), scale, shift, mean, variance, epsilon=epsilon)
        y = channels_first(y)
    else:
        factor = p.div(scale, p.sqrt(p.add(variance, epsilon)))
        y = p.add(p.mul(p.sub(x, mean), factor), shift)
    y = y if y.dtype == dtype else p.cast(y, to=dtype)
    return (y, call[3], call[4]) if call.wants(1) else y


def _batch_training(call: Call, epsilon: float) -> tuple[Value, Value, Value]:
    x, scale, shift, old_mean, old_variance = (call[i] for i in range(5))
    momentum = call.float("momentum", 0.9)
    kinds = {value.dtype for value in (x, scale, old_mean)}
    inner = F64 if F64 in kinds else F32
    last, scale, shift = (p.cast(v, to=inner) for v in (channels_last(x), scale, shift))
    axes = tuple(range(len(last.shape) - 1))
    mean = reduce_mean(last, axes=axes)
    centred = p.sub(last, mean)
    variance = reduce_mean(p.mul(centred, centred), axes=axes)
    channels = (last.shape[-1],)
    mean, variance = p.reshape(mean, shape=channels), p.reshape(variance, shape=channels)
    y = nn.batch_norm(last, scale, shift, mean, variance, epsilon=epsilon)
    running = [
        p.cast(
            p.add(p.mul(p.cast(old, to=inner), momentum), p.mul(new, 1 - momentum)), to=old.dtype
        )
        for old, new in ((old_mean, mean), (old_variance, variance))
    ]
    return p.cast(channels_first(y), to=x.dtype), running[0], running[1]


@operator("InstanceNormalization")
def instance_normalization(call: Call) -> Value:
    x, scale, shift = channels_last(call[0]), call[1], call[2]
    axes, epsilon = tuple(range(1, len(x.shape) - 1)), call.float("epsilon", 1e-5)
    if x.dtype == F16:  # squares of f16 overflow
        x, scale, shift = (p.cast(v, to=F32) for v in (x, scale, shift))
    y = channels_first(nn.layer_norm(x, scale, shift, axes=axes, epsilon=epsilon))
    return y if y.dtype == call[0].dtype else p.cast(y, to=call[0].dtype)


@operator("GroupNormalization", since=18)
def group_normalization_18(call: Call) -> Value:
    """Scale and bias stand for groups, later for channels."""
    groups, channels = call.int("num_groups"), call[0].shape[1]
    if groups < 1 or channels % groups or call[1].shape != (groups,):
        raise ModelError(f"{call[1].type} does not scale {groups} groups of {channels} channels")
    index = const(ramp(channels) // (channels // groups))
    return _group_norm(call, *(p.gather(call[i], index, axis=0) for i in (1, 2)))


@operator("GroupNormalization", since=21)
def group_normalization(call: Call) -> Value:
    return _group_norm(call, call[1], call[2])


def _group_norm(call: Call, scale: Value, shift: Value) -> Value:
    groups, epsilon = call.int("num_groups"), call.float("epsilon", 1e-5)
    wide = call.int("stash_type", 1) == 1
    x, dtype = channels_last(call[0]), call[0].dtype
    channels = x.shape[-1]
    if groups < 1 or channels % groups:
        raise ModelError(f"{channels} channels do not make {groups} groups")
    inner = (groups, channels // groups)
    if wide and dtype != F32:
        x = p.cast(x, to=F32)
    y = p.reshape(x, shape=(*x.shape[:-1], *inner))
    axes = (*range(1, len(x.shape) - 1), len(x.shape))
    one = const(np.ones((), x.dtype.numpy))
    y = p.reshape(nn.layer_norm(y, one, axes=axes, epsilon=epsilon), shape=x.shape)
    y = y if y.dtype == dtype else p.cast(y, to=dtype)
    return channels_first(p.add(p.mul(y, scale), shift))


@operator("LayerNormalization")
def layer_normalization(call: Call) -> object:
    x, scale, shift = call[0], call[1], call.get(2)
    first, epsilon = call.axis("axis", -1), call.float("epsilon", 1e-5)
    axes = tuple(range(first, len(x.shape)))
    if call.wants(1) or call.wants(2):
        return _layer_norm_parts(call, axes, epsilon)
    if call.int("stash_type", 1) == 1 and x.dtype == F16:
        y = nn.layer_norm(p.cast(x, to=F32), const(np.float32(1)), axes=axes, epsilon=epsilon)
        y = p.mul(p.cast(y, to=F16), scale)
        return y if shift is None else p.add(y, shift)
    parts = (x, scale) if shift is None else (x, scale, shift)
    return nn.layer_norm(*parts, axes=axes, epsilon=epsilon)


def _layer_norm_parts(call: Call, axes: Ints, epsilon: float) -> tuple[Value, Value, Value]:
    x, dtype = call[0], call[0].dtype
    narrow = call.int("stash_type", 1) == 1 and dtype != F32
    x = p.cast(x, to=F32) if narrow else x
    mean = reduce_mean(x, axes=axes)
    centred = p.sub(x, mean)
    variance = reduce_mean(p.mul(centred, centred), axes=axes)
    inverse = p.div(1.0, p.sqrt(p.add(variance, epsilon)))
    y = p.mul(centred, inverse)
    y = p.mul(y if y.dtype == dtype else p.cast(y, to=dtype), call[1])
    shift = call.get(2)
    return (y if shift is None else p.add(y, shift)), mean, inverse


@operator("RMSNormalization")
def rms_normalization(call: Call) -> Value:
    x, scale = call[0], call[1]
    first, epsilon = call.axis("axis", -1), call.float("epsilon", 1e-5)
    axes = tuple(range(first, len(x.shape)))
    if call.int("stash_type", 1) == 1 and x.dtype == F16:
        y = nn.rms_norm(p.cast(x, to=F32), const(np.float32(1)), axes=axes, epsilon=epsilon)
        return p.mul(p.cast(y, to=F16), scale)
    return nn.rms_norm(x, scale, axes=axes, epsilon=epsilon)


@operator("LRN")
def local_response_normalization(call: Call) -> Value:
    attributes = {
        "size": call.int("size"),
        "alpha": call.float("alpha", 1e-4),
        "beta": call.float("beta", 0.75),
        "bias": call.float("bias", 1.0),
    }
    x = channels_last(call[0])
    return channels_first(wide(lambda v: nn.local_response_norm(v, **attributes), x))


@operator("MeanVarianceNormalization")
def mean_variance_normalization(call: Call) -> Value:
    axes = fronts(call.ints("axes", (0, 2, 3)), len(call[0].shape))
    return wide(lambda x: _standardised(x, axes), call[0])


def _standardised(x: Value, axes: Ints) -> Value:
    """x shifted and scaled to mean 0 and deviation 1 over axes."""
    # squares of what is centred: the mean of squares minus the squared mean may fall below 0
    centred = p.sub(x, reduce_mean(x, axes=axes))
    deviation = p.sqrt(reduce_mean(p.mul(centred, centred), axes=axes))
    return p.div(centred, p.add(deviation, 1e-9))


@operator("LpNormalization")
def lp_normalization(call: Call) -> Value:
    axis, power = call.axis("axis", -1), call.int("p", 2)
    if power not in (1, 2):
        raise call.unsupported(f"p={power}")
    return wide(lambda x: _unit_vectors(x, axis, power), call[0])


def _unit_vectors(x: Value, axis: int, power: int) -> Value:
    """x over its size (of power 1 or 2) along an axis; 0 where that is 0."""
    if power == 1:
        size = p.reduce(p.absolute(x), op="add", axes=(axis,))
    else:
        size = p.sqrt(p.reduce(p.mul(x, x), op="add", axes=(axis,)))
    nothing = const(np.zeros((), x.dtype.numpy))
    return p.select(p.eq(size, 0), nothing, p.div(x, size))
