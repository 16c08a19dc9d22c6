"""Operators of one tensor, element by element, and conversions between element types."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.extra.tflite_cases.case import Case, k, single, x, y
from tests.tflite_models import Quantization

SHAPE = (2, 3, 5)
SIGNED = {
    "int8": (Quantization(0.05, -3), Quantization(0.031, 17)),
    "uint8": (Quantization(0.02, 127), Quantization(0.013, 100)),
    "int16": (Quantization(3e-4), Quantization(2e-4)),
}
POSITIVE = {
    "int8": (Quantization(0.05, -128), Quantization(0.031, -40)),
    "int16": (Quantization(3e-4), Quantization(2e-4)),
}
# Element types that LiteRT's kernels take; "q..." quantized.
UNARY = {
    "ABS": "float32 int32 int16 qint8 qint16",
    "CEIL": "float32",
    "COS": "float32 float16",
    "ELU": "float32 qint8",
    "EXP": "float32 qint8 qint16",
    "FLOOR": "float32 float16 bfloat16",
    "HARD_SWISH": "float32 qint8 quint8",
    "LOG": "float32 qint8 qint16",
    "LOGICAL_NOT": "bool",
    "NEG": "float32 float16 bfloat16 int64 int32 int16 int8",
    "RELU": "float32 qint8 quint8 qint16",
    "RELU6": "float32 qint8 quint8 qint16",
    "RELU_0_TO_1": "float32 qint8 quint8",
    "RELU_N1_TO_1": "float32 qint8 quint8",
    "ROUND": "float32 float16 bfloat16",
    "RSQRT": "float32 qint8 qint16",
    "SIGN": "float32 float64 int32",
    "SIN": "float32 float16",
    "SQRT": "float32 qint8 qint16",
    "SQUARE": "float32",
    "ZEROS_LIKE": "float32 int64 int32",
}
OF_POSITIVE = ("LOG", "RSQRT", "SQRT")
CASTS = (
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"),
    *("float16", "bfloat16", "float32", "float64"),
)
HALVES = np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, -0.0, 0.49999997]], np.float32)
EXTREMES = np.array([np.inf, -np.inf, np.nan, 0, -0.0, 1e-40, 3e38, -90, 90, 17.5], np.float32)


def cases() -> Iterator[Case]:
    yield from _unary()
    yield from _sigmoids()
    yield from _slopes()
    yield from _casts()
    yield from _quantization()


def _unary() -> Iterator[Case]:
    for kind, types in UNARY.items():
        low = 0.01 if kind in OF_POSITIVE else -5
        ranges = POSITIVE if kind in OF_POSITIVE else SIGNED
        for name in types.split():
            if name[0] != "q":
                yield single(kind, name, [x(name, *SHAPE)], low=low, high=5)
                continue
            dtype = name[1:]
            first, other = ranges[dtype]
            fed: dict[int, np.ndarray] = {}
            if kind in OF_POSITIVE and dtype == "int16":
                fed = {0: np.linspace(1, 32767, 30).astype(np.int16).reshape(SHAPE)}
            elif kind in OF_POSITIVE:
                fed = {0: np.linspace(-127, 127, 30).astype(np.int8).reshape(SHAPE)}
            for scales, out in (("same scale", first), ("other scale", other)):
                yield single(
                    kind,
                    f"{dtype} {scales}",
                    [x(dtype, *SHAPE, q=first)],
                    [y(dtype, out)],
                    feeds=[fed],
                )
    for kind in ("ROUND", "FLOOR", "CEIL", "SIGN", "RELU", "ABS", "NEG", "SQUARE"):
        yield single(kind, "halves", [x("float32", 1, 8)], feeds=[{0: HALVES}])
    for kind in ("EXP", "TANH", "LOGISTIC", "ABS", "RELU6", "HARD_SWISH", "ELU", "LOG", "SIGN"):
        yield single(kind, "extremes", [x("float32", 10)], feeds=[{0: EXTREMES}])
    for kind in ("RELU", "NEG", "TANH", "LOGISTIC"):
        yield single(kind, "scalar", [x("float32")])
        yield single(kind, "7-D", [x("float32", 1, 2, 1, 3, 1, 2, 2)])
        yield single(kind, "empty", [x("float32", 2, 0, 3)])


def _sigmoids() -> Iterator[Case]:
    """Operators whose quantized output has a scale that is given."""
    full = Quantization(1 / 32768)
    given = {
        "LOGISTIC": {
            "int8": Quantization(1 / 256, -128),
            "uint8": Quantization(1 / 256, 0),
            "int16": full,
        },
        "TANH": {
            "int8": Quantization(1 / 128, 0),
            "uint8": Quantization(1 / 128, 128),
            "int16": full,
        },
    }
    for kind, outs in given.items():
        for dtype in ("float32", "float16", "bfloat16"):
            yield single(kind, dtype, [x(dtype, *SHAPE)], low=-8, high=8)
        for dtype, out in outs.items():
            name = f"{dtype} quantized"
            yield single(kind, name, [x(dtype, *SHAPE, q=SIGNED[dtype][0])], [y(dtype, out)])
        for bits in (10, 12, 14):
            q = Quantization(2.0**-bits)
            yield single(
                kind, f"int16 scale 2^-{bits}", [x("int16", *SHAPE, q=q)], [y("int16", full)]
            )
    for approximate in (False, True):
        name = "tanh" if approximate else "erf"
        for dtype in ("float32", "float16"):
            yield single("GELU", f"{dtype} {name}", [x(dtype, *SHAPE)], approximate=approximate)
        for dtype, (q, out) in SIGNED.items():
            inputs = [x(dtype, *SHAPE, q=q)]
            yield single(
                "GELU", f"{dtype} {name}", inputs, [y(dtype, out)], approximate=approximate
            )


def _slopes() -> Iterator[Case]:
    for alpha in (0.2, 1.5, -0.5):
        yield single("LEAKY_RELU", f"float32 {alpha}", [x("float32", *SHAPE)], alpha=alpha)
        for dtype, (q, out) in SIGNED.items():
            inputs = [x(dtype, *SHAPE, q=q)]
            yield single("LEAKY_RELU", f"{dtype} {alpha}", inputs, [y(dtype, out)], alpha=alpha)
    for shape in ((5,), (1, 1, 5), (4, 3, 5), (1,)):
        slopes = np.linspace(-0.5, 1.5, int(np.prod(shape)), dtype=np.float32).reshape(shape)
        yield single("PRELU", f"float32 {shape}", [x("float32", 2, 4, 3, 5), k(slopes)])
        for dtype in ("int8", "uint8"):
            q, out = SIGNED[dtype]
            low = -100 if dtype == "int8" else 20
            stored = np.linspace(low, low + 200, slopes.size).astype(dtype).reshape(shape)
            weights = k(stored, q=Quantization(0.01, 4 if dtype == "int8" else 90))
            yield single(
                "PRELU", f"{dtype} {shape}", [x(dtype, 2, 4, 3, 5, q=q), weights], [y(dtype, out)]
            )
    yield single("PRELU", "two inputs", [x("float32", 2, 3), x("float32", 2, 3)])


def _casts() -> Iterator[Case]:
    for source in CASTS:
        for to in CASTS:
            if source == to:
                continue
            # What C++ leaves undefined (numbers beyond the type's) is not asked for.
            low = 0 if to[0] == "u" else -100
            yield single("CAST", f"{source} to {to}", [x(source, 3, 7)], [y(to)], low=low, high=100)
    four = (np.arange(15) - 8).reshape(3, 5)
    yield single("CAST", "int4 to float32", [k(four, "int4")], [y("float32")])
    yield single("CAST", "truncates", [x("float32", 1, 8)], [y("int32")], feeds=[{0: HALVES * 3}])
    yield single("BITCAST", "float32 to int32", [x("float32", 2, 3)], [y("int32")])
    yield single("BITCAST", "int32 to uint32", [x("int32", 2, 3)], [y("uint32")])
    yield single("BITCAST", "float32 to uint8", [x("float32", 2, 3)], [y("uint8")])
    yield single(
        "BITCAST", "uint8 to float32", [x("int16", 2, 3, 2)], [y("float32")], low=0, high=20
    )
    yield single(
        "BITCAST", "int64 to int16", [x("int64", 2, 3)], [y("int16")], low=-70000, high=70000
    )
    yield single("BITCAST", "float16 to int16", [x("float16", 2, 3)], [y("int16")])


def _quantization() -> Iterator[Case]:
    for dtype, (q, out) in SIGNED.items():
        yield single(
            "QUANTIZE", f"float32 to {dtype}", [x("float32", *SHAPE)], [y(dtype, q)], low=-9, high=9
        )
        yield single("DEQUANTIZE", f"{dtype}", [x(dtype, *SHAPE, q=q)], [y("float32")])
        yield single("QUANTIZE", f"{dtype} to {dtype}", [x(dtype, *SHAPE, q=q)], [y(dtype, out)])
    for source, to in (("int8", "uint8"), ("uint8", "int8"), ("int16", "int8"), ("int8", "int16")):
        for scale in ("same", "other"):
            q, out = SIGNED[source][0], SIGNED[to][1]
            if scale == "same":
                zero = {"int8": -5, "uint8": 123, "int16": 0}
                q = Quantization(0.05, zero[source])
                out = Quantization(0.05, zero[to])
            yield single(
                "QUANTIZE",
                f"{source} to {to} {scale} scale",
                [x(source, *SHAPE, q=q)],
                [y(to, out)],
            )
    yield single(
        "QUANTIZE",
        "int16 to int32",
        [x("int16", *SHAPE, q=Quantization(3e-4))],
        [y("int32", Quantization(2e-5))],
    )
    yield single(
        "QUANTIZE",
        "int32 to int16",
        [x("int32", *SHAPE, q=Quantization(3e-4))],
        [y("int16", Quantization(2e-4))],
        low=-40000,
        high=40000,
    )
    yield single(
        "QUANTIZE",
        "int32 to int8",
        [x("int32", *SHAPE, q=Quantization(3e-4))],
        [y("int8", Quantization(2e-2, 5))],
        low=-10000,
        high=10000,
    )
    ties = np.array([0.25, 0.75, -0.25, -0.75, 1.25, 100, -100], np.float32)
    for dtype, zero in (("int8", 1), ("uint8", 128), ("int16", 0)):
        yield single(
            "QUANTIZE",
            f"ties to {dtype}",
            [x("float32", 7)],
            [y(dtype, Quantization(0.5, zero))],
            feeds=[{0: ties}],
        )
    channels = Quantization([0.1, 0.02, 0.5], [0, 0, 0], 1)
    shifted = Quantization([0.1, 0.02, 0.5], [3, -7, 0], 1)
    for name, q in (("per channel", channels), ("per channel with zeros", shifted)):
        yield single("QUANTIZE", f"int8 {name}", [x("float32", 2, 3, 5)], [y("int8", q)])
        yield single("DEQUANTIZE", f"int8 {name}", [x("int8", 2, 3, 5, q=q)], [y("float32")])
    yield single("QUANTIZE", "int16 per channel", [x("float32", 2, 3, 5)], [y("int16", channels)])
    yield single(
        "DEQUANTIZE", "uint8 per channel", [x("uint8", 2, 3, 5, q=channels)], [y("float32")]
    )
    half = np.linspace(-3, 3, 30).astype(np.float16).reshape(SHAPE)
    yield single("DEQUANTIZE", "float16", [x("float16", *SHAPE)], [y("float32")])
    yield single("DEQUANTIZE", "float16 constant", [k(half)], [y("float32")])
    four = (np.arange(30) % 16 - 8).reshape(SHAPE)
    yield single("DEQUANTIZE", "int4", [k(four, "int4", Quantization(0.3, 2))], [y("float32")])
    yield single("DEQUANTIZE", "int4 per channel", [k(four, "int4", channels)], [y("float32")])
    yield single("DEQUANTIZE", "int2", [k(four % 4 - 2, "int2", Quantization(0.3))], [y("float32")])
    yield single(
        "DEQUANTIZE",
        "int8 constant",
        [k(four.astype(np.int8), q=Quantization(0.3, 1))],
        [y("float32")],
    )
    for bits in (8, 4, 16):
        yield single(
            "FAKE_QUANT", f"{bits} bits", [x("float32", *SHAPE)], min=-1.2, max=2.1, numBits=bits
        )


CASES = list(cases())
