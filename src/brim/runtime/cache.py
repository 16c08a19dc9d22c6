"""A content-addressed cache on disk for compiled kernels and the like: one file per entry.

An entry is found by its key (the hex digest of what it was made from) and carries a digest of its
own content, so a damaged, truncated or misplaced one is noticed, removed and reported as a miss.
That a large entry was intact is noted beside it, and holds until its file changes or the system
starts anew.
Files appear by `os.replace` and are never changed afterwards: any number of processes may share a
directory, and one that is killed leaves at most a temporary file, which a later one removes. Since
entries are machine code, a directory that others could write to is refused. What goes into a key,
and whether caching is wanted at all, is not decided here.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import mmap
import os
import re
import stat
import struct
import time
import warnings
from collections.abc import Iterable
from pathlib import Path

from brim import settings
from brim.errors import BrimError, TrustError
from brim.runtime.digests import SMALL, file_state

# magic, format version, payload bytes, SHA-256 of key and payload; 64 bytes, so that a mapped
# payload is aligned to a cache line.
_HEADER = struct.Struct("<8sI4xQ32s8x")
_MAGIC, _VERSION = b"brimcach", 1
_KEY = re.compile(r"[0-9a-f]{16,128}")
_TEMPORARY = ".new-"
_CHUNK = 1 << 18  # bytes that are hashed at a time
_NOTE = ".intact"  # the ending of the file that holds the state in which an entry was intact
_ABANDONED_SECONDS = 3600.0  # no process takes that long to write one entry
# Directory -> bytes that this process may write there before it sums up the sizes again.
_ALLOWANCES: dict[Path, int] = {}


class Cache:
    """Entries under `directory`, together at most about `limit_bytes` (the oldest used go first).

    The directory is made (mode 0700) when it is missing. Raises TrustError when it belongs to
    someone else or others may write to it. When it cannot be made or written, or the disk is full,
    the cache warns once (RuntimeWarning) and stores nothing; reading goes on as far as possible.
    Safe to use from several threads and processes.
    """

    def __init__(self, directory: str | os.PathLike[str], limit_bytes: int = 1 << 30) -> None:
        self.directory = Path(directory)
        self.limit_bytes = limit_bytes
        self._writable = True
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_if_shared(self.directory)
        except OSError as error:
            self._give_up(error)

    def get(self, key: str) -> bytes | None:
        """The entry's bytes, or None. An entry that is not intact is removed."""
        found = self.map(key)
        return None if found is None else bytes(found)

    def map(self, key: str) -> memoryview | None:
        """The entry's bytes as a read-only view of the file in memory, or None.

        For big entries: pages are shared between processes and come from the disk's cache. The
        view stays valid when the entry is removed or replaced.
        """
        path = self._path(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | _FLAGS)
        except OSError:  # missing, unreadable, or a symbolic link
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or _foreign(status):
                return None
            if _is_intact(path, descriptor, status.st_size):
                content = mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ)
                return memoryview(content)[_HEADER.size :]
        except OSError:
            return None
        finally:
            os.close(descriptor)
        _remove(str(path))
        return None

    def put(self, key: str, *parts: bytes | memoryview) -> None:
        """Store an entry, replacing one of the same key. Does not raise when storing fails.

        parts: the content, one after another, so that nobody has to join what is large.
        """
        path = self._path(key)
        length = sum(map(len, parts))
        size = _HEADER.size + length
        if not self._writable or size > self.limit_bytes:
            return
        temporary = self.directory / f"{_TEMPORARY}{os.getpid()}-{os.urandom(8).hex()}"
        try:
            if _ALLOWANCES.get(self.directory, 0) < size:
                self._sweep(size)
            _ALLOWANCES[self.directory] -= size
            digest = _digest(key, parts)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_HEADER.pack(_MAGIC, _VERSION, length, digest))
                file.writelines(parts)
            # No fsync: what a power cut tears, the digest finds.
            os.replace(temporary, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            self._give_up(error)
            return
        if size >= SMALL:
            with contextlib.suppress(OSError), path.open("rb") as file:
                _note(path, file_state(file.fileno()))

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise BrimError(
                f"{key[:80]!r} is not a cache key", "a key is 16 to 128 lower-case hex digits"
            )
        return self.directory / key

    def _give_up(self, error: OSError) -> None:
        if self._writable:
            self._writable = False
            warnings.warn(
                f"nothing will be cached in {self.directory}: {error}", RuntimeWarning, stacklevel=3
            )

    def _sweep(self, incoming: int) -> None:
        """Remove abandoned temporary files, and the longest unused entries beyond the limit."""
        now = time.time()
        entries: dict[str, tuple[float, int]] = {}  # key -> last use and bytes, with those of notes
        with os.scandir(self.directory) as files:
            for file in files:
                try:
                    status = file.stat(follow_symlinks=False)
                except OSError:  # another process removed it
                    continue
                key = file.name.removesuffix(_NOTE)
                if file.name.startswith(_TEMPORARY):
                    if now - status.st_mtime > _ABANDONED_SECONDS:
                        _remove(file.path)
                elif _KEY.fullmatch(key):
                    used, size = entries.get(key, (0.0, 0))
                    entries[key] = max(used, status.st_mtime), size + status.st_size
        total = sum(size for _, size in entries.values()) + incoming
        if total > self.limit_bytes:
            for key in sorted(entries, key=entries.__getitem__):
                _remove(str(self.directory / key))
                total -= entries[key][1]
                # A tenth more than needed, so that a full cache is not swept at every put.
                if total <= self.limit_bytes * 9 // 10:
                    break
        # Other processes write too: look again after a sixteenth of the limit at the latest.
        room = max(self.limit_bytes - total, 0)
        _ALLOWANCES[self.directory] = incoming + min(room, self.limit_bytes // 16)


def default_directory() -> Path:
    """$BRIM_CACHE, else $XDG_CACHE_HOME/brim, else ~/.cache/brim."""
    return settings.cache_directory()


_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def _digest(key: str, parts: Iterable[bytes | memoryview]) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(b"\0")
    for part in parts:
        digest.update(part)
    return digest.digest()


def _is_intact(path: Path, descriptor: int, size: int) -> bool:
    """Whether an entry is as it was put; and notes its use, for the sweep."""
    if size < SMALL:
        if intact := _fits(path.name, descriptor, size):
            with contextlib.suppress(OSError):
                os.utime(path)
        return intact
    state = file_state(descriptor)
    if state and state == _noted(path):
        with contextlib.suppress(OSError):
            os.utime(_note_of(path))  # not the entry's: that would be a change of its state
        return True
    intact = _fits(path.name, descriptor, size)
    if intact and state == file_state(descriptor):
        _note(path, state)
    return intact


def _fits(key: str, descriptor: int, size: int) -> bool:
    """Whether header and digest fit the content. It is read: mapped pages would stay in memory."""
    if size < _HEADER.size:
        return False
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        magic, version, length, digest = _HEADER.unpack(file.read(_HEADER.size))
        if (magic, version, length) != (_MAGIC, _VERSION, size - _HEADER.size):
            return False
        parts = iter(lambda: file.read(_CHUNK), b"")
        return hmac.compare_digest(digest, _digest(key, parts))


def _note_of(path: Path) -> Path:
    return path.with_name(path.name + _NOTE)


def _noted(path: Path) -> str:
    """The state in which an entry was intact, or ''."""
    try:
        return _note_of(path).read_text()
    except (OSError, ValueError):
        return ""


def _note(path: Path, state: str) -> None:
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{os.urandom(8).hex()}")
    with contextlib.suppress(OSError):
        if state:
            temporary.write_text(state)
            os.replace(temporary, _note_of(path))


def _foreign(status: os.stat_result) -> bool:
    return hasattr(os, "geteuid") and status.st_uid != os.geteuid()


def _refuse_if_shared(directory: Path) -> None:
    status = directory.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{directory} is not a directory")
    if not hasattr(os, "geteuid"):
        return
    hint = "name a directory of your own with BRIM_CACHE"
    if _foreign(status):
        raise TrustError(
            "the cache directory belongs to another user",
            f"its entries are machine code; its owner is {status.st_uid}, you are {os.geteuid()}",
            str(directory),
            hint,
        )
    if status.st_mode & 0o022:
        raise TrustError(
            "others may write to the cache directory",
            f"its entries are machine code; its mode is {stat.S_IMODE(status.st_mode):04o}",
            str(directory),
            f"chmod 700 it, or {hint}",
        )


def _remove(path: str) -> None:
    """Removes an entry and what is noted of it."""
    for name in (path, path + _NOTE):
        with contextlib.suppress(OSError):
            os.unlink(name)
