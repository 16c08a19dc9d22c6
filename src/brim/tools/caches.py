"""What brim keeps on disk, part by part. Other files in the same folder are not brim's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from brim import settings

# What the cache names its files. BRIM_CACHE may point at any folder: other files are not ours.
_ENTRY = re.compile(r"[0-9a-f]{16,128}(\.intact)?|\.new-.*")
COMPILED = ("kernels", "models", "digests")
PARTS = (*COMPILED, "zoo", "tuned")


def cache_files(part: str) -> Iterator[Path]:
    """The files of one of PARTS that brim made, in no order. The cache must not be off."""
    if part == "tuned":
        path = settings.tuned_file()  # it may lie elsewhere
        if path and path.is_file():
            yield path
        return
    folder = settings.cache_directory() / part
    if not folder.is_dir():
        return
    from brim import zoo

    names = {entry.file_name for entry in zoo.list()}
    for file in folder.iterdir():
        ours = file.name in names if part == "zoo" else _ENTRY.fullmatch(file.name)
        if ours and file.is_file():
            yield file
