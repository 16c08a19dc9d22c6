"""Networks that were trained to be small, as models: in integers, with the numbers that training
saw, or with zeros for what was pruned; and the report that says what it costs.

    %2 = fake_quant(%1, %s, %z) low=0 high=255     -->     %1 is stored as u8, scale %s, zero %z
    %4 = fake_quant(%w, %t, 0.0) low=-127 high=127
    %5 = conv(%2, %4)                              -->     a product of bytes with i8

All of it is read off the graph, so nothing else has to be kept with a network or its checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brim.compiler import optimise
from brim.compress.data import Data, read_data
from brim.compress.integers import integers
from brim.compress.metric import Score
from brim.compress.pipeline import contracted
from brim.compress.points import Layer, Points, find_layers
from brim.compress.report import Report
from brim.compress.scheme import IntWeights, Quant, Scheme
from brim.compress.work import Made, Progress, Work
from brim.errors import UnsupportedError
from brim.graph import Graph, Value
from brim.model import Model, load
from brim.ops.registry import at, emit
from brim.train.folding import settled
from brim.train.network import Network
from brim.train.twin import contents, twin


def compressed(
    network: Network,
    before: Model | str | Path | bytes,
    data: Data,
    *,
    metric: Score | None = None,
    max_loss: float = 0.01,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    threads: int | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> tuple[Model, Report]:
    """A network that was `quantized` or `pruned` and trained, or both, as a model, and its report.

    before: the float model that its accuracy, speed and size are compared with, as `brim.quantize`
    does. data, metric, max_loss, mean, std, force: as there; data should not be what was trained
    with. Raises ContractError and InputError as it does, and UnsupportedError for networks that are
    neither.
    """
    shapes = {name: value.shape for name, value in network.data.items()}
    if not isinstance(before, Model):
        before = load(before, threads=threads, shapes=shapes)
    before.compile(shapes)
    types = {name: value.type for name, value in network.data.items()}
    made, text = made_of(network, threads), ", ".join(_done(network))

    def step(graph: Graph, work: Work) -> Made:
        return made

    return contracted(
        before,
        read_data(data, types, mean, std),
        [(f"{text}, trained", step)],
        "",
        metric=metric,
        max_loss=max_loss,
        threads=threads,
        progress=progress,
        force=force,
    )


def made_of(network: Network, threads: int | None = None) -> Made:
    """The graph of integers of a network, the float graph that it is of, and what is stored how; of
    one that is only pruned, its graph with constants.

    Raises UnsupportedError for a network that is neither `quantized` nor `pruned`.
    """
    done = _done(network)
    if not done:
        raise UnsupportedError(
            f"nothing of {network.graph.name} is rounded or pruned",
            hint="it has to be `quantized` or `pruned` before it is trained",
        )
    if "int8" not in done:
        return Made(optimise(network.with_constants()))
    return _integers(network, threads)


def _done(network: Network) -> list[str]:
    ops = {value.op.name for value in network.graph.values() if value.op is not None}
    return [text for op, text in (("pruned", "pruned"), ("fake_quant", "int8")) if op in ops]


def _integers(network: Network, threads: int | None) -> Made:
    stripped = _Stripped(network)
    floats = twin(stripped.graph, network.weights, threads)
    parts = [part for fake in stripped.fakes for part in (fake, *fake.args)]
    known = settled(network.graph, network.weights)
    wanted = {id(part): part for part in parts if id(part) in known}
    found = contents(network.graph, network.weights, wanted, threads)
    activations: dict[int, Quant] = {}
    groups: dict[int, list[Value]] = {}
    layers: list[Layer] = []
    weights: dict[int, IntWeights] = {}
    for layer in find_layers(floats.graph):
        fake = stripped.weights.get(id(floats.origin[id(layer.value)]))
        if fake is not None:
            layers.append(layer)
            weights[id(layer.value)] = _weights(fake, found)
    for value in floats.graph.values():
        fake = stripped.stored.get(id(floats.origin.get(id(value))))
        if fake is not None:
            _, scale, zero = fake.args
            activations[id(value)] = Quant(float(found[id(scale)]), int(np.rint(found[id(zero)])))
            groups.setdefault(id(scale), []).append(value)
    points = Points(tuple(layers), tuple(map(tuple, groups.values())))
    scheme = Scheme(activations, weights)
    graph = integers(floats.graph, points.layers, scheme)
    return Made(graph, (), floats.graph, points, scheme)


def _weights(fake: Value, found: Mapping[int, np.ndarray]) -> IntWeights:
    scale = found[id(fake.args[1])]
    whole = np.rint(found[id(fake)] / scale)
    return IntWeights(whole.astype(np.int8), scale)


class _Stripped:
    """A network's graph without its rounding.

    stored, weights: id of a value that is rounded, and of a product whose weights are, -> the value
    that rounds it in the network's graph.
    """

    def __init__(self, network: Network) -> None:
        old, known = network.graph, settled(network.graph, network.weights)
        self.stored: dict[int, Value] = {}
        self.weights: dict[int, Value] = {}
        new: dict[int, Value] = {}
        for value in old.values():
            args = [new[id(arg)] for arg in value.args]
            if _is_fake(value):
                new[id(value)] = args[0]
                if id(value) not in known:
                    self.stored[id(args[0])] = value
                continue
            made = value
            if any(a is not b for a, b in zip(args, value.args)):
                with at(value.where):
                    made = emit(value.op, *args, **value.attrs)  # type: ignore[arg-type]
            new[id(value)] = made
            if value.op is not None and value.op.name in ("conv", "contract"):
                for arg in value.args:
                    if _is_fake(arg) and id(arg) in known:
                        self.weights[id(made)] = arg
        outputs = {name: new[id(value)] for name, value in old.outputs.items()}
        self.graph = Graph(old.inputs, outputs, old.name, old.state)

    @property
    def fakes(self) -> list[Value]:
        return [*self.stored.values(), *self.weights.values()]


def _is_fake(value: Value) -> bool:
    return value.op is not None and value.op.name == "fake_quant"
