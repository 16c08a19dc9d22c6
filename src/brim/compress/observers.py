"""Observers: from the numbers that a value takes on calibration data to the range that is stored.

Each sees arrays one after another in fixed memory and gives (low, high) with low <= 0 <= high, so
that 0, which pads and ends activations, can be exact. What is outside is clipped. The best known
comparison of these methods is Wu et al. 2020, arXiv:2004.09602.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import numpy as np

from brim.compress.histogram import Histogram, extremes
from brim.errors import InputError

Range = tuple[float, float]
LEVELS = 256  # of 8 bits


class Observer(Protocol):
    """What watches one value. `see` takes floats of any shape and raises InputError for NaN and
    infinity; `range` raises it if nothing was seen."""

    def see(self, array: np.ndarray) -> None: ...

    def range(self) -> Range: ...


class MinMax:
    """From the smallest to the largest number seen: nothing is clipped."""

    def __init__(self) -> None:
        self._low, self._high, self._seen = 0.0, 0.0, False

    def see(self, array: np.ndarray) -> None:
        if array.size:
            low, high = extremes(array)
            self._low, self._high = min(self._low, low), max(self._high, high)
            self._seen = True

    def range(self) -> Range:
        _check_seen(self._seen)
        return self._low, self._high


class MovingAverage:
    """The mean of the arrays' smallest and largest numbers; after 1 / (1 - momentum) arrays, the
    later ones count more: an exponential average (Jacob et al. 2018, arXiv:1712.05877)."""

    def __init__(self, momentum: float = 0.99) -> None:
        self._rate, self._arrays = 1 - momentum, 0
        self._low = self._high = 0.0

    def see(self, array: np.ndarray) -> None:
        if array.size:
            self._arrays += 1
            # Starting as the plain mean, the average is not bound to the first array.
            rate = max(self._rate, 1 / self._arrays)
            low, high = extremes(array)
            self._low += rate * (low - self._low)
            self._high += rate * (high - self._high)

    def range(self) -> Range:
        _check_seen(self._arrays > 0)
        return min(self._low, 0.0), max(self._high, 0.0)


class _Counting(ABC):
    """Sees by counting. histogram: what was seen."""

    def __init__(self) -> None:
        self.histogram = Histogram()

    def see(self, array: np.ndarray) -> None:
        self.histogram.see(array)

    def range(self) -> Range:
        _check_seen(self.histogram.total > 0)
        low, high = self._range(self.histogram)
        # Edges of bins may be beyond what was seen.
        return max(low, self.histogram.low), min(high, self.histogram.high)

    @abstractmethod
    def _range(self, seen: Histogram) -> Range: ...


class Percentile(_Counting):
    """Clips a fixed part of the numbers, the same at both ends (McKinstry et al. 2018,
    arXiv:1809.04191). percent: of the numbers that stay."""

    def __init__(self, percent: float = 99.99) -> None:
        super().__init__()
        self._clipped = (1 - percent / 100) / 2  # at each end

    def _range(self, seen: Histogram) -> Range:
        below = np.concatenate([[0], np.cumsum(seen.counts)])
        ends = [self._clipped * seen.total, (1 - self._clipped) * seen.total]
        low, high = np.interp(ends, below, seen.edges)
        return min(float(low), 0.0), max(float(high), 0.0)


class Entropy(_Counting):
    """The clipping whose distribution differs least from that of the numbers, by the divergence of
    Kullback and Leibler (Migacz 2017, "8-bit inference with TensorRT").

    What is tried: all [-t, t], cut to what was seen. The distribution that stays has all that was
    clipped in its outermost bins; that of the levels is spread evenly over the bins that each level
    stands for, those that are empty left out. The bin of 0 counts as its neighbour does: where relu
    puts half of all numbers, the rest would not matter, and 0 is exact anyway.
    """

    STEPS = 128  # of t
    LEAST = 1e-6  # share of a bin that holds clipped numbers only: with 0, one would forbid a range

    def __init__(self, levels: int = LEVELS) -> None:
        super().__init__()
        self._levels = levels

    def _range(self, seen: Histogram) -> Range:
        counts, edges = seen.counts.astype(float), seen.edges
        zero = int(np.searchsorted(edges, 0.0))
        if len(counts) - zero > 1:
            counts[zero] = counts[zero + 1]
        reach = max(zero, len(counts) - zero)  # bins on either side of 0
        best, found = np.inf, (edges[0], edges[-1])
        for t in np.unique(np.linspace(0, reach, self.STEPS + 1).astype(int))[1:]:
            start, stop = max(zero - t, 0), min(zero + t, len(counts))
            if stop - start < self._levels and t < reach:
                continue
            divergence = self._divergence(counts, start, stop)
            if divergence < best:
                best, found = divergence, (edges[start], edges[stop])
        return float(found[0]), float(found[1])

    def _divergence(self, counts: np.ndarray, start: int, stop: int) -> float:
        inside = counts[start:stop]
        kept = inside.copy()
        kept[0] += counts[:start].sum()
        kept[-1] += counts[stop:].sum()
        levels = min(self._levels, len(inside))
        firsts = np.arange(levels) * len(inside) // levels
        sums = np.add.reduceat(inside, firsts)
        filled = np.add.reduceat((inside > 0).astype(float), firsts)
        sizes = np.diff(firsts, append=len(inside))
        spread = np.repeat(sums / np.maximum(filled, 1), sizes) * (inside > 0)
        if not spread.any():
            return np.inf
        some = kept > 0
        share = kept[some] / kept.sum()
        said = np.maximum(spread[some] / spread.sum(), self.LEAST)
        return float((share * np.log(share / said)).sum())


class MeanSquare(_Counting):
    """The range whose levels have the least mean square error, clipping included (Banner et al.
    2019, arXiv:1810.05723, who assume a distribution; here it is that of the numbers seen).

    Ends are moved, together and in turn, until no step helps: over all of their way in steps of
    1 / COARSE, then in steps of 1 / FINE near what that found.
    """

    COARSE, FINE = 32, 256

    def __init__(self, levels: int = LEVELS) -> None:
        super().__init__()
        self._levels = levels

    def _range(self, seen: Histogram) -> Range:
        some = seen.counts > 0
        centres = (seen.edges[1:] + seen.edges[:-1])[some] / 2
        numbers, counts = np.clip(centres, seen.low, seen.high), seen.counts[some].astype(float)
        ends = np.array([seen.low, seen.high])

        def error(parts: np.ndarray) -> float:
            low, high = ends * parts
            return _square_error(numbers, counts, low, high, self._levels)

        directions = np.array([[1, 1], [1, 0], [0, 1]]) if ends.all() else np.array([[1, 1]])
        parts = np.ones(2)  # of the ends
        best = error(parts)
        for steps, reach in ((self.COARSE, self.COARSE), (self.FINE, self.FINE // self.COARSE)):
            moved = True
            while moved:
                moved = False
                for direction in directions:
                    for trial in parts + direction * np.arange(-reach, reach + 1)[:, None] / steps:
                        if trial.min() > 0 and trial.max() <= 1 and (now := error(trial)) < best:
                            best, parts, moved = now, trial, True
        low, high = ends * parts
        return float(low), float(high)


OBSERVERS: dict[str, Callable[[], Observer]] = {
    "min_max": MinMax,
    "moving_average": MovingAverage,
    "percentile": Percentile,
    "entropy": Entropy,
    "mse": MeanSquare,
}


def _square_error(
    numbers: np.ndarray, counts: np.ndarray, low: float, high: float, levels: int
) -> float:
    """Of levels from `low` to `high`, of which one is 0, summed over the numbers."""
    step = (high - low) / (levels - 1)
    if not step:
        return float((counts * numbers**2).sum())
    zero = round(-low / step)
    found = np.clip(np.rint(numbers / step), -zero, levels - 1 - zero) * step
    return float((counts * (found - numbers) ** 2).sum())


def _check_seen(seen: bool) -> None:
    if not seen:
        raise InputError("an observer was asked for a range before it saw a number")
