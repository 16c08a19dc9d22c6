"""Which native code may run: the key by which this user's machine knows what it made itself.

A random key, 0600 in the cache directory, makes an HMAC of a code digest (a seal). A file whose
seal fits was made by someone who can read that key, and who could run code here anyway.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brim import settings
from brim.errors import InputError, TrustError

KEY_FILE = "machine.key"
_BYTES = 32
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def code_digest(programs: Sequence[Mapping[str, Any]], digests: Mapping[str, str]) -> str:
    """SHA-256 over all that native code and its callers consist of, and what it relies on.

    programs: the manifest's records; digests: member -> SHA-256. Plans are part of it because the
    native code has their numbers built in; weights, because it does not check the indices among
    them again (see `kernels/ranges.py`), and so what weights follow from.
    """
    ends: tuple[str, ...] = ("/plan.json", "/weights.bin")
    if any(name.endswith("/derived.txt") for name in digests):
        ends += ("/derived.txt", "constants.bin")
    parts = sorted(
        (name, digest)
        for name, digest in digests.items()
        if "code" in name.split("/")[:-1] or name.endswith(ends)
    )
    keys = ("shapes", "target", "plan", "pool")
    bound = [[p.get(key) for key in (*keys, *_function(p))] for p in programs]
    text = json.dumps([bound, parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _function(program: Mapping[str, Any]) -> tuple[str, ...]:
    """The field that says which function a program is of, if it is not the model itself: before
    format 5 there was no other."""
    return ("function",) if program.get("function") else ()


def seal(digest: str) -> str:
    """This machine's seal of a code digest; '' where there is no cache directory to keep a key."""
    key = _key(create=True)
    return _seal(key, digest) if key else ""


def is_sealed(digest: str, found: str) -> bool:
    """Whether `found` is this machine's seal of the digest."""
    key = _key(create=False) if found else None
    return key is not None and hmac.compare_digest(_seal(key, digest).encode(), found.encode())


def require_trust(digest: str, found: str, trust: bool | str | None) -> str:
    """'' if code of this digest may run, else the reason why not.

    trust: True, the digest that the caller expects, or None. Raises TrustError where the caller
    expects another digest.
    """
    if trust is True:
        return ""
    if isinstance(trust, str):
        if len(trust) != 64:
            raise InputError(f"trust={trust[:80]!r} is no SHA-256 digest", hint="64 hex digits")
        if not hmac.compare_digest(trust.lower().encode(), digest.encode()):
            raise TrustError(
                "the artifact's code is not the one that was pinned",
                f"its digest is {digest}, expected was {trust}",
                hint="get the artifact from its source again, or pin the new digest",
            )
        return ""
    if trust is None and is_sealed(digest, found):
        return ""
    return "its native code was not made by this machine, and nobody vouched for it"


def _seal(key: bytes, digest: str) -> str:
    return hmac.new(key, b"brim code " + digest.encode(), hashlib.sha256).hexdigest()


def _key(create: bool) -> bytes | None:
    if settings.get("cache") == "off":
        return None
    folder = settings.cache_directory()
    path = folder / KEY_FILE
    with contextlib.suppress(OSError):
        if found := _read(path):
            return found
        if create:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(path)
            return _read(path)
    return None


def _read(path: Path) -> bytes | None:
    """The key, if its file is this user's alone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        foreign = hasattr(os, "geteuid") and status.st_uid != os.geteuid()
        if foreign or (os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077):
            raise TrustError(
                "others can read or replace the key that marks this machine's code",
                where=str(path),
                hint="remove the file; a new key is made, and older artifacts need trust=...",
            )
        key = file.read(_BYTES + 1)
    return key if len(key) == _BYTES else None


def _write(path: Path) -> None:
    """Makes the key, unless another process just did; a torn file is replaced."""
    temporary = path.with_name(f".{KEY_FILE}-{os.urandom(8).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(_BYTES))
        try:
            os.link(temporary, path)  # fails where another process was first, and its key stays
        except FileExistsError:
            if _read(path) is None:
                os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
