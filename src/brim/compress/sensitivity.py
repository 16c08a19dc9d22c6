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
from brim.compress.simulate import rounded_data
from brim.graph import Graph, Value, const, placeholder, substitute
from brim.model import compile
from brim.ops import primitive as p
from brim.ops.registry import emit
from brim.passes.autodiff import gradient
from brim.types import F32, Type

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
    outputs = {}
    layers = _rounded_layers(points, scheme)
    for i, layer in enumerate(layers):
        outputs[f"noise{i}"] = _energy(_difference(layer, scheme))
        outputs[f"signal{i}"] = _energy(layer.value)
    totals = _totals(graph, {}, outputs, batches, threads)
    return {
        id(layer.value): totals[f"noise{i}"] / max(totals[f"signal{i}"], np.finfo(float).tiny)
        for i, layer in enumerate(layers)
    }


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

    Raises UnsupportedError, naming them, if operators on the way have no gradient.
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
    outputs = {}
    for i, (layer, slope) in enumerate(zip(layers, slopes)):
        found = _sum(p.mul(slope, _difference(layer, scheme)))
        outputs[f"felt{i}"] = p.mul(found, found)
    random = np.random.default_rng(seed)

    def with_signs() -> Iterable[Feeds]:
        for batch in batches:
            drawn = {n: random.choice((-1, 1), v.shape) for n, v in signs.items()}
            yield {**batch, **{n: array.astype(np.float32) for n, array in drawn.items()}}

    totals = _totals(graph, signs, outputs, with_signs(), threads)
    return {id(layer.value): totals[f"felt{i}"] / len(ends) for i, layer in enumerate(layers)}


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
    """The sum of all elements, as a scalar: axis by axis, so that f32 keeps its digits."""
    for axis in range(x.type.rank):
        x = p.reduce(x, op="add", axes=(axis,))
    return p.reshape(x, shape=())


def _energy(x: Value) -> Value:
    return _sum(p.mul(x, x))


def _totals(
    graph: Graph,
    more: Mapping[str, Value],
    outputs: Mapping[str, Value],
    batches: Iterable[Feeds],
    threads: int | None,
) -> dict[str, float]:
    """Means of scalar outputs over batches. more: inputs besides the graph's."""
    inputs = {name: value for name, value in graph.inputs.items() if name not in graph.state}
    inputs.update(more)
    model = compile(Graph(inputs, dict(outputs), graph.name), threads=threads)
    totals, count = dict.fromkeys(outputs, 0.0), 0
    for batch in batches:
        for name, number in model.run({name: batch[name] for name in inputs}).items():
            totals[name] += float(number)
        count += 1
    return {name: total / max(count, 1) for name, total in totals.items()}
