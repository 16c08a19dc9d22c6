"""Operators that search and order: the largest elements, distinct ones, those that are not 0."""

from __future__ import annotations

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.tflite.table import Call, operator
from brim.graph import Value, const
from brim.types import F32, I32


@operator("TOPK_V2", moves=True)
def top_k(call: Call) -> list[Value]:
    """The k largest of each row in falling order, of equals the first; NaN is the smallest."""
    count, shape = call.integer(1), call[0].shape
    if not shape or not 0 <= count <= shape[-1]:
        raise ModelError(f"the best {count} of {call[0].type}")
    found = (*shape[:-1], count)
    x, _ = call.arrays(found, found)
    key = -x if x.dtype.kind == "f" else ~x  # falls where x rises, and never overflows
    order = np.argsort(key, axis=-1, kind="stable")[..., :count]
    values = np.take_along_axis(x, order, -1)
    return [const(values), const(order.astype(call.result_dtype(1).numpy))]


@operator("UNIQUE", moves=True)
def unique(call: Call) -> list[Value]:
    call.ignore("idx_out_type")
    (x,) = call.arrays(None, call[0].shape)
    values, first, inverse = np.unique(x, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")  # by first occurrence
    number = np.argsort(order, kind="stable")[inverse.reshape(x.shape)]
    return [const(values[order]), const(number.astype(call.result_dtype(1).numpy))]


@operator("WHERE", moves=True)
def where(call: Call) -> Value:
    (x,) = call.arrays()
    found = np.argwhere(x) if x.ndim else np.zeros((int(bool(x)), 0))
    return const(found.astype(np.int64))


@operator("BUCKETIZE", moves=True)
def bucketize(call: Call) -> Value:
    """How many of the boundaries are not above x."""
    x, bounds = call[0], np.array(call.option("boundaries", ()), np.float32)
    if (np.diff(bounds) < 0).any():
        raise ModelError("BUCKETIZE with boundaries out of order")
    if not bounds.size:
        return p.broadcast(const(np.zeros((), np.int32)), shape=x.shape)
    wide = call[0] if x.dtype.is_float else p.cast(x, to=F32)
    column = p.reshape(wide, shape=(*x.shape, 1))
    below = p.lt(column, const(bounds.astype(wide.dtype.numpy)))
    count = p.reduce(p.cast(p.bit_not(below), to=I32), op="add", axes=(len(x.shape),))
    return p.reshape(count, shape=x.shape)
