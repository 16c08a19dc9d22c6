"""Boxes of text set upright, in the order in which people read them, and cut out of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from math import atan2, cos, sin

import numpy as np


def in_reading_order(boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Boxes f64[4,2] row by row from the top, each row from the left. The page may be skewed: rows
    run along the median direction of the boxes."""
    if not boxes:
        return []
    # The median of the directions' parts, not of their angles: those jump between pi and -pi.
    x, y = np.median([(box[1] - box[0]) / np.linalg.norm(box[1] - box[0]) for box in boxes], axis=0)
    skew = atan2(y, x)
    x_axis, y_axis = np.array([cos(skew), sin(skew)]), np.array([-sin(skew), cos(skew)])
    rows: list[list[np.ndarray]] = []
    for box in sorted(boxes, key=lambda box: float(box.mean(0) @ y_axis)):
        # A box belongs to the row whose last box's middle it covers.
        height = float(np.linalg.norm(box[3] - box[0]))
        if rows and abs(float((rows[-1][-1].mean(0) - box.mean(0)) @ y_axis)) < height / 2:
            rows[-1].append(box)
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row, key=lambda box: float(box[0] @ x_axis))]


def upright(box: np.ndarray) -> np.ndarray:
    """The corners f64[4,2] in the text's order: a box that is clearly higher than wide holds text
    that runs from the bottom to the top."""
    width, height = (np.linalg.norm(box[i] - box[0]) for i in (1, 3))
    return np.roll(box, 1, axis=0) if height >= 1.5 * width else box


def crop_box(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cuts the (nearly) rectangular box f64[4,2] out of u8[height, width, 3], its first corner at
    the top left of the result, as many pixels wide and high as the box's sides are long."""
    from PIL import Image

    corners = np.clip(box, 0, image.shape[1::-1])
    columns, rows = (max(round(float(np.linalg.norm(corners[i] - corners[0]))), 1) for i in (1, 3))
    right, down = (corners[1] - corners[0]) / columns, (corners[3] - corners[0]) / rows
    x, y = corners[0]
    cut = Image.fromarray(image).transform(
        (columns, rows),
        Image.Transform.AFFINE,
        (right[0], down[0], x, right[1], down[1], y),
        Image.Resampling.BICUBIC,
    )
    return np.asarray(cut)
