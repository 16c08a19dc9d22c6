"""One value in two forms: passes turn axes, drop those of length 1, and store codes for numbers.

An array is brought into the form of the one that it is compared with, and it is said how. Nothing
is invented: axes are permuted, and codes are read by the line through them that fits best.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from brim.types import as_numbers

CLOSE = 1e-3  # of `_unlike`; two layouts that are this near are of one value
MOST_AXES = 6  # longer than 1; networks have no more, and their orders would be too many
FEWEST = 16  # codes of a channel that its own line is fitted through; fewer would always fit

Form = tuple[np.ndarray, np.ndarray, str]


def arranged(got: np.ndarray, want: np.ndarray) -> Form | None:
    """Both arrays as numbers of one shape, that of `want`, and what was done: "", "axes 2 0 1" (of
    those that are longer than 1), "reshaped"; "codes" if 8-bit integers on one side were read as
    the numbers that they stand for, and the shape is that of the other side.

    Of several orders of the axes that fit, the one whose numbers do. A line is fitted for every
    channel (the last axis), which compression scales apart, and leaves out what is clipped. None
    where the two cannot be of one value: other numbers of elements, text, sums in integers.
    """
    if got.dtype == object or want.dtype == object:
        return (got, want, "") if got.dtype == want.dtype and got.shape == want.shape else None
    got, want = as_numbers(got), as_numbers(want)
    kinds = {got.dtype.kind, want.dtype.kind}
    codes = kinds in ({"f", "u"}, {"f", "i"})
    if got.size != want.size or (codes and min(got.itemsize, want.itemsize) > 1):
        return None
    if codes and got.dtype.kind == "f":
        turned = arranged(want, got)
        return turned and (turned[1], turned[0], turned[2])
    best: tuple[float, Form] | None = None
    for moved, axes, channels in _orders(got, want.shape):
        read = _read(moved, want, channels) if codes else moved
        off = _unlike(read, want)
        if best is None or off < best[0]:
            best = off, (read, want, " ".join(filter(None, (axes, "codes" * codes))))
        if off <= CLOSE:
            break
    return best and best[1]


def _unlike(got: np.ndarray, want: np.ndarray) -> float:
    """Mean difference over mean value, an element counting 1 at most: a few that are wrong do not
    make the order of axes doubtful."""
    with np.errstate(all="ignore"):
        wide = want.astype(np.float64)
        off = np.asarray(np.abs(got.astype(np.float64) - wide))
        off[got == want] = 0  # infinities, too
        scale = float(np.abs(wide).mean(where=np.isfinite(wide))) if np.isfinite(wide).any() else 1
    off[np.isnan(off) & np.isnan(wide)] = 0
    return float(np.minimum(np.nan_to_num(off, nan=np.inf) / max(scale, 1e-30), 1).mean())


def _orders(
    got: np.ndarray, wanted: tuple[int, ...]
) -> Iterator[tuple[np.ndarray, str, int | None]]:
    """`got` in the wanted shape, in every way that keeps whole axes; how, and which axis its last
    one became. If no way does, its elements in their order."""
    long = [axis for axis, n in enumerate(got.shape) if n != 1]
    goal = [axis for axis, n in enumerate(wanted) if n != 1]
    dims = [got.shape[axis] for axis in long]
    channels = goal[-1] if goal and got.shape[-1] != 1 else None
    if got.shape == wanted:
        yield got, "", channels
    if len(long) > MOST_AXES or sorted(dims) != sorted(wanted[axis] for axis in goal):
        if got.shape != wanted:
            yield got.reshape(wanted), "reshaped", channels
        return
    squeezed = got.reshape(dims)
    for order in permutations(range(len(long))):
        kept = list(order) == sorted(order)
        if [dims[i] for i in order] != [wanted[axis] for axis in goal]:
            continue
        if kept and got.shape == wanted:
            continue  # was the first
        at = goal[order.index(len(long) - 1)] if channels is not None else None
        how = "reshaped" if kept else f"axes {' '.join(str(long[i]) for i in order)}"
        yield squeezed.transpose(order).reshape(wanted), how, at


def _read(codes: np.ndarray, numbers: np.ndarray, channels: int | None) -> np.ndarray:
    """f64: what codes stand for, by the lines that bring them nearest to the numbers."""
    x, y = codes.astype(np.float64), numbers.astype(np.float64)
    limits = np.iinfo(codes.dtype)
    inner = ((codes > limits.min) & (codes < limits.max) & np.isfinite(y)).astype(np.float64)
    axes = tuple(range(codes.ndim))
    if channels is not None and codes.size // codes.shape[channels] >= FEWEST:
        whole = _line(x, y, inner, axes)
        slope, start = _line(x, y, inner, tuple(axis for axis in axes if axis != channels), whole)
    else:
        slope, start = _line(x, y, inner, axes)
    return np.asarray(slope * x + start, np.float64)


def _line(
    x: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    axes: tuple[int, ...],
    default: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Slope and start of y over x along the axes, by least squares; `default` where x has too few
    values."""
    y = np.where(weight > 0, y, 0.0)  # infinities have no weight, but would be NaN
    count = np.maximum(weight.sum(axes, keepdims=True), 1.0)
    middle = (weight * x).sum(axes, keepdims=True) / count
    mean = (weight * y).sum(axes, keepdims=True) / count
    spread = (weight * (x - middle) ** 2).sum(axes, keepdims=True)
    with np.errstate(all="ignore"):
        slope = (weight * (x - middle) * (y - mean)).sum(axes, keepdims=True) / spread
    enough = (spread > 0) & (count >= FEWEST)
    if default is None:
        return np.where(spread > 0, slope, 0.0), mean - np.where(spread > 0, slope * middle, 0.0)
    slope = np.where(enough, slope, default[0])
    return slope, np.where(enough, mean - slope * middle, default[1])
