"""Reads an ONNX file into plain data (`OnnxModel`): structure, types, tensors, all of it checked.

The `onnx` package parses the protobuf; nothing of protobuf leaves this file. No operator is known
here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from brim.errors import BrimError, InputError, ModelError, UnsupportedError
from brim.frontends.onnx.model import Function, Node, OnnxModel, Reference, Subgraph
from brim.frontends.onnx.sparse import sparse_array
from brim.frontends.onnx.tensor_source import TensorSource
from brim.frontends.onnx.tensors import tensor_array, text
from brim.frontends.onnx.typeprotos import read_type
from brim.types import Type

DEPTH = 24  # how deep sub-graphs may nest
NODES = 1_000_000
# Operator sets that are known: a newer one may change what an operator means.
NEWEST = {"": 28, "ai.onnx.ml": 5}


def read(source: Path | str | bytes | Any, name: str = "", signature: str = "") -> OnnxModel:
    """Parses a path, the bytes of a file, or a ModelProto.

    signature: other formats have some; ONNX does not. Raises InputError for one,
    ModelError for damaged or contradictory files and UnsupportedError for what brim lacks.
    """
    proto, tensors, label, size = _parse(source)
    label = name or label
    if signature:
        raise InputError(f"an ONNX model has no signature {signature!r}", where=label)
    try:
        return _model(proto, tensors, label, size)
    except BrimError:
        raise
    except (MemoryError, RecursionError, OverflowError, ValueError, TypeError) as error:
        raise ModelError("the model is damaged", why=repr(error)[:300], where=label) from None


def _parse(source: Any) -> tuple[Any, TensorSource, str, int]:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise UnsupportedError(
            "reading ONNX needs the onnx package", why=str(error), hint="pip install 'brim[onnx]'"
        ) from None
    if isinstance(source, onnx.ModelProto):
        return source, TensorSource(None), source.graph.name or "model", 0
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
    return proto, TensorSource(folder), label, len(data)


def _model(proto: Any, source: TensorSource, label: str, size: int) -> OnnxModel:
    if not proto.HasField("graph"):
        raise ModelError("the file holds no graph", where=label, hint="is it an ONNX model?")
    opsets = _opsets(proto.opset_import, label)
    if not opsets and proto.ir_version < 3:  # before operator sets had numbers there was one
        opsets = MappingProxyType({"": 1})
    graph = _graph(proto.graph, source, label, 0)
    functions: dict[tuple[str, str, str], Function] = {}
    for part in proto.functions:
        function = _function(part, source, label)
        if function.key in functions:
            raise ModelError(f"two functions are called {function.key}", where=label)
        functions[function.key] = function
    _check_count(graph, functions, label)
    inputs = {n: t for n, t in graph.inputs.items() if n not in graph.initializers}
    for input_name, type in inputs.items():
        if type is None:
            raise UnsupportedError(
                f"the type of input {input_name!r} is not known",
                why="the model does not say what it takes",
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
        size=size + source.size or sum(a.nbytes for a in graph.initializers.values()),
        external=source.names,
    )


def _opsets(imports: Any, where: str) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for entry in imports:
        domain, version = domain_name(text(entry.domain, where)), int(entry.version)
        if not 1 <= version <= NEWEST.get(domain, version):
            raise UnsupportedError(
                f"operator set {version} of {domain or 'ai.onnx'} is not supported",
                why=f"supported: 1 to {NEWEST[domain]}"
                if domain in NEWEST
                else "they count from 1",
                where=where,
            )
        found[domain] = max(version, found.get(domain, 0))
    return MappingProxyType(found)


def domain_name(domain: str) -> str:
    """'' for the default domain, which some files call ai.onnx."""
    return "" if domain == "ai.onnx" else domain


def _graph(proto: Any, source: TensorSource, where: str, depth: int) -> Subgraph:
    if depth > DEPTH:
        raise ModelError(f"sub-graphs nest deeper than {DEPTH}", where=where)
    tensors = [(t.name, tensor_array(t, source, where)) for t in proto.initializer]
    tensors += [(t.values.name, sparse_array(t, source, where)) for t in proto.sparse_initializer]
    results, copies = _by_place(proto.output, where) if depth else (proto.output, [])
    return Subgraph(
        name=proto.name,
        inputs=_ports(proto.input, "inputs", where),
        outputs=_ports(results, "outputs", where),
        nodes=(*(_node(n, source, where, depth) for n in proto.node), *copies),
        initializers=_once(tensors, "initializers", where),
    )


def _by_place(ports: Any, where: str) -> tuple[list[Any], list[Node]]:
    """The outputs of a sub-graph with distinct names, and nodes that copy those that stand twice.

    What calls a sub-graph takes its results by place, so in files one name may be several of them.
    """
    found, copies, names = [], [], set()
    for place, port in enumerate(ports):
        name = text(port.name, where)
        if name in names:
            port = type(port).FromString(port.SerializeToString())
            port.name = f"{name} at {place}"
            copies.append(Node("Identity", "", "", (name,), (port.name,), MappingProxyType({})))
        names.add(port.name)
        found.append(port)
    return found, copies


def _ports(ports: Any, what: str, where: str) -> Mapping[str, Type | None]:
    return _once(
        ((p.name, read_type(p.type, text(p.name, where), where)) for p in ports), what, where
    )


def _once(items: Iterable[tuple[str, Any]], what: str, where: str) -> Mapping[str, Any]:
    """A mapping of items whose names must differ; which of two was meant nobody can know."""
    found: dict[str, Any] = {}
    for raw, item in items:
        name = text(raw, where)
        if name in found:
            raise ModelError(f"two {what} have the name {name!r}", where=where)
        found[name] = item
    return MappingProxyType(found)


def _node(proto: Any, source: TensorSource, where: str, depth: int) -> Node:
    label = f"{where}: {proto.name or proto.op_type!r}"
    attributes = ((a.name, _attribute(a, source, label, depth)) for a in proto.attribute)
    return Node(
        op=text(proto.op_type, label),
        domain=domain_name(text(proto.domain, label)),
        name=text(proto.name, label),
        inputs=_names(proto.input, label),
        outputs=_names(proto.output, label),
        attributes=_once(attributes, "attributes", label),
        overload=_overload(proto, label),
    )


def _overload(proto: Any, where: str) -> str:
    """Which of several functions of one name is meant; onnx before 1.16 did not know it."""
    return text(getattr(proto, "overload", ""), where)


def _names(names: Any, where: str) -> tuple[str, ...]:
    return tuple(text(name, where) for name in names)  # damaged files hold bytes that are no text


_KINDS = {
    1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings",
    11: "sparse_tensor", 13: "tp",
}  # fmt: skip


def _attribute(proto: Any, source: TensorSource, where: str, depth: int) -> Any:
    where = f"{where}: attribute {proto.name!r}"
    if proto.ref_attr_name:
        return Reference(text(proto.ref_attr_name, where))
    kind = _KINDS.get(proto.type) or _guess(proto)
    match kind:
        case "f":
            return float(proto.f)
        case "i":
            return int(proto.i)
        case "s":
            return text(proto.s, where)
        case "t":
            return _frozen(tensor_array(proto.t, source, where))
        case "sparse_tensor":
            return _frozen(sparse_array(proto.sparse_tensor, source, where))
        case "g":
            return _graph(proto.g, source, where, depth + 1)
        case "tp":
            return read_type(proto.tp, "", where)
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
    return next(
        (f for f in ("t", "g", "s", "f", "i", "sparse_tensor", "tp") if proto.HasField(f)), ""
    )


def _frozen(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)  # arithmetic on an array without axes gives numpy's scalars
    array.flags.writeable = False
    return array


def _function(proto: Any, source: TensorSource, where: str) -> Function:
    label = f"{where}: function {proto.name}"
    attributes: dict[str, Any] = dict.fromkeys(proto.attribute)
    for default in proto.attribute_proto:
        attributes[text(default.name, label)] = _attribute(default, source, label, 0)
    return Function(
        name=proto.name,
        domain=domain_name(proto.domain),
        inputs=_names(proto.input, label),
        outputs=_names(proto.output, label),
        attributes=MappingProxyType(attributes),
        nodes=tuple(_node(n, source, label, 0) for n in proto.node),
        opsets=_opsets(proto.opset_import, label),
        overload=_overload(proto, label),
    )


def _check_count(graph: Subgraph, functions: Mapping[Any, Function], where: str) -> None:
    total = len(graph.nodes) + sum(len(f.nodes) for f in functions.values())
    if total > NODES:
        raise ModelError(f"{total} nodes are more than the {NODES} that are allowed", where=where)
