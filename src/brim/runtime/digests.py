"""SHA-256 of files, remembered for as long as the file system vouches that they did not change.

Every write to a file sets its change time (ctime), which no program can set back, as Git's index
relies on. That is no proof in two cases, and then a file is read again each time: where it changed
just now, since clocks tick coarsely; and on file systems that are remote, or do not notice writes
through mapped memory. Those that do notice a write to a page once that is on disk, so a file's
pages are written out before it is hashed. What a digest is good for is not known here.
"""

from __future__ import annotations

import hashlib
import os
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from brim.errors import ModelError

if TYPE_CHECKING:
    from brim.runtime.cache import Cache

SMALL = 1 << 20  # bytes that are hashed sooner than anything is remembered of them
CALM = 60.0  # seconds without a change; by then the system has written nearly everything to disk
LOCAL = frozenset(("btrfs", "ext4", "f2fs", "xfs"))


def file_digest(path: Path, known: Cache | None = None) -> str:
    """SHA-256 of a file's bytes, in hex; the file is read, not mapped. Raises ModelError.

    known: where digests of large files are kept, by the state of the file.
    """
    try:
        with path.open("rb", buffering=0) as file:
            descriptor = file.fileno()
            if known is None or os.fstat(descriptor).st_size < SMALL:
                return hashlib.file_digest(file, "sha256").hexdigest()
            state = file_state(descriptor)
            if state and (found := known.get(_key(state))):
                return found.decode()
            state = _calm_state(descriptor)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if state and state == file_state(descriptor):
                known.put(_key(state), digest.encode())
            return digest
    except OSError as error:
        raise ModelError(f"cannot read {path}", str(error)) from None


def file_state(descriptor: int) -> str:
    """A text that changes with the file's contents; '' where the system does not tell.

    It holds until the next start of the system: what was not yet on disk may be lost then.
    """
    status, boot = os.fstat(descriptor), _boot()
    if not boot:
        return ""
    parts = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return " ".join(map(str, (boot, *parts)))


def _calm_state(descriptor: int) -> str:
    """The state, if whatever is written to the file from now on changes it; else ''."""
    if time.time() - os.fstat(descriptor).st_ctime < CALM or _file_system(descriptor) not in LOCAL:
        return ""
    try:
        os.fdatasync(descriptor)
    except OSError:
        return ""
    return file_state(descriptor)


def _file_system(descriptor: int) -> str:
    """The type of the file system on which an open file lies; '' where Linux does not tell."""
    try:
        notes = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split()
        number = notes[notes.index("mnt_id:") + 1]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except (OSError, ValueError):
        return ""
    found = (mount.partition(" - ")[2].split()[0] for mount in mounts if mount.split()[0] == number)
    return next(found, "")


@cache
def _boot() -> str:
    """What Linux calls the time since its start."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _key(state: str) -> str:
    return hashlib.sha256(f"file {state}".encode()).hexdigest()
