"""Types of the results of host steps, by ONNX's own shape inference for one node.

Only used where the result cannot be computed at import; brim's own types come from its operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from brim.errors import UnsupportedError
from brim.frontends.onnx.model import Node
from brim.frontends.onnx.typeprotos import read_type, write_type
from brim.graph import Value
from brim.types import Type

_SMALL = 1 << 16  # elements of a constant that inference may look at
_RANKLESS = ("Attention",)  # onnx gives some of their results no axes where it does not know them


def result_types(node: Node, version: int, inputs: Sequence[Value | None]) -> list[Type]:
    """One type for each output of `node`; shape None where it depends on data."""
    import onnx
    from onnx import helper, shape_inference

    names = [f"x{i}" if value is not None else "" for i, value in enumerate(inputs)]
    outputs = [f"y{i}" if name else "" for i, name in enumerate(node.outputs)]
    proto = helper.make_node(node.op, names, outputs, domain=node.domain)
    for key, value in node.attributes.items():
        proto.attribute.append(_attribute(key, value))
    types, data = {}, {}
    for name, value in zip(names, inputs):
        if value is None:
            continue
        types[name] = write_type(value.type)
        contents = value.data
        if contents is None and value.type.is_static and value.type.size == 0:
            contents = np.zeros(value.type.dims, value.dtype.numpy)  # nothing is all there is
        if contents is not None and contents.size <= _SMALL:
            data[name] = _tensor(contents, name)
    try:
        schema = onnx.defs.get_schema(node.op, version, node.domain)
        found = shape_inference.infer_node_outputs(schema, proto, types, data)
    except Exception as error:  # the C++ side raises several kinds, all with the reason as text
        raise UnsupportedError(
            f"{node.op} whose result depends on data: its type cannot be inferred",
            why=str(error)[:300],
        ) from None
    return [_type(node, found.get(name)) for name in outputs]


def _attribute(name: str, value: Any) -> Any:
    from onnx import helper

    if isinstance(value, np.ndarray):
        return helper.make_attribute(name, _tensor(value, name))
    if isinstance(value, Type):
        return helper.make_attribute(name, write_type(value))
    return (
        helper.make_attribute(name, value)
        if value != ()
        else helper.make_attribute(name, [], attr_type=7)
    )


def _tensor(array: np.ndarray, name: str) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array(array), name)


def _type(node: Node, proto: Any) -> Type:
    found = None if proto is None else read_type(proto, node.op, "")
    if found is None:
        raise UnsupportedError(f"{node.op} whose result depends on data: its type is not known")
    known = found.is_static and (found.shape or node.op not in _RANKLESS)
    return found if known else Type(None, found.dtype)
