"""Numbers that are hard to convert to and from the storage types. No test lives in this file."""

from __future__ import annotations

import numpy as np

from brim.types import STORAGE, DType, dtype_of

FLOATS = tuple(dtype for dtype in STORAGE if not dtype.is_whole)
WHOLE = tuple(dtype for dtype in STORAGE if dtype.is_whole)


def codes(dtype: DType) -> np.ndarray:
    """Every element that a storage type has, in the order of its bits."""
    return np.arange(1 << dtype.bits).astype(f"u{dtype.bytes}").view(dtype.numpy)


def edges(dtype: DType) -> np.ndarray:
    """f32: all numbers of a float storage type, what lies halfway between two, and just beside.

    Also what is larger than its largest and smaller than its smallest number, infinities and NaN.
    """
    with np.errstate(all="ignore"):
        known = codes(dtype).astype(np.float32).astype(np.float64)
    known = np.unique(known[np.isfinite(known)])
    known = known[:: len(known) // 1000 + 1]  # bf16 has too many
    top, tiny = np.abs(known).max(), np.abs(known[known != 0]).min()
    ends = [0.0, -0.0, tiny / 4, tiny / 3, tiny * 0.75, top * 1.01, top * 1.5, top * 2.5, 3e38]
    ends = [*ends, *(-np.array(ends)), (known[-1] - known[-2]) / 2 + known[-1]]
    with np.errstate(over="ignore"):
        middle = np.concatenate([known, (known[1:] + known[:-1]) / 2, ends]).astype(np.float32)
    beside = [np.nextafter(middle, np.float32(way)) for way in (-np.inf, np.inf)]
    special = np.array([np.inf, -np.inf, np.nan, -np.nan], np.float32)
    return np.concatenate([middle, *beside, special])


def plain(array: np.ndarray) -> np.ndarray:
    """An array of a storage type as the integers of its bits (NaN is one of them); others as is."""
    return array.view(f"u{array.itemsize}") if dtype_of(array).kind == "n" else array
