"""Pictures, however they come: an array of RGB bytes, or what a network takes, or an InputError.

Files are not trusted. Only formats that decode in this process are tried (Pillow would start
Ghostscript for PostScript), and what a header claims is checked before memory is taken for it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np

from brim.errors import InputError, UnsupportedError
from brim.types import Type

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
PIXELS = 1 << 26  # of one picture, 192 MiB as RGB: files of some kilobytes can claim billions
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")


def read_picture(image: Any) -> np.ndarray:
    """A picture as contiguous u8[height, width, 3], RGB, from a path, a Pillow image or an array.

    Pictures are turned upright by their EXIF tag. Of an animation the first frame is taken. Grey,
    palette, YCbCr and CMYK become RGB (colour profiles are not applied); of 16 bits the upper 8 are
    kept. What is transparent is laid on white, as a page would show it. An array is taken as it is,
    without a copy where its memory allows. Raises InputError for what is no such thing: no file, no
    picture, a damaged one, more than 2**26 pixels, an array of another shape or type; and
    UnsupportedError for a path where Pillow is not installed.
    """
    if isinstance(image, np.ndarray):
        return _checked(image)
    if isinstance(image, (str, PathLike)):
        return _from_file(fspath(image))
    imported = sys.modules.get("PIL.Image")  # whoever has such an image has imported it
    if imported is not None and isinstance(image, imported.Image):
        return _decoded(image, "the image")
    raise InputError(
        "this is no picture",
        why=f"it is of type {type(image).__name__}",
        hint="give a path, a Pillow image, or u8[height, width, 3] in RGB order",
    )


def network_input(
    image: Any, type: Type, mean: float | Sequence[float] = 0, std: float | Sequence[float] = 1
) -> np.ndarray:
    """A picture as a network's input: RGB (grey for one channel), resized to the input's size.

    image: as `read_picture` takes it; type: [N,3,H,W] or [N,H,W,3] (or 1 channel) with N = 1 or
    open; u8 gives 0..255, floats (0..1 - mean) / std, for all channels or for each. An open H or W
    takes the picture's own. Raises InputError and UnsupportedError.
    """
    shape = type.shape or ()
    first = len(shape) == 4 and shape[1] in (1, 3)
    last = len(shape) == 4 and shape[3] in (1, 3) and not first
    if not (first or last) or (isinstance(shape[0], int) and shape[0] != 1):
        raise InputError(
            f"a picture does not fit {type}",
            why="pictures go into inputs of shape 1x3xHxW or 1xHxWx3",
            hint="prepare the arrays yourself: files of numpy are read, too",
        )
    if not (type.dtype.is_float or type.dtype.name == "u8"):
        raise InputError(f"a picture does not fit {type}", why="pixels are u8 or floats")
    channels, height, width = shape[1:] if first else (shape[3], *shape[1:3])
    Image = pillow()
    picture = Image.fromarray(read_picture(image))
    columns = width if isinstance(width, int) else picture.width
    lines = height if isinstance(height, int) else picture.height
    picture = picture.convert("L" if channels == 1 else "RGB")
    picture = picture.resize((columns, lines), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture).reshape(1, lines, columns, -1)
    offset, scale = (np.asarray(each, np.float32) for each in (mean, std))
    plain = not offset.any() and (scale == 1).all()
    fits = {offset.size, scale.size} <= {1, channels} and scale.all()
    if not fits or not (plain or type.dtype.is_float):
        raise InputError(
            f"mean {mean} and std {std} do not fit {type}",
            why="they are one number or one for each channel, of floats, and std is never 0",
        )
    if type.dtype.is_float:
        scaled = (pixels.astype(np.float32) / 255 - offset) / scale
        pixels = scaled.astype(type.dtype.numpy)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) if first else pixels)


def pillow() -> Any:
    """The module PIL.Image. Raises UnsupportedError where Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UnsupportedError(
            "this needs Pillow", str(error), hint="pip install 'brim[pictures]'"
        ) from None
    return Image


def _checked(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise InputError(
            "an array is no picture",
            why=f"expected u8[height, width, 3], got {image.dtype}{list(image.shape)}",
            hint="values are 0..255 in RGB order; arrays of OpenCV are BGR: image[:, :, ::-1]",
        )
    _check_size(image.shape[1], image.shape[0], "the array")
    return np.ascontiguousarray(image)


def _check_size(width: int, height: int, where: str) -> None:
    if width * height > PIXELS:
        raise InputError(
            f"a picture of {width}x{height} pixels is refused",
            why=f"more than {PIXELS} pixels",
            where=where,
            hint="make it smaller first",
        )


def _from_file(path: str | bytes) -> np.ndarray:
    where, Image = str(path), pillow()
    try:
        with warnings.catch_warnings():
            # Of odd metadata and of claimed sizes, which are checked here.
            warnings.simplefilter("ignore")
            Image.init()
            known = [name for name in FORMATS if name in Image.OPEN]
            with Image.open(path, formats=known) as picture:
                return _decoded(picture, where)
    except InputError:
        raise
    except OSError as error:
        if error.errno is None and not isinstance(error, Image.UnidentifiedImageError):
            raise _damaged(error, where) from None
        raise InputError(
            f"no picture could be read from {where}",
            why=error.strerror or f"it is none of {', '.join(FORMATS)}, or damaged",
            hint="check the path and the file",
        ) from None
    except Image.DecompressionBombError:
        raise InputError(
            "a picture is refused", f"its header claims more than {PIXELS} pixels", where
        ) from None
    except Exception as error:  # decoders meet damaged files in many ways
        raise _damaged(error, where) from None


def _damaged(error: Exception, where: str) -> InputError:
    return InputError(
        "a picture is damaged", f"{type(error).__name__}: {error}"[:300], where, "get it again"
    )


def _decoded(picture: Image, where: str) -> np.ndarray:
    _check_size(picture.width, picture.height, where)
    if 0 in picture.size:
        raise InputError(
            f"a picture of {picture.width}x{picture.height} pixels is empty", "", where
        )
    try:
        from PIL import ImageOps

        picture.load()
        return np.ascontiguousarray(_rgb(ImageOps.exif_transpose(picture), where))
    except InputError:
        raise
    except Exception as error:  # decoders meet damaged files in many ways
        raise _damaged(error, where) from None


def _rgb(picture: Image, where: str) -> np.ndarray:
    if picture.mode in (*SIXTEEN_BITS, "I"):
        return _from_deep(np.asarray(picture), where)
    if picture.mode == "F":
        raise InputError(
            "a picture of floating point numbers is refused",
            why="nothing says which of them is white",
            where=where,
            hint="convert it to 8 bits",
        )
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        page = pillow().new("RGBA", picture.size, "white")
        page.alpha_composite(picture)
        picture = page
    return np.asarray(picture.convert("RGB"))


def _from_deep(grey: np.ndarray, where: str) -> np.ndarray:
    """Of 16 bits the upper 8, three times. Pillow holds some 16-bit pictures as 32-bit integers."""
    if grey.min() < 0 or grey.max() > 0xFFFF:
        raise InputError(
            "a picture of 32-bit integers is refused",
            why="nothing says which of them is white",
            where=where,
            hint="convert it to 8 bits",
        )
    upper = (grey.astype(np.uint16) >> 8).astype(np.uint8)
    return np.repeat(upper[:, :, None], 3, axis=2)
