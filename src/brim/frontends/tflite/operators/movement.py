"""Operators that move numbers as they are, quantized or not."""

from __future__ import annotations

from math import prod

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.batch import target_for
from brim.frontends.bounds import bounded, front
from brim.frontends.tflite.operators.activation import activated
from brim.frontends.tflite.table import Call, NeedsData, fronts, operator
from brim.graph import Value, const


@operator("RESHAPE", moves=True)
def reshape(call: Call) -> Value:
    new = call.option("new_shape", ())
    try:
        wanted = call.integers(1) if call.get(1) is not None else tuple(new)
    except NeedsData:
        if not new:
            raise
        wanted = tuple(new)
    call.ignore("new_shape")
    if call.scope is not None:
        wanted = target_for(call.scope.batch_of(call[0]), call[0].shape, wanted)
    return p.reshape(call[0], shape=_whole(wanted, call[0].type.size))


def _whole(wanted: tuple[int, ...], size: int) -> tuple[int, ...]:
    """A shape whose -1 is what remains."""
    if wanted.count(-1) != 1:
        return wanted
    rest = prod(n for n in wanted if n != -1)
    return tuple(size // max(rest, 1) if n == -1 else n for n in wanted)


@operator("SQUEEZE", moves=True)
def squeeze(call: Call) -> Value:
    shape = call[0].shape
    axes = fronts(call.option("squeeze_dims", ()), len(shape))
    axes = axes or tuple(i for i, n in enumerate(shape) if n == 1)
    return p.reshape(call[0], shape=tuple(n for i, n in enumerate(shape) if i not in axes))


@operator("EXPAND_DIMS", moves=True)
def expand_dims(call: Call) -> Value:
    shape = call[0].shape
    axis = front(call.integer(1), len(shape) + 1)
    return p.reshape(call[0], shape=(*shape[:axis], 1, *shape[axis:]))


@operator("DENSIFY", moves=True)
def densify(call: Call) -> Value:
    return call[0]  # made dense when the file was read


@operator("TRANSPOSE", moves=True)
def transpose(call: Call) -> Value:
    rank = len(call[0].shape)
    return p.transpose(call[0], perm=tuple(front(n, rank) for n in call.integers(1)))


@operator("PAD", "PADV2", moves=True)
def pad(call: Call) -> Value:
    amounts = np.array(call.integers(1)).reshape(-1, 2)
    if len(amounts) != len(call[0].shape):
        raise ModelError(f"{call.name} of {len(amounts)} axes does not fit {call[0].type}")
    found = call.quantization(0)
    value = 0 if found is None else int(found.zero[0])
    if call.name == "PADV2":
        value = call.array(2).item()
    low, high = (tuple(int(n) for n in column) for column in amounts.T)
    bounded(n + a + b for n, a, b in zip(call[0].shape, low, high))
    return p.pad(call[0], low=low, high=high, value=value)


@operator("SLICE", moves=True)
def slice_(call: Call) -> Value:
    shape, starts = call[0].shape, call.integers(1)
    sizes = tuple(n - a if s == -1 else s for n, a, s in zip(shape, starts, call.integers(2)))
    return p.slice(call[0], starts=starts, sizes=sizes, steps=(1,) * len(shape))


@operator("STRIDED_SLICE", moves=True)
def strided_slice(call: Call) -> Value:
    begin, end, steps = (call.integers(i) for i in (1, 2, 3))
    masks = {
        n: call.int(f"{n}_mask") for n in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    masks["offset"] = call.int("offset", 0)
    x = call[0]
    starts: list[int] = []
    sizes: list[int] = []
    strides: list[int] = []
    shape: list[int] = []
    added = sum(bool(masks["new_axis"] >> i & 1) for i in range(len(begin)))
    ellipses = [i for i in range(len(begin)) if masks["ellipsis"] >> i & 1]
    if len(ellipses) > 1:
        raise ModelError("STRIDED_SLICE with two ellipses")
    skipped = len(x.shape) - (len(begin) - added - len(ellipses))

    def take(start: int, size: int, step: int, keep: bool = True) -> None:
        starts.append(start)
        sizes.append(size)
        strides.append(step)
        if keep:
            shape.append(size)

    for i, step in enumerate(steps):
        bit = {name: bool(mask >> i & 1) for name, mask in masks.items() if name != "offset"}
        if bit["ellipsis"]:
            for _ in range(skipped):
                take(0, x.shape[len(starts)], 1)
            continue
        if bit["new_axis"]:
            shape.append(1)
            continue
        n = x.shape[len(starts)]
        if step == 0:
            raise ModelError("STRIDED_SLICE with step 0")
        if bit["shrink_axis"]:
            take(front(begin[i], n), 1, 1, keep=False)
            continue
        last = begin[i] + end[i] if masks["offset"] else end[i]
        found = range(n)[
            slice(None if bit["begin"] else begin[i], None if bit["end"] else last, step)
        ]
        take(found.start if len(found) else 0, len(found), step)
    while len(starts) < len(x.shape):
        take(0, x.shape[len(starts)], 1)
    y = p.slice(x, starts=tuple(starts), sizes=tuple(sizes), steps=tuple(strides))
    return p.reshape(y, shape=tuple(shape))


@operator("CONCATENATION")
def concatenation(call: Call) -> Value:
    values = call.values()
    axis = front(call.int("axis"), len(values[0].shape))
    return activated(call, p.concat(*values, axis=axis))


@operator("SPLIT", moves=True)
def split(call: Call) -> list[Value]:
    x, count = call[1], call.int("num_splits")
    axis = front(call.integer(0), len(x.shape))
    if count < 1 or x.shape[axis] % count:
        raise ModelError(f"{x.type} cannot be cut into {count} along axis {axis}")
    return cut(x, axis, (x.shape[axis] // count,) * count)


@operator("SPLIT_V", moves=True)
def split_v(call: Call) -> list[Value]:
    call.ignore("num_splits")
    x, sizes = call[0], call.integers(1)
    axis = front(call.integer(2), len(x.shape))
    rest = x.shape[axis] - sum(n for n in sizes if n >= 0)
    return cut(x, axis, tuple(rest if n == -1 else n for n in sizes))


def cut(x: Value, axis: int, sizes: tuple[int, ...]) -> list[Value]:
    """Parts of x along an axis, one after the other."""
    parts, start = [], 0
    for size in sizes:
        starts = tuple(start if i == axis else 0 for i in range(len(x.shape)))
        extent = tuple(size if i == axis else n for i, n in enumerate(x.shape))
        parts.append(p.slice(x, starts=starts, sizes=extent, steps=(1,) * len(starts)))
        start += size
    return parts


@operator("PACK", moves=True)
def pack(call: Call) -> Value:
    call.ignore("values_count")
    values = call.values()
    axis = front(call.int("axis"), len(values[0].shape) + 1)
    shape = values[0].shape
    wide = [p.reshape(v, shape=(*shape[:axis], 1, *shape[axis:])) for v in values]
    return p.concat(*wide, axis=axis)


@operator("UNPACK", moves=True)
def unpack(call: Call) -> list[Value]:
    x, axis = call[0], call.axis("axis")
    shape = tuple(n for i, n in enumerate(x.shape) if i != axis)
    if call.int("num") != x.shape[axis]:
        raise ModelError(f"{x.type} has not {call.int('num')} parts along axis {axis}")
    return [p.reshape(part, shape=shape) for part in cut(x, axis, (1,) * x.shape[axis])]


@operator("SHAPE", moves=True)
def shape_of(call: Call) -> Value:
    call.ignore("out_type")
    return const(np.array(call[0].shape, call.result_dtype().numpy))


@operator("DEPTH_TO_SPACE", moves=True)
def depth_to_space(call: Call) -> Value:
    (n, h, w, c), b = call[0].shape, call.int("block_size")
    y = p.reshape(call[0], shape=(n, h, w, b, b, c // (b * b)))
    return p.reshape(p.transpose(y, perm=(0, 1, 3, 2, 4, 5)), shape=(n, h * b, w * b, c // (b * b)))


@operator("SPACE_TO_DEPTH", moves=True)
def space_to_depth(call: Call) -> Value:
    (n, h, w, c), b = call[0].shape, call.int("block_size")
    y = p.reshape(call[0], shape=(n, h // b, b, w // b, b, c))
    return p.reshape(p.transpose(y, perm=(0, 1, 3, 2, 4, 5)), shape=(n, h // b, w // b, b * b * c))


@operator("MIRROR_PAD", moves=True)
def mirror_pad(call: Call) -> Value:
    skip = {"reflect": 1, "symmetric": 0}[call.choice("mode", ("reflect", "symmetric"))]
    y = call[0]
    amounts = np.array(call.integers(1)).reshape(-1, 2)
    for axis, (low, high) in enumerate(amounts.tolist()):
        n = y.shape[axis]
        if not 0 <= max(low, high) <= n - skip:
            raise ModelError(f"MIRROR_PAD by {low}, {high} of an axis of {n}")
        before, after = np.arange(low)[::-1] + skip, n - 1 - skip - np.arange(high)
        index = np.concatenate([before, np.arange(n), after])
        if low or high:
            y = p.gather(y, const(index), axis=axis)
    return y
