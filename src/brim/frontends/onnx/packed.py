"""Elements of storage types as ONNX files hold them: bits, several to a byte below 8 bits.

Where the bytes come from is in `tensors` and `tensor_source`.
"""

from __future__ import annotations

import math

import numpy as np

from brim.types import DType


def packed_bytes(dtype: DType, shape: tuple[int, ...]) -> int:
    """How many bytes a file needs for a tensor; the last one may have bits to spare."""
    count = math.prod(shape)
    return (count * dtype.bits + 7) // 8 if dtype.kind == "n" else count * dtype.bytes


def from_bytes(raw: bytes | np.ndarray, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of a storage type from its `packed_bytes`, little endian."""
    little = np.frombuffer(raw, f"<u{dtype.bytes}")
    return from_bits(little.astype(f"u{dtype.bytes}"), dtype, shape)


def from_bits(bits: np.ndarray, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor from unsigned integers of 8 or 16 bits.

    Below 8 bits each holds several elements, the first in its lowest bits.
    """
    if dtype.bits < 8:
        places = np.arange(0, 8, dtype.bits).astype(np.uint8)
        several = (bits[:, None] >> places) & np.uint8((1 << dtype.bits) - 1)
        bits = np.ascontiguousarray(several.reshape(-1)[: math.prod(shape)])
    return bits.view(dtype.numpy).reshape(shape)
