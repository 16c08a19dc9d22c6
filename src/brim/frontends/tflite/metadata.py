"""What a TFLite file tells about itself: descriptions, and the label files packed behind it."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from brim.frontends.tflite.card import CARD, read_card

MOST = 1 << 20  # bytes of a label file
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what tools write
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError)
REFUSED = (ValueError, OSError, NotImplementedError, RuntimeError)


def read_metadata(
    data: bytes,
    entries: Mapping[str, np.ndarray],
    description: str,
    ports: tuple[int, list[str], list[str]],
) -> dict[str, str]:
    """Texts by name: `description`, entries that are text, the card, and files of labels.

    ports: number of the sub-graph that is called, names of its inputs and outputs. Files are those
    of the zip archive that tools append to the model; a damaged archive tells nothing, since models
    run without it.
    """
    found = {"description": description} if description else {}
    for name, raw in entries.items():
        if name == CARD:
            found |= read_card(raw.tobytes(), *ports)
            continue
        try:
            text = raw.tobytes().decode("utf-8").rstrip("\0")
        except UnicodeDecodeError:
            continue
        if text.isprintable() and text:
            found[name] = text
    return found | _files(data)


def _files(data: bytes) -> dict[str, str]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [i for i in archive.infolist() if i.file_size <= MOST]
            names = [i.filename for i in members if i.compress_type in PACKINGS]
            return {n: archive.read(n).decode("utf-8", "replace") for n in names[:64]}
    except (*BROKEN, *REFUSED):
        return {}
