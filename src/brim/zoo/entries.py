"""What the zoo has: `zoo.toml` as a table of entries, each with what its model card says."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Literal

from brim.errors import InputError


@dataclass(frozen=True)
class Entry:
    """A file in a package, and its card.

    `member` is the path in the package; with `inside`, that is a zip archive and this the path in
    it; with `start`, the file is only the `bytes` bytes from there on. `bytes` and `sha256` are the
    file's size and digest; `suffix` that of its name, where the path's does not fit; `platform` the
    wheel's platform tag, empty for a wheel that fits every machine; `inputs` what the model takes
    and gives, or the format of a data file; `seen` what was observed of its accuracy, empty if
    nothing was; `kit` the kit of `brim.vision` that uses it.
    """

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
    inside: str = ""
    start: int | None = None
    suffix: str = ""
    seen: str = ""
    kit: str = ""

    @property
    def file_name(self) -> str:
        """The file's name in a folder of the zoo's files."""
        return self.name + (self.suffix or Path(self.inside or self.member).suffix)

    @property
    def requirement(self) -> str:
        """What the package manager is asked for."""
        separator = {"pypi": "==", "npm": "@"}[self.registry]
        return f"{self.package}{separator}{self.version}"


@cache
def list() -> tuple[Entry, ...]:
    """All entries, in the order of `zoo.toml`."""
    text = Path(__file__).with_name("zoo.toml").read_text(encoding="utf-8")
    entries = []
    for package in tomllib.loads(text)["package"]:
        files = package.pop("files")
        source = {"package" if key == "name" else key: value for key, value in package.items()}
        entries += [Entry(name, **(source | fields)) for name, fields in files.items()]
    return tuple(entries)


def find(name: str) -> Entry:
    """The entry of that name. Raises InputError for an unknown one."""
    known = {entry.name: entry for entry in list()}
    if name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.4) or [*known]
        raise InputError(
            f"the zoo has no {name!r}",
            why=f"it has {len(known)} entries, none of this name",
            hint=f"{', '.join(near)}; `brim zoo list` shows all",
        )
    return known[name]


def select(name: str) -> tuple[Entry, ...]:
    """All entries that the kit of that name needs (`face`, `pose`, ...), else the entry of that
    name. Raises InputError for an unknown one."""
    return tuple(entry for entry in list() if entry.kit == name and name) or (find(name),)
