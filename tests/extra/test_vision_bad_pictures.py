"""Odd and hostile pictures through every kit: a right result or an error that says what is wrong.

How pictures are read is tested without networks elsewhere; here whole kits meet sizes, modes and
damage that no network was made for.
"""

from __future__ import annotations

import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image

from brim import vision, zoo
from brim.errors import InputError
from brim.vision import Kit

pytestmark = pytest.mark.network
KITS = {
    "Face": "astronaut",
    "Pose": "astronaut",
    "Hands": "hand-fist",
    "Objects": "chelsea",
    "Segment": "astronaut",
    "Classify": "chelsea",
    "Text": "page",
}


@cache
def kit(name: str) -> Kit:
    return getattr(vision, name)(threads=1)


def photo(name: str = "chelsea") -> Image.Image:
    with Image.open(zoo.get(name)) as picture:
        return picture.convert("RGB")


def labels(found: vision.Results) -> list[str]:
    return [each.label for each in found]


@pytest.mark.parametrize("name", KITS)
@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (3, 2), (20_000, 3), (20_000, 200)])
def test_any_size_gives_a_result(name: str, size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = kit(name).detect(pixels)
    assert found.picture == size
    for each in found:
        assert np.isfinite(each.box.to_numpy()).all() and 0 <= each.score <= 1
        assert each.mask is None or each.mask.shape == (height, width)
    found.draw(pixels)
    found.to_coco()


@pytest.mark.parametrize("name", KITS)
def test_modes_of_one_picture_give_one_result(name: str, tmp_path: Path) -> None:
    """CMYK, a palette, 16 bits, transparency, an animation: what they show is what counts."""
    plain = photo(KITS[name])
    want = kit(name).detect(plain)
    black = Image.new("RGB", plain.size)
    plain.save(tmp_path / "frames.gif", save_all=True, append_images=[black])
    plain.save(tmp_path / "frames.webp", save_all=True, append_images=[black], lossless=True)
    plain.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    plain.save(tmp_path / "plain.tiff")
    plain.convert("RGBA").save(tmp_path / "opaque.png")
    plain.transpose(Image.Transpose.ROTATE_90).save(
        tmp_path / "turned.jpg", exif=turned(), quality=98
    )
    for path in sorted(tmp_path.iterdir()):
        found = kit(name).detect(path)
        assert found.picture == want.picture, path.name
        if name == "Classify":
            assert set(labels(found)[:3]) == set(labels(want)[:3]), path.name
            continue
        assert labels(found) == labels(want), path.name
        for a, b in zip(found, want):
            moved = np.linalg.norm(places(a, b) - places(b, b), axis=1)
            assert np.median(moved) < 0.03 * max(want.picture), path.name


def places(found: vision.Found, guide: vision.Found) -> np.ndarray:
    """f32[n,2]: the points that are seen in `guide`; the box's corners where there are none. Points
    outside of the picture are guesses, and not compared."""
    points, shown = found.landmarks, guide.landmarks
    if points is None or shown is None or shown.visibility is None:
        return found.box.to_numpy().reshape(2, 2)
    return points.pixels[shown.visibility > 0.9, :2]


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright: to be turned clockwise
    return exif


def bomb() -> bytes:
    """A PNG of some bytes whose header claims 100,000 x 100,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1_000_000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("name", KITS)
def test_what_is_no_picture_is_refused(name: str, tmp_path: Path) -> None:
    whole = Path(zoo.get("chelsea")).read_bytes()
    photo().save(tmp_path / "whole.jpg")
    files = {
        "empty.png": b"",
        "cut.png": whole[: len(whole) // 2],
        "cut.jpg": (tmp_path / "whole.jpg").read_bytes()[:3000],
        "words.jpg": b"this is no picture",
        "bomb.png": bomb(),
        "page.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    }
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
        with pytest.raises(InputError):
            kit(name).detect(tmp_path / file)
    for wrong in (tmp_path, tmp_path / "nothing.png", None, 3, np.zeros((4, 4)), b"bytes"):
        with pytest.raises(InputError):
            kit(name).detect(wrong)
    with pytest.raises(InputError, match="pixels"):
        kit(name).detect(np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (40_000, 40_000, 3)))
