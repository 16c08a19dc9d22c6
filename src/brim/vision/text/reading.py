"""Reads the lines of text in a picture, given the three networks of PP-OCR.

Joins the parts: tensors, boxes, crops, the reading order, the characters. It runs no network
itself: an `Engine` is any callable from named arrays to named arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from brim.errors import ModelError
from brim.vision.results import Box, Found, Size
from brim.vision.text.boxes import find_boxes
from brim.vision.text.characters import decode
from brim.vision.text.lines import crop_box, in_reading_order, upright
from brim.vision.text.tensors import (
    SHORTEST_SIDE,
    detection_input,
    orientation_input,
    recognition_input,
)

Engine = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]

TURNED_THRESHOLD = 0.9


@dataclass(frozen=True, eq=False, kw_only=True)
class Line(Found):
    """A line of text. `score` is the mean probability of its characters; `corners` run from the top
    left of the *text*, so those of an upside-down line begin at the lower right."""

    text: str


def read_text(
    image: np.ndarray,
    detect: Engine,
    recognise: Engine,
    characters: Sequence[str],
    orient: Engine | None = None,
    shortest_side: int = SHORTEST_SIDE,
) -> list[Line]:
    """The lines of text in a picture, in reading order.

    image: u8[height, width, 3], RGB. `detect` maps x: f32[1,3,H,W] to f32[1,1,H,W]; `recognise`
    maps x: f32[1,3,48,W] to f32[1,T,len(characters)], the first character being the blank;
    `orient` (if given, a page that stands on its head is turned) maps x: f32[1,3,48,192] to
    f32[1,2]. The detector sees the picture enlarged to `shortest_side` pixels at least.
    Raises ModelError when a network's output does not fit.
    """
    tensor = detection_input(image, shortest_side)
    probability = _only(detect({"x": tensor}), "the text detector")
    if probability.shape != (1, 1, *tensor.shape[2:]):
        raise ModelError(
            "the text detector's output does not fit its input",
            why=f"expected {(1, 1, *tensor.shape[2:])}, got {probability.shape}",
        )
    scale = np.array(image.shape[1::-1]) / np.array(probability.shape[:1:-1])
    boxes = [upright(rectangle.corners() * scale) for rectangle in find_boxes(probability[0, 0])]
    if orient is not None and _page_is_upside_down(image, boxes, orient):
        boxes = [np.roll(box, 2, axis=0) for box in boxes]
    lines = []
    for box in in_reading_order(boxes):
        tensor = recognition_input(crop_box(image, box))
        text, score = decode(_only(recognise({"x": tensor}), "the text recogniser"), characters)
        if text:
            lines.append(_line(text, score, box, Size(image.shape[1], image.shape[0])))
    return lines


def _line(text: str, score: float, corners: np.ndarray, picture: Size) -> Line:
    (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
    box = Box(left, top, right, bottom, picture)
    return Line(label="text", score=score, box=box, corners=corners.astype(np.float32), text=text)


def is_upside_down(crop: np.ndarray, orient: Engine) -> bool:
    """Whether the orientation network is sure that a line u8[height, width, 3] is turned."""
    probability = _only(orient({"x": orientation_input(crop)}), "the orientation network")
    if probability.shape != (1, 2):
        raise ModelError(
            "the orientation network's output does not fit",
            why=f"expected (1, 2), got {probability.shape}",
        )
    return bool(probability[0, 1] > TURNED_THRESHOLD)


def _page_is_upside_down(image: np.ndarray, boxes: Sequence[np.ndarray], orient: Engine) -> bool:
    """Most lines decide for the page: the network sees 48x192 pixels and errs on long lines."""
    votes = [is_upside_down(crop_box(image, box), orient) for box in boxes]
    return 2 * sum(votes) > len(votes)


def _only(outputs: dict[str, np.ndarray], who: str) -> np.ndarray:
    if len(outputs) != 1:
        raise ModelError(f"{who} must have one output", why=f"it has {sorted(outputs)}")
    return next(iter(outputs.values()))
