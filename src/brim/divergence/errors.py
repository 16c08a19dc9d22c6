"""How far an array is from another one that is taken for right: figures for all tools."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from brim.runtime.artifact import difference
from brim.types import as_numbers

# Ends of the classes that `Apart.counts` has, but for the first: what is equal.
BOUNDS = tuple(10.0**power for power in range(-8, 1))


@dataclass(frozen=True)
class Apart:
    """What lies between two arrays.

    largest: largest |difference| over the largest |value|; infinite where they cannot agree. sqnr:
    dB, energy of what is right over that of the difference; infinite where nothing is off. at: the
    element that is furthest off, got and want: what it is and should be; of what is no numbers, or
    empty: None. counts: elements that are equal, then those whose difference over the largest
    |value| is below each of BOUNDS, and all others.
    """

    largest: float
    sqnr: float
    at: tuple[int, ...] | None = None
    got: float = math.nan
    want: float = math.nan
    counts: tuple[int, ...] = ()


def apart(got: np.ndarray, want: np.ndarray) -> Apart:
    """The figures of two arrays of any dtypes. NaNs and infinities at equal places agree."""
    got, want = as_numbers(np.asarray(got)), as_numbers(np.asarray(want))
    largest = difference(got, want)
    if got.shape != want.shape or not want.size or "O" in (got.dtype.kind, want.dtype.kind):
        return Apart(largest, math.inf if largest == 0 else -math.inf)
    wide = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(all="ignore"):
        equal = (got == want) | (np.isnan(wide[0]) & np.isnan(wide[1]))
        off = np.where(equal, 0.0, np.abs(wide[0] - wide[1]))  # an array, of a scalar too
    off[np.isnan(off)] = np.inf
    worst = int(off.argmax())
    top = float(np.abs(wide[1]).max(where=np.isfinite(wide[1]), initial=0.0))
    classes = np.searchsorted(BOUNDS, off[~equal] / max(top, 1e-30), side="right")
    found = np.bincount(classes, minlength=len(BOUNDS) + 1)
    noise, signal = energies(*(np.where(equal, 0.0, x)[None] for x in reversed(wide)))
    signal += float((wide[1][equal & np.isfinite(wide[1])] ** 2).sum())
    return Apart(
        largest,
        _decibel(float(signal[0]), float(noise[0])),
        tuple(int(i) for i in np.unravel_index(worst, want.shape)),
        float(wide[0].flat[worst]),
        float(wide[1].flat[worst]),
        (int(equal.sum()), *found.tolist()),
    )


def energies(wanted: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Noise and signal of each sample: sums of squares. What is equal has no noise, infinities
    too; what is NaN or infinite in one alone has an infinite one."""
    wanted, found = (each.reshape(len(each), -1).astype(float) for each in (wanted, found))
    with np.errstate(invalid="ignore"):
        off = np.where(wanted == found, 0, found - wanted)
    noise = (np.where(np.isnan(off), np.inf, off) ** 2).sum(1)
    return noise, (np.where(np.isfinite(wanted), wanted, 0) ** 2).sum(1)


def _decibel(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 and noise < math.inf else -math.inf
