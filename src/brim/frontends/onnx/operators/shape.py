"""ONNX operators that move data by rules: reshape, transpose, slice, pad, concat, and kin."""

from __future__ import annotations

import math

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.batch import target_for
from brim.frontends.bounds import KEPT, bounded, kept, ramp
from brim.frontends.onnx.table import Call, NeedsData, fronts, operator
from brim.frontends.onnx.tensors import element
from brim.graph import Value, const
from brim.ops.indexing import tiled


@operator("Identity", dynamic=True)
def identity(call: Call) -> object:
    return call.operand(0)


@operator("Constant", storage=True)
def constant(call: Call) -> Value:
    if len(call.node.attributes) != 1:
        raise ModelError("Constant needs exactly one attribute")
    (name,) = call.node.attributes
    match name:
        case "value" | "sparse_value":
            return const(call.tensor(name))
        case "value_float":
            return const(np.float32(call.float(name)))
        case "value_floats":
            return const(np.array(call.floats(name), np.float32))
        case "value_int":
            return const(np.int64(call.int(name)))
        case "value_ints":
            return const(np.array(call.ints(name), np.int64))
        case "value_string":
            return const(np.array(call.text(name), object))
        case "value_strings":
            return const(np.array(call.texts(name), object))
    raise call.unsupported(name)


@operator("ConstantOfShape", storage=True)
def constant_of_shape(call: Call) -> Value:
    value = call.tensor("value", np.zeros(1, np.float32))
    shape = bounded(call.int_inputs(0))
    return p.broadcast(const(value.reshape(())), shape=shape)


@operator("Shape", storage=True)
def shape(call: Call) -> Value:
    rank = len(call[0].shape)
    start, end = call.int("start", 0), call.int("end", rank)
    return const(np.array(call[0].shape[start:end], np.int64))


@operator("Size", storage=True)
def size(call: Call) -> Value:
    return const(np.int64(call[0].type.size))


@operator("Reshape", storage=True)
def reshape(call: Call) -> Value:
    x, wanted = call[0], list(call.int_inputs(1))
    if not call.flag("allowzero"):
        for axis, n in enumerate(wanted):
            if n == 0:
                if axis >= len(x.shape):
                    raise ModelError(f"a 0 at axis {axis} copies a size that {x.type} lacks")
                wanted[axis] = x.shape[axis]
    if call.scope is not None:
        wanted = list(target_for(call.scope.batch_of(x), x.shape, wanted))
    if wanted.count(-1) > 1:
        raise ModelError(f"shape {wanted} leaves more than one axis open")
    if -1 in wanted:
        rest = math.prod(n for n in wanted if n != -1)
        if rest == 0 or x.type.size % rest:
            raise ModelError(f"{x.type} cannot take the shape {wanted}")
        wanted[wanted.index(-1)] = x.type.size // rest
    return p.reshape(x, shape=bounded(wanted))


@operator("Flatten", storage=True)
def flatten(call: Call) -> Value:
    x, axis = call[0], call.int("axis", 1)
    if not -len(x.shape) <= axis <= len(x.shape):
        raise ModelError(f"axis {axis} does not fit {x.type}")
    axis = axis + len(x.shape) if axis < 0 else axis
    return p.reshape(x, shape=(math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@operator("Transpose", storage=True)
def transpose(call: Call) -> Value:
    rank = len(call[0].shape)
    perm = call.ints("perm", range(rank)[::-1])
    return p.transpose(call[0], perm=fronts(perm, rank))


def _axes(call: Call, since_input: int) -> tuple[int, ...] | None:
    """The axes of Squeeze and its kind: an attribute in old operator sets, later an input."""
    if call.version < since_input:
        return call.ints("axes", None)
    return call.int_inputs(1) if call.given(1) else None


@operator("Squeeze", storage=True)
def squeeze(call: Call) -> Value:
    x, axes = call[0], _axes(call, 13)
    if axes is None:
        axes = tuple(i for i, n in enumerate(x.shape) if n == 1)
    axes = fronts(axes, len(x.shape))
    if any(x.shape[a] != 1 for a in axes):
        raise ModelError(f"axes {axes} of {x.type} are not of size 1")
    return p.reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in axes))


@operator("Unsqueeze", storage=True)
def unsqueeze(call: Call) -> Value:
    x, axes = call[0], _axes(call, 13)
    if axes is None:
        raise ModelError("Unsqueeze lacks its axes")
    rank = len(x.shape) + len(axes)
    axes = fronts(axes, rank)
    sizes = iter(x.shape)
    return p.reshape(x, shape=tuple(1 if i in axes else next(sizes) for i in range(rank)))


@operator("Concat", storage=True)
def concat(call: Call) -> Value:
    return p.concat(*call.values(), axis=call.axis("axis"))


@operator("Expand", storage=True)
def expand(call: Call) -> Value:
    wanted = bounded(call.int_inputs(1))
    try:
        return p.broadcast(call[0], shape=bounded(np.broadcast_shapes(call[0].shape, wanted)))
    except ValueError:
        raise ModelError(f"{call[0].type} does not expand to {wanted}") from None


@operator("Tile", storage=True)
def tile(call: Call) -> Value:
    x, repeats = call[0], call.int_inputs(1)
    if len(repeats) != len(x.shape):
        raise ModelError(f"{len(repeats)} repeats for {x.type}")
    bounded(n * r for n, r in zip(x.shape, repeats))
    return tiled(x, repeats)


# ------------------------------------------------------------------ slices


def slice_axes(x: Value, bounds: dict[int, tuple[int, int, int]]) -> Value:
    """x[start:end:step] on some axes, by ONNX's clamping rules."""
    starts, sizes, steps = [0] * len(x.shape), list(x.shape), [1] * len(x.shape)
    for axis, (start, end, step) in bounds.items():
        if step == 0:
            raise ModelError("a slice's step is 0")
        n = x.shape[axis]
        start, end = start + n if start < 0 else start, end + n if end < 0 else end
        low, high = (0, n) if step > 0 else (-1, n - 1)
        start, end = min(max(start, 0), high), min(max(end, low), high)
        count = max(0, -((start - end) // step) if step > 0 else -((end - start) // -step))
        starts[axis], sizes[axis], steps[axis] = start if count else 0, count, step
    return p.slice(x, starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps))


@operator("Slice", storage=True)
def slice_attributes(call: Call) -> Value:
    starts, ends = call.ints("starts"), call.ints("ends")
    axes = call.ints("axes", range(len(starts)))
    return _slice(call[0], starts, ends, axes, (1,) * len(starts))


@operator("Slice", since=10, storage=True)
def slice_inputs(call: Call) -> Value:
    starts, ends = call.int_inputs(1), call.int_inputs(2)
    axes = call.int_inputs(3) if call.given(3) else tuple(range(len(starts)))
    steps = call.int_inputs(4) if call.given(4) else (1,) * len(starts)
    return _slice(call[0], starts, ends, axes, steps)


def _slice(x: Value, starts: tuple, ends: tuple, axes: tuple, steps: tuple) -> Value:
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ModelError("starts, ends, axes and steps of a slice differ in length")
    return slice_axes(x, dict(zip(fronts(axes, len(x.shape)), zip(starts, ends, steps))))


@operator("Split", storage=True)
def split(call: Call) -> tuple[Value, ...]:
    x, axis = call[0], call.axis("axis", 0)
    n, count = x.shape[axis], len(call.node.outputs)
    sizes: tuple[int, ...] | None
    if call.version < 13:
        sizes = call.ints("split", None)
    else:
        sizes = call.int_inputs(1) if call.given(1) else None
    if call.int("num_outputs", count) != count:
        raise ModelError(f"num_outputs differs from the {count} outputs")
    if sizes is None:
        part = -(-n // count)
        sizes = tuple(max(0, min(part, n - i * part)) for i in range(count))
    if sum(sizes) != n or min(sizes, default=0) < 0:
        raise ModelError(f"parts {sizes} do not make up axis {axis} of {x.type}")
    ends = np.cumsum(np.array(sizes, np.int64))
    return tuple(slice_axes(x, {axis: (int(e) - s, int(e), 1)}) for s, e in zip(sizes, ends))


# ------------------------------------------------------------------ padding


@operator("Pad", storage=True)
def pad_attributes(call: Call) -> Value:
    mode = call.choice("mode", "constant", ("constant", "reflect", "edge"))
    return pad_value(call[0], call.ints("pads"), mode, call.float("value", 0.0))


@operator("Pad", since=11, storage=True)
def pad(call: Call) -> Value:
    x, rank = call[0], len(call[0].shape)
    mode = call.choice("mode", "constant", ("constant", "reflect", "edge", "wrap"))
    amounts = call.int_inputs(1)
    value = call.array(2).reshape(-1).tolist()[0] if call.given(2) else 0
    if call.given(3):
        axes = fronts(call.int_inputs(3), rank)
        if len(amounts) != 2 * len(axes):
            raise ModelError(f"{len(amounts)} pads for axes {axes}")
        full = [0] * (2 * rank)
        for i, axis in enumerate(axes):
            full[axis], full[rank + axis] = amounts[i], amounts[len(axes) + i]
        amounts = tuple(full)
    return pad_value(x, amounts, mode, value)


def pad_value(x: Value, amounts: tuple[int, ...], mode: str, value: float) -> Value:
    """x with amounts (all before, then all after) added around its axes; negative ones cut off."""
    rank = len(x.shape)
    if len(amounts) != 2 * rank:
        raise ModelError(f"{len(amounts)} pads for {x.type}")
    low, high = amounts[:rank], amounts[rank:]
    bounded(max(a + n + b, 0) for a, n, b in zip(low, x.shape, high))
    cut = {
        i: (max(-a, 0), n - max(-b, 0), 1)
        for i, (a, n, b) in enumerate(zip(low, x.shape, high))
        if a < 0 or b < 0
    }
    x = slice_axes(x, cut) if cut else x
    low, high = (tuple(max(n, 0) for n in side) for side in (low, high))
    if mode == "constant":
        return p.pad(x, low=low, high=high, value=value) if any(low + high) else x
    for axis, (before, after) in enumerate(zip(low, high)):
        if before or after:
            x = p.gather(x, const(_outside(mode, x.shape[axis], before, after)), axis=axis)
    return x


def _outside(mode: str, n: int, before: int, after: int) -> np.ndarray:
    """Where the elements of a padded axis come from."""
    positions = ramp(before + n + after) - before
    if n == 0:
        raise ModelError(f"padding by {mode} needs elements")
    match mode:
        case "edge":
            return np.clip(positions, 0, n - 1)
        case "wrap":
            return positions % n
    if n == 1:
        return np.zeros_like(positions)
    folded = positions % (2 * n - 2)
    return np.minimum(folded, 2 * n - 2 - folded)


@operator("CenterCropPad", storage=True)
def center_crop_pad(call: Call) -> Value:
    x, sizes = call[0], call.int_inputs(1)
    axes = fronts(call.ints("axes", range(len(x.shape))), len(x.shape))
    amounts = [0] * (2 * len(x.shape))
    if len(sizes) != len(axes):
        raise ModelError(f"{len(sizes)} sizes for axes {axes}")
    for axis, wanted in zip(axes, sizes):
        extra = wanted - x.shape[axis]
        before = extra // 2 if extra >= 0 else -(-extra // 2)
        amounts[axis], amounts[len(x.shape) + axis] = before, extra - before
    return pad_value(x, tuple(amounts), "constant", 0)


# ------------------------------------------------------------------ blocks, ranges, masks


@operator("DepthToSpace", storage=True)
def depth_to_space(call: Call) -> Value:
    x, b = call[0], call.int("blocksize")
    mode = call.choice("mode", "DCR", ("DCR", "CRD"))
    n, c, h, w = x.shape
    if mode == "DCR":
        y = p.transpose(p.reshape(x, shape=(n, b, b, c // b**2, h, w)), perm=(0, 3, 4, 1, 5, 2))
    else:
        y = p.transpose(p.reshape(x, shape=(n, c // b**2, b, b, h, w)), perm=(0, 1, 4, 2, 5, 3))
    return p.reshape(y, shape=(n, c // b**2, h * b, w * b))


@operator("SpaceToDepth", storage=True)
def space_to_depth(call: Call) -> Value:
    x, b = call[0], call.int("blocksize")
    depth_first = call.choice("mode", "DCR", ("DCR", "CRD")) == "DCR"
    n, c, h, w = x.shape
    perm = (0, 3, 5, 1, 2, 4) if depth_first else (0, 1, 3, 5, 2, 4)
    y = p.transpose(p.reshape(x, shape=(n, c, h // b, b, w // b, b)), perm=perm)
    return p.reshape(y, shape=(n, c * b * b, h // b, w // b))


@operator("Range")
def range_(call: Call) -> Value:
    start, limit, step = (call.array(i).reshape(-1)[0] for i in range(3))
    if step == 0:
        raise ModelError("a range's step is 0")
    kind, stash = start.dtype, element(call.int("stash_type", 1))
    wide = stash.numpy if call.version >= 27 and kind == np.float16 else kind
    if start.dtype.kind == "f":
        count = max(math.ceil((float(limit) - float(start)) / float(step)), 0)
    else:
        count = max(-(-(int(limit) - int(start)) // int(step)), 0)
    return const((start.astype(wide) + ramp(count).astype(wide) * step.astype(wide)).astype(kind))


@operator("Trilu", storage=True)
def trilu(call: Call) -> Value:
    x, upper = call[0], call.flag("upper", True)
    k = int(call.array(1).reshape(-1)[0]) if call.given(1) else 0
    if len(x.shape) < 2:
        raise ModelError(f"Trilu of {x.type}")
    rows, columns = bounded(x.shape[-2:])
    if rows * columns > KEPT:
        raise NeedsData("a mask that is too large to be kept")
    distance = ramp(columns)[None, :] - ramp(rows)[:, None]
    mask = const(distance >= k if upper else distance <= k)
    return p.select(mask, x, const(np.zeros((), x.dtype.numpy)))


@operator("EyeLike", storage=True)
def eye_like(call: Call) -> Value:
    x, k = call[0], call.int("k", 0)
    number = call.int("dtype", None)
    dtype = x.dtype if number is None else element(number)
    rows, columns = x.shape
    kept(rows, columns)
    return const(np.eye(rows, columns, k, dtype=dtype.numpy))
