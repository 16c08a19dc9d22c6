"""Weights that are left, fitted to what all of them computed: least squares, layer by layer.

Of a layer y = x w some weights have gone, and what it reads is not quite x any more but z. The
others, and a bias, are chosen so that z w' + b is as near to x w as it can be over the data:

    w' = cov(z, z)^-1 cov(z, x) w,    b = mean(x) w - mean(z) w'

In order through the network, so that later layers make up for what earlier ones have lost. (He
2017, "Channel pruning for accelerating very deep neural networks", arXiv:1707.06168, section 3.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from brim.compress.matrices import matrices
from brim.compress.moments import Moments, has_moments, moments, read_of
from brim.compress.points import Layer
from brim.compress.work import Work
from brim.graph import Graph, Value

LONGEST = 1e12  # multiplications that fitting a layer may take


@dataclass(frozen=True, eq=False)
class Refit:
    """weights: of a layer, f32 of their shape. shift: for its results, f32[o]. error: energy of
    what these change by, relative to theirs; None: not known."""

    weights: np.ndarray
    shift: np.ndarray
    error: float | None = None


def refit(graph: Graph, layer: Layer, z: Value, masks: np.ndarray, width: int, work: Work) -> Refit:
    """A layer's weights where `masks`, bool[k, o], and zeros elsewhere. z: what it reads now.

    width: so many neighbouring outputs are masked alike. Layers that are too large, or have groups,
    keep their weights as they are, without those that go.
    """
    read = read_of(layer)
    packed = read.form.pack(layer.weights)
    terms = masks.sum(axis=0)[::width]
    if not has_moments(layer) or float((terms.astype(float) ** 3).sum()) > LONGEST:
        outputs = packed.shape[2]
        return Refit(read.form.unpack(packed * masks), np.zeros(outputs, np.float32))
    now, _ = matrices(layer, z)
    known = moments(graph, [replace(read, x=now, wanted=read.x)], work)[read.key]
    after = fitted(packed[0], masks, known, width)
    shift = known.wanted @ packed[0] - known.mean @ after
    weights = read.form.unpack(after[None]).astype(np.float32)
    return Refit(weights, shift.astype(np.float32), relative_error(packed[0], after, known))


def fitted(weights: np.ndarray, masks: np.ndarray, known: Moments, width: int = 1) -> np.ndarray:
    """Weights f64[k, o] where `masks`, bool[k, o], that with a bias compute what [k, o] did.

    Damped towards what they were: few samples prove little. width: so many neighbouring outputs are
    masked alike.
    """
    about = known.centred
    second = about.second + about.damping * np.eye(len(weights))
    wanted = about.cross @ weights + about.damping * weights
    found = np.zeros(weights.shape)
    for first in range(0, weights.shape[1], width):
        some, kept = slice(first, first + width), np.flatnonzero(masks[:, first])
        found[kept, some] = np.linalg.solve(second[np.ix_(kept, kept)], wanted[kept, some])
    return found


def relative_error(before: np.ndarray, after: np.ndarray, known: Moments) -> float:
    """Energy of what a layer's results change by, relative to theirs, both about their means."""

    def energy(matrix: np.ndarray) -> float:
        return float(np.sum(matrix * (known.centred.second @ matrix)))

    return energy(after - before) / max(energy(before), float(np.finfo(np.float32).tiny))
