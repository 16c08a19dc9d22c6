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
from brim.graph import Graph, Value
from brim.model import compile
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
    outputs: dict[str, Value] = {}
    for i, layer in enumerate(layers):
        data = rounded_data(layer, scheme)
        for name, value in _means(layer, data, passed(graph, layer, scheme)).items():
            outputs[f"{name}{i}"] = value
    inputs = {name: value for name, value in graph.inputs.items() if name not in graph.state}
    model = compile(Graph(inputs, outputs, graph.name), threads=threads)
    totals = {name: np.zeros(value.shape) for name, value in outputs.items()}
    for batch in batches:
        for name, array in model.run({name: batch[name] for name in inputs}).items():
            totals[name] += array
    weights = dict(scheme.weights)
    for i, layer in enumerate(layers):
        found = weights[id(layer.value)]
        parts = (totals[f"{name}{i}"] for name in ("count", "x", "y"))
        weights[id(layer.value)] = replace(found, shift=_shift(layer, found, *parts))
    return replace(scheme, weights=weights)


def _means(layer: Layer, data: Value, felt: Value) -> dict[str, Value]:
    """Means over all positions, which count as much as they are felt: of the numbers 1 [g, o], of
    x [g, k, o], of y [g, o]; axes as in `Matrices`, not yet merged."""
    x, m = matrices(layer, data)
    g, k, o = m.groups, m.summed, m.outputs
    found = {
        "count": _total(felt, m.out, g + o),
        "x": p.contract(x, felt, spec=f"{m.data},{m.out}->{g}{k}{o}"),
        "y": _total(p.mul(layer.value, felt), m.out, g + o),
    }
    positions = layer.value.type.size // max(m.shape[0] * m.shape[2], 1)
    return {name: p.mul(value, 1 / positions) for name, value in found.items()}


def _total(x: Value, own: str, kept: str) -> Value:
    """Sums of x, whose axes have the letters `own`, over all but those in `kept`, in its order."""
    rest = tuple(i for i, c in enumerate(own) if c not in kept)
    total = x
    for axis in rest:  # one by one: thousands of terms in a row would leave f32 few digits
        total = p.reduce(total, op="add", axes=(axis,))
    order = (*(own.index(c) for c in kept), *rest)
    sizes = [x.shape[own.index(c)] for c in kept]
    return p.reshape(p.transpose(total, perm=order), shape=tuple(sizes))


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
