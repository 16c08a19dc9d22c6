"""Sparse constants made dense: the format of TFLite's sparse weights (`SparsityParameters`).

A tensor is cut into blocks along some axes; all axes, those inside blocks last, are traversed in an
order, each stored dense or as compressed rows (segments and indices), outer axes first.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from brim.errors import ModelError
from brim.frontends.tflite.tensors import ELEMENTS, tensor_array

DENSE = 0  # in DimensionType
MOST = 1 << 28  # elements of a tensor that was sparse: a small file must not fill the memory


def densify(
    raw: np.ndarray,
    kind: str,
    shape: tuple[int, ...],
    sparsity: Any,
    numbers: Callable[[Any, str], tuple[int, ...]],
    where: str,
) -> np.ndarray:
    """The whole tensor. sparsity: the schema's table, `numbers` reads its vectors.

    Raises ModelError where its parts do not fit each other.
    """
    order, blocked = numbers(sparsity, "TraversalOrder"), numbers(sparsity, "BlockMap")
    rank, total = len(shape), len(shape) + len(blocked)
    axes = [sparsity.DimMetadata(i) for i in range(sparsity.DimMetadataLength())]
    if sorted(order) != list(range(total)) or len(axes) != total or prod(shape) > MOST:
        raise ModelError("the order of a sparse tensor's axes makes no sense", where=where)
    sizes = _sizes(shape, order, blocked, axes, where)
    # one coordinate per stored element and traversed axis, and which element each row belongs to
    places = np.zeros((1, 0), np.int64)
    for axis, size in zip(axes, sizes):
        places = _deeper(places, axis, size, numbers, where)
        if len(places) > MOST:
            raise ModelError("a sparse tensor unfolds to absurd sizes", where=where)
    values = tensor_array(raw, kind, (len(places),), where)
    full = np.zeros(tuple(sizes), values.dtype)
    full[tuple(places.T)] = values
    full = full.transpose(np.argsort(order))  # axes of the tensor, then those inside blocks
    for i, axis in enumerate(blocked):
        if not 0 <= axis < rank:
            raise ModelError(f"a sparse tensor has no axis {axis}", where=where)
        full = np.moveaxis(full, rank, axis + 1 + sum(b < axis for b in blocked[:i]))
    return np.ascontiguousarray(full.reshape(shape)).astype(ELEMENTS[kind].numpy, copy=False)


def _sizes(
    shape: tuple[int, ...], order: tuple[int, ...], blocked: tuple[int, ...], axes: list, where: str
) -> list[int]:
    """How long each axis is, in the order of traversal: blocks are counted, then their inside."""
    inside = {axis: axes[order.index(len(shape) + i)].DenseSize() for i, axis in enumerate(blocked)}
    sizes = []
    for axis in order:
        if axis < len(shape):
            step = inside.get(axis, 1)
            if step < 1 or shape[axis] % step:
                raise ModelError(f"blocks of {step} do not fit {shape[axis]}", where=where)
            sizes.append(shape[axis] // step)
        else:
            sizes.append(inside[blocked[axis - len(shape)]])
    return sizes


def _deeper(
    places: np.ndarray,
    axis: Any,
    size: int,
    numbers: Callable[[Any, str], tuple[int, ...]],
    where: str,
) -> np.ndarray:
    """The stored coordinates i64[n, k] with those of one more axis."""
    if axis.Format() == DENSE:
        new = np.tile(np.arange(size), len(places))
        return np.column_stack([np.repeat(places, size, 0), new])
    segments = np.array(_vector(axis.ArraySegments, axis.ArraySegmentsType(), numbers), np.int64)
    indices = np.array(_vector(axis.ArrayIndices, axis.ArrayIndicesType(), numbers), np.int64)
    counts = np.diff(segments)
    fits = len(segments) == len(places) + 1 and (counts >= 0).all() and segments[0] == 0
    if not fits or segments[-1] != len(indices) or (indices < 0).any() or (indices >= size).any():
        raise ModelError("the rows of a sparse tensor do not fit", where=where)
    return np.column_stack([np.repeat(places, counts, 0), indices])


def _vector(
    get: Callable[[], Any], kind: int, numbers: Callable[[Any, str], tuple[int, ...]]
) -> tuple[int, ...]:
    """The integers of a union of vectors of i32 (1), u16 (2) and u8 (3)."""
    import tflite

    union = get()
    classes = {1: tflite.Int32Vector, 2: tflite.Uint16Vector, 3: tflite.Uint8Vector}
    if union is None or kind not in classes:
        return ()
    table = classes[kind]()
    table.Init(union.Bytes, union.Pos)
    return numbers(table, "Values")
