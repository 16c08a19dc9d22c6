"""Faces: where they are, 468 points of each, the irises, and what follows from their geometry.

BlazeFace (https://arxiv.org/abs/1907.05047) finds faces, the face mesh network
(https://arxiv.org/abs/1907.06724) gives points, the iris network (https://arxiv.org/abs/2006.11341)
those of the eyes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from brim.graph import Value
from brim.ops import math, primitive
from brim.vision import face_points
from brim.vision.detector import Anchors, Detection, Detector
from brim.vision.face_geometry import Expression, HeadPose, expression, head_pose
from brim.vision.kit import Mode
from brim.vision.programs import Network
from brim.vision.regions import Region, around, turn
from brim.vision.results import Found, Landmarks, Results, Size
from brim.vision.sampling import Sampling
from brim.vision.smoothing import Strength
from brim.vision.tracking import Sight, TrackingKit

LEAST_PRESENCE = 0.5
FACE_MARGIN = 1.5  # side of the region over the longer side of the face
EYE_MARGIN = 2.3  # over the distance of the eye's corners


@dataclass(frozen=True, eq=False, kw_only=True)
class DetectedFace(Found):
    """A face. score: the probability that it is one; landmarks: the 468 points of the mesh.

    iris: 10 points, the centre of the right iris and four around it, then those of the left one
    (the person's right and left), None unless asked for. head: how the head is turned; expression:
    of eyes and mouth, from geometry.
    """

    landmarks: Landmarks
    iris: Landmarks | None = None
    head: HeadPose
    expression: Expression

    @property
    def shown(self) -> tuple[Landmarks, ...]:
        return (self.landmarks,) if self.iris is None else (self.landmarks, self.iris)

    @cached_property
    def key_points(self) -> Landmarks:
        """Six points: eyes, nose tip, mouth, and the tragi of the ears."""
        mesh = self.landmarks.pixels
        points = [mesh[list(places)].mean(0) for places in face_points.KEY_POINTS.values()]
        return Landmarks(np.stack(points), face_points.KEYS, self.landmarks.picture)


class Faces(Results[DetectedFace]):
    """The faces of a picture, the surest first."""


class Face(TrackingKit[Faces]):
    """Finds faces up to some five metres away, 468 points of each, with `iris` those of the eyes.

    The networks are fetched and compiled when the kit is made; see `Kit` for threads and modes.
    """

    STRENGTH = Strength(cutoff=0.5, gain=15.0)

    def __init__(
        self, *, threads: int | None = None, mode: Mode = "image", iris: bool = False
    ) -> None:
        super().__init__(threads=threads, mode=mode)
        # Which find faces from a seventh of the picture to all of it, and from a twentieth to half.
        self._detectors = (
            _detector("face-detect", 128, ((8, 2), (16, 6)), threads),
            _detector("face-detect-far", 192, ((4, 1),), threads),
        )
        seen = Sampling(192, 192, 0.0, 1.0, "nearest")
        self._mesh = Network("face-mesh", seen, _mesh, threads)
        seen = Sampling(64, 64, 0.0, 1.0, "nearest")
        self._iris = Network("face-iris", seen, _iris, threads) if iris else None

    def _search(self, pixels: np.ndarray) -> list[Region]:
        return [
            _detected(detection) for detector in self._detectors for detection in detector(pixels)
        ]

    def _look(self, pixels: np.ndarray, region: Region) -> Sight | None:
        found = self._mesh(pixels, region)
        score = float(found["presence"])
        if score < LEAST_PRESENCE:
            return None
        points = self._mesh.pixels(found["points"], region)
        right, left = face_points.RIGHT_CORNERS[0], face_points.LEFT_CORNERS[1]
        following = around(points, turn(points[right], points[left], 0.0)).square(FACE_MARGIN)
        if self._iris is not None:
            eyes = [self._eye(pixels, points, side) for side in ("right", "left")]
            points = np.concatenate([points, *eyes])
        return Sight(score, points, following)

    def _eye(self, pixels: np.ndarray, mesh: np.ndarray, side: str) -> np.ndarray:
        """f32[5,3]: the iris of an eye. The network knows right eyes, so left ones are mirrored."""
        assert self._iris is not None
        corners = face_points.RIGHT_CORNERS if side == "right" else face_points.LEFT_CORNERS
        ends = mesh[list(corners)]
        region = around(ends, turn(ends[0], ends[1], 0.0)).square(EYE_MARGIN)
        if side == "left":
            region = replace(region, width=-region.width)
        return self._iris.pixels(self._iris(pixels, region)["points"], region)

    def _result(self, pixels: np.ndarray, sights: Sequence[Sight]) -> Faces:
        size = Size(pixels.shape[1], pixels.shape[0])
        faces = sorted((_face(sight, size) for sight in sights), key=lambda face: -face.score)
        return Faces(size, tuple(faces), ("face",), face_points.MESH)


def _detector(
    name: str, side: int, layers: tuple[tuple[int, int], ...], threads: int | None
) -> Detector:
    return Detector(name, Sampling(side, side, -1.0, 1.0, "zero"), Anchors(side, layers), threads)


def _detected(detection: Detection) -> Region:
    right_eye, left_eye = detection.points[:2]
    return detection.region(turn(right_eye, left_eye, 0.0)).square(FACE_MARGIN)


def _face(sight: Sight, size: Size) -> DetectedFace:
    count = len(face_points.MESH.names)
    mesh = Landmarks(sight.points[:count], face_points.MESH, size)
    iris = None
    if len(sight.points) > count:
        iris = Landmarks(sight.points[count:], face_points.IRISES, size)
    return DetectedFace(
        label="face", score=sight.score, box=mesh.box, landmarks=mesh, iris=iris,
        head=head_pose(mesh.pixels), expression=expression(mesh.pixels),
    )  # fmt: skip


def _mesh(outputs: list[Value]) -> dict[str, Value]:
    points, presence = outputs
    return {
        "points": primitive.reshape(points, shape=(468, 3)),
        "presence": math.sigmoid(primitive.reshape(presence, shape=())),
    }


def _iris(outputs: list[Value]) -> dict[str, Value]:
    _, iris = outputs  # the other output is the eye's outline, which the mesh has
    return {"points": primitive.reshape(iris, shape=(5, 3))}
