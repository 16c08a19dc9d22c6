"""Where results go: looked at before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from brim.errors import InputError


def check_destinations(file: Path, *others: Path, suffixes: Sequence[str] = (".brim",)) -> None:
    """Raises InputError for a file that does not end in one of these, and for missing folders."""
    if file.suffix not in suffixes:
        raise InputError(
            f"{file} does not end in {' or '.join(suffixes)}", hint="artifacts are .brim files"
        )
    check_folders(file, *others)


def check_folders(*files: Path) -> None:
    """Raises InputError for a file whose folder is missing."""
    for each in files:
        if not each.parent.is_dir():
            raise InputError(f"{each} cannot be written", why=f"there is no folder {each.parent}")
