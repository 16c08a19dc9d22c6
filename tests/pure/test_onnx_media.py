"""ImageDecoder and RegexFullMatch: right for good input, a typed error for bad, and never slow."""

from __future__ import annotations

import io
import struct
import time
import zlib

import numpy as np
import pytest

from brim.errors import InputError, ModelError, UnsupportedError
from brim.frontends.onnx import import_model
from brim.graph import evaluate
from tests.onnx_models import model, node

U8, STRING, BOOL = 2, 8, 9


def decode(data: bytes, pixel_format: str = "RGB") -> np.ndarray:
    decoder = node("ImageDecoder", "x", "y", pixel_format=pixel_format)
    proto = model([decoder], [("x", U8, ["n"])], [("y", U8, None)], opset=20)
    graph = import_model(proto, {"x": (len(data),)})
    return evaluate(graph, {"x": np.frombuffer(data, np.uint8)})["y"]


def match(pattern: str, texts: list[str]) -> list[bool]:
    proto = model(
        [node("RegexFullMatch", "x", "y", pattern=pattern)],
        [("x", STRING, [len(texts)])], [("y", BOOL, None)], opset=20,
    )  # fmt: skip
    return evaluate(import_model(proto), {"x": np.array(texts, object)})["y"].tolist()


# ------------------------------------------------------------------ pictures

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def encoded(pixels: np.ndarray, kind: str, mode: str = "RGB", **options: object) -> bytes:
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["BMP", "PNG", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_lossless_pictures(kind: str) -> None:
    data = encoded(PIXELS, kind, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(decode(data), PIXELS)
    np.testing.assert_array_equal(decode(data, "BGR"), PIXELS[:, :, ::-1])


def test_pictures_without_colour_have_three_channels_all_the_same() -> None:
    """A palette, grey levels, or transparency: the standard knows pixels of RGB only."""
    for mode in ("P", "L", "1", "RGBA", "CMYK"):
        kind = "TIFF" if mode == "CMYK" else "PNG"
        found = decode(encoded(PIXELS, kind, mode))
        assert found.shape == (5, 7, 3)
        if mode == "RGBA":
            np.testing.assert_array_equal(found, PIXELS)
        if mode in ("L", "1"):
            np.testing.assert_array_equal(found[..., 0], found[..., 2])
    assert decode(encoded(PIXELS, "PNG"), "Grayscale").shape == (5, 7, 1)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about what is cut
@pytest.mark.parametrize("kind", ["BMP", "PNG", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_a_cut_file_is_a_typed_error_or_has_all_pixels(kind: str) -> None:
    """The last bytes of some formats are no pixels."""
    data = encoded(PIXELS, kind, **({"lossless": True} if kind == "WEBP" else {}))
    errors = 0
    for length in range(0, len(data), 5):
        try:
            np.testing.assert_array_equal(decode(data[:length]), PIXELS)
        except InputError:
            errors += 1
    assert errors > len(data) // 10


def test_what_is_no_picture_that_onnx_names() -> None:
    pytest.importorskip("PIL.Image")
    for data in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"GIF89a", b"\0" * 99):
        with pytest.raises(InputError, match="cannot be decoded"):
            decode(data)


def test_a_small_file_that_claims_a_huge_picture() -> None:
    pytest.importorskip("PIL.Image")

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    for side in (9_000, 60_000):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
        with pytest.raises(InputError, match="refused|decoded"):
            decode(data)


def test_deep_pixels_are_not_cut() -> None:
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image.fromarray(np.arange(6, dtype=np.uint16).reshape(2, 3) * 999).save(file, "PNG")
    with pytest.raises(InputError, match="not 8 bits"):
        decode(file.getvalue())


def test_a_pixel_format_that_does_not_exist() -> None:
    with pytest.raises(UnsupportedError, match="pixel_format='XYZ'"):
        decode(b"", "XYZ")


# ------------------------------------------------------------------ texts


def test_all_of_a_text_must_match() -> None:
    pytest.importorskip("re2")
    assert match(r"\w+@\w+\.com", ["a@b.com", "a@b.com ", "x a@b.com"]) == [True, False, False]
    assert match(r"(?i)grün.*", ["GRÜNER", "rot", "grün\n"]) == [True, False, False]
    assert match("", ["", "a"]) == [True, False]


def test_no_pattern_takes_time_without_end() -> None:
    """Python's own engine would take some 2**40 steps for each of these texts."""
    pytest.importorskip("re2")
    start = time.perf_counter()
    assert match("(a|a)*(a+)+(.*a){12}$", ["a" * 40 + "!"] * 10) == [False] * 10
    assert time.perf_counter() - start < 5


def test_patterns_that_are_none() -> None:
    pytest.importorskip("re2")
    for pattern in ("(", r"(a)\1", "(?=look)", "a{1001}", "[[:nope:]]"):
        with pytest.raises(ModelError, match="not a pattern"):
            match(pattern, ["a"])


def test_without_re2_there_is_no_other_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(UnsupportedError, match=r"brim\[text\]"):
        match("a", ["a"])
