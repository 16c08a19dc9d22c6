"""Tensors of an ONNX file as numpy arrays, with every size checked before anything is allocated.

External data is read only from inside the model's folder. Types that brim lacks are refused.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import ModelError, UnsupportedError
from brim.types import (
    BOOL,
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    STR,
    U8,
    U16,
    U32,
    U64,
    DType,
)

ELEMENTS: dict[int, DType] = {
    1: F32, 2: U8, 3: I8, 4: U16, 5: I16, 6: I32, 7: I64, 8: STR, 9: BOOL,
    10: F16, 11: F64, 12: U32, 13: U64,
}  # fmt: skip
_FOREIGN = {
    14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8e4m3fn", 18: "float8e4m3fnuz",
    19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4e2m1",
    24: "float8e8m0", 25: "uint2", 26: "int2",
}  # fmt: skip
NUMBERS: dict[DType, int] = {dtype: number for number, dtype in ELEMENTS.items()}
LARGEST = 1 << 40  # elements: no real tensor has more, and products of sizes stay in 64 bits


def element(number: int, where: str = "") -> DType:
    """The DType of an ONNX element type number. Raises UnsupportedError or ModelError."""
    if number in ELEMENTS:
        return ELEMENTS[number]
    if number in _FOREIGN:
        raise UnsupportedError(
            f"element type {_FOREIGN[number]} is not supported",
            where=where,
            hint=f"supported: {', '.join(map(str, ELEMENTS.values()))}",
        )
    raise ModelError(f"element type {number} does not exist in ONNX", where=where)


def checked_shape(dims: Any, where: str) -> tuple[int, ...]:
    """dims as a tuple, refused when negative or absurd."""
    shape = tuple(int(n) for n in dims)
    if len(shape) > 64 or any(n < 0 for n in shape) or math.prod(shape) > LARGEST:
        raise ModelError(f"a tensor has the absurd shape {shape[:8]}", where=where)
    return shape


def tensor_array(tensor: Any, folder: Path | None, where: str) -> np.ndarray:
    """The array of a TensorProto. folder: where external data lies (None: there may be none).

    Raises ModelError when data and shape contradict each other or external data leaves the folder.
    """
    where = f"{where}: tensor {tensor.name!r}"
    dtype = element(tensor.data_type, where)
    shape = checked_shape(tensor.dims, where)
    if tensor.HasField("segment"):
        raise UnsupportedError("tensors in segments are not supported", where=where)
    count = math.prod(shape)
    if tensor.data_location == 1:
        return _external(tensor, dtype, shape, folder, where)
    if dtype is STR:
        return _strings(tensor.string_data, shape, where)
    if tensor.HasField("raw_data"):
        return _from_bytes(tensor.raw_data, dtype, shape, where)
    values = list(_typed_field(tensor, dtype))
    if len(values) != count:
        raise ModelError(f"{len(values)} values for shape {shape}", where=where)
    if dtype is F16:  # stored as the bits of each value, in 32-bit integers
        return np.array(values, np.int64).astype(np.uint16).view(np.float16).reshape(shape)
    wide = np.array(values, np.float64 if dtype is F64 else None if values else dtype.numpy)
    return wide.astype(dtype.numpy).reshape(shape)


def _typed_field(tensor: Any, dtype: DType) -> Any:
    match dtype.name:
        case "f32":
            return tensor.float_data
        case "f64":
            return tensor.double_data
        case "i64":
            return tensor.int64_data
        case "u32" | "u64":
            return tensor.uint64_data
    return tensor.int32_data


def _strings(parts: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    if len(parts) != math.prod(shape):
        raise ModelError(f"{len(parts)} texts for shape {shape}", where=where)
    array = np.empty(len(parts), object)
    for i, part in enumerate(parts):
        array[i] = text(part, where)
    return array.reshape(shape)


def text(raw: bytes | str, where: str) -> str:
    """UTF-8 bytes as text. Raises ModelError."""
    if isinstance(raw, str):
        return raw
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError("a text is not UTF-8", why=str(error), where=where) from None


def _from_bytes(raw: bytes, dtype: DType, shape: tuple[int, ...], where: str) -> np.ndarray:
    wanted = math.prod(shape) * dtype.bytes
    if len(raw) != wanted:
        raise ModelError(
            f"{len(raw)} bytes for shape {shape} of {dtype}: not {wanted}", where=where
        )
    array = np.frombuffer(raw, dtype.numpy.newbyteorder("<")).reshape(shape)
    if dtype is BOOL:  # any byte but 0 and 1 would be undefined behaviour in compiled code
        array = array.view(np.uint8) != 0
    return array.astype(dtype.numpy, copy=False)


def _external(
    tensor: Any, dtype: DType, shape: tuple[int, ...], folder: Path | None, where: str
) -> np.ndarray:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if folder is None:
        raise ModelError(
            "the model keeps data in another file, and bytes alone have no folder",
            where=where,
            hint="load the model from its path",
        )
    if dtype is STR:
        raise ModelError("text cannot be external data", where=where)
    path = _inside(folder, entries.get("location", ""), where)
    wanted = math.prod(shape) * dtype.bytes
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", wanted))
    except ValueError:
        raise ModelError("offset or length of external data is no number", where=where) from None
    size = path.stat().st_size
    if length != wanted or offset < 0 or offset + length > size:
        raise ModelError(
            f"external data of {length} bytes at {offset} does not fit",
            why=f"the tensor needs {wanted} bytes and {path.name} has {size}",
            where=where,
        )
    with path.open("rb") as file:
        file.seek(offset)
        return _from_bytes(file.read(length), dtype, shape, where)


def _inside(folder: Path, location: str, where: str) -> Path:
    """`location` as a regular file inside `folder`; nothing may lead out of it."""
    refused = ModelError(
        f"external data {location[:200]!r} is not a file inside the model's folder", where=where
    )
    parts = location.replace("\\", "/").split("/")
    if not location or "\0" in location or location.startswith(("/", "\\")) or ".." in parts:
        raise refused
    if ":" in parts[0]:
        raise refused
    try:
        root = folder.resolve(strict=True)
        path = (root / location).resolve(strict=True)
    except (OSError, RuntimeError):
        raise refused from None
    if not path.is_relative_to(root) or not path.is_file():
        raise refused
    return path
