"""What a hand shows, from its 21 points by geometry alone.

A finger is stretched when its joints lie on a line: its length from the first joint to the tip,
over the way along its bones, is 1 for a straight finger and about 0.4 for one in a fist.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Gesture = Literal["open", "fist", "point", "victory", "thumbs_up", "ok", ""]

STRETCHED, BENT = 0.9, 0.7
NEAR = 0.35  # of the palm's length: two tips that touch
UPWARDS = 0.7  # cosine of the angle between the thumb and upwards in the picture


def gesture(world: np.ndarray, pixels: np.ndarray) -> Gesture:
    """What is shown, "" for nothing of these, from points f32[21,3] in metres and in pixels."""
    straight = [straightness(world[n : n + 4]) for n in (1, 5, 9, 13, 17)]
    fingers = [value > STRETCHED for value in straight[1:]]
    bent = [value < BENT for value in straight[1:]]
    palm = _distance(world[0], world[9])
    thumb = straight[0] > STRETCHED and _distance(world[4], world[5]) > NEAR * palm
    touching = _distance(world[4], world[8]) < NEAR * palm
    if touching and all(fingers[1:]):
        return "ok"
    if thumb and all(fingers):
        return "open"
    if all(bent):
        return "thumbs_up" if thumb and _points_up(pixels) else "fist"
    if fingers[0] and all(bent[1:]):
        return "point"
    if all(fingers[:2]) and all(bent[2:]):
        return "victory"
    return ""


def straightness(joints: np.ndarray) -> float:
    """The distance from the first to the last of the points f32[n,3], over the way along them."""
    way = float(np.linalg.norm(np.diff(joints, axis=0), axis=1).sum())
    return _distance(joints[0], joints[-1]) / max(way, 1e-9)


def _points_up(pixels: np.ndarray) -> bool:
    """Whether the thumb points upwards in the picture, and lies above all other fingers."""
    x, y = (pixels[4] - pixels[2])[:2]
    up = -float(y) / max(float(np.hypot(x, y)), 1e-9)
    return up > UPWARDS and bool(pixels[4, 1] < pixels[5:, 1].min())


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b))
