"""Calibration: the engine runs on the user's data, and observers watch the values to be stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

import numpy as np

from brim.compress.observers import Observer, Range
from brim.compress.points import Points
from brim.compress.scheme import Quant, quant_of
from brim.errors import InputError
from brim.graph import Graph, Value, visible
from brim.model import compile


class Watcher(Protocol):
    """What sees the arrays of a value, one after another, in fixed memory."""

    def see(self, array: np.ndarray) -> None: ...


T = TypeVar("T")
W = TypeVar("W", bound=Watcher)
AT_ONCE = 1 << 28  # bytes that one pass over the data gathers


def at_once(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in runs, one for each pass over the data: as many as there is room for. size:
    bytes that are gathered for one."""
    run: list[T] = []
    total = 0
    for item in items:
        own = size(item)
        if run and total + own > AT_ONCE:
            yield run
            run, total = [], 0
        run.append(item)
        total += own
    if run:
        yield run


def watch(
    graph: Graph,
    values: Iterable[Value],
    batches: Iterable[Mapping[str, np.ndarray]],
    make: Callable[[], W],
    threads: int | None = None,
) -> dict[int, W]:
    """id of each value -> a watcher that has seen it for every batch; one batch's values at a time.

    Raises InputError that names the layer where a value is not finite.
    """
    watched = {f"v{id(value)}": value for value in values if not value.is_const}
    found = {id(value): make() for value in watched.values()}
    inputs = visible(graph.inputs, graph.state)
    outputs = {**watched, **{name: graph.outputs[name] for name in graph.state}}
    model = compile(Graph(graph.inputs, outputs, graph.name, graph.state), threads=threads)
    for number, batch in enumerate(batches):
        arrays = model.run({name: batch[name] for name in inputs})
        for name, value in watched.items():
            if not np.isfinite(arrays[name]).all():
                raise InputError(
                    f"the model gives NaN or infinity for calibration sample {number}",
                    why="no integers can stand for that",
                    where=value.where,
                    hint="look at this sample, and whether the model is right in floats",
                )
            found[id(value)].see(arrays[name])
    return found


def observed(
    graph: Graph,
    values: Iterable[Value],
    batches: Iterable[Mapping[str, np.ndarray]],
    observer: Callable[[], Observer],
    threads: int | None = None,
) -> dict[int, Range]:
    """id of each value -> the range that its observer gives."""
    watching = watch(graph, values, batches, observer, threads)
    return {key: each.range() for key, each in watching.items()}


def quants(points: Points, ranges: Mapping[int, Range]) -> dict[int, Quant]:
    """id of each stored value -> its u8; one for all of a group, which covers all their ranges.
    Groups of values that nobody has watched are left out."""
    found: dict[int, Quant] = {}
    for group in points.groups:
        known = [ranges[id(value)] for value in group if id(value) in ranges]
        if len(known) == len(group):
            quant = quant_of(min(low for low, _ in known), max(high for _, high in known))
            found.update((id(value), quant) for value in group)
    return found
