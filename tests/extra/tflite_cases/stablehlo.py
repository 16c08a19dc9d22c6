"""StableHLO operators with kernels in LiteRT, and the operators that came with them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from flatbuffers import flexbuffers

from tests.extra.tflite_cases.case import Case, k, single, x
from tests.tflite_models import Graph, Tensor, op

NUMBERS = "float32 int32 int64 int16 int8 uint8"


def cases() -> Iterator[Case]:
    yield from _pads()
    yield from _gathers()
    yield from _scatters()
    yield from _windows()
    yield from _bits()
    yield from _calls()


def i64(*numbers: int) -> Tensor:
    return k(np.array(numbers, np.int64))


def _pads() -> Iterator[Case]:
    ways = {
        "edges": ([1, 0], [0, 2], [0, 0]),
        "interior": ([0, 0], [0, 0], [1, 2]),
        "both": ([2, 1], [1, 3], [1, 0]),
        "crops": ([-1, 1], [0, -2], [0, 0]),
        "crops interior": ([-1, 0], [-1, 1], [2, 1]),
    }
    for name, (low, high, interior) in ways.items():
        options = {"edgePaddingLow": low, "edgePaddingHigh": high, "interiorPadding": interior}
        yield single(
            "STABLEHLO_PAD", f"float32 {name}", [x("float32", 3, 4), x("float32")], **options
        )
    for dtype in NUMBERS.split():
        yield single(
            "STABLEHLO_PAD",
            dtype,
            [x(dtype, 3, 4), x(dtype)],
            edgePaddingLow=[1, 0],
            edgePaddingHigh=[0, 2],
            interiorPadding=[0, 1],
        )
    for dtype in ["float32", "int32", "int64", "int16", "int8", "uint8", "float64"]:
        inputs = [x(dtype, 3, 4), k(np.array([2, 3], np.int32)), x(dtype)]
        yield single("DILATE", dtype, inputs)
    yield single(
        "DILATE", "3-D", [x("float32", 2, 1, 3), k(np.array([1, 4, 2], np.int32)), x("float32")]
    )


def _gathers() -> Iterator[Case]:
    options = {
        "offsetDims": [2, 3],
        "collapsedSliceDims": [0],
        "startIndexMap": [1, 0],
        "indexVectorDim": 2,
        "sliceSizes": [1, 2, 2],
    }
    places = np.array([[[0, 0], [1, 0], [2, 1]], [[0, 1], [1, 1], [0, 9]]])
    for dtype in ["float32", "int32", "int64", "int8", "bool"]:
        for place in (np.int32, np.int64):
            inputs = [x(dtype, 3, 4, 2), k(places.astype(place))]
            yield single(
                "STABLEHLO_GATHER",
                f"{dtype} {place.__name__}",
                inputs,
                [x(dtype, 2, 3, 2, 2)],
                **options,
            )


def _computation(kind: str, dtype: str) -> Graph:
    ports = [Tensor(name, dtype, ()) for name in ("a", "b", "c")]
    return Graph(
        ports, [op(kind, "a b", "c")] if kind else [], "a b", "c" if kind else "b", kind or "second"
    )


def _scatters() -> Iterator[Case]:
    options = {
        "updateWindowDims": [2, 3],
        "insertedWindowDims": [0],
        "scatterDimsToOperandDims": [1, 0],
        "indexVectorDim": 2,
        "updateComputationSubgraphIndex": 1,
    }
    places = np.array([[[0, 2], [1, 0], [2, 1]], [[0, 1], [1, 0], [0, 9]]])
    kinds = ["", "STABLEHLO_ADD", "STABLEHLO_MULTIPLY", "STABLEHLO_MAXIMUM", "STABLEHLO_MINIMUM"]
    for kind in kinds:
        for dtype in ("float32", "int32"):
            inputs = [x(dtype, 3, 4, 2), k(places), x(dtype, 2, 3, 2, 2)]
            name = f"{dtype} {kind or 'replaces'}"
            yield single(
                "STABLEHLO_SCATTER", name, inputs, others=[_computation(kind, dtype)], **options
            )
    inputs = [x("int64", 3, 4, 2), k(places.astype(np.int32)), x("int64", 2, 3, 2, 2)]
    yield single(
        "STABLEHLO_SCATTER",
        "int64",
        inputs,
        others=[_computation("STABLEHLO_ADD", "int64")],
        **options,
    )


def _windows() -> Iterator[Case]:
    ways = {
        "plain": ([2, 2], [1, 1], [1, 1], [1, 1], [[0, 0], [0, 0]]),
        "strides": ([3, 2], [2, 3], [1, 1], [1, 1], [[0, 0], [0, 0]]),
        "padded": ([2, 3], [1, 2], [1, 1], [1, 1], [[1, 0], [2, 1]]),
        "dilated base": ([2, 2], [1, 1], [2, 3], [1, 1], [[0, 1], [0, 0]]),
        "dilated window": ([2, 2], [1, 1], [1, 1], [2, 2], [[0, 0], [0, 0]]),
        "all": ([2, 2], [2, 1], [2, 1], [1, 2], [[1, 1], [-1, 0]]),
    }
    start = {"ADD": 0.0, "MULTIPLY": 1.0, "MAXIMUM": -99.0, "MINIMUM": 99.0}
    for name, (window, strides, base, dilation, padding) in ways.items():
        for kind in start if name == "plain" else ("ADD", "MAXIMUM"):
            for dtype in ("float32", "int32", "int8") if name == "plain" else ("float32",):
                first = np.array(start[kind], dtype)
                yield single(
                    "STABLEHLO_REDUCE_WINDOW",
                    f"{dtype} {kind} {name}",
                    [x(dtype, 5, 6), k(first)],
                    others=[_computation(f"STABLEHLO_{kind}", dtype)],
                    bodySubgraphIndex=1,
                    windowDimensions=window,
                    windowStrides=strides,
                    baseDilations=base,
                    windowDilations=dilation,
                    padding=np.array(padding).reshape(-1).tolist(),
                )
    functions = {"ADD": 0, "MUL": 1, "MAXIMUM": -99, "MINIMUM": 99}
    for name, value in functions.items():
        low = -2 if name == "MUL" else -40
        for dtype in ("float32", "int32", "int64", "int16", "int8", "uint8"):
            first = np.array(abs(value) if dtype == "uint8" else value, dtype)
            inputs = [x(dtype, 5, 6), k(first), i64(2, 3), i64(2, 1), i64(1, 2)]
            yield single(
                "REDUCE_WINDOW", f"{dtype} {name}", inputs, reduceFunction=name, low=low, high=-low
            )
    for name in ("ALL", "ANY"):
        inputs = [x("bool", 5, 6), k(np.array(name == "ALL")), i64(2, 3), i64(2, 1), i64(1, 2)]
        yield single("REDUCE_WINDOW", f"bool {name}", inputs, reduceFunction=name)


def _bits() -> Iterator[Case]:
    for algorithm, count in (("PHILOX", 2), ("PHILOX", 3), ("THREEFRY", 2), ("DEFAULT", 2)):
        for dtype in ("int32", "uint32", "int64", "uint64"):
            state = k(np.arange(5, 5 + count).astype(np.uint64))
            outputs = [x("uint64", count), x(dtype, 3, 5)]
            yield single(
                "STABLEHLO_RNG_BIT_GENERATOR",
                f"{dtype} {algorithm} {count}",
                [state],
                outputs,
                algorithm=algorithm,
            )


def _calls() -> Iterator[Case]:
    ports = [Tensor(name, "float32", (2, 3)) for name in ("a", "b", "t", "c")]
    body = Graph(ports, [op("MUL", "a b", "t"), op("ADD", "t a", "c")], "a b", "c", "multiply_add")
    inputs = [x("float32", 2, 3), x("float32", 2, 3)]
    attributes = np.frombuffer(flexbuffers.Dumps({}), np.uint8)
    yield single(
        "STABLEHLO_COMPOSITE",
        "two operators",
        inputs,
        others=[body],
        name="test.multiply_add",
        compositeAttributes=attributes,
        decompositionSubgraphIndex=1,
    )


CASES = list(cases())
