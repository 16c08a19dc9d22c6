"""Small ONNX models for tests, written in one call, and interpreted in one more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from brim.frontends.onnx import import_model, read
from brim.graph import evaluate

Port = tuple[str, int, Sequence[int | str] | None]  # name, element type, shape

F32, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """A node whose inputs and outputs are names between spaces ('_' leaves one out)."""

    def names(text: str) -> list[str]:
        return [name.replace("_", "", 1) if name == "_" else name for name in text.split()]

    return helper.make_node(op, names(inputs), names(outputs), f"{op}_{outputs}", **attributes)


def graph(
    nodes: Sequence[NodeProto],
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    weights: Mapping[str, np.ndarray] | None = None,
    name: str = "g",
) -> GraphProto:
    """A graph, for a model or as a sub-graph."""
    return helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info(*port) for port in inputs],
        [helper.make_tensor_value_info(*port) for port in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()],
    )


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    weights: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    functions: Sequence[Any] = (),
) -> ModelProto:
    """A model of the default domain; functions are of the domain 'local'."""
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(
        graph(nodes, inputs, outputs, weights), opset_imports=imports, functions=list(functions)
    )


def interpret(source: Any, **feeds: np.ndarray) -> list[np.ndarray]:
    """The outputs of a model (path, bytes or proto) by numpy, for inputs of these shapes."""
    found = read(source)
    shapes = {name: np.shape(feeds[name]) for name in found.inputs}
    return list(evaluate(import_model(found, shapes), feeds).values())
