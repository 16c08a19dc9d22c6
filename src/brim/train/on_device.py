"""A network that goes on learning where it runs: results and a training step in one model.

    model = brim.train.on_device(net, step)          # step: `training_step` of the same weights
    model.save("learns.brim")
    ...                                              # on a device, without LLVM
    model = brim.load("learns.brim", trust=...)
    model.functions["train_step"].run({"x": pictures, "target": labels})
    model(picture)                                   # by the weights as they are now

Weights that the step trains are state of both; all others are constants of each.
"""

from __future__ import annotations

from typing import Any

from brim.errors import InputError
from brim.graph import Graph, const, placeholder, substitute
from brim.model import Model, compile
from brim.train.network import Network
from brim.types import type_of

STEP = "train_step"


def on_device(network: Network, step: Graph, **options: Any) -> Model:
    """A model of the network whose function "train_step" changes its weights.

    network: for the shapes in which results are asked for, one sample as a rule; step: of the same
    network for batches to learn from. Where the step keeps moving averages of weights, results are
    computed by these. options: of `brim.compile`. Raises InputError where the two do not fit.
    """
    outputs, state, inputs, known = network.graph.outputs, {}, dict(network.data), {}
    for name, array in network.weights.items():
        read = next((n for n in (f"{name}/average", name) if n in step.state), "")
        value = network.graph.inputs[name]
        if not read:
            known[id(value)] = const(array, name)
            continue
        if type_of(step.state[read]) != value.type:
            raise InputError(
                f"the step remembers {name!r} as {type_of(step.state[read])}, the network reads "
                f"{value.type}",
                where=network.graph.name,
                hint="make both of one file, and change both in the same way",
            )
        state[read] = step.state[read]
        known[id(value)] = inputs[read] = placeholder(value.type, read)
    if not state:
        raise InputError("the step trains no weight of this network", where=network.graph.name)
    if clash := state.keys() & {*outputs, *network.data}:
        raise InputError(f"{sorted(clash)} name two things", hint="rename them in the model")
    results = dict(zip(outputs, substitute(outputs.values(), known)))
    kept = {name: inputs[name] for name in state}
    graph = Graph(inputs, {**results, **kept}, network.graph.name, state)
    return compile(graph, functions={STEP: step}, **options)
