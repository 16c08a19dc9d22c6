"""Benchmarks of one model with several numbers of threads, batches and shapes of inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brim.errors import InputError
from brim.tools.bench import Progress, Timed, Versus, bench
from brim.tools.peers import Arrays
from brim.types import Dim, Type

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Setting:
    """What is varied. batch: how many samples inputs have whose first axis is open, None where
    nobody asked for a number; shapes: those that were asked for."""

    threads: int
    batch: int | None = None
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.threads} thread{'s' if self.threads > 1 else ''}"]
        if self.batch is not None:
            parts.append(f"batch {self.batch}")
        parts += [f"{name}={shape_text(shape)}" for name, shape in self.shapes]
        return ", ".join(parts)


def shape_text(shape: Sequence[int]) -> str:
    """A shape as the command line takes it."""
    return "x".join(map(str, shape))


@dataclass(frozen=True)
class Point:
    """What was measured with a setting; without a peer the last two are None."""

    setting: Setting
    ours: Timed
    theirs: Timed | None = None
    versus: Versus | None = None

    @property
    def rate(self) -> float:
        """Samples a second; runs a second where there is no batch."""
        return (self.setting.batch or 1) / self.ours.median


def rate_unit(points: Sequence[Point]) -> str:
    """What `rate` counts."""
    return "samples / s" if any(point.setting.batch for point in points) else "runs / s"


def settings(
    threads: Sequence[int], batches: Sequence[int], shapes: Sequence[Shapes]
) -> list[Setting]:
    """All combinations. batches: none for what the model has. shapes: alternatives."""
    return [
        Setting(count, batch, tuple(shape.items()))
        for shape in shapes or ({},)
        for batch in batches or (None,)
        for count in threads
    ]


def shapes_of(
    setting: Setting, inputs: Mapping[str, Type], usual: Mapping[str, Sequence[int]]
) -> dict[str, tuple[int, ...]]:
    """The shapes of a setting, with a first axis of its batch in all inputs that have the same open
    one there. inputs, usual: what the model takes, and shapes where a caller names none.

    Raises InputError for a batch where no input's first axis is open.
    """
    shapes = dict(setting.shapes)
    if setting.batch is None:
        return shapes
    first = {n: t.shape[0] for n, t in inputs.items() if t.shape and isinstance(t.shape[0], Dim)}
    if not first:
        listed = ", ".join(f"{name}: {type}" for name, type in inputs.items())
        raise InputError(
            "the batch cannot be changed",
            why=f"no input has an open first axis: {listed}",
            hint="export the model with a dynamic batch",
        )
    samples = next(iter(first.values()))
    for name in (n for n, axis in first.items() if axis == samples):
        axes = shapes.get(name) or usual.get(name) or inputs[name].shape or ()
        rest = tuple(n for n in axes[1:] if isinstance(n, int))
        if len(rest) < len(axes) - 1:
            raise InputError(
                f"the shape of input {name!r} is open: {inputs[name]}",
                hint=f"give one: --shape {name}={setting.batch}x...",
            )
        shapes[name] = (setting.batch, *rest)
    return shapes


def sweep(
    model: Path,
    wanted: Sequence[tuple[Setting, Shapes]],
    feeds: Callable[[Shapes], Arrays],
    peer: str | None = None,
    progress: Progress = lambda stage, done, total: None,
    signature: str = "",
) -> list[Point]:
    """Times a model with each setting, and the shapes it means. feeds: the inputs for shapes.

    Raises as `bench`.
    """
    points = []
    for number, (setting, shapes) in enumerate(wanted):
        if len(wanted) > 1:
            progress("settings", number, len(wanted))
        measured = bench(
            model, feeds(shapes), shapes or None, setting.threads, peer, progress, signature
        )
        points.append(Point(setting, *measured))
    return points
