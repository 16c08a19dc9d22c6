"""Things in a picture: SSD MobileNetV2, trained on Open Images for 23 kinds of things.

Single shot detection (https://arxiv.org/abs/1512.02325): the network says for each of 1917 anchor
boxes how far the thing's box is from it, and what it is; of boxes of one kind that cover each other
the surest is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from brim import zoo
from brim.errors import InputError
from brim.graph import Value, const
from brim.ops import math
from brim.ops import primitive as p
from brim.vision.kit import Kit, Mode
from brim.vision.programs import say_progress
from brim.vision.results import Box, Found, Results, Size
from brim.vision.whole import Whole

WHOLE = Whole(300, 300, -1.0, 1.0)
GRIDS = (19, 10, 5, 3, 2, 1)  # anchors per side, one grid for each size of things
SMALLEST, LARGEST = 0.2, 0.95  # sides of square anchors, as shares of the picture
RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)  # width to height
CENTRE_SCALE, SIDE_SCALE = 10.0, 5.0  # in which distances from anchors are counted
OVERLAP = 0.5  # intersection over union from which two boxes show one thing
MOST = 100


@dataclass(frozen=True, eq=False)
class Things(Results[Found]):
    """The things in a picture, the surest first."""


class Objects(Kit[Things]):
    """Finds people, cats, dogs, cups, chairs, cars, ...: 23 kinds of things, with their boxes.

    score: from 0 to 1, how sure the network must be. Frames of a video stand alone.
    """

    def __init__(
        self, *, threads: int | None = None, mode: Mode = "image", score: float = 0.5
    ) -> None:
        super().__init__(threads=threads, mode=mode)
        if not 0 <= score <= 1:
            raise InputError(f"a score of {score} cannot be", hint="between 0 and 1")
        self._score = score
        self.labels = _labels()
        self._model = WHOLE.program("objects-detect", _decoded, threads)

    def _detect(self, pixels: np.ndarray, seconds: float) -> Things:
        said = self._model.run({"pixels": WHOLE.pixels(pixels)})
        size = Size(pixels.shape[1], pixels.shape[0])
        scores, boxes = said["scores"], said["boxes"] * np.array(size * 2, np.float32)
        anchors, classes = np.nonzero(scores >= self._score)
        found = []
        for kind in np.unique(classes).tolist():
            for anchor in distinct(boxes, scores[:, kind], anchors[classes == kind]):
                left, top, right, bottom = boxes[anchor].tolist()
                box = Box(left, top, right, bottom, size)
                score = float(scores[anchor, kind])
                found.append(Found(label=self.labels[kind], score=score, box=box))
        found.sort(key=lambda each: -each.score)
        return Things(size, tuple(found[:MOST]), self.labels)


def distinct(boxes: np.ndarray, scores: np.ndarray, among: np.ndarray) -> list[int]:
    """Which of the boxes f32[n,4] (left, top, right, bottom) with indices `among` show different
    things: the surest, then the surest of those that do not cover it, and so on."""
    kept: list[int] = []
    left = among[np.argsort(-scores[among], kind="stable")]
    while len(left):
        best, left = int(left[0]), left[1:]
        kept.append(best)
        left = left[shared(boxes[best], boxes[left]) < OVERLAP]
    return kept


def shared(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """f32[n]: intersection over union of a box f32[4] and each of f32[n,4]."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return common / np.maximum(areas - common, 1e-9)


@cache
def _labels() -> tuple[str, ...]:
    """The network's classes without the first, which is the background."""
    path = zoo.get("objects-labels", progress=say_progress)
    return tuple(path.read_text(encoding="utf-8").splitlines()[1:])


def anchors() -> np.ndarray:
    """f32[1917,4]: x, y of centres, widths and heights, as shares of the picture."""
    found = []
    scales = [*np.linspace(SMALLEST, LARGEST, len(GRIDS)).tolist(), 1.0]
    for number, side in enumerate(GRIDS):
        scale = scales[number]
        shapes = [(scale * ratio**0.5, scale / ratio**0.5) for ratio in RATIOS]
        shapes.append(((scale * scales[number + 1]) ** 0.5,) * 2)
        if number == 0:  # the finest grid has fewer, and a smaller square
            shapes = [(0.1, 0.1), *shapes[1:3]]
        middles = (np.arange(side) + 0.5) / side
        y, x, shape = np.meshgrid(middles, middles, np.arange(len(shapes)), indexing="ij")
        sizes = np.array(shapes)[shape.ravel()]
        found.append(np.column_stack([x.ravel(), y.ravel(), sizes]))
    return np.concatenate(found).astype(np.float32)


def _decoded(said: dict[str, Value]) -> dict[str, Value]:
    """boxes f32[1917,4], left, top, right, bottom as shares of the picture; scores f32[1917,23]."""
    distances, logits = (p.reshape(v, shape=v.shape[1:]) for v in said.values())
    count = distances.shape[0]
    given = anchors()

    def part(value: Value, first: int) -> Value:
        return p.slice(value, starts=(0, first), sizes=(count, 2), steps=(1, 1))

    # The network counts y before x, and height before width.
    centre, side = given[:, 1::-1], given[:, :1:-1]
    middle = p.add(p.mul(part(distances, 0), const(side / CENTRE_SCALE)), const(centre))
    half = p.mul(p.exp(p.mul(part(distances, 2), 1 / SIDE_SCALE)), const(side / 2))
    corners = p.concat(p.sub(middle, half), p.add(middle, half), axis=1)
    boxes = p.gather(corners, const(np.array([1, 0, 3, 2])), axis=1)
    kinds = logits.shape[1] - 1
    scores = p.slice(logits, starts=(0, 1), sizes=(count, kinds), steps=(1, 1))
    return {"boxes": boxes, "scores": math.sigmoid(scores)}
