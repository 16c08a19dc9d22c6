"""Single-shot detectors with key points (BlazeFace and its kin): anchors, boxes, overlapping ones.

The networks answer for a grid of anchors: a score, a box and key points relative to the anchor, in
samples of their own input. https://arxiv.org/abs/1907.05047
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brim.graph import Value, const
from brim.ops import math, primitive
from brim.vision.programs import Network
from brim.vision.regions import Region, letterbox
from brim.vision.sampling import Sampling

LEAST_SCORE = 0.5
LEAST_OVERLAP = 0.3  # intersection over union from which two boxes mean one thing
LARGEST_LOGIT = 100.0


@dataclass(frozen=True, eq=False)
class Detection:
    """score: 0..1; corners: f32[2,2], upper left and lower right (x, y) of the box; points:
    f32[n,2], key points; both in pixels of the picture."""

    score: float
    corners: np.ndarray
    points: np.ndarray

    def region(self, angle: float) -> Region:
        """Of the box's size, about its middle, turned."""
        (x, y), (width, height) = self.corners.mean(0), self.corners[1] - self.corners[0]
        return Region(float(x), float(y), float(width), float(height), angle)


@dataclass(frozen=True)
class Anchors:
    """For each layer (samples between cells, anchors of a cell), in the order of the outputs."""

    side: int
    layers: tuple[tuple[int, int], ...]

    def centres(self) -> np.ndarray:
        """f32[n,2]: (u, v) of every anchor."""
        found = []
        for stride, count in self.layers:
            along = (np.arange(-(-self.side // stride), dtype=np.float32) + 0.5) * stride
            v, u = np.meshgrid(along, along, indexing="ij")
            found.append(np.repeat(np.stack([u.ravel(), v.ravel()], 1), count, axis=0))
        return np.concatenate(found)


class Detector:
    """A network of the zoo that finds things of one kind in a whole picture, with key points."""

    def __init__(self, name: str, sampling: Sampling, anchors: Anchors, threads: int | None):
        centres = anchors.centres()

        def decode(outputs: list[Value]) -> dict[str, Value]:
            boxes, scores = outputs
            return {"places": places(boxes, centres), "scores": probability(scores)}

        self._network = Network(name, sampling, decode, threads)

    def __call__(self, picture: np.ndarray) -> list[Detection]:
        """What is found in u8[height, width, 3], the surest first."""
        region = letterbox(picture.shape[1], picture.shape[0])
        found = self._network(picture, region)
        sure = np.flatnonzero(found["scores"] >= LEAST_SCORE)
        merged = without_overlaps(found["places"][sure], found["scores"][sure])
        pixels = [(score, self._network.pixels(points, region)) for points, score in merged]
        return [Detection(score, points[:2], points[2:]) for score, points in pixels]


def places(boxes: Value, centres: np.ndarray) -> Value:
    """f32[n,2+k,2]: corners and key points from f32[1,n,4+2k]: box centre, box size, key points,
    relative to the anchors' centres f32[n,2]."""
    count = (boxes.shape[-1] - 4) // 2
    pairs = primitive.reshape(boxes, shape=(len(centres), count + 2, 2))

    def part(start: int, size: int) -> Value:
        whole = (len(centres), size, 2)
        return primitive.slice(pairs, starts=(0, start, 0), sizes=whole, steps=(1, 1, 1))

    anchors = const(centres[:, None, :])
    middle = primitive.add(part(0, 1), anchors)
    half = primitive.mul(part(1, 1), 0.5)
    corners = (primitive.sub(middle, half), primitive.add(middle, half))
    return primitive.concat(*corners, primitive.add(part(2, count), anchors), axis=1)


def probability(scores: Value) -> Value:
    """f32[n]: the sigmoid of f32[1,n,1]."""
    flat = primitive.reshape(scores, shape=(scores.shape[1],))
    clipped = primitive.minimum(primitive.maximum(flat, -LARGEST_LOGIT), LARGEST_LOGIT)
    return math.sigmoid(clipped)


def without_overlaps(places: np.ndarray, scores: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """(places f32[k,2], score) of distinct things, the surest first, from places f32[n,k,2], of
    which the first two are corners, and scores f32[n].

    Weighted non-maximum suppression: what overlaps the surest is one with it, and all places of it
    are averages by score, which jump less from frame to frame than those of the surest.
    """
    rest = np.argsort(-scores, kind="stable")
    found = []
    while len(rest):
        best = rest[0]
        same = overlaps(places[best, :2], places[rest, :2]) > LEAST_OVERLAP
        same[0] = True  # even a box without area
        weight = scores[rest[same], None, None]
        mean = (places[rest[same]] * weight).sum(0) / weight.sum()
        found.append((mean.astype(np.float32), float(scores[best])))
        rest = rest[~same]
    return found


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union f32[n] of corners f32[2,2] with corners f32[n,2,2]."""
    low, high = np.maximum(box[0], boxes[:, 0]), np.minimum(box[1], boxes[:, 1])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    whole = np.prod(box[1] - box[0]) + np.prod(boxes[:, 1] - boxes[:, 0], axis=1) - common
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)
