"""Objects of kernels: from the cache on disk where it has them, else compiled side by side."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from brim import settings
from brim.runtime.cache import Cache, default_directory
from brim.targets.target import Target
from brim.targets.workers import Job, compile_all


def objects_of(
    jobs: Sequence[Job], target: Target, progress: Callable[[int, int], None] | None = None
) -> list[bytes]:
    """The jobs' objects, in order. progress(done, total) counts those that are compiled here.

    Raises CompileError.
    """
    stamp = f"{target}\0{emitter_stamp()}"
    keys = [digest(stamp, job.kernel, job.schedule) for job in jobs]
    kept = open_cache()
    found = [kept.get(key) if kept else None for key in keys]
    missing = [i for i, blob in enumerate(found) if blob is None]

    def tick(done: int) -> None:
        if progress:
            progress(done, len(missing))

    processes = settings.get("jobs") or os.cpu_count() or 1
    for i, blob in zip(missing, compile_all([jobs[i] for i in missing], processes, tick)):
        found[i] = blob
        if kept:
            kept.put(keys[i], blob)
    return [blob for blob in found if blob is not None]


def open_cache() -> Cache | None:
    """The disk cache that the settings name, or None for BRIM_CACHE=off."""
    where = settings.get("cache")
    if where == "off":
        return None
    return Cache(Path(where or default_directory()) / "kernels")


@cache
def emitter_stamp() -> str:
    """Digest of what makes machine code: a changed emitter must not meet old objects or times."""
    import llvmlite

    root = Path(__file__).parent
    found = hashlib.sha256(llvmlite.__version__.encode())
    for path in sorted((*root.glob("targets/*.py"), *root.glob("kernels/*.py"))):
        found.update(path.read_bytes())
    return found.hexdigest()


def digest(*parts: str) -> str:
    """SHA-256 of some texts, in hex."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
