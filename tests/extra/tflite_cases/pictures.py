"""Resizes, boxes, spectra, complex numbers and random numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.extra.tflite_cases.case import Case, k, several, single, values, x, y
from tests.extra.tflite_cases.convolution import IN
from tests.tflite_models import Graph, Op, Tensor, constant, op


def cases() -> Iterator[Case]:
    yield from _resizes()
    yield from _boxes()
    yield from _spectra()
    yield from _random()


def _resizes() -> Iterator[Case]:
    for kind in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        for align, centres in ((False, False), (True, False), (False, True)):
            how = {"alignCorners": align, "halfPixelCenters": centres}
            name = " align corners" * align + " half pixel centres" * centres
            for size in ([6, 8], [7, 5], [2, 3], [1, 1], [3, 4], [12, 3]):
                to = k(np.array(size, np.int32))
                yield single(kind, f"float32 {size}{name}", [x("float32", 2, 3, 4, 5), to], **how)
            for dtype in ("int8", "uint8", "int16"):
                for size in ([7, 5], [6, 8]):
                    q = IN[dtype]
                    inputs = [x(dtype, 2, 3, 4, 5, q=q), k(np.array(size, np.int32))]
                    yield single(kind, f"{dtype} {size}{name}", inputs, [y(dtype, q)], **how)
        fed = [{1: np.array([5, 2], np.int32)}]
        yield single(kind, "fed size", [x("float32", 1, 3, 4, 2), x("int32", 2)], feeds=fed)
        yield single(
            kind,
            "of one",
            [x("float32", 1, 1, 1, 3), k(np.array([3, 2], np.int32))],
            alignCorners=True,
        )
    q = IN["int8"]
    inputs = [x("int8", 1, 3, 4, 2), k(np.array([5, 7], np.int32))]
    yield single("RESIZE_NEAREST_NEIGHBOR", "int8 plain", inputs, low=-128, high=127)


def _boxes() -> Iterator[Case]:
    corners = values("boxes", "float32", (12, 2), 0, 10)
    sizes = values("sizes", "float32", (12, 2), 2, 6)
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    scores = values("scores", "float32", (12,), 0, 1)
    scores[3] = scores[7]
    for many, overlap, least in ((6, 0.5, 0.0), (12, 0.2, 0.3), (3, 1.0, 0.0), (12, 0.0, 0.95)):
        settings = [k(np.array(many, np.int32)), k(np.float32(overlap)), k(np.float32(least))]
        name = f"{many} {overlap} {least}"
        given = [{0: boxes, 1: scores}]
        inputs = [x("float32", 12, 4), x("float32", 12), *settings]
        outputs = [y("int32"), y("int32")]
        yield single("NON_MAX_SUPPRESSION_V4", name, inputs, outputs, feeds=given)
        for sigma in (0.0, 0.5):
            soft = [*inputs, k(np.float32(sigma))]
            outputs = [y("int32"), y("float32"), y("int32")]
            yield single(
                "NON_MAX_SUPPRESSION_V5", f"{name} sigma {sigma}", soft, outputs, feeds=given
            )


def _spectra() -> Iterator[Case]:
    """Complex numbers live between operators; a model's ports are real."""
    for height, width in ((4, 8), (1, 16), (8, 2)):
        for shape in ((4, 8), (2, 3, 5, 9), (3, 6)):
            length = constant("n", np.array([height, width], np.int32))
            half = (*shape[:-2], height, width // 2 + 1)
            tensors = [Tensor("x", "float32", shape), length, Tensor("c", "complex64", half)]
            for kind in ("RFFT2D", "REAL", "IMAG", "COMPLEX_ABS", "CAST"):
                parts = ("REAL", "IMAG") if kind == "RFFT2D" else (kind,)
                outputs = [Tensor(f"y{i}", "float32", half) for i in range(len(parts))]
                steps = [op("RFFT2D", "x n", "c")]
                steps += [op(part, "c", f"y{i}") for i, part in enumerate(parts)]
                yield _whole(
                    kind,
                    f"of a spectrum {shape} {height}x{width}",
                    [*tensors, *outputs],
                    steps,
                    "x",
                )
    tensors = [
        Tensor("x", "float32", (4, 8)), Tensor("z", "float32", (4, 8)),
        constant("n", np.array([4, 8], np.int32)),
        *(Tensor(name, "complex64", (4, 5)) for name in "abc"),
        Tensor("y0", "float32", (4, 5)), Tensor("y1", "float32", (4, 5)),
    ]  # fmt: skip
    steps = [
        op("RFFT2D", "x n", "a"), op("RFFT2D", "z n", "b"), op("MUL", "a b", "c"),
        op("REAL", "c", "y0"), op("IMAG", "c", "y1"),
    ]  # fmt: skip
    yield _whole("MUL", "of spectra", tensors, steps, "x z")


def _whole(kind: str, name: str, tensors: list[Tensor], steps: list[Op], inputs: str) -> Case:
    outputs = " ".join(t.name for t in tensors if t.name.startswith("y"))
    graph = Graph(tensors, steps, inputs, outputs)
    fed = {
        t.name: values(f"{kind} {name} {t.name}", "float32", t.shape)
        for t in tensors
        if t.name in inputs.split()
    }
    return several(kind, name, [graph], [fed])


def _random() -> Iterator[Case]:
    shape = k(np.array([50, 40], np.int32))
    for kind in ("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL"):
        for seeds in ({}, {"seed": 3, "seed2": 5}):
            name = "seeded" if seeds else "no seed"
            yield single(kind, f"float32 {name}", [shape], [y("float32")], judge="random", **seeds)
    logits = k(np.log(np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 1e-9]], np.float32)))
    for dtype in ("int32", "int64"):
        inputs = [logits, k(np.array(3000, np.int32))]
        yield single("MULTINOMIAL", dtype, inputs, [y(dtype)], judge="random", seed=3, seed2=5)


CASES = list(cases())
