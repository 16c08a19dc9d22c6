"""ONNX operators that read pictures and match texts, with packages made for untrusted input.

They run on the host. Pillow and google-re2 are extras, imported when a model needs them.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from brim.errors import InputError, ModelError, UnsupportedError
from brim.frontends.onnx.operators.patterns import compiled
from brim.frontends.onnx.table import Call, host

if TYPE_CHECKING:
    from PIL.Image import Image

PIXELS = 1 << 26  # of one picture: files of some kilobytes can claim billions
# What ONNX names. Pillow knows more, some of which start other programs.
_FORMATS = ("BMP", "JPEG", "JPEG2000", "TIFF", "PNG", "WEBP", "PPM")
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # more than 8 bits: never cut silently


@host("ImageDecoder", since=20)
def image_decoder(call: Call, encoded: np.ndarray) -> np.ndarray:
    """u8[height,width,3] or, for Grayscale, [...,1].

    What cannot be decoded is an InputError, as in ONNX's reference implementation; the empty matrix
    that the standard's text has for it would be taken for a picture.
    """
    order = call.choice("pixel_format", "RGB", ("RGB", "BGR", "Grayscale"))
    if encoded.dtype != np.uint8 or encoded.ndim != 1:
        raise ModelError(f"a picture is encoded as u8[n], not {encoded.dtype}{encoded.shape}")
    picture = _decoded(encoded.tobytes())
    if order == "Grayscale":
        return np.asarray(picture.convert("L"))[:, :, None]
    pixels = np.asarray(picture.convert("RGB"))
    return np.ascontiguousarray(pixels[:, :, ::-1]) if order == "BGR" else pixels


def _decoded(data: bytes) -> Image:
    """The first picture of a file, loaded. Raises InputError, and UnsupportedError without PIL."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UnsupportedError(
            "decoding pictures needs Pillow", str(error), hint="pip install 'brim[pictures]'"
        ) from None
    try:
        picture = Image.open(io.BytesIO(data), formats=_FORMATS)
        if picture.width * picture.height > PIXELS:
            raise InputError(
                f"a picture of {picture.width}x{picture.height} pixels is refused",
                f"more than {PIXELS} pixels",
            )
        picture.load()
    except InputError:
        raise
    except Exception as error:  # decoders meet damaged files in many ways
        raise InputError(
            "a picture cannot be decoded",
            f"{type(error).__name__}: {error}"[:300],
            hint=f"known: {', '.join(_FORMATS)}",
        ) from None
    if picture.mode in _DEEP:
        raise InputError(f"a picture with pixels of kind {picture.mode!r} is refused", "not 8 bits")
    return picture


@host("RegexFullMatch", since=20)
def regex_full_match(call: Call, x: np.ndarray) -> np.ndarray:
    """Whether all of each text matches, in time linear in its length: RE2 never backtracks."""
    pattern = compiled(call.text("pattern"), "RegexFullMatch")
    found = [pattern.fullmatch(text) is not None for text in x.ravel()]
    return np.array(found, bool).reshape(x.shape)
