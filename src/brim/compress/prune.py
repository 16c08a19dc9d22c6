"""The step Prune with single weights and blocks: those that matter least become zeros.

What is left is fitted to what the layers read, so that they compute what they did as well as they
can. Channels are removed in `thin`; how zeros are not computed is in `brim.ops.sparse`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from brim.compress.channels import Channels
from brim.compress.masks import blocks, densities, mask, relative
from brim.compress.matrices import matrices
from brim.compress.points import Layer, find_layers
from brim.compress.rebuild import rebuilt
from brim.compress.recipe import Prune, selects
from brim.compress.refit import Refit, refit
from brim.compress.slopes import mean_squared_slopes
from brim.compress.thin import thin
from brim.compress.work import Made, Work
from brim.errors import UnsupportedError
from brim.graph import Graph, Value

WIDTHS = {"unstructured": 1, "1x4": 4, "1x8": 8}


def prune(graph: Graph, step: Prune, work: Work) -> Made:
    """`graph` with zeros for the share `step.sparsity` of its layers' weights, or without channels.

    Depthwise and grouped products are left alone, and so are layers whose outputs no block divides.
    Raises UnsupportedError where nothing is left to prune.
    """
    if step.pattern == "channels":
        return thin(graph, step, work)
    width = WIDTHS[step.pattern]
    layers = [layer for layer in find_layers(graph) if _is_prunable(layer, width, step)]
    if not layers:
        raise UnsupportedError(
            f"no layer of {graph.name} can be pruned by {step.pattern}",
            hint="layers are products with constant weights, named by `layers`",
        )
    masks, errors = _masks(graph, layers, step, width, work), {}

    def change(layer: Layer, z: Value) -> Refit | None:
        if id(layer.value) not in masks:
            return None
        found = refit(graph, layer, z, masks[id(layer.value)], width, work)
        if found.error is not None:
            errors[layer.name] = found.error
        return found

    nothing = Channels({})
    made = rebuilt(graph, layers, nothing, (), change)
    total = sum(each.size for each in masks.values())
    zeros = total - sum(int(each.sum()) for each in masks.values())
    worst = sorted(errors, key=lambda name: -errors[name])[:3]
    return Made(
        made,
        (
            f"{zeros} of {total} weights in {len(layers)} layers are zero ({zeros / total:.1%})",
            *(f"{name} loses {errors[name]:.2%} of its results' energy" for name in worst),
        ),
    )


def _is_prunable(layer: Layer, width: int, step: Prune) -> bool:
    groups, _, outputs = matrices(layer)[1].shape
    return groups == 1 and outputs % width == 0 and selects(step.layers, layer.name)


def _masks(
    graph: Graph, layers: Iterable[Layer], step: Prune, width: int, work: Work
) -> dict[int, np.ndarray]:
    """id of each layer's value -> bool[k, o]: what is kept."""
    squares = {id(layer.value): np.square(layer.weights, dtype=np.float64) for layer in layers}
    if step.method == "movement":
        constants = [layer.value.args[layer.side] for layer in layers]
        slopes = mean_squared_slopes(graph, constants, work)
        for layer in layers:  # what the outputs would move by without a weight, to first order
            squares[id(layer.value)] *= slopes[id(layer.value.args[layer.side])]
    scores = {}
    for layer in layers:
        packed = matrices(layer)[1].pack(squares[id(layer.value)])[0]
        scores[id(layer.value)] = blocks(packed, width)
    if step.method == "magnitude":
        scores = {key: relative(each) for key, each in scores.items()}
    kept: Mapping[int, float] = dict.fromkeys(scores, 1 - step.sparsity)
    if step.scope == "global":
        kept = densities(scores, step.sparsity)
    return {key: mask(each, kept[key], width) for key, each in scores.items()}
