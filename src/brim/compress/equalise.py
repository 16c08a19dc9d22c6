"""Cross-layer equalisation: channels are scaled so that the weights around them have like ranges.

    %3 = contract(window(%1), %w)              %3 = contract(window(%1), %w * s)
    %5 = maximum(add(%3, %b), 0.0)     -->     %5 = maximum(add(%3, %b * s), 0.0)
    %8 = contract(window(%5), %v)              %8 = contract(window(%5), %v / s)

The network computes the same, for relu(s * x) = s * relu(x) where s > 0; a clip at 6 becomes one at
6 * s. Channels that several products write or read, as those of a residual stream, are scaled once
for all of them. (Nagel 2019, "Data-free quantization through weight equalization and bias
correction", arXiv:1906.04721, section 4.1.)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from brim.compress.channels import SCALINGS, Channels, find_channels, letters, spread
from brim.compress.points import Layer, find_layers
from brim.graph import Graph, Value, const
from brim.ops.registry import at, emit

ROUNDS = 20  # each halves what is left, about
LARGEST = 2.0**8  # of a factor: a channel without weights is not blown up to the range of others


def equalise(graph: Graph) -> Graph:
    """An optimised graph of the same results whose products' weights vary less between channels:
    for weights with one scale per tensor.

    Results agree up to the rounding of floats.
    """
    layers = find_layers(graph)
    channels = find_channels(graph, layers, homogeneous=True)
    return scaled(graph, layers, channels, balanced(layers, channels))


@dataclass(frozen=True, eq=False)
class _Ends:
    """The largest weights of a layer, as logarithms, between the channels it reads and writes.

    reads, writes: the numbers of these channels, as they broadcast to `size`.
    """

    size: np.ndarray
    reads: np.ndarray
    writes: np.ndarray

    def touches(self, numbers: np.ndarray) -> bool:
        """Whether some of these channels are read or written here."""
        return bool(np.isin(self.reads, numbers).any() or np.isin(self.writes, numbers).any())

    def largest(self, numbers: np.ndarray, logs: np.ndarray) -> np.ndarray:
        """The largest of each channel in `numbers` (reads or writes), scaled; of its shape."""
        size = self.size + logs[self.writes] - logs[self.reads]
        return size.max(tuple(i for i, n in enumerate(numbers.shape) if n == 1), keepdims=True)


def _ends(layer: Layer, channels: Channels) -> _Ends:
    data, weights, out = letters(layer)
    reads = spread(channels.of(layer.value.args[layer.data]), data, weights)
    writes = spread(channels.of(layer.value), out, weights)
    same = [i for i, n in enumerate(np.broadcast_shapes(reads.shape, writes.shape)) if n == 1]
    with np.errstate(divide="ignore"):
        size = np.log(np.abs(layer.weights).max(tuple(same), keepdims=True).astype(np.float64))
    return _Ends(size, reads, writes)


def balanced(layers: Collection[Layer], channels: Channels) -> np.ndarray:
    """f64[numbers]: what each channel is to be multiplied by; 1 for number 0, which is fixed.

    A channel is balanced if its weights have the same range where it is written as where it is
    read; in the geometric mean, if that is in several layers.
    """
    ends = [_ends(layer, channels) for layer in layers]
    count = 1 + max((int(max(e.reads.max(), e.writes.max())) for e in ends), default=0)
    logs = np.zeros(count)
    steps = [np.setdiff1d(end.writes, 0) for end in ends]
    near = [[end for end in ends if end.touches(own)] for own in steps]
    for _ in range(ROUNDS):
        for own, around in zip(steps, near):  # one by one: what follows sees the new ranges
            moved = logs + _imbalance(around, logs) / 2
            logs[own] = moved[own].clip(-np.log(LARGEST), np.log(LARGEST))
    return np.exp(logs)


def _imbalance(ends: Collection[_Ends], logs: np.ndarray) -> np.ndarray:
    """f64[numbers]: how much larger weights are where a channel is read than where it is written,
    as logarithms; 0 where there are none on one side."""
    means = []
    for side in ("reads", "writes"):
        total, found = np.zeros_like(logs), np.zeros_like(logs)
        for end in ends:
            numbers = getattr(end, side)
            largest = end.largest(numbers, logs)
            there = np.isfinite(largest)
            np.add.at(total, numbers[there], largest[there])
            np.add.at(found, numbers[there], 1)
        means.append(np.divide(total, found, out=np.full_like(logs, np.nan), where=found > 0))
    return np.nan_to_num(means[0] - means[1])


def scaled(
    graph: Graph, layers: Collection[Layer], channels: Channels, factors: np.ndarray
) -> Graph:
    """The graph with each channel multiplied by a positive factor, in weights and constants.

    channels: as `find_channels` numbers them if `homogeneous`. factors: f64, of the first numbers,
    that of 0 is 1; all others are 1, too.
    """
    of_layer = {id(layer.value): layer for layer in layers}
    count = 1 + max((int(numbers.max()) for numbers in channels.numbers.values()), default=0)
    factors = np.concatenate([factors, np.ones(max(count - len(factors), 0))])
    new: dict[int, Value] = {}
    for value in graph.values():
        args = [new[id(arg)] for arg in value.args]
        if layer := of_layer.get(id(value)):
            args[layer.side] = _scaled_weights(layer, channels, factors)
        elif value.op and value.op.kind == "elementwise" and value.op.name not in SCALINGS:
            by = factors[channels.of(value)]
            args = [_scaled_constant(arg, by) if arg.is_const else arg for arg in args]
        new[id(value)] = value
        if any(a is not b for a, b in zip(args, value.args)):
            with at(value.where):
                new[id(value)] = emit(value.op, *args, **value.attrs)  # type: ignore[arg-type]
    outputs = {name: new[id(value)] for name, value in graph.outputs.items()}
    return Graph(graph.inputs, outputs, graph.name, graph.state)


def _scaled_weights(layer: Layer, channels: Channels, factors: np.ndarray) -> Value:
    ends = _ends(layer, channels)
    by = factors[ends.writes] / factors[ends.reads]
    weights = layer.value.args[layer.side]
    return const((layer.weights * by).astype(weights.dtype.numpy), weights.where)


def _scaled_constant(value: Value, by: np.ndarray) -> Value:
    """A constant times factors; of the smallest shape, which may be a larger one than before."""
    assert value.data is not None
    if not value.dtype.is_float or (by == 1).all() or not value.data.any():
        return value
    found = (value.data * by).astype(value.dtype.numpy)
    lead = next((i for i, n in enumerate(found.shape) if n != 1), found.ndim)
    return const(found.reshape(found.shape[lead:]), value.where)
