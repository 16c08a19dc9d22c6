"""What compression may cost: a score per sample before and after, and how sure the difference is.

With labels the score is whether the named class is right; without, the outputs' squared error is
compared with the float outputs. Samples are paired: each is judged by both models, so that a small
difference is seen that would be lost between two separate measurements. See `interval.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from brim.compress.data import Batch
from brim.compress.interval import interval_of_changes, interval_of_mean
from brim.divergence import energies
from brim.errors import InputError

# (outputs by name, with a first axis of samples; their labels or None) -> a number for each sample,
# of which larger ones are better.
Score = Callable[[dict[str, np.ndarray], np.ndarray | None], Any]
KEPT = 1 << 26  # bytes of float outputs that are kept for the next comparison; beyond, runs again


class Labelled(Protocol):
    """Batches with their labels, any number of times."""

    def batches(self) -> Iterable[Batch]: ...


class Runs(Protocol):
    """A model."""

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]: ...

    def reset(self) -> None: ...


@dataclass(frozen=True)
class Accuracy:
    """A metric before and after compression, means over samples.

    difference: what is lost, positive if it became worse; low, high: its 95 % interval, infinite
    for a single sample. The squared error is 0 before; its loss is what it is after.
    """

    name: str
    before: float
    after: float
    difference: float
    low: float
    high: float
    samples: int


class Judge:
    """Compares models with `model` on the same data: `judge(other)` is an Accuracy.

    score: None is top-1 accuracy where there are labels, else the relative squared error of the
    worst output: its noise energy over its signal energy, each summed over all samples. Raises
    InputError, when it is made, for labels and scores that do not fit the model.
    """

    def __init__(self, model: Runs, data: Labelled, score: Score | None = None) -> None:
        self._model, self._data, self._score = model, data, score
        self._wanted: list[dict[str, np.ndarray]] = []
        self._before = np.zeros(0)
        scores, room = [], KEPT
        for batch in data.batches():
            outputs = _run(model, batch)
            if self._score is None and batch.labels is not None:
                self._score = top1
            if self._score is not None:
                scores.append(_scores(self._score, outputs, batch))
                continue
            room -= sum(array.nbytes for array in outputs.values())
            if room >= 0:
                self._wanted.append(outputs)
        if scores:
            self._before = np.concatenate(scores)

    def __call__(self, model: Runs) -> Accuracy:
        """What `model` loses. Raises InputError for a score that is no number."""
        if self._score is None:
            return self._relative_error(model)
        after = np.concatenate(
            [_scores(self._score, _run(model, b), b) for b in self._data.batches()]
        )
        lost = self._before - after
        binary = np.isin([self._before, after], (0, 1)).all()
        low, high = interval_of_changes(lost) if binary else interval_of_mean(lost)
        named = getattr(self._score, "__name__", "score").replace("_", " ")
        name = "top-1 accuracy" if self._score is top1 else named
        means = (float(self._before.mean()), float(after.mean()), float(lost.mean()))
        return Accuracy(name, *means, low, high, len(lost))

    def _relative_error(self, model: Runs) -> Accuracy:
        noise: dict[str, list[np.ndarray]] = {}
        signal: dict[str, list[np.ndarray]] = {}
        for number, batch in enumerate(self._data.batches()):
            kept = number < len(self._wanted)
            wanted = self._wanted[number] if kept else _run(self._model, batch)
            found = _run(model, batch)
            for name, array in wanted.items():
                off, of = energies(array, found[name])
                noise.setdefault(name, []).append(off)
                signal.setdefault(name, []).append(of)
        errors = {
            name: _relative(np.concatenate(noise[name]), np.concatenate(signal[name]))
            for name in noise
        }
        worst = max(errors, key=lambda name: errors[name][0])
        error, each = errors[worst]
        low, high = interval_of_mean(each)
        named = f"relative squared error of {worst}"
        return Accuracy(named, 0.0, error, error, max(low, 0.0), high, len(each))


def top1(outputs: dict[str, np.ndarray], labels: np.ndarray | None) -> np.ndarray:
    """1.0 for each sample whose label is the place of the largest of its numbers, else 0.0.

    outputs: one array of [samples, classes], axes of length 1 aside; labels: integers of
    [samples]. Raises InputError for others.
    """
    if len(outputs) != 1:
        raise InputError(
            "top-1 accuracy is of models with one output",
            why=f"this one gives {', '.join(outputs)}",
            hint="give a metric: a function of outputs and labels, or data without labels",
        )
    name, logits = next(iter(outputs.items()))
    classes = max(logits.shape[1:], default=1)
    if labels is None or classes < 2 or classes != np.prod(logits.shape[1:]):
        raise InputError(
            f"top-1 accuracy does not fit output {name!r}",
            why="there are no labels"
            if labels is None
            else f"it holds {list(logits.shape[1:])} for each sample, not one number per class",
            hint="give a metric: a function of outputs and labels, or data without labels",
        )
    wanted = labels.reshape(len(labels), -1)
    whole = wanted.shape[1] == 1 and np.array_equal(wanted, wanted.astype(np.int64))
    if not whole or len(wanted) != len(logits):
        raise InputError(
            f"labels of shape {list(labels.shape)} are not the numbers of classes",
            why=f"there are {len(logits)} samples; of each the number of its class is wanted",
        )
    if wanted.min() < 0 or wanted.max() >= classes:
        raise InputError(
            f"label {wanted.max() if wanted.max() >= classes else wanted.min()} is none of the "
            f"model's {classes} classes",
            hint="classes count from 0",
        )
    return within(logits.reshape(len(logits), -1), wanted[:, 0].astype(np.int64), 1)


def within(logits: np.ndarray, labels: np.ndarray, first: int) -> np.ndarray:
    """1.0 for each sample whose label is among the `first` largest of its numbers, else 0.0.

    logits: [samples, classes]; labels: i64[samples]. Of equal numbers the first one counts as the
    larger; what is not a number is larger than all that are, and names no label.
    """
    own = np.take_along_axis(logits, labels[:, None], 1)
    equal = (logits == own) & (np.arange(logits.shape[1]) < labels[:, None])
    return ((~(logits <= own) | equal).sum(1) < first).astype(float)


def _run(model: Runs, batch: Batch) -> dict[str, np.ndarray]:
    """The outputs that are arrays, samples along the first axis and none of them repeated."""
    model.reset()  # a model that remembers starts each batch as new
    found = {name: np.asarray(out) for name, out in model.run(batch.feeds).items()}
    found = {name: out for name, out in found.items() if out.dtype.kind in "biuf"}
    if not found:
        raise InputError("the model gives no numbers that could be compared")
    if batch.rows > 1 and all(out.shape[:1] == (batch.rows,) for out in found.values()):
        return {name: out[: batch.count] for name, out in found.items()}
    if batch.rows == 1 and all(out.shape[:1] == (1,) for out in found.values()):
        return found
    return {name: out[None] for name, out in found.items()}


def _scores(score: Score, outputs: dict[str, np.ndarray], batch: Batch) -> np.ndarray:
    scores = np.asarray(score(outputs, batch.labels), dtype=float)
    if scores.shape != (batch.count,) or not np.isfinite(scores).all():
        raise InputError(
            "the metric does not give one finite number for each sample",
            why=f"for {batch.count} samples it gave {scores.shape}: {scores.ravel()[:4]}",
        )
    return scores


def _relative(noise: np.ndarray, signal: np.ndarray) -> tuple[float, np.ndarray]:
    """Noise over signal, and what each sample contributes, whose mean that is.

    A quotient of sums is, but for terms of higher order, the mean of these (linearisation).
    """
    if not noise.any():
        return 0.0, np.zeros(len(noise))
    if not signal.any() or not np.isfinite(noise).all():
        return np.inf, np.full(len(noise), np.inf)
    error = noise.sum() / signal.sum()
    return float(error), error + (noise - error * signal) / signal.mean()
