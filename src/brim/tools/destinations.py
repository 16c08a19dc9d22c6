"""Where results go: looked at before anything is computed, and written whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from brim.errors import InputError


def check_destinations(artifact: Path, *others: Path) -> None:
    """Raises InputError for an artifact that is not called one, and for missing folders."""
    if artifact.suffix != ".brim":
        raise InputError(f"{artifact} does not end in .brim", hint="artifacts are .brim files")
    for file in (artifact, *others):
        if not file.parent.is_dir():
            raise InputError(f"{file} cannot be written", why=f"there is no folder {file.parent}")


def write_text(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
