"""Tensors of an ONNX file as numpy arrays, with every size checked before anything is allocated.

Where external data lies is `tensor_source`. Types that brim lacks are refused.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from brim.errors import ModelError, UnsupportedError
from brim.frontends.onnx.packed import from_bits, from_bytes, packed_bytes
from brim.frontends.onnx.tensor_source import TensorSource
from brim.types import (
    BF16,
    BOOL,
    F4E2M1,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    F8E8M0,
    F16,
    F32,
    F64,
    I2,
    I4,
    I8,
    I16,
    I32,
    I64,
    STR,
    U2,
    U4,
    U8,
    U16,
    U32,
    U64,
    DType,
)

ELEMENTS: dict[int, DType] = {
    1: F32, 2: U8, 3: I8, 4: U16, 5: I16, 6: I32, 7: I64, 8: STR, 9: BOOL,
    10: F16, 11: F64, 12: U32, 13: U64, 16: BF16, 17: F8E4M3FN, 18: F8E4M3FNUZ, 19: F8E5M2,
    20: F8E5M2FNUZ, 21: U4, 22: I4, 23: F4E2M1, 24: F8E8M0, 25: U2, 26: I2,
}  # fmt: skip
_FOREIGN = {14: "complex64", 15: "complex128", 27: "float6e2m3", 28: "float6e3m2"}
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


def tensor_array(tensor: Any, source: TensorSource, where: str) -> np.ndarray:
    """The array of a TensorProto. source: what holds external data.

    Raises ModelError when data and shape contradict each other or external data leaves the folder.
    """
    where = f"{where}: tensor {tensor.name!r}"
    dtype = element(tensor.data_type, where)
    shape = checked_shape(tensor.dims, where)
    if tensor.HasField("segment"):
        raise UnsupportedError("tensors in segments are not supported", where=where)
    count = math.prod(shape)
    if tensor.data_location == 1:
        if dtype is STR:
            raise ModelError("text cannot be external data", where=where)
        raw = source.bytes(tensor, packed_bytes(dtype, shape), where)
        return _from_bytes(raw, dtype, shape, where)
    if dtype is STR:
        return _strings(tensor.string_data, shape, where)
    if tensor.HasField("raw_data"):
        return _from_bytes(tensor.raw_data, dtype, shape, where)
    values = list(_typed_field(tensor, dtype))
    narrow = dtype.kind == "n" and dtype.bits < 8
    if len(values) != (packed_bytes(dtype, shape) if narrow else count):
        raise ModelError(f"{len(values)} values for shape {shape}", where=where)
    if dtype is F16 or dtype.kind == "n":  # the bits of a value, or a byte, as a 32-bit integer
        return from_bits(np.array(values, np.int64).astype(f"u{dtype.bytes}"), dtype, shape)
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


def _from_bytes(
    raw: bytes | np.ndarray, dtype: DType, shape: tuple[int, ...], where: str
) -> np.ndarray:
    wanted = packed_bytes(dtype, shape)
    if len(raw) != wanted:
        raise ModelError(
            f"{len(raw)} bytes for shape {shape} of {dtype}: not {wanted}", where=where
        )
    if dtype.kind == "n":
        return from_bytes(raw, dtype, shape)
    array = np.frombuffer(raw, dtype.numpy.newbyteorder("<")).reshape(shape)
    if not array.flags.aligned:  # external data may begin anywhere
        array = array.copy()
    if dtype is BOOL:  # any byte but 0 and 1 would be undefined behaviour in compiled code
        array = array.view(np.uint8) != 0
    return array.astype(dtype.numpy, copy=False)
