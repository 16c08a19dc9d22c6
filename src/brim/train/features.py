"""Frozen layers in front are computed once for each sample, and training starts behind them.

    %x -> %1 = conv(%x, %frozen) -> %2 = mean(%1) -> %y = dense(%2, %trained)
-->
    %x -> %1 -> %2                      once for each sample, then kept
    %2 -> %y                            what is trained, and what is evaluated

That is exact where nothing changes the samples from epoch to epoch, and what is in front computes
the same each time: no weight of it is trained, no norm follows the batch, no dropout drops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from brim.errors import InputError
from brim.graph import Graph, Value, placeholder, substitute, topo
from brim.model import Model
from brim.passes.batch import check_samples
from brim.train.data import Examples, in_order, read_ahead
from brim.train.network import Network


@dataclass(frozen=True, eq=False)
class Halves:
    """front: data -> features; back: a network of the features, with the weights that it reads."""

    front: Graph
    back: Network


def halves(network: Network) -> Halves | None:
    """A network cut behind what is frozen; None where there is nothing in front that is worth it:
    features that take more room than the samples are not kept."""
    order = topo(network.graph.outputs.values())
    live = network.trained | network.statistics
    moving = {id(network.graph.inputs[name]) for name in live}
    seen = {id(value) for value in network.data.values()}
    edge: dict[int, Value] = {}
    for value in order:
        if value.op is None:
            continue
        drops = value.op.name == "dropout" and value.attrs["rate"] > 0
        if drops or any(id(arg) in moving for arg in value.args):
            moving.add(id(value))
            edge |= {id(a): a for a in value.args if id(a) in seen and id(a) not in moving}
        elif any(id(arg) in seen for arg in value.args):
            seen.add(id(value))
    inputs = {id(value) for value in network.data.values()}
    room, taken = (sum(v.type.size for v in vs) for vs in (network.data.values(), edge.values()))
    if not edge or edge.keys() <= inputs or taken > room:
        return None
    features = {f"feature {i}": value for i, value in enumerate(edge.values())}
    whole = Graph(network.graph.inputs, features, f"{network.graph.name} (frozen)")
    front = replace(network, graph=whole).with_constants()
    try:
        check_samples(front, list(network.data))
    except InputError:
        return None  # the samples are not the first axis there, or see each other
    return Halves(front, _behind(network, features))


def _behind(network: Network, features: dict[str, Value]) -> Network:
    """The network of these features."""
    inputs = {name: placeholder(value.type, name) for name, value in features.items()}
    replaced = {id(value): inputs[name] for name, value in features.items()}
    outputs = substitute(network.graph.outputs.values(), replaced)
    read = {id(value) for value in topo(outputs)}
    used = {n: v for n, v in network.graph.inputs.items() if id(v) in read}
    graph = Graph({**inputs, **used}, dict(zip(network.graph.outputs, outputs)), network.graph.name)
    return replace(
        network,
        graph=graph,
        weights=MappingProxyType({n: a for n, a in network.weights.items() if n in used}),
        sources=MappingProxyType({n: s for n, s in network.sources.items() if n in used}),
        frozen=network.frozen & used.keys(),
    )


def features_of(
    model: Model, examples: Examples, tell: Callable[[int, int], None] = lambda done, total: None
) -> Examples:
    """What the front makes of each sample, in memory. model: compiled from it; tell(done, total):
    called after each batch, with the number of samples."""
    types = dict(model.outputs)
    kept = {
        name: np.empty((len(examples), *type.dims[1:]), type.dtype.numpy)
        for name, type in types.items()
    }
    done = 0
    for batch in read_ahead(in_order(examples)):
        results = model.run(batch.feeds)
        for name, array in kept.items():
            array[done : done + batch.count] = results[name][: batch.count]
        done += batch.count
        tell(done, len(examples))
    labels = None if examples.labels is None else examples.labels[examples.numbers]

    def read(numbers: np.ndarray) -> dict[str, np.ndarray]:
        return {name: array[numbers] for name, array in kept.items()}

    return Examples(
        types, examples.where, labels, np.arange(len(examples)), read,
        lambda number: examples.name(int(examples.numbers[number])), examples.classes,
    )  # fmt: skip
