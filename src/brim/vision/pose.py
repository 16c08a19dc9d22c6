"""Bodies: 33 points of each, in the picture and in metres, and which pixels the person covers.

BlazePose: https://arxiv.org/abs/2006.10204; the points in metres: https://arxiv.org/abs/2206.11678.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np

from brim.graph import Value
from brim.ops import math, primitive
from brim.vision.detector import Anchors, Detector
from brim.vision.kit import Mode
from brim.vision.masks import on_picture
from brim.vision.programs import Network
from brim.vision.regions import Region, turn, turned
from brim.vision.results import Found, Landmarks, Results, Size, Skeleton, freeze
from brim.vision.sampling import Sampling
from brim.vision.smoothing import Strength
from brim.vision.tracking import Sight, TrackingKit

SIDE = 256  # samples of the region
HEAT_SIDE = 64
HEAT_REACH = 3  # cells about a point in which the heat map may move it
LEAST_HEAT = 0.5
LEAST_PRESENCE = 0.7  # below are fish and lamp posts; people have 0.88 and more
MARGIN = 1.25
HIPS, REACH = 33, 34  # two more points: the middle of the hips, and how far the body reaches

SKELETON = Skeleton(
    (
        "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
        "right_eye_outer", "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder",
        "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky",
        "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_hip",
        "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel",
        "right_heel", "left_foot_index", "right_foot_index",
    ),
    (
        (0, 1), (1, 2), (2, 3), (3, 7), (0, 4), (4, 5), (5, 6), (6, 8), (9, 10), (11, 12),
        (11, 13), (13, 15), (15, 17), (15, 19), (15, 21), (17, 19), (12, 14), (14, 16), (16, 18),
        (16, 20), (16, 22), (18, 20), (11, 23), (12, 24), (23, 24), (23, 25), (24, 26), (25, 27),
        (26, 28), (27, 29), (28, 30), (29, 31), (30, 32), (27, 31), (28, 32),
    ),
)  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class DetectedPose(Found):
    """A person. score: the probability that it is one; landmarks: 33 points with their visibility;
    presence: f32[33], the probability that a point lies in the picture at all; world: f32[33,3],
    the points in metres about the middle of the hips, x to the right, y down, z away from the
    camera; mask: None unless asked for."""

    landmarks: Landmarks
    presence: np.ndarray
    world: np.ndarray

    def __post_init__(self) -> None:
        super().__post_init__()
        freeze(self.presence, self.world)


class Poses(Results[DetectedPose]):
    """The people of a picture, the surest first."""


class Pose(TrackingKit[Poses]):
    """Finds people, 33 points of each body, and with `mask` the pixels that they cover.

    The networks are fetched and compiled when the kit is made; see `Kit` for threads and modes.
    """

    STRENGTH = Strength(cutoff=0.5, gain=10.0)

    def __init__(
        self, *, threads: int | None = None, mode: Mode = "image", mask: bool = False
    ) -> None:
        super().__init__(threads=threads, mode=mode)
        self._mask = mask
        seen = Sampling(224, 224, -1.0, 1.0, "zero")
        anchors = Anchors(224, ((8, 2), (16, 2), (32, 6)))
        self._detector = Detector("pose-detect", seen, anchors, threads)
        seen = Sampling(SIDE, SIDE, 0.0, 1.0, "zero")
        decode = _with_mask if mask else _without_mask
        self._landmarks = Network("pose-landmarks", seen, decode, threads)

    def _search(self, pixels: np.ndarray) -> list[Region]:
        return [
            _region(detection.points[0], detection.points[1])
            for detection in self._detector(pixels)
        ]

    def _look(self, pixels: np.ndarray, region: Region) -> Sight | None:
        found = self._landmarks(pixels, region)
        score = float(found["presence"])
        if score < LEAST_PRESENCE:
            return None
        points = refined(found["points"], found["heat"])
        points = self._landmarks.pixels(points, region)
        count = len(SKELETON.names)
        shown = found["shown"][:count]
        more = [shown[:, 0], shown[:, 1]]
        if self._mask:
            more.append(on_picture(found["mask"], region, pixels.shape[1], pixels.shape[0]))
        following = _region(points[HIPS, :2], points[REACH, :2])
        world = turned(found["world"][:count], region.angle)
        return Sight(score, points[:count], following, world, more=tuple(more))

    def _result(self, pixels: np.ndarray, sights: Sequence[Sight]) -> Poses:
        size = Size(pixels.shape[1], pixels.shape[0])
        poses = sorted((_pose(sight, size) for sight in sights), key=lambda pose: -pose.score)
        return Poses(size, tuple(poses), ("person",), SKELETON)


def _region(hips: np.ndarray, reach: np.ndarray) -> Region:
    """The square that holds a body, which stands upright in it."""
    side = 2 * float(np.linalg.norm(reach - hips))
    region = Region(float(hips[0]), float(hips[1]), side, side, turn(hips, reach, pi / 2))
    return region.square(MARGIN)


def _pose(sight: Sight, size: Size) -> DetectedPose:
    visibility, presence, *mask = sight.more
    landmarks = Landmarks(sight.points, SKELETON, size, visibility)
    assert sight.world is not None
    return DetectedPose(
        label="person", score=sight.score, box=landmarks.box, landmarks=landmarks,
        presence=presence, world=sight.world, mask=mask[0] if mask else None,
    )  # fmt: skip


def refined(points: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Points f32[n,3] (u, v in samples), moved to the middle of the heat f32[64,64,n] about them
    where that is strong."""
    moved = points.copy()
    cell = SIDE / HEAT_SIDE
    for n, (u, v, _) in enumerate(points):
        column, row = int(u // cell), int(v // cell)
        if not (0 <= column < HEAT_SIDE and 0 <= row < HEAT_SIDE):
            continue
        left, top = max(column - HEAT_REACH, 0), max(row - HEAT_REACH, 0)
        near = heat[top : row + HEAT_REACH + 1, left : column + HEAT_REACH + 1, n]
        total = float(near.sum())
        if float(near.max(initial=0)) >= LEAST_HEAT and total > 0:
            rows, columns = np.arange(near.shape[0]) + top, np.arange(near.shape[1]) + left
            moved[n, 0] = float(near.sum(0) @ columns) / total * cell
            moved[n, 1] = float(near.sum(1) @ rows) / total * cell
    return moved


def _without_mask(outputs: list[Value]) -> dict[str, Value]:
    heat, _, points, world, presence = outputs
    rows = primitive.reshape(points, shape=(39, 5))
    return {
        "points": primitive.slice(rows, starts=(0, 0), sizes=(39, 3), steps=(1, 1)),
        "shown": math.sigmoid(primitive.slice(rows, starts=(0, 3), sizes=(39, 2), steps=(1, 1))),
        "presence": primitive.reshape(presence, shape=()),
        "heat": math.sigmoid(primitive.reshape(heat, shape=heat.shape[1:])),
        "world": primitive.reshape(world, shape=(39, 3)),
    }


def _with_mask(outputs: list[Value]) -> dict[str, Value]:
    mask = primitive.reshape(outputs[1], shape=(SIDE, SIDE))
    return {**_without_mask(outputs), "mask": math.sigmoid(mask)}
