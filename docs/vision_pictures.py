"""Draws the pictures of vision.md and of the README: `python docs/vision_pictures.py`.

Every one is a photo of the zoo with what a kit found in it. Needs the extra `vision`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from brim import vision, zoo

PICTURES = Path(__file__).with_name("pictures")
QUALITY = 85  # of JPEG: 30 to 80 kB a picture
PAGE = (216, 211, 200)  # what is behind the astronaut when she is cut out


def pictures() -> dict[str, Image.Image]:
    """All pictures, by file name."""
    astronaut, coffee, page = (zoo.get(name) for name in ("astronaut", "coffee", "page"))
    hand = zoo.get("hand-pointing")
    cut = vision.Segment().detect(astronaut).cut_out(astronaut)
    paper = Image.new("RGBA", cut.size, PAGE)
    paper.alpha_composite(cut)
    with Image.open(page) as small:
        large = small.convert("RGB").resize((2 * small.width, 2 * small.height), 3)
    return {
        "face.jpg": larger(vision.Face(iris=True).detect(astronaut).draw(astronaut)),
        "pose.jpg": vision.Pose(mask=True).detect(astronaut).draw(astronaut),
        "hand.jpg": vision.Hands().detect(hand).draw(hand).resize((360, 480)),
        "things.jpg": vision.Objects().detect(coffee).draw(coffee),
        "cut.jpg": paper.convert("RGB"),
        "text.jpg": vision.Text().detect(large).draw(large),
    }


def larger(picture: Image.Image) -> Image.Image:
    """The upper middle of a portrait, where the face is."""
    return picture.crop((96, 0, 352, 256)).resize((512, 512), Image.Resampling.LANCZOS)


def main() -> None:
    for name, picture in pictures().items():
        picture.save(PICTURES / name, quality=QUALITY, optimize=True)
        print(name, (PICTURES / name).stat().st_size)


if __name__ == "__main__":
    sys.exit(main())
