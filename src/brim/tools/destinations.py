"""Where results go: looked at before anything is computed, and written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from brim.errors import InputError


def check_destinations(file: Path, *others: Path, suffixes: Sequence[str] = (".brim",)) -> None:
    """Raises InputError for a file that does not end in one of these, and for missing folders."""
    if file.suffix not in suffixes:
        raise InputError(
            f"{file} does not end in {' or '.join(suffixes)}", hint="artifacts are .brim files"
        )
    for each in (file, *others):
        if not each.parent.is_dir():
            raise InputError(f"{each} cannot be written", why=f"there is no folder {each.parent}")


def write_text(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
