"""How fast a compressed model is beside the float one, on this machine, and how sure that is.

The two take turns, so that what slows the machine for a while slows both; a ratio is taken within
each round, and the interval of their median comes from ranks alone: times have no bell curve.
What single layers take is read off the kernels that they became. docs/why/024 has the reasons.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brim.model import Model
from brim.runtime.cpu import processor_name

SECONDS = 2.0
ROUND_SECONDS = 0.02  # a model's part of a round, where one run is shorter
FEWEST_ROUNDS = 6  # the fewest whose extremes are an interval of 95 %
MOST_ROUNDS = 100
CONFIDENCE = 0.95
# Of 79 intervals of a model beside itself, loaded twice, four missed 1, by 0.003 at most.
ALIKE = 0.01

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Speed:
    """before, after: median seconds of a run of the float and of the compressed model.

    ratio: of the times, after over before: below 1 the compressed one is faster; low, high: its
    interval of 95 %.
    """

    before: float
    after: float
    ratio: float
    low: float
    high: float
    rounds: int
    threads: int
    machine: str

    @property
    def is_slower(self) -> bool:
        """Whether the compressed model is slower, beyond doubt."""
        return self.low > 1 + ALIKE


@dataclass(frozen=True)
class Times:
    """Seconds of one run on one thread: as the cost model predicts it, and as measured."""

    predicted: float
    measured: float


def compare_speed(
    before: Model,
    after: Model,
    feeds: Mapping[str, Any],
    seconds: float = SECONDS,
    progress: Progress = lambda stage, done, total: None,
) -> Speed:
    """Times two models on the same inputs for about so many seconds; longer only where
    FEWEST_ROUNDS take longer."""
    rounds = take_turns(lambda: before.run(feeds), lambda: after.run(feeds), seconds, progress)
    ratio, low, high = median_interval([b / a for a, b in rounds])
    return Speed(
        statistics.median(a for a, _ in rounds),
        statistics.median(b for _, b in rounds),
        ratio,
        low,
        high,
        len(rounds),
        after.threads,
        processor_name(),
    )


def take_turns(
    first: Callable[[], object],
    second: Callable[[], object],
    seconds: float,
    progress: Progress = lambda stage, done, total: None,
) -> list[tuple[float, float]]:
    """Median seconds of a run of each, round for round; every other round begins with the second.

    How many rounds is settled by a trial beforehand, not by what the rounds show: an interval that
    stops when it likes what it sees is none.
    """
    actions = (first, second)
    for action in actions:
        action()  # memory is taken, caches are filled
    trial = [min(_seconds(action, 3)) for action in actions]
    runs = [max(1, math.ceil(ROUND_SECONDS / took)) for took in trial]
    each = sum(took * count for took, count in zip(trial, runs))
    count = min(max(FEWEST_ROUNDS, int(seconds / each)), MOST_ROUNDS)
    rounds = []
    for number in range(count):
        progress("measure", number, count)
        taken = {i: statistics.median(_seconds(actions[i], runs[i])) for i in _order(number)}
        rounds.append((taken[0], taken[1]))
    progress("measure", count, count)
    return rounds


def _order(number: int) -> tuple[int, int]:
    return (0, 1) if number % 2 == 0 else (1, 0)


def _seconds(action: Callable[[], object], runs: int) -> list[float]:
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return taken


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median of independent values, and an interval that holds the true one with CONFIDENCE.

    Whatever their distribution: the true median is above each with probability 1/2, so the k
    smallest and the k largest may be left out as long as a binomial tail allows it (the sign test).
    Under FEWEST_ROUNDS values it is open: (-inf, inf).
    """
    ordered = sorted(values)
    count = len(ordered)
    tail, cut = 0.5**count, 0  # the probability that the true median is beyond the cut-th
    if 2 * tail > 1 - CONFIDENCE:
        return statistics.median(ordered), -math.inf, math.inf
    while 2 * (tail + math.comb(count, cut + 1) * 0.5**count) <= 1 - CONFIDENCE:
        cut += 1
        tail += math.comb(count, cut) * 0.5**count
    return statistics.median(ordered), ordered[cut], ordered[count - 1 - cut]


def layer_times(model: Model, layers: Iterable[str]) -> dict[str, Times]:
    """Layer name -> what the kernels that compute it take, in the shapes compiled last.

    layers: where-strings of products of the model's graph, after which kernels are named. All other
    kernels together are under the empty name.
    """
    wanted = set(layers)
    found: dict[str, Times] = {}
    for row, seconds in zip(model.report().kernels, model.time_kernels()):
        name = row.where if row.where in wanted else ""
        sofar = found.get(name, Times(0.0, 0.0))
        found[name] = Times(sofar.predicted + row.predicted_seconds, sofar.measured + seconds)
    return found
