"""What follows from the 468 points of a face by geometry alone: how the head is turned, and what
eyes and mouth do.

The points are f32[468,3] in pixels, x to the right, y downwards, z away from the camera, as a
camera far away would see them. No network judges an expression here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import asin, atan2, degrees

import numpy as np

from brim.vision import face_points as at

# Mouths of talking people are up to 0.59 distances of the outer corners of the eyes wide, and their
# corners up to 0.03 of those above the lips' middle; broad smiles reach 0.7 and 0.09.
SMILE_WIDTH = (0.58, 0.70)
SMILE_LIFT = (0.01, 0.08)


@dataclass(frozen=True)
class HeadPose:
    """Degrees; all about 0 for a face that looks into the camera. yaw: turned to the person's left
    is positive; pitch: upwards is positive (0 where the forehead and the nose's base are equally
    far away, so people differ by some degrees); roll: towards the right shoulder is positive."""

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True)
class Expression:
    """right_eye, left_eye: height of the opening over its width (0: closed; about 0.3: open; the
    eye aspect ratio of Soukupova and Cech, 2016). mouth: height of the opening over its width (0:
    closed). smile: 0..1, from how wide the mouth is and how high its corners lie."""

    right_eye: float
    left_eye: float
    mouth: float
    smile: float


def head_pose(points: np.ndarray) -> HeadPose:
    """Of two lines across the skull that no expression moves: from temple to temple, and from the
    forehead to where the nose ends."""
    right, left = points[at.TEMPLES[0]], points[at.TEMPLES[1]]
    across = _unit((left - right).astype(np.float64))
    down = (points[at.NOSE_BASE] - points[at.FOREHEAD]).astype(np.float64)
    down = _unit(down - across * (down @ across))
    ahead = np.cross(down, across)  # out of the face, towards the camera: z is negative
    yaw = degrees(atan2(ahead[0], -ahead[2]))
    pitch = degrees(asin(np.clip(-ahead[1], -1, 1)))
    roll = degrees(atan2(across[1], across[0]))
    return HeadPose(yaw, pitch, -roll)


def expression(points: np.ndarray) -> Expression:
    """All in three dimensions, so that a face seen from the side gives the same."""
    right, left = at.RIGHT_EYE, at.LEFT_EYE
    apart = _distance(points, right[0], left[0])
    wide = _distance(points, at.OUTER_LIPS[0], at.OUTER_LIPS[10]) / max(apart, 1e-9)
    corners = (points[at.OUTER_LIPS[0]] + points[at.OUTER_LIPS[10]]) / 2
    middle = (points[at.INNER_LIPS[5]] + points[at.INNER_LIPS[15]]) / 2
    down = _unit(points[at.NOSE_BASE] - points[at.FOREHEAD])
    lift = float((middle - corners) @ down) / max(apart, 1e-9)
    smile = _ramp(wide, *SMILE_WIDTH) * _ramp(lift, *SMILE_LIFT)
    lips = [at.INNER_LIPS[n] for n in (0, 5, 10, 15)]
    mouth = _distance(points, lips[1], lips[3]) / max(_distance(points, lips[0], lips[2]), 1e-9)
    return Expression(_eye(points, right), _eye(points, left), mouth, smile)


def _eye(points: np.ndarray, ring: tuple[int, ...]) -> float:
    """The mean of two heights, at a third and two thirds of the eye, over its width."""
    heights = [_distance(points, ring[lower], ring[-1 - lower]) for lower in (3, 5)]
    return sum(heights) / 2 / max(_distance(points, ring[0], ring[8]), 1e-9)


def _distance(points: np.ndarray, a: int, b: int) -> float:
    return float(np.linalg.norm(points[a] - points[b]))


def _ramp(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
