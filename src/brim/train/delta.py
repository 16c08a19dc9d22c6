"""What a model has learned since it was loaded, as a small file: a delta of its artifact.

A delta is a safetensors file (8 bytes of length, a JSON header, the arrays) of that state alone
which differs from what the artifact starts with. It names the artifact by its digest, and is
refused by any other one. What an optimiser remembers is not in it: it is of use to the step only.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import InputError, ModelError
from brim.files import written
from brim.model import Model
from brim.runtime.artifact import Artifact
from brim.runtime.record import Record, as_integer, as_list, as_text, parse_json
from brim.types import dtype_of, find_dtype

HEADER = 8  # bytes that tell how long the header is
TYPES = {  # safetensors' names of dtypes
    "F64": "f64", "F32": "f32", "F16": "f16", "I64": "i64", "I32": "i32", "I16": "i16", "I8": "i8",
    "U64": "u64", "U32": "u32", "U16": "u16", "U8": "u8", "BOOL": "bool",
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in TYPES.items()}


def save_delta(model: Model, path: str | os.PathLike[str]) -> int:
    """Writes what an artifact's model has learned, whole or not at all; gives the file's bytes.

    Raises InputError for models that were loaded from something else, and where the file cannot be
    written.
    """
    artifact = _artifact(model)
    first = _first(artifact)
    now = model.state
    changed = {n: now[n] for n, array in first.items() if now[n].tobytes() != array.tobytes()}
    content = _bytes_of(changed, artifact.digest)
    with written(Path(path), lasting=True) as temporary:
        temporary.write_bytes(content)
    return len(content)


def apply_delta(model: Model, path: str | os.PathLike[str]) -> None:
    """Makes a model what it was when the delta was saved: all that it does not name starts anew.

    The optimiser's state stays. Raises ModelError for a damaged file, InputError for the delta of
    another artifact; then nothing has changed.
    """
    artifact, path = _artifact(model), Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"the delta {path} cannot be read", str(error)) from None
    base, found = _read(content, path.name)
    if base != artifact.digest:
        raise InputError(
            f"{path.name} belongs to another artifact",
            f"to {base[:16]}..., this one is {artifact.digest[:16]}...",
            artifact.where,
            "load the artifact that it was trained from",
        )
    model.state = {**_first(artifact), **found}


def _artifact(model: Model) -> Artifact:
    if model.artifact is None:
        raise InputError(
            "the model was not loaded from an artifact, so there is nothing that it changed",
            where=model.name,
            hint="save it and load it again",
        )
    return model.artifact


def _first(artifact: Artifact) -> Mapping[str, np.ndarray]:
    """What the model's own programs start with."""
    return {n: a for program in artifact.programs_of("") for n, a in program.state.items()}


# ------------------------------------------------------------------ the file


def _bytes_of(arrays: Mapping[str, np.ndarray], base: str) -> bytes:
    data = [np.ascontiguousarray(array).tobytes() for array in arrays.values()]
    header: dict[str, Any] = {}
    at = 0
    for (name, array), raw in zip(arrays.items(), data):
        dtype = dtype_of(array).name
        if dtype not in _NAMES:
            raise InputError(f"the state {name!r} is {dtype}, which safetensors has no name for")
        places = [at, at + len(raw)]
        header[name] = {"dtype": _NAMES[dtype], "shape": [*array.shape], "data_offsets": places}
        at += len(raw)
    notes = {"base": base, "digest": _digest(base, header, b"".join(data))}
    text = json.dumps({"__metadata__": notes, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(HEADER, "little"), text, *data))


def _digest(base: str, header: Mapping[str, Any], data: bytes) -> str:
    """SHA-256 of all that a delta says."""
    said = json.dumps([base, header], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode() + data).hexdigest()


def _read(content: bytes, where: str) -> tuple[str, dict[str, np.ndarray]]:
    """The digest of the artifact, and the arrays. Raises ModelError."""
    start = HEADER + int.from_bytes(content[:HEADER], "little")
    if start > len(content):
        raise ModelError("not an intact delta", "it is cut off", where)
    header = parse_json(content[HEADER:start], where)
    notes, data, at = header.record("__metadata__"), content[start:], 0
    base, names = notes.text("base"), [name for name in header.fields if name != "__metadata__"]
    if _digest(base, {n: header.get(n) for n in names}, data) != notes.text("digest"):
        raise ModelError("not an intact delta", "its content does not fit its digest", where)
    found = {}
    for name in names:
        found[name], at = _array(header.record(name), data, at)
    if at != len(data):
        raise ModelError("not an intact delta", "there are bytes that belong to no array", where)
    return base, found


def _array(record: Record, data: bytes, at: int) -> tuple[np.ndarray, int]:
    """One array, which begins where the one before it ended, and its end."""
    kind = TYPES.get(as_text(record.get("dtype"), record.where))
    shape = [as_integer(n, record.where) for n in record.list("shape")]
    start, end = (as_integer(n, record.where) for n in as_list(record.get("data_offsets"), "", 2))
    size = int(np.prod(shape, dtype=object)) if shape else 1
    if kind is None or len(shape) > 64 or start != at:
        raise ModelError("not an intact delta", "an array is of no known kind", record.where)
    dtype = find_dtype(kind).numpy
    if end - start != size * dtype.itemsize or end > len(data):
        raise ModelError("not an intact delta", "an array has other bytes", record.where)
    return np.frombuffer(data, dtype, size, start).reshape(shape), end
