"""What was considered for a model and not taken: the second half of `brim explain`."""

from __future__ import annotations

from dataclasses import dataclass

from brim.kernels.text import print_schedule
from brim.model import Model
from brim.search.choice import by_times
from brim.search.explain import Rivals, candidates, rivals
from brim.targets.target import find_target

SHOWN = 5


@dataclass(frozen=True)
class Priced:
    """A schedule and its seconds on one thread: `measured` where it was, else `predicted`."""

    schedule: str
    predicted: float
    measured: float | None

    @property
    def seconds(self) -> float:
        """Measured, where it was; else predicted."""
        return self.predicted if self.measured is None else self.measured


@dataclass(frozen=True)
class Considered:
    """variants: of operators that have several bodies. schedules: the best few of each kernel, in
    the order of the model's report, the one that was taken first."""

    variants: tuple[Rivals, ...]
    schedules: tuple[tuple[Priced, ...], ...]


def explain(model: Model) -> Considered:
    """What was considered for the shapes that a model compiled last."""
    search = by_times(find_target(model.report().target))
    found = [
        tuple(Priced(print_schedule(c.schedule), c.predicted, c.measured) for c in some[:SHOWN])
        for some in candidates(model.graph, search)
    ]
    return Considered(tuple(rivals(model.graph, search)), tuple(found))
