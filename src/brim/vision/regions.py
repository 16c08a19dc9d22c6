"""Regions of a picture that networks look at: rotated rectangles, and the affine map of each.

A network that sees `columns` x `rows` samples of a region has its own coordinates (u, v), which run
from (0, 0) to (columns, rows); the region's matrix maps them to pixels of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, pi, sin

import numpy as np


@dataclass(frozen=True)
class Region:
    """A rectangle: centre, width and height in pixels, and an angle in radians by which it is
    turned clockwise on the screen."""

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0

    def matrix(self, columns: int, rows: int) -> np.ndarray:
        """f32[2,3]: (x, y) in pixels = matrix @ (u, v, 1)."""
        across, down = cos(self.angle), sin(self.angle)
        a, b = across * self.width / columns, -down * self.height / rows
        c, d = down * self.width / columns, across * self.height / rows
        x = self.x - (a * columns + b * rows) / 2
        y = self.y - (c * columns + d * rows) / 2
        return np.array([[a, b, x], [c, d, y]], np.float32)

    def moved(self, right: float, down: float) -> Region:
        """Moved along its own sides, by shares of its width and height."""
        right, down = right * self.width, down * self.height
        x = self.x + right * cos(self.angle) - down * sin(self.angle)
        y = self.y + right * sin(self.angle) + down * cos(self.angle)
        return replace(self, x=x, y=y)

    def square(self, scale: float) -> Region:
        """A square about the same centre, `scale` times the longer side."""
        side = max(self.width, self.height) * scale
        return replace(self, width=side, height=side)

    def corners(self) -> np.ndarray:
        """f32[4,2]: upper left, upper right, lower right, lower left, in the region's own sense."""
        unit = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], np.float32)
        return unit @ self.matrix(1, 1).T


def letterbox(width: int, height: int) -> Region:
    """The smallest square about a whole picture: it is seen with its proportions, and margins."""
    side = max(width, height)
    return Region(width / 2, height / 2, side, side)


def turn(start: np.ndarray, end: np.ndarray, upright: float) -> float:
    """The angle of a region in which the direction from `start` to `end` ((x, y) each) is `upright`
    radians, counted counter-clockwise from the right: 0 to the right, pi / 2 upwards."""
    angle = upright + np.arctan2(end[1] - start[1], end[0] - start[0])
    return float((angle + pi) % (2 * pi) - pi)


def around(points: np.ndarray, angle: float) -> Region:
    """The smallest rectangle of a given angle around points f32[n, >=2]."""
    across, down = cos(angle), sin(angle)
    own = points[:, :2] @ np.array([[across, -down], [down, across]])
    low, high = own.min(0), own.max(0)
    u, v = (low + high) / 2
    width, height = (high - low).tolist()
    return Region(float(across * u - down * v), float(down * u + across * v), width, height, angle)


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Points f32[n,3] as the picture shows them, from those of a region that is turned."""
    across, down = cos(angle), sin(angle)
    turning = np.array([[across, -down, 0], [down, across, 0], [0, 0, 1]])
    return (points @ turning.T).astype(np.float32)


def overlap(a: Region, b: Region) -> float:
    """Intersection over union of the upright boxes around two regions."""
    p, q = a.corners(), b.corners()
    low, high = np.maximum(p.min(0), q.min(0)), np.minimum(p.max(0), q.max(0))
    common = float(np.prod(np.maximum(high - low, 0)))
    whole = float(np.prod(np.ptp(p, axis=0)) + np.prod(np.ptp(q, axis=0))) - common
    return common / whole if whole > 0 else 0.0
