"""Ready algorithms for pictures: faces, bodies, hands, things, text, where a person is, what it is.

    from brim.vision import Face
    faces = Face().detect("photo.jpg")

Every kit takes `threads` and `mode`, and has `detect(image)` and `follow(frames)`. Models come from
`brim zoo`, at first use; after that nothing here needs a network.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brim.vision.classify import Classify, Kinds
    from brim.vision.face import DetectedFace, Face, Faces
    from brim.vision.face_geometry import Expression, HeadPose
    from brim.vision.hands import DetectedHand, DetectedHands, Hands
    from brim.vision.kit import Kit
    from brim.vision.objects import Objects, Things
    from brim.vision.pose import DetectedPose, Pose, Poses
    from brim.vision.results import Box, Found, Landmarks, Results, Size, Skeleton
    from brim.vision.segment import Person, Segment
    from brim.vision.text import Line, Lines, Text

# Each kit is imported when it is used: one brings no other's networks or libraries.
_PLACES = {
    "Classify": "classify",
    "Kinds": "classify",
    "DetectedFace": "face",
    "Face": "face",
    "Faces": "face",
    "Expression": "face_geometry",
    "HeadPose": "face_geometry",
    "DetectedHand": "hands",
    "DetectedHands": "hands",
    "Hands": "hands",
    "Kit": "kit",
    "Objects": "objects",
    "Things": "objects",
    "DetectedPose": "pose",
    "Pose": "pose",
    "Poses": "pose",
    "Box": "results",
    "Found": "results",
    "Landmarks": "results",
    "Results": "results",
    "Size": "results",
    "Skeleton": "results",
    "Person": "segment",
    "Segment": "segment",
    "Line": "text",
    "Lines": "text",
    "Text": "text",
}
__all__ = [
    "Box",
    "Classify",
    "DetectedFace",
    "DetectedHand",
    "DetectedHands",
    "DetectedPose",
    "Expression",
    "Face",
    "Faces",
    "Found",
    "Hands",
    "HeadPose",
    "Kinds",
    "Kit",
    "Landmarks",
    "Line",
    "Lines",
    "Objects",
    "Person",
    "Pose",
    "Poses",
    "Results",
    "Segment",
    "Size",
    "Skeleton",
    "Text",
    "Things",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'brim.vision' has no attribute {name!r}")
    return getattr(import_module(f"brim.vision.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
