"""Tunes a model for this machine and tells what it gained: `brim tune` without its printing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brim.compiler import sample_inputs
from brim.graph import visible
from brim.model import Model, load

ROUNDS = 9
_ROUND_SECONDS = 0.1
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Tuned:
    """Seconds of a run as it was chosen so far, and as tuned; medians of rounds that alternate.

    ratio: the median over the rounds of (tuned / so far). kernels: how many there are. changed: how
    many are not the ones of before. tuning: seconds that it took, compilation included.
    """

    before: float
    after: float
    ratio: float
    kernels: int
    changed: int
    tuning: float


def tune(
    model: str | Path,
    seconds: float,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    progress: Progress | None = None,
    signature: str = "",
) -> Tuned:
    """Loads a model as it is chosen so far and tuned for `seconds`, and times both on one thread.

    shapes: for inputs with symbolic dimensions. Inputs are random. Raises BrimError.
    """
    before = load(model, shapes=shapes, threads=1, progress=progress, signature=signature)
    before.compile(shapes)
    start = time.perf_counter()
    after = load(
        model, shapes=shapes, threads=1, progress=progress, tune=seconds, signature=signature
    )
    spent = time.perf_counter() - start
    old, new = _alternate((before, after))
    ratio = statistics.median(b / a for a, b in zip(old, new))
    was = {(row.kernel, row.schedule) for row in before.report().kernels}
    rows = after.report().kernels
    changed = sum((row.kernel, row.schedule) not in was for row in rows)
    return Tuned(statistics.median(old), statistics.median(new), ratio, len(rows), changed, spent)


def _alternate(models: Sequence[Model]) -> list[list[float]]:
    """Seconds of a run in each round, for each model."""
    graph = models[0].graph
    feeds = visible(sample_inputs(graph), graph.state)
    runs = [max(1, int(_ROUND_SECONDS / _seconds(model, feeds, 1))) for model in models]
    found: list[list[float]] = [[] for _ in models]
    for _ in range(ROUNDS):
        for model, count, seconds in zip(models, runs, found):
            seconds.append(_seconds(model, feeds, count))
    return found


def _seconds(model: Model, feeds: Mapping[str, np.ndarray], runs: int) -> float:
    start = time.perf_counter()
    for _ in range(runs):
        model.run(feeds)
    return (time.perf_counter() - start) / runs
