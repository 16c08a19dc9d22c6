"""The bytes of TFLite tensors as numpy arrays: element types, packed nibbles, strings."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np

from brim.errors import ModelError, UnsupportedError
from brim.types import (
    BF16,
    BOOL,
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
    U8,
    U16,
    U32,
    U64,
    DType,
)

ELEMENTS: dict[str, DType] = {
    "FLOAT16": F16, "FLOAT32": F32, "FLOAT64": F64, "BFLOAT16": BF16,
    "INT2": I2, "INT4": I4, "INT8": I8, "INT16": I16, "INT32": I32, "INT64": I64,
    "UINT8": U8, "UINT16": U16, "UINT32": U32, "UINT64": U64,
    "BOOL": BOOL, "STRING": STR,
}  # fmt: skip


def tensor_array(raw: np.ndarray, kind: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """The content of a tensor of element type `kind` (the schema's name) from its bytes u8[n].

    Numbers are little-endian. Raises ModelError where the bytes are too few or too many.
    """
    if kind not in ELEMENTS:
        raise UnsupportedError(f"constants of type {kind} are not supported", where=where)
    dtype, count = ELEMENTS[kind], prod(shape)
    if dtype == STR:
        return _strings(raw.tobytes(), shape, where)
    wanted = -(-count * dtype.bits // 8)
    if raw.size != wanted:
        raise ModelError(f"{raw.size} bytes where {kind}{list(shape)} takes {wanted}", where=where)
    if dtype.bits < 8:
        return _unpacked(raw, dtype.bits, count).astype(dtype.numpy).reshape(shape)
    bits = np.dtype(f"<u{dtype.bytes}")
    aligned = (
        np.frombuffer(raw.tobytes(), bits) if raw.ctypes.data % dtype.bytes else raw.view(bits)
    )
    return aligned.view(dtype.numpy).reshape(shape)


def _unpacked(raw: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Signed numbers of 2 or 4 bits, several in a byte, the lowest bits first, as i8[count]."""
    up = np.arange(8 - bits, -1, -bits, dtype=np.uint8)  # each number to the top of its byte
    return ((raw[:, None] << up).view(np.int8) >> (8 - bits)).reshape(-1)[:count]


def _strings(raw: bytes, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Texts: their number, where each begins and the last ends (i32), their bytes (UTF-8)."""
    count = int.from_bytes(raw[:4], "little")
    if count != prod(shape) or len(raw) < 4 * (count + 2):
        raise ModelError(f"{count} texts do not fit shape {list(shape)}", where=where)
    cuts = np.frombuffer(raw, "<u4", count + 1, 4)
    if (np.diff(cuts.astype(np.int64)) < 0).any() or cuts[-1] > len(raw):
        raise ModelError("the texts lie outside of their bytes", where=where)
    texts = [raw[a:b].decode("utf-8", "replace") for a, b in pairwise(cuts)]
    return np.array(texts, object).reshape(shape)
