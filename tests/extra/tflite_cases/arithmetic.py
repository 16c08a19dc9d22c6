"""Operators of two tensors with broadcasting: arithmetic, comparisons, logic, choices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.extra.tflite_cases.case import Case, k, single, values, x, y
from tests.tflite_models import Quantization

BROADCASTS = {
    "same": ((2, 3, 4, 5), (2, 3, 4, 5)),
    "scalar": ((2, 3, 4), ()),
    "one": ((1,), (2, 3, 4)),
    "row": ((2, 3, 5), (5,)),
    "column": ((3, 1), (1, 4)),
    "middle": ((2, 1, 3, 4), (1, 5, 1, 4)),
    "5-D": ((2, 1, 3, 1, 2), (1, 3, 1, 4, 2)),
    "6-D": ((1, 2, 1, 3, 2, 2), (2, 1, 3, 1, 2, 1)),
}
# Element types that LiteRT's kernels take, beside quantized ones.
TYPES = {
    "ADD": "float32 int32 int64 int16",
    "SUB": "float32 int32 int64",
    "MUL": "float32 int32 int64 int16 uint32",
    "DIV": "float32 int32",
    "MAXIMUM": "float32 float16 bfloat16 int8 uint8 int16 int32 int64",
    "MINIMUM": "float32 float16 bfloat16 int8 uint8 int16 int32 int64",
    "SQUARED_DIFFERENCE": "float32 int32",
    "FLOOR_DIV": "float32 int32 int16 int8",
    "FLOOR_MOD": "float32 int8 int16 int32 int64",
    "POW": "float32 int32",
    "ATAN2": "float32 float64",
    "BITWISE_XOR": "int8 uint8 int16 uint16 int32 uint32",
    "RIGHT_SHIFT": "int8 uint8 int16 uint16 int32 uint32",
    "STABLEHLO_ADD": "float32 int32 int64 int16",
    "STABLEHLO_MULTIPLY": "float32 int32",
    "STABLEHLO_MAXIMUM": "float32 int32",
    "STABLEHLO_MINIMUM": "float32 int32",
    "STABLEHLO_AND": "bool int32 int8 uint8 int16",
    "STABLEHLO_SHIFT_LEFT": "int32 int16 int8",
    "LOGICAL_AND": "bool",
    "LOGICAL_OR": "bool",
    "EQUAL": "bool float32 float16 int32 int64 int16 string",
    "NOT_EQUAL": "bool float32 float16 int32 int64 string",  # of int16 LiteRT computes nothing
    "GREATER": "float32 float16 bfloat16 int32 int64 int16",
    "GREATER_EQUAL": "float32 float16 int32 int64 int16",
    "LESS": "float32 float16 bfloat16 int32 int64 int16",
    "LESS_EQUAL": "float32 float16 int32 int64 int16",
}
COMPARISONS = ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")
QUANTIZED = {
    "int8": (Quantization(0.02, -3), Quantization(0.05, 11), Quantization(0.07, 5)),
    "uint8": (Quantization(0.02, 125), Quantization(0.05, 140), Quantization(0.07, 131)),
    "int16": (Quantization(1e-4), Quantization(2.3e-4), Quantization(3e-4)),
}
QUANTIZED_TYPES = {
    "ADD": "int8 uint8 int16",
    "SUB": "int8 uint8 int16",
    "MUL": "int8 uint8 int16",
    "DIV": "uint8",
    "MAXIMUM": "int8 uint8 int16",
    "MINIMUM": "int8 uint8 int16",
    "SQUARED_DIFFERENCE": "int8",
    "EQUAL": "int8 uint8",
    "NOT_EQUAL": "int8 uint8",
    "GREATER": "int8 uint8",
    "GREATER_EQUAL": "int8 uint8",
    "LESS": "int8 uint8",
    "LESS_EQUAL": "int8 uint8",
}
FUSED = ("ADD", "SUB", "MUL", "DIV")
ACTIVATIONS = ("RELU", "RELU6", "RELU_N1_TO_1")
SAME_SCALE = ("MAXIMUM", "MINIMUM")


def cases() -> Iterator[Case]:
    yield from _floats_and_integers()
    yield from _quantized()
    yield from _selects()
    yield from _others()


def _pair(kind: str, dtype: str, shape: str) -> tuple[list, dict]:
    """Two inputs, and how they are drawn so that C++ defines the result."""
    left, right = BROADCASTS[shape]
    inputs, name = [x(dtype, *left), x(dtype, *right)], f"{kind} {dtype} {shape}"
    if kind in ("FLOOR_DIV", "FLOOR_MOD", "DIV") and dtype != "float32":
        divisors = values(name, dtype, right, 1, 9) * np.sign(
            values(name + "+", "float32", right) + 1e-9
        )
        return inputs, {"low": -50, "high": 50, "feeds": [{1: divisors.astype(dtype)}]}
    if kind in ("FLOOR_DIV", "FLOOR_MOD", "DIV"):
        divisors = values(name, dtype, right, 0.2, 3) * np.sign(values(name + "+", dtype, right))
        return inputs, {"feeds": [{1: divisors}]}
    if kind == "POW" and dtype == "float32":
        return inputs, {"feeds": [{0: values(name, dtype, left, 0.1, 3)}]}
    if kind == "POW":
        return inputs, {"low": 0, "high": 4}
    if kind in ("RIGHT_SHIFT", "STABLEHLO_SHIFT_LEFT"):
        return inputs, {"low": -100, "high": 100, "feeds": [{1: values(name, dtype, right, 0, 7)}]}
    if kind in COMPARISONS:
        return inputs, {"low": -2, "high": 2}
    return inputs, {"low": -10, "high": 10}


def _floats_and_integers() -> Iterator[Case]:
    for kind, types in TYPES.items():
        stable = kind.startswith("STABLEHLO")
        for i, dtype in enumerate(types.split()):
            shapes = ("same",) if stable else tuple(BROADCASTS) if i == 0 else ("same", "middle")
            if kind == "ATAN2":  # LiteRT's kernel does not broadcast, and does not say so
                shapes = ("same",)
            for shape in shapes:
                inputs, drawn = _pair(kind, dtype, shape)
                out = [y("bool")] if kind in COMPARISONS else None
                yield single(kind, f"{dtype} {shape}", inputs, out, **drawn)
    for kind in FUSED:
        for dtype in ("float32", "int32", "int64"):
            if dtype not in TYPES[kind]:
                continue
            for activation in ACTIVATIONS:
                inputs, drawn = _pair(kind, dtype, "row")
                name = f"{dtype} {activation}"
                yield single(kind, name, inputs, fusedActivationFunction=activation, **drawn)
    for kind in ("FLOOR_DIV", "FLOOR_MOD", "DIV"):
        signs = [np.array([7, -7, 7, -7], np.float32), np.array([2, 2, -2, -2], np.float32)]
        yield single(
            kind, "signs", [x("float32", 4), x("float32", 4)], feeds=[dict(enumerate(signs))]
        )
    equal = np.array([1, np.nan, np.inf, -0.0], np.float32)
    for kind in (*COMPARISONS, "MAXIMUM", "MINIMUM"):
        out = [y("bool")] if kind in COMPARISONS else None
        yield single(
            kind,
            "special",
            [x("float32", 4), x("float32", 4)],
            out,
            feeds=[{0: equal, 1: abs(equal)}],
        )
    yield single(
        "ADD", "itself with a constant", [x("float32", 2, 5), k(values("c", "float32", (5,)))]
    )


def _quantized() -> Iterator[Case]:
    for kind, types in QUANTIZED_TYPES.items():
        for dtype in types.split():
            first, second, result = QUANTIZED[dtype]
            if kind in SAME_SCALE:
                second = result = first
            out = [y("bool")] if kind in COMPARISONS else [y(dtype, result)]
            for shape in ("same", "scalar", "row", "middle", "5-D"):
                left, right = BROADCASTS[shape]
                if kind == "DIV" and shape == "5-D":
                    continue
                feeds = [{}]
                if kind == "DIV":  # LiteRT loses quotients of a few quanta: nothing near zero
                    feeds = [{0: _apart(f"{shape} 0", left, 125), 1: _apart(shape, right, 140)}]
                inputs = [x(dtype, *left, q=first), x(dtype, *right, q=second)]
                yield single(kind, f"{dtype} quantized {shape}", inputs, out, feeds=feeds)
                if kind in FUSED and shape == "row":
                    for activation in ACTIVATIONS:
                        name = f"{dtype} quantized {activation}"
                        yield single(
                            kind, name, inputs, out, feeds=feeds, fusedActivationFunction=activation
                        )
    for kind in ("ADD", "SUB"):
        for power in (True, False):
            q = [Quantization(2.0**-n) for n in (11, 12, 11)]
            inputs = [x("int16", 3, 4, q=q[0]), x("int16", 3, 4, q=q[1])]
            name = f"int16 powers of two {'as such' if power else 'general'}"
            yield single(kind, name, inputs, [y("int16", q[2])], potScaleInt16=power)
    unit = Quantization(2.0**-15)  # the only scales of this kernel, of LSTMs
    inputs = [x("int16", 3, 4, q=unit), x("int16", 3, 4, q=unit)]
    yield single("MUL", "int16 to int8", inputs, [y("int8", Quantization(2.0**-7, 5))])


def _apart(name: str, shape: tuple[int, ...], zero: int) -> np.ndarray:
    """Quantized numbers u8 at least 20 quanta from their zero."""
    high, low = (
        values(name, "uint8", shape, zero + 20, 255),
        values(name, "uint8", shape, 0, zero - 20),
    )
    return np.where(values(f"{name} sign", "bool", shape), high, low).astype(np.uint8)


def _selects() -> Iterator[Case]:
    types = "float32 float16 bfloat16 int8 uint8 int16 int32 int64 uint32 bool"
    for dtype in types.split():
        same = [x("bool", 2, 3, 4), x(dtype, 2, 3, 4), x(dtype, 2, 3, 4)]
        yield single("SELECT", dtype, same, [y(dtype)], low=-99, high=99)
        yield single("SELECT_V2", dtype, same, [y(dtype)], low=-99, high=99)
    rows = [x("bool", 3), x("float32", 3, 4), x("float32", 3, 4)]
    yield single("SELECT", "whole rows", rows, [y("float32")])
    yield single("SELECT", "one condition", [x("bool"), *rows[1:]], [y("float32")])
    shapes = {
        "5-D": ((2, 1, 3, 1, 2), (1, 3, 1, 4, 2), (2, 3, 3, 4, 1)),
        "condition": ((1, 1, 4), (2, 3, 4), (2, 3, 4)),
        "scalars": ((2, 3), (), ()),
        "mixed": ((3, 1), (4,), (2, 1, 1)),
    }
    for name, (c, a, b) in shapes.items():
        yield single(
            "SELECT_V2", name, [x("bool", *c), x("float32", *a), x("float32", *b)], [y("float32")]
        )
    q = Quantization(0.1, 3)
    inputs = [x("bool", 2, 3), x("int8", 2, 3, q=q), x("int8", 2, 3, q=q)]
    yield single("SELECT_V2", "int8 quantized", inputs, [y("int8", q)])


def _others() -> Iterator[Case]:
    for dtype in ("float32", "int32"):
        for count in (2, 5):
            yield single("ADD_N", f"{dtype} {count}", [x(dtype, 2, 3)] * count)
    shapes = {"vectors": ([2, 1, 3], [4, 1]), "longer": ([5], [2, 3, 1]), "empty": ([], [2, 3])}
    for dtype in ("int32", "int64"):
        for name, (a, b) in shapes.items():
            given = [{0: np.array(a, dtype), 1: np.array(b, dtype)}]
            yield single(
                "BROADCAST_ARGS",
                f"{dtype} {name}",
                [x(dtype, len(a)), x(dtype, len(b))],
                feeds=given,
            )
    for dtype in ["float32", "float16", "int32", "int64", "int16", "int8", "uint8", "bool"]:
        for shape in ((2, 3, 4), (3, 4)):
            to = k(np.array([5, *(2, 3, 4)] if len(shape) == 3 else [2, 3, 4], np.int32))
            yield single(
                "BROADCAST_TO", f"{dtype} {len(shape)}-D", [x(dtype, *shape), to], version=2
            )
    ones = [x("float32", 2, 1, 3, 1), k(np.array([2, 5, 3, 4], np.int64))]
    yield single("BROADCAST_TO", "ones", ones, version=2)
    eight = k(np.array([2, 1, 2, 1, 2, 3, 2, 2], np.int32))
    yield single("BROADCAST_TO", "8-D", [x("float32", 3, 1, 2), eight], version=2)
    given_shape = [{1: np.array([4, 2, 3], np.int32)}]
    yield single(
        "BROADCAST_TO",
        "shape as input",
        [x("float32", 2, 3), x("int32", 3)],
        feeds=given_shape,
        version=2,
    )


CASES = list(cases())
