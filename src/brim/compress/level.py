"""Levelling: channels of activations, which share a scale, are brought nearer to one range.

With a scale for each output channel of the weights, whoever writes a channel does not care how
large it is, but a small channel of an activation gets few of the 255 quanta that it shares with the
others. Here each is multiplied by the square root of how much smaller it is than the largest one,
and the weights that read it are divided by that: half of the imbalance moves into them (as in Xiao
2022, "SmoothQuant", arXiv:2211.10438). Whether that pays has to be measured: where ranges are rare
exceptions, or readers have few weights of importance, it does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from brim.compress.calibrate import watch
from brim.compress.channels import find_channels
from brim.compress.equalise import LARGEST, scaled
from brim.compress.points import find_layers, find_points
from brim.graph import Graph
from brim.ops import primitive as p

SHARE = 0.5  # of the imbalance, as logarithms


def levelled(
    graph: Graph, batches: Iterable[Mapping[str, np.ndarray]], threads: int | None = None
) -> Graph:
    """An optimised graph of the same results, whose activations vary less between channels.

    Results agree up to the rounding of floats. One pass over the batches, which holds one at a
    time.
    """
    layers = find_layers(graph)
    channels = find_channels(graph, layers, homogeneous=True)
    largest = {}
    for value in find_points(graph).stored:
        numbers = channels.of(value)
        if numbers.any():
            same = tuple(i for i, n in enumerate(numbers.shape) if n == 1)
            largest[id(value)] = p.reduce(p.absolute(value), op="max", axes=same), numbers
    found = watch(graph, [v for v, _ in largest.values()], batches, _Largest, threads)
    count = 1 + max((int(numbers.max()) for _, numbers in largest.values()), default=0)
    total, places = np.zeros(count), np.zeros(count)
    for value, numbers in largest.values():
        size = found[id(value)].array
        there = size > 0
        np.add.at(total, numbers[there], np.log(size.max(initial=0) / size[there]))
        np.add.at(places, numbers[there], 1)
    logs = SHARE * total / np.maximum(places, 1)
    logs[0] = 0
    return scaled(graph, layers, channels, np.minimum(np.exp(logs), LARGEST))


class _Largest:
    def __init__(self) -> None:
        self.array = np.zeros(())

    def see(self, array: np.ndarray) -> None:
        self.array = np.maximum(self.array, array.astype(np.float64))
