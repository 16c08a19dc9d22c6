"""The One-Euro filter: still points stop trembling, fast ones are not held back.

G. Casiez, N. Roussel, D. Vogel: 1€ Filter, a simple speed-based low-pass filter for noisy input in
interactive systems, CHI 2012. A low-pass filter whose cutoff grows with the speed of what it
filters; here the speed is that of a point, not of each coordinate, so no direction is preferred.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np


@dataclass(frozen=True)
class Strength:
    """cutoff: Hz, for points that do not move; gain: Hz more for each size of the thing and second
    of speed; speed_cutoff: Hz, for the speed itself."""

    cutoff: float
    gain: float
    speed_cutoff: float = 1.0


class OneEuro:
    """The filter of one thing's points f32[n,d]; it remembers the frame before."""

    def __init__(self, strength: Strength) -> None:
        self._strength = strength
        self._seconds = 0.0
        self._points: np.ndarray | None = None
        self._speed = np.zeros(0)

    def __call__(self, points: np.ndarray, seconds: float, size: float) -> np.ndarray:
        """The points of a frame at `seconds`, smoothed. size: of the thing, in units of the points:
        the same movement of a thing that is seen smaller is smoothed as much. A frame that is not
        later than the last is taken as it is."""
        points = points.astype(np.float64)
        past = seconds - self._seconds
        if self._points is None or past <= 0:
            self._speed = np.zeros_like(points)
            smooth = points
        else:
            speed = (points - self._points) / past / max(size, 1e-6)
            share = _share(self._strength.speed_cutoff, past)
            self._speed = self._speed + share * (speed - self._speed)
            fast = np.linalg.norm(self._speed, axis=1, keepdims=True)
            share = _share(self._strength.cutoff + self._strength.gain * fast, past)
            smooth = self._points + share * (points - self._points)
        self._points, self._seconds = smooth, seconds
        return smooth.astype(np.float32)


def _share(cutoff: np.ndarray | float, past: float) -> np.ndarray | float:
    """Of the new value, in a first-order low-pass filter with that cutoff, after `past` seconds."""
    angle = 2 * pi * cutoff * past
    return angle / (angle + 1)
