"""The step Prune with channels: whole channels go, and tensors become smaller.

    %3: f32[1,9,9,32] = contract(window(%1), %w)        %3: f32[1,9,9,24] = contract(...)
    %5: f32[1,9,9,32] = maximum(add(%3, %b), 0.0)  -->  %5: f32[1,9,9,24] = maximum(...)
    %8: f32[1,9,9,16] = contract(window(%5), %v)        %8: f32[1,9,9,16] = contract(...)

A channel is removed from everything that it passes: the products that write it, depthwise ones,
biases, sums of residual streams, gates, concats, the products that read it (`find_channels` knows).
What readers lose is made up for: the others' weights are fitted to what the lost inputs were, and
their mean goes into a bias.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from brim.compress.channels import Channels, find_channels, letters
from brim.compress.matrices import matrices
from brim.compress.points import Layer, find_layers
from brim.compress.rebuild import rebuilt
from brim.compress.recipe import Prune, selects
from brim.compress.refit import Refit, refit
from brim.compress.slopes import mean_squared_slopes
from brim.compress.work import Made, Work
from brim.errors import UnsupportedError
from brim.graph import Graph, Value
from brim.types import Type

ROUND = 8  # channels of a family come in multiples of this: whole vectors


def thin(graph: Graph, step: Prune, work: Work) -> Made:
    """`graph` without the share `step.sparsity` of the channels that may be removed.

    Raises UnsupportedError where there are none.
    """
    layers = find_layers(graph)
    channels = find_channels(graph, layers, homogeneous=False)
    wanted = [layer for layer in layers if selects(step.layers, layer.name)]
    found = families(graph, wanted, channels)
    if not found:
        raise UnsupportedError(
            f"no channels of {graph.name} can be removed",
            why="all that its layers compute reaches an output or an operator that needs all of it",
        )
    scores = _scores(graph, layers, channels, step, work)
    removed = lowest(found, scores, step.sparsity, step.scope == "global")

    def change(layer: Layer, z: Value) -> Refit:
        read = matrices(layer)[1].pack(_kept(layer, channels, removed))[0]
        return refit(graph, layer, z, read, read.shape[1], work)

    made = rebuilt(graph, layers, channels, removed, change)
    total = sum(len(family) for family in found)
    return Made(made, (f"{len(removed)} of {total} channels in {len(found)} groups are removed",))


# ---------------------------------------------------------------------- choice


def families(graph: Graph, layers: Collection[Layer], channels: Channels) -> list[np.ndarray]:
    """The channels that may be removed, by number; those of one tensor together.

    Left out are channels along several axes of a value at once, of which a part is no tensor, every
    second channel of a slice, and those that layers besides the given ones write.
    """
    fixed: set[int] = {0}
    for value in graph.values():
        numbers = channels.of(value) if isinstance(value.type, Type) else np.zeros(1)
        axes = [axis for axis, n in enumerate(numbers.shape) if n > 1]
        steps = value.attrs["steps"] if value.op is not None and value.op.name == "slice" else None
        if len(axes) > 1 or (steps and any(steps[axis] > 1 for axis in axes)):
            fixed.update(numbers.reshape(-1).tolist())
    chosen = {id(layer.value) for layer in layers}
    groups: dict[int, set[int]] = {}
    for layer in find_layers(graph):
        written = set(channels.of(layer.value).reshape(-1).tolist())
        if id(layer.value) not in chosen:
            fixed |= written
        joined = written.union(*(groups[n] for n in written if n in groups))
        groups.update(dict.fromkeys(joined, joined))
    distinct = {id(group): group for group in groups.values()}.values()
    return [
        np.array(sorted(group), np.int64)
        for group in distinct
        if fixed.isdisjoint(group) and len(group) > ROUND
    ]


def lowest(
    found: Sequence[np.ndarray], scores: Mapping[int, float], share: float, together: bool
) -> frozenset[int]:
    """The `share` of channels with the lowest scores: of each family, or of all together.

    What is left of a family is a multiple of ROUND, at least one.
    """
    everything = np.concatenate(found)
    ranked = sorted(everything.tolist(), key=lambda number: scores[number])
    low = set(ranked[: round(share * len(ranked))])
    removed: set[int] = set()
    for family in found:
        gone = len(low.intersection(family.tolist())) if together else share * len(family)
        left = max(ROUND, round((len(family) - gone) / ROUND) * ROUND)
        order = sorted(family.tolist(), key=lambda number: scores[number])
        removed.update(order[: max(0, len(family) - left)])
    return frozenset(removed)


def _scores(
    graph: Graph, layers: Collection[Layer], channels: Channels, step: Prune, work: Work
) -> dict[int, float]:
    """Number of each channel -> what its weights are worth, in the mean of the layers it passes.

    By magnitude: their squares, relative to the mean channel of the layer. By movement: the squares
    of what the outputs would move by without them, to first order.
    """
    squares = {id(layer.value): np.square(layer.weights, dtype=np.float64) for layer in layers}
    if step.method == "movement":
        slopes = mean_squared_slopes(
            graph, [layer.value.args[layer.side] for layer in layers], work
        )
        for layer in layers:
            squares[id(layer.value)] *= slopes[id(layer.value.args[layer.side])]
    worths: dict[int, list[float]] = {}
    for layer in layers:
        own = letters(layer)[1]
        for letter, numbers in _ends(layer, channels):
            axes = tuple(i for i, c in enumerate(own) if c != letter)
            worth = squares[id(layer.value)].sum(axis=axes)
            if step.method == "magnitude":
                worth /= max(worth.mean(), np.finfo(float).tiny)
            for number in np.unique(numbers):
                worths.setdefault(int(number), []).append(float(worth[numbers == number].sum()))
    return {number: sum(found) / len(found) for number, found in worths.items()}


def _ends(layer: Layer, channels: Channels) -> list[tuple[str, np.ndarray]]:
    """Letters of a layer's weights with the numbers of the channels along them."""
    data, weights, out = letters(layer)
    found: dict[str, np.ndarray] = {}
    for value, names in ((layer.value.args[layer.data], data), (layer.value, out)):
        numbers = channels.of(value)
        for letter, n in zip(names, numbers.shape):
            if n > 1 and letter in weights:
                found[letter] = numbers.reshape(-1)
    return list(found.items())


def _kept(layer: Layer, channels: Channels, removed: Collection[int]) -> np.ndarray:
    """Which of a layer's weights multiply channels that stay: bool, of their shape."""
    data, weights, out = letters(layer)
    stays = ~np.isin(channels.of(layer.value.args[layer.data]), list(removed))
    shape = [1] * len(weights)
    for letter, n in zip(data, stays.shape):
        if n > 1 and letter not in out:
            shape[weights.index(letter)] = n
    varies = stays.size == np.prod(shape)
    return np.broadcast_to(stays.reshape(shape) if varies else True, layer.weights.shape)
