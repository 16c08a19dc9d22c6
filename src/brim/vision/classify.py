"""What a picture shows: one of ImageNet's 1000 kinds, or 1280 numbers that say what it is like.

The network is EfficientNet-Lite0 (`efficientnet`); it sees the middle of the picture.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from brim import zoo
from brim.graph import Graph, Value
from brim.ops import math
from brim.ops import primitive as p
from brim.pictures import read_picture
from brim.vision.draw import draw_captions
from brim.vision.efficientnet import SIDE, efficientnet_lite0
from brim.vision.kit import Kit, Mode
from brim.vision.programs import say_progress
from brim.vision.results import Box, Found, Results, Size
from brim.vision.whole import Whole

WHOLE = Whole(SIDE, SIDE, -127 / 128, 1.0)
MIDDLE = 0.875  # of the shorter side is seen, as in the network's own evaluation
TOLD = 5  # kinds that are told, the surest first


@dataclass(frozen=True, eq=False)
class Kinds(Results[Found]):
    """What the picture may show, the likeliest five first; all boxes are what was seen of it."""

    def draw(self, image: Any) -> Any:
        """A new Pillow image: the picture with the kinds, and how likely each is."""
        captions = [f"{each.label.split(',')[0]} {each.score:.2f}" for each in self.found]
        return draw_captions(image, self, captions)


class Classify(Kit[Kinds]):
    """Says what a picture shows, and how like it is to others. Frames of a video stand alone."""

    def __init__(self, *, threads: int | None = None, mode: Mode = "image") -> None:
        super().__init__(threads=threads, mode=mode)
        self.labels = _labels()
        self._model = WHOLE.program("efficientnet-lite0", _named, threads, _network)

    def embed(self, image: Any) -> np.ndarray:
        """f32[1280] of length 1: the product `a @ b` of two pictures' is the cosine between them,
        near 1 where they show the same. Raises InputError for what is no picture."""
        pixels = read_picture(image)
        with self._turn:
            found = self._run(pixels, _middle(pixels))["embedding"]
        return found / max(float(np.linalg.norm(found)), 1e-12)

    def _detect(self, pixels: np.ndarray, seconds: float) -> Kinds:
        seen = _middle(pixels)
        scores = self._run(pixels, seen)["scores"]
        best = np.argsort(-scores, kind="stable")[:TOLD].tolist()
        found = (Found(label=self.labels[k], score=float(scores[k]), box=seen) for k in best)
        return Kinds(seen.picture, tuple(found), self.labels)

    def _run(self, pixels: np.ndarray, seen: Box) -> dict[str, np.ndarray]:
        box = (seen.left, seen.top, seen.right, seen.bottom)
        return self._model.run({"pixels": WHOLE.pixels(pixels, box)})


def _middle(pixels: np.ndarray) -> Box:
    """The square that the network sees."""
    height, width = pixels.shape[:2]
    half = min(height, width) * MIDDLE / 2
    x, y = width / 2, height / 2
    return Box(x - half, y - half, x + half, y + half, Size(width, height))


@cache
def _labels() -> tuple[str, ...]:
    """Each kind's names. Of equal ones ("crane" is a bird and a machine) the later has its number,
    so that a label says which kind it is."""
    path = zoo.get("imagenet-labels", progress=say_progress)
    named: dict[str, int] = {}
    for number, names in json.loads(path.read_text(encoding="utf-8")).items():
        named[names if names not in named else f"{names} ({number})"] = int(number)
    return tuple(sorted(named, key=named.__getitem__))


def _network(weights: Graph) -> Graph:
    found = {name: value.data for name, value in weights.outputs.items() if value.data is not None}
    return efficientnet_lite0(found)


def _named(said: dict[str, Value]) -> dict[str, Value]:
    scores = math.softmax(said["logits"], axis=1)
    named = {"scores": scores, "embedding": said["embedding"]}
    return {name: p.reshape(value, shape=value.shape[1:]) for name, value in named.items()}
