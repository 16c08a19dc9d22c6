"""Data movement primitives: index maps, windows, gathers and scatters. Nothing is computed here.

Where an index map ends up (nearly always inside the kernel that reads it) is decided by
`brim.kernels.fuse`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from brim.errors import OpError
from brim.graph import Value, const
from brim.ops.elementwise import (
    broadcast_shape,
    check_plain,
    same_dtype,
    unbroadcast,
    where,
)
from brim.ops.registry import apply, primitive
from brim.types import F32, Type, strided

# How two elements become one: in reductions, running sums and scatters.
COMBINE = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
}

LARGEST_TABLE = 4  # how many times as large as indices what tells where each is may be
MOST_PIECES = 32  # of overlapping windows that are added one by one; of more by `scatter`


def check_axes(x: Type, axes: tuple[int, ...]) -> None:
    """Raises OpError unless `axes` are distinct axes of x."""
    if any(not 0 <= a < x.rank for a in axes) or len(set(axes)) != len(axes):
        raise OpError(f"axes {axes} do not fit rank {x.rank}")


def _transpose(x: Type, *, perm: tuple[int, ...]) -> Type:
    if sorted(perm) != list(range(x.rank)):
        raise OpError(f"perm {perm} is not a permutation of {x.rank} axes")
    return Type(tuple(x.dims[p] for p in perm), x.dtype)


def inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes `perm`."""
    return tuple(int(i) for i in np.argsort(perm))


@primitive(
    "move",
    _transpose,
    lambda x, *, perm: np.transpose(x, perm),
    lambda g, y, x, *, perm: [transpose(g, perm=inverse(perm))],
)
def transpose(x, *, perm):
    """Axes in another order: result axis i is axis perm[i] of x."""


def _reshape(x: Type, *, shape: tuple[int, ...]) -> Type:
    if math.prod(shape) != x.size or any(n < 0 for n in shape):
        raise OpError(
            f"{x.dims} ({x.size} elements) cannot become {shape} ({math.prod(shape)} elements)"
        )
    return Type(tuple(shape), x.dtype)


@primitive(
    "move",
    _reshape,
    lambda x, *, shape: x.reshape(shape),
    lambda g, y, x, *, shape: [reshape(g, shape=x.shape)],
)
def reshape(x, *, shape):
    """The same elements in row-major order under another shape."""


def _broadcast_to(x: Type, *, shape: tuple[int, ...]) -> Type:
    if broadcast_shape(x, Type(tuple(shape), x.dtype)) != tuple(shape):
        raise OpError(f"shape {x.dims} does not broadcast to {shape}")
    return Type(tuple(shape), x.dtype)


@primitive(
    "move",
    _broadcast_to,
    lambda x, *, shape: np.broadcast_to(x, shape),
    lambda g, y, x, *, shape: [unbroadcast(g, x.shape)],
)
def broadcast(x, *, shape):
    """x repeated to `shape` by numpy's rules."""


@primitive("move", lambda x: x, lambda x: x, lambda g, y, x: [g])
def hold(x):
    """x, of which nothing is computed before the graph runs, even where x is a constant.

    So weights of a few bits stay as small as they are stored, up to the kernels that read them.
    """


def _slice(
    x: Type, *, starts: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]
) -> Type:
    if not len(starts) == len(sizes) == len(steps) == x.rank:
        raise OpError(f"starts, sizes and steps need one entry for each of {x.rank} axes")
    for start, size, step, n in zip(starts, sizes, steps, x.dims):
        if size and not (0 <= start < n and 0 <= start + (size - 1) * step < n):
            raise OpError(f"start {start}, size {size}, step {step} leave an axis of {n}")
    return Type(tuple(sizes), x.dtype)


def _slice_numpy(
    x: np.ndarray, *, starts: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]
) -> np.ndarray:
    for axis, (start, size, step) in enumerate(zip(starts, sizes, steps)):
        if (start, size, step) != (0, x.shape[axis], 1):
            x = np.take(x, start + step * np.arange(size), axis=axis)
    return x


def _slice_grad(g: Value, y: Value, x: Value, *, starts: Any, sizes: Any, steps: Any) -> list:
    if 0 in sizes:
        return [const(np.zeros(x.shape, g.dtype.numpy))]
    if repeated := tuple(axis for axis, step in enumerate(steps) if step == 0):
        g = apply("reduce", g, op="add", axes=repeated)
    g = spread(turned(g, *(axis for axis, step in enumerate(steps) if step < 0)), steps)
    low = tuple(min(a, a + (n - 1) * s) for a, n, s in zip(starts, sizes, steps))
    high = tuple(m - a - n for m, a, n in zip(x.shape, low, g.shape))
    return [pad(g, low=low, high=high, value=0) if max(low + high, default=0) else g]


def turned(x: Value, *axes: int) -> Value:
    """x in the opposite order along each of `axes`."""
    starts = tuple(n - 1 if i in axes else 0 for i, n in enumerate(x.shape))
    steps = tuple(-1 if i in axes else 1 for i in range(len(x.shape)))
    return slice(x, starts=starts, sizes=x.shape, steps=steps) if axes else x


def spread(x: Value, steps: tuple[int, ...], value: float = 0) -> Value:
    """x with |step| - 1 elements of `value` between neighbours along each axis."""
    for axis, step in enumerate(map(abs, steps)):
        n = x.shape[axis]
        if step <= 1 or n < 2:
            continue
        shape = x.shape
        x = reshape(x, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :]))
        high = tuple(step - 1 if i == axis + 1 else 0 for i in range(len(x.shape)))
        x = pad(x, low=(0,) * len(high), high=high, value=value)
        x = reshape(x, shape=(*shape[:axis], n * step, *shape[axis + 1 :]))
        sizes = tuple(m - step + 1 if i == axis else m for i, m in enumerate(x.shape))
        x = slice(x, starts=(0,) * len(sizes), sizes=sizes, steps=(1,) * len(sizes))
    return x


@primitive("move", _slice, _slice_numpy, _slice_grad)
def slice(x, *, starts, sizes, steps):
    """Elements start, start+step, ... (`sizes` of them) of every axis; steps may be negative."""


def _pad(x: Type, *, low: tuple[int, ...], high: tuple[int, ...], value: float) -> Type:
    if not len(low) == len(high) == x.rank or min((*low, *high), default=0) < 0:
        raise OpError(f"low {low} and high {high} need one entry >= 0 for each of {x.rank} axes")
    return Type(tuple(a + n + b for a, n, b in zip(low, x.dims, high)), x.dtype)


def _pad_grad(g: Value, y: Value, x: Value, *, low: Any, high: Any, value: float) -> list:
    return [slice(g, starts=low, sizes=x.shape, steps=(1,) * len(low))]


@primitive(
    "move",
    _pad,
    lambda x, *, low, high, value: np.pad(x, tuple(zip(low, high)), constant_values=value),
    _pad_grad,
)
def pad(x, *, low, high, value):
    """x with `low` and `high` elements of `value` around each axis."""


def _concat(*xs: Type, axis: int) -> Type:
    if not xs or any(x.rank != xs[0].rank for x in xs) or not 0 <= axis < xs[0].rank:
        raise OpError(f"axis {axis} does not fit the ranks {[x.rank for x in xs]}")
    rest = {x.dims[:axis] + x.dims[axis + 1 :] for x in xs}
    if len(rest) != 1:
        raise OpError(f"shapes differ outside axis {axis}: {[x.dims for x in xs]}")
    total = sum(x.dims[axis] for x in xs)
    return Type((*xs[0].dims[:axis], total, *xs[0].dims[axis + 1 :]), same_dtype(*xs))


def _concat_grad(g: Value, y: Value, *xs: Value, axis: int) -> list:
    parts, start = [], 0
    for x in xs:
        starts = tuple(start if i == axis else 0 for i in range(len(x.shape)))
        parts.append(slice(g, starts=starts, sizes=x.shape, steps=(1,) * len(x.shape)))
        start += x.shape[axis]
    return parts


@primitive("move", _concat, lambda *xs, axis: np.concatenate(xs, axis), _concat_grad)
def concat(*xs, axis):
    """Tensors one after another along `axis`."""


def _window(
    x: Type,
    *,
    axes: tuple[int, ...],
    size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Type:
    check_axes(x, axes)
    if min((*size, *stride, *dilation), default=1) < 1:
        raise OpError("window size, stride and dilation must be positive")
    shape = list(x.dims)
    for axis, k, s, d in zip(axes, size, stride, dilation):
        count = (shape[axis] - (k - 1) * d - 1) // s + 1
        if count < 1:
            raise OpError(f"a window of {k} (dilation {d}) does not fit an axis of {shape[axis]}")
        shape[axis] = count
    return Type((*shape, *size), x.dtype)


def _window_numpy(x: np.ndarray, *, axes: Any, size: Any, stride: Any, dilation: Any) -> np.ndarray:
    shape = _window(Type(x.shape, F32), axes=axes, size=size, stride=stride, dilation=dilation).dims
    strides = list(x.strides)
    inner = []
    for axis, s, d in zip(axes, stride, dilation):
        inner.append(strides[axis] * d)
        strides[axis] *= s
    return strided(x, shape, (*strides, *inner))


def window_grad(
    g: Value, y: Value, x: Value, *, axes: Any, size: Any, stride: Any, dilation: Any
) -> list:
    """The sums of windows g where they overlap in x."""
    rank = len(x.shape)
    for axis, s, d in zip(axes, stride, dilation):
        # bring the axis inside the window behind that of its windows, then add both into one of x
        perm = [i for i in range(len(g.shape)) if i != rank]
        perm.insert(axis + 1, rank)
        g = _joined(transpose(g, perm=tuple(perm)), axis, x.shape[axis], s, d)
    return [g]


def _joined(g: Value, axis: int, size: int, stride: int, dilation: int) -> Value:
    """The sums of windows g[.., count, k, ..] where they overlap on one axis of `size` elements:
    element j of window i is at i * stride + j * dilation.

    Cut into pieces as long as the stride, windows are rows of pieces, row i beginning at piece i:
    so many shifted rows as a window has pieces, which are pads that fuse, are added.
    """
    count, k = g.shape[axis : axis + 2]
    if count == 1 and dilation == 1:
        stride = k
    if stride > 1 and dilation > 1:
        g = spread(g, tuple(stride if i == axis else 1 for i in range(len(g.shape))))
        count, stride = g.shape[axis], 1
    pieces = -(-k // stride)
    if pieces > MOST_PIECES:
        flat = (*g.shape[:axis], count * k, *g.shape[axis + 2 :])
        index = (np.arange(count)[:, None] * stride + np.arange(k) * dilation).ravel()
        zero = const(np.zeros((*flat[:axis], size, *flat[axis + 1 :]), g.dtype.numpy))
        return scatter(zero, const(index), reshape(g, shape=flat), axis=axis, op="add")

    def only(axis: int, n: int) -> tuple[int, ...]:
        return tuple(n if i == axis else 0 for i in range(len(g.shape)))

    if pieces * stride > k:
        g = pad(g, low=only(axis, 0), high=only(axis + 1, pieces * stride - k), value=0)
    sizes = tuple(stride if i == axis + 1 else n for i, n in enumerate(g.shape))
    total: Value | None = None
    for number in range(pieces):
        starts = only(axis + 1, number * stride)
        part = slice(g, starts=starts, sizes=sizes, steps=(1,) * len(sizes))
        before, behind = number * dilation, (pieces - 1 - number) * dilation
        part = pad(part, low=only(axis, before), high=only(axis, behind), value=0)
        total = part if total is None else apply("add", total, part)
    assert total is not None
    length = total.shape[axis] * stride
    total = reshape(total, shape=(*total.shape[:axis], length, *total.shape[axis + 2 :]))
    if length < size:
        high = tuple(size - length if i == axis else 0 for i in range(len(total.shape)))
        return pad(total, low=(0,) * len(high), high=high, value=0)
    kept = tuple(size if i == axis else n for i, n in enumerate(total.shape))
    return slice(total, starts=(0,) * len(kept), sizes=kept, steps=(1,) * len(kept))


@primitive("move", _window, _window_numpy, window_grad)
def window(x, *, axes, size, stride, dilation):
    """Sliding windows as a view: `axes` count window positions, new last axes run inside the
    window."""


def _gather(x: Type, index: Type, *, axis: int) -> Type:
    check_axes(x, (axis,))
    if not index.dtype.is_integer:
        raise OpError(f"indices are {index.dtype}, not integers")
    return Type((*x.dims[:axis], *index.dims, *x.dims[axis + 1 :]), x.dtype)


def _gather_numpy(x: np.ndarray, index: np.ndarray, *, axis: int) -> np.ndarray:
    if index.size and (index.min() < 0 or index.max() >= x.shape[axis]):
        raise OpError(
            f"an index is outside [0, {x.shape[axis]})",
            why=f"indices span [{index.min()}, {index.max()}]",
        )
    return np.take(x, index.astype(np.int64), axis=axis)


def gather_grad(g: Value, y: Value, x: Value, index: Value, *, axis: int) -> list:
    """Of known indices pads, as of a slice, or sums of what the table turned round gathers."""
    count = math.prod(index.shape)
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    g = reshape(g, shape=shape)
    asked = None if index.data is None else index.data.reshape(-1).astype(np.int64)
    if asked is not None and count and len(set(np.diff(asked).tolist())) < 2:
        step = int(asked[1] - asked[0]) if count > 1 else 1
        starts = tuple(int(asked[0]) if i == axis else 0 for i in range(len(shape)))
        steps = tuple(step if i == axis else 1 for i in range(len(shape)))
        return [*_slice_grad(g, y, x, starts=starts, sizes=shape, steps=steps), None]
    if asked is not None and (table := inverse_table(asked, x.shape[axis])) is not None:
        weights = const((table >= 0).astype(g.dtype.numpy))
        return [apply("resample", g, const(np.maximum(table, 0)), weights, axis=axis), None]
    zero = const(np.zeros(x.shape, g.dtype.numpy))
    flat = reshape(index, shape=(count,))
    return [scatter(zero, flat, g, axis=axis, op="add"), None]


def inverse_table(index: np.ndarray, size: int) -> np.ndarray | None:
    """table[i, :]: the places in index[n] where i < size stands; -1 fills the rows. None where it
    would be much larger than the indices."""
    counts = np.bincount(index, minlength=size)
    width = int(counts.max(initial=0))
    if not width or size * width > LARGEST_TABLE * index.size:
        return None
    order = np.argsort(index, kind="stable")
    column = np.arange(index.size) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((size, width), -1)
    table[index[order], column] = order
    return table


@primitive("index", _gather, _gather_numpy, gather_grad)
def gather(x, index, *, axis):
    """Slices of x along `axis` at integer `index` (any shape), each in [0, size)."""


def _scatter(x: Type, index: Type, update: Type, *, axis: int, op: str) -> Type:
    check_axes(x, (axis,))
    wanted = (*x.dims[:axis], *index.dims, *x.dims[axis + 1 :])
    if index.rank != 1 or update.dims != wanted or not index.dtype.is_integer:
        raise OpError(f"index must be one axis of integers and update {wanted}, not {update.dims}")
    if op not in ("set", "add", "mul", "max", "min"):
        raise OpError(f"scatter by {op!r}")
    if op != "set":
        check_plain(x.dtype)
    return Type(x.dims, same_dtype(x, update))


def _scatter_numpy(
    x: np.ndarray, index: np.ndarray, update: np.ndarray, *, axis: int, op: str
) -> np.ndarray:
    if index.size and (index.min() < 0 or index.max() >= x.shape[axis]):
        raise OpError(f"an index is outside [0, {x.shape[axis]})")
    y = np.moveaxis(x.copy(), axis, 0)
    rows = np.moveaxis(update, axis, 0)
    if op == "set":
        for i, row in zip(index, rows):  # in order: the last of equal indices wins
            y[i] = row
    else:
        COMBINE[op].at(y, index, rows)
    return np.moveaxis(y, 0, axis)


def _scatter_grad(
    g: Value, y: Value, x: Value, index: Value, update: Value, *, axis: int, op: str
) -> list:
    """Of updates that are set at one place the last has a gradient; of equal largest (smallest)
    numbers each has the same share."""
    here = gather(g, index, axis=axis)
    if op == "add":
        return [g, None, here]
    if op == "set":
        number = const(np.arange(index.shape[0]))
        none = const(np.full(x.shape[axis], -1))
        last = scatter(none, index, number, axis=0, op="set")
        wins = apply("eq", gather(last, index, axis=0), number)
        wins = reshape(wins, shape=tuple(n if i == axis else 1 for i, n in enumerate(here.shape)))
        zero = const(np.zeros(update.shape, g.dtype.numpy))
        return [scatter(g, index, zero, axis=axis, op="set"), None, where(wins, here)]
    if op == "mul":
        return _scatter_mul_grad(g, x, index, update, axis)
    mine, theirs = apply("eq", x, y), apply("eq", update, gather(y, index, axis=axis))
    hits = [apply("cast", hit, to=g.dtype) for hit in (mine, theirs)]
    count = scatter(hits[0], index, hits[1], axis=axis, op="add")
    share = apply("div", g, count)
    return [where(mine, share), None, where(theirs, gather(share, index, axis=axis))]


def _scatter_mul_grad(g: Value, x: Value, index: Value, update: Value, axis: int) -> list:
    """An element's factors are its own number and those of its updates: without 0 among the others,
    each has the slope product / factor. (Second derivatives are 0 where a factor is 0.)"""
    one, zero = (const(np.asarray(n, x.dtype.numpy)) for n in (1, 0))
    rests, zeros = [], []
    for factor in (x, update):
        is_zero = apply("eq", factor, zero)
        rests.append(apply("select", is_zero, one, factor))
        zeros.append(apply("cast", is_zero, to=x.dtype))
    product = scatter(rests[0], index, rests[1], axis=axis, op="mul")
    count = scatter(zeros[0], index, zeros[1], axis=axis, op="add")

    def slope(parts: Iterable[Value], which: int) -> Value:
        g, product, count = parts
        others = apply("eq", count, zeros[which])
        return where(others, apply("mul", g, apply("div", product, rests[which])))

    theirs = (gather(part, index, axis=axis) for part in (g, product, count))
    return [slope((g, product, count), 0), None, slope(theirs, 1)]


@primitive("scatter", _scatter, _scatter_numpy, _scatter_grad)
def scatter(x, index, update, *, axis, op):
    """x with slices of `update` set (or added, multiplied, ...) along `axis` at `index`, in
    order."""
