"""How far the cost model is from measured times, kernel by kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from brim.model import Model


@dataclass(frozen=True)
class Predicted:
    """One kernel: where it comes from, its operators, and seconds on one thread."""

    where: str
    ops: tuple[str, ...]
    predicted_seconds: float
    measured_seconds: float

    @property
    def error(self) -> float:
        """Predicted less measured seconds."""
        return self.predicted_seconds - self.measured_seconds


@dataclass(frozen=True)
class Prediction:
    """All kernels of one shape of a model, in order. `median_error` is relative, of those that take
    over half a percent of the time."""

    kernels: tuple[Predicted, ...]
    median_error: float

    @property
    def predicted_seconds(self) -> float:
        """All kernels, by the cost model."""
        return sum(kernel.predicted_seconds for kernel in self.kernels)

    @property
    def measured_seconds(self) -> float:
        """All kernels, measured one by one."""
        return sum(kernel.measured_seconds for kernel in self.kernels)

    def worst(self, count: int) -> list[Predicted]:
        """The kernels that are wrong by most seconds, the worst first."""
        return sorted(self.kernels, key=lambda kernel: -abs(kernel.error))[:count]


def prediction(model: Model, feeds: Mapping[str, Any] | None = None, rounds: int = 7) -> Prediction:
    """Times the kernels of the shapes that were compiled last, on `feeds` or on random inputs."""
    report, seconds = model.report(), model.time_kernels(feeds, rounds)
    kernels = tuple(
        Predicted(row.where, row.ops, row.predicted_seconds, measured)
        for row, measured in zip(report.kernels, seconds)
    )
    return Prediction(kernels, report.prediction_error(seconds))
