"""Operators that read and write at places that other tensors name: gathers and scatters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.extra.tflite_cases.case import Case, k, single, x, y
from tests.extra.tflite_cases.movement import NUMBERS, i32, typed
from tests.tflite_models import Quantization


def cases() -> Iterator[Case]:
    yield from _gathers()
    yield from _scatters()


def _gathers() -> Iterator[Case]:
    ids = i32(2, 0, 1, 1)
    yield from typed("GATHER", "types", f"{NUMBERS} qint8", (3, 4), ids, axis=0)
    yield single("GATHER", "string", [x("string", 3), ids], axis=0)
    for axis in (0, 1, -1):
        yield single(
            "GATHER",
            f"axis {axis}",
            [x("float32", 3, 4, 3), k(np.array([[2, 0], [1, 1]], np.int64))],
            axis=axis,
        )
    yield single(
        "GATHER", "int16 places", [x("float32", 3, 4), k(np.array([2, 0], np.int16))], axis=0
    )
    yield single("GATHER", "a scalar", [x("float32", 3, 4), k(np.array(2, np.int32))], axis=0)
    places = k(np.array([[[2, 0]], [[1, 3]]], np.int32))
    yield single("GATHER", "batches", [x("float32", 2, 4, 3), places], axis=1, batchDims=1)
    yield single(
        "GATHER", "batches later axis", [x("float32", 2, 3, 4), places], axis=2, batchDims=1
    )
    four = k(np.arange(12).reshape(3, 4) - 6, "int4", Quantization(0.5))
    yield single(
        "GATHER",
        "int4",
        [four, x("int32", 2)],
        [y("int4", Quantization(0.5))],
        feeds=[{1: np.array([2, 0], np.int32)}],
        axis=0,
    )
    pairs = k(np.array([[0, 1], [2, 0]], np.int32))
    yield from typed(
        "GATHER_ND",
        "types",
        "float32 float16 bfloat16 int8 uint8 int16 int32 int64 bool string",
        (3, 4),
        pairs,
    )
    yield single("GATHER_ND", "rows", [x("float32", 3, 4, 2), pairs])
    yield single("GATHER_ND", "int64 places", [x("float32", 3, 4), k(np.array([[[1]], [[0]]]))])
    yield single(
        "GATHER_ND", "int16 places", [x("float32", 3, 4), k(np.array([[1], [0]], np.int16))]
    )


def _scatters() -> Iterator[Case]:
    places = k(np.array([[4], [3], [1]], np.int32))
    for dtype in ("float32", "uint8", "bool", "int8", "int32", "int64"):
        inputs = [places, x(dtype, 3), i32(8)]
        yield single("SCATTER_ND", dtype, inputs, [y(dtype)], high=90)
    yield single(
        "SCATTER_ND",
        "rows",
        [k(np.array([[0], [2]], np.int32)), x("float32", 2, 3, 2), i32(4, 3, 2)],
        [y("float32")],
    )
    twice = k(np.array([[0, 1], [2, 0], [0, 1]], np.int32))
    yield single("SCATTER_ND", "adds", [twice, x("float32", 3), i32(3, 2)], [y("float32")])
    shape = i32(3, 5)
    for dtype in ("float32", "int32", "int64", "int8", "uint8"):
        for place in (np.int32, np.int64):
            pairs = k(np.array([[0, 1], [2, 4]], place))
            inputs = [pairs, k(np.array([3, 5], place)), x(dtype, 2), x(dtype)]
            yield single(
                "SPARSE_TO_DENSE", f"{dtype} {place.__name__}", inputs, [y(dtype)], high=90
            )
    inputs = [k(np.array([[0, 1], [2, 4]], np.int32)), shape, x("float32"), x("float32")]
    yield single("SPARSE_TO_DENSE", "one value", inputs, [y("float32")])
    inputs = [k(np.array([1, 3], np.int32)), i32(5), x("float32", 2), x("float32")]
    yield single("SPARSE_TO_DENSE", "one dimension", inputs, [y("float32")])


CASES = list(cases())
