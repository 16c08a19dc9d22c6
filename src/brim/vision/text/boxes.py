"""Where text is: boxes from the detector's probability map.

The map is that of a differentiable binarization (https://arxiv.org/abs/1911.08947): neighbouring
likely pixels form a spot, a spot becomes its smallest rectangle, and that grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

# What the detector was trained with.
PIXEL_THRESHOLD = 0.3
BOX_THRESHOLD = 0.5
UNCLIP_RATIO = 1.6

SMALLEST_SIDE = 3  # pixels; a smaller spot in the probability map is noise
MOST_BOXES = 1000


@dataclass(frozen=True)
class Rectangle:
    """A rotated rectangle: centre (x, y), half of width and height, angle in radians (clockwise on
    the screen, within a quarter of pi of the x axis)."""

    centre: tuple[float, float]
    half: tuple[float, float]
    angle: float

    def corners(self) -> np.ndarray:
        """f64[4,2], (x, y) of top left, top right, bottom right, bottom left."""
        along = np.array([cos(self.angle), sin(self.angle)]) * self.half[0]
        down = np.array([-sin(self.angle), cos(self.angle)]) * self.half[1]
        return np.array(self.centre) + np.array(
            [-along - down, along - down, along + down, down - along]
        )


def find_boxes(probability: np.ndarray) -> list[Rectangle]:
    """The rectangles of text in a probability map f32[height, width], in pixels of the map.

    Neighbouring likely pixels form a spot, a spot becomes its smallest rectangle, and that grows,
    because the detector is trained to mark the core of a line only.
    """
    mask = probability > PIXEL_THRESHOLD
    # A 2x2 dilation closes the one-pixel gaps between letters.
    mask[1:] |= mask[:-1].copy()
    mask[:, 1:] |= mask[:, :-1].copy()
    found = []
    for points in spots(mask)[:MOST_BOXES]:
        core = smallest_rectangle(points)
        if 2 * min(core.half) < SMALLEST_SIDE or _mean_within(probability, core) < BOX_THRESHOLD:
            continue
        width, height = 2 * core.half[0], 2 * core.half[1]
        grow = width * height * UNCLIP_RATIO / (2 * (width + height))
        half = (core.half[0] + grow, core.half[1] + grow)
        found.append(Rectangle(core.centre, half, core.angle))
    return found


def spots(mask: np.ndarray) -> list[np.ndarray]:
    """The 8-connected spots of a bool[height, width] as i64[n, 2] arrays of (x, y): the first and
    the last pixel of each of the spot's runs, which hold its outline."""
    row, first, last, label = _labelled_runs(mask)
    order = np.argsort(label, kind="stable")
    cuts = np.flatnonzero(np.diff(label[order])) + 1
    return [
        np.concatenate([np.stack([x[part], row[part]], 1) for x in (first, last)])
        for part in (np.split(order, cuts) if len(order) else [])
    ]


def _labelled_runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Horizontal runs of true pixels: row, first column, last column, label of the spot."""
    height, width = mask.shape
    stride = width + 2  # one false pixel on either side: no run goes around the end of a row
    flat = np.zeros((height, stride), np.int8)
    flat[:, 1:-1] = mask
    edges = np.diff(flat.reshape(-1), prepend=np.int8(0))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    # Runs are sorted, so those of the row above that touch a run (diagonally too) are a range.
    low = np.searchsorted(ends, starts - stride, side="left")
    high = np.searchsorted(starts, ends - stride, side="right")
    count = np.maximum(high - low, 0)
    lower = np.repeat(np.arange(len(starts)), count)
    upper = np.repeat(low - (np.cumsum(count) - count), count) + np.arange(count.sum())
    label = _connected(len(starts), lower, upper)
    return starts // stride, starts % stride - 1, ends % stride - 2, label


def _connected(count: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """For nodes 0..count-1 joined by pairs (a[i], b[i]): the smallest node of each one's component.

    Roots are hooked to smaller roots and paths are halved, both for all nodes at once, which ends
    after about log2(count) rounds (Shiloach and Vishkin, 1982).
    """
    label = np.arange(count)
    while True:
        root_a, root_b = label[a], label[b]
        if np.array_equal(root_a, root_b):
            return label
        low = np.minimum(root_a, root_b)
        np.minimum.at(label, root_a, low)
        np.minimum.at(label, root_b, low)
        while not np.array_equal(label[label], label):
            label = label[label]


def smallest_rectangle(points: np.ndarray) -> Rectangle:
    """The rectangle of least area around i64[n, 2] points (x, y). One of its sides lies on a side
    of the convex hull, so it is enough to try those directions."""
    hull = _convex_hull(points).astype(np.float64)
    sides = np.roll(hull, -1, axis=0) - hull
    angles = np.arctan2(sides[:, 1], sides[:, 0])
    angles = np.unique((angles + pi / 4) % (pi / 2) - pi / 4)
    along = np.stack([np.cos(angles), np.sin(angles)], 1)
    down = np.stack([-np.sin(angles), np.cos(angles)], 1)
    x, y = hull @ along.T, hull @ down.T
    best = int(np.argmin(np.ptp(x, axis=0) * np.ptp(y, axis=0)))
    x, y = x[:, best], y[:, best]
    middle = (x.min() + x.max()) / 2 * along[best] + (y.min() + y.max()) / 2 * down[best]
    return Rectangle(
        (float(middle[0]), float(middle[1])),
        (float(np.ptp(x)) / 2, float(np.ptp(y)) / 2),
        float(angles[best]),
    )


def _convex_hull(points: np.ndarray) -> np.ndarray:
    """The corners of the convex hull in order (Andrew's monotone chain)."""
    ordered = [(int(x), int(y)) for x, y in np.unique(points, axis=0)]
    if len(ordered) < 3:
        return np.array(ordered)

    def half(sequence: list[tuple[int, int]]) -> list[tuple[int, int]]:
        chain: list[tuple[int, int]] = []
        for x, y in sequence:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (y - ay) > (by - ay) * (x - ax):
                    break
                chain.pop()
            chain.append((x, y))
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))


def _mean_within(probability: np.ndarray, rectangle: Rectangle) -> float:
    """Mean probability of the pixels in a rectangle."""
    height, width = probability.shape
    corners = rectangle.corners()
    left, top = np.clip(np.floor(corners.min(0)).astype(int), 0, (width - 1, height - 1))
    right, bottom = np.clip(np.ceil(corners.max(0)).astype(int), 0, (width - 1, height - 1))
    x = np.arange(left, right + 1)[None, :] - rectangle.centre[0]
    y = np.arange(top, bottom + 1)[:, None] - rectangle.centre[1]
    across, downward = cos(rectangle.angle), sin(rectangle.angle)
    inside = (np.abs(x * across + y * downward) <= rectangle.half[0] + 0.5) & (
        np.abs(y * across - x * downward) <= rectangle.half[1] + 0.5
    )
    return float(probability[top : bottom + 1, left : right + 1][inside].mean())
