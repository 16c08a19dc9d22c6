"""Which pixels are a person: MediaPipe's selfie segmentation, brought to the picture's own size.

The network sees 256x256 pixels. Its mask is refined by a guided filter
(https://arxiv.org/abs/1505.00996): within each small window the mask is taken for a linear function
of the brightness, whose two coefficients vary slowly, so they can be enlarged; edges come from the
picture itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brim.graph import Value
from brim.ops import primitive as p
from brim.pictures import pillow
from brim.vision.draw import picture_of
from brim.vision.kit import Kit, Mode
from brim.vision.results import Box, Found, Results, Size
from brim.vision.whole import Whole

if TYPE_CHECKING:
    from PIL.Image import Image

WHOLE = Whole(256, 256, 0.0, 1.0)
PERSON = 0.5  # probability from which a pixel is one of a person
RADIUS = 3  # of the filter's windows, in pixels of the network
SMOOTH = 1e-3  # variance of brightness (0..1) below which a window is flat
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of RGB (Rec. 601)


@dataclass(frozen=True, eq=False)
class Person(Results[Found]):
    """The people of a picture as one thing with a mask; none where no pixel is one of a person."""

    def cut_out(self, image: Any) -> Image:
        """A Pillow image of mode RGBA: the picture, as it was given to `detect`, opaque where the
        people are. Raises InputError for a picture of another size."""
        pixels = picture_of(self, image)
        masks = [each.mask for each in self.found if each.mask is not None]
        alpha = masks[0] if masks else np.zeros(pixels.shape[:2], np.float32)
        opaque = np.rint(alpha * 255).astype(np.uint8)
        return pillow().fromarray(np.concatenate([pixels, opaque[:, :, None]], axis=2))


class Segment(Kit[Person]):
    """Finds which pixels are people. Frames of a video stand alone."""

    def __init__(self, *, threads: int | None = None, mode: Mode = "image") -> None:
        super().__init__(threads=threads, mode=mode)
        self._model = WHOLE.program("person-mask", _flat, threads)

    def _detect(self, pixels: np.ndarray, seconds: float) -> Person:
        seen = WHOLE.pixels(pixels)
        mask = refined(self._model.run({"pixels": seen})["mask"], seen, pixels)
        size = Size(pixels.shape[1], pixels.shape[0])
        rows, columns = (np.flatnonzero((mask > PERSON).any(axis)) for axis in (1, 0))
        if not len(rows):
            return Person(size, (), ("person",))
        left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
        box = Box(float(left), float(top), float(right), float(bottom), size)
        score = float(mask[mask > PERSON].mean())
        found = Found(label="person", score=score, box=box, mask=mask)
        return Person(size, (found,), ("person",))


def refined(mask: np.ndarray, seen: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """f32[height,width], 0..1: a mask f32[rows,columns] of `seen` u8[rows,columns,3] at the size of
    picture u8[height,width,3], its edges where the picture has some."""
    guide = seen @ (LUMA / 255)
    mean, target = _means(guide), _means(mask)
    variance = _means(guide * guide) - mean * mean
    slope = (_means(guide * mask) - mean * target) / (variance + SMOOTH)
    offset = _means(target - slope * mean)
    height, width = picture.shape[:2]
    fine = _enlarged(_means(slope), height, width) * (picture @ (LUMA / 255))
    fine += _enlarged(offset, height, width)
    return np.clip(fine, 0, 1, out=fine)


def _means(values: np.ndarray) -> np.ndarray:
    """Of the windows of 2 RADIUS + 1 pixels a side around each; edges go on beyond the border."""
    size = 2 * RADIUS + 1
    rows, columns = values.shape
    padded = np.pad(values, RADIUS, mode="edge")
    down = sum(padded[n : n + rows] for n in range(1, size)) + padded[:rows]
    across = sum(down[:, n : n + columns] for n in range(1, size)) + down[:, :columns]
    return across * np.float32(1 / size**2)


def _enlarged(values: np.ndarray, height: int, width: int) -> np.ndarray:
    Image = pillow()
    image = Image.fromarray(values)
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR))


def _flat(said: dict[str, Value]) -> dict[str, Value]:
    (mask,) = said.values()
    return {"mask": p.reshape(mask, shape=mask.shape[1:3])}
