"""Products of matrices, fully connected layers and embeddings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.extra.tflite_cases.case import Case, k, single, values, x, y
from tests.extra.tflite_cases.convolution import ACTIVATIONS, IN, OUT, bias_of, stored, weights
from tests.tflite_models import Quantization, Sparsity, Tensor, constant, sparse_rows

FULL = "FULLY_CONNECTED"


def cases() -> Iterator[Case]:
    yield from _fully_connected()
    yield from _quantized()
    yield from _hybrid()
    yield from _sparse()
    yield from _batches()
    yield from _embeddings()


def _fully_connected() -> Iterator[Case]:
    w, b = k(weights("w", 7, 12)), k(weights("b", 7))
    for shape in ((3, 12), (1, 12), (2, 3, 4), (2, 3, 12), (24,)):
        yield single(FULL, f"float32 {shape}", [x("float32", *shape), w, b])
    for shape in ((3, 12), (2, 5, 12), (2, 2, 3, 12)):
        yield single(
            FULL,
            f"float32 {shape} keeps dimensions",
            [x("float32", *shape), w, b],
            keepNumDims=True,
        )
    yield single(FULL, "float32 no bias", [x("float32", 3, 12), w, None])
    yield single(FULL, "float32 two inputs", [x("float32", 3, 12), w])
    yield single(
        FULL,
        "float32 weights as inputs",
        [x("float32", 3, 12), x("float32", 7, 12), x("float32", 7)],
    )
    yield single(
        FULL, "float32 large", [x("float32", 5, 130), k(weights("l", 65, 130)), k(weights("b", 65))]
    )
    for activation in ACTIVATIONS:
        yield single(
            FULL,
            f"float32 {activation}",
            [x("float32", 3, 12), w, b],
            fusedActivationFunction=activation,
        )


def _quantized() -> Iterator[Case]:
    kinds = [
        ("int8", "int8", True),
        ("int8", "int8", False),
        ("uint8", "uint8", False),
        ("int16", "int8", True),
        ("int16", "int8", False),
        ("int8", "int4", False),
        ("int8", "int4", True),
        ("int16", "int4", False),
        ("int8", "int2", False),
    ]
    for dtype, kind, channels in kinds:
        label = f"{dtype} {kind} {'per channel' if channels else 'per tensor'}"
        q, wide = IN[dtype], dtype == "int16"
        w = stored(label, (7, 12), kind, 0, channels)
        b = bias_of("b", 7, q, w, wide)
        out = [y(dtype, OUT[dtype])]
        for shape in ((3, 12), (1, 12), (2, 3, 12)):
            yield single(FULL, f"{label} {shape}", [x(dtype, *shape, q=q), w, b], out)
        yield single(FULL, f"{label} no bias", [x(dtype, 3, 12, q=q), w, None], out)
        yield single(
            FULL,
            f"{label} keeps dimensions",
            [x(dtype, 2, 3, 12, q=q), w, b],
            out,
            keepNumDims=True,
        )
        for activation in ACTIVATIONS:
            yield single(
                FULL,
                f"{label} {activation}",
                [x(dtype, 3, 12, q=q), w, b],
                out,
                fusedActivationFunction=activation,
            )
    w = stored("shifted", (7, 12), "int8", 0, False)
    shifted = constant("", w.data, "int8", quantization=Quantization(0.005, 9))
    b = bias_of("b", 7, IN["int8"], shifted)
    yield single(
        FULL,
        "int8 weights with a zero",
        [x("int8", 3, 12, q=IN["int8"]), shifted, b],
        [y("int8", OUT["int8"])],
    )
    inputs = [x("int8", 3, 12, q=IN["int8"]), x("int8", 7, 12, q=Quantization(0.005, 0)), None]
    yield single(FULL, "int8 weights as inputs", inputs, [y("int8", OUT["int8"])])
    q = IN["uint8"]
    w = stored("u", (7, 12), "uint8", 0, False)
    yield single(
        FULL,
        "uint8 to int16",
        [x("uint8", 3, 12, q=q), w, bias_of("b", 7, q, w)],
        [y("int16", Quantization(2.5e-4))],
    )
    q = IN["int16"]
    w = constant(
        "", values("w16", "int16", (7, 12), -32767, 32767), "int16", quantization=Quantization(2e-5)
    )
    yield single(
        FULL,
        "int16 int16",
        [x("int16", 3, 12, q=q), w, bias_of("b", 7, q, w, True)],
        [y("int16", OUT["int16"])],
        quantizedBiasType="int64",
    )


def _hybrid() -> Iterator[Case]:
    for kind, channels in (
        ("int8", False),
        ("int8", True),
        ("uint8", False),
        ("int4", False),
        ("int4", True),
        ("int2", False),
    ):
        for asymmetric in (False, True):
            label = f"float32 {kind} {'per channel' if channels else 'per tensor'}"
            label += " asymmetric" * asymmetric
            w = stored(label, (7, 12), kind, 0, channels)
            b = k(weights("b", 7))
            for shape in ((3, 12), (1, 12)):
                yield single(
                    FULL,
                    f"{label} {shape}",
                    [x("float32", *shape), w, b],
                    asymmetricQuantizeInputs=asymmetric,
                    kernels="default",
                )
            yield single(
                FULL,
                f"{label} RELU",
                [x("float32", 3, 12), w, b],
                asymmetricQuantizeInputs=asymmetric,
                kernels="default",
                fusedActivationFunction="RELU",
            )
            yield single(
                FULL,
                f"{label} zeros",
                [x("float32", 2, 12), w, b],
                feeds=[{0: np.zeros((2, 12), np.float32)}],
                asymmetricQuantizeInputs=asymmetric,
                kernels="default",
            )


def _sparse_weights(name: str, dtype: str, shape: tuple[int, int], block: int) -> Tensor:
    dense = values(name, "float32", shape, -1, 1)
    kept = values(name + " kept", "float32", (shape[0], shape[1] // block, 1), 0, 1) < 0.4
    dense = dense * np.repeat(kept, block, axis=2).reshape(shape)
    if dtype == "int8":
        dense = np.round(dense * 127)
    data, how = sparse_rows(dense.astype(dtype), block)
    q = Quantization(0.008) if dtype == "int8" else None
    return Tensor("", dtype, shape, data, q, sparsity=how)


def _sparse() -> Iterator[Case]:
    for block in (1, 4, 16):
        w = _sparse_weights(f"s{block}", "float32", (8, 32), block)
        inputs = [x("float32", 3, 32), w, k(weights("b", 8))]
        if block < 16:
            yield single(FULL, f"float32 sparse 1x{block}", inputs)
        yield single("DENSIFY", f"float32 1x{block}", [w], [y("float32")])
    for block in (1, 16):
        w = _sparse_weights(f"s{block}", "int8", (8, 32), block)
        q = IN["int8"]
        inputs = [x("int8", 3, 32, q=q), w, bias_of("b", 8, q, w)]
        if block == 16:
            yield single(FULL, "int8 sparse 1x16", inputs, [y("int8", OUT["int8"])])
        yield single("DENSIFY", f"int8 1x{block}", [w], [y("int8", w.quantization)])
    half = _sparse_weights("half", "float16", (8, 32), 1)
    yield single("DENSIFY", "float16", [half], [y("float16")])
    # A 4-D weight of a convolution: dense rows and columns, compressed channels.
    data = np.array([1.5, -2, 3, 4, 5.5], np.float32)
    how = Sparsity([0, 1, 2, 3], [], [2, 2, 1, None], [0, 1, 3, 3, 5], [2, 0, 3, 1, 2])
    yield single(
        "DENSIFY",
        "float32 4-D",
        [Tensor("", "float32", (2, 2, 1, 4), data, sparsity=how)],
        [y("float32")],
    )
    # Columns before rows.
    how = Sparsity([1, 0], [], [4, None], [0, 1, 2, 2, 4], [1, 0, 0, 2])
    yield single(
        "DENSIFY",
        "float32 by columns",
        [Tensor("", "float32", (3, 4), data[:4], sparsity=how)],
        [y("float32")],
    )


def _batches() -> Iterator[Case]:
    kind = "BATCH_MATMUL"
    shapes = {
        "2-D": ((3, 5), (5, 4)),
        "3-D": ((2, 3, 5), (2, 5, 4)),
        "4-D": ((2, 3, 4, 5), (2, 3, 5, 6)),
        "broadcast left": ((1, 3, 5), (4, 5, 2)),
        "broadcast right": ((4, 3, 5), (5, 2)),
        "broadcast both": ((2, 1, 3, 5), (1, 4, 5, 2)),
        "5-D": ((2, 1, 2, 3, 5), (1, 3, 2, 5, 4)),
        "one row": ((2, 1, 5), (2, 5, 4)),
    }

    def turned(shape: tuple[int, ...], turn: bool) -> tuple[int, ...]:
        return (*shape[:-2], shape[-1], shape[-2]) if turn else shape

    for name, (left, right) in shapes.items():
        for adj_x, adj_y in ((False, False), (True, False), (False, True), (True, True)):
            if name not in ("3-D", "broadcast both") and (adj_x or adj_y):
                continue
            label = f"{name}{' adj_x' * adj_x}{' adj_y' * adj_y}"
            a, b = turned(left, adj_x), turned(right, adj_y)
            flags = {"adjX": adj_x, "adjY": adj_y}
            yield single(kind, f"float32 {label}", [x("float32", *a), x("float32", *b)], **flags)
            for dtype, zero in (("int8", 4), ("int16", 0)):
                q, p = IN[dtype], Quantization(0.03 if dtype == "int8" else 3e-4, zero)
                out = [y(dtype, Quantization(0.2, 3) if dtype == "int8" else Quantization(1.5e-3))]
                yield single(
                    kind, f"{dtype} {label}", [x(dtype, *a, q=q), x(dtype, *b, q=p)], out, **flags
                )
    plain = [x("int8", 2, 3, 5, q=Quantization(0.1)), x("int8", 2, 5, 4, q=Quantization(0.1))]
    yield single(kind, "int8 to int32", plain, [y("int32", Quantization(0.01))])
    for asymmetric in (False, True):
        w = k(values("w", "int8", (2, 5, 4), -127, 127), q=Quantization(0.01))
        label = f"float32 int8{' asymmetric' * asymmetric}"
        yield single(
            kind,
            label,
            [x("float32", 2, 3, 5), w],
            asymmetricQuantizeInputs=asymmetric,
            kernels="default",
        )
    yield single(kind, "float32 constant", [x("float32", 2, 3, 5), k(weights("w", 5, 4))])


def _embeddings() -> Iterator[Case]:
    kind = "EMBEDDING_LOOKUP"
    ids = [{0: np.array([3, 0, 4, 4], np.int32)}]
    for dtype in ("float32", "int8", "uint8", "int32", "float16"):
        table = k(values(dtype, dtype, (5, 2, 3), -100, 100))
        yield single(kind, dtype, [x("int32", 4), table], [y(dtype)], feeds=ids)
    table = k(values("q", "int8", (5, 6), -127, 127), q=Quantization(0.02))
    yield single(kind, "int8 to float32", [x("int32", 4), table], [y("float32")], feeds=ids)
    rows = Quantization([0.02, 0.5, 0.1, 1, 0.07], 0, 0)
    for dtype in ("int8", "int4"):
        high = 127 if dtype == "int8" else 7
        table = k(values("q", dtype, (5, 6), -high, high), dtype, rows)
        yield single(
            kind, f"{dtype} rows to float32", [x("int32", 4), table], [y("float32")], feeds=ids
        )
    for combiner in ("SUM", "MEAN", "SQRTN"):
        inputs = [
            x("int32", 3),
            k(np.array([[0, 0], [2, 0], [2, 1]], np.int32)),
            k(np.array([3, 2], np.int32)),
            x("float32", 3),
            k(weights("table", 5, 4)),
        ]
        given = [{0: np.array([1, 3, 0], np.int32), 3: np.array([1, 2, 4], np.float32)}]
        yield single(
            "EMBEDDING_LOOKUP_SPARSE",
            combiner,
            inputs,
            [y("float32")],
            feeds=given,
            combiner=combiner,
        )
    given = [{0: np.array([40, 7, 11, 3], np.int32)}]
    keys = k(np.array([3, 7, 40], np.int32))
    for dtype, shape in (("float32", (3, 2)), ("int8", (3, 2)), ("string", (3,))):
        inputs = [x("int32", 4), keys, k(values("v", dtype, shape, -100, 100), dtype)]
        yield single("HASHTABLE_LOOKUP", dtype, inputs, [y(dtype), y("uint8")], feeds=given)
    seeds = k(values("hash", "float32", (3, 4), -1, 1))
    for how in ("SPARSE", "DENSE"):
        for dtype in ("int32", "float32", "int64"):
            inputs = [seeds, x(dtype, 5, 2), x("float32", 5)]
            yield single("LSH_PROJECTION", f"{dtype} {how}", inputs, [y("int32")], type=how)
        yield single(
            "LSH_PROJECTION", f"no weights {how}", [seeds, x("int32", 5)], [y("int32")], type=how
        )


CASES = list(cases())
