"""Reading and writing at tuples of indices, one-hot rows, reversal of parts, repetition.

Indices count from the front and lie inside; what front ends allow beyond that, they prepare.
"""

from __future__ import annotations

import math

import numpy as np

from brim.errors import OpError
from brim.graph import Value, const
from brim.ops.primitive import (
    add,
    broadcast,
    cast,
    eq,
    gather,
    lt,
    mul,
    reduce,
    reshape,
    scatter,
    select,
    sub,
)
from brim.types import I64

Ints = tuple[int, ...]


def strides(sizes: Ints) -> list[int]:
    """How far apart neighbours along each axis are in row-major order."""
    return [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]


def along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """A one-axis array shaped to broadcast along `axis` of a value of `rank`."""
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])


def positions_along(index: Value, sizes: Ints, axis: int) -> Value:
    """Row-major positions in `sizes` of elements that differ from those of `index` (any integer) in
    their index on `axis` only, as i64[n]."""
    total = np.zeros((), np.int64)
    for i, stride in enumerate(strides(sizes)):
        if i != axis:
            total = total + along(np.arange(index.shape[i]) * stride, i, len(sizes))
    flat = mul(cast(index, to=I64), strides(sizes)[axis])
    return reshape(add(flat, const(total)), shape=(index.type.size,))


def gather_along(x: Value, index: Value, *, axis: int) -> Value:
    """y[i, j, ..] = x[i, .., index[i, j, ..], ..]: one element of x for each index."""
    rows = reshape(x, shape=(x.type.size,))
    found = gather(rows, positions_along(index, x.shape, axis), axis=0)
    return reshape(found, shape=index.shape)


def _positions(index: Value, sizes: Ints) -> Value:
    """index[.., k] as row-major positions i64[..] in `sizes` (k axes)."""
    weighted = mul(cast(index, to=I64), const(np.array(strides(sizes), np.int64)))
    last = len(index.shape) - 1
    return reshape(reduce(weighted, op="add", axes=(last,)), shape=index.shape[:-1])


def gather_tuples(x: Value, index: Value, *, batch: int = 0) -> Value:
    """The parts x[i, index[i, .., :]] of x[B.., sizes.., rest..] for index[B.., .., k], k sizes.

    batch: how many leading axes both share. Result [B.., .., rest..]. Raises OpError.
    """
    k = index.shape[-1] if index.shape else 0
    if not 0 <= batch < max(len(index.shape), 1) or batch + k > len(x.shape):
        raise OpError(f"indices {index.type} and {batch} shared axes do not fit {x.type}")
    if x.shape[:batch] != index.shape[:batch]:
        raise OpError(f"leading axes of {x.type} and {index.type} differ")
    sizes, rest = x.shape[batch : batch + k], x.shape[batch + k :]
    outer, block = math.prod(x.shape[:batch]), math.prod(sizes)
    flat = _positions(index, sizes)
    if outer > 1:
        count = math.prod(index.shape[batch:-1])
        starts = const(np.arange(outer)[:, None] * block)
        flat = add(reshape(flat, shape=(outer, count)), starts)
    rows = gather(reshape(x, shape=(outer * block, *rest)), flat, axis=0)
    return reshape(rows, shape=(*index.shape[:-1], *rest))


def scatter_tuples(x: Value, index: Value, update: Value, *, op: str) -> Value:
    """x with the parts x[index[.., :]] set to (or combined by `op` with) update[.., rest..], in
    order. Raises OpError."""
    k = index.shape[-1] if index.shape else 0
    if k > len(x.shape) or update.shape != index.shape[:-1] + x.shape[k:]:
        raise OpError(f"updates {update.type} do not fit data {x.type} and indices {index.type}")
    sizes, rest = x.shape[:k], x.shape[k:]
    count = math.prod(index.shape[:-1])
    positions = reshape(_positions(index, sizes), shape=(count,))
    flat = reshape(x, shape=(math.prod(sizes), *rest))
    update = reshape(update, shape=(count, *rest))
    return reshape(scatter(flat, positions, update, axis=0, op=op), shape=x.shape)


def one_hot(index: Value, on: Value, off: Value, *, depth: int, axis: int) -> Value:
    """`on` where the place on a new `axis` of size `depth` is the index, else `off` (scalars)."""
    shape = index.shape
    places = const(along(np.arange(depth), axis, len(shape) + 1))
    index = reshape(cast(index, to=I64), shape=(*shape[:axis], 1, *shape[axis:]))
    return select(eq(index, places), on, off)


def reverse_sequence(x: Value, lengths: Value, *, batch: int, time: int) -> Value:
    """x whose first lengths[i] elements along `time` are reversed, for each i along `batch`."""
    rank = len(x.shape)
    places = const(along(np.arange(x.shape[time]), time, rank))
    sizes = tuple(x.shape[batch] if i == batch else 1 for i in range(rank))
    lengths = reshape(cast(lengths, to=I64), shape=sizes)
    index = select(lt(places, lengths), sub(sub(lengths, 1), places), places)
    return gather_along(x, broadcast(index, shape=x.shape), axis=time)


def tiled(x: Value, repeats: Ints) -> Value:
    """x so many times behind itself along each axis, as `numpy.tile`."""
    inner = tuple(size for n in x.shape for size in (1, n))
    outer = tuple(size for n, r in zip(x.shape, repeats) for size in (r, n))
    wide = broadcast(reshape(x, shape=inner), shape=outer)
    return reshape(wide, shape=tuple(n * r for n, r in zip(x.shape, repeats)))
