"""New heads: a network is cut, and other layers take up what it gave there.

By default the cut is before the last fully connected layer, or the convolution that is one: all
behind it, its bias and a softmax too, goes with it. What the head gives is the only output.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from types import MappingProxyType

from brim.errors import InputError
from brim.graph import Graph, Value, topo
from brim.train.layers import Layers, averaged, flat
from brim.train.network import Head, Network
from brim.train.weights import label


def replaced(network: Network, head: int | Head, at: str, seed: int) -> Network:
    """See `Network.replace`."""
    cut = _named(network, at) if at else _before_last(network)
    layers = Layers(seed)
    layers.weights.update({name: network.graph.inputs[name] for name in network.weights})
    result = _dense(layers, cut, head) if isinstance(head, int) else head(layers, cut)
    first = next(iter(network.graph.outputs))
    read = {id(value) for value in topo([result])}
    used = {name: value for name, value in layers.weights.items() if id(value) in read}
    graph = Graph({**network.data, **used}, {first: result}, network.graph.name)
    contents = {**network.weights, **layers.contents}
    sources = {**network.sources, **layers.sources}
    return replace(
        network,
        graph=graph,
        weights=MappingProxyType({name: contents[name] for name in used}),
        sources=MappingProxyType({name: sources[name] for name in used if name in sources}),
        frozen=network.frozen & used.keys(),
    )


def _dense(layers: Layers, x: Value, outputs: int) -> Value:
    """One fully connected layer, of the mean of each channel where x is pictures."""
    if x.type.rank > 3:
        x = averaged(x)
    return layers.dense(x, "head", outputs)


def _named(network: Network, name: str) -> Value:
    """The last value of that name. Raises InputError."""
    values = [value for value in network.graph.values() if value.op is not None]
    found = [value for value in values if label(value) == name]
    if not found:
        names = list(dict.fromkeys(label(value) for value in values))
        near = difflib.get_close_matches(name, names, 3, 0.3) or names[-3:]
        raise InputError(
            f"nothing in the network is named {name!r}",
            where=network.graph.name,
            hint=f"similar: {', '.join(near)}",
        )
    return found[-1]


def _before_last(network: Network) -> Value:
    """What the last fully connected layer reads. Raises InputError where there is none."""
    weights = {id(network.graph.inputs[name]) for name in network.weights}
    (first, *_) = network.graph.outputs.values()
    for value in reversed(topo([first])):
        if value.op is None or value.op.name not in ("contract", "conv"):
            continue
        x, w = value.args
        if id(x) in weights:
            x, w = w, x
        if id(w) in weights and id(x) not in weights:
            if value.op.name == "contract" and w.type.rank == 2:
                return x
            if value.op.name == "conv" and set(x.shape[1:-1]) == {1}:
                return flat(x)
    raise InputError(
        "the network has no fully connected layer to replace",
        where=network.graph.name,
        hint="say where to cut: at='name of a node or tensor'",
    )
