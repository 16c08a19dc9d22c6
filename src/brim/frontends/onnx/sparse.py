"""Sparse tensors of ONNX files as dense arrays: brim computes with nothing else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from brim.errors import ModelError
from brim.frontends.onnx.tensor_source import TensorSource
from brim.frontends.onnx.tensors import checked_shape, tensor_array


def sparse_array(proto: Any, source: TensorSource, where: str) -> np.ndarray:
    """The dense array of a SparseTensorProto, zero wherever it says nothing.

    Its indices are positions in the flat tensor, [n], or coordinates, [n, rank]; ascending, as the
    format demands. Raises ModelError for others and for tensors that are too large when dense.
    """
    where = f"{where}: sparse tensor {proto.values.name!r}"
    shape = checked_shape(proto.dims, where)
    values = tensor_array(proto.values, source, where)
    indices = tensor_array(proto.indices, source, where)
    if values.ndim != 1 or indices.dtype != np.int64 or len(indices) != len(values):
        raise ModelError(
            "values and indices do not fit",
            why=f"values {values.shape}, indices {indices.dtype}{indices.shape}",
            where=where,
        )
    source.unfold(math.prod(shape), where)
    places = _flat(indices, shape, where)
    if np.any(places[1:] <= places[:-1]):
        raise ModelError("indices are not in ascending order", where=where)
    dense = np.zeros(math.prod(shape), values.dtype)
    if values.dtype == object:
        dense.fill("")
    dense[places] = values
    return dense.reshape(shape)


def _flat(indices: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Positions in the flat tensor; all of them inside."""
    limits = np.array(shape if indices.ndim == 2 else [math.prod(shape)], np.int64)
    rows = indices.reshape(len(indices), -1) if indices.size else indices.reshape(0, len(limits))
    if indices.ndim not in (1, 2) or rows.shape[1] != len(limits):
        raise ModelError(f"indices of shape {indices.shape} for shape {shape}", where=where)
    if np.any((rows < 0) | (rows >= limits)):
        raise ModelError(f"an index is outside of shape {shape}", where=where)
    strides = np.array([math.prod(shape[i + 1 :]) for i in range(len(shape))], np.int64)
    return rows @ strides if indices.ndim == 2 else rows[:, 0]
