"""What a training reports: of each epoch what was measured, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from brim.pages import Line, Points, card, chart, frame, page, safe, spanning
from brim.pages.charts import plain
from brim.train.metrics import Scores

Ending = Literal["finished", "stopped early", "interrupted"]


@dataclass(frozen=True)
class Epoch:
    """number: counts from 1; steps: its batches; seconds: those of the steps, without validation;
    loss and metrics: means over its batches, each as the weights were then; rate: of the last step;
    validation: with the weights at its end, or None."""

    number: int
    steps: int
    seconds: float
    loss: float
    metrics: Mapping[str, float]
    rate: float
    validation: Scores | None

    def __str__(self) -> str:
        parts = [f"loss {self.loss:.4f}", *_shown(self.metrics)]
        if self.validation is not None:
            held = [f"loss {self.validation.loss:.4f}", *_shown(self.validation.metrics)]
            parts.append(f"validation {', '.join(held)}")
        pace = self.seconds / max(self.steps, 1) * 1e3
        return (
            f"epoch {self.number}: {', '.join(parts)} ({self.seconds:.1f} s, {pace:.1f} ms a step)"
        )


@dataclass(frozen=True)
class History:
    """epochs: those that are complete; best: the number of the one whose validation loss was the
    least, None without validation; steps: batches seen in all; ending: why there are no more."""

    epochs: tuple[Epoch, ...]
    best: int | None
    steps: int
    ending: Ending

    def _repr_html_(self) -> str:
        """Losses and metrics over the epochs, in a notebook."""
        held = [(each.number, each.validation) for each in self.epochs if each.validation]
        plots = [
            _plot(
                "loss",
                [(each.number, each.loss) for each in self.epochs],
                [(number, scores.loss) for number, scores in held],
            )
        ]
        for name in self.epochs[0].metrics if self.epochs else ():
            plots.append(
                _plot(
                    name,
                    [(each.number, each.metrics[name]) for each in self.epochs],
                    [(number, scores.metrics[name]) for number, scores in held],
                )
            )
        told = f"{len(self.epochs)} epochs, {self.steps} steps, {self.ending}"
        if self.best is not None:
            told += f"; epoch {self.best} is the best"
        body = [f"<p>{safe(told)}</p>", f'<div class="cards">{"".join(plots)}</div>']
        return frame(page("training", body), "losses of a training", height="34em")

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def epoch_from(record: Mapping[str, Any]) -> Epoch:
    """An epoch out of what `dataclasses.asdict` made of it."""
    held = record["validation"]
    return Epoch(**{**record, "validation": None if held is None else Scores(**held)})


def _shown(metrics: Mapping[str, float]) -> list[str]:
    return [f"{name} {share:.2%}" for name, share in metrics.items()]


def _plot(
    name: str, trained: Sequence[tuple[float, float]], held: Sequence[tuple[float, float]]
) -> str:
    """One number over the epochs, in training and, where there is any, in validation."""
    every = [*trained, *held]
    across = spanning("epoch", [number for number, _ in every], text=_whole)
    up = spanning("", [value for _, value in every])
    lines = [Line("training", trained)] + [Line("validation", held)] * bool(held)
    marks = [
        Points("", [(x, y, plain(y)) for x, y in line.points], kind=f"s{number}")
        for number, line in enumerate(lines)
    ]
    return card(name, chart(across, up, [*lines, *marks]))


def _whole(number: float) -> str:
    return f"{number:.0f}" if number == round(number) else ""
