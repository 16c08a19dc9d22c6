"""A TFLite file with other contents in its constants: what was trained gets back into its buffers.

Buffers are written where they lie, so nothing else in the file changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import InputError, UnsupportedError
from brim.frontends.tflite.reader import read


def with_weights(source: Path | bytes, arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of the file with `arrays` (f32, in its layout) in its tensors.

    Raises InputError for names and sizes that the file has not, or more than once;
    UnsupportedError for tensors that are stored sparse.
    """
    read(source)  # what is damaged is refused with a reason
    import tflite

    data = bytearray(source.read_bytes() if isinstance(source, Path) else source)
    file = tflite.Model.GetRootAs(data, 0)
    written: dict[int, str] = {}
    left = dict(arrays)
    for tensor in _tensors(file):
        name = (tensor.Name() or b"").decode("utf-8", "replace")
        number = tensor.Buffer()
        if name not in arrays or not (place := _content(data, file.Buffers(number))).size:
            continue
        if name not in left or number in written:
            raise InputError(
                f"tensor {name!r} is not the only one of its name or its content",
                why="so what was trained has no place of its own in the file",
                hint="save the model as .brim",
            )
        if tensor.Sparsity() is not None:
            raise UnsupportedError(f"tensor {name!r} is stored sparse", hint="save it as .brim")
        half = tensor.Type() == tflite.TensorType.FLOAT16
        array = np.ascontiguousarray(left.pop(name), np.float16 if half else np.float32)
        if array.nbytes != place.size:
            raise InputError(f"weight {name!r} has {array.nbytes} bytes, the file's {place.size}")
        place[:] = array.reshape(-1).view(np.uint8)
        written[number] = name
    if left:
        raise InputError(
            f"the file has no constants {[*left][:5]}",
            why="a new head has no place in it",
            hint="save the model as .brim, which holds the whole network",
        )
    return bytes(data)


def _tensors(file: Any) -> Iterator[Any]:
    for i in range(file.SubgraphsLength()):
        graph = file.Subgraphs(i)
        for j in range(graph.TensorsLength()):
            yield graph.Tensors(j)


def _content(data: bytearray, buffer: Any) -> np.ndarray:
    """The bytes of a buffer as a view of the file's, u8[n]."""
    start, size = buffer.Offset(), buffer.Size()
    if start > 1:  # of files over 2 GB: the content follows the FlatBuffer
        return np.frombuffer(data, np.uint8, size, start)
    return buffer.DataAsNumpy() if buffer.DataLength() else np.zeros(0, np.uint8)
