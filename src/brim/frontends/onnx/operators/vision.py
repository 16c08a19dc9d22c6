"""ONNX operators that sample pictures at computed positions, and the box operators of detectors."""

from __future__ import annotations

import math

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import LARGEST, bounded, kept, ramp
from brim.frontends.onnx.operators.nn import channels_first, channels_last, window_ints
from brim.frontends.onnx.table import Call, host, operator
from brim.graph import Value, const
from brim.ops.sampling import Taps, sampled
from brim.ops.selection import intersection_over_union

# ------------------------------------------------------------------ sampling


def _linear_taps(position: Value) -> Taps:
    first = p.floor(position)
    rest = p.sub(position, first)
    return [(first, p.sub(1.0, rest)), (p.add(first, 1.0), rest)]


def _cubic_taps(position: Value) -> Taps:
    """Keys' cubic convolution (1981) with a = -0.75."""
    a, first = -0.75, p.floor(position)
    rest = p.sub(position, first)
    taps = []
    for k in range(-1, 3):
        x = p.absolute(p.sub(rest, float(k)))
        square, cube = p.mul(x, x), p.mul(p.mul(x, x), x)
        if k in (0, 1):
            weight = p.add(p.sub(p.mul(cube, a + 2), p.mul(square, a + 3)), 1.0)
        else:
            weight = p.sub(
                p.add(p.sub(p.mul(cube, a), p.mul(square, 5 * a)), p.mul(x, 8 * a)), 4 * a
            )
        taps.append((p.add(first, float(k)), weight))
    return taps


def _reflected(x: Value, low: float, high: float) -> Value:
    """x folded back at both borders as often as needed."""
    span = high - low
    if span <= 0:
        return p.add(p.mul(x, 0.0), low)
    distance = p.mod(p.sub(x, low), 2 * span)
    return p.add(p.minimum(distance, p.sub(2 * span, distance)), low)


_GRID_MODES = {"bilinear": "linear", "bicubic": "cubic"}


@operator("GridSample", since=16)
def grid_sample(call: Call) -> Value:
    x, grid = call[0], call[1]
    mode = call.text("mode", "linear")
    mode = _GRID_MODES.get(mode, mode)
    if mode not in ("nearest", "linear", "cubic"):
        raise call.unsupported(f"mode={mode!r}")
    padding = call.choice("padding_mode", "zeros", ("zeros", "border", "reflection"))
    corners = call.flag("align_corners")
    sizes = x.shape[2:]
    if len(grid.shape) != len(x.shape) or grid.shape[-1] != len(sizes) or not sizes:
        raise ModelError(f"grid {grid.type} does not fit {x.type}")
    if grid.shape[0] != x.shape[0] or 0 in sizes:
        raise ModelError(f"grid {grid.type} does not fit {x.type}")
    axes: list[Taps] = []
    for axis, n in enumerate(sizes):
        at = _column(grid, len(sizes) - 1 - axis)  # the last coordinate is the first axis
        if corners:
            at = p.mul(p.div(p.add(at, 1.0), 2.0), float(n - 1))
        else:
            at = p.div(p.sub(p.mul(p.add(at, 1.0), float(n)), 1.0), 2.0)
        low, high = (0.0, n - 1.0) if corners else (-0.5, n - 0.5)
        if mode == "nearest":
            at = p.rint(at)
        if padding == "border" and mode != "cubic":  # as torch: cubic taps are pulled in one by one
            at = p.minimum(p.maximum(at, 0.0), float(n - 1))
        elif padding == "reflection":
            outside = p.bit_or(p.lt(at, low), p.gt(at, high))
            at = p.select(outside, _reflected(at, low, high), at)
        if mode == "nearest":
            index = p.trunc(at) if padding == "reflection" else at
            taps = [(index, const(np.ones((), at.dtype.numpy)))]
        else:
            taps = _linear_taps(at) if mode == "linear" else _cubic_taps(at)
        axes.append([(_pulled(index, n, low, high, padding), weight) for index, weight in taps])
    batch, block = x.shape[0], math.prod(sizes)
    last = channels_last(x)
    rows = p.reshape(last, shape=(batch * block, x.shape[1]))
    start = const((ramp(batch) * block).reshape(-1, *(1,) * (len(grid.shape) - 2)))
    start = p.broadcast(start, shape=grid.shape[:-1])
    return channels_first(sampled(rows, start, sizes, axes))


def _pulled(index: Value, n: int, low: float, high: float, padding: str) -> Value:
    """A tap that lies outside, brought inside by the padding mode."""
    if padding == "border":
        return p.minimum(p.maximum(index, 0.0), float(n - 1))
    if padding == "reflection":
        return p.trunc(_reflected(index, low, high))
    return index


def _column(grid: Value, i: int) -> Value:
    rank = len(grid.shape) - 1
    part = p.slice(
        grid, starts=(*(0,) * rank, i), sizes=(*grid.shape[:-1], 1), steps=(1,) * (rank + 1)
    )
    return p.reshape(part, shape=grid.shape[:-1])


@operator("AffineGrid", since=20)
def affine_grid(call: Call) -> Value:
    theta, size = call[0], call.int_inputs(1)
    corners = call.flag("align_corners")
    sizes = kept(*size[2:])
    count = len(sizes)
    if count not in (2, 3) or theta.shape != (size[0], count, count + 1) or 0 in sizes:
        raise ModelError(f"{theta.type} is no affine map for a grid of {size}")
    ramps = [np.linspace(-1, 1, n) if corners else (2 * ramp(n) + 1) / n - 1 for n in sizes]
    planes = np.meshgrid(*ramps, indexing="ij")[::-1]
    points = np.stack([*planes, np.ones(sizes)], -1).reshape(-1, count + 1)
    y = p.contract(theta, const(points.astype(theta.dtype.numpy)), spec="nij,pj->npi")
    return p.reshape(y, shape=(size[0], *sizes, count))


@operator("DeformConv")
def deform_conv(call: Call) -> Value:
    x, w, offset = call[0], call[1], call[2]
    if len(x.shape) != 4:
        raise call.unsupported("other than two spatial axes")
    batch, channels, height, width = x.shape
    outputs, per_group, *kernel = w.shape
    stride, dilation = window_ints(call, "strides", 2), window_ints(call, "dilations", 2)
    pads, groups = call.ints("pads", (0,) * 4), call.int("group", 1)
    own = call.int("offset_group", 1)
    if call.ints("kernel_shape", kernel) != tuple(kernel) or len(pads) != 4:
        raise ModelError(f"kernel_shape or pads differ from the weights {w.type}")
    if min(groups, own) < 1 or channels % own or per_group * groups != channels or outputs % groups:
        raise ModelError(f"{x.type}, {w.type}, {groups} groups and {own} offset groups do not fit")
    taps, out = math.prod(kernel), offset.shape[2:]
    offset = p.reshape(offset, shape=(batch, own, taps, 2, *out))
    kept(taps, *out)
    axes: list[Taps] = []
    inner = np.meshgrid(*(ramp(k) * d for k, d in zip(kernel, dilation)), indexing="ij")
    for axis in range(2):
        shape = [1, 1, taps, 1, 1]
        base = inner[axis].reshape(shape).astype(np.float64)
        shape = [1, 1, 1, 1, 1]
        shape[3 + axis] = out[axis]
        base = base + (ramp(out[axis]) * stride[axis] - pads[axis]).reshape(shape)
        moved = p.slice(
            offset,
            starts=(0, 0, 0, axis, 0, 0),
            sizes=(batch, own, taps, 1, *out),
            steps=(1,) * 6,
        )
        moved = p.reshape(moved, shape=(batch, own, taps, *out))
        axes.append(_linear_taps(p.add(moved, const(base.astype(x.dtype.numpy)))))
    inner_channels, block = channels // own, height * width
    rows = p.reshape(x, shape=(batch, own, inner_channels, block))
    rows = p.reshape(
        p.transpose(rows, perm=(0, 1, 3, 2)), shape=(batch * own * block, inner_channels)
    )
    start = const((ramp(batch * own) * block).reshape(batch, own, 1, 1, 1))
    start = p.broadcast(start, shape=(batch, own, taps, *out))
    found = sampled(rows, start, (height, width), axes)
    if call.given(4):
        mask = p.reshape(call[4], shape=(batch, own, taps, *out, 1))
        found = p.mul(found, mask)
    found = p.transpose(found, perm=(0, 3, 4, 1, 5, 2))  # n h w own channel tap
    found = p.reshape(found, shape=(batch, *out, groups, per_group, taps))
    w = p.reshape(w, shape=(groups, outputs // groups, per_group, taps))
    y = p.contract(found, w, spec="nhwgct,goct->nhwgo")
    y = p.reshape(y, shape=(batch, *out, outputs))
    return channels_first(p.add(y, call[3]) if call.given(3) else y)


@operator("Col2Im", since=18)
def col2im(call: Call) -> Value:
    x, image, kernel = call[0], bounded(call.int_inputs(1)), bounded(call.int_inputs(2))
    spatial = len(image)
    stride, dilation = (window_ints(call, name, spatial) for name in ("strides", "dilations"))
    pads = call.ints("pads", (0,) * (2 * spatial))
    taps = math.prod(kernel)
    if len(kernel) != spatial or len(pads) != 2 * spatial or taps < 1 or x.shape[1] % taps:
        raise ModelError(f"{x.type} holds no blocks of {kernel}")
    counts = [
        (n + pads[i] + pads[spatial + i] - (k - 1) * d - 1) // s + 1
        for i, (n, k, s, d) in enumerate(zip(image, kernel, stride, dilation))
    ]
    if x.shape[2:] != (math.prod(counts),):
        raise ModelError(f"{x.type} does not hold {counts} blocks")
    batch, channels = x.shape[0], x.shape[1] // taps
    kept(taps, math.prod(counts))
    flat = np.zeros((1, 1), np.int64)
    inside = np.ones((1, 1), bool)
    for i in range(spatial):
        inner = ramp(kernel[i]) * dilation[i]
        outer = ramp(counts[i]) * stride[i] - pads[i]
        at = inner[:, None] + outer[None, :]
        ok = (at >= 0) & (at < image[i])
        size = (flat.shape[0] * kernel[i], flat.shape[1] * counts[i])
        flat = (flat[:, None, :, None] * image[i] + at[None, :, None, :]).reshape(size)
        inside = (inside[:, None, :, None] & ok[None, :, None, :]).reshape(size)
    real = np.flatnonzero(inside.ravel())
    rows = p.reshape(x, shape=(batch * channels, inside.size))
    rows = p.gather(rows, const(real), axis=1)
    zero = p.broadcast(
        const(np.zeros((), x.dtype.numpy)), shape=bounded((batch * channels, math.prod(image)))
    )
    y = p.scatter(zero, const(flat.ravel()[real]), rows, axis=1, op="add")
    return p.reshape(y, shape=(batch, channels, *image))


# ------------------------------------------------------------------ boxes


@host("RoiAlign")
def roi_align(call: Call, x: np.ndarray, rois: np.ndarray, batch: np.ndarray) -> np.ndarray:
    mode = call.choice("mode", "avg", ("avg", "max"))
    default = "half_pixel" if call.version >= 16 else "output_half_pixel"
    half = call.choice(
        "coordinate_transformation_mode", default, ("half_pixel", "output_half_pixel")
    )
    rows, columns = call.int("output_height", 1), call.int("output_width", 1)
    ratio, scale = call.int("sampling_ratio", 0), call.float("spatial_scale", 1.0)
    shift = 0.5 if half == "half_pixel" else 0.0
    y = np.zeros(bounded((len(rois), x.shape[1], rows, columns)), x.dtype)
    for i, roi in enumerate(rois.astype(np.float64) * scale - shift):
        width, height = roi[2] - roi[0], roi[3] - roi[1]
        if not shift:
            width, height = max(width, 1.0), max(height, 1.0)
        picture = x[int(batch[i])]
        index, weights, counts = [], [], []
        for begin, extent, bins, size in (
            (roi[1], height, rows, x.shape[2]), (roi[0], width, columns, x.shape[3])
        ):  # fmt: skip
            count = ratio if ratio > 0 else max(math.ceil(extent / bins), 0)
            if bins * count > 1 << 20:
                raise ModelError(f"a region of {roi} is absurdly large")
            at = begin + (ramp(bins * count) + 0.5) * extent / bins / max(count, 1)
            valid = (at >= -1) & (at <= size)
            at = np.clip(at, 0, size - 1)
            low = np.minimum(np.floor(at).astype(np.int64), size - 1)
            rest = at - low
            index.append(np.stack([low, np.minimum(low + 1, size - 1)]))
            weights.append(np.stack([(1 - rest) * valid, rest * valid]))
            counts.append(count)
        if 0 in counts:
            continue
        terms = [
            picture[:, index[0][a]][:, :, index[1][b]] * weights[0][a][:, None] * weights[1][b]
            for a in (0, 1)
            for b in (0, 1)
        ]
        bins_shape = (x.shape[1], rows, counts[0], columns, counts[1])
        if mode == "avg":
            y[i] = sum(terms).reshape(bins_shape).mean((2, 4))
        else:  # ONNX takes the largest weighted neighbour, not the largest interpolated value
            y[i] = np.max(terms, 0).reshape(bins_shape).max((2, 4))
    return y


@host("MaxRoiPool")
def max_roi_pool(call: Call, x: np.ndarray, rois: np.ndarray) -> np.ndarray:
    """The largest element in each cell of a grid laid over regions [batch, x1, y1, x2, y2]."""
    shape, scale = call.ints("pooled_shape"), call.float("spatial_scale", 1.0)
    if len(shape) != 2 or min(shape) < 1 or x.ndim != 4 or rois.shape[1:] != (5,):
        raise ModelError(f"MaxRoiPool of {x.shape} and {rois.shape} to {shape}")
    y = np.zeros(kept(len(rois), x.shape[1], *shape), x.dtype)
    for result, roi in zip(y, rois.astype(np.float64)):
        if not 0 <= roi[0] < len(x):
            raise ModelError(f"a region of picture {roi[0]:.0f}, of which there are {len(x)}")
        corners = np.clip(roi[1:] * scale, -LARGEST, LARGEST)
        rounded = np.copysign(np.floor(np.abs(corners) + 0.5), corners)  # halves away from 0
        left, top, right, bottom = map(int, rounded)
        rows = _cells(top, bottom, shape[0], x.shape[2])
        columns = _cells(left, right, shape[1], x.shape[3])
        for i, (y1, y2) in enumerate(rows):
            for j, (x1, x2) in enumerate(columns):
                if y1 < y2 and x1 < x2:  # cells outside the picture stay 0
                    result[:, i, j] = x[int(roi[0]), :, y1:y2, x1:x2].max((1, 2))
    return y


def _cells(first: int, last: int, count: int, size: int) -> list[tuple[int, int]]:
    """[start, end) of `count` cells that may overlap, over first..last, inside 0..size."""
    step = np.float32(max(last - first + 1, 1)) / np.float32(count)  # f32 as other engines
    edges = np.arange(count + 1, dtype=np.float32) * step
    bounds = zip(first + np.floor(edges[:-1]), first + np.ceil(edges[1:]))
    return [(int(min(max(a, 0), size)), int(min(max(b, 0), size))) for a, b in bounds]


@host("NonMaxSuppression")
def non_max_suppression(
    call: Call,
    boxes: np.ndarray,
    scores: np.ndarray,
    most: np.ndarray | None = None,
    overlap: np.ndarray | None = None,
    least: np.ndarray | None = None,
) -> np.ndarray:
    limit = 0 if most is None or not most.size else int(most.reshape(-1)[0])
    allowed = 0.0 if overlap is None or not overlap.size else float(overlap.reshape(-1)[0])
    threshold = None if least is None or not least.size else least.reshape(-1)[0]
    if call.flag("center_point_box"):
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        corners = np.concatenate([centre - half, centre + half], -1)
    else:
        low = np.minimum(boxes[..., :2], boxes[..., 2:])
        corners = np.concatenate([low, np.maximum(boxes[..., :2], boxes[..., 2:])], -1)
    chosen = []
    for batch, kind in np.ndindex(scores.shape[:2]):
        score, box = scores[batch, kind], corners[batch]
        order = np.argsort(-score, kind="stable")
        if threshold is not None:
            order = order[score[order] > threshold]
        count = 0
        while order.size and count < limit:
            best, order = order[0], order[1:]
            chosen.append((batch, kind, best))
            count += 1
            order = order[intersection_over_union(box[best], box[order]) <= allowed]
    return np.array(chosen, np.int64).reshape(-1, 3)
