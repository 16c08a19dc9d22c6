"""Hands: 21 points of each, in the picture and in metres, left or right, and simple gestures.

MediaPipe Hands: https://arxiv.org/abs/2006.10214.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import Literal

import numpy as np

from brim.graph import Value
from brim.ops import primitive
from brim.vision.detector import Anchors, Detector
from brim.vision.gestures import Gesture, gesture
from brim.vision.kit import Mode
from brim.vision.programs import Network
from brim.vision.regions import Region, around, turn, turned
from brim.vision.results import Found, Landmarks, Results, Size, Skeleton, freeze
from brim.vision.sampling import Sampling
from brim.vision.smoothing import Strength
from brim.vision.tracking import Sight, TrackingKit

LEAST_PRESENCE = 0.5
# (margin, how far towards the fingers, in sides) of the region about a palm, and about a hand's
# points without the tips of its fingers.
PALM_REGION = (2.6, 0.5)
POINTS_REGION = (2.0, 0.1)
STEADY = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
JOINTS = (("cmc", "mcp", "ip", "tip"), *(("mcp", "pip", "dip", "tip"),) * 4)
SKELETON = Skeleton(
    ("wrist", *(f"{finger}_{joint}" for finger, row in zip(FINGERS, JOINTS) for joint in row)),
    (
        (0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (5, 9), (9, 10), (10, 11),
        (11, 12), (9, 13), (13, 14), (14, 15), (15, 16), (13, 17), (17, 18), (18, 19), (19, 20),
        (0, 17),
    ),
)  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class DetectedHand(Found):
    """A hand. score: the probability that it is one; landmarks: 21 points; side: the person's left
    or right hand, with its probability side_score; world: f32[21,3], the points in metres about the
    middle of the hand, x to the right, y down, z away from the camera."""

    landmarks: Landmarks
    side: Literal["left", "right"]
    side_score: float
    gesture: Gesture
    world: np.ndarray

    def __post_init__(self) -> None:
        super().__post_init__()
        freeze(self.world)


class DetectedHands(Results[DetectedHand]):
    """The hands of a picture, the surest first."""


class Hands(TrackingKit[DetectedHands]):
    """Finds hands, 21 points of each, which side's they are, and what they show.

    The networks are fetched and compiled when the kit is made; see `Kit` for threads and modes.
    """

    STRENGTH = Strength(cutoff=1.0, gain=10.0)

    def __init__(self, *, threads: int | None = None, mode: Mode = "image") -> None:
        super().__init__(threads=threads, mode=mode)
        seen = Sampling(192, 192, 0.0, 1.0, "zero")
        anchors = Anchors(192, ((8, 2), (16, 6)))
        self._detector = Detector("palm-detect", seen, anchors, threads)
        seen = Sampling(224, 224, 0.0, 1.0, "nearest")
        self._landmarks = Network("hand-landmarks", seen, _decoded, threads)

    def _search(self, pixels: np.ndarray) -> list[Region]:
        found = []
        for detection in self._detector(pixels):
            wrist, middle = detection.points[0], detection.points[2]
            found.append(_grown(detection.region(turn(wrist, middle, pi / 2)), *PALM_REGION))
        return found

    def _look(self, pixels: np.ndarray, region: Region) -> Sight | None:
        found = self._landmarks(pixels, region)
        score = float(found["presence"])
        if score < LEAST_PRESENCE:
            return None
        points = self._landmarks.pixels(found["points"], region)
        knuckles = (points[5] + points[13]) / 4 + points[9] / 2
        own = around(points[list(STEADY)], turn(points[0], knuckles, pi / 2))
        world = turned(found["world"], region.angle)
        return Sight(score, points, _grown(own, *POINTS_REGION), world, np.array([found["right"]]))

    def _result(self, pixels: np.ndarray, sights: Sequence[Sight]) -> DetectedHands:
        size = Size(pixels.shape[1], pixels.shape[0])
        hands = sorted((_hand(sight, size) for sight in sights), key=lambda hand: -hand.score)
        return DetectedHands(size, tuple(hands), ("hand",), SKELETON)


def _grown(region: Region, margin: float, forward: float) -> Region:
    return region.moved(0.0, -forward).square(margin)


def _hand(sight: Sight, size: Size) -> DetectedHand:
    landmarks = Landmarks(sight.points, SKELETON, size)
    assert sight.world is not None and sight.traits is not None
    right = float(sight.traits[0])
    return DetectedHand(
        label="hand", score=sight.score, box=landmarks.box, landmarks=landmarks,
        side="right" if right >= 0.5 else "left", side_score=max(right, 1 - right),
        gesture=gesture(sight.world, sight.points), world=sight.world,
    )  # fmt: skip


def _decoded(outputs: list[Value]) -> dict[str, Value]:
    points, world, presence, side = outputs
    return {
        "points": primitive.reshape(points, shape=(21, 3)),
        "world": primitive.reshape(world, shape=(21, 3)),
        "presence": primitive.reshape(presence, shape=()),
        "right": primitive.reshape(side, shape=()),
    }
