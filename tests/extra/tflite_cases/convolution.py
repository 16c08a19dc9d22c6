"""Convolutions, in float and quantized in each of LiteRT's ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.extra.tflite_cases.case import Case, k, several, single, values, x, y
from tests.tflite_models import Graph, Quantization, Sparsity, Tensor, constant, op

I8, U8, I16 = Quantization(0.02, -5), Quantization(0.02, 120), Quantization(1e-4)
OUT = {
    "int8": Quantization(0.06, 7),
    "uint8": Quantization(0.06, 130),
    "int16": Quantization(2.5e-4),
}
IN = {"int8": I8, "uint8": U8, "int16": I16}
GEOMETRY: dict[str, dict[str, Any]] = {
    "SAME": {"padding": "SAME", "strideW": 1, "strideH": 1},
    "VALID": {"padding": "VALID", "strideW": 1, "strideH": 1},
    "SAME stride 2": {"padding": "SAME", "strideW": 2, "strideH": 2},
    "VALID stride 2": {"padding": "VALID", "strideW": 2, "strideH": 2},
    "SAME stride 2x3": {"padding": "SAME", "strideW": 2, "strideH": 3},
}
DILATED = {
    "SAME dilated": {
        "padding": "SAME",
        "strideW": 1,
        "strideH": 1,
        "dilationWFactor": 2,
        "dilationHFactor": 3,
    },
    "VALID dilated": {
        "padding": "VALID",
        "strideW": 1,
        "strideH": 1,
        "dilationWFactor": 2,
        "dilationHFactor": 2,
    },
}
ACTIVATIONS = ("RELU", "RELU6", "RELU_N1_TO_1")


def cases() -> Iterator[Case]:
    yield from _convolutions()
    yield from _depthwise()
    yield from _quantized()
    yield from _hybrid()
    yield from _packed()
    yield from _transposed()
    yield from _volumes()


def weights(name: str, *shape: int) -> np.ndarray:
    array: np.ndarray = values(name, "float32", shape, -1, 1)
    return array


def _convolutions() -> Iterator[Case]:
    bias = k(weights("bias", 6))
    plain = GEOMETRY["SAME"]
    for name, how in (GEOMETRY | DILATED).items():
        for kernel in ((3, 3), (1, 1), (2, 5)):
            inputs = [x("float32", 2, 9, 10, 4), k(weights(name, 6, *kernel, 4)), bias]
            yield single("CONV_2D", f"float32 {kernel[0]}x{kernel[1]} {name}", inputs, **how)
    for activation in ACTIVATIONS:
        inputs = [x("float32", 1, 5, 5, 4), k(weights(activation, 6, 3, 3, 4)), bias]
        yield single(
            "CONV_2D", f"float32 {activation}", inputs, fusedActivationFunction=activation, **plain
        )
    inputs = [x("float32", 1, 5, 5, 4), k(weights("groups", 6, 3, 3, 2)), bias]
    yield single("CONV_2D", "float32 2 groups", inputs, **plain)
    inputs = [x("float32", 1, 5, 5, 4), x("float32", 6, 3, 3, 4), x("float32", 6)]
    yield single("CONV_2D", "float32 weights as inputs", inputs, **plain)
    inputs = [x("float32", 1, 1, 33, 3), k(weights("row", 5, 1, 8, 3)), k(weights("bias", 5))]
    yield single("CONV_2D", "float32 in one dimension", inputs, **GEOMETRY["SAME stride 2"])
    inputs = [x("float32", 1, 3, 3, 4), k(weights("large", 6, 5, 5, 4)), bias]
    yield single("CONV_2D", "float32 kernel beyond the picture", inputs, **plain)


def _depthwise() -> Iterator[Case]:
    for name, how in (GEOMETRY | DILATED).items():
        for kernel in ((3, 3), (5, 5), (1, 2)):
            inputs = [
                x("float32", 2, 9, 10, 6),
                k(weights(name, 1, *kernel, 6)),
                k(weights("b", 6)),
            ]
            yield single(
                "DEPTHWISE_CONV_2D",
                f"float32 {kernel[0]}x{kernel[1]} {name}",
                inputs,
                depthMultiplier=1,
                **how,
            )
    for many in (2, 3):
        for name, how in GEOMETRY.items():
            w, b = k(weights(name, 1, 3, 3, 4 * many)), k(weights("b", 4 * many))
            yield single(
                "DEPTHWISE_CONV_2D",
                f"float32 multiplier {many} {name}",
                [x("float32", 1, 7, 6, 4), w, b],
                depthMultiplier=many,
                **how,
            )
    w, b = k(weights("one", 1, 3, 3, 8)), k(weights("b", 8))
    yield single(
        "DEPTHWISE_CONV_2D",
        "float32 of one channel",
        [x("float32", 1, 7, 6, 1), w, b],
        depthMultiplier=8,
        **GEOMETRY["SAME"],
    )
    for activation in ACTIVATIONS:
        yield single(
            "DEPTHWISE_CONV_2D",
            f"float32 {activation}",
            [x("float32", 1, 7, 6, 8), w, b],
            depthMultiplier=1,
            fusedActivationFunction=activation,
            **GEOMETRY["SAME"],
        )


def stored(name: str, shape: tuple[int, ...], dtype: str, axis: int, per_channel: bool) -> Any:
    """Integer weights of some bits, with one scale or one for each index of `axis`."""
    bits = int(dtype.lstrip("uint"))
    low, high = (1, 255) if dtype == "uint8" else (1 - (1 << bits - 1), (1 << bits - 1) - 1)
    data = values(name, dtype, shape, low, high)
    size = 0.6 / high * (2 if dtype == "uint8" else 1)
    if not per_channel:
        return k(data, dtype, Quantization(size, 117 if dtype == "uint8" else 0))
    scales = size * np.linspace(0.3, 1.4, shape[axis])
    return k(data, dtype, Quantization(scales.tolist(), 0, axis))


def bias_of(name: str, count: int, source: Quantization, w: Any, wide: bool = False) -> Any:
    """A bias with the scale that quantized models give it: input times weights."""
    scales = np.atleast_1d(np.asarray(w.quantization.scale)) * source.scale
    real = values(name, "float32", (count,), -1, 1)
    data = np.round(real / np.broadcast_to(scales, (count,))).astype(np.int64 if wide else np.int32)
    return k(data, q=Quantization(scales.tolist(), 0, 0))


QUANTIZED = [  # activations, weights, one scale for each channel
    ("int8", "int8", True),
    ("int8", "int8", False),
    ("uint8", "uint8", False),
    ("int16", "int8", True),
    ("int8", "int4", True),
    ("int8", "int4", False),
]


def _quantized() -> Iterator[Case]:
    shapes = {"3x3": (3, 3), "1x1": (1, 1)}
    for dtype, kind, channels in QUANTIZED:
        label = f"{dtype} {kind} {'per channel' if channels else 'per tensor'}"
        q, out = IN[dtype], [y(dtype, OUT[dtype])]
        wide = dtype == "int16"
        for name, how in (GEOMETRY | DILATED).items():
            for text, kernel in shapes.items():
                w = stored(label + name, (6, *kernel, 4), kind, 0, channels)
                inputs = [x(dtype, 2, 7, 8, 4, q=q), w, bias_of(name, 6, q, w, wide)]
                yield single("CONV_2D", f"{label} {text} {name}", inputs, out, **how)
            w = stored(label + name, (1, 3, 3, 4), kind, 3, channels)
            inputs = [x(dtype, 2, 7, 8, 4, q=q), w, bias_of(name, 4, q, w, wide)]
            yield single(
                "DEPTHWISE_CONV_2D", f"{label} {name}", inputs, out, depthMultiplier=1, **how
            )
        for activation in ACTIVATIONS:
            w = stored(label + activation, (6, 3, 3, 4), kind, 0, channels)
            inputs = [x(dtype, 1, 5, 5, 4, q=q), w, bias_of("b", 6, q, w, wide)]
            yield single(
                "CONV_2D",
                f"{label} {activation}",
                inputs,
                out,
                fusedActivationFunction=activation,
                **GEOMETRY["SAME"],
            )
            w = stored(label + activation, (1, 3, 3, 4), kind, 3, channels)
            inputs = [x(dtype, 1, 5, 5, 4, q=q), w, bias_of("b", 4, q, w, wide)]
            yield single(
                "DEPTHWISE_CONV_2D",
                f"{label} {activation}",
                inputs,
                out,
                depthMultiplier=1,
                fusedActivationFunction=activation,
                **GEOMETRY["SAME"],
            )
        w = stored(label, (1, 3, 3, 8), kind, 3, channels)
        inputs = [x(dtype, 1, 5, 5, 4, q=q), w, bias_of("b", 8, q, w, wide)]
        yield single(
            "DEPTHWISE_CONV_2D",
            f"{label} multiplier 2",
            inputs,
            out,
            depthMultiplier=2,
            **GEOMETRY["SAME"],
        )
        w = stored(label, (6, 3, 3, 2), kind, 0, channels)
        inputs = [x(dtype, 1, 5, 5, 4, q=q), w, bias_of("b", 6, q, w, wide)]
        yield single("CONV_2D", f"{label} 2 groups", inputs, out, **GEOMETRY["SAME"])
    w = stored("narrow", (6, 3, 3, 4), "int8", 0, True)
    inputs = [x("int16", 1, 5, 5, 4, q=I16), w, bias_of("b", 6, I16, w)]
    yield single(
        "CONV_2D",
        "int16 with an int32 bias",
        inputs,
        [y("int16", OUT["int16"])],
        quantizedBiasType="int32",
        **GEOMETRY["SAME"],
    )


def _hybrid() -> Iterator[Case]:
    for kind, channels in (("int8", True), ("int8", False), ("int4", True)):
        for name, how in GEOMETRY.items():
            w = stored(name, (6, 3, 3, 4), kind, 0, channels)
            label = f"float32 {kind} {'per channel' if channels else 'per tensor'} {name}"
            inputs = [x("float32", 2, 7, 8, 4), w, k(weights("b", 6))]
            yield single("CONV_2D", label, inputs, kernels="default", **how)
            w = stored(label, (6, 1, 1, 4), kind, 0, channels)
            inputs = [x("float32", 2, 7, 8, 4), w, k(weights("b", 6))]
            yield single("CONV_2D", f"{label} 1x1", inputs, kernels="default", **how)
            if kind == "int4" or not channels:  # LiteRT would read scales that are not there
                continue
            w = stored(name, (1, 3, 3, 4), kind, 3, channels)
            inputs = [x("float32", 2, 7, 8, 4), w, k(weights("b", 4))]
            yield single("DEPTHWISE_CONV_2D", label, inputs, depthMultiplier=1, **how)


def _packed() -> Iterator[Case]:
    """Weights that stand in the file smaller than they are computed with."""
    real = weights("packed", 6, 3, 3, 4)
    real[np.abs(real) < 0.6] = 0
    halves = real.astype(np.float16)
    rows = Sparsity([0, 1, 2, 3], [], [6, 3, 3, None], *_rows(halves))
    stored_as = {
        "float16": Tensor("w", "float16", real.shape, halves),
        "sparse": Tensor("w", "float32", real.shape, real[real != 0], sparsity=rows),
        "sparse float16": Tensor("w", "float16", real.shape, halves[halves != 0], sparsity=rows),
    }
    opened = {
        "float16": [op("DEQUANTIZE", "w", "f")],
        "sparse": [op("DENSIFY", "w", "f")],
        "sparse float16": [op("DENSIFY", "w", "h"), op("DEQUANTIZE", "h", "f")],
    }
    fed = values("packed x", "float32", (1, 5, 6, 4))
    for name, first in stored_as.items():
        tensors = [
            first, Tensor("h", "float16", real.shape), Tensor("f", "float32", real.shape),
            constant("b", weights("b", 6)), Tensor("x", "float32", (1, 5, 6, 4)),
            Tensor("y", "float32", (1, 5, 6, 6)),
        ]  # fmt: skip
        last = op("CONV_2D", "x f b", "y", **GEOMETRY["SAME"])
        graph = Graph(tensors, [*opened[name], last], "x", "y")
        yield several("CONV_2D", f"{name} weights", [graph], [{"x": fed}])


def _rows(array: np.ndarray) -> tuple[list[int], list[int]]:
    """Segments and indices of the compressed last axis."""
    kept = array.reshape(-1, array.shape[-1]) != 0
    segments = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    return segments.tolist(), np.nonzero(kept)[1].tolist()


def _transposed() -> Iterator[Case]:
    for name, how in GEOMETRY.items():
        h, w_ = (how["strideH"], how["strideW"])
        for kernel in ((3, 3), (2, 2), (4, 5)):
            if how["padding"] == "SAME":
                size = [2, 5 * h, 4 * w_, 6]
            else:
                size = [2, 4 * h + kernel[0], 3 * w_ + kernel[1], 6]
            shape = k(np.array(size, np.int32))
            inputs = [shape, k(weights(name, 6, *kernel, 4)), x("float32", 2, 5, 4, 4)]
            label = f"{kernel[0]}x{kernel[1]} {name}"
            yield single("TRANSPOSE_CONV", f"float32 {label}", inputs, [y("float32")], **how)
            biased = [*inputs, k(weights("b", 6))]
            yield single(
                "TRANSPOSE_CONV", f"float32 bias {label}", biased, [y("float32")], version=3, **how
            )
        for dtype, kind, channels in QUANTIZED:
            if kind == "int4":
                continue
            q = IN[dtype]
            w = stored(name, (6, 3, 3, 4), kind, 0, channels)
            size = (
                [2, 5 * h, 4 * w_, 6] if how["padding"] == "SAME" else [2, 4 * h + 3, 3 * w_ + 3, 6]
            )
            b = bias_of("b", 6, q, w, dtype == "int16")
            inputs = [k(np.array(size, np.int32)), w, x(dtype, 2, 5, 4, 4, q=q)]
            label = f"{dtype} {kind} {'per channel' if channels else 'per tensor'} {name}"
            yield single(
                "TRANSPOSE_CONV", label, [*inputs, b], [y(dtype, OUT[dtype])], version=3, **how
            )
            yield single(
                "TRANSPOSE_CONV", f"{label} no bias", inputs, [y(dtype, OUT[dtype])], **how
            )
    shape = k(np.array([1, 9, 9, 6], np.int32))
    inputs = [shape, k(weights("odd", 6, 3, 3, 4)), x("float32", 1, 5, 5, 4)]
    yield single(
        "TRANSPOSE_CONV",
        "float32 odd size SAME",
        inputs,
        [y("float32")],
        **GEOMETRY["SAME stride 2"],
    )
    for activation in ACTIVATIONS:
        inputs = [
            shape,
            k(weights("odd", 6, 3, 3, 4)),
            x("float32", 1, 5, 5, 4),
            k(weights("b", 6)),
        ]
        yield single(
            "TRANSPOSE_CONV",
            f"float32 {activation}",
            inputs,
            [y("float32")],
            version=4,
            fusedActivationFunction=activation,
            **GEOMETRY["SAME stride 2"],
        )


def _volumes() -> Iterator[Case]:
    for name, how in GEOMETRY.items():
        deep = {**how, "strideD": how["strideH"]}
        for kernel in ((2, 3, 3), (1, 1, 1)):
            inputs = [
                x("float32", 1, 5, 6, 7, 3),
                k(weights(name, *kernel, 3, 4)),
                k(weights("b", 4)),
            ]
            yield single("CONV_3D", f"float32 {kernel} {name}", inputs, **deep)
        sizes = [deep["strideD"], deep["strideH"], deep["strideW"]]
        kernel = (2, 3, 3)
        if how["padding"] == "SAME":
            size = [s * n for s, n in zip(sizes, (3, 4, 5))]
        else:
            size = [s * (n - 1) + e for s, n, e in zip(sizes, (3, 4, 5), kernel)]
        inputs = [
            k(np.array([1, *size, 4], np.int32)),
            k(weights(name, *kernel, 4, 3)),
            x("float32", 1, 3, 4, 5, 3),
        ]
        yield single("CONV_3D_TRANSPOSE", f"float32 {name}", inputs, [y("float32")], **deep)
        yield single(
            "CONV_3D_TRANSPOSE",
            f"float32 bias {name}",
            [*inputs, k(weights("b", 4))],
            [y("float32")],
            **deep,
        )
    inputs = [x("float32", 1, 5, 6, 7, 3), k(weights("d", 2, 3, 3, 3, 4))]
    flags = {"strideD": 1, "strideH": 1, "strideW": 1, "padding": "VALID"}
    yield single("CONV_3D", "float32 no bias", inputs, **flags)
    yield single(
        "CONV_3D",
        "float32 dilated",
        inputs,
        dilationDFactor=2,
        dilationHFactor=2,
        dilationWFactor=1,
        **flags,
    )
    yield single("CONV_3D", "float32 RELU", inputs, fusedActivationFunction="RELU", **flags)


CASES = list(cases())
