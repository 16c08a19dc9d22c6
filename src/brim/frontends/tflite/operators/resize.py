"""Resizing of pictures x[N, H, W, C]: bilinear and nearest neighbour."""

from __future__ import annotations

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import bounded, kept
from brim.frontends.tflite.table import Call, operator, quantized
from brim.graph import Value, const
from brim.ops.nn import resample
from brim.types import F32, F64, I16, I32


def _sizes(call: Call) -> tuple[int, int]:
    if len(call[0].shape) != 4 or len(sizes := call.integers(1)) != 2:
        raise ModelError(f"{call.name} of {call[0].type} to {call[1].type}")
    if 0 in call[0].shape:
        raise ModelError(f"nothing to resize in {call[0].type}")
    bounded(sizes)
    return sizes[0], sizes[1]


def _positions(call: Call, n: int, size: int, half: float) -> np.ndarray:
    """Where in the source (in elements) each result element lies; in f32, as LiteRT does.

    half: what is taken off again after the centres of pixels were used.
    """
    align, centres = call.flag("align_corners"), call.flag("half_pixel_centers")
    f = np.float32
    scale = f(n - 1) / f(size - 1) if align and size > 1 else f(n) / f(size)
    at = np.arange(*kept(size)).astype(np.float32)
    return (at + f(0.5)) * scale - f(half) if centres else at * scale


@operator("RESIZE_BILINEAR")
def resize_bilinear(call: Call) -> Value:
    x = y = call[0]
    y = y if y.dtype.is_float else p.cast(y, to=F32)
    for axis, size in enumerate(_sizes(call), 1):
        n = x.shape[axis]
        positions = _positions(call, n, size, 0.5)
        if np.array_equal(positions, np.arange(n)):
            continue
        low = np.floor(positions).astype(np.int64)
        index = np.clip(np.stack([low, low + 1], 1), 0, n - 1)
        upper = positions - low
        weight = np.stack([1 - upper, upper], 1).astype(y.dtype.numpy)
        y = resample(y, const(index), const(weight), axis=axis)
    return y if y.dtype == x.dtype else p.cast(y, to=x.dtype)


@operator("RESIZE_NEAREST_NEIGHBOR", moves=True)
def resize_nearest(call: Call) -> Value:
    y = call[0]
    for axis, size in enumerate(_sizes(call), 1):
        n = y.shape[axis]
        positions = _positions(call, n, size, 0.0)
        # LiteRT rounds halves away from zero
        found = np.floor(positions + np.float32(0.5)) if call.flag("align_corners") else positions
        index = np.clip(np.floor(found).astype(np.int64), 0, n - 1)
        if size % n == 0 and np.array_equal(index, np.repeat(np.arange(n), size // n)):
            y = _repeated(y, axis, size // n)  # an affine map, which fuses; a gather reads a table
        else:
            y = p.gather(y, const(index), axis=axis)
    return y


def _repeated(x: Value, axis: int, times: int) -> Value:
    """Every element of an axis, `times` in a row."""
    before, after = x.shape[: axis + 1], x.shape[axis + 1 :]
    wide = p.broadcast(p.reshape(x, shape=(*before, 1, *after)), shape=(*before, times, *after))
    return p.reshape(wide, shape=(*before[:-1], before[-1] * times, *after))


@quantized("RESIZE_BILINEAR")
def resize_quantized(call: Call) -> Value:
    """In integers, rounded once: weights are 1024ths for 16 bits, 2048ths (XNNPACK's) for 8."""
    x, unit = call[0], 1024 if call[0].dtype == I16 else 2048
    y = p.cast(x, to=F64 if x.dtype == I16 else I32)  # holds all products of both axes exactly
    for axis, size in enumerate(_sizes(call), 1):
        n = x.shape[axis]
        at = _in_1024ths(call, n, size) if x.dtype == I16 else _in_2048ths(call, n, size)
        low = np.maximum(at, 0) // unit
        upper = at - unit * low
        index = np.minimum(np.stack([low, low + (upper > 0)], 1), n - 1)
        weight = np.stack([unit - upper, upper], 1).astype(y.dtype.numpy)
        y = resample(y, const(index), const(weight), axis=axis)
    if x.dtype != I16:
        return p.cast(p.shift_right(p.add(y, 1 << 21), 22), to=x.dtype)
    y = p.mul(y, 2.0**-20)
    return p.cast(p.trunc(p.add(y, p.mul(p.sign(y), 0.5))), to=I16)


def _in_1024ths(call: Call, n: int, size: int) -> np.ndarray:
    """Positions in the source as LiteRT computes them in integers."""
    last = call.flag("align_corners") and size > 1
    step = (1024 * (n - last) + (size - last) // 2) // (size - last)
    first = step // 2 - 512 if call.flag("half_pixel_centers") else 0
    return np.arange(*kept(size)) * step + first


def _in_2048ths(call: Call, n: int, size: int) -> np.ndarray:
    at = np.clip(_positions(call, n, size, 0.5), 0, n - 1)
    low = np.floor(at)
    return (2048 * low + np.rint((at - low) * np.float32(2048))).astype(np.int64)
