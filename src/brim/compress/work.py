"""What the steps of a recipe have at hand, and what they give: graphs, and what was done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from brim.compress.data import Batches
from brim.compress.metric import Accuracy
from brim.compress.points import Points
from brim.compress.scheme import Scheme
from brim.graph import Graph

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Work:
    """batches: calibration data, of the graph's inputs. judge: compares a graph with the model that
    is compressed, by the data held back for that. max_loss: what the whole recipe may cost."""

    batches: Batches
    judge: Callable[[Graph], Accuracy]
    max_loss: float
    threads: int | None = None
    progress: Progress | None = None

    def told(self, stage: str) -> Iterator[dict[str, np.ndarray]]:
        """The batches, while the caller is told how far a stage is with them."""
        for number, batch in enumerate(self.batches, 1):
            yield batch
            self.tell(stage, number, self.batches.total or 0)

    def tell(self, stage: str, done: int, total: int) -> None:
        """Tells the caller how far a stage is."""
        if self.progress is not None:
            self.progress(stage, done, total)


@dataclass(frozen=True)
class Made:
    """What a step made. graph: the compressed one. notes: one line each, for the report.

    source, points, scheme: of the step that brings integers: the float graph that it found scales
    for, and these, so that layers can be compared.
    """

    graph: Graph
    notes: tuple[str, ...] = ()
    source: Graph | None = None
    points: Points = field(default_factory=lambda: Points((), ()))
    scheme: Scheme = field(default_factory=Scheme)
