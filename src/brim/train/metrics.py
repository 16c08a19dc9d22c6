"""How good a network is on data: the mean of its loss, and of what else its loss measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brim.compress.metric import within
from brim.errors import InputError
from brim.graph import Graph, placeholder
from brim.model import Model, compile
from brim.train.data import Data, Examples, in_order, read_examples, with_targets
from brim.train.losses import CrossEntropy, Loss
from brim.train.network import Network
from brim.types import Type

TOP = 5


@dataclass(frozen=True)
class Scores:
    """Means over samples. metrics: by name, shares of 1: `accuracy` of classifiers, and `top-5`,
    whether the class is among the five that are named first."""

    samples: int
    loss: float
    metrics: Mapping[str, float]


def evaluation(network: Network, loss: Loss) -> Graph:
    """The network in evaluation form, with its loss: (data, "target", weights by name) -> (its
    outputs, then "loss" and what else the loss measures, each f32[batch]).

    Raises InputError for outputs that have such names themselves.
    """
    outputs = network.graph.outputs
    first = next(iter(outputs.values()))
    target = placeholder(loss.target(first.type))
    measured = {"loss": loss(first, target), **loss.metrics(first, target)}
    if clash := (measured.keys() & outputs.keys()) | ({"target"} & network.graph.inputs.keys()):
        raise InputError(f"{sorted(clash)} name two things in the evaluation", hint="rename them")
    inputs = {**network.graph.inputs, "target": target}
    return Graph(inputs, {**outputs, **measured}, f"{network.graph.name} evaluation")


def classes_of(loss: Loss, output: Type) -> int:
    """How many classes the labels of an output are of; 0 where they are no classes."""
    return output.dims[loss.axis] if isinstance(loss, CrossEntropy) and not loss.soft else 0


def evaluate(
    network: Network,
    data: Data | Examples,
    loss: Loss,
    *,
    mean: float | Sequence[float] = 0,
    std: float | Sequence[float] = 1,
    classes: Sequence[str] = (),
    threads: int | None = None,
) -> Scores:
    """How good a network is on data, as it is. data, mean, std, classes: see `read_examples`.

    Raises InputError for what does not fit.
    """
    inputs = {name: value.type for name, value in network.data.items()}
    output = next(iter(network.graph.outputs.values())).type
    examples = read_examples(data, inputs, mean, std, classes)
    examples = with_targets(examples, loss.target(output), classes_of(loss, output))
    model = compile(evaluation(network, loss), threads=threads)
    return scores(model, network.weights, examples, [*network.graph.outputs])


def scores(
    model: Model,
    weights: Mapping[str, np.ndarray],
    examples: Examples,
    outputs: Sequence[str],
) -> Scores:
    """Runs a compiled `evaluation` on all examples, each once.

    weights: what the graph takes beside data and target, by name; outputs: the network's, of which
    the first one has the classes; all else that the graph gives is a number for each sample.
    Raises InputError where there is no sample.
    """
    if not len(examples):
        raise InputError("there is no sample to evaluate with", where=examples.where)
    sums: dict[str, float] = {}
    for batch in in_order(examples):
        assert batch.labels is not None
        labels, count = batch.labels, batch.count
        target = np.resize(labels, (batch.rows, *labels.shape[1:]))
        results = model.run({**batch.feeds, "target": target, **weights})
        logits = results[outputs[0]][:count]
        found = {name: array[:count] for name, array in results.items() if name not in outputs}
        classes = logits.shape[1] if logits.ndim == 2 and labels.ndim == 1 else 0
        if labels.dtype.kind == "i" and classes > TOP:
            found["top-5"] = within(logits, labels, TOP)
        for name, array in found.items():
            sums[name] = sums.get(name, 0.0) + float(array.sum(dtype=np.float64))
    means = {name: total / len(examples) for name, total in sums.items()}
    return Scores(len(examples), means.pop("loss"), means)
