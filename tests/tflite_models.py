"""Small TFLite models for tests, written in one call, and LiteRT's answers to them.

A model is data: `Tensor`s, `Op`s of their names, `Graph`s of both. `write` makes the file's bytes
through the object API of LiteRT's own schema, `run_litert` runs them.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ml_dtypes import bfloat16

Feed = Mapping[str, np.ndarray]
Kernels = Literal["default", "plain", "reference"]

RESOLVERS = {
    "default": OpResolverType.AUTO,  # with XNNPACK
    "plain": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}
# Operators whose options are not of their own name.
OPTIONS = {
    "Pool2DOptions": "AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D",
    "L2NormOptions": "L2_NORMALIZATION",
    "SequenceRNNOptions": "UNIDIRECTIONAL_SEQUENCE_RNN",
    "ReducerOptions": "MEAN SUM REDUCE_PROD REDUCE_MAX REDUCE_MIN REDUCE_ANY REDUCE_ALL",
    "MaximumMinimumOptions": "MAXIMUM MINIMUM",
    "RandomOptions": "RANDOM_STANDARD_NORMAL RANDOM_UNIFORM MULTINOMIAL",
    "Conv3DOptions": "CONV_3D_TRANSPOSE",
}
_OPTIONS_OF = {op: name for name, ops in OPTIONS.items() for op in ops.split()}
# Options that are enumerations: their names in the file are numbers.
ENUMERATIONS = {
    "padding": schema.Padding,
    "fusedActivationFunction": schema.ActivationFunctionType,
    "weightsFormat": schema.FullyConnectedOptionsWeightsFormat,
    "kernelType": schema.LSTMKernelType,
    "combiner": schema.CombinerType,
    "mode": schema.MirrorPadMode,
    "inDataType": schema.TensorType,
    "outDataType": schema.TensorType,
    "outType": schema.TensorType,
    "idxOutType": schema.TensorType,
    "keyDtype": schema.TensorType,
    "valueDtype": schema.TensorType,
    "quantizedBiasType": schema.TensorType,
    "comparisonDirection": schema.StablehloComparisonDirection,
    "compareType": schema.StablehloComparisonType,
    "reduceFunction": schema.ReduceWindowFunction,
    "algorithm": schema.RngAlgorithm,
    "type": schema.LSHProjectionType,
}
PACKED = {"int4": (4, 2), "int2": (2, 4)}  # bits of an element, elements of a byte


@dataclass(frozen=True)
class Quantization:
    """real = scale * (stored - zero), one scale for all or one for each index of `axis`."""

    scale: float | Sequence[float]
    zero: int | Sequence[int] = 0
    axis: int = 0


@dataclass(frozen=True)
class Sparsity:
    """How a weight's blocks are stored: see `sparse_rows`."""

    order: Sequence[int]
    blocks: Sequence[int]
    dense: Sequence[int | None]  # the size of a dense dimension; None for compressed rows
    segments: Sequence[int]
    indices: Sequence[int]


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph.

    `shape` None is for the writer to find (`complete`). `data` makes it a constant: integers of
    4 and 2 bits come as int8, text as bytes. `dims` is the shape with -1 where sizes vary.
    """

    name: str
    dtype: str = "float32"
    shape: Sequence[int] | None = None
    data: np.ndarray | None = None
    quantization: Quantization | None = None
    variable: bool = False
    dims: Sequence[int] | None = None
    sparsity: Sparsity | None = None


@dataclass(frozen=True)
class Op:
    """An operator of a graph. Names of tensors stand between spaces; '_' leaves an input out.

    `custom` names a custom operator, whose options are bytes. Other options have the schema's
    names; enumerations are given by name.
    """

    kind: str
    inputs: str
    outputs: str
    options: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    custom: str = ""
    custom_options: bytes = b""
    intermediates: str = ""


@dataclass(frozen=True)
class Graph:
    """A subgraph; its inputs and outputs are names between spaces."""

    tensors: Sequence[Tensor]
    ops: Sequence[Op]
    inputs: str
    outputs: str
    name: str = "main"


@dataclass(frozen=True)
class Signature:
    """A named entry: from argument names to names of tensors of a subgraph."""

    key: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    graph: int = 0


def constant(name: str, data: Any, dtype: str = "", **more: Any) -> Tensor:
    """A tensor with data, of the type of the data unless `dtype` says otherwise."""
    array = np.asarray(data)
    kind = dtype or ("string" if array.dtype.kind in "SO" else array.dtype.name)
    return Tensor(name, kind, array.shape, array, **more)


def op(kind: str, inputs: str, outputs: str, **options: Any) -> Op:
    """A builtin operator with its options."""
    return Op(kind, inputs, outputs, options)


def write(
    *graphs: Graph,
    signatures: Sequence[Signature] = (),
    metadata: Mapping[str, bytes] | None = None,
    description: str = "",
) -> bytes:
    """The bytes of a model whose first graph is the main one."""
    model = schema.ModelT(version=3, description=description, operatorCodes=[], subgraphs=[])
    model.buffers = [schema.BufferT()]
    codes: dict[tuple[str, str, int], int] = {}
    for graph in graphs:
        model.subgraphs.append(_graph(graph, model.buffers, codes))
    for kind, custom, version in codes:
        number = getattr(schema.BuiltinOperator, kind)
        code = schema.OperatorCodeT(builtinCode=number, version=version)
        code.deprecatedBuiltinCode = min(number, 127)
        code.customCode = custom or None
        model.operatorCodes.append(code)
    model.signatureDefs = [_signature(one, graphs[one.graph]) for one in signatures]
    model.metadata = []
    for name, data in (metadata or {}).items():
        model.metadata.append(schema.MetadataT(name=name, buffer=_buffer(model.buffers, data)))
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _graph(
    graph: Graph, buffers: list[Any], codes: dict[tuple[str, str, int], int]
) -> schema.SubGraphT:
    index = {tensor.name: i for i, tensor in enumerate(graph.tensors)}

    def indices(names: str) -> np.ndarray:
        found = [-1 if name == "_" else index[name] for name in names.split()]
        return np.array(found, np.int32)

    made = schema.SubGraphT(name=graph.name, inputs=indices(graph.inputs))
    made.outputs = indices(graph.outputs)
    made.tensors = [_tensor(tensor, buffers) for tensor in graph.tensors]
    made.operators = []
    for one in graph.ops:
        key = (one.kind, one.custom, one.version)
        operator = schema.OperatorT(codes.setdefault(key, len(codes)))
        operator.inputs, operator.outputs = indices(one.inputs), indices(one.outputs)
        if one.intermediates:
            operator.intermediates = indices(one.intermediates)
        if one.custom_options:
            operator.customOptions = np.frombuffer(one.custom_options, np.uint8)
        _set_options(operator, one)
        made.operators.append(operator)
    return made


def _set_options(operator: schema.OperatorT, one: Op) -> None:
    name = _OPTIONS_OF.get(one.kind) or _options_named(one.kind)
    if not name:
        assert not one.options, f"{one.kind} has no options"
        return
    values = {key: _number(key, value) for key, value in one.options.items()}
    options = getattr(schema, f"{name}T")(**values)
    if hasattr(schema.BuiltinOptions, name):
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        operator.builtinOptions = options
    else:
        operator.builtinOptions2Type = getattr(schema.BuiltinOptions2, name)
        operator.builtinOptions2 = options


def _options_named(kind: str) -> str:
    """SPACE_TO_DEPTH -> SpaceToDepthOptions, whatever its capitals; empty if there are none."""
    wanted = kind.replace("_", "").lower() + "options"
    unions = (*vars(schema.BuiltinOptions), *vars(schema.BuiltinOptions2))
    return next((name for name in unions if name.lower() == wanted), "")


def _number(key: str, value: Any) -> Any:
    if key in ENUMERATIONS and isinstance(value, str):
        return getattr(ENUMERATIONS[key], value.upper() if "ype" in key else value)
    return value


def _tensor(tensor: Tensor, buffers: list[Any]) -> schema.TensorT:
    made = schema.TensorT(name=tensor.name, type=getattr(schema.TensorType, tensor.dtype.upper()))
    if tensor.shape is not None:
        made.shape, made.hasRank = np.array(tensor.shape, np.int32), True
    if tensor.dims is not None:
        made.shapeSignature = np.array(tensor.dims, np.int32)
    made.isVariable = tensor.variable
    if tensor.data is not None:
        made.buffer = _buffer(buffers, as_bytes(tensor.data, tensor.dtype))
    if (how := tensor.quantization) is not None:
        scales = np.atleast_1d(np.asarray(how.scale, np.float32))
        zeros = np.broadcast_to(np.asarray(how.zero, np.int64), scales.shape).copy()
        made.quantization = schema.QuantizationParametersT(
            scale=scales, zeroPoint=zeros, quantizedDimension=how.axis
        )
    if tensor.sparsity is not None:
        made.sparsity = _sparsity(tensor.sparsity)
    return made


def _sparsity(how: Sparsity) -> schema.SparsityParametersT:
    dims = []
    for size in how.dense:
        dim = schema.DimensionMetadataT()
        if size is None:
            dim.format = schema.DimensionType.SPARSE_CSR
            for name, values in (("Segments", how.segments), ("Indices", how.indices)):
                vector = schema.Int32VectorT(values=np.array(values, np.int32))
                setattr(dim, f"array{name}", vector)
                setattr(dim, f"array{name}Type", schema.SparseIndexVector.Int32Vector)
        else:
            dim.format, dim.denseSize = schema.DimensionType.DENSE, size
        dims.append(dim)
    return schema.SparsityParametersT(
        traversalOrder=np.array(how.order, np.int32),
        blockMap=np.array(how.blocks, np.int32),
        dimMetadata=dims,
    )


def _signature(one: Signature, graph: Graph) -> schema.SignatureDefT:
    index = {tensor.name: i for i, tensor in enumerate(graph.tensors)}

    def maps(names: Mapping[str, str]) -> list[schema.TensorMapT]:
        return [schema.TensorMapT(name=k, tensorIndex=index[v]) for k, v in names.items()]

    return schema.SignatureDefT(
        inputs=maps(one.inputs),
        outputs=maps(one.outputs),
        signatureKey=one.key,
        subgraphIndex=one.graph,
    )


def _buffer(buffers: list[Any], data: bytes) -> int:
    buffers.append(schema.BufferT(data=np.frombuffer(data, np.uint8)))
    return len(buffers) - 1


def as_bytes(array: np.ndarray, dtype: str) -> bytes:
    """The bytes of a buffer: texts behind their offsets, small integers packed low bits first."""
    if dtype == "string":
        texts = [bytes(text) for text in array.reshape(-1)]
        ends = np.cumsum([0, *map(len, texts)]) + 4 * (len(texts) + 2)
        return struct.pack(f"<{len(texts) + 2}i", len(texts), *ends) + b"".join(texts)
    if dtype in PACKED:
        bits, many = PACKED[dtype]
        flat = array.reshape(-1).astype(np.uint8) & (1 << bits) - 1
        flat = np.pad(flat, (0, -flat.size % many)).reshape(-1, many)
        return bytes(np.bitwise_or.reduce(flat << np.arange(0, 8, bits, np.uint8), axis=1))
    if dtype == "bfloat16":
        return array.astype(bfloat16).tobytes()
    return np.ascontiguousarray(array, np.dtype(dtype)).tobytes()


def sparse_rows(weights: np.ndarray, block: int = 1) -> tuple[np.ndarray, Sparsity]:
    """The kept blocks of a matrix (rows x columns), and where they are: LiteRT's CSR of 1 x block.

    Returns the values, block after block, and the metadata to go with them.
    """
    rows, columns = weights.shape
    blocks = weights.reshape(rows, columns // block, block)
    kept = np.any(blocks != 0, axis=2)
    segments = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).tolist()
    indices = np.nonzero(kept)[1].tolist()
    if block == 1:
        return blocks[kept].reshape(-1), Sparsity([0, 1], [], [rows, None], segments, indices)
    how = Sparsity([0, 1, 2], [1], [rows, None, block], segments, indices)
    return blocks[kept].reshape(-1), how


# ------------------------------------------------------------------ LiteRT


def interpreter(model: bytes, feed: Feed, kernels: Kernels = "plain") -> Interpreter:
    """LiteRT with the shapes of `feed`, ready to be invoked many times."""
    made = Interpreter(
        model_content=model, experimental_op_resolver_type=RESOLVERS[kernels], num_threads=1
    )
    for port in made.get_input_details():
        if tuple(port["shape"]) != feed[port["name"]].shape:
            made.resize_tensor_input(port["index"], feed[port["name"]].shape)
    made.allocate_tensors()
    return made


def run_litert(
    model: bytes, feeds: Iterable[Feed], kernels: Kernels = "plain"
) -> list[dict[str, np.ndarray]]:
    """LiteRT's outputs, by name, of runs one after another (state is kept between them).

    Raises: RuntimeError or ValueError where LiteRT refuses the model.
    """
    results: list[dict[str, np.ndarray]] = []
    engine: Interpreter | None = None
    for feed in feeds:
        engine = engine or interpreter(model, feed, kernels)
        for port in engine.get_input_details():
            engine.set_tensor(port["index"], feed[port["name"]])
        engine.invoke()
        ports = engine.get_output_details()
        results.append({p["name"]: np.asarray(engine.get_tensor(p["index"])) for p in ports})
    return results


def quantized_outputs(model: bytes) -> set[str]:
    """The outputs of the main graph that hold quantized numbers."""
    graph = schema.ModelT.InitFromPackedBuf(model).subgraphs[0]
    outputs = [graph.tensors[i] for i in graph.outputs]
    quantized = [t for t in outputs if t.quantization and t.quantization.scale is not None]
    return {t.name.decode() for t in quantized}


def complete(graph: Graph, feed: Feed, *others: Graph) -> Graph:
    """The graph with the shapes, by LiteRT, of the outputs whose shape is None.

    As converters write them: what LiteRT knows only after it ran has size 1 and -1 in `dims`.
    """
    engine = interpreter(write(graph, *others), feed)
    before = {port["name"]: port["shape"].tolist() for port in engine.get_output_details()}
    (after,) = run_litert(write(graph, *others), [feed])
    tensors = []
    for one in graph.tensors:
        if one.shape is None and one.name in after:
            shape = list(after[one.name].shape)
            if shape == before[one.name]:
                one = dataclasses.replace(one, shape=shape)
            else:
                one = dataclasses.replace(one, shape=[1] * len(shape), dims=[-1] * len(shape))
        tensors.append(one)
    return dataclasses.replace(graph, tensors=tensors)
