"""Operators of com.microsoft on whole tensors: those that ONNX took over later, under the same
names, and some that it did not: Inverse, CDist, CropAndResize, UnfoldTensor, MurmurHash3, ...
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import bounded, front, ramp
from brim.frontends.onnx.operators.data import unique
from brim.frontends.onnx.operators.index import gather_nd
from brim.frontends.onnx.operators.microsoft.contrib import contrib, contrib_host
from brim.frontends.onnx.operators.nn import conv_transpose
from brim.frontends.onnx.operators.shape import pad, range_, trilu
from brim.frontends.onnx.operators.vision import grid_sample
from brim.frontends.onnx.table import MICROSOFT, Call, host
from brim.graph import Value, const
from brim.types import I32, I64, U32, Type

contrib("GatherND")(gather_nd)
contrib("Trilu")(trilu)
contrib("Pad")(pad)
contrib("GridSample")(grid_sample)


@contrib("ExpandDims")
def expand_dims(call: Call) -> Value:
    x = call[0]
    axis = front(int(call.array(1).reshape(-1)[0]), len(x.shape) + 1)
    return p.reshape(x, shape=(*x.shape[:axis], 1, *x.shape[axis:]))


@contrib("Range")
def range_with_default(call: Call) -> Value:
    one = const(np.ones((), call[0].dtype.numpy))
    step = call[2] if call.given(2) else one
    return range_(replace(call, inputs=(call[0], call[1], step)))


@contrib("UnfoldTensor")
def unfold_tensor(call: Call) -> Value:
    axis, size, step = call.axis("dim", -1), call.int("size"), call.int("step", 1)
    return p.window(call[0], axes=(axis,), size=(size,), stride=(step,), dilation=(1,))


@contrib("ConvTransposeWithDynamicPads")
def conv_transpose_with_dynamic_pads(call: Call) -> Value:
    attributes = dict(call.node.attributes)
    if call.given(2):
        attributes["pads"] = call.int_inputs(2)
    node = replace(call.node, attributes=attributes)
    inputs = (call[0], call[1], call.get(3))
    return conv_transpose(replace(call, node=node, inputs=inputs))


@contrib("CDist")
def pairwise_distance(call: Call) -> Value:
    metric = call.choice("metric", "sqeuclidean", ("sqeuclidean", "euclidean"))
    a, b = (p.reshape(call[i], shape=_spread(call[i], i)) for i in (0, 1))
    difference = p.sub(a, b)
    total = p.reduce(p.mul(difference, difference), op="add", axes=(2,))
    total = p.reshape(total, shape=total.shape[:2])
    return total if metric == "sqeuclidean" else p.sqrt(total)


def _spread(x: Value, axis: int) -> tuple[int, ...]:
    if len(x.shape) != 2:
        raise ModelError(f"distances between the rows of {x.type}")
    return (*x.shape[: 1 - axis], 1, *x.shape[1 - axis :])


@contrib_host("Unique", gives=(0, I64, I64))
def unique_unsorted(call: Call, x: np.ndarray) -> tuple[np.ndarray, ...]:
    node = replace(call.node, attributes={"sorted": 0})
    y, _, inverse, count = unique(replace(call, node=node), x)
    return y, inverse, count


@contrib_host("Inverse", gives=(0,))
def inverse(call: Call, x: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.inv(x.astype(np.float64)).astype(x.dtype)
    except np.linalg.LinAlgError as error:
        raise ModelError(f"the inverse of {x.dtype}{x.shape}", why=str(error)) from None


# ------------------------------------------------------------------ crops


@contrib_host("CropAndResize", gives=(0,))
def crop_and_resize(
    call: Call, x: np.ndarray, boxes: np.ndarray, images: np.ndarray, size: np.ndarray
) -> np.ndarray:
    """Boxes [n, (y1, x1, y2, x2)], of which 0 and 1 are the centres of the outermost pixels."""
    mode = call.choice("mode", "bilinear", ("bilinear", "nearest"))
    outside = call.float("extrapolation_value", 0.0)
    count, (height, width) = len(boxes), size
    bounded((count, x.shape[1], height, width))
    if x.ndim != 4 or boxes.shape != (count, 4) or images.shape != (count,):
        raise ModelError(f"boxes {boxes.shape} of images {x.shape}")
    if images.size and not 0 <= images.min() <= images.max() < len(x):
        raise ModelError(f"image {images.max()} of {len(x)}")
    y = np.full((count, x.shape[1], height, width), outside, x.dtype)
    for i, (top, left, bottom, right) in enumerate(boxes):
        rows, inside_rows = _places(top, bottom, int(height), x.shape[2])
        columns, inside_columns = _places(left, right, int(width), x.shape[3])
        found = _sampled(x[images[i]], rows, columns, mode == "nearest")
        y[i] = np.where(inside_rows[:, None] & inside_columns, found, y[i])
    return y


def _places(first: float, last: float, count: int, extent: int) -> tuple[np.ndarray, np.ndarray]:
    """Where `count` samples from first to last lie along an axis, and which lie on it."""
    share = ramp(count) / np.float32(count - 1) if count > 1 else np.full(1, np.float32(0.5))
    at = (np.float32(first) + share * (last - first)).astype(np.float32) * np.float32(extent - 1)
    inside = (at >= 0) & (at <= extent - 1)
    return np.where(inside, at, 0), inside


def _sampled(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, nearest: bool) -> np.ndarray:
    """x[C, H, W] at all pairs of rows and columns."""
    if nearest:  # halves away from zero
        at_rows, at_columns = (np.floor(v + 0.5).astype(np.int64) for v in (rows, columns))
        return x[:, at_rows[:, None], at_columns]
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    bottom, right = np.ceil(rows).astype(np.int64), np.ceil(columns).astype(np.int64)
    down, across = (rows - top)[:, None], columns - left
    upper = x[:, top[:, None], left] * (1 - across) + x[:, top[:, None], right] * across
    lower = x[:, bottom[:, None], left] * (1 - across) + x[:, bottom[:, None], right] * across
    return upper * (1 - down) + lower * down


# ------------------------------------------------------------------ hashes


def _hash_types(call: Call) -> list[Type]:
    return [Type(None, U32 if call.flag("positive", True) else I32)]


@host("MurmurHash3", domain=MICROSOFT, types=_hash_types)
def murmur_hash(call: Call, x: np.ndarray) -> np.ndarray:
    """MurmurHash3_x86_32 of the bytes of each element (of a text: of its UTF-8)."""
    seed = call.int("seed", 0) & 0xFFFFFFFF
    texts = x.dtype == object
    parts = (v.encode() if texts else v.tobytes() for v in x.ravel())
    y = np.array([_murmur(part, seed) for part in parts], np.uint32).reshape(x.shape)
    return y if call.flag("positive", True) else y.view(np.int32)


def _murmur(data: bytes, seed: int) -> int:
    """Austin Appleby's MurmurHash3_x86_32 (public domain)."""

    def turned(x: int, bits: int) -> int:
        return (x << bits | x >> (32 - bits)) & 0xFFFFFFFF

    def mixed(word: int) -> int:
        return turned(word * 0xCC9E2D51 & 0xFFFFFFFF, 15) * 0x1B873593 & 0xFFFFFFFF

    state, whole = seed, len(data) // 4 * 4
    for start in range(0, whole, 4):
        state ^= mixed(int.from_bytes(data[start : start + 4], "little"))
        state = turned(state, 13) * 5 + 0xE6546B64 & 0xFFFFFFFF
    state ^= mixed(int.from_bytes(data[whole:], "little"))
    state ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        state = (state ^ state >> shift) * factor & 0xFFFFFFFF
    return state
