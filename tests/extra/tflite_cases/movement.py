"""Operators that move elements: shapes, orders, slices, joins, pads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tests.extra.tflite_cases.case import Case, k, single, values, x, y
from tests.tflite_models import Quantization, Tensor

NUMBERS = "float32 float16 bfloat16 int8 uint8 int16 int32 int64 bool"
Q = Quantization(0.05, 3)


def cases() -> Iterator[Case]:
    yield from _shapes()
    yield from _orders()
    yield from _slices()
    yield from _strided_slices()
    yield from _joins()
    yield from _pads()
    yield from _blocks()
    yield from _made()


def i32(*numbers: int) -> Tensor:
    return k(np.array(numbers, np.int32))


def typed(
    kind: str, name: str, types: str, shape: Sequence[int], *more: Tensor, **options: Any
) -> Iterator[Case]:
    """One case for each type, "qint8" for a quantized one, of a first input and constants."""
    for dtype in types.split():
        q = Q if dtype[0] == "q" else None
        first = x(dtype.lstrip("q"), *shape, q=q)
        yield single(kind, f"{dtype} {name}", [first, *more], low=-100, high=100, **options)


def _shapes() -> Iterator[Case]:
    every = f"{NUMBERS} string qint8"
    yield from typed("RESHAPE", "by input", every, (2, 3, 4), i32(4, 6))
    for to in ([-1], [6, -1], [2, 1, 3, 4], [24]):
        yield single("RESHAPE", f"by option {to}", [x("float32", 2, 3, 4)], newShape=to)
        yield single("RESHAPE", f"by both {to}", [x("float32", 2, 3, 4), i32(*to)], newShape=to)
    yield single("RESHAPE", "to a scalar", [x("float32", 1, 1), k(np.zeros(0, np.int32))])
    given = [{1: np.array([3, 8], np.int32)}]
    yield single("RESHAPE", "to a fed shape", [x("float32", 2, 3, 4), x("int32", 2)], feeds=given)
    for dims in ([], [0], [-2], [0, 2], [2, 0, -1]):
        yield single("SQUEEZE", f"float32 {dims}", [x("float32", 1, 3, 1, 1)], squeezeDims=dims)
    yield from typed("SQUEEZE", "all", f"{NUMBERS} string qint8", (1, 3, 1, 2))
    for axis in (0, 1, 2, -1, -3):
        yield single("EXPAND_DIMS", f"axis {axis}", [x("float32", 2, 3), i32(axis)])
    yield from typed("EXPAND_DIMS", "types", f"{NUMBERS} qint8", (2, 3), i32(1))
    for dtype in ("int32", "int64"):
        yield single("SHAPE", f"to {dtype}", [x("float32", 2, 3, 4)], [y(dtype)], outType=dtype)
    yield single("RANK", "4-D", [x("float32", 2, 3, 1, 1)], [y("int32")])
    yield single("RANK", "of a scalar", [x("int32")], [y("int32")])


def _orders() -> Iterator[Case]:
    for order in (
        [1, 0],
        [0, 2, 1],
        [2, 0, 1],
        [0, 2, 3, 1],
        [3, 1, 0, 2],
        [0, 3, 1, 2, 4],
        [5, 0, 3, 1, 2, 4],
        [-1, 0, -2],
        [0, 1, 2],
    ):
        shape = (2, 3, 4, 5, 2, 3)[: len(order)]
        yield single("TRANSPOSE", f"float32 {order}", [x("float32", *shape), i32(*order)])
    yield from typed("TRANSPOSE", "types", f"{NUMBERS} qint8", (2, 3, 4), i32(2, 0, 1))
    for axes in ([0], [1], [2], [-1]):
        yield single("REVERSE_V2", f"axes {axes}", [x("float32", 2, 3, 4), i32(*axes)])
    yield single("REVERSE_V2", "axes [1, 2]", [x("float32", 2, 3, 4), i32(1, 2)])
    yield from typed(
        "REVERSE_V2", "types", "float32 int32 int64 int16 int8 uint8 bool", (2, 3, 4), i32(1)
    )
    for sequence, batch in ((1, 0), (0, 1), (2, 0)):
        shape = (3, 4, 5)
        lengths = np.array([2, 1, 3, 0][: shape[batch]], np.int32)
        yield single(
            "REVERSE_SEQUENCE",
            f"float32 {sequence} {batch}",
            [x("float32", *shape), k(lengths)],
            seqDim=sequence,
            batchDim=batch,
        )
    for dtype in ("int32", "int64", "uint8", "int16"):
        for to in (np.int32, np.int64):
            lengths = k(np.array([2, 0, 4], to))
            yield single(
                "REVERSE_SEQUENCE",
                f"{dtype} {to.__name__}",
                [x(dtype, 3, 4), lengths],
                seqDim=1,
                batchDim=0,
            )
    for block in (2, 3):
        shape = (2, 6, 6, 3)
        yield single("SPACE_TO_DEPTH", f"block {block}", [x("float32", *shape)], blockSize=block)
        yield single(
            "DEPTH_TO_SPACE",
            f"block {block}",
            [x("float32", 2, 2, 3, 2 * block * block)],
            blockSize=block,
        )
    yield from typed(
        "SPACE_TO_DEPTH", "types", "int8 uint8 int32 int64 qint8", (1, 4, 6, 3), blockSize=2
    )
    yield from typed(
        "DEPTH_TO_SPACE", "types", "int8 uint8 int32 int64 qint8", (1, 2, 3, 12), blockSize=2
    )


def _slices() -> Iterator[Case]:
    begin, size = i32(1, 0, 2), i32(1, -1, 2)
    yield from typed("SLICE", "types", f"{NUMBERS} uint32 string qint8", (2, 3, 5), begin, size)
    yield single(
        "SLICE", "int64 places", [x("float32", 4, 5), k(np.array([1, 2])), k(np.array([2, -1]))]
    )
    yield single(
        "SLICE", "5-D", [x("float32", 2, 3, 2, 4, 3), i32(0, 1, 1, 1, 0), i32(2, 2, 1, -1, 3)]
    )
    given = [{1: np.array([1, 2], np.int32), 2: np.array([2, 2], np.int32)}]
    yield single(
        "SLICE", "fed places", [x("float32", 4, 5), x("int32", 2), x("int32", 2)], feeds=given
    )
    for count, axis in ((2, 1), (3, 2), (2, -3), (1, 0)):
        outputs = [y("float32")] * count
        yield single(
            "SPLIT",
            f"float32 {count} axis {axis}",
            [i32(axis), x("float32", 2, 4, 6)],
            outputs,
            numSplits=count,
        )
    for dtype in ("uint8", "int8", "int16", "int32"):
        yield single(
            "SPLIT", dtype, [k(np.array(1, np.int32)), x(dtype, 2, 4)], [y(dtype)] * 2, numSplits=2
        )
    for sizes, axis in (([1, 3], 1), ([2, -1, 1], -1), ([2], 0)):
        outputs = [y("float32")] * len(sizes)
        yield single(
            "SPLIT_V",
            f"float32 {sizes} axis {axis}",
            [x("float32", 2, 4, 6), i32(*sizes), i32(axis)],
            outputs,
            numSplits=len(sizes),
        )
    for dtype in ("uint8", "int8", "int16", "int32", "int64"):
        yield single(
            "SPLIT_V", dtype, [x(dtype, 2, 4), i32(1, 3), i32(1)], [y(dtype)] * 2, numSplits=2
        )
    for axis in (0, 1, -1):
        count = (2, 3, 4)[axis]
        yield single(
            "UNPACK",
            f"float32 axis {axis}",
            [x("float32", 2, 3, 4)],
            [y("float32")] * count,
            num=count,
            axis=axis,
        )
    for dtype in ("int32", "uint8", "int8", "bool", "int16"):
        yield single("UNPACK", dtype, [x(dtype, 2, 3)], [y(dtype)] * 2, num=2, axis=0)


def _strided_slices() -> Iterator[Case]:
    shape = (4, 5, 6)
    ways: dict[str, tuple[Sequence[int], Sequence[int], Sequence[int], dict[str, int]]] = {
        "plain": ([1, 0, 2], [3, 4, 6], [1, 1, 1], {}),
        "strides": ([0, 1, 0], [4, 5, 6], [2, 3, 4], {}),
        "negative strides": ([3, -1, 5], [0, -5, 0], [-1, -2, -3], {}),
        "negative ends": ([-3, 0, -4], [-1, -1, -1], [1, 1, 1], {}),
        "beyond": ([0, -9, 2], [99, 3, 99], [1, 1, 1], {}),
        "begin mask": ([2, 2, 2], [4, 4, 4], [1, 1, 1], {"beginMask": 5}),
        "end mask": ([1, 1, 1], [2, 2, 2], [1, 1, 1], {"endMask": 3}),
        "masks backwards": ([1, 1, 1], [3, 3, 3], [-1, -1, 1], {"beginMask": 3, "endMask": 3}),
        "shrink": ([1, 0, 2], [2, 5, 6], [1, 1, 1], {"shrinkAxisMask": 1}),
        "shrink two": ([1, 0, -1], [2, 5, 6], [1, 1, 1], {"shrinkAxisMask": 5}),
        "ellipsis": ([0, 1], [0, 3], [1, 1], {"ellipsisMask": 1}),
        "ellipsis within": ([1, 0, 1], [3, 0, 4], [1, 1, 2], {"ellipsisMask": 2}),
        "new axis": ([0, 0, 1, 0], [0, 4, 4, 6], [1, 1, 1, 1], {"newAxisMask": 1}),
        "new axis within": ([0, 0, 1], [4, 0, 4], [1, 1, 1], {"newAxisMask": 2}),
        "all masks": ([1, 0, 0, 2], [2, 0, 0, 6], [1, 1, 1, 2],
                      {"shrinkAxisMask": 1, "ellipsisMask": 2, "newAxisMask": 4}),
        "fewer": ([1], [3], [1], {}),
        "empty": ([2, 0, 0], [2, 5, 6], [1, 1, 1], {}),
        "offset": ([1, 1, 1], [2, 3, 2], [1, 1, 1], {"offset": True}),
    }  # fmt: skip
    for name, (begin, end, strides, masks) in ways.items():
        inputs = [x("float32", *shape), i32(*begin), i32(*end), i32(*strides)]
        yield single("STRIDED_SLICE", name, inputs, **masks)
    places = [i32(0, 1, 0), i32(4, 5, 6), i32(2, 3, 4)]
    yield from typed("STRIDED_SLICE", "types", f"{NUMBERS} uint32 string qint8", shape, *places)
    five = [
        x("float32", 2, 3, 4, 3, 2),
        i32(0, 2, 1, 0, 1),
        i32(2, 0, 4, 3, 2),
        i32(1, -1, 2, 1, 1),
    ]
    yield single("STRIDED_SLICE", "5-D", five)
    fed = [x("float32", *shape), x("int32", 3), x("int32", 3), i32(1, 1, 2)]
    given = [{1: np.array([1, 0, 0], np.int32), 2: np.array([3, 2, 6], np.int32)}]
    yield single("STRIDED_SLICE", "fed places", fed, feeds=given)


def _joins() -> Iterator[Case]:
    for axis in (0, 1, 2, -1, -2):
        shapes = [[2, 3, 4] for _ in range(3)]
        for i, shape in enumerate(shapes):
            shape[axis] = i + 1
        yield single(
            "CONCATENATION", f"float32 axis {axis}", [x("float32", *s) for s in shapes], axis=axis
        )
    for dtype in f"{NUMBERS} uint32".split():
        yield single(
            "CONCATENATION", dtype, [x(dtype, 2, 3), x(dtype, 2, 1)], axis=1, low=-9, high=9
        )
    scales = [Quantization(0.1, 3), Quantization(0.05, -9), Quantization(0.1, 3)]
    shifted = [Quantization(q.scale, q.zero + 128) for q in scales]
    for dtype, qs in (("uint8", shifted), ("int8", [scales[0]] * 3)):
        inputs = [x(dtype, 2, 3, q=q) for q in qs]
        yield single("CONCATENATION", f"{dtype} quantized", inputs, [y(dtype, qs[0])], axis=0)
    yield single(
        "CONCATENATION",
        "with a constant",
        [x("float32", 2, 3), k(values("c", "float32", (2, 2)))],
        axis=1,
    )
    yield single("CONCATENATION", "of one", [x("float32", 2, 3)], axis=1)
    yield single("CONCATENATION", "an empty one", [x("float32", 2, 3), x("float32", 2, 0)], axis=1)
    for axis in (0, 1, -1):
        yield single(
            "PACK", f"float32 axis {axis}", [x("float32", 2, 3)] * 3, axis=axis, valuesCount=3
        )
    for dtype in ("int8", "uint8", "int16", "int32", "int64", "uint32"):
        yield single("PACK", dtype, [x(dtype, 2, 3)] * 2, axis=0, valuesCount=2)
    yield single("PACK", "scalars", [x("int32")] * 3, axis=0, valuesCount=3)
    for dtype in f"{NUMBERS} string".split():
        yield single("TILE", dtype, [x(dtype, 2, 3), i32(2, 3)])
    yield single("TILE", "int64 counts", [x("float32", 1, 2, 3), k(np.array([3, 1, 2]))])
    yield single("TILE", "none", [x("float32", 2, 3), i32(0, 2)])
    for dtype in ["float32", "float16", "int32", "int64", "int8", "int16", "bool", "uint8"]:
        inputs = [x(dtype, 4, 5), x(dtype, 2, 3), x("int32", 2)]
        yield single("DYNAMIC_UPDATE_SLICE", dtype, inputs, feeds=[{2: np.array([1, 2], np.int32)}])
    for start in ([3, 4], [-1, 0]):
        inputs = [x("float32", 4, 5), x("float32", 2, 3), x("int64", 2)]
        yield single(
            "DYNAMIC_UPDATE_SLICE",
            f"clamped {start}",
            inputs,
            feeds=[{2: np.array(start, np.int64)}],
        )


def _pads() -> Iterator[Case]:
    around = k(np.array([[0, 0], [1, 2], [3, 0]], np.int32))
    types = "float32 int8 uint8 int16 int32 int64 bool"
    yield from typed("PAD", "types", f"{types} qint8", (2, 3, 4), around)
    for dtype in types.split():
        yield single("PADV2", dtype, [x(dtype, 2, 3, 4), around, x(dtype)], high=50)
    inputs = [x("int8", 2, 3, 4, q=Q), around, x("int8", 1, q=Q)]
    yield single("PADV2", "int8 quantized", inputs, [y("int8", Q)])
    yield single("PAD", "int64 counts", [x("float32", 2, 3), k(np.array([[1, 0], [0, 2]]))])
    yield single(
        "PAD",
        "5-D",
        [x("float32", 2, 1, 2, 3, 2), k(np.arange(10).reshape(5, 2).astype(np.int32) % 3)],
    )
    yield single(
        "PAD",
        "picture",
        [x("float32", 1, 5, 4, 3), k(np.array([[0, 0], [1, 1], [2, 1], [0, 0]], np.int32))],
    )
    yield single(
        "PAD",
        "channels",
        [x("float32", 1, 5, 4, 3), k(np.array([[0, 0], [0, 0], [0, 0], [0, 5]], np.int32))],
    )
    small = k(np.array([[0, 0], [1, 2], [3, 0]], np.int32))
    for mode in ("REFLECT", "SYMMETRIC"):
        for dtype in ("float32", "int32", "uint8", "int8", "int64", "int16"):
            yield single("MIRROR_PAD", f"{dtype} {mode}", [x(dtype, 2, 3, 4), small], mode=mode)
        yield single(
            "MIRROR_PAD",
            f"int64 counts {mode}",
            [x("float32", 3, 4), k(np.array([[2, 1], [0, 3]]))],
            mode=mode,
        )


def _blocks() -> Iterator[Case]:
    none, some = [[0, 0], [0, 0]], [[1, 0], [2, 1]]
    for dtype in ("float32", "uint8", "int8", "int32", "int64", "int16"):
        inputs = [x(dtype, 2, 4, 6, 3), i32(2, 3), k(np.array(none, np.int32))]
        yield single("SPACE_TO_BATCH_ND", dtype, inputs)
        inputs = [x(dtype, 12, 2, 3, 3), i32(2, 3), k(np.array(none, np.int32))]
        yield single("BATCH_TO_SPACE_ND", dtype, inputs)
    yield single(
        "SPACE_TO_BATCH_ND",
        "padded",
        [x("float32", 2, 5, 6, 3), i32(2, 3), k(np.array(some, np.int32))],
    )
    yield single(
        "BATCH_TO_SPACE_ND",
        "cropped",
        [x("float32", 12, 3, 3, 3), i32(2, 3), k(np.array(some, np.int32))],
    )
    yield single(
        "SPACE_TO_BATCH_ND", "3-D", [x("float32", 2, 5, 3), i32(2), k(np.array([[0, 1]], np.int32))]
    )
    yield single(
        "BATCH_TO_SPACE_ND", "3-D", [x("float32", 4, 3, 3), i32(2), k(np.array([[0, 1]], np.int32))]
    )
    inputs = [x("int8", 2, 5, 6, 3, q=Q), i32(2, 3), k(np.array(some, np.int32))]
    yield single("SPACE_TO_BATCH_ND", "int8 quantized", inputs, [y("int8", Q)])


def _made() -> Iterator[Case]:
    text = k(np.array(b"edge", object))
    yield single("FILL", "string", [i32(2, 3), text], [y("string")])
    for dtype in ["float32", "float16", "int32", "int64", "int8", "int16", "bool"]:
        for sizes in (np.array([2, 3], np.int32), np.array([4], np.int64)):
            yield single("FILL", f"{dtype} {sizes.tolist()}", [k(sizes), x(dtype)], [y(dtype)])
    yield single(
        "FILL",
        "fed sizes",
        [x("int32", 2), x("float32")],
        [y("float32")],
        feeds=[{0: np.array([2, 3], np.int32)}],
    )
    ranges = [(0, 7, 2, "int32"), (9, -3, -4, "int64"), (0.5, 3, 0.7, "float32")]
    for start, end, step, dtype in ranges:
        numbers = [k(np.array(n, dtype)) for n in (start, end, step)]
        yield single("RANGE", f"{dtype} {start} {end} {step}", numbers, [y(dtype)])
    fed = [{0: np.array(1, np.int32), 1: np.array(8, np.int32), 2: np.array(3, np.int32)}]
    yield single("RANGE", "fed", [x("int32")] * 3, [y("int32")], feeds=fed)
    for dtype in ("float32", "int32", "int64", "int8", "uint8", "bool"):
        depth = k(np.array(4, np.int32))
        on = [x("int32", 2, 3), depth, k(np.array(7, dtype)), k(np.array(0, dtype))]
        yield single("ONE_HOT", dtype, on, [y(dtype)], low=-1, high=5, axis=-1)
    for axis in (0, 1, 2):
        on = [x("int64", 2, 3), k(np.array(4, np.int32)), k(np.float32(1)), k(np.float32(0))]
        yield single("ONE_HOT", f"int64 axis {axis}", on, [y("float32")], low=0, high=3, axis=axis)
    types = "float32 int8 uint8 int16 int32 int64"  # LiteRT moves bool as if it were float32
    yield from typed("MATRIX_DIAG", "types", types, (2, 3))
    for dtype in types.split():
        yield single("MATRIX_SET_DIAG", dtype, [x(dtype, 2, 3, 4), x(dtype, 2, 3)])
    yield single("MATRIX_SET_DIAG", "tall", [x("float32", 4, 3), x("float32", 3)])


CASES = list(cases())
