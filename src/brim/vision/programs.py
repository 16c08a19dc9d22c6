"""The compiled programs of kits: a network of the zoo together with what surrounds it.

A surrounding is a function from the network's graph to a larger one, which takes a region of a
picture and gives what the kit needs; both become one program, cached like any loaded model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from brim import zoo
from brim.graph import Graph
from brim.model import Model, load_around
from brim.sources import Around


@dataclass(frozen=True)
class Surrounding:
    """`key` must tell it from all others: it is part of the name under which a program is kept."""

    key: str
    around: Callable[[Graph], Graph]


def program(name: str, surrounding: Surrounding, threads: int | None = None) -> Model:
    """The zoo's network `name` in its surrounding, fetched and compiled, or from the cache.

    Raises DownloadError where a file is neither here nor to be got, and what `brim.load` raises.
    """
    path = zoo.get(name, progress=say_progress)
    return load_around(path, Around(surrounding.key, surrounding.around), threads=threads)


def say_progress(what: str, done: int, total: int) -> None:
    """One line on the standard error that says what is fetched, and how much of it is here."""
    amount = f"{done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else ""
    end = "\n" if total and done >= total else ""
    if sys.stderr.isatty():
        print(f"\rbrim: getting {what} {amount}", end=end, file=sys.stderr, flush=True)
    elif not done:
        print(f"brim: getting {what}", file=sys.stderr, flush=True)
