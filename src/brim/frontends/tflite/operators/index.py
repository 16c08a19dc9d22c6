"""Operators that read or write at computed positions: gather, scatter, one-hot, look-ups."""

from __future__ import annotations

import math

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import bounded, front, kept
from brim.frontends.tflite.table import Call, fronts, operator
from brim.graph import Value, const
from brim.ops.indexing import gather_tuples, one_hot, reverse_sequence, scatter_tuples, strides
from brim.types import I64


@operator("GATHER", moves=True)
def gather(call: Call) -> Value:
    x, index = call[0], call[1]
    axis, batch = call.axis("axis"), call.int("batch_dims", 0)
    batch = batch + len(index.shape) if batch < 0 else batch
    if batch == 0:
        return p.gather(x, index, axis=axis)
    if not batch <= min(axis, len(index.shape)) or x.shape[:batch] != index.shape[:batch]:
        raise ModelError(f"{x.type} and {index.type} do not share {batch} leading axes")
    # rows of all batches behind each other, the axis that is read right behind the batches
    order = (*range(batch), axis, *(i for i in range(batch, len(x.shape)) if i != axis))
    moved = p.transpose(x, perm=order)
    outer, n = math.prod(x.shape[:batch]), x.shape[axis]
    rows = p.reshape(moved, shape=(outer * n, *moved.shape[batch + 1 :]))
    flat = p.reshape(p.cast(index, to=I64), shape=(outer, math.prod(index.shape[batch:])))
    flat = p.add(flat, const(np.arange(*kept(outer))[:, None] * n))
    found = p.gather(rows, p.reshape(flat, shape=index.shape), axis=0)
    before, inner = axis - batch, len(index.shape) - batch  # axes in front of the one that is read
    perm = (
        *range(batch),
        *range(batch + inner, batch + inner + before),
        *range(batch, batch + inner),
        *range(batch + inner + before, len(found.shape)),
    )
    return p.transpose(found, perm=perm)


@operator("GATHER_ND", moves=True)
def gather_nd(call: Call) -> Value:
    return gather_tuples(call[0], call[1])


@operator("SCATTER_ND")
def scatter_nd(call: Call) -> Value:
    index, update = call[0], call[1]
    shape = kept(*call.integers(2))
    zero = const(np.zeros(shape, update.dtype.numpy))
    if update.dtype.kind == "b":  # the sum of truths is whether there is any
        ones = scatter_tuples(p.cast(zero, to=I64), index, p.cast(update, to=I64), op="add")
        return p.ne(ones, 0)
    return scatter_tuples(zero, index, update, op="add")


@operator("SPARSE_TO_DENSE", moves=True)
def sparse_to_dense(call: Call) -> Value:
    index, shape, values = call[0], kept(*call.integers(1)), call[2]
    tuples = index.shape if len(index.shape) == 2 else (index.type.size, 1)
    filled = p.broadcast(p.reshape(call[3], shape=()), shape=shape)
    update = p.broadcast(values, shape=tuples[:1])
    return scatter_tuples(filled, p.reshape(index, shape=tuples), update, op="set")


@operator("ONE_HOT", moves=True)
def one_hot_row(call: Call) -> Value:
    index, depth = call[0], call.integer(1)
    axis, rank = call.int("axis"), len(call[0].shape) + 1
    axis = rank - 1 if axis == -1 else front(axis, rank)
    bounded((*index.shape, *kept(depth)))
    on, off = (p.reshape(call[i], shape=()) for i in (2, 3))
    return one_hot(index, on, off, depth=depth, axis=axis)


@operator("REVERSE_V2", moves=True)
def reverse(call: Call) -> Value:
    shape, axes = call[0].shape, fronts(call.integers(1), len(call[0].shape))
    starts = tuple(max(n - 1, 0) if i in axes else 0 for i, n in enumerate(shape))
    steps = tuple(-1 if i in axes else 1 for i in range(len(shape)))
    return p.slice(call[0], starts=starts, sizes=shape, steps=steps)


@operator("REVERSE_SEQUENCE", moves=True)
def reverse_sequence_row(call: Call) -> Value:
    time, batch = call.axis("seq_dim"), call.axis("batch_dim")
    kept(*(1 if i == time else n for i, n in enumerate(call[0].shape)))
    return reverse_sequence(call[0], call[1], batch=batch, time=time)


@operator("DYNAMIC_UPDATE_SLICE", moves=True)
def dynamic_update_slice(call: Call) -> Value:
    """x with a block of it replaced, wherever the block begins; it is moved to lie inside."""
    x, update, start = call[0], call[1], call[2]
    if len(update.shape) != len(x.shape) or any(m > n for m, n in zip(update.shape, x.shape)):
        raise ModelError(f"an update of {update.type} does not fit {x.type}")
    if update.shape == x.shape:
        return update
    room = const(np.array([n - m for n, m in zip(x.shape, update.shape)], np.int64))
    start = p.minimum(p.maximum(p.cast(start, to=I64), 0), room)
    whole = [i for i, (m, n) in enumerate(zip(update.shape, x.shape)) if m == n]
    axes = [i for i in range(len(x.shape)) if i not in whole]
    if len(axes) == 1:  # blocks of whole rows: a cache that grows, for the most part
        (axis,) = axes
        first = p.slice(start, starts=(axis,), sizes=(1,), steps=(1,))
        rows = p.add(first, const(np.arange(update.shape[axis])))
        return p.scatter(x, rows, update, axis=axis, op="set")
    flat = p.reduce(p.mul(start, const(np.array(strides(x.shape)))), op="add", axes=(0,))
    inside = np.zeros((), np.int64)
    for n, stride in zip(kept(*update.shape), strides(x.shape)):
        inside = inside[..., None] + np.arange(n) * stride
    positions = p.add(flat, const(inside.ravel()))
    size = (x.type.size,)
    values = p.reshape(update, shape=(update.type.size,))
    found = p.scatter(p.reshape(x, shape=size), positions, values, axis=0, op="set")
    return p.reshape(found, shape=x.shape)


# ------------------------------------------------------------------ tables of embeddings


@operator("EMBEDDING_LOOKUP")
def embedding_lookup(call: Call) -> Value:
    return p.gather(call[1], call[0], axis=0)


@operator("EMBEDDING_LOOKUP_SPARSE")
def embedding_lookup_sparse(call: Call) -> Value:
    """Weighted sums (or means) of rows of a table, one for each bucket of a sparse tensor."""
    how = call.choice("combiner", ("sum", "mean", "sqrtn"))
    ids, index, weights, table = call[0], call[1], call[3], call[4]
    lead = call.integers(2)[: index.shape[1] - 1]
    size = math.prod(kept(*lead))
    spread = p.reshape(weights, shape=(*weights.shape, *(1,) * (len(table.shape) - 1)))
    rows = p.mul(p.gather(table, ids, axis=0), spread)
    places = p.slice(index, starts=(0, 0), sizes=(index.shape[0], len(lead)), steps=(1, 1))
    weighted = p.mul(p.cast(places, to=I64), const(np.array(strides(lead), np.int64)))
    bucket = p.reshape(p.reduce(weighted, op="add", axes=(1,)), shape=index.shape[:1])
    zero = const(np.zeros(kept(size, *table.shape[1:]), np.float32))
    total = p.scatter(zero, bucket, rows, axis=0, op="add")
    if how != "sum":
        count = weights if how == "mean" else p.mul(weights, weights)
        divisor = p.scatter(const(np.zeros(size, np.float32)), bucket, count, axis=0, op="add")
        divisor = p.sqrt(divisor) if how == "sqrtn" else divisor
        ones = const(np.ones(kept(*ids.shape), np.int32))
        filled = p.scatter(const(np.zeros(size, np.int32)), bucket, ones, axis=0, op="add")
        divisor = p.select(p.gt(filled, 0), divisor, const(np.ones((), np.float32)))
        total = p.div(total, p.reshape(divisor, shape=(size, *(1,) * (len(table.shape) - 1))))
    return p.reshape(total, shape=(*lead, *table.shape[1:]))
