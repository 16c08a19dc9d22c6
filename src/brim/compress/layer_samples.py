"""Samples of what layers read and are to give, at random positions of the calibration data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brim.compress.matrices import Matrices, matrices
from brim.compress.points import Layer
from brim.compress.scheme import Scheme
from brim.compress.simulate import passed, rounded_data
from brim.graph import Graph, Value, placeholder
from brim.model import compile
from brim.ops import primitive as p
from brim.types import I64, Type

MOST, LEAST = 4096, 512  # positions that are kept of a layer, as many as
BYTES = 1 << 25  # hold
TOGETHER = 1 << 28  # bytes of samples that are kept at one time


@dataclass(frozen=True)
class Samples:
    """Rows are positions: x[n, g, k], what the layer reads, rounded; y[n, g, o], what it gives in
    floats, without its bias; felt[n, g, o], what is left of a difference behind the activation."""

    x: np.ndarray
    y: np.ndarray
    felt: np.ndarray


def rows_of(m: Matrices) -> int:
    """How many positions are kept of a layer."""
    return int(np.clip(BYTES // _row_bytes(m), LEAST, MOST))


def _row_bytes(m: Matrices) -> int:
    g, k, o = m.shape
    return 4 * g * (k + 2 * o)


def together(layers: Iterable[Layer]) -> Iterator[list[Layer]]:
    """The layers in runs whose samples are kept at one time."""
    run: list[Layer] = []
    size = 0
    for layer in layers:
        _, m = matrices(layer)
        size += rows_of(m) * _row_bytes(m)
        if run and size > TOGETHER:
            yield run
            run, size = [], rows_of(m) * _row_bytes(m)
        run.append(layer)
    if run:
        yield run


def samples(
    graph: Graph,
    layers: Sequence[Layer],
    scheme: Scheme,
    batches: Iterable[Mapping[str, np.ndarray]],
    threads: int | None = None,
    seed: int = 0,
) -> list[Samples]:
    """Positions of each layer, drawn alike from all batches; one pass over these."""
    outputs: dict[str, Value] = {}
    places: dict[str, Value] = {}
    counts: dict[str, int] = {}
    for i, layer in enumerate(layers):
        x, m = matrices(layer, rounded_data(layer, scheme))
        positions = layer.value.type.size // (m.shape[0] * m.shape[2])
        place = placeholder(Type((min(rows_of(m) // 4, positions),), I64))
        places[f"places {i}"], counts[f"places {i}"] = place, positions
        g, k, o = m.groups, m.summed, m.outputs
        felt = passed(graph, layer, scheme)
        outputs[f"x{i}"] = _rows(x, m.data, g, k, m.shape[:2], place)
        outputs[f"y{i}"] = _rows(layer.value, m.out, g, o, m.shape[::2], place)
        outputs[f"felt{i}"] = _rows(felt, m.out, g, o, m.shape[::2], place)
    inputs = {name: value for name, value in graph.inputs.items() if name not in graph.state}
    model = compile(Graph({**inputs, **places}, outputs, graph.name), threads=threads)
    random = np.random.default_rng(seed)
    kept = [_Reservoir(rows_of(matrices(layer)[1])) for layer in layers]
    for batch in batches:
        feeds = {name: batch[name] for name in inputs}
        for name, place in places.items():
            feeds[name] = random.choice(counts[name], place.shape, replace=False)
        found = model.run(feeds)
        for i, rows in enumerate(kept):
            rows.add([found[f"{name}{i}"] for name in ("x", "y", "felt")], random)
    return [Samples(*rows.arrays) for rows in kept]


def _rows(
    x: Value, own: str, first: str, second: str, sizes: tuple[int, ...], place: Value
) -> Value:
    """x, whose axes have the letters `own`, as rows [position, *sizes], of which some are taken."""
    last = first + second
    order = [c for c in own if c not in last] + list(last)
    turned = p.transpose(x, perm=tuple(own.index(c) for c in order))
    flat = p.reshape(turned, shape=(x.type.size // int(np.prod(sizes)), *sizes))
    return p.gather(flat, place, axis=0)


class _Reservoir:
    """Rows drawn alike from all seen. (Vitter 1985, "Random sampling with a reservoir".)"""

    def __init__(self, size: int) -> None:
        self.size, self.seen = size, 0
        self.arrays: list[np.ndarray] = []

    def add(self, rows: list[np.ndarray], random: np.random.Generator) -> None:
        count = len(rows[0])
        if self.seen < self.size:
            room = min(self.size - self.seen, count)
            new = [array[:room] for array in rows]
            self.arrays = [np.concatenate(pair) for pair in zip(self.arrays, new)] or new
            rows = [array[room:] for array in rows]
            self.seen += room
            count -= room
        slots = random.integers(0, self.seen + 1 + np.arange(count))
        self.seen += count
        for array, new_rows in zip(self.arrays, rows):
            inside = slots < self.size
            array[slots[inside]] = new_rows[inside]
