"""MediaPipe's own operator, for which LiteRT has no kernel, and operators on text."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from tests.extra.tflite_cases.case import Case, Made, single, values, x, y
from tests.tflite_models import Feed, Graph, Op, Tensor, constant, write

SAME, VALID = 1, 2  # TfLitePadding, as the bytes of the options hold it


def cases() -> Iterator[Case]:
    yield from _transposed_convolutions()
    yield from _text()


def transposed_convolution(
    pixels: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray,
    padding: int,
    strides: tuple[int, int],
) -> np.ndarray:
    """Each pixel adds its weights (OHWI) to the picture; SAME trims what MediaPipe trims."""
    batch, *size, _ = pixels.shape
    kernel = weights.shape[1:3]
    whole = [s * (n - 1) + e for s, n, e in zip(strides, size, kernel)]
    trim = [0, 0]
    if padding == SAME:
        trim = [max(0, e - (n - 1) % s - 1) for s, n, e in zip(strides, size, kernel)]
    out = np.zeros((batch, *whole, weights.shape[0]), np.float64)
    for row in range(size[0]):
        for column in range(size[1]):
            top, left = row * strides[0], column * strides[1]
            added = np.einsum("bi,ohwi->bhwo", pixels[:, row, column], weights)
            out[:, top : top + kernel[0], left : left + kernel[1]] += added
    top, left = trim[0] // 2, trim[1] // 2
    height, width = whole[0] - trim[0], whole[1] - trim[1]
    kept = out[:, top : top + height, left : left + width] + bias
    return kept.astype(np.float32)


def _transposed_convolutions() -> Iterator[Case]:
    geometries = [
        ((4, 5), (2, 2), SAME, (2, 2)),
        ((4, 5), (3, 3), SAME, (2, 2)),
        ((3, 4), (3, 3), VALID, (2, 2)),
        ((5, 4), (4, 3), SAME, (3, 1)),
        ((5, 4), (3, 3), SAME, (1, 1)),
    ]
    for size, kernel, padding, strides in geometries:
        name = f"{size} {kernel} {'SAME' if padding == SAME else 'VALID'} stride {strides}"
        weights = values(f"{name} w", "float32", (3, *kernel, 4))
        bias = values(f"{name} b", "float32", (3,))
        pixels = values(f"{name} x", "float32", (2, *size, 4))

        def expected(
            feed: Feed, weights=weights, bias=bias, padding=padding, strides=strides
        ) -> Feed:
            return {"y": transposed_convolution(feed["x"], weights, bias, padding, strides)}

        def make(
            name=name, weights=weights, bias=bias, pixels=pixels, padding=padding, strides=strides
        ) -> Made:
            shape = transposed_convolution(pixels, weights, bias, padding, strides).shape
            options = struct.pack("<3i", padding, strides[1], strides[0])
            step = Op("CUSTOM", "x w b", "y", {}, 1, "Convolution2DTransposeBias", options)
            tensors = [
                Tensor("x", "float32", pixels.shape),
                constant("w", weights),
                constant("b", bias),
                Tensor("y", "float32", shape),
            ]
            return Made(write(Graph(tensors, [step], "x", "y")), [{"x": pixels}])

        yield Case("CUSTOM", f"Convolution2DTransposeBias {name}", make, expected=expected)


def _text() -> Iterator[Case]:
    sentence = np.array([b"The quick  brown fox jumps over the dog"], object)
    for size, skip, every in ((2, 0, False), (2, 1, False), (3, 2, True), (9, 0, False)):
        name = f"{size} skips {skip}{' and shorter' * every}"
        yield single(
            "SKIP_GRAM",
            name,
            [x("string", 1)],
            [y("string")],
            feeds=[{0: sentence}],
            ngramSize=size,
            maxSkipSize=skip,
            includeAllNgrams=every,
        )


CASES = list(cases())
