"""The inputs and outputs of an ONNX model as those of a graph: shapes fixed, constants put in.

What lies between them is converted by `importer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from brim.containers import checked
from brim.errors import InputError, ModelError, UnsupportedError
from brim.frontends.batch import opened
from brim.frontends.bounds import LARGEST
from brim.frontends.onnx.model import OnnxModel
from brim.frontends.onnx.operands import (
    Nothing,
    Operand,
    Sequence,
    as_type,
    as_value,
    is_container,
)
from brim.graph import Value, const, placeholder
from brim.ops.containers import get_element
from brim.types import Dim, DType, Type, type_of


def bind_inputs(
    model: OnnxModel, shapes: Mapping[str, Any], constants: Mapping[str, Any]
) -> tuple[dict[str, Value], dict[str, Operand]]:
    """The inputs of the graph to be, and what every given name of the model stands for.

    An initializer that is also an input keeps its value unless a shape makes it an input. Raises
    InputError for shapes and constants that are missing or do not fit.
    """
    graph = model.graph
    unknown = (set(shapes) | set(constants)) - set(graph.inputs)
    if unknown:
        raise InputError(
            f"there is no input {sorted(unknown)}",
            where=model.name,
            hint=f"the model takes {list(model.inputs)}",
        )
    inputs: dict[str, Value] = {}
    values: dict[str, Operand] = {}
    missing: list[str] = []
    for name, declared in graph.inputs.items():
        if name in constants:
            values[name] = _constant(name, declared, constants[name])
        elif name in graph.initializers and name not in shapes:
            continue
        elif declared is None:
            raise UnsupportedError(f"the type of input {name!r} is not known", where=model.name)
        elif name in shapes or declared.is_static:
            fixed = _fixed(name, declared, tuple(shapes.get(name, declared.shape or ())))
            inputs[name] = values[name] = placeholder(fixed, name)
        else:
            missing.append(f"{name}: {declared}")
    _check_names(graph.inputs, values, model.name)
    if missing:
        raise InputError(
            f"shapes are missing for {'; '.join(missing)}",
            why="these inputs have dimensions that the model leaves open",
            where=model.name,
            hint="give shapes={'input': (1, 3, 224, 224), ...}",
        )
    return inputs, values


def opened_inputs(model: OnnxModel) -> OnnxModel:
    """The model with inputs of one sample open to any number."""
    inputs = {name: type and opened(type) for name, type in model.graph.inputs.items()}
    return replace(model, graph=replace(model.graph, inputs=inputs))


def _constant(name: str, declared: Type | None, given: Any) -> Operand:
    """An input that is always this array, or what a container holds."""
    if declared is not None and declared.dtype.kind == "o":
        return _known(checked(given, declared.dtype, f"input {name!r}"), declared.dtype)
    array = np.asarray(given)
    fixed = _fixed(name, declared or type_of(array), tuple(array.shape))
    return const(array.astype(fixed.dtype.numpy, copy=False), name)


def _known(content: Any, dtype: DType) -> Operand:
    if is_container(dtype, "seq"):
        return Sequence(tuple(_known(part, dtype.of) for part in content), dtype.of)
    if is_container(dtype, "opt"):
        return Nothing(dtype.of) if content is None else _known(content, dtype.of)
    if is_container(dtype, "map"):
        raise UnsupportedError("maps cannot be constants", hint="give the map when the model runs")
    return const(content)


def _check_names(
    declared: Mapping[str, Type | None], given: Mapping[str, Operand], where: str
) -> None:
    """Dimensions of one name must be one number, whichever inputs have them. Raises InputError."""
    sizes: dict[str, tuple[int, str]] = {}
    for name, type in declared.items():
        value = given.get(name)
        if type is None or type.shape is None or not isinstance(value, Value):
            continue
        for dim, n in zip(type.shape, value.shape):
            if not isinstance(dim, Dim):
                continue
            size, first = sizes.setdefault(dim.name, (n, name))
            if size != n:
                raise InputError(
                    f"dimension {dim.name!r} is {size} for input {first!r}, {n} for {name!r}",
                    where=where,
                )


def _fixed(name: str, declared: Type, shape: tuple[int, ...]) -> Type:
    fits = declared.shape is None or (
        len(declared.shape) == len(shape)
        and all(isinstance(want, Dim) or want == have for want, have in zip(declared.shape, shape))
    )
    if not fits or any(not isinstance(n, (int, np.integer)) or n < 0 for n in shape):
        raise InputError(f"shape {shape} does not fit input {name!r}: {declared}")
    fixed = Type(tuple(int(n) for n in shape), declared.dtype)
    if fixed.size > LARGEST:
        raise InputError(f"input {name!r} of shape {shape} is absurdly large")
    return fixed


def bind_output(operand: Operand, model: OnnxModel, name: str) -> Value:
    """What the model gives as output `name`, as the container that it declares, if it does.

    Raises ModelError where it is of another element type.
    """
    value, declared = as_value(operand), model.outputs[name]
    if declared is None:
        return value
    if declared.dtype.kind == "o":
        if is_container(value.dtype, "opt") and value.dtype.of == declared.dtype:
            return get_element(value)  # a loop that fills what was empty before
        return as_type(value, declared)
    # shapes that files declare are often of another batch; what kind of numbers is no detail
    if value.dtype != declared.dtype:
        raise ModelError(
            f"output {name!r} is {value.type}, but it is declared as {declared}",
            where=model.name,
        )
    return value
