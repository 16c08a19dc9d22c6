"""ONNX Resize, Upsample and their many modes, as gathers of taps with constant weights.

Every resized axis is one `resample`: which elements each result element takes, and their weights.
The taps are worked out here in f64; what remains in the graph is a gather and a weighted sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import bounded, kept, ramp
from brim.frontends.onnx.operators.nn import channels_first, channels_last
from brim.frontends.onnx.operators.shape import slice_axes
from brim.frontends.onnx.table import Call, fronts, operator
from brim.graph import Value, const
from brim.ops.indexing import along
from brim.ops.nn import resample
from brim.types import F32, F64


@dataclass(frozen=True)
class _Rule:
    """How positions and weights follow from sizes: the attributes of Resize."""

    mode: str
    coordinates: str
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False


_COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
    "tf_crop_and_resize", "tf_half_pixel_for_nn",
)  # fmt: skip
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@operator("Upsample")
def upsample(call: Call) -> Value:
    mode = call.choice("mode", "nearest", ("nearest", "linear"))
    scales = call.floats("scales") if call.version < 9 else tuple(map(float, call.array(1)))
    sizes = tuple(_length(n, s) for n, s in zip(call[0].shape, scales, strict=True))
    return _resize(call[0], sizes, scales, None, _Rule(mode, "asymmetric", "floor"), 0.0)


@operator("Resize", since=10)
def resize_10(call: Call) -> Value:
    mode = call.choice("mode", "nearest", ("nearest", "linear"))
    scales = tuple(map(float, call.array(1)))
    sizes = tuple(_length(n, s) for n, s in zip(call[0].shape, scales, strict=True))
    return _resize(call[0], sizes, scales, None, _Rule(mode, "asymmetric", "floor"), 0.0)


@operator("Resize", since=11)
def resize(call: Call) -> Value:
    x = call[0]
    rank = len(x.shape)
    rule = _Rule(
        mode=call.choice("mode", "nearest", ("nearest", "linear", "cubic")),
        coordinates=call.choice("coordinate_transformation_mode", "half_pixel", _COORDINATES),
        nearest=call.choice("nearest_mode", "round_prefer_floor", _NEAREST),
        cubic=call.float("cubic_coeff_a", -0.75),
        antialias=call.flag("antialias"),
        exclude_outside=call.flag("exclude_outside"),
    )
    axes = fronts(call.ints("axes", range(rank)), rank)
    policy = call.choice(
        "keep_aspect_ratio_policy", "stretch", ("stretch", "not_larger", "not_smaller")
    )
    outside = call.float("extrapolation_value", 0.0)
    call.ignore(1, 2)  # a region that the mode has no use for, scales where sizes are given
    scales, sizes = _scales_and_sizes(call, x, axes, policy)
    box = None
    if rule.coordinates == "tf_crop_and_resize":
        corners = call.array(1).astype(np.float64).ravel()
        if corners.size != 2 * len(axes):
            raise ModelError(f"a region of {corners.size} numbers for axes {axes}")
        box = [(0.0, 1.0)] * rank
        for i, axis in enumerate(axes):
            box[axis] = (float(corners[i]), float(corners[len(axes) + i]))
    return _resize(x, sizes, scales, box, rule, outside)


def _scales_and_sizes(
    call: Call, x: Value, axes: tuple[int, ...], policy: str
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    rank = len(x.shape)
    scales, sizes = [1.0] * rank, list(x.shape)
    wanted = call.int_inputs(3) if call.given(3) and call[3].type.size else None
    if wanted is not None:
        if len(wanted) != len(axes):
            raise ModelError(f"{len(wanted)} sizes for axes {axes}")
        ratios = [n / x.shape[a] if x.shape[a] else 1.0 for n, a in zip(wanted, axes)]
        if policy != "stretch":
            common = min(ratios) if policy == "not_larger" else max(ratios)
            wanted = tuple(int(common * x.shape[a] + 0.5) for a in axes)
            ratios = [common] * len(axes)
        for axis, n, ratio in zip(axes, wanted, ratios):
            scales[axis], sizes[axis] = ratio, n
    else:
        given = call.array(2).astype(np.float64).ravel()
        if given.size != len(axes):
            raise ModelError(f"{given.size} scales for axes {axes}")
        for axis, scale in zip(axes, given):
            scales[axis], sizes[axis] = float(scale), _length(x.shape[axis], float(scale))
    return tuple(scales), tuple(sizes)


def _resize(
    x: Value,
    sizes: tuple[int, ...],
    scales: tuple[float, ...],
    box: list[tuple[float, float]] | None,
    rule: _Rule,
    outside: float,
) -> Value:
    sizes = bounded(sizes)
    if any(s <= 0 for s in scales):
        raise ModelError(f"scales {scales} are not positive")
    if rule.mode != "nearest" and x.dtype not in (F32, F64):
        # weights are fractions: others take part as floats that hold them, and are cast at the end
        y = _resize(
            p.cast(x, to=F64 if x.dtype.bits >= 32 else F32), sizes, scales, box, rule, outside
        )
        return p.cast(y, to=x.dtype)
    todo = [
        a for a in range(len(sizes)) if sizes[a] != x.shape[a] or scales[a] != 1 or box is not None
    ]
    if any(x.shape[a] == 0 for a in todo):
        raise ModelError(f"nothing to resize in {x.type}")
    # picture operators around this one are channels-last: resize there when channels stay
    last = len(sizes) > 2 and 1 not in todo and 0 not in todo
    axes = [a - 1 if last else a for a in todo]
    y = channels_last(x) if last else x
    repeats = [1] * len(sizes)
    for axis, a in zip(axes, todo):
        region = box[a] if box else None
        positions = _positions(x.shape[a], sizes[a], scales[a], region, rule.coordinates)
        index, weight = _taps(positions, x.shape[a], scales[a], rule)
        if weight.shape[1] == 1 and (weight == 1).all():
            y, repeats[axis] = _picked(y, index[:, 0], axis, region is None)
        else:
            y = resample(y, const(index), const(weight.astype(y.dtype.numpy)), axis=axis)
        if region is not None:
            mask = along((positions >= 0) & (positions <= x.shape[a] - 1), axis, len(sizes))
            y = p.select(const(mask), y, const(np.array(outside, y.dtype.numpy)))
    y = _repeated(y, repeats)
    return channels_first(y) if last else y


def _picked(x: Value, index: np.ndarray, axis: int, may_repeat: bool) -> tuple[Value, int]:
    """Elements `index` of an axis, or x itself and how often each of its elements is repeated.

    Repeats and strides are affine, so they fuse; a gather is a table that is read.
    """
    n = x.shape[axis]
    times = len(index) // n
    even = times > 0 and len(index) == n * times
    if may_repeat and even and (index == np.repeat(np.arange(n), times)).all():
        return x, times
    steps = np.diff(index)
    if steps.size and steps[0] > 0 and (steps == steps[0]).all():
        at = {axis: (int(index[0]), int(index[-1]) + 1, int(steps[0]))}
        return slice_axes(x, at), 1
    return p.gather(x, const(index), axis=axis), 1


def _repeated(x: Value, times: list[int]) -> Value:
    """Every element repeated `times` on each axis."""
    if set(times) == {1}:
        return x
    thin = tuple(k for n, t in zip(x.shape, times) for k in ((n, 1) if t > 1 else (n,)))
    thick = tuple(k for n, t in zip(x.shape, times) for k in ((n, t) if t > 1 else (n,)))
    y = p.broadcast(p.reshape(x, shape=thin), shape=thick)
    return p.reshape(y, shape=tuple(n * t for n, t in zip(x.shape, times)))


def _length(n: int, scale: float) -> int:
    """The size of a scaled axis, in f32 as ONNX infers it: 10 * 0.7 is 7."""
    return int(np.floor(np.float32(n) * np.float32(scale)))


def _positions(
    n: int, size: int, scale: float, box: tuple[float, float] | None, rule: str
) -> np.ndarray:
    """Where in the source (in elements) each result element lies; in f32, as other engines do."""
    i = ramp(size).astype(np.float32)
    factor, half = np.float32(scale), np.float32(0.5)
    match rule:
        case "half_pixel":
            return (i + half) / factor - half
        case "half_pixel_symmetric":
            # the result is centred even if its size was rounded
            adjust = np.float32(size / (scale * n))
            return np.float32(n / 2) * (1 - adjust) + (i + half) / factor - half
        case "pytorch_half_pixel":
            return (i + half) / factor - half if size > 1 else np.zeros(size, np.float32)
        case "align_corners":
            exact = scale * n  # ONNX's reference uses the size before it was rounded down
            return i * np.float32(n - 1) / (exact - 1) if exact > 1 else np.zeros(size, np.float32)
        case "tf_half_pixel_for_nn":
            return (i + half) / factor
        case "tf_crop_and_resize":
            start, end = box or (0.0, 1.0)
            if size > 1:
                return start * (n - 1) + i * (end - start) * (n - 1) / (size - 1)
            return np.full(size, 0.5 * (start + end) * (n - 1))
    return i / factor


def _taps(
    positions: np.ndarray, n: int, scale: float, rule: _Rule
) -> tuple[np.ndarray, np.ndarray]:
    """index[size, taps] and weight[size, taps] of every result element."""
    if rule.mode == "nearest":
        index = {
            "round_prefer_floor": np.ceil(positions - 0.5),
            "round_prefer_ceil": np.floor(positions + 0.5),
            "floor": np.floor(positions),
            "ceil": np.ceil(positions),
        }[rule.nearest]
        index = np.clip(index, 0, n - 1).astype(np.int64)[:, None]
        return index, np.ones(index.shape)
    positions = positions.astype(np.float64)
    reach = 1 if rule.mode == "linear" else 2
    stretch = min(scale, 1.0) if rule.antialias else 1.0  # a wider filter when shrinking
    span = math.ceil(reach / stretch)
    first = np.floor(positions).astype(np.int64) - span + 1
    kept(len(positions) + 1, 2 * span)
    index = first[:, None] + ramp(2 * span)
    distance = (index - positions[:, None]) * stretch
    weight = _triangle(distance) if rule.mode == "linear" else _cubic(distance, rule.cubic)
    outside = (index < 0) | (index >= n)
    if rule.exclude_outside:
        weight = np.where(outside, 0, weight)
    if rule.exclude_outside or rule.antialias:
        weight = weight / weight.sum(1, keepdims=True)
    return np.clip(index, 0, n - 1), weight


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel (1981)."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
