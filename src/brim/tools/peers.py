"""What a model's own runtime computes: onnxruntime for ONNX files, LiteRT for TFLite files.

Its outputs, and on request tensors inside. Nothing is compared here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import InputError
from brim.tools.litert import LiteRt

Arrays = dict[str, np.ndarray]


def has_onnxruntime() -> bool:
    """Whether onnxruntime is installed; it is not imported."""
    return importlib.util.find_spec("onnxruntime") is not None


def run_litert(
    model: Path,
    feeds: Mapping[str, np.ndarray],
    signature: str = "",
    inside: Sequence[int] = (),
) -> tuple[Arrays, list[np.ndarray]]:
    """The outputs of a TFLite file by LiteRT on the CPU, and the tensors of these numbers.

    With any of those, no delegate runs: XNNPACK keeps no tensors. Raises InputError with LiteRT's
    message.
    """
    try:
        shapes = {name: array.shape for name, array in feeds.items()}
        engine = LiteRt(model, 1, shapes, signature, keep=bool(inside))
        outputs = engine.run(feeds)
        return outputs, [engine.tensor(number) for number in inside]
    except (RuntimeError, ValueError) as error:
        raise InputError(
            "LiteRT cannot run the model on these inputs", why=str(error), where=str(model)
        ) from None


def run_onnxruntime(
    model: Path, feeds: Mapping[str, np.ndarray], inside: Sequence[str] = ()
) -> tuple[Arrays, list[np.ndarray]]:
    """The outputs of an ONNX file by onnxruntime on the CPU, and the tensors of these names.

    Raises InputError with its message.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings about odd models are not ours to print
    source: Any = str(model)
    if inside:
        source = with_outputs(model.read_bytes(), inside)
        beside = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(beside, str(model.resolve().parent))
    try:
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        wanted = {value.name for value in session.get_inputs()}
        given = {name: array for name, array in feeds.items() if name in wanted}
        found = dict(zip(names, map(np.asarray, session.run(None, given))))
    except Exception as error:  # onnxruntime's errors have no common base but this
        raise InputError(
            "onnxruntime cannot run the model on these inputs", why=str(error), where=str(model)
        ) from None
    tensors = [found[name] for name in inside]
    return {name: found[name] for name in names if name not in set(inside)}, tensors


def with_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """An ONNX file that gives these tensors, too.

    A second message of a field that holds one is merged into the first by every reader of protobuf,
    so the file is not parsed: a graph of nothing but outputs, as names without types, follows it.
    """
    outputs = b"".join(_message(_OUTPUT, _message(_NAME, name.encode())) for name in names)
    return model + _message(_GRAPH, outputs)


_GRAPH, _OUTPUT, _NAME = 7, 12, 1  # numbers of the fields, in ModelProto, GraphProto, ValueInfo


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
