"""Operators along axes: sums, extremes, places, norms, running sums, segments."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.extra.tflite_cases.case import Case, k, single, x, y
from tests.extra.tflite_cases.convolution import IN
from tests.tflite_models import Quantization

TYPES = {
    "SUM": "float32 int32 int64",
    "MEAN": "float32 int32 int64",
    "REDUCE_PROD": "float32 int32 int64",
    "REDUCE_MAX": "float32 int32 int64 int8 uint8 int16",
    "REDUCE_MIN": "float32 int32 int64 int8 uint8 int16",
    "REDUCE_ANY": "bool",
    "REDUCE_ALL": "bool",
}
QUANTIZED = {
    "SUM": "int8 uint8 int16",
    "MEAN": "int8 uint8 int16",
    "REDUCE_PROD": "int8 int16",
    "REDUCE_MAX": "int8 uint8 int16",
    "REDUCE_MIN": "int8 uint8 int16",
}
AXES = ([0], [1], [2], [-1], [0, 2], [1, 2], [0, 1, 2, 3], [-1, 1], [1, 1])


def cases() -> Iterator[Case]:
    yield from _reductions()
    yield from _places()
    yield from _norms()
    yield from _running()
    yield from _segments()


def axes(*numbers: int) -> object:
    return k(np.array(numbers, np.int32))


def _reductions() -> Iterator[Case]:
    shape = (2, 3, 4, 5)
    for kind, types in TYPES.items():
        first = types.split()[0]
        for wanted in AXES:
            for keep in (False, True):
                name = f"{first} {wanted}{' kept' * keep}"
                yield single(kind, name, [x(first, *shape), axes(*wanted)], keepDims=keep)
        for dtype in types.split()[1:]:
            for wanted in ([1, 2], [-1]):
                drawn = {"low": 1, "high": 3} if kind == "REDUCE_PROD" else {"low": -50, "high": 50}
                inputs = [x(dtype, 2, 3, 3, 2), axes(*wanted)]
                yield single(kind, f"{dtype} {wanted}", inputs, keepDims=False, **drawn)
        yield single(
            kind, "an axis as scalar", [x(first, 3, 4), k(np.array(1, np.int32))], keepDims=False
        )
        yield single(
            kind,
            "fed axes",
            [x(first, 3, 4), x("int32", 1)],
            feeds=[{1: np.array([1], np.int32)}],
            keepDims=True,
        )
    for kind, types in QUANTIZED.items():
        for dtype in types.split():
            q, shape = IN[dtype], (2, 5, 4, 3)
            others = {
                "int8": Quantization(0.05, 9),
                "uint8": Quantization(0.05, 99),
                "int16": Quantization(3e-4),
            }
            if kind == "REDUCE_PROD":  # LiteRT rounds to quanta after each factor
                q = {"int8": Quantization(0.01, -5), "int16": Quantization(4e-5)}[dtype]
                shape = (2, 2, 2, 2)
            for wanted in ([1, 2], [-1], [0, 3]):
                for keep in (False, True):
                    name = f"{dtype} quantized {wanted}{' kept' * keep}"
                    inputs = [x(dtype, *shape, q=q), axes(*wanted)]
                    yield single(kind, name, inputs, [y(dtype, q)], keepDims=keep)
                    if kind in ("SUM", "MEAN", "REDUCE_PROD"):
                        yield single(
                            kind,
                            f"{name} other scale",
                            inputs,
                            [y(dtype, others[dtype])],
                            keepDims=keep,
                        )
    yield single("MEAN", "a picture", [x("float32", 1, 7, 7, 40), axes(1, 2)], keepDims=False)


def _places() -> Iterator[Case]:
    for kind in ("ARG_MAX", "ARG_MIN"):
        for dtype in ("float32", "int8", "uint8", "int32"):
            for axis in (0, 1, -1):
                inputs = [x(dtype, 3, 4, 5), k(np.array(axis, np.int32))]
                yield single(kind, f"{dtype} axis {axis}", inputs, [y("int64")], outputType=4)
        inputs = [x("float32", 3, 4), k(np.array(1, np.int64))]
        yield single(kind, "to int32", inputs, [y("int32")], outputType=2)
        ties = np.array([[1, 3, 3, 0], [2, 2, 2, 2]], np.float32)
        yield single(
            kind,
            "ties",
            [x("float32", 2, 4), k(np.array(1, np.int32))],
            [y("int64")],
            feeds=[{0: ties}],
            outputType=4,
        )
        yield single(
            kind, "bool", [x("bool", 2, 4), k(np.array(1, np.int32))], [y("int32")], outputType=2
        )
    for dtype in ("float32", "int8", "uint8", "int32", "int64", "int16"):
        drawn = np.random.default_rng(5).permuted(np.tile(np.arange(20), (3, 1)), axis=1)
        for count in (1, 4, 20):
            inputs = [x(dtype, 3, 20), k(np.array(count, np.int32))]
            feeds = [{0: drawn.astype(dtype)}]
            yield single("TOPK_V2", f"{dtype} {count}", inputs, [y(dtype), y("int32")], feeds=feeds)
    ties = np.array([1, 3, 3, 0, 3, 2], np.float32)
    yield single(
        "TOPK_V2",
        "ties",
        [x("float32", 6), k(np.array(4, np.int32))],
        [y("float32"), y("int32")],
        feeds=[{0: ties}],
    )
    inputs = [x("float32", 6), k(np.array(4, np.int16))]
    yield single(
        "TOPK_V2",
        "int16",
        inputs,
        [y("float32"), y("int16")],
        feeds=[{0: np.arange(6, dtype=np.float32)}],
    )
    shapes = {
        "vector": (12,),
        "matrix": (4, 5),
        "3-D": (2, 3, 4),
        "scalar": (),
        "4-D": (2, 2, 3, 2),
    }
    for name, shape in shapes.items():
        if shape:
            yield single("WHERE", f"bool {name}", [x("bool", *shape)], [y("int64")])
    for dtype in ("float32", "int32", "int64", "int8", "uint8", "uint32"):
        yield single("WHERE", dtype, [x(dtype, 4, 5)], [y("int64")], low=-1, high=1)
    for dtype in ("float32", "int8", "uint8", "int16", "int32", "int64"):
        for to in ("int32", "int64"):
            yield single(
                "UNIQUE",
                f"{dtype} {to}",
                [x(dtype, 15)],
                [y(dtype), y(to)],
                feeds=[{0: np.array([3, 1, 3, 0, 7, 1, 1, 0, 9, 3, 2, 2, 1, 0, 8], dtype)}],
                idxOutType=to,
            )
    for dtype in ("float32", "float64", "int32", "int64"):
        yield single(
            "BUCKETIZE",
            dtype,
            [x(dtype, 3, 7)],
            [y("int32")],
            low=-20,
            high=20,
            boundaries=[-9.0, -1.0, 0.0, 4.0, 15.0],
        )


def _norms() -> Iterator[Case]:
    for shape in ((5,), (3, 5), (2, 3, 5), (2, 3, 4, 5)):
        yield single("SOFTMAX", f"float32 {shape}", [x("float32", *shape)], beta=1.0)
        yield single("LOG_SOFTMAX", f"float32 {shape}", [x("float32", *shape)])
        yield single("L2_NORMALIZATION", f"float32 {shape}", [x("float32", *shape)])
    yield single("SOFTMAX", "float32 beta 0.3", [x("float32", 3, 20)], beta=0.3, low=-30, high=30)
    yield single("SOFTMAX", "float32 large", [x("float32", 3, 20)], beta=1.0, low=-1e4, high=1e4)
    yield single(
        "L2_NORMALIZATION",
        "float32 zeros",
        [x("float32", 2, 5)],
        feeds=[{0: np.zeros((2, 5), np.float32)}],
    )
    out = {
        "int8": Quantization(1 / 256, -128),
        "uint8": Quantization(1 / 256, 0),
        "int16": Quantization(1 / 32768),
    }
    for dtype, to in out.items():
        q = (
            Quantization(0.1, 0 if dtype == "int16" else 10)
            if dtype != "int16"
            else Quantization(3e-4)
        )
        for shape in ((3, 20), (2, 3, 4), (1, 2, 3, 100)):
            yield single(
                "SOFTMAX", f"{dtype} {shape}", [x(dtype, *shape, q=q)], [y(dtype, to)], beta=1.0
            )
        yield single("SOFTMAX", f"{dtype} beta 2", [x(dtype, 3, 20, q=q)], [y(dtype, to)], beta=2.0)
    q = Quantization(0.1, 10)
    yield single(
        "SOFTMAX",
        "int8 to int16",
        [x("int8", 3, 20, q=q)],
        [y("int16", Quantization(1 / 65536, -32768))],
        beta=1.0,
    )
    for dtype, zero in (("int8", 127), ("uint8", 255)):
        yield single(
            "LOG_SOFTMAX", dtype, [x(dtype, 3, 20, q=q)], [y(dtype, Quantization(16 / 256, zero))]
        )
    for dtype, zero in (("int8", 0), ("uint8", 128)):
        yield single(
            "L2_NORMALIZATION",
            dtype,
            [x(dtype, 3, 20, q=q)],
            [y(dtype, Quantization(1 / 128, zero))],
        )
    for radius, bias, alpha, beta in ((2, 1.0, 1.0, 0.5), (5, 2.0, 4.0, 0.75), (20, 9.0, 0.3, 1.0)):
        name = f"float32 {radius} {bias} {alpha} {beta}"
        yield single(
            "LOCAL_RESPONSE_NORMALIZATION",
            name,
            [x("float32", 2, 3, 4, 12)],
            radius=radius,
            bias=bias,
            alpha=alpha,
            beta=beta,
        )


def _running() -> Iterator[Case]:
    for dtype in ("float32", "int32", "int64"):
        for exclusive in (False, True):
            for reverse in (False, True):
                for axis in (0, 1, -1):
                    name = f"{dtype} axis {axis}{' exclusive' * exclusive}{' reverse' * reverse}"
                    inputs = [x(dtype, 3, 4, 2), k(np.array(axis, np.int32))]
                    yield single("CUMSUM", name, inputs, exclusive=exclusive, reverse=reverse)


def _segments() -> Iterator[Case]:
    for dtype in ("float32", "int32"):
        ids = k(np.array([0, 0, 1, 2, 2], np.int32))
        yield single("SEGMENT_SUM", dtype, [x(dtype, 5, 2), ids])
        mixed = k(np.array([2, 0, 1, -1, 2], np.int32))
        for kind in ("SUM", "PROD", "MAX", "MIN"):
            inputs = [x(dtype, 5, 2), mixed, k(np.array(4, np.int32))]
            yield single(f"UNSORTED_SEGMENT_{kind}", dtype, inputs)
            inputs = [
                x(dtype, 2, 3),
                k(np.array([[0, 1, 0], [1, 1, 0]], np.int32)),
                k(np.array(2, np.int32)),
            ]
            yield single(f"UNSORTED_SEGMENT_{kind}", f"{dtype} matrix of places", inputs)
    fed = [{1: np.array([0, 1, 1, 2, 2], np.int32)}]
    yield single("SEGMENT_SUM", "fed places", [x("float32", 5, 2), x("int32", 5)], feeds=fed)


CASES = list(cases())
