"""The step Int8: weights and activations become integers; layers that lose too much stay in float.

equalise -> find points -> observe -> round weights -> correct biases -> judge
                 ^                                                        |
                 +------------ the worst layers stay in float <-----------+
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from brim.compress.adaround import rounded
from brim.compress.calibrate import observed, quants
from brim.compress.correct import corrected
from brim.compress.equalise import equalise
from brim.compress.integers import integers
from brim.compress.level import levelled
from brim.compress.observers import OBSERVERS
from brim.compress.points import Layer, Points, find_layers, find_points
from brim.compress.recipe import Int8, selects
from brim.compress.scheme import Scheme, nearest_weights
from brim.compress.sensitivity import felt_at_outputs, output_error, sensitivities
from brim.compress.work import Made, Work
from brim.errors import UnsupportedError
from brim.graph import Graph
from brim.where import split_name

SOME = 32  # batches that sensitivities are estimated and ways to scale channels chosen by
MOST_IN_FLOAT = 0.5  # of the layers: beyond that little is gained any more


def int8(graph: Graph, step: Int8, work: Work) -> Made:
    """`graph` in integers, with as few layers left in float as `work.max_loss` asks for.

    Where half of the layers in float do not help, the result is the one without any, and its report
    says that the contract is missed. Raises UnsupportedError where nothing can be integers.
    """
    need_layers(graph, step)
    graph = _equalised(graph, step, work)
    chosen = [layer for layer in find_layers(graph) if not selects(step.keep, layer.name)]
    points = _points(graph, chosen)
    observer = OBSERVERS[step.observer]
    ranges = observed(graph, points.stored, work.told("calibrate"), observer, work.threads)
    scheme = _rounded(graph, points, Scheme(quants(points, ranges)), step, work)

    def made(floats: Sequence[Layer]) -> Made:
        """With these layers in float."""
        out = {id(layer.value) for layer in floats}
        fewer = _points(graph, [layer for layer in chosen if id(layer.value) not in out])
        found = replace(scheme, activations=quants(fewer, ranges))
        notes = tuple(f"stays in float: {split_name(layer.name)[0]}" for layer in floats)
        return Made(integers(graph, fewer.layers, found), notes, graph, fewer, found)

    whole = made(())
    if _holds(whole, work):
        return whole
    harm = _harm(graph, points, scheme, work)
    worst = sorted(points.layers, key=lambda layer: -harm[id(layer.value)])
    return _fewest(lambda count: made(worst[:count]), len(worst), work) or whole


def _equalised(graph: Graph, step: Int8, work: Work) -> Graph:
    """The graph with its channels scaled as its kind of scales needs it."""
    if not step.equalise or not step.per_channel:
        return equalise(graph) if step.equalise else graph
    work.tell("equalise", 0, 0)
    some = work.batches.first(SOME)

    def error(candidate: Graph) -> float:
        points = find_points(candidate)
        ranges = observed(candidate, points.stored, some, OBSERVERS[step.observer], work.threads)
        scheme = _nearest(points, Scheme(quants(points, ranges)), step)
        if step.correct_bias:
            scheme = corrected(candidate, points, scheme, some, work.threads)
        return output_error(candidate, points, scheme, some, work.threads)

    return min((graph, levelled(graph, some, work.threads)), key=error)


def need_layers(graph: Graph, step: Int8) -> None:
    """Raises UnsupportedError where a step leaves no layer of a graph to be integers."""
    layers = find_layers(graph)
    if layers and not all(selects(step.keep, layer.name) for layer in layers):
        return
    raise UnsupportedError(
        f"no layer of {graph.name} can be computed in integers",
        why=f"the recipe keeps all {len(layers)} of them"
        if layers
        else "there is no product of an f32 activation with constant weights",
    )


def _points(graph: Graph, layers: Sequence[Layer]) -> Points:
    wanted = {id(layer.value) for layer in layers}
    return find_points(graph, lambda layer: id(layer.value) in wanted)


def _nearest(points: Points, scheme: Scheme, step: Int8) -> Scheme:
    """The scheme with each weight as the nearest integer."""
    weights = {}
    for layer in points.layers:
        everything = tuple(range(layer.weights.ndim))
        axes = layer.summed if step.per_channel else everything
        weights[id(layer.value)] = nearest_weights(layer.weights, axes, layer.pairs)
    return replace(scheme, weights=weights)


def _rounded(graph: Graph, points: Points, scheme: Scheme, step: Int8, work: Work) -> Scheme:
    """The scheme with the weights as integers."""
    scheme = _nearest(points, scheme, step)
    if step.effort == "high":
        scheme = rounded(graph, points, scheme, work)
    if step.correct_bias:
        scheme = corrected(graph, points, scheme, work.batches, work.threads)
    return scheme


def _harm(graph: Graph, points: Points, scheme: Scheme, work: Work) -> dict[int, float]:
    """id of each layer's value -> what its rounding does: to the outputs, where the network has
    gradients, else to its own result."""
    work.tell("sensitivity", 0, 0)
    some = work.batches.first(SOME)
    try:
        return felt_at_outputs(graph, points, scheme, some, work.threads)
    except UnsupportedError:
        return sensitivities(graph, points, scheme, some, work.threads)


def _fewest(made: Callable[[int], Made], layers: int, work: Work) -> Made | None:
    """What is made with the smallest number of layers in float that keeps the contract: doubled
    until it holds, then halved back once or twice. None: it never does."""
    most = int(layers * MOST_IN_FLOAT)
    low, high, found = 0, 0, None  # the contract does not hold with `low`, and holds with `high`
    while found is None:
        if high >= most:
            return None
        low, high = high, min(max(1, 2 * high), most)
        found = _tried(made, high, work)
    while high - low > max(1, high // 8):
        middle = (low + high) // 2
        candidate = _tried(made, middle, work)
        low, high, found = (low, middle, candidate) if candidate else (middle, high, found)
    return found


def _tried(made: Callable[[int], Made], count: int, work: Work) -> Made | None:
    work.tell(f"{count} layers in float", 0, 0)
    candidate = made(count)
    return candidate if _holds(candidate, work) else None


def _holds(made: Made, work: Work) -> bool:
    return work.judge(made.graph).difference <= work.max_loss
