"""ONNX models out of nodes and arrays: the few forms that drafting, judging and shrinking need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from brim.reduce.onnx_files import outer_names

Arrays = dict[str, np.ndarray]
Array = np.ndarray


def is_stored(dtype: np.dtype) -> bool:
    """Whether numpy itself lacks the type: bfloat16, float8, int4. f32 holds them all."""
    return dtype.isbuiltin == 2


def make_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array],
    initializers: Arrays,
    outputs: Arrays,
    opset: int,
    domains: Iterable[str] = (),
) -> onnx.ModelProto:
    """A model with static types, read off arrays."""
    graph = helper.make_graph(
        nodes,
        "fuzz",
        [_info(name, array) for name, array in inputs.items()],
        [_info(name, array) for name, array in outputs.items()],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in initializers.items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets)
    )


def _info(name: str, array: Array) -> onnx.ValueInfoProto:
    array = np.asarray(array)
    return helper.make_tensor_value_info(name, element_type(array.dtype), array.shape)


def element_type(dtype: np.dtype) -> int:
    """The number ONNX gives an element type."""
    if dtype.kind == "O" or dtype.kind in "US":
        return int(TensorProto.STRING)
    return int(helper.np_dtype_to_tensor_dtype(dtype))


def single(node: onnx.NodeProto, known: Mapping[str, Array], opset: int) -> onnx.ModelProto:
    """A model of one node; its outputs' types are left to the engine."""
    domains = [node.domain] if node.domain else []
    model = make_model([node], known, {}, {}, opset, domains)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators that a model imports."""
    return next(o.version for o in model.opset_import if not o.domain)


def constants_of(model: onnx.ModelProto) -> Arrays:
    """The arrays that a model holds: its initializers and Constant nodes."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return constants


def with_fed_constants(
    model: onnx.ModelProto, feeds: Mapping[str, Array]
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The model with its floats as inputs, and the feeds with them: nothing is computed early."""
    fed = onnx.ModelProto()
    fed.CopyFrom(model)
    floats = {n: a for n, a in constants_of(model).items() if a.dtype.kind == "f"}
    given = {port.name for port in model.graph.input}
    fed.graph.input.extend(_info(n, a) for n, a in floats.items() if n not in given)
    for part in ("initializer", "node"):
        kept = [x for x in getattr(model.graph, part) if _names(x).isdisjoint(floats)]
        fed.graph.ClearField(part)
        getattr(fed.graph, part).extend(kept)
    return fed, {**feeds, **floats}


def _names(part: onnx.TensorProto | onnx.NodeProto) -> set[str]:
    return set(part.output) if isinstance(part, onnx.NodeProto) else {part.name}


def needed_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that the outputs are computed by, in order."""
    wanted, kept = {port.name for port in model.graph.output}, []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            wanted |= {*node.input, *outer_names(node)}
            kept.insert(0, node)
    return kept


def all_values(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> Arrays:
    """Every result of the nodes that count, as brim's interpreter computes it. Raises Refused."""
    from tests.extra.fuzz_models.engines import interpreter

    return interpreter(_with_all_outputs(model, needed_nodes(model)), feeds)


def _with_all_outputs(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> onnx.ModelProto:
    """The model with every result of these nodes as an output."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    names = [name for node in nodes for name in node.output if name]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return whole


def by_nodes(
    model: onnx.ModelProto, feeds: Mapping[str, Array]
) -> Iterator[tuple[onnx.ModelProto, Arrays]]:
    """Each node that counts as a model, with what it reads as brim's interpreter computed it."""
    opset = opset_of(model)
    constants = constants_of(model)
    nodes = needed_nodes(model)
    known = {**feeds, **constants, **all_values(model, feeds)}
    for node in nodes:
        if node.op_type == "Constant":
            continue
        names = dict.fromkeys([*filter(None, node.input), *outer_names(node)])
        inputs = {name: known[name] for name in names if name not in constants}
        fixed = {name: known[name] for name in names if name in constants}
        outputs = {name: known[name] for name in node.output if name}
        domains = [node.domain] if node.domain else []
        yield make_model([node], inputs, fixed, outputs, opset, domains), inputs


_NARROW = (TensorProto.FLOAT, TensorProto.FLOAT16)


def in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every f32 and f16 tensor, type and cast in f64: what rounding would hide."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    _widen_graph(wide.graph)
    for port in wide.graph.output:  # what makes f32 of integers (a window) goes on doing so
        port.ClearField("type")
    return wide


def _widen_graph(graph: onnx.GraphProto) -> None:
    for port in (*graph.input, *graph.output, *graph.value_info):
        if port.type.tensor_type.elem_type in _NARROW:
            port.type.tensor_type.elem_type = TensorProto.DOUBLE
    scales = {
        name
        for node in graph.node
        for name in node.input[1:]
        if node.op_type in ("Resize", "Upsample")
    }
    for tensor in graph.initializer:
        if tensor.name not in scales:  # which are f32, whatever is resized
            _widen_tensor(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _widen_tensor(attribute.t)
            elif attribute.type == onnx.AttributeProto.GRAPH:
                _widen_graph(attribute.g)
            elif attribute.name in ("to", "dtype", "output_datatype") and attribute.i in _NARROW:
                attribute.i = TensorProto.DOUBLE


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _NARROW:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
