"""Means of values over calibration data, for what is summed up inside the graph already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from brim.compress.calibrate import watch
from brim.graph import Graph, Value
from brim.ops import primitive as p


def means(
    graph: Graph,
    values: Sequence[Value],
    batches: Iterable[Mapping[str, np.ndarray]],
    threads: int | None = None,
) -> list[np.ndarray]:
    """The mean of each value over all batches, f64; one pass over these."""
    found = watch(graph, values, batches, _Mean, threads)
    return [np.asarray(v.data, np.float64) if v.is_const else found[id(v)].mean for v in values]


class _Mean:
    def __init__(self) -> None:
        self._total: np.ndarray | float = 0.0
        self._count = 0

    def see(self, array: np.ndarray) -> None:
        self._total = self._total + np.float64(array)
        self._count += 1

    @property
    def mean(self) -> np.ndarray:
        return np.asarray(self._total / max(self._count, 1))


def summed(x: Value, axes: Iterable[int]) -> Value:
    """Sums over `axes`, which stay with size 1. One by one: thousands of terms in a row would leave
    f32 few digits."""
    for axis in axes:
        x = p.reduce(x, op="add", axes=(axis,))
    return x
