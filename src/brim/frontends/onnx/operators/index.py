"""ONNX operators that read or write at computed positions: gather, scatter, one-hot, reversal."""

from __future__ import annotations

import math

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import bounded, kept
from brim.frontends.onnx.table import Call, operator
from brim.graph import Value, const
from brim.ops.indexing import (
    gather_along,
    gather_tuples,
    one_hot,
    positions_along,
    reverse_sequence,
    scatter_tuples,
)
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


def _checked(index: Value, x: Value, axis: int) -> Value:
    """The indices of GatherElements and ScatterElements, none of them negative."""
    if len(index.shape) != len(x.shape):
        raise ModelError(f"indices {index.type} and data {x.type} differ in rank")
    if any(m > n for i, (m, n) in enumerate(zip(index.shape, x.shape)) if i != axis):
        raise ModelError(f"indices {index.type} are larger than data {x.type}")
    kept(*(1 if i == axis else n for i, n in enumerate(index.shape)))
    return wrap_index(p.cast(index, to=I64), x.shape[axis])


@operator("GatherElements", storage=True)
def gather_elements(call: Call) -> Value:
    x, axis = call[0], call.axis("axis", 0)
    return gather_along(x, _checked(call[1], x, axis), axis=axis)


_REDUCTIONS = {"none": "set", "add": "add", "mul": "mul", "max": "max", "min": "min"}


@operator("ScatterElements", "Scatter")
def scatter_elements(call: Call) -> Value:
    x, index, update = call[0], call[1], call[2]
    how = _REDUCTIONS[call.choice("reduction", "none", _REDUCTIONS)]
    if index.shape != update.shape:
        raise ModelError(f"indices {index.type} and updates {update.type} differ in shape")
    axis = call.axis("axis", 0)
    positions = positions_along(_checked(index, x, axis), x.shape, axis)
    flat = p.reshape(x, shape=(x.type.size,))
    update = p.reshape(update, shape=(update.type.size,))
    return p.reshape(p.scatter(flat, positions, update, axis=0, op=how), shape=x.shape)


def _wrapped(index: Value, sizes: tuple[int, ...]) -> Value:
    """index[..., k] for k axes of `sizes`, none of them negative."""
    limits = const(np.array(sizes, np.int64))
    index = p.cast(index, to=I64)
    return p.select(p.lt(index, 0), p.add(index, limits), index)


@operator("GatherND", storage=True)
def gather_nd(call: Call) -> Value:
    x, index, batch = call[0], call[1], call.int("batch_dims", 0)
    k = index.shape[-1] if index.shape else 0
    kept(math.prod(x.shape[:batch]))
    sizes = x.shape[batch : batch + k]
    return gather_tuples(x, _wrapped(index, sizes) if len(sizes) == k else index, batch=batch)


@operator("ScatterND")
def scatter_nd(call: Call) -> Value:
    x, index, update = call[0], call[1], call[2]
    how = _REDUCTIONS[call.choice("reduction", "none", _REDUCTIONS)]
    k = index.shape[-1] if index.shape else 0
    sizes = x.shape[:k]
    index = _wrapped(index, sizes) if len(sizes) == k else index
    return scatter_tuples(x, index, update, op=how)


@operator("OneHot")
def one_hot_row(call: Call) -> Value:
    index, values = call[0], call[2]
    depth = int(call.array(1).reshape(-1)[0])
    rank = len(index.shape) + 1
    axis = call.axis("axis", -1, rank)
    bounded((*index.shape, depth))
    if depth < 1:
        raise ModelError(f"OneHot of depth {depth}")
    if index.dtype == U64:  # what i64 cannot hold is out of range, not negative
        index = p.minimum(index, depth)
    kept(depth)
    index = p.cast(index, to=I64)
    index = p.select(p.lt(index, 0), p.add(index, depth), index)
    off, on = (p.reshape(v, shape=()) for v in _pair(values))
    return one_hot(index, on, off, depth=depth, axis=axis)


def _pair(values: Value) -> tuple[Value, Value]:
    if values.shape != (2,):
        raise ModelError(f"OneHot needs two values, not {values.type}")
    first = p.slice(values, starts=(0,), sizes=(1,), steps=(1,))
    return first, p.slice(values, starts=(1,), sizes=(1,), steps=(1,))


@operator("ReverseSequence", storage=True)
def reverse_sequence_row(call: Call) -> Value:
    x, lengths = call[0], call[1]
    batch, time = call.axis("batch_axis", 1), call.axis("time_axis", 0)
    kept(*(1 if i == time else n for i, n in enumerate(x.shape)))
    return reverse_sequence(x, lengths, batch=batch, time=time)
