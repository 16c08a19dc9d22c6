"""What the shell offers for a word that is not finished: model files, names, words.

Called for every press of the tab key, so nothing is imported that is not asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

Complete = Callable[[str], list[str]]


def files(*suffixes: str) -> Complete:
    """Files with one of these suffixes, and the folders on the way to them."""

    def complete(incomplete: str) -> list[str]:
        found = list(_files(incomplete, suffixes))
        while len(found) == 1 and found[0].endswith("/"):  # shells end a word that is the only one
            found = list(_files(found[0], suffixes)) or [f"{found[0]}."]
        return found

    return complete


def _files(incomplete: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    folder, _, start = incomplete.rpartition("/")
    folder += "/" * ("/" in incomplete)
    try:
        entries = sorted(os.scandir(os.path.expanduser(folder) or "."), key=lambda e: e.name)
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith(start) or (entry.name[0] == "." and not start):
            continue
        if entry.is_dir():
            yield f"{folder}{entry.name}/"
        elif entry.name.lower().endswith(suffixes):
            yield f"{folder}{entry.name}"


def names(known: Callable[[], Iterable[str]]) -> Complete:
    """The names that begin with the word; `known` gives all of them."""
    return lambda incomplete: [name for name in known() if name.startswith(incomplete)]


def words(*known: str) -> Complete:
    """These words, as far as they begin with the word."""
    return names(lambda: known)


def zoo_names() -> list[str]:
    """Models and samples of the zoo, and the kits."""
    from brim import zoo

    entries = zoo.list()
    return sorted({entry.name for entry in entries} | {e.kit for e in entries if e.kit})


def operator_names() -> list[str]:
    """brim's own operators."""
    from brim.ops import OPS

    return sorted(OPS)


def target_names() -> list[str]:
    """Processors to compile for."""
    from brim.targets.target import TARGETS

    return ["host", *TARGETS]
