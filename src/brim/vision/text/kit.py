"""The kit that reads text in pictures: PP-OCR's networks, compiled for the sizes that come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brim import zoo
from brim.model import load
from brim.vision.kit import Kit, Mode
from brim.vision.programs import say_progress
from brim.vision.results import Results, Size
from brim.vision.text.characters import characters_of
from brim.vision.text.reading import Line, read_text
from brim.vision.text.tensors import SHORTEST_SIDE


@dataclass(frozen=True, eq=False)
class Lines(Results[Line]):
    """The lines of text in a picture, in the order in which people read them."""

    @property
    def text(self) -> str:
        """All lines, one below the other."""
        return "\n".join(line.text for line in self.found)


class Text(Kit[Lines]):
    """Reads printed text, pages that lie on their side or stand on their head too.

    shortest_side: pixels to which a smaller picture is enlarged before text is looked for; less is
    faster and misses small print. The networks are compiled for each size of picture when it first
    comes, and kept. Frames of a video stand alone.
    """

    def __init__(
        self,
        *,
        threads: int | None = None,
        mode: Mode = "image",
        shortest_side: int = SHORTEST_SIDE,
    ) -> None:
        super().__init__(threads=threads, mode=mode)
        self._shortest_side = shortest_side
        names = ("ppocr-detect", "ppocr-recognise", "ppocr-orient")
        self._detector, self._recogniser, self._orienter = (
            load(zoo.get(name, progress=say_progress), threads=threads) for name in names
        )
        self._characters = characters_of(self._recogniser.metadata)

    def _detect(self, pixels: np.ndarray, seconds: float) -> Lines:
        found = read_text(
            pixels,
            self._detector.run,
            self._recogniser.run,
            self._characters,
            self._orienter.run,
            self._shortest_side,
        )
        return Lines(Size(pixels.shape[1], pixels.shape[0]), tuple(found), ("text",))
