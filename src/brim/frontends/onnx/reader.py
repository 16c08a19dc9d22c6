"""Reads an ONNX file into plain data (`OnnxModel`): structure, types, tensors, all of it checked.

The `onnx` package parses the protobuf; nothing of protobuf leaves this file. No operator is known
here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from brim.errors import BrimError, ModelError, UnsupportedError
from brim.frontends.onnx.model import Function, Node, OnnxModel, Reference, Subgraph
from brim.frontends.onnx.tensors import element, tensor_array, text
from brim.types import Dim, Type

DEPTH = 24  # how deep sub-graphs may nest
NODES = 1_000_000
OLDEST, NEWEST = 7, 28


def read(source: Path | str | bytes | Any, name: str = "") -> OnnxModel:
    """Parses a path, the bytes of a file, or a ModelProto.

    Raises ModelError for damaged or contradictory files and UnsupportedError for what brim lacks.
    """
    proto, folder, label, size = _parse(source)
    label = name or label
    try:
        return _model(proto, folder, label, size)
    except BrimError:
        raise
    except (MemoryError, RecursionError, OverflowError, ValueError, TypeError) as error:
        raise ModelError("the model is damaged", why=repr(error)[:300], where=label) from None


def _parse(source: Any) -> tuple[Any, Path | None, str, int]:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise UnsupportedError(
            "reading ONNX needs the onnx package", why=str(error), hint="pip install 'brim[onnx]'"
        ) from None
    if isinstance(source, onnx.ModelProto):
        return source, None, source.graph.name or "model", source.ByteSize()
    folder = None
    if isinstance(source, (str, Path)):
        path = Path(source)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read {str(path)!r}", why=str(error)) from None
        folder, label = path.parent, path.name
    elif isinstance(source, (bytes, bytearray, memoryview)):
        data, label = bytes(source), "model"
    else:
        raise ModelError(
            f"a model cannot be read from {type(source).__name__}", hint="give a path or bytes"
        )
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError("not an ONNX file", why=str(error), where=label) from None
    size = len(data)
    if folder is not None:
        size += sum(f.stat().st_size for f in folder.glob(f"{Path(label).stem}*") if f.is_file())
    return proto, folder, label, size


def _model(proto: Any, folder: Path | None, label: str, size: int) -> OnnxModel:
    if not proto.HasField("graph"):
        raise ModelError("the file holds no graph", where=label, hint="is it an ONNX model?")
    opsets = _opsets(proto.opset_import, label)
    version = opsets.get("")
    if version is not None and not OLDEST <= version <= NEWEST:
        raise UnsupportedError(
            f"operator set {version} is not supported",
            why=f"supported: {OLDEST} to {NEWEST}",
            where=label,
        )
    graph = _graph(proto.graph, folder, label, 0)
    functions = {}
    for part in proto.functions:
        function = _function(part, folder, label)
        functions[function.domain, function.name] = function
    _check_count(graph, functions, label)
    inputs = {n: t for n, t in graph.inputs.items() if n not in graph.initializers}
    for input_name, type in inputs.items():
        if type is None:
            raise UnsupportedError(
                f"input {input_name!r} is no tensor",
                why="sequences stay inside models",
                where=label,
            )
    return OnnxModel(
        name=label,
        inputs=MappingProxyType(inputs),  # type: ignore[arg-type]
        outputs=graph.outputs,
        graph=graph,
        functions=MappingProxyType(functions),
        opsets=opsets,
        metadata=MappingProxyType({e.key: e.value for e in proto.metadata_props}),
        size=size,
        external=tuple(sorted(_external_files(proto))),
    )


def _external_files(proto: Any) -> set[str]:
    """Locations of external data, as the model names them."""
    graphs, tensors = [proto.graph], []
    attributes = [a for f in proto.functions for a in f.attribute_proto]
    attributes += [a for f in proto.functions for n in f.node for a in n.attribute]
    while graphs or attributes:
        while graphs:
            graph = graphs.pop()
            tensors.extend(graph.initializer)
            attributes += [a for n in graph.node for a in n.attribute]
        for attribute in attributes:
            if attribute.HasField("g"):
                graphs.append(attribute.g)
            if attribute.HasField("t"):
                tensors.append(attribute.t)
        attributes = []
    entries = (e for t in tensors if t.data_location == 1 for e in t.external_data)
    return {entry.value for entry in entries if entry.key == "location"}


def _opsets(imports: Any, where: str) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for entry in imports:
        domain = domain_name(entry.domain)
        found[domain] = max(int(entry.version), found.get(domain, 0))
    return MappingProxyType(found)


def domain_name(domain: str) -> str:
    """'' for the default domain, which some files call ai.onnx."""
    return "" if domain == "ai.onnx" else domain


def _graph(proto: Any, folder: Path | None, where: str, depth: int) -> Subgraph:
    if depth > DEPTH:
        raise ModelError(f"sub-graphs nest deeper than {DEPTH}", where=where)
    if proto.sparse_initializer:
        raise UnsupportedError("sparse tensors are not supported", where=where)
    initializers = {text(t.name, where): tensor_array(t, folder, where) for t in proto.initializer}
    inputs = _ports(proto.input, where)
    if len(inputs) != len(proto.input):
        raise ModelError("two inputs have the same name", where=where)
    return Subgraph(
        name=proto.name,
        inputs=inputs,
        outputs=_ports(proto.output, where),
        nodes=tuple(_node(n, folder, where, depth) for n in proto.node),
        initializers=MappingProxyType(initializers),
    )


def _ports(ports: Any, where: str) -> Mapping[str, Type | None]:
    return MappingProxyType({text(p.name, where): _port_type(p, where) for p in ports})


def _port_type(port: Any, where: str) -> Type | None:
    """The type of a tensor; None for sequences, optionals and untyped ports."""
    if not port.HasField("type") or not port.type.HasField("tensor_type"):
        return None
    tensor = port.type.tensor_type
    if tensor.elem_type == 0:
        return None
    dtype = element(tensor.elem_type, f"{where}: {port.name}")
    if not tensor.HasField("shape"):
        return Type(None, dtype)
    dims: list[int | Dim] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            dims.append(int(dim.dim_value))
        else:
            dims.append(Dim(_identifier(dim.dim_param or f"{port.name}_{axis}")))
    if len(dims) > 64:
        raise ModelError(f"a tensor of {len(dims)} axes", where=f"{where}: {port.name}")
    return Type(tuple(dims), dtype)


def _identifier(name: str) -> str:
    cleaned = re.sub(r"[^0-9A-Za-z_]", "_", name)[:60]
    return cleaned if cleaned.isidentifier() else f"n_{cleaned}"


def _node(proto: Any, folder: Path | None, where: str, depth: int) -> Node:
    label = f"{where}: {proto.name or proto.op_type!r}"
    attributes = {text(a.name, label): _attribute(a, folder, label, depth) for a in proto.attribute}
    return Node(
        op=text(proto.op_type, label),
        domain=domain_name(text(proto.domain, label)),
        name=text(proto.name, label),
        inputs=_names(proto.input, label),
        outputs=_names(proto.output, label),
        attributes=MappingProxyType(attributes),
    )


def _names(names: Any, where: str) -> tuple[str, ...]:
    return tuple(text(name, where) for name in names)  # damaged files hold bytes that are no text


_KINDS = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings"}


def _attribute(proto: Any, folder: Path | None, where: str, depth: int) -> Any:
    where = f"{where}: attribute {proto.name!r}"
    if proto.ref_attr_name:
        return Reference(proto.ref_attr_name)
    kind = _KINDS.get(proto.type) or _guess(proto)
    match kind:
        case "f":
            return float(proto.f)
        case "i":
            return int(proto.i)
        case "s":
            return text(proto.s, where)
        case "t":
            return _frozen(tensor_array(proto.t, folder, where))
        case "g":
            return _graph(proto.g, folder, where, depth + 1)
        case "floats":
            return tuple(float(v) for v in proto.floats)
        case "ints":
            return tuple(int(v) for v in proto.ints)
        case "strings":
            return tuple(text(v, where) for v in proto.strings)
    raise UnsupportedError(f"attributes of kind {proto.type} are not supported", where=where)


def _guess(proto: Any) -> str:
    """Old files leave the kind of an attribute out."""
    for field in ("ints", "floats", "strings"):
        if len(getattr(proto, field)):
            return field
    return next((f for f in ("t", "g", "s", "f", "i") if proto.HasField(f)), "")


def _frozen(array: np.ndarray) -> np.ndarray:
    array = np.array(array)
    array.flags.writeable = False
    return array


def _function(proto: Any, folder: Path | None, where: str) -> Function:
    label = f"{where}: function {proto.name}"
    attributes: dict[str, Any] = dict.fromkeys(proto.attribute)
    for default in proto.attribute_proto:
        attributes[default.name] = _attribute(default, folder, label, 0)
    return Function(
        name=proto.name,
        domain=domain_name(proto.domain),
        inputs=_names(proto.input, label),
        outputs=_names(proto.output, label),
        attributes=MappingProxyType(attributes),
        nodes=tuple(_node(n, folder, label, 0) for n in proto.node),
        opsets=_opsets(proto.opset_import, label),
    )


def _check_count(graph: Subgraph, functions: Mapping[Any, Function], where: str) -> None:
    total = len(graph.nodes) + sum(len(f.nodes) for f in functions.values())
    if total > NODES:
        raise ModelError(f"{total} nodes are more than the {NODES} that are allowed", where=where)
