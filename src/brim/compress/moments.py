"""Second moments of what layers read: which inputs can stand in for others, and how well.

All that is known of a layer y = x w for changing its weights is in mean(x' x): the energy of a
change d of the weights is d' mean(x' x) d, whatever the number of samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from brim.compress.calibrate import at_once
from brim.compress.matrices import Matrices, matrices
from brim.compress.points import Layer
from brim.compress.work import Work
from brim.graph import Graph, Value, visible
from brim.model import compile
from brim.ops import primitive as p

LARGEST = 2048  # inputs of a layer: wider ones have no moments
FEWEST, ROWS = 32, 40  # batches, and positions for each input, after which a pass may end
DAMPING = 0.01  # of the mean energy, added to each input's own: few samples prove little


@dataclass(frozen=True, eq=False)
class Read:
    """What a layer contracts: x, whose axes have the letters form.data. key: to find it by.

    wanted: what x should have been, in a graph where something before it has changed.
    """

    key: int
    x: Value
    form: Matrices
    wanted: Value | None = None


@dataclass(frozen=True, eq=False)
class Moments:
    """Means over all positions. second: f64[k, k], of x' x. mean: f64[k], of x. cross: f64[k, k],
    of x' times what x should have been. wanted: f64[k], of that."""

    second: np.ndarray
    mean: np.ndarray
    cross: np.ndarray
    wanted: np.ndarray

    @property
    def centred(self) -> Moments:
        """About the means."""
        second = self.second - np.outer(self.mean, self.mean)
        cross = self.cross - np.outer(self.mean, self.wanted)
        return Moments(second, np.zeros_like(self.mean), cross, np.zeros_like(self.wanted))

    @property
    def damping(self) -> float:
        """Energy to be added to each input's, so that `second` can be inverted."""
        energy = float(np.trace(self.second)) / len(self.second)
        return DAMPING * max(energy, float(np.finfo(np.float32).tiny))


def has_moments(layer: Layer) -> bool:
    """Whether all of a layer's weights multiply the same inputs, and these are not too many."""
    groups, terms, _ = matrices(layer)[1].shape
    return groups == 1 and terms <= LARGEST


def read_of(layer: Layer, key: int | None = None) -> Read:
    """What a layer reads; the key is the id of its value, if none is given."""
    return Read(id(layer.value) if key is None else key, *matrices(layer))


def moments(graph: Graph, reads: Iterable[Read], work: Work) -> dict[int, Moments]:
    """The moments of what is read, by key, over so many of the batches as that takes. Inputs are
    in the order of `Matrices.pack`."""
    found: dict[int, Moments] = {}
    for some in at_once(reads, lambda read: read.form.shape[1] ** 2 * 8):
        found |= _gathered(graph, some, work)
    return found


def _gathered(graph: Graph, reads: Sequence[Read], work: Work) -> dict[int, Moments]:
    outputs: dict[str, Value] = {name: graph.outputs[name] for name in graph.state}
    for read in reads:
        wanted = read.x if read.wanted is None else read.wanted
        for name, value in (("second", read.x), ("cross", wanted)):
            outputs[f"{name}{read.key}"] = _products(read.x, value, read.form)
        for name, value in (("mean", read.x), ("wanted", wanted)):
            outputs[f"{name}{read.key}"] = _total(value, read.form)
    model = compile(Graph(graph.inputs, outputs, graph.name, graph.state), threads=work.threads)
    names = visible(graph.inputs, graph.state)
    totals = {name: np.zeros(v.shape) for name, v in outputs.items() if name not in graph.state}
    runs = 0
    for batch in work.told("moments"):
        arrays = model.run({name: batch[name] for name in names})
        for name, total in totals.items():
            total += arrays[name]
        runs += 1
        rows = (runs * read.x.type.size / read.form.shape[1] ** 2 for read in reads)
        if runs >= FEWEST and min(rows) >= ROWS:
            break

    def mean(name: str, read: Read, *shape: int) -> np.ndarray:
        positions = max(runs, 1) * read.x.type.size // shape[0]
        return totals[f"{name}{read.key}"].reshape(shape) / positions

    found = {}
    for read in reads:
        k = read.form.shape[1]
        found[read.key] = Moments(
            mean("second", read, k, k),
            mean("mean", read, k),
            mean("cross", read, k, k),
            mean("wanted", read, k),
        )
    return found


def _products(x: Value, y: Value, form: Matrices) -> Value:
    """Sums over all positions of x' y."""
    own, other = form.summed, form.summed.upper()
    beside = form.data.translate(str.maketrans(own, other))
    return p.contract(x, y, spec=f"{form.data},{beside}->{own}{other}")


def _total(x: Value, form: Matrices) -> Value:
    """Sums over all positions of x."""
    axes = tuple(i for i, c in enumerate(form.data) if c not in form.summed)
    total = p.reduce(x, op="add", axes=axes)
    kept = [c for c in form.data if c in form.summed]
    flat = p.reshape(total, shape=tuple(form.sizes[c] for c in kept))
    return p.transpose(flat, perm=tuple(kept.index(c) for c in form.summed))
