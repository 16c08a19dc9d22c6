"""What `read_picture` takes, and what it refuses: pictures of all kinds, and files that lie."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brim import pictures
from brim.errors import InputError
from brim.pictures import read_picture

Image = pytest.importorskip("PIL.Image")

# Four corners of four colours, so that a wrong turn, mirror or order of channels shows.
COLOURS = np.array([[[200, 10, 20], [30, 190, 40]], [[50, 60, 210], [220, 230, 70]]], np.uint8)
PIXELS = np.kron(COLOURS, np.ones((24, 16, 1), np.uint8))  # 48 rows, 32 columns
GREY = np.repeat(np.arange(48, dtype=np.uint8)[:, None] * 5, 32, axis=1)
ORIENTATION = 0x0112
# How a camera that was turned stores the picture that PIXELS shows.
STORED = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: np.rot90(PIXELS),
    7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(PIXELS, -1),
}


def saved(picture: Any, path: Path, **how: Any) -> Path:
    picture.save(path, **how)
    return path


def test_paths_images_and_arrays_give_the_same(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    path = saved(image, tmp_path / "a.png")
    for given in (path, str(path), image, PIXELS, PIXELS[:, ::-1].copy()[:, ::-1]):
        found = read_picture(given)
        assert found.dtype == np.uint8
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, PIXELS)
    assert read_picture(PIXELS) is PIXELS  # video frames are not copied


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("form", ["png", "tiff", "webp", "image"])
def test_exif_turns_pictures_upright(orientation: int, form: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if form == "image":
        given = image
        given.getexif()[ORIENTATION] = orientation
    else:
        how = {"lossless": True} if form == "webp" else {}
        given = saved(image, tmp_path / f"a.{form}", exif=exif, **how)
    np.testing.assert_array_equal(read_picture(given), PIXELS)


@pytest.mark.parametrize("form", ["png", "bmp", "gif", "ppm", "tiff", "webp"])
def test_formats_without_loss(form: str, tmp_path: Path) -> None:
    how = {"lossless": True} if form == "webp" else {}
    path = saved(Image.fromarray(PIXELS), tmp_path / f"a.{form}", **how)
    np.testing.assert_array_equal(read_picture(path), PIXELS)


def test_a_fresh_process_knows_all_formats(tmp_path: Path) -> None:
    """Pillow loads most of its decoders when they are first asked for."""
    path = saved(Image.fromarray(PIXELS), tmp_path / "a.webp", lossless=True)
    code = f"from brim.pictures import *; print(read_picture({str(path)!r}).sum())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == [str(PIXELS.sum())], run.stderr


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("form", ["jpeg", "tiff"])
def test_colours_survive_their_mode(mode: str, form: str, tmp_path: Path) -> None:
    """JPEGs are YCbCr inside; a CMYK one is stored the other way round."""
    image = Image.fromarray(PIXELS)
    how = {"quality": 98, "subsampling": 0} if form == "jpeg" else {}
    found = read_picture(saved(image.convert(mode), tmp_path / f"a.{form}", **how))
    wanted = PIXELS if mode != "L" else np.asarray(image.convert("L").convert("RGB"))
    assert np.abs(found[4:-4, 4:-4].astype(int) - wanted[4:-4, 4:-4]).mean() < 3


def test_one_bit_grey_and_palettes(tmp_path: Path) -> None:
    image = Image.fromarray(GREY)
    wanted = np.repeat(GREY[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(read_picture(saved(image, tmp_path / "grey.png")), wanted)
    bits = image.point(lambda v: 255 * (v > 100), "1")
    found = read_picture(saved(bits, tmp_path / "bits.png"))
    np.testing.assert_array_equal(found, np.where(wanted > 100, 255, 0))
    palette = Image.fromarray(PIXELS).quantize(8)
    found = read_picture(saved(palette, tmp_path / "palette.png"))
    np.testing.assert_array_equal(found, np.asarray(palette.convert("RGB")))


def test_what_is_transparent_is_laid_on_white(tmp_path: Path) -> None:
    alpha = np.zeros((48, 32), np.uint8)
    alpha[:24], alpha[24:36] = 255, 128
    image = Image.fromarray(np.dstack([PIXELS, alpha]))
    found = read_picture(saved(image, tmp_path / "a.png")).astype(int)
    np.testing.assert_array_equal(found[:24], PIXELS[:24])
    half = (PIXELS[24:36].astype(int) * 128 + 255 * 127) / 255
    assert np.abs(found[24:36] - half).max() <= 1
    np.testing.assert_array_equal(found[36:], 255)
    grey = Image.fromarray(np.dstack([GREY, alpha]), "LA")
    found = read_picture(saved(grey, tmp_path / "grey.png"))
    np.testing.assert_array_equal(found[36:], 255)
    np.testing.assert_array_equal(found[:24, :, 0], GREY[:24])


def test_a_transparent_colour_of_a_palette_is_white(tmp_path: Path) -> None:
    palette = Image.fromarray(PIXELS).quantize(4)
    hidden = palette.getpixel((0, 0))
    path = saved(palette, tmp_path / "a.gif", transparency=hidden)
    found = read_picture(path)
    np.testing.assert_array_equal(found[:24, :16], 255)
    assert (found[24:] != 255).any()


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_of_sixteen_bits_the_upper_eight_are_kept(form: str, tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 256 + 77
    found = read_picture(saved(Image.fromarray(deep), tmp_path / f"a.{form}"))
    np.testing.assert_array_equal(found, np.repeat(GREY[:, :, None], 3, axis=2))
    as_integers = Image.fromarray(deep.astype(np.int32))
    np.testing.assert_array_equal(read_picture(as_integers), found)


@pytest.mark.parametrize("form", ["gif", "png", "webp", "tiff"])
def test_of_an_animation_the_first_frame_is_taken(form: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(f) for f in (PIXELS, PIXELS[::-1].copy(), PIXELS[:, ::-1].copy())]
    how = {"lossless": True} if form == "webp" else {}
    path = saved(frames[0], tmp_path / f"a.{form}", save_all=True, append_images=frames[1:], **how)
    np.testing.assert_array_equal(read_picture(path), PIXELS)


@pytest.mark.parametrize("shape", [(1, 1), (1, 20_000), (3000, 20_000), (20_000, 1)])
def test_small_and_wide_pictures(shape: tuple[int, int], tmp_path: Path) -> None:
    path = saved(Image.new("RGB", shape[::-1], (9, 8, 7)), tmp_path / "a.png")
    found = read_picture(path)
    assert found.shape == (*shape, 3)
    assert (found == (9, 8, 7)).all()


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "given",
    [
        None, 3, [[1, 2, 3]], b"bytes", np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.int8),
        np.zeros((0, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.uint8), np.float32(1),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(given: Any) -> None:
    with pytest.raises(InputError):
        read_picture(given)


@pytest.mark.parametrize(("mode", "size"), [("F", (4, 4)), ("RGB", (0, 4)), ("HSV", (0, 0))])
def test_images_without_a_meaning_are_refused(mode: str, size: tuple[int, int]) -> None:
    with pytest.raises(InputError):
        read_picture(Image.new(mode, size))


def test_integers_of_32_bits_are_refused() -> None:
    with pytest.raises(InputError, match="32-bit"):
        read_picture(Image.fromarray(np.full((4, 4), 70_000, np.int32)))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x89PNG\r\n\x1a\n", b"no picture" * 100, b"%!PS-Adobe-3.0 EPSF-3.0\n", bytes(4096)],
    ids=["empty", "signature", "text", "postscript", "zeros"],
)  # fmt: skip
def test_files_that_are_no_pictures(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_picture(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("path", ["", "nowhere.png", ".", "bad\0name.png", "http://host/a.png"])
def test_paths_that_lead_to_no_picture(path: str) -> None:
    with pytest.raises(InputError):
        read_picture(path)


def encoded(form: str) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["png", "jpeg", "gif", "webp", "tiff", "bmp"])
def test_truncated_files_are_refused(form: str, tmp_path: Path) -> None:
    whole, path = encoded(form), tmp_path / "a"
    for part in (0.1, 0.3, 0.5, 0.7, 0.9):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(InputError):
            read_picture(path)


@pytest.mark.parametrize("form", ["png", "jpeg", "gif", "webp", "tiff", "bmp", "ppm"])
def test_damaged_files_give_a_picture_or_an_input_error(form: str, tmp_path: Path) -> None:
    whole, path = encoded(form), tmp_path / "a"
    rng = np.random.default_rng(len(form))
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 400), 4):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            found = read_picture(path)
        except InputError:
            continue
        assert found.dtype == np.uint8
        assert found.shape[0] * found.shape[1] <= pictures.PIXELS


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims that many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1 << 16))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8200, 12_000, 60_000, (1 << 31) - 1])
def test_decompression_bombs_are_refused_before_memory_is_taken(side: int, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(bomb(side, side))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="pixels"):
            read_picture(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_large_arrays_are_refused() -> None:
    claimed = np.broadcast_to(np.zeros(3, np.uint8), (1 << 14, 1 << 13, 3))
    with pytest.raises(InputError, match="pixels"):
        read_picture(claimed)
