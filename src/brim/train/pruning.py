"""Pruning during training: weights become zeros while the others learn to do without them.

    net = brim.train.pruned(net, Prune(sparsity=0.8), steps=1000)
    ... train it as any other: the masks are running statistics, and grow ...
    model, report = brim.train.compressed(net, before, pictures)

What is pruned, and by what patterns, is told by the recipe of the compression step; what that step
does at once, and fits the rest to, is spread over training here. The operator is in `ops.pruned`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from brim.compress.masks import blocks, densities, relative
from brim.compress.matrices import Matrices, matrices
from brim.compress.points import Layer, find_layers
from brim.compress.prune import WIDTHS
from brim.compress.recipe import Prune, selects
from brim.errors import InputError, UnsupportedError
from brim.graph import Graph, Value, placeholder, substitute
from brim.ops import primitive as p
from brim.ops import pruned as op
from brim.ops.registry import at
from brim.passes.expand import expand_certain
from brim.passes.simplify import simplify
from brim.train.network import Network
from brim.train.twin import twin
from brim.types import F32, Type


@dataclass(frozen=True, eq=False)
class _Prunable:
    """A layer, the name of its weights, and how these are a matrix."""

    layer: Layer
    name: str
    form: Matrices

    def squares(self, width: int) -> np.ndarray:
        packed = self.form.pack(np.square(self.layer.weights, dtype=np.float64))[0]
        return blocks(packed, width)


def pruned(network: Network, recipe: Prune, steps: int, *, begin: int = 0) -> Network:
    """The network with masks on its layers' weights that grow while it is trained.

    recipe: method, pattern (no channels), sparsity, scope and layers count. scope "global" shares
    the zeros out between layers as the weights are now. begin, steps: masks begin to grow after so
    many steps of training, and are complete after so many more. New weights are "WEIGHT.mask" and
    "WEIGHT.pruning", running statistics, and for method "movement" "WEIGHT.score", trained.

    Raises UnsupportedError where nothing can be pruned, InputError for steps below 1.
    """
    if steps < 1 or begin < 0:
        raise InputError(f"masks cannot grow from step {begin} on for {steps} steps")
    if recipe.pattern == "channels":
        raise UnsupportedError(
            "channels are not removed during training",
            hint="remove them before, with brim.quantize and Prune(pattern='channels'), then train",
        )
    width = WIDTHS[recipe.pattern]
    found = _prunable(network, recipe, width)
    if not found:
        raise UnsupportedError(
            f"no trained weights of {network.graph.name} can be pruned by {recipe.pattern}",
            hint="layers are products with weights, named by `layers`",
        )
    shares = _shares(found, recipe, width)
    inputs, added = dict(network.graph.inputs), dict[str, np.ndarray]()

    def weight(name: str, content: np.ndarray) -> Value:
        content.flags.writeable = False
        added[name], inputs[name] = content, placeholder(Type(content.shape, F32), name)
        return inputs[name]

    replace: dict[int, Value] = {}
    for each in found:
        w, (_, k, o) = network.graph.inputs[each.name], each.form.shape
        mask, state = op.start(k, o // width, width > 1)
        masks = weight(f"{each.name}.mask", mask), weight(f"{each.name}.pruning", state)
        args = [_packed(w, each.form), *masks]
        if recipe.method == "movement":
            args.append(weight(f"{each.name}.score", np.zeros((k, o), np.float32)))
        with at(each.layer.value.where):
            kept = op.pruned(*args, share=shares[each.name], begin=begin, steps=steps)
            replace[id(w)] = _unpacked(kept, each.form)
    outputs = substitute(network.graph.outputs.values(), replace)
    graph = Graph(
        inputs, dict(zip(network.graph.outputs, outputs)), network.graph.name, network.graph.state
    )
    weights = MappingProxyType({**network.weights, **added})
    return Network(graph, weights, network.sources, network.frozen)


def _prunable(network: Network, recipe: Prune, width: int) -> list[_Prunable]:
    floats = twin(simplify(expand_certain(network.graph)), network.weights)
    names = {id(network.graph.inputs[name]): name for name in network.trained}
    found: dict[str, _Prunable] = {}
    for layer in find_layers(floats.graph):
        name = names.get(id(floats.origin[id(layer.value)].args[layer.side]))
        _, form = matrices(layer)
        groups, _, outputs = form.shape
        if name and groups == 1 and outputs % width == 0 and selects(recipe.layers, layer.name):
            found.setdefault(name, _Prunable(layer, name, form))
    return list(found.values())


def _shares(found: list[_Prunable], recipe: Prune, width: int) -> Mapping[str, float]:
    """What share of each layer's blocks goes."""
    if recipe.scope == "layer":
        return {each.name: recipe.sparsity for each in found}
    scores = {i: relative(each.squares(width)) for i, each in enumerate(found)}
    kept = densities(scores, recipe.sparsity)
    return {each.name: 1 - kept[i] for i, each in enumerate(found)}


def _packed(w: Value, form: Matrices) -> Value:
    """[k, o] of weights."""
    order = form.summed + form.outputs
    perm = tuple(form.weights.index(c) for c in order)
    return p.reshape(p.transpose(w, perm=perm), shape=form.shape[1:])


def _unpacked(matrix: Value, form: Matrices) -> Value:
    order = form.summed + form.outputs
    split = p.reshape(matrix, shape=tuple(form.sizes[c] for c in order))
    return p.transpose(split, perm=tuple(order.index(c) for c in form.weights))
