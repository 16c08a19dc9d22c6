"""Where random numbers come from, and what one run of a model is for them.

Numbers come from numpy's legacy generator (MT19937): numpy promises to keep its streams for ever,
and the official ONNX cases use it. The operator that draws is in `brim.ops.random`.
"""

from __future__ import annotations

import contextlib
import contextvars
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from brim import settings

if TYPE_CHECKING:
    from numpy.random import RandomState

_WORD = 0xFFFFFFFF


class _Run:
    """What one run has drawn. seed: None where every draw is new."""

    def __init__(self, seed: int | None) -> None:
        self.seed, self.drawn = seed, Counter[str]()


_run: contextvars.ContextVar[_Run | None] = contextvars.ContextVar("brim_run", default=None)


@contextlib.contextmanager
def one_run(seed: int | None = None) -> Iterator[None]:
    """What is drawn inside belongs to one run; a run inside a run (a loop's body) is part of it.

    seed: for draws without a seed of their own; None takes the setting `seed`. With a seed, equal
    runs draw equal numbers; without, no two runs do. Raises InputError for a setting that is wrong.
    """
    if _run.get() is not None:
        yield
        return
    token = _run.set(_Run(settings.get("seed") if seed is None else seed))
    try:
        yield
    finally:
        _run.reset(token)


def generator(seed: int | None, stream: str) -> RandomState:
    """numpy's generator for one draw. seed: None where the run decides. stream: who draws."""
    from numpy.random import RandomState

    if seed is not None:
        return RandomState(seed & _WORD)
    run = _run.get() or _Run(settings.get("seed"))
    if run.seed is None:
        return RandomState()
    # a node in a loop draws several times in a run: each time something else
    run.drawn[stream] += 1
    name = zlib.crc32(stream.encode())
    return RandomState([run.seed & _WORD, run.seed >> 32 & _WORD, name, run.drawn[stream]])
