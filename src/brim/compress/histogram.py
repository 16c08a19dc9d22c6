"""A histogram of a stream of numbers in fixed memory, the same for any order of them.

Bins are [k w, (k + 1) w) for whole k and w = 2**e, so 0 is always an edge. When numbers come that
are out of reach, w doubles: pairs of bins become one, exactly as if w had been larger before. So w
is the smallest power of two that the range of all numbers seen needs, and nothing is approximate.
"""

from __future__ import annotations

import math

import numpy as np

from brim.errors import InputError

BINS = 4096  # at least half of them are between the smallest and the largest number seen
FINEST = -100  # of w = 2**e; smaller numbers count as 0
BLOCK = 1 << 15  # numbers that are counted at once: they and their bins stay in the cache


class Histogram:
    """Counts of the numbers seen. low, high: the smallest and the largest one, and 0 at least."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.total = 0
        self._exponent, self._first = FINEST, -BINS // 2
        self._counts = np.zeros(BINS, np.int64)

    def see(self, array: np.ndarray) -> None:
        """Counts the floats of an array of any shape. Raises InputError for NaN and infinity."""
        if not array.size:
            return
        low, high = extremes(array)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._cover()
        flat = array.reshape(-1)
        scale = math.ldexp(1.0, -self._exponent)
        wide = np.result_type(flat.dtype, np.float32)
        for start in range(0, flat.size, BLOCK):
            # Scaling by a power of two is exact, and so is the bin's number: BINS < 2**24.
            scaled = np.multiply(flat[start : start + BLOCK], scale, dtype=wide)
            bins = np.floor(scaled, out=scaled).astype(np.int64)
            bins -= self._first
            self._counts += np.bincount(bins, minlength=BINS)
        self.total += array.size

    @property
    def edges(self) -> np.ndarray:
        """f64[bins + 1]: ends of the bins from the first to the last one that is not empty, or that
        holds 0."""
        start, stop = self._used
        return np.ldexp(np.arange(start, stop + 1, dtype=float), self._exponent)

    def share_beyond(self, low: float, high: float) -> float:
        """The share of the numbers seen that are less than low or more than high, by their bins."""
        edges, counts = self.edges, self.counts
        middles = (edges[:-1] + edges[1:]) / 2
        beyond = counts[(middles < low) | (middles > high)].sum()
        return float(beyond) / max(self.total, 1)

    @property
    def counts(self) -> np.ndarray:
        """i64[bins]: how many numbers are in each bin."""
        start, stop = self._used
        return self._counts[start - self._first : stop - self._first].copy()

    @property
    def _used(self) -> tuple[int, int]:
        """Numbers of the first bin and of that after the last one."""
        return self._bin(self.low, self._exponent), self._bin(self.high, self._exponent) + 1

    @staticmethod
    def _bin(number: float, exponent: int) -> int:
        return math.floor(math.ldexp(number, -exponent))

    def _cover(self) -> None:
        """Makes bins wider until they reach from `low` to `high`, and moves what was counted."""
        exponent = self._exponent
        if self.high > self.low:  # about as much as is needed, and at most that
            exponent = max(exponent, math.frexp(self.high - self.low)[1] - BINS.bit_length())
        while self._bin(self.high, exponent) - self._bin(self.low, exponent) >= BINS:
            exponent += 1
        first = self._bin(self.low, exponent)
        if (exponent, first) == (self._exponent, self._first):
            return
        filled = np.flatnonzero(self._counts)
        moved = ((filled + self._first) >> (exponent - self._exponent)) - first
        counts = np.zeros(BINS, np.int64)
        np.add.at(counts, moved, self._counts[filled])
        self._exponent, self._first, self._counts = exponent, first, counts


def extremes(array: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest number. Raises InputError for NaN and infinity."""
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(
            "a value inside the network became infinite or NaN",
            hint="does the model compute finite results on this data?",
        )
    return low, high
