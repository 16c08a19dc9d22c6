"""What compression costs: a compressed model's outputs beside the float model's, sample by sample.

With labels the metric is what the user cares for: top-1 accuracy, or a score function. Without, it
is the relative squared error of the outputs: energy of the difference over energy of the float
outputs, in the mean over these. Both models see the same samples, so differences are paired, and
their intervals are much smaller than those of the scores themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from brim.compress.data import Batch, Batches
from brim.errors import InputError
from brim.model import Model

Outputs = Mapping[str, np.ndarray]
Score = Callable[[Outputs, np.ndarray | None], np.ndarray]
NORMAL = 1.959964  # standard deviations of an interval of 95 %
DRAWS = 2000  # of the bootstrap
KEPT = 1 << 28  # bytes of float outputs that are kept; of more, all are computed again


@dataclass(frozen=True)
class Accuracy:
    """What a compressed model costs, as shares (0.01: a point, or 1 %).

    name: of the metric. before, after: of the float and of the compressed model. difference: what
    is lost; low, high: its interval of 95 %. samples: how many both were judged by.
    """

    name: str
    before: float
    after: float
    difference: float
    low: float
    high: float
    samples: int


class Judge:
    """Compares candidates with one float model by the same samples, which it runs once.

    score: (outputs, labels) -> a score for each sample, the more the better; labels are None where
    the data has none. Default: see the file's docstring. Raises InputError for scores and labels
    that do not fit the samples.
    """

    def __init__(self, model: Model, data: Batches, score: Score | None = None) -> None:
        self._model, self._data = model, data
        labelled = next(data.batches()).labels is not None
        self._score = score or (top_1 if labelled else None)
        self._name = "score" if score else "top-1 accuracy" if labelled else "squared error"
        self._kept: list[Outputs] | None = None
        self._scores: np.ndarray | None = None

    def __call__(self, candidate: Model) -> Accuracy:
        if self._score is None:
            pairs = [_energies(b, before, candidate.run(b.feeds)) for b, before in self._floats()]
            return squared_error(np.concatenate(pairs))
        if self._scores is None:
            self._scores = self._scored(self._model)
        return paired(self._name, self._scores, self._scored(candidate))

    def _scored(self, model: Model) -> np.ndarray:
        found = []
        for batch in self._data.batches():
            outputs = {name: array[: batch.count] for name, array in model.run(batch.feeds).items()}
            assert self._score is not None
            scores = np.asarray(self._score(outputs, batch.labels), np.float64)
            if scores.shape != (batch.count,) or not np.isfinite(scores).all():
                raise InputError(
                    f"the metric gave {scores.shape} scores for {batch.count} samples",
                    why="it must give one finite number for each sample",
                )
            found.append(scores)
        return np.concatenate(found)

    def _floats(self) -> Iterator[tuple[Batch, Outputs]]:
        """The batches with the float model's outputs, which are kept if they are not too large."""
        if self._kept is not None:
            yield from zip(self._data.batches(), self._kept)
            return
        kept: list[Outputs] | None = []
        size = 0
        for batch in self._data.batches():
            outputs = self._model.run(batch.feeds)
            size += sum(array.nbytes for array in outputs.values())
            kept = None if kept is None or size > KEPT else [*kept, outputs]
            yield batch, outputs
        self._kept = kept


def top_1(outputs: Outputs, labels: np.ndarray | None) -> np.ndarray:
    """1 for each sample whose largest number is at its label, else 0; of the first output that has
    one number for each class. Raises InputError for labels that are no classes."""
    found = [array for array in outputs.values() if array.ndim >= 2 and array[0].size > 1]
    if labels is None or not found:
        raise InputError(
            "top-1 accuracy needs labels and an output with a number for each class",
            hint="pass a metric: (outputs, labels) -> a score for each sample",
        )
    scores = found[0].reshape(len(found[0]), -1)
    classes = np.asarray(labels).reshape(-1)
    whole = np.issubdtype(classes.dtype, np.integer)
    if not whole or len(classes) != len(scores) or not _within(classes, scores.shape[1]):
        raise InputError(
            f"labels {np.asarray(labels).dtype}{list(np.shape(labels))} are not classes",
            why=f"each sample needs one whole number from 0 to {scores.shape[1] - 1}",
            hint="pass a metric for other labels",
        )
    return (scores.argmax(axis=1) == classes).astype(np.float64)


def _within(classes: np.ndarray, count: int) -> bool:
    return bool(((classes >= 0) & (classes < count)).all())


def paired(name: str, before: np.ndarray, after: np.ndarray) -> Accuracy:
    """Scores of the same samples by two models; the interval is that of the mean difference.

    It is the normal one. Where scores are 0 and 1 and few samples differ that is too narrow: as
    Agresti and Min do for paired proportions (2005), four more samples are added, two of which
    differ, one each way.
    """
    lost = before - after
    if np.isin(lost, (-1, 0, 1)).all():
        lost = np.concatenate([lost, [1.0, -1.0, 0.0, 0.0]])
    middle, width = lost.mean(), NORMAL * lost.std(ddof=1) / math.sqrt(len(lost))
    mean_before, mean_after = float(before.mean()), float(after.mean())
    return Accuracy(
        name,
        mean_before,
        mean_after,
        mean_before - mean_after,
        float(middle - width),
        float(middle + width),
        len(before),
    )


def squared_error(energies: np.ndarray) -> Accuracy:
    """From [samples, outputs, (noise, signal)]: the mean of the outputs' relative squared errors.

    Its interval is that of the percentile bootstrap over samples (Efron 1979), seeded.
    """
    random = np.random.default_rng(0)
    count = len(energies)
    draws = random.multinomial(count, np.full(count, 1 / count), DRAWS).astype(np.float64)
    found = _relative(np.tensordot(draws, energies, axes=1))
    low, high = np.quantile(found, (0.025, 0.975))
    error = float(_relative(energies.sum(axis=0)))
    return Accuracy("squared error", 0.0, error, error, float(low), float(high), count)


def _relative(energies: np.ndarray) -> np.ndarray:
    """The mean over outputs of noise / signal; infinite where there is noise and no signal."""
    noise, signal = energies[..., 0], energies[..., 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(noise > 0, noise / signal, 0.0)
    return ratio.mean(axis=-1)


def _energies(batch: Batch, before: Outputs, after: Outputs) -> np.ndarray:
    """[samples, outputs, (noise, signal)] of a batch. Where outputs do not have an axis of samples,
    the batch is one."""
    rows = len(next(iter(batch.feeds.values())))
    apart = all(array.ndim and len(array) == rows for array in before.values())
    count = batch.count if apart else 1
    found = []
    for name, want in before.items():
        if want.dtype.kind not in "fiub":
            continue
        real = [np.asarray(array, np.float64)[:count] for array in (want, after[name])]
        a, b = (array.reshape(count, -1) if apart else array.reshape(1, -1) for array in real)
        found.append(np.stack([np.square(b - a).sum(axis=1), np.square(a).sum(axis=1)], axis=-1))
    return np.stack(found, axis=1)
