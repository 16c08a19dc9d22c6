"""How much each layer suffers from being computed in integers, for all layers in one pass.

Every layer is computed twice from the same floats, once with its data and its weights rounded. Only
energies leave the graph. What a difference early in a network does at its end is found by
derivatives: for random signs v, the square of v' J e is on average the energy of J e, where J are
the derivatives of the outputs and e the difference; one backward pass has all of them.
(Hutchinson 1989, "A stochastic estimator of the trace of the influence matrix".)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from brim.compress.points import Layer, Points
from brim.compress.scheme import Scheme
from brim.compress.simulate import rounded_data, simulated
from brim.compress.totals import means, summed
from brim.errors import UnsupportedError
from brim.graph import Graph, Value, const, placeholder, substitute
from brim.ops import primitive as p
from brim.ops.registry import emit
from brim.passes.autodiff import gradient
from brim.types import F32, Type

ENDLESS = 1e30  # more than any share of an energy
Feeds = Mapping[str, np.ndarray]


def sensitivities(
    graph: Graph,
    points: Points,
    scheme: Scheme,
    batches: Iterable[Feeds],
    threads: int | None = None,
) -> dict[int, float]:
    """id of each layer's value -> energy of the difference / energy of the result, there.

    One pass over the batches, which holds one at a time.
    """
    layers = _rounded_layers(points, scheme)
    energies = [
        _energy(value) for layer in layers for value in (_difference(layer, scheme), layer.value)
    ]
    found = iter(means(graph, energies, batches, threads))
    return {
        id(layer.value): float(noise / max(signal, np.finfo(float).tiny))
        for layer, noise, signal in zip(layers, found, found)
    }


def output_error(
    graph: Graph,
    points: Points,
    scheme: Scheme,
    batches: Iterable[Feeds],
    threads: int | None = None,
) -> float:
    """Relative squared error of the outputs with all that `scheme` rounds; of several the mean."""
    new = simulated(graph, points.layers, scheme)
    ends = [v for n, v in graph.outputs.items() if v.dtype.is_float and n not in graph.state]
    pairs = [(_energy(p.sub(new[id(value)], value)), _energy(value)) for value in ends]
    found = iter(means(graph, [value for pair in pairs for value in pair], batches, threads))
    tiny = np.finfo(float).tiny
    return float(np.mean([noise / max(signal, tiny) for noise, signal in zip(found, found)]))


def felt_at_outputs(
    graph: Graph,
    points: Points,
    scheme: Scheme,
    batches: Iterable[Feeds],
    threads: int | None = None,
    seed: int = 0,
) -> dict[int, float]:
    """id of each layer's value -> what its difference adds to the relative squared error of the
    outputs, in the mean over these, to first order. An estimate: of n samples, good to about
    sqrt(2 / n) of itself.

    Raises UnsupportedError, naming them, if operators on the way have no gradient, and if the
    derivatives of some layer are not finite.
    """
    layers = _rounded_layers(points, scheme)
    ends = {n: v for n, v in graph.outputs.items() if v.dtype.is_float and n not in graph.state}
    signs = {f"signs {name}": placeholder(Type(v.shape, F32)) for name, v in ends.items()}
    # of each output a share of its energy; a constant while the loss is differentiated
    shares = {
        name: p.mul(sign, p.power(p.maximum(_energy(ends[name]), 1e-30), -0.5))
        for name, sign in zip(ends, signs.values())
    }
    stand_ins = {name: placeholder(share.type) for name, share in shares.items()}
    loss: Value = const(np.zeros((), np.float32))
    for name, value in ends.items():
        loss = p.add(loss, _sum(p.mul(value, stand_ins[name])))
    slopes = substitute(
        gradient(loss, [layer.value for layer in layers]),
        {id(stand_ins[name]): share for name, share in shares.items()},
    )
    felt = [_sum(p.mul(slope, _difference(layer, scheme))) for layer, slope in zip(layers, slopes)]
    squares = [p.mul(value, value) for value in felt]
    # NaN is not less: it becomes a number that none of these can be
    endless = const(np.float32(ENDLESS))
    squares = [p.select(p.lt(value, endless), value, endless) for value in squares]
    random = np.random.default_rng(seed)

    def with_signs() -> Iterable[Feeds]:
        for batch in batches:
            drawn = {n: random.choice((-1, 1), v.shape) for n, v in signs.items()}
            yield {**batch, **{n: array.astype(np.float32) for n, array in drawn.items()}}

    wide = Graph({**graph.inputs, **signs}, graph.outputs, graph.name, graph.state)
    found = means(wide, squares, with_signs(), threads)
    for layer, each in zip(layers, found):
        if each > ENDLESS / 1e9:
            raise UnsupportedError(
                "outputs have no finite derivatives by all layers", where=layer.name
            )
    return {id(layer.value): float(each) / len(ends) for layer, each in zip(layers, found)}


def _rounded_layers(points: Points, scheme: Scheme) -> list[Layer]:
    return [layer for layer in points.layers if id(layer.value) in scheme.weights]


def _difference(layer: Layer, scheme: Scheme) -> Value:
    """What rounding adds to a layer's results, if all before it is in floats."""
    weights = scheme.weights[id(layer.value)]
    args = list(layer.value.args)
    args[layer.data], args[layer.side] = rounded_data(layer, scheme), const(weights.real)
    found = emit(layer.value.op, *args, **layer.value.attrs)  # type: ignore[arg-type]
    if weights.shift is not None:
        found = p.add(found, const(weights.shift))
    return p.sub(found, layer.value)


def _sum(x: Value) -> Value:
    return p.reshape(summed(x, range(x.type.rank)), shape=())


def _energy(x: Value) -> Value:
    return _sum(p.mul(x, x))
