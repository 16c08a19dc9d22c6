"""Files that appear whole or not at all: written beside their place, then renamed.

    with written(path) as temporary:
        temporary.write_text(page)

What was there before stays until the new file is complete, and stays for good where writing fails
or the process is killed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from brim.errors import InputError

_UNFINISHED = ".brim-"


@contextmanager
def written(
    path: Path, *, parents: bool = False, lasting: bool = False, hint: str = ""
) -> Iterator[Path]:
    """Yields a name to write to, in the folder of `path` and with its suffix; the file gets the
    name `path` when the block ends, and is removed where it ends by an exception.

    parents: the folder is made if it is missing. lasting: the file and its name are on the disk
    when this is over, so that a loss of power leaves the old file or the new one. Raises
    InputError, with this hint, for any OSError meanwhile.
    """
    temporary = path.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}{path.suffix}")
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if lasting:
            _to_disk(temporary)
        os.replace(temporary, path)
        if lasting:
            _to_disk(path.parent)
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(f"{path} cannot be written", why=why, hint=hint) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a text file as UTF-8. Raises InputError."""
    with written(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_unfinished(folder: Path, suffix: str) -> None:
    """Removes what processes left in a folder that were killed while they wrote files with this
    suffix. For folders in which one process at a time writes such."""
    for left in folder.glob(f"{_UNFINISHED}*{suffix}"):
        with suppress(OSError):
            left.unlink()


def _to_disk(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
