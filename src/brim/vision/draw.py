"""Draws what was found onto a copy of the picture: masks, boxes, lines, points and labels.

Pillow's lines have steps, so everything is drawn on a larger transparent sheet, which is then made
smaller by averaging. Line widths follow from the size of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brim.errors import InputError
from brim.pictures import pillow, read_picture
from brim.vision.results import Found, Landmarks, Results

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

# Told apart by people who see no red or no green, too (Okabe and Ito, 2008).
COLOURS = (
    (0, 158, 115), (230, 159, 0), (86, 180, 233), (213, 94, 0), (204, 121, 167), (0, 114, 178),
    (240, 228, 66),
)  # fmt: skip
BLACK = (0, 0, 0)
MASK_OPACITY = 0.45
FINE = 1 << 21  # pixels of a picture from which the sheet is not enlarged any more
MANY = 100  # points from which they are drawn as dust


def draw(image: Any, results: Results) -> Image.Image:
    """A new RGB image: the picture, as `read_picture` takes it, and all results above it.

    Raises InputError for a picture of another size than that of the results.
    """

    def all_found(pen: _Pen) -> None:
        for each in results:
            colour = COLOURS[results.labels.index(each.label) % len(COLOURS)]
            pen.found(each, colour, len(results.labels) > 1)

    return _drawn(_tinted(picture_of(results, image), results), all_found)


def draw_captions(image: Any, results: Results, captions: Sequence[str]) -> Image.Image:
    """As `draw`, but what is above the picture is text in its upper left corner."""

    def lines(pen: _Pen) -> None:
        low = 0.0
        for caption in captions:
            low = pen.caption(f" {caption} ", 0, low + pen.line_height, BLACK)

    return _drawn(picture_of(results, image), lines)


def picture_of(results: Results, image: Any) -> np.ndarray:
    """The picture as `read_picture` gives it. Raises InputError for one of another size than that
    of the results."""
    pixels = read_picture(image)
    height, width = pixels.shape[:2]
    if (width, height) != results.picture:
        raise InputError(
            "this is another picture",
            f"it has {width}x{height} pixels; the results are of {tuple(results.picture)}",
        )
    return pixels


def _drawn(pixels: np.ndarray, with_pen: Callable[[_Pen], None]) -> Image.Image:
    Image = pillow()
    from PIL import ImageDraw

    height, width = pixels.shape[:2]
    scale = 3 if width * height <= FINE else 1
    sheet = Image.new("RGBA", (width * scale, height * scale))
    with_pen(_Pen(ImageDraw.Draw(sheet), scale, max(1.0, (width * height) ** 0.5 / 250)))
    canvas = Image.fromarray(pixels).convert("RGBA")
    canvas.alpha_composite(sheet.reduce(scale) if scale > 1 else sheet)
    return canvas.convert("RGB")


def _tinted(pixels: np.ndarray, results: Results) -> np.ndarray:
    """The picture, with the pixels of masks coloured by how sure they are."""
    for each in results:
        if each.mask is not None:
            colour = COLOURS[results.labels.index(each.label) % len(COLOURS)]
            share = each.mask[:, :, None] * MASK_OPACITY
            pixels = (pixels * (1 - share) + share * np.array(colour)).astype(np.uint8)
    return pixels


class _Pen:
    """Draws on a sheet that is `scale` times as large as the picture; `line` is in its pixels."""

    def __init__(self, sheet: ImageDraw.ImageDraw, scale: int, line: float) -> None:
        self._sheet, self._scale, self._line = sheet, scale, line

    @property
    def line_height(self) -> float:
        """Of a line of text on its plate, in pixels of the picture."""
        return 11 * self._line

    def found(self, each: Found, colour: tuple[int, int, int], named: bool) -> None:
        for points in each.shown:
            self.landmarks(points, colour)
        if not each.shown:
            self.box(each, colour)
        if named:
            self.label(each, colour)

    def box(self, each: Found, colour: tuple[int, int, int]) -> None:
        width = round(self._line * self._scale)
        if each.corners is not None:
            corners = [tuple(corner) for corner in (each.corners * self._scale).tolist()]
            self._sheet.line([*corners, *corners[:2]], fill=colour, width=width, joint="curve")
            return
        box = [n * self._scale for n in each.box.to_numpy().tolist()]
        self._sheet.rounded_rectangle(
            (box[0], box[1], max(box[0], box[2]), max(box[1], box[3])),
            radius=2 * self._line * self._scale,
            outline=colour,
            width=width,
        )

    def landmarks(self, points: Landmarks, colour: tuple[int, int, int]) -> None:
        places = [(float(x) * self._scale, float(y) * self._scale) for x, y, _ in points.pixels]
        shown = np.ones(len(points)) if points.visibility is None else points.visibility
        ends = points.pixels[np.array(points.skeleton.lines, int).reshape(-1, 2), :2]
        lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
        line = (
            min(self._line, float(lengths.mean()) / 8 if len(lengths) else self._line) * self._scale
        )
        for a, b in points.skeleton.lines:
            if min(shown[a], shown[b]) > 0.5:
                self._sheet.line((places[a], places[b]), fill=colour, width=max(round(line), 1))
        radius = line * (0.8 if len(points) > MANY else 1.5)
        for (x, y), visible in zip(places, shown):
            if visible > 0.5:
                circle = (x - radius, y - radius, x + radius, y + radius)
                self._sheet.ellipse(circle, fill="white" if len(points) <= MANY else colour)

    def label(self, each: Found, colour: tuple[int, int, int]) -> None:
        self.caption(f" {each.label} {each.score:.2f} ", each.box.left, each.box.top, colour)

    def caption(self, text: str, left: float, low: float, colour: tuple[int, int, int]) -> float:
        """Text on a plate above `low`, but within the picture; returns the plate's lower edge.
        All in pixels of the picture."""
        from PIL import ImageFont

        font = ImageFont.load_default(size=8 * self._line * self._scale)
        margin = self._line * self._scale
        wide = self._sheet.textlength(text, font=font)
        left, tall = left * self._scale, self.line_height * self._scale
        top = max(low * self._scale - tall, 0)
        self._sheet.rounded_rectangle((left, top, left + wide, top + tall), margin, colour)
        self._sheet.text((left, top + tall / 2), text, fill="white", font=font, anchor="lm")
        return (top + tall) / self._scale
