"""What the tensors of one model draw on: the files beside it, and limits of what they may take.

External files are mapped, not read: a model of many gigabytes needs no memory of its own before its
weights are packed. Only files inside the model's folder are opened. What bytes mean is `tensors`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import ModelError

UNFOLDED = 1 << 26  # elements that the sparse tensors of one model may have when they are dense
SHARED = 64  # how often the tensors of a model may use the bytes of its files, all told


@dataclass(eq=False)
class TensorSource:
    """The folder of one model (None: there is none), its files as far as they were needed, limits.

    A mapped file must not be cut short while the model is being compiled.
    """

    folder: Path | None
    files: dict[Path, np.ndarray] = field(default_factory=dict)
    digests: dict[Path, str] = field(default_factory=dict)  # SHA-1, where the model has one
    used: int = 0  # bytes that tensors have taken from files, some of them several times
    unfolded: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The external files that tensors have used, as paths from the model's folder."""
        root = self.folder.resolve() if self.folder else Path()
        return tuple(sorted(path.relative_to(root).as_posix() for path in self.files))

    @property
    def size(self) -> int:
        """Bytes of all external files that tensors have used."""
        return sum(content.size for content in self.files.values())

    def bytes(self, proto: Any, wanted: int, where: str) -> np.ndarray:
        """The u8 array of a tensor's external data. Raises ModelError if it cannot be that."""
        entries = {entry.key: entry.value for entry in proto.external_data}
        if self.folder is None:
            raise ModelError(
                "the model keeps data in another file, and bytes alone have no folder",
                where=where,
                hint="load the model from its path",
            )
        path = _inside(self.folder, entries.get("location", ""), where)
        if path not in self.files:
            self.files[path] = _mapped(path, where)
        if digest := entries.get("checksum", "").strip().lower():
            self._check_digest(path, digest, where)
        content = self.files[path]
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", wanted))
        except ValueError:
            raise ModelError(
                "offset or length of external data is no number", where=where
            ) from None
        if length != wanted or offset < 0 or offset + length > content.size:
            raise ModelError(
                f"external data of {length} bytes at {offset} does not fit",
                why=f"the tensor needs {wanted} bytes and {path.name} has {content.size}",
                where=where,
            )
        self.used += wanted
        if self.used > SHARED * self.size:
            raise ModelError(
                f"tensors use the bytes of external files more than {SHARED} times", where=where
            )
        return content[offset : offset + length]

    def _check_digest(self, path: Path, wanted: str, where: str) -> None:
        """`checksum` of external data is the SHA-1 of the whole file."""
        if path not in self.digests:
            with path.open("rb") as file:
                self.digests[path] = hashlib.file_digest(file, "sha1").hexdigest()
        if self.digests[path] != wanted:
            raise ModelError(
                f"{path.name!r} is not the file that belongs to the model",
                why=f"its SHA-1 is {self.digests[path]}, the model says {wanted[:80]}",
                where=where,
            )

    def unfold(self, elements: int, where: str) -> None:
        """Counts a sparse tensor that becomes dense. Raises ModelError where that is too much."""
        self.unfolded += elements
        if self.unfolded > UNFOLDED:
            raise ModelError(
                f"sparse tensors of {self.unfolded} elements are refused",
                why=f"they become dense, and {UNFOLDED} is the limit of a model",
                where=where,
            )


def _mapped(path: Path, where: str) -> np.ndarray:
    try:
        if not path.stat().st_size:
            return np.zeros(0, np.uint8)
        return np.asarray(np.memmap(path, np.uint8, "r"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path.name!r}", why=str(error), where=where) from None


def _inside(folder: Path, location: str, where: str) -> Path:
    """`location` as a regular file inside `folder`; nothing may lead out of it."""
    refused = ModelError(
        f"external data {location[:200]!r} is not a file inside the model's folder", where=where
    )
    parts = location.replace("\\", "/").split("/")
    if not location or "\0" in location or location.startswith(("/", "\\")) or ".." in parts:
        raise refused
    if ":" in parts[0]:
        raise refused
    try:
        root = folder.resolve(strict=True)
        path = (root / location).resolve(strict=True)
    except (OSError, RuntimeError):
        raise refused from None
    if not path.is_relative_to(root) or not path.is_file():
        raise refused
    return path
