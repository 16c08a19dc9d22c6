"""What layers read and are to give at random positions of the calibration data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brim.compress.calibrate import watch
from brim.compress.matrices import Matrices, matrices
from brim.compress.points import Layer
from brim.compress.scheme import Scheme
from brim.compress.simulate import passed, rounded_data
from brim.graph import Graph, Value, placeholder
from brim.ops import primitive as p
from brim.types import I64, Type

MOST, LEAST = 4096, 512  # positions that are kept of a layer: as many as
BYTES = 1 << 25  # hold
SHARE = 4  # a batch gives at most one in so many: few pictures are not all there is


@dataclass(frozen=True)
class Positions:
    """Rows are positions: x[n, g, k], what the layer reads, rounded; y[n, g, o], what it gives in
    floats, without its bias; felt[n, g, o], what is left of a difference behind the activation."""

    x: np.ndarray
    y: np.ndarray
    felt: np.ndarray


def kept_bytes(layer: Layer) -> int:
    """What the positions that are kept of a layer take."""
    width = _width(matrices(layer)[1])
    return _count(width) * 4 * width


def positions(
    graph: Graph,
    layers: Sequence[Layer],
    scheme: Scheme,
    batches: Iterable[Mapping[str, np.ndarray]],
    threads: int | None = None,
    seed: int = 0,
) -> list[Positions]:
    """Positions of each layer, drawn alike from all batches; one pass over these."""
    places: dict[str, Value] = {}
    available: dict[str, int] = {}
    rows: list[Value] = []
    for i, layer in enumerate(layers):
        _, m = matrices(layer)
        name, groups, outputs = f"places {i}", m.shape[0], m.shape[2]
        available[name] = layer.value.type.size // (groups * outputs)
        count = min(_count(_width(m)) // SHARE, available[name])
        places[name] = placeholder(Type((count,), I64))
        rows.append(_rows(graph, layer, scheme, places[name]))
    random = np.random.default_rng(seed)

    def with_places() -> Iterator[Mapping[str, np.ndarray]]:
        for batch in batches:
            drawn = {
                name: random.choice(available[name], place.shape, replace=False)
                for name, place in places.items()
            }
            yield {**batch, **drawn}

    wide = Graph({**graph.inputs, **places}, graph.outputs, graph.name, graph.state)
    found = watch(wide, rows, with_places(), _Reservoir, threads)
    return [_split(layer, found[id(row)].rows) for layer, row in zip(layers, rows)]


def _width(m: Matrices) -> int:
    """Numbers of one position: those of x, y and felt."""
    g, k, o = m.shape
    return g * (k + 2 * o)


def _count(width: int) -> int:
    """How many positions of so many numbers are kept."""
    return int(np.clip(BYTES // (4 * width), LEAST, MOST))


def _rows(graph: Graph, layer: Layer, scheme: Scheme, place: Value) -> Value:
    """[position, numbers]: x, y and felt side by side, at some places."""
    x, m = matrices(layer, rounded_data(layer, scheme))
    parts = (
        (x, m.data, m.groups + m.summed),
        (layer.value, m.out, m.groups + m.outputs),
        (passed(graph, layer, scheme), m.out, m.groups + m.outputs),
    )
    taken = []
    for value, own, last in parts:
        order = [c for c in own if c not in last] + list(last)
        turned = p.transpose(value, perm=tuple(own.index(c) for c in order))
        width = int(np.prod([value.shape[own.index(c)] for c in last]))
        flat = p.reshape(turned, shape=(value.type.size // width, width))
        taken.append(p.gather(flat, place, axis=0))
    return p.concat(*taken, axis=1)


def _split(layer: Layer, rows: np.ndarray) -> Positions:
    _, m = matrices(layer)
    g, k, o = m.shape
    x, y, felt = np.split(rows, [g * k, g * (k + o)], axis=1)
    return Positions(x.reshape(-1, g, k), y.reshape(-1, g, o), felt.reshape(-1, g, o))


class _Reservoir:
    """Rows drawn alike from all seen. (Vitter 1985, "Random sampling with a reservoir".)"""

    def __init__(self) -> None:
        self.rows = np.empty((0, 0), np.float32)
        self._seen, self._random = 0, np.random.default_rng(0)

    def see(self, array: np.ndarray) -> None:
        size = _count(array.shape[1])
        room = min(size - len(self.rows), len(array))
        self.rows = np.concatenate([self.rows, array[:room]]) if self._seen else array[:room].copy()
        self._seen += room
        array = array[room:]
        slots = self._random.integers(0, self._seen + 1 + np.arange(len(array)))
        self._seen += len(array)
        self.rows[slots[slots < size]] = array[slots < size]
