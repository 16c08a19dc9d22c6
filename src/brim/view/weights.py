"""What a page tells of weights: their range, how many are zero, how they are distributed."""

from __future__ import annotations

import numpy as np

from brim.figures import printable
from brim.origins import Identity, identity
from brim.types import as_numbers, type_of
from brim.view.document import Weight

BINS = 48
FEW = 16  # elements that are told one by one
MOST = 1 << 21  # elements that are counted; of larger weights every second, third, ...


class Weights:
    """The weights of all stages, each once: what a pass leaves alone keeps its number."""

    def __init__(self) -> None:
        self.found: list[Weight] = []
        self._numbers: dict[Identity, int] = {}
        self._kept: list[np.ndarray] = []  # so that no later array has the address of one of these

    def number(self, array: np.ndarray, name: str) -> int:
        """The number of an array; the first name that it is given stays."""
        key = identity(array)
        if key not in self._numbers:
            self._numbers[key] = len(self.found)
            self._kept.append(array)
            self.found.append(describe(array, name))
        return self._numbers[key]


def describe(array: np.ndarray, name: str) -> Weight:
    """A weight of any type: of text and containers only what it is."""
    type, name = str(type_of(array)), printable(name)
    if array.dtype == object:
        texts = tuple(printable(str(x))[:80] for x in array.reshape(-1)[:FEW])
        return Weight(name, type, array.nbytes, values=texts if array.size <= FEW else None)
    every = -(-array.size // MOST) or 1
    numbers = as_numbers(array).reshape(-1)
    values = tuple(f"{x:.6g}" for x in numbers.tolist()) if array.size <= FEW else None
    extremes = _finite(numbers)
    if not extremes.size:
        return Weight(name, type, array.nbytes, values=values)
    low, high = float(extremes.min()), float(extremes.max())
    part = _finite(numbers[::every]).astype(np.float64)
    return Weight(
        name,
        type,
        array.nbytes,
        _rounded(low),
        _rounded(high),
        _rounded(part.mean()) if part.size else None,
        _rounded((part == 0).mean()) if part.size else None,
        _counts(part, low, high) if array.size > FEW else None,
        values,
        every > 1,
    )


def _rounded(x: float) -> float:
    return float(f"{x:.6g}")


def _finite(numbers: np.ndarray) -> np.ndarray:
    return numbers[np.isfinite(numbers)] if numbers.dtype.kind == "f" else numbers


def _counts(numbers: np.ndarray, low: float, high: float) -> tuple[int, ...]:
    """How many numbers lie in each of BINS equal bins from low to high."""
    width = (high - low) / BINS
    if not 0 < width < np.inf:
        return (int(numbers.size),)
    places = np.clip((numbers - low) / width, 0, BINS - 1).astype(np.int64)
    return tuple(np.bincount(places, minlength=BINS).tolist())
