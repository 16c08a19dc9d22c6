"""Types as ONNX writes them (TypeProto) and as brim does, both ways.

Shapes inside sequences, optionals and maps are dropped: what those hold has a shape at run time.
"""

from __future__ import annotations

import re
from typing import Any

from brim.errors import ModelError, UnsupportedError
from brim.frontends.onnx.tensors import NUMBERS, element
from brim.types import STR, Dim, DType, Type, find_dtype

_DEPTH = 8  # containers within containers
# What exporters write, beside "?" and "-1", for dimensions without a name: two need not be equal.
_NAMELESS = ("", "None", "unknown", "unk")


def read_type(proto: Any, name: str, where: str) -> Type | None:
    """The type of a port called `name`; None where the file leaves it open.

    Raises UnsupportedError for what brim has not, ModelError for what ONNX has not.
    """
    kind = proto.WhichOneof("value")
    if kind is None or (kind == "tensor_type" and proto.tensor_type.elem_type == 0):
        return None
    if kind == "tensor_type":
        return _tensor_type(proto.tensor_type, name, where)
    return Type((), _container(proto, f"{where}: {name}", 0))


def _tensor_type(tensor: Any, name: str, where: str) -> Type:
    dtype = element(tensor.elem_type, f"{where}: {name}")
    if not tensor.HasField("shape"):
        return Type(None, dtype)
    dims: list[int | Dim] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            dims.append(int(dim.dim_value))
        else:
            known = dim.dim_param.strip("_?*-.0123456789") not in _NAMELESS
            dims.append(Dim(_identifier(dim.dim_param if known else f"{name}_{axis}")))
    if len(dims) > 64:
        raise ModelError(f"a tensor of {len(dims)} axes", where=f"{where}: {name}")
    return Type(tuple(dims), dtype)


def _identifier(name: str) -> str:
    cleaned = re.sub(r"[^0-9A-Za-z_]", "_", name)[:60]
    return cleaned if cleaned.isidentifier() else f"n_{cleaned}"


def _container(proto: Any, where: str, depth: int) -> DType:
    if depth > _DEPTH:
        raise ModelError(f"types nest deeper than {_DEPTH}", where=where)
    match kind := proto.WhichOneof("value"):
        case "tensor_type":
            return element(proto.tensor_type.elem_type, where)
        case "sequence_type":
            return find_dtype(f"seq.{_container(proto.sequence_type.elem_type, where, depth + 1)}")
        case "optional_type":
            return find_dtype(f"opt.{_container(proto.optional_type.elem_type, where, depth + 1)}")
        case "map_type":
            key = element(proto.map_type.key_type, where)
            if not key.is_integer and key is not STR:
                raise ModelError(f"a map cannot have keys of {key}", where=where)
            if key.name not in ("i64", "str"):
                raise UnsupportedError(f"maps with keys of {key} are not supported", where=where)
            value = _container(proto.map_type.value_type, where, depth + 1)
            return find_dtype(f"map.{key}.{value}")
    raise UnsupportedError(f"values of {kind or 'no type'} are not supported", where=where)


def write_type(type: Type) -> Any:
    """The TypeProto of a type; symbolic dimensions are left open."""
    from onnx import TypeProto

    proto = TypeProto()
    if type.dtype.kind == "o":
        _write_container(proto, type.dtype)
        return proto
    proto.tensor_type.elem_type = NUMBERS[type.dtype]
    if type.shape is not None:
        proto.tensor_type.shape.SetInParent()
        for n in type.shape:
            dim = proto.tensor_type.shape.dim.add()
            if isinstance(n, int):
                dim.dim_value = n
    return proto


def _write_container(proto: Any, dtype: DType) -> None:
    match dtype.name.partition(".")[0] if dtype.kind == "o" else "":
        case "seq":
            _write_container(proto.sequence_type.elem_type, dtype.of)
        case "opt":
            _write_container(proto.optional_type.elem_type, dtype.of)
        case "map":
            proto.map_type.key_type = NUMBERS[find_dtype(dtype.name.split(".")[1])]
            _write_container(proto.map_type.value_type, dtype.of)
        case _:
            proto.tensor_type.elem_type = NUMBERS[dtype]
