"""Operators that make or repeat elements: ranges, fills, tiles, diagonals, blocks of space."""

from __future__ import annotations

import math

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import bounded, kept
from brim.frontends.tflite.table import Call, operator
from brim.graph import Value, const
from brim.ops.indexing import tiled


@operator("RANGE")
def range_(call: Call) -> Value:
    start, limit, step = (call.array(i).reshape(()) for i in range(3))
    if step == 0:
        raise ModelError("a range's step is 0")
    if start.dtype.kind == "f":
        count = max(math.ceil((float(limit) - float(start)) / float(step)), 0)
    else:
        count = max(-(-(int(limit) - int(start)) // int(step)), 0)
    return const((start + np.arange(*kept(count)) * step).astype(start.dtype))


@operator("FILL", moves=True)
def fill(call: Call) -> Value:
    return p.broadcast(p.reshape(call[1], shape=()), shape=bounded(call.integers(0)))


@operator("ZEROS_LIKE", moves=True)
def zeros_like(call: Call) -> Value:
    found = call.quantization(0)
    zero = const(np.array(0 if found is None else found.zero[0], call[0].dtype.numpy))
    return p.broadcast(zero, shape=call[0].shape)


@operator("RANK", moves=True)
def rank(call: Call) -> Value:
    return const(np.array(len(call[0].shape), np.int32))


@operator("TILE", moves=True)
def tile(call: Call) -> Value:
    x, repeats = call[0], call.integers(1)
    if len(repeats) != len(x.shape):
        raise ModelError(f"{len(repeats)} repeats for {x.type}")
    bounded(n * r for n, r in zip(x.shape, repeats))
    return tiled(x, repeats)


@operator("BROADCAST_TO", moves=True)
def broadcast_to(call: Call) -> Value:
    return p.broadcast(call[0], shape=bounded(call.integers(1)))


@operator("BROADCAST_ARGS", moves=True)
def broadcast_args(call: Call) -> Value:
    shape = np.broadcast_shapes(call.integers(0), call.integers(1))
    return const(np.array(shape, call.result_dtype().numpy))


# ------------------------------------------------------------------ diagonals


@operator("MATRIX_DIAG", moves=True)
def matrix_diag(call: Call) -> Value:
    n = call[0].shape[-1]
    shape = bounded((*call[0].shape, n))
    return _with_diagonal(
        p.broadcast(const(np.zeros((), call[0].dtype.numpy)), shape=shape), call[0]
    )


@operator("MATRIX_SET_DIAG", moves=True)
def matrix_set_diag(call: Call) -> Value:
    x, diagonal = call[0], call[1]
    if diagonal.shape != (*x.shape[:-2], min(x.shape[-2:])):
        raise ModelError(f"{diagonal.type} is no diagonal of {x.type}")
    return _with_diagonal(x, diagonal)


def _with_diagonal(x: Value, diagonal: Value) -> Value:
    rows, columns = kept(*x.shape[-2:])
    missing = (*(0,) * (len(diagonal.shape) - 1), columns - diagonal.shape[-1])
    wide = p.pad(diagonal, low=(0,) * len(missing), high=missing, value=0)
    wide = p.reshape(wide, shape=(*wide.shape[:-1], 1, columns))
    return p.select(const(np.eye(rows, columns, dtype=bool)), wide, x)


# ------------------------------------------------------------------ blocks of space


@operator("SPACE_TO_BATCH_ND", moves=True)
def space_to_batch(call: Call) -> Value:
    x, block = call[0], call.integers(1)
    amounts = np.array(call.integers(2)).reshape(-1, 2)
    if min(block, default=0) < 1 or len(amounts) != len(block) or amounts.min() < 0:
        raise ModelError(f"{call.name} of {x.type} by {block}")
    rest = len(x.shape) - 1 - len(block)
    low, high = ((0, *(int(n) for n in column), *(0,) * rest) for column in amounts.T)
    found = call.quantization(0)
    x = p.pad(x, low=low, high=high, value=0 if found is None else int(found.zero[0]))
    spatial = range(len(block))
    shape = [x.shape[0]]
    for i in spatial:
        if x.shape[1 + i] % block[i]:
            raise ModelError(f"{x.type} is not made of blocks of {block}")
        shape += [x.shape[1 + i] // block[i], block[i]]
    tail = x.shape[1 + len(block) :]
    y = p.reshape(x, shape=(*shape, *tail))
    perm = (*(2 + 2 * i for i in spatial), 0, *(1 + 2 * i for i in spatial))
    y = p.transpose(y, perm=(*perm, *range(len(perm), len(y.shape))))
    sizes = tuple(shape[1 + 2 * i] for i in spatial)
    return p.reshape(y, shape=(x.shape[0] * math.prod(block), *sizes, *tail))


@operator("BATCH_TO_SPACE_ND", moves=True)
def batch_to_space(call: Call) -> Value:
    x, block = call[0], call.integers(1)
    crops = np.array(call.integers(2)).reshape(-1, 2)
    if min(block, default=0) < 1 or x.shape[0] % math.prod(block) or len(crops) != len(block):
        raise ModelError(f"{call.name} of {x.type} by {block}")
    count, batch = len(block), x.shape[0] // math.prod(block)
    y = p.reshape(x, shape=(*block, batch, *x.shape[1:]))
    perm = [count]
    for i in range(count):
        perm += [count + 1 + i, i]
    y = p.transpose(y, perm=(*perm, *range(len(perm), len(y.shape))))
    sizes = tuple(n * b for n, b in zip(x.shape[1:], block))
    y = p.reshape(y, shape=(batch, *sizes, *x.shape[1 + count :]))
    rest = len(y.shape) - 1 - count
    starts = (0, *(int(n) for n in crops[:, 0]), *(0,) * rest)
    ends = (0, *(int(n) for n in crops[:, 1]), *(0,) * rest)
    sizes = tuple(max(n - a - b, 0) for n, a, b in zip(y.shape, starts, ends))
    return p.slice(y, starts=starts, sizes=sizes, steps=(1,) * len(starts))
