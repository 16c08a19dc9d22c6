"""Calibration: the engine runs on the user's data, and observers watch the values to be stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from brim.compress.observers import Observer
from brim.compress.points import Points
from brim.compress.scheme import Quant, quant_of
from brim.errors import InputError
from brim.graph import Graph, Value
from brim.model import compile

Progress = Callable[[str, int, int], None]


def observed(
    graph: Graph,
    values: Sequence[Value],
    batches: Iterable[Mapping[str, np.ndarray]],
    observer: Callable[[], Observer],
    threads: int | None = None,
    progress: Progress | None = None,
    total: int = 0,
) -> dict[int, tuple[float, float]]:
    """id of each value -> the range that its observer gives. Holds one batch's values at a time.

    Raises InputError that names the layer where a value is not finite.
    """
    watched = [value for value in values if not value.is_const]
    observers = [observer() for _ in watched]
    outputs = {f"v{i}": value for i, value in enumerate(watched)}
    inputs = {name: value for name, value in graph.inputs.items() if name not in graph.state}
    model = compile(Graph(inputs, outputs, graph.name), threads=threads)
    for number, batch in enumerate(batches):
        found = model.run({name: batch[name] for name in inputs})
        for i, (value, watching) in enumerate(zip(watched, observers)):
            array = found[f"v{i}"]
            if not np.isfinite(array).all():
                raise InputError(
                    f"the model gives NaN or infinity for calibration sample {number}",
                    why="no integers can stand for that",
                    where=value.where,
                    hint="look at this sample, and whether the model is right in floats",
                )
            watching.see(array)
        if progress is not None:
            progress("calibrate", number + 1, total)
    return {id(value): watching.range() for value, watching in zip(watched, observers)}


def quants(points: Points, ranges: Mapping[int, tuple[float, float]]) -> dict[int, Quant]:
    """id of each stored value -> its u8; one for all of a group, which covers all their ranges.
    Groups of values that nobody has watched are left out."""
    found: dict[int, Quant] = {}
    for group in points.groups:
        known = [ranges[id(value)] for value in group if id(value) in ranges]
        if len(known) == len(group):
            quant = quant_of(min(low for low, _ in known), max(high for _, high in known))
            found.update((id(value), quant) for value in group)
    return found
