"""Recurrent layers with their state, over three runs: in float, hybrid and in integers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from tests.extra.tflite_cases.case import Case, k, single, values, x, y
from tests.tflite_models import Quantization, Tensor

BATCH, STEPS, IN, CELLS, OUT = 2, 3, 5, 4, 3
RUNS: list[dict[int, np.ndarray]] = [{}, {}, {}]
# int8 activations, and a cell state of int16 whose scale is a power of two.
INPUT_Q, OUTPUT_Q, CELL_Q = Quantization(0.02, 3), Quantization(0.008, -4), Quantization(2.0**-11)
STATE_WAYS = (
    "plain",
    "cifg",
    "peephole",
    "projection",
    "projection bias",
    "norm",
    "all",
    "clipped",
)


def cases() -> Iterator[Case]:
    yield from _lstm()
    yield from _integer_lstm()
    yield from _bidirectional_lstm()
    yield from _cells()
    yield from _rnn()
    yield from _svdf()


def state(dtype: str, *shape: int, q: Quantization | None = None) -> Tensor:
    return Tensor("", dtype, shape, quantization=q, variable=True)


def weight(name: str, kind: str, *shape: int, size: float = 0.6) -> Tensor:
    """A weight of some element type; hybrid ones have one symmetric scale."""
    real = values(name, "float32", shape, -size, size)
    if kind == "float32":
        return k(real)
    high = 7 if kind == "int4" else 127
    scale = size / high
    stored = np.round(real / scale).astype(np.int8)
    if kind == "uint8":  # the old name of int8 with a zero of 0
        return k(stored.view(np.uint8), "uint8", Quantization(scale))
    return k(stored, kind, Quantization(scale))


def lstm_weights(
    name: str, kind: str, outputs: int, way: str, inputs: int = IN
) -> list[Tensor | None]:
    """The inputs 1 to 17 of an LSTM: gates i, f, c, o."""
    gates = ["i", "f", "c", "o"]

    def some(part: str, *shape: int) -> list[Tensor | None]:
        return [
            None
            if gate == "i" and ("cifg" in way or way == "all")
            else weight(f"{name} {part} {gate}", kind, *shape)
            for gate in gates
        ]

    found = some("input", CELLS, inputs) + some("recurrent", CELLS, outputs)
    peephole = "peephole" in way or way == "all"
    if peephole:
        looks = some("cell", CELLS)
        found += [looks[0], looks[1], looks[3]]
    else:
        found += [None] * 3
    biases = [weight(f"{name} bias {gate}", "float32", CELLS) for gate in gates]
    found += [None if found[0] is None else biases[0], *biases[1:]]
    projects = "projection" in way or way == "all"
    found.append(weight(f"{name} projection", kind, outputs, CELLS) if projects else None)
    found.append(
        weight(f"{name} projection bias", "float32", outputs) if "projection bias" in way else None
    )
    return found


def _lstm() -> Iterator[Case]:
    """LSTM, a step in each run, and UNIDIRECTIONAL_SEQUENCE_LSTM."""
    kinds = {"float32": (False,), "int8": (False, True), "uint8": (False,)}
    for kind, asymmetries in kinds.items():
        for asymmetric in asymmetries:
            for way in STATE_WAYS:
                projects = "projection" in way or way == "all"
                outputs = OUT if projects else CELLS
                label = f"{kind}{' asymmetric' * asymmetric} {way}"
                inputs = lstm_weights(label, kind, outputs, way)
                inputs += [state("float32", BATCH, outputs), state("float32", BATCH, CELLS)]
                if way in ("norm", "all"):
                    norms = [
                        weight(f"{label} norm {gate}", "float32", CELLS, size=1) for gate in "ifco"
                    ]
                    inputs += [None if inputs[0] is None else norms[0], *norms[1:]]
                clips = {"cellClip": 0.4, "projClip": 0.1} if way in ("clipped", "all") else {}
                options = {
                    "fusedActivationFunction": "TANH",
                    "asymmetricQuantizeInputs": asymmetric,
                    **clips,
                }
                first = x("float32", BATCH, IN)
                yield single(
                    "LSTM", label, [first, *inputs], feeds=RUNS, kernelType="FULL", **options
                )
                for major in (False, True):
                    shape = (STEPS, BATCH, IN) if major else (BATCH, STEPS, IN)
                    name = f"{label}{' time major' * major}"
                    first = x("float32", *shape)
                    yield single(
                        "UNIDIRECTIONAL_SEQUENCE_LSTM",
                        name,
                        [first, *inputs],
                        feeds=RUNS,
                        timeMajor=major,
                        **options,
                    )
    inputs = lstm_weights("diagonal", "float32", CELLS, "plain")
    inputs[4:8] = [weight(f"diagonal {gate}", "float32", CELLS) for gate in "ifco"]
    inputs += [state("float32", BATCH, CELLS), state("float32", BATCH, CELLS)]
    yield single(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "float32 diagonal",
        [x("float32", BATCH, STEPS, IN), *inputs],
        feeds=RUNS,
        version=4,
        fusedActivationFunction="TANH",
        diagonalRecurrentTensors=True,
    )


def _integers(name: str, way: str, outputs: int) -> tuple[list[Tensor | None], list[Tensor]]:
    """An LSTM's inputs 1 to 23 in integers, and the tensors that carry the scales between."""
    floats = lstm_weights(name, "float32", outputs, way)
    made: list[Tensor | None] = []
    for i, one in enumerate(floats):
        if one is None:
            made.append(None)
        elif 8 <= i <= 10:  # peepholes
            q = Quantization(0.6 / 32767)
            made.append(k(np.round(one.data / q.scale).astype(np.int16), q=q))
        elif 11 <= i <= 14:  # biases of the gates
            q = Quantization(float(INPUT_Q.scale) * 0.6 / 127)
            if way == "norm":
                q = Quantization(2.0**-10 / 32767)
            made.append(k(np.round(one.data / q.scale).astype(np.int32), q=q))
        elif i == 16:  # the bias of the projection
            q = Quantization(0.007 * 0.6 / 127)
            made.append(k(np.round(one.data / q.scale).astype(np.int32), q=q))
        else:
            q = Quantization(0.6 / 127)
            made.append(k(np.round(one.data / q.scale).astype(np.int8), q=q))
    made += [state("int8", BATCH, outputs, q=OUTPUT_Q), state("int16", BATCH, CELLS, q=CELL_Q)]
    if way == "norm":
        q = Quantization(1 / 32767)
        for gate in "ifco":
            real = values(f"{name} norm {gate}", "float32", (CELLS,), 0.2, 1)
            made.append(k(np.round(real * 32767).astype(np.int16), q=q))
    scales = (
        [Quantization(2.0**-12)] * 4
        if way != "norm"
        else [Quantization(s) for s in (0.007, 0.0078, 0.007, 0.0078)]
    )
    hidden = Tensor("", "int8", (), quantization=Quantization(0.007, 2))
    return made, [*(Tensor("", "int16", (), quantization=q) for q in scales), hidden]


def _integer_lstm() -> Iterator[Case]:
    for way in ("plain", "cifg", "peephole", "projection", "projection bias", "norm", "clipped"):
        outputs = OUT if "projection" in way else CELLS
        inputs, between = _integers(f"integer {way}", way, outputs)
        clips = {"cellClip": 0.4, "projClip": 0.1} if way == "clipped" else {}
        options = {"fusedActivationFunction": "TANH", **clips}
        if "projection" not in way:
            between = [*between[:4], dataclasses.replace(between[4], quantization=OUTPUT_Q)]
        for major in (False, True):
            shape = (STEPS, BATCH, IN) if major else (BATCH, STEPS, IN)
            yield single(
                "UNIDIRECTIONAL_SEQUENCE_LSTM",
                f"integer {way}{' time major' * major}",
                [x("int8", *shape, q=INPUT_Q), *inputs],
                [y("int8", OUTPUT_Q)],
                feeds=RUNS,
                intermediates=between,
                timeMajor=major,
                **options,
            )
        yield single(
            "LSTM",
            f"integer {way}",
            [x("int8", BATCH, IN, q=INPUT_Q), *inputs],
            [y("int8", OUTPUT_Q)],
            feeds=RUNS,
            intermediates=between,
            kernelType="FULL",
            **options,
        )


def _bidirectional_lstm() -> Iterator[Case]:
    kinds = (("float32", False), ("int8", False), ("int8", True))
    ways = ("plain", "cifg", "peephole", "projection")
    # Not merged with batches first: there, LiteRT leaves half of the result as it was.
    ports = ((False, False), (False, True), (True, True))
    for (kind, asymmetric), way, (merge, major) in itertools.product(kinds, ways, ports):
        outputs = OUT if way == "projection" else CELLS
        label = f"{kind}{' asymmetric' * asymmetric} {way}"
        label += f"{' merged' * merge}{' time major' * major}"
        shape = (STEPS, BATCH, IN) if major else (BATCH, STEPS, IN)
        inputs: list[Tensor | None] = [x("float32", *shape)]
        inputs += lstm_weights(f"{label} forward", kind, outputs, way)
        inputs += lstm_weights(f"{label} backward", kind, outputs, way)
        for _ in range(2):
            inputs += [state("float32", BATCH, outputs), state("float32", BATCH, CELLS)]
        inputs += [None] * 9
        yield single(
            "BIDIRECTIONAL_SEQUENCE_LSTM",
            label,
            inputs,
            [y("float32")] * (1 if merge else 2),
            feeds=RUNS,
            fusedActivationFunction="TANH",
            mergeOutputs=merge,
            timeMajor=major,
            asymmetricQuantizeInputs=asymmetric,
        )


def _cells() -> Iterator[Case]:
    """LSTM's basic kernel."""
    rows = 4 * CELLS
    inputs = [
        x("float32", BATCH, IN),
        state("float32", BATCH, CELLS),
        weight("basic", "float32", rows, IN + CELLS),
        weight("basic bias", "float32", rows),
        state("float32", BATCH, CELLS),
    ]
    outputs = [y("float32")] * 4
    yield single(
        "LSTM",
        "basic float32",
        inputs,
        outputs,
        feeds=RUNS,
        version=2,
        kernelType="BASIC",
        fusedActivationFunction="TANH",
    )
    q, w = Quantization(1 / 128, 128), Quantization(0.6 / 127, 120)
    bias = Quantization(0.6 / 127 / 128)
    cell, gates = Quantization(2.0**-11), Quantization(2.0**-12)
    real = values("basic bias", "float32", (rows,), -1, 1)
    quantized = [
        x("uint8", BATCH, IN, q=q),
        state("uint8", BATCH, CELLS, q=q),
        k(values("basic q", "uint8", (rows, IN + CELLS), 0, 255), q=w),
        k(np.round(real / bias.scale).astype(np.int32), q=bias),
        state("int16", BATCH, CELLS, q=cell),
    ]
    outputs = [y("uint8", q), y("int16", cell), y("uint8", q), y("int16", gates)]
    yield single(
        "LSTM",
        "basic uint8",
        quantized,
        outputs,
        feeds=RUNS,
        version=2,
        kernelType="BASIC",
        fusedActivationFunction="TANH",
    )


def _rnn() -> Iterator[Case]:
    kinds = {"float32": (False,), "int8": (False, True), "uint8": (False,)}
    for kind, asymmetries in kinds.items():
        for asymmetric in asymmetries:
            for activation in ("TANH", "RELU", "NONE"):
                label = f"{kind}{' asymmetric' * asymmetric} {activation}"
                layer = [
                    weight(f"{label} w", kind, CELLS, IN),
                    weight(f"{label} r", kind, CELLS, CELLS),
                    weight(f"{label} b", "float32", CELLS),
                    state("float32", BATCH, CELLS),
                ]
                options = {
                    "fusedActivationFunction": activation,
                    "asymmetricQuantizeInputs": asymmetric,
                }
                yield single("RNN", label, [x("float32", BATCH, IN), *layer], feeds=RUNS, **options)
                for major in (False, True):
                    shape = (STEPS, BATCH, IN) if major else (BATCH, STEPS, IN)
                    name = f"{label}{' time major' * major}"
                    inputs = [x("float32", *shape), *layer]
                    yield single(
                        "UNIDIRECTIONAL_SEQUENCE_RNN",
                        name,
                        inputs,
                        feeds=RUNS,
                        timeMajor=major,
                        **options,
                    )
                    for merge in (False, True):
                        if major and kind != "float32":
                            continue  # LiteRT's first run does not begin with zeros
                        both = [*inputs, *layer, None, None, None]
                        outputs = [y("float32")] * (1 if merge else 2)
                        yield single(
                            "BIDIRECTIONAL_SEQUENCE_RNN",
                            f"{name}{' merged' * merge}",
                            both,
                            outputs,
                            feeds=RUNS,
                            timeMajor=major,
                            mergeOutputs=merge,
                            **options,
                        )


def _svdf() -> Iterator[Case]:
    units, memory = 4, 5
    kinds = {"float32": (False,), "int8": (False, True), "uint8": (False,)}
    for kind, asymmetries in kinds.items():
        for asymmetric in asymmetries:
            for rank in (1, 2):
                for activation in ("NONE", "RELU"):
                    filters = units * rank
                    label = f"{kind}{' asymmetric' * asymmetric} rank {rank} {activation}"
                    inputs = [
                        x("float32", BATCH, IN),
                        weight(f"{label} f", kind, filters, IN),
                        weight(f"{label} t", kind, filters, memory),
                        weight(f"{label} b", "float32", units) if rank == 1 else None,
                        state("float32", BATCH, memory * filters),
                    ]
                    yield single(
                        "SVDF",
                        label,
                        inputs,
                        feeds=[{}] * 7,
                        rank=rank,
                        fusedActivationFunction=activation,
                        asymmetricQuantizeInputs=asymmetric,
                    )
    for rank in (1, 2):
        filters = units * rank
        state_q, out = Quantization(0.002), Quantization(0.01, -5)
        feature, time = Quantization(0.6 / 127), Quantization(0.6 / 32767)
        bias = Quantization(float(state_q.scale) * float(time.scale))
        inputs = [
            x("int8", BATCH, IN, q=INPUT_Q),
            k(values("feature", "int8", (filters, IN), -127, 127), q=feature),
            k(values("time", "int16", (filters, memory), -32767, 32767), q=time),
            k(values("bias", "int32", (units,), -(10**7), 10**7), q=bias),
            state("int16", BATCH, memory * filters, q=state_q),
        ]
        yield single(
            "SVDF",
            f"integer rank {rank}",
            inputs,
            [y("int8", out)],
            feeds=[{}] * 7,
            rank=rank,
            fusedActivationFunction="RELU",
        )


CASES = list(cases())
