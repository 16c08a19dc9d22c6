"""How good a network is on data: the mean of its loss, and of what else its loss measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brim.compress.metric import within
from brim.errors import InputError
from brim.model import Model
from brim.train.data import Examples, in_order

TOP = 5


@dataclass(frozen=True)
class Scores:
    """Means over samples. metrics: by name, shares of 1: `accuracy` of classifiers, and `top-5`,
    whether the class is among the five that are named first."""

    samples: int
    loss: float
    metrics: Mapping[str, float]


def scores(
    model: Model,
    weights: Mapping[str, np.ndarray],
    examples: Examples,
    outputs: Sequence[str],
) -> Scores:
    """Runs an evaluation graph (`brim.train.step.evaluation`) on all examples, each once.

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
