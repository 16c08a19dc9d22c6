"""Adapters: what is trained are two small matrices beside each large one (LoRA).

    y = contract(x, w)  -->  y = contract(x, w) + (x a) b * alpha / rank

with w frozen, a random and b zero at first, so that nothing changes before training (Hu 2021,
arXiv:2106.09685). In the end w + a b * alpha / rank is the weight: `merged`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from brim.errors import InputError
from brim.graph import Graph, Value, const, rewrite, users
from brim.ops import primitive as p
from brim.ops.adapters import adapted_product, change
from brim.ops.primitive import parse_spec
from brim.ops.registry import OPS, at
from brim.train.layers import Layers
from brim.train.network import Network


def adapted(
    network: Network, patterns: tuple[str, ...], rank: int, alpha: float, seed: int
) -> Network:
    """See `Network.adapted`."""
    if rank < 1:
        raise InputError(f"rank={rank} is no size of a matrix")
    names, uses = network.named(*patterns), users(network.graph)
    inputs = {name: network.graph.inputs[name] for name in names}
    once = {id(value): n for n, value in inputs.items() if len(uses.get(id(value), ())) == 1}
    layers = Layers(seed)

    def rule(value: Value) -> Value | None:
        weight = next((arg for arg in value.args if id(arg) in once), None)
        product = None if weight is None else _product(value, weight)
        if weight is None or product is None:
            return None
        with at(value.where):
            return _beside(*product, once[id(weight)], layers, rank, alpha)

    graph = rewrite(network.graph, rule)
    if not layers.weights:
        raise InputError(
            f"none of the weights {sorted(names)[:5]} can be adapted",
            why="adapters go beside matrices of products, of which each is read once",
            where=network.graph.name,
        )
    return replace(
        network,
        graph=Graph({**graph.inputs, **layers.weights}, graph.outputs, graph.name),
        weights=MappingProxyType({**network.weights, **layers.contents}),
        sources=MappingProxyType({**network.sources, **layers.sources}),
        frozen=frozenset(network.weights),
    )


def _product(value: Value, weight: Value) -> tuple[Value, Value, str] | None:
    """x, w and spec, if a value is contract(x, w, spec) with this weight."""
    if value.op is OPS["contract"] and value.args[0] is not value.args[1]:
        left, right, out = parse_spec(value.attrs["spec"])
        x, w = value.args
        if w is not weight:
            x, w, left, right = w, x, right, left
        if set(left) & set(right) & set(out) or not set(left) & set(right) or w.type.rank < 2:
            return None
        return x, w, f"{left},{right}->{out}"
    if value.op is OPS["conv"] and value.args[1] is weight:
        x, attrs, spatial = value.args[0], value.attrs, weight.type.rank - 2
        still = set(attrs["stride"]) == {1} and not any((*attrs["low"], *attrs["high"]))
        if set(weight.shape[:spatial]) == {1} and still and attrs["groups"] == 1:
            axes = "hwd"[:spatial]
            flat = p.reshape(weight, shape=weight.shape[spatial:])
            return x, flat, f"n{axes}c,co->n{axes}o"
    return None


def _beside(
    x: Value, w: Value, spec: str, name: str, layers: Layers, rank: int, alpha: float
) -> Value:
    """The product with adapters of their own beside its weights."""
    left, right, _ = parse_spec(spec)
    inner = tuple(n for n, letter in zip(w.shape, right) if letter in left)
    outer = tuple(n for n, letter in zip(w.shape, right) if letter not in left)
    inputs = math.prod(inner)
    first = layers.normal(f"{name}.lora_a", (*inner, rank), 2 * inputs)
    a = layers.weight(f"{name}.lora_a", first)
    b = layers.weight(f"{name}.lora_b", np.zeros((rank, *outer)))
    return adapted_product(x, w, a, b, spec=spec, scale=alpha / rank)


def merged(network: Network) -> Network:
    """The network with the changes in its weights and no adapters; itself where it has none."""
    names = {id(value): name for name, value in network.graph.inputs.items()}
    contents = dict(network.weights)
    gone: set[str] = set()

    def rule(value: Value) -> Value | None:
        if value.op is not OPS["adapted_product"]:
            return None
        x, w, a, b = value.args
        base = names[id(w.args[0] if w.op is OPS["reshape"] else w)]
        factors = [const(network.weights[names[id(part)]]) for part in (a, b)]
        added = change(*factors, **value.attrs).data
        assert added is not None
        contents[base] = contents[base] + added.reshape(contents[base].shape)
        contents[base].flags.writeable = False
        gone.update((names[id(a)], names[id(b)]))
        return p.contract(x, w, spec=value.attrs["spec"])

    graph = rewrite(network.graph, rule)
    if not gone:
        return network
    inputs = {name: value for name, value in graph.inputs.items() if name not in gone}
    return replace(
        network,
        graph=Graph(inputs, graph.outputs, graph.name),
        weights=MappingProxyType({n: array for n, array in contents.items() if n not in gone}),
        sources=MappingProxyType({n: s for n, s in network.sources.items() if n not in gone}),
        frozen=network.frozen - gone,
    )
