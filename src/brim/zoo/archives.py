"""Reads one file out of a package's archive, damaged and hostile archives included."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from difflib import get_close_matches
from io import BytesIO
from pathlib import Path
from typing import IO, BinaryIO, cast

from brim.errors import DownloadError
from brim.zoo.entries import Entry

# An npm archive has no index, so all that precedes a file in it must be unpacked to reach it.
LONGEST_ARCHIVE = 1 << 30
LONGEST_NESTED = 1 << 27  # an archive within one is held in memory
# What the archive modules raise at a damaged file (RuntimeError: an encrypted member).
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)


def read_member(archive: Path, entry: Entry) -> bytes:
    """The content of the entry's file, at most one byte longer than it should be. Raises
    DownloadError for an archive that is damaged or has no such file."""
    try:
        if archive.suffix == ".whl":
            return _read_zip(archive, entry, entry.member)
        return _read_tar(archive, entry)
    except DAMAGE as error:
        raise DownloadError(
            f"{archive.name} is damaged", why=str(error), where=entry.requirement
        ) from None


def _read_zip(archive: Path | BytesIO, entry: Entry, member: str) -> bytes:
    with zipfile.ZipFile(archive) as package:
        if member not in package.namelist():
            raise _missing(entry, member, package.namelist())
        with package.open(member) as file:
            return file.read(entry.bytes + 1) if member == entry.inside else _content(file, entry)


def _read_tar(archive: Path, entry: Entry) -> bytes:
    names = []
    with gzip.open(archive) as raw, tarfile.open(fileobj=_bounded(raw), mode="r|") as package:
        for member in package:
            if member.name == entry.member and member.isreg():
                file = package.extractfile(member)
                assert file is not None
                return _content(file, entry)
            names.append(member.name)
    raise _missing(entry, entry.member, names)


def _content(member: IO[bytes], entry: Entry) -> bytes:
    """The entry's file, given its member of the package."""
    if entry.inside:
        return _read_zip(BytesIO(member.read(LONGEST_NESTED)), entry, entry.inside)
    if entry.start is not None:
        member.read(entry.start)
        return member.read(entry.bytes)
    return member.read(entry.bytes + 1)


def _missing(entry: Entry, member: str, names: Iterable[str]) -> DownloadError:
    near = get_close_matches(member, names, n=3)
    return DownloadError(
        f"{entry.requirement} has no {member}",
        why=f"the nearest names in it: {', '.join(near) or 'none'}",
        where=entry.requirement,
        hint="the package differs from the pinned one; is the index a mirror?",
    )


def _bounded(stream: gzip.GzipFile) -> BinaryIO:
    return cast(BinaryIO, _Bounded(stream))  # tarfile only reads


class _Bounded:
    """A stream that refuses to give more than LONGEST_ARCHIVE bytes: a small gzip file can hold a
    thousand times its size."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self.stream, self.left = stream, LONGEST_ARCHIVE

    def read(self, size: int) -> bytes:
        data = self.stream.read(min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"more than {LONGEST_ARCHIVE} bytes when unpacked")
        return data
