"""An ONNX file with other contents in its constants: what was trained gets back where it came from.

Nothing but these arrays changes. External data comes into the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import InputError, UnsupportedError
from brim.frontends.onnx.reader import read

Write = Callable[[np.ndarray], None]


def with_weights(source: Path | bytes | Any, arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of the file with `arrays` (f32, in its layout) in initializers and constants.

    Raises InputError for names and shapes that the file has not, UnsupportedError for more bytes
    than one file of ONNX holds.
    """
    read(source)  # what is damaged is refused with a reason
    import onnx

    if isinstance(source, Path):
        model = onnx.load(source)
    else:
        model = onnx.ModelProto()
        model.ParseFromString(source if isinstance(source, bytes) else source.SerializeToString())
    places = _places(model.graph)
    missing = [name for name in arrays if name not in places]
    if missing:
        raise InputError(
            f"the file has no constants {missing[:5]}",
            why="a new head has no place in it",
            hint="save the model as .brim, which holds the whole network",
        )
    for name, array in arrays.items():
        places[name](array)
    try:
        return model.SerializeToString()
    except ValueError as error:
        raise UnsupportedError("the file has more than 2 GB", why=str(error)) from None


def _places(graph: Any) -> dict[str, Write]:
    """Name -> what writes an array there."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    found = {name: _writer(tensor) for name, tensor in tensors.items()}
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type == "Identity" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
            found[node.output[0]] = _copy_writer(graph, node, tensors[node.input[0]])
        if node.op_type == "Constant":
            (attribute,) = node.attribute
            if attribute.name == "value":
                found[node.output[0]] = _writer(attribute.t)
            elif attribute.name == "value_floats":
                found[node.output[0]] = _list_writer(attribute)
    return found


def _writer(tensor: Any) -> Write:
    def write(array: np.ndarray) -> None:
        from onnx import helper, numpy_helper

        _check(tensor.name, array.shape, tuple(tensor.dims))
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        tensor.CopyFrom(numpy_helper.from_array(array.astype(dtype), tensor.name))

    return write


def _copy_writer(graph: Any, node: Any, source: Any) -> Write:
    """Puts an initializer of its own in the place of a node that copies one."""

    def write(array: np.ndarray) -> None:
        made = graph.initializer.add()
        made.CopyFrom(source)
        made.name = node.output[0]
        _writer(made)(array)
        graph.node.remove(node)

    return write


def _list_writer(attribute: Any) -> Write:
    def write(array: np.ndarray) -> None:
        _check(attribute.name, array.shape, (len(attribute.floats),))
        attribute.floats[:] = array.tolist()

    return write


def _check(name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if shape != wanted:
        raise InputError(f"weight {name!r} has shape {shape}, the file's {wanted}")
