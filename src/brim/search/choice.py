"""Which schedule of a kernel is best: by the cost model, and by what was measured before."""

from __future__ import annotations

from dataclasses import dataclass

from brim import settings
from brim.kernels.ir import Kernel, Schedule
from brim.kernels.schedule import choose
from brim.kernels.text import print_kernel, print_schedule
from brim.search.store import Store
from brim.targets.target import Target


@dataclass(frozen=True)
class Candidate:
    """A schedule that was considered; times in seconds on one thread, None: not measured."""

    schedule: Schedule
    predicted: float
    measured: float | None = None

    @property
    def seconds(self) -> float:
        """What is known best."""
        return self.predicted if self.measured is None else self.measured


@dataclass(frozen=True, eq=False)
class Search:
    """A target and the times that were measured on it; without any, the cost model decides."""

    target: Target
    store: Store

    def candidates(self, kernel: Kernel) -> list[Candidate]:
        """All schedules worth a price, the best first; of those that were measured the fastest.

        A store may come from anywhere: only schedules that are candidates here are taken from it.
        """
        _, ranked = choose(kernel, self.target)
        if not self.store.has_times:
            return [Candidate(schedule, seconds) for seconds, schedule in ranked]
        times = self.store.times(print_kernel(kernel))
        found = [Candidate(s, seconds, times.get(print_schedule(s))) for seconds, s in ranked]
        return sorted(found, key=lambda c: (c.measured is None, c.seconds))

    def best(self, kernel: Kernel) -> Candidate:
        """What to compile."""
        return self.candidates(kernel)[0]


def by_times(target: Target) -> Search:
    """A search that knows what was measured here, and keeps what is measured."""
    return Search(target, Store(settings.tuned_file(), target))


def by_price(target: Target) -> Search:
    """A search that knows no measured times."""
    return Search(target, Store(None, target))
