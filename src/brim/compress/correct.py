"""Bias correction: what a layer's rounding adds to its results in the mean is taken off again.

Rounded weights w' times what the layer reads when that is rounded, x', are on average mean(x') w',
where mean(x w) is wanted: the difference is a constant of each channel, and goes into the bias.
(Nagel 2019, "Data-free quantization through weight equalization and bias correction",
arXiv:1906.04721, section 4.2, in its empirical form.) Here only places count where the activation
behind the layer lets a difference through: where a ReLU is closed, which for many channels is all
of the background, errors are not felt, and correcting for them would harm where it is open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from brim.compress.matrices import matrices
from brim.compress.points import Layer, Points
from brim.compress.scheme import IntWeights, Scheme
from brim.compress.simulate import passed, rounded_data
from brim.compress.totals import means, summed
from brim.graph import Graph, Value
from brim.ops import primitive as p


def corrected(
    graph: Graph,
    points: Points,
    scheme: Scheme,
    batches: Iterable[Mapping[str, np.ndarray]],
    threads: int | None = None,
) -> Scheme:
    """`scheme` with shifts that make each layer right in the mean, if all before it is.

    One pass over the batches, which holds one at a time.
    """
    layers = [layer for layer in points.layers if id(layer.value) in scheme.weights]
    sums = [_sums(graph, layer, scheme) for layer in layers]
    found = iter(means(graph, [value for three in sums for value in three], batches, threads))
    weights = dict(scheme.weights)
    for layer, *three in zip(layers, found, found, found):
        known = weights[id(layer.value)]
        weights[id(layer.value)] = replace(known, shift=_shift(layer, known, *three))
    return replace(scheme, weights=weights)


def _sums(graph: Graph, layer: Layer, scheme: Scheme) -> tuple[Value, Value, Value]:
    """Means over all positions, which count as much as they are felt: of the numbers 1 [g, o], of
    x [g, k, o], of y [g, o]; axes as in `Matrices`, not yet merged."""
    x, m = matrices(layer, rounded_data(layer, scheme))
    felt = passed(graph, layer, scheme)
    g, k, o = m.groups, m.summed, m.outputs
    positions = layer.value.type.size // (m.shape[0] * m.shape[2])
    found = (
        _total(felt, m.out, g + o),
        p.contract(x, felt, spec=f"{m.data},{m.out}->{g}{k}{o}"),
        _total(p.mul(layer.value, felt), m.out, g + o),
    )
    count, x, y = (p.mul(value, 1 / positions) for value in found)
    return count, x, y


def _total(x: Value, own: str, kept: str) -> Value:
    """Sums of x, whose axes have the letters `own`, over all but those in `kept`, in its order."""
    rest = tuple(i for i, c in enumerate(own) if c not in kept)
    order = (*(own.index(c) for c in kept), *rest)
    sizes = [x.shape[own.index(c)] for c in kept]
    return p.reshape(p.transpose(summed(x, rest), perm=order), shape=tuple(sizes))


def _shift(
    layer: Layer, weights: IntWeights, count: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """What is to be added to the results, f32, of the shape that `Layer.along_result` gives."""
    _, m = matrices(layer)
    groups, summed, outputs = m.shape
    real = m.pack(weights.real).astype(np.float64)
    given = (x.reshape(groups, summed, outputs) * real).sum(1)
    count, wanted = count.reshape(given.shape), y.reshape(given.shape)
    shift = np.divide(wanted - given, count, out=np.zeros_like(given), where=count > 0)
    return layer.along_result(m.unpack(shift[:, None])).astype(np.float32)
