"""ONNX operators that read or write at computed positions: gather, scatter, one-hot, reversal."""

from __future__ import annotations

import math

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.onnx.table import Call, along, bounded, kept, operator, ramp
from brim.graph import Value, const
from brim.types import I64, U64


def wrap_index(index: Value, n: int) -> Value:
    """Indices counted from the front: negative ones count from the end of an axis of n."""
    if index.is_const:
        if not np.any(index.data < 0):  # type: ignore[operator]
            return index
    elif index.dtype.kind == "u":
        return index
    return p.select(p.lt(index, 0), p.add(index, n), index)


@operator("Gather", storage=True)
def gather(call: Call) -> Value:
    axis = call.axis("axis", 0)
    return p.gather(call[0], wrap_index(call[1], call[0].shape[axis]), axis=axis)


def _offsets(shape: tuple[int, ...], sizes: tuple[int, ...], skip: int) -> np.ndarray:
    """Row-major position of every element of `shape` inside `sizes`, leaving axis `skip` out."""
    total = np.zeros((), np.int64)
    kept(*(1 if i == skip else n for i, n in enumerate(shape)))
    for axis, stride in enumerate(_strides(sizes)):
        if axis != skip:
            total = total + along(ramp(shape[axis]) * stride, axis, len(shape))
    return np.broadcast_to(total, [1 if i == skip else n for i, n in enumerate(shape)])


def _strides(sizes: tuple[int, ...]) -> list[int]:
    return [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]


def _positions(index: Value, x: Value, axis: int) -> Value:
    """For GatherElements and ScatterElements: the position in the flattened x of every index."""
    if len(index.shape) != len(x.shape):
        raise ModelError(f"indices {index.type} and data {x.type} differ in rank")
    if any(m > n for i, (m, n) in enumerate(zip(index.shape, x.shape)) if i != axis):
        raise ModelError(f"indices {index.type} are larger than data {x.type}")
    index = wrap_index(p.cast(index, to=I64), x.shape[axis])
    flat = p.mul(index, _strides(x.shape)[axis])
    flat = p.add(flat, const(_offsets(index.shape, x.shape, axis)))
    return p.reshape(flat, shape=(index.type.size,))


@operator("GatherElements", storage=True)
def gather_elements(call: Call) -> Value:
    x, index = call[0], call[1]
    flat = p.reshape(x, shape=(x.type.size,))
    rows = p.gather(flat, _positions(index, x, call.axis("axis", 0)), axis=0)
    return p.reshape(rows, shape=index.shape)


_REDUCTIONS = {"none": "set", "add": "add", "mul": "mul", "max": "max", "min": "min"}


@operator("ScatterElements", "Scatter")
def scatter_elements(call: Call) -> Value:
    x, index, update = call[0], call[1], call[2]
    how = _REDUCTIONS[call.choice("reduction", "none", _REDUCTIONS)]
    if index.shape != update.shape:
        raise ModelError(f"indices {index.type} and updates {update.type} differ in shape")
    positions = _positions(index, x, call.axis("axis", 0))
    flat = p.reshape(x, shape=(x.type.size,))
    update = p.reshape(update, shape=(update.type.size,))
    return p.reshape(p.scatter(flat, positions, update, axis=0, op=how), shape=x.shape)


def _flat_tuples(index: Value, sizes: tuple[int, ...]) -> Value:
    """index[..., k] as row-major positions [...] in `sizes` (k axes); negative ones wrap."""
    index = p.cast(index, to=I64)
    limits = const(np.array(sizes, np.int64))
    index = p.select(p.lt(index, 0), p.add(index, limits), index)
    weighted = p.mul(index, const(np.array(_strides(sizes), np.int64)))
    last = len(index.shape) - 1
    return p.reshape(p.reduce(weighted, op="add", axes=(last,)), shape=index.shape[:-1])


@operator("GatherND", storage=True)
def gather_nd(call: Call) -> Value:
    x, index, batch = call[0], call[1], call.int("batch_dims", 0)
    k = index.shape[-1] if index.shape else 0
    if not 0 <= batch < max(len(index.shape), 1) or batch + k > len(x.shape):
        raise ModelError(f"indices {index.type} and batch_dims {batch} do not fit {x.type}")
    if x.shape[:batch] != index.shape[:batch]:
        raise ModelError(f"leading axes of {x.type} and {index.type} differ")
    sizes, rest = x.shape[batch : batch + k], x.shape[batch + k :]
    outer, block = math.prod(x.shape[:batch]), math.prod(sizes)
    flat = _flat_tuples(index, sizes)
    if outer > 1:
        count = math.prod(index.shape[batch:-1])
        flat = p.add(p.reshape(flat, shape=(outer, count)), const(ramp(outer)[:, None] * block))
    rows = p.gather(p.reshape(x, shape=(outer * block, *rest)), flat, axis=0)
    return p.reshape(rows, shape=(*index.shape[:-1], *rest))


@operator("ScatterND")
def scatter_nd(call: Call) -> Value:
    x, index, update = call[0], call[1], call[2]
    how = _REDUCTIONS[call.choice("reduction", "none", _REDUCTIONS)]
    k = index.shape[-1] if index.shape else 0
    if k > len(x.shape) or update.shape != index.shape[:-1] + x.shape[k:]:
        raise ModelError(f"updates {update.type} do not fit data {x.type} and indices {index.type}")
    sizes, rest = x.shape[:k], x.shape[k:]
    count = math.prod(index.shape[:-1])
    positions = p.reshape(_flat_tuples(index, sizes), shape=(count,))
    flat = p.reshape(x, shape=(math.prod(sizes), *rest))
    update = p.reshape(update, shape=(count, *rest))
    return p.reshape(p.scatter(flat, positions, update, axis=0, op=how), shape=x.shape)


@operator("OneHot")
def one_hot(call: Call) -> Value:
    index, values = call[0], call[2]
    depth = int(call.array(1).reshape(-1)[0])
    rank = len(index.shape) + 1
    axis = call.axis("axis", -1, rank)
    bounded((*index.shape, depth))
    if depth < 1:
        raise ModelError(f"OneHot of depth {depth}")
    if index.dtype == U64:  # what i64 cannot hold is out of range, not negative
        index = p.minimum(index, depth)
    index = p.cast(index, to=I64)
    index = p.reshape(index, shape=(*index.shape[:axis], 1, *index.shape[axis:]))
    index = p.select(p.lt(index, 0), p.add(index, depth), index)
    places = const(along(ramp(depth), axis, rank))
    off, on = (p.reshape(v, shape=()) for v in _pair(values))
    return p.select(p.eq(index, places), on, off)


def _pair(values: Value) -> tuple[Value, Value]:
    if values.shape != (2,):
        raise ModelError(f"OneHot needs two values, not {values.type}")
    first = p.slice(values, starts=(0,), sizes=(1,), steps=(1,))
    return first, p.slice(values, starts=(1,), sizes=(1,), steps=(1,))


@operator("ReverseSequence", storage=True)
def reverse_sequence(call: Call) -> Value:
    x, lengths = call[0], call[1]
    batch, time = call.axis("batch_axis", 1), call.axis("time_axis", 0)
    rank, steps = len(x.shape), x.shape[time]
    places = const(along(ramp(steps), time, rank))
    sizes = [1] * rank
    sizes[batch] = x.shape[batch]
    lengths = p.reshape(p.cast(lengths, to=I64), shape=tuple(sizes))
    index = p.select(p.lt(places, lengths), p.sub(p.sub(lengths, 1), places), places)
    index = p.broadcast(index, shape=x.shape)
    flat = p.reshape(x, shape=(x.type.size,))
    return p.reshape(p.gather(flat, _positions(index, x, time), axis=0), shape=x.shape)
