"""Hostile TFLite models: intact ones from the conformance cases, and the ways to damage them.

FlatBuffers of Python has no verifier, so bytes are damaged as such (offsets, lengths of vectors)
as well as the structure, through the schema's object API. A case is named by its number.
"""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.extra.fuzz_cases import BYTES, Case
from tests.extra.fuzz_seeds import Seed
from tests.extra.tflite_cases import CASES

INTACT = {
    "conv.tflite": ("CONV_2D", "int8 int8 per channel 3x3 SAME stride 2"),
    "sparse.tflite": ("FULLY_CONNECTED", "float32 sparse 1x4"),
    "four.tflite": ("DEQUANTIZE", "int4 per channel"),
    "loop.tflite": ("WHILE", "rows"),
    "if.tflite": ("IF", "nested"),
    "ring.tflite": ("ASSIGN_VARIABLE", "a ring"),
    "table.tflite": ("HASHTABLE_FIND", "string to int64"),
    "lstm.tflite": ("UNIDIRECTIONAL_SEQUENCE_LSTM", "float32 all"),
    "slice.tflite": ("STRIDED_SLICE", "all masks"),
    "text.tflite": ("GATHER", "string"),
    "where.tflite": ("WHERE", "float32"),
    "scatter.tflite": ("STABLEHLO_SCATTER", "float32 STABLEHLO_ADD"),
    "places.tflite": ("STABLEHLO_GATHER", "float32 int32"),
    "windows.tflite": ("STABLEHLO_REDUCE_WINDOW", "float32 MAXIMUM all"),
    "best.tflite": ("TOPK_V2", "float32 4"),
    "boxes.tflite": ("NON_MAX_SUPPRESSION_V5", "6 0.5 0.0 sigma 0.5"),
    "detector.tflite": ("CUSTOM", "TFLite_Detection_PostProcess each class 10 1 0.5"),
    "unpool.tflite": ("CUSTOM", "MaxUnpooling2D MediaPipe SAME (5, 7) (2, 2)"),
    "spectrum.tflite": ("RFFT2D", "of a spectrum (2, 3, 5, 9) 4x8"),
    "blocks.tflite": ("SPACE_TO_BATCH_ND", "padded"),
    "segments.tflite": ("SEGMENT_SUM", "fed places"),
    "range.tflite": ("RANGE", "fed"),
    "buckets.tflite": ("EMBEDDING_LOOKUP_SPARSE", "SQRTN"),
    "grams.tflite": ("SKIP_GRAM", "3 skips 2 and shorter"),
    "bits.tflite": ("STABLEHLO_RNG_BIT_GENERATOR", "int64 PHILOX 3"),
    "signature.tflite": ("NEG", "with a signature and metadata"),
}
NUMBERS = (-(1 << 31), -9, -2, -1, 0, 1, 2, 7, 1 << 16, 1 << 20, 1 << 28, (1 << 31) - 1)
WORDS = (0, 1, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC, 1 << 20, 1 << 28)
RECORD = "<I"
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)


def seeds(folder: Path) -> list[Seed]:
    """The intact models. They are written in memory; `folder` is for kinds that need one."""
    found = {(case.kind, case.name): case for case in CASES}
    return [Seed(name, found[key].make().model) for name, key in INTACT.items()]


def _words(rng: random.Random, data: bytearray) -> None:
    """Aligned words, as offsets and lengths of vectors are: absurd, or a little off."""
    for _ in range(rng.choice((1, 1, 3))):
        place = 4 * rng.randrange(len(data) // 4)
        (old,) = struct.unpack_from(RECORD, data, place)
        near = (old + rng.choice((-8, -4, -1, 1, 4, 8))) & 0xFFFFFFFF
        struct.pack_into(RECORD, data, place, rng.choice((*WORDS, near, len(data))))


# ------------------------------------------------------------------ the structure


def _graph(rng: random.Random, model: Any) -> Any:
    return rng.choice(model.subgraphs)


def _shapes(rng: random.Random, model: Any) -> None:
    tensor = rng.choice(_graph(rng, model).tensors)
    if rng.random() < 0.5 and tensor.shape is not None and len(tensor.shape):
        shape = np.array(tensor.shape)
        shape[rng.randrange(len(shape))] = rng.choice(NUMBERS)
    else:
        shape = np.array([rng.choice(NUMBERS)] * rng.choice((1, 4, 9, 5000)), np.int32)
    tensor.shape = shape
    if rng.random() < 0.5:
        tensor.shapeSignature = np.array(shape[: rng.choice((1, 9))] * 0 - 1, np.int32)


def _constants(rng: random.Random, model: Any) -> None:
    """Numbers that operators take as shapes, axes or places."""
    buffer = rng.choice([b for b in model.buffers if b.data is not None and len(b.data) >= 4])
    data = bytearray(bytes(bytearray(buffer.data)))
    struct.pack_into("<i", data, 4 * rng.randrange(len(data) // 4), rng.choice(NUMBERS))
    if rng.random() < 0.2:
        data = data[: rng.randrange(len(data))]
    buffer.data = np.frombuffer(bytes(data), np.uint8)


def _buffers(rng: random.Random, model: Any) -> None:
    """Contents that lie elsewhere, nowhere, or outside of the file."""
    if rng.random() < 0.5:
        rng.choice(_graph(rng, model).tensors).buffer = rng.choice((*WORDS, 2, 3))
    else:
        buffer = rng.choice(model.buffers)
        buffer.data, buffer.offset = None, rng.choice((2, 100, 1 << 40, (1 << 64) - 1))
        buffer.size = rng.choice((0, 4, 1 << 20, 1 << 62, (1 << 64) - 1))


def _edges(rng: random.Random, model: Any) -> None:
    """Operators and graphs that take and give the wrong tensors: cycles, nothing, no tensor."""
    graph = _graph(rng, model)
    many = len(graph.tensors)
    for _ in range(rng.choice((1, 1, 2, 5))):
        holder = rng.choice([*graph.operators, graph])
        side = rng.choice(("inputs", "outputs"))
        ports = np.array(getattr(holder, side), np.int32)
        if len(ports):
            ports[rng.randrange(len(ports))] = rng.choice(
                (-2, -1, many, many + 9, rng.randrange(many))
            )
        if rng.random() < 0.2:
            ports = rng.choice((ports[:-1], np.repeat(ports, 2), ports[:0]))
        setattr(holder, side, ports)


def _options(rng: random.Random, model: Any) -> None:
    """Options beyond their meaning, of another kind, or none at all."""
    step = rng.choice(_graph(rng, model).operators)
    options = step.builtinOptions
    if options is None or rng.random() < 0.15:
        step.builtinOptionsType = rng.choice((0, 5, 126, 127, 255))
        if rng.random() < 0.5:
            step.builtinOptions = None
        return
    fields = [name for name, value in vars(options).items() if isinstance(value, int)]
    name = rng.choice(fields)
    if isinstance(getattr(options, name), bool):
        setattr(options, name, not getattr(options, name))
    else:  # the width of the field is not known here
        setattr(options, name, rng.choice((-128, -1, 0, 1, 2, 3, 100, 127)))


def _subgraphs(rng: random.Random, model: Any) -> None:
    """Graphs that call themselves, or graphs that are not there."""
    for graph in model.subgraphs:
        for step in graph.operators:
            for name in vars(step.builtinOptions or object):
                if name.endswith("SubgraphIndex"):
                    setattr(step.builtinOptions, name, rng.choice((-1, 0, 0, 1, 2, 99)))


def _codes(rng: random.Random, model: Any) -> None:
    code = rng.choice(model.operatorCodes)
    code.builtinCode = rng.choice((rng.randrange(210), 210, 1 << 30, -1, 32))
    code.deprecatedBuiltinCode = rng.choice((0, min(max(code.builtinCode, 0), 127), -1, 127))
    code.customCode = rng.choice((None, "", "Convolution2DTransposeBias", "no such operator"))


def _types(rng: random.Random, model: Any) -> None:
    for _ in range(rng.choice((1, 3))):
        rng.choice(_graph(rng, model).tensors).type = rng.choice((*range(24), 100, -1))


def _quantization(rng: random.Random, model: Any) -> None:
    tensor = rng.choice(_graph(rng, model).tensors)
    count = rng.choice((0, 1, 2, 5, 3000))
    scales = [rng.choice((0.0, -1.0, 1e-45, 3e38, np.nan, np.inf, 0.1)) for _ in range(count)]
    zeros = [rng.choice((0, -(1 << 63), (1 << 63) - 1, 300, -1))] * rng.choice((0, 1, count))
    tensor.quantization = schema.QuantizationParametersT(
        scale=np.array(scales, np.float32),
        zeroPoint=np.array(zeros, np.int64),
        quantizedDimension=rng.choice(NUMBERS),
    )


def _sparsity(rng: random.Random, model: Any) -> None:
    tensors = [t for g in model.subgraphs for t in g.tensors if t.sparsity]
    sparsity = rng.choice(tensors).sparsity
    match rng.randrange(4):
        case 0:
            order = np.array(sparsity.traversalOrder)
            order[rng.randrange(len(order))] = rng.choice(NUMBERS)
            sparsity.traversalOrder = order
        case 1:
            sparsity.blockMap = np.array([rng.choice(NUMBERS)] * rng.choice((1, 3)), np.int32)
        case 2:
            dim = rng.choice(sparsity.dimMetadata)
            dim.denseSize = rng.choice(NUMBERS)
            dim.format = rng.choice((0, 1))
        case 3:
            dim = rng.choice([d for d in sparsity.dimMetadata if d.arraySegments])
            part = rng.choice((dim.arraySegments, dim.arrayIndices))
            part.values = np.array(part.values)
            part.values[rng.randrange(len(part.values))] = rng.choice(NUMBERS)


def _repeat(rng: random.Random, model: Any) -> None:
    graph = _graph(rng, model)
    graph.operators += [rng.choice(graph.operators)] * rng.choice((1, 3, 2000))


def _nest(rng: random.Random, model: Any) -> None:
    """Graphs that call the next one twice: small files of endless work."""
    depth, first = rng.choice((3, 20, 60, 300)), len(model.subgraphs)
    boolean = schema.TensorT(np.zeros(0, np.int32), schema.TensorType.BOOL, name="p", hasRank=True)
    number = schema.TensorT(
        np.zeros(0, np.int32), schema.TensorType.FLOAT32, name="x", hasRank=True
    )
    model.operatorCodes.append(schema.OperatorCodeT(118, None, 1, schema.BuiltinOperator.IF))
    code = len(model.operatorCodes) - 1
    for i in range(depth):
        following = min(first + i + 1, first + depth - 1)
        options = schema.IfOptionsT(following, following)
        step = schema.OperatorT(code, np.array([0, 1], np.int32), np.array([2], np.int32))
        step.builtinOptionsType, step.builtinOptions = schema.BuiltinOptions.IfOptions, options
        steps = [step, step] if i + 1 < depth or rng.random() < 0.3 else []
        model.subgraphs.append(
            schema.SubGraphT(
                [boolean, number, number],
                np.array([0, 1], np.int32),
                np.array([2 if steps else 1], np.int32),
                steps,
            )
        )
    model.subgraphs.insert(0, model.subgraphs.pop(first))


def _double(rng: random.Random, model: Any) -> None:
    """Sizes that double at every operator."""
    graph = model.subgraphs[0]
    kind = rng.choice((schema.BuiltinOperator.CONCATENATION, schema.BuiltinOperator.ADD))
    model.operatorCodes.append(schema.OperatorCodeT(min(kind, 127), None, 1, kind))
    last = int(graph.outputs[0])
    for _ in range(rng.choice((10, 30, 60))):
        made = schema.TensorT(np.ones(1, np.int32), graph.tensors[last].type, name="d")
        graph.tensors.append(made)
        new = len(graph.tensors) - 1
        step = schema.OperatorT(
            len(model.operatorCodes) - 1,
            np.array([last, last], np.int32),
            np.array([new], np.int32),
        )
        graph.operators.append(step)
        last = new
    graph.outputs = np.array([last], np.int32)


def _grow(rng: random.Random, model: Any) -> None:
    """Operators whose result is as large as a number in the file says."""
    graph = model.subgraphs[0]
    size = rng.choice((1 << 16, 1 << 28, (1 << 31) - 1))
    shape = [size] * rng.choice((1, 2, 4))

    def constant(numbers: list[int], scalar: bool = False) -> int:
        array = np.array(numbers, np.int32)
        model.buffers.append(schema.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
        dims = np.zeros(0, np.int32) if scalar else np.array([len(numbers)], np.int32)
        graph.tensors.append(
            schema.TensorT(dims, schema.TensorType.INT32, len(model.buffers) - 1, "n", hasRank=True)
        )
        return len(graph.tensors) - 1

    zero, one, many = constant([0], True), constant([1], True), constant([size], True)
    kind, inputs = rng.choice(
        (
            ("FILL", [constant(shape), one]),
            ("RANGE", [zero, many, one]),
            ("BROADCAST_TO", [one, constant(shape)]),
            ("TILE", [constant([1] * len(shape)), constant([size])]),
            ("ONE_HOT", [zero, many, one, zero]),
            ("RESHAPE", [one, constant(shape)]),
            ("RANDOM_UNIFORM", [constant(shape)]),
        )
    )
    number = getattr(schema.BuiltinOperator, kind)
    model.operatorCodes.append(schema.OperatorCodeT(min(number, 127), None, 2, number))
    kind_of = schema.TensorType.FLOAT32 if kind == "RANDOM_UNIFORM" else schema.TensorType.INT32
    graph.tensors.append(schema.TensorT(np.ones(1, np.int32), kind_of, name="huge"))
    made = np.array([len(graph.tensors) - 1], np.int32)
    code = len(model.operatorCodes) - 1
    graph.operators.append(schema.OperatorT(code, np.array(inputs, np.int32), made))
    graph.outputs = made


def _ports(rng: random.Random, model: Any) -> None:
    """Signatures that do not fit, and names that are none."""
    if not model.signatureDefs or rng.random() < 0.3:
        rng.choice(_graph(rng, model).tensors).name = rng.choice(("", "x" * 70000, "\0", "a/../b"))
        return
    one = rng.choice(model.signatureDefs)
    one.subgraphIndex = rng.choice((0, 1, 0xFFFFFFFF))
    port = rng.choice([*one.inputs, *one.outputs])
    port.tensorIndex = rng.choice((0, 1, 99, 0xFFFFFFFF))
    port.name = rng.choice(("", "input", "output"))
    one.inputs = one.inputs * rng.choice((0, 1, 2))


def _archive(rng: random.Random, content: bytes) -> bytes:
    """A damaged archive of labels behind the model, as tools pack it there."""
    import zipfile

    packed = io.BytesIO()
    how = rng.choice(
        (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
    )
    with zipfile.ZipFile(packed, "w", how) as archive:
        archive.writestr("labels.txt", b"cat\ndog\n" * rng.choice((1, 100, 1 << 20)))
        archive.writestr("../more.txt", rng.randbytes(50))
    data = bytearray(packed.getvalue())
    for _ in range(rng.choice((0, 1, 4))):
        rng.choice(BYTES)(rng, data)
    return content + bytes(data)


Way = Callable[[random.Random, Any], None]
STRUCTURE: tuple[Way, ...] = (
    _shapes, _constants, _buffers, _edges, _options, _subgraphs, _codes, _types, _quantization,
    _sparsity, _repeat, _nest, _double, _grow, _ports,
)  # fmt: skip


def case(number: int, seed: int, known: list[Seed]) -> Case:
    """The case of a number: the same whenever `seed` and `known` are."""
    rng = random.Random(f"tflite {seed}:{number}")
    chosen = rng.choice(known)
    draw = rng.random()
    if draw < 0.45:
        way = rng.choice((_words, _words, _words, *BYTES))
        data = bytearray(chosen.main)
        way(rng, data)
        return Case(way.__name__, chosen, bytes(data), {})
    if draw < 0.5:
        return Case("_archive", chosen, _archive(rng, chosen.main), {})
    change = rng.choice(STRUCTURE)
    model = schema.ModelT.InitFromPackedBuf(chosen.main)
    with contextlib.suppress(ValueError, IndexError):  # this model has nothing of that kind
        change(rng, model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return Case(change.__name__, chosen, bytes(builder.Output()), {})
