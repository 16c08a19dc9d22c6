"""How the outputs of a network depend on its weights, in the mean over data.

For random signs v, the slope of v' y with respect to a weight has, squared, on average the energy
that all outputs y move by for each unit of the weight; one backward pass has it for all weights.
(Hutchinson 1989, "A stochastic estimator of the trace of the influence matrix".)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brim.compress.work import Work
from brim.graph import Graph, Value, const, placeholder, visible
from brim.model import compile
from brim.ops import primitive as p
from brim.passes.autodiff import gradient
from brim.types import F32, Type


def mean_squared_slopes(
    graph: Graph, weights: Sequence[Value], work: Work, seed: int = 0
) -> dict[int, np.ndarray]:
    """id of each constant -> f64 of its shape: mean over batches of squared slopes.

    Raises UnsupportedError, naming them, if operators on the way have no gradient.
    """
    ends = {n: v for n, v in graph.outputs.items() if v.dtype.is_float and n not in graph.state}
    signs = {f"signs {name}": placeholder(Type(v.shape, F32)) for name, v in ends.items()}
    loss: Value = const(np.zeros((), np.float32))
    for value, sign in zip(ends.values(), signs.values()):
        part = p.reshape(p.mul(value, sign), shape=(value.type.size,))
        loss = p.add(loss, p.reshape(p.reduce(part, op="add", axes=(0,)), shape=()))
    outputs: dict[str, Value] = {
        f"slope{i}": p.mul(slope, slope) for i, slope in enumerate(gradient(loss, list(weights)))
    }
    outputs |= {name: graph.outputs[name] for name in graph.state}
    inputs = {**graph.inputs, **signs}
    model = compile(Graph(inputs, outputs, graph.name, graph.state), threads=work.threads)
    random, names = np.random.default_rng(seed), visible(graph.inputs, graph.state)
    totals, runs = [np.zeros(value.shape) for value in weights], 0
    for batch in work.told("slopes"):
        drawn = {n: random.choice((-1.0, 1.0), v.shape) for n, v in signs.items()}
        feeds = {n: batch[n] for n in names} | {n: a.astype(np.float32) for n, a in drawn.items()}
        arrays = model.run(feeds)
        for i, total in enumerate(totals):
            total += arrays[f"slope{i}"]
        runs += 1
    return {id(value): total / max(runs, 1) for value, total in zip(weights, totals)}
