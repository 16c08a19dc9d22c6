"""A training under way: its state, which every checkpoint holds whole, and what moves it on.

The weights are the state of the compiled step; where the training is in its data, and what it has
measured, is a record beside them. Both together decide all that follows.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from brim.errors import InputError, TrainingError
from brim.graph import Graph
from brim.model import Model
from brim.train import checkpoints
from brim.train.augment import Augment, augmented
from brim.train.checkpoints import Checkpoint
from brim.train.data import Examples, read_ahead, shuffled, steps_of
from brim.train.finite import where_not_finite
from brim.train.history import Ending, Epoch, History, epoch_from
from brim.train.log import Log
from brim.train.losses import Loss
from brim.train.metrics import Scores, scores
from brim.train.network import Network

Progress = Callable[[str, int, int], None]
LATEST = ("norm", "rate")  # of these an epoch reports the last; of all else the mean


@dataclass(frozen=True, eq=False)
class Material:
    """What is trained with. loss: as the steps take it; held: what validation is done with;
    classes: those of the labels, where mixup makes probabilities of them."""

    examples: Examples
    held: Examples | None
    loss: Loss
    classes: int
    augment: Augment
    seed: int

    def batches(self, epoch: int, start: int) -> Iterator[dict[str, np.ndarray]]:
        """What the steps of an epoch take, from number `start` on."""
        for number, batch in enumerate(shuffled(self.examples, self.seed, epoch, start), start):
            seen = augmented(batch, self.augment, (self.seed, epoch, number), self.classes)
            assert seen.labels is not None
            yield {**seen.feeds, "target": seen.labels}


@dataclass(eq=False)
class Run:
    """A training under way.

    graph, step: the step, and what was compiled of it; judge: the compiled evaluation; averaged:
    whether moving averages of the weights are what comes out. epoch, batch: the next ones, the
    epoch counted from 1; sums: of what the epoch's steps gave; waited: epochs since the best one.
    """

    network: Network
    material: Material
    graph: Graph
    step: Model
    judge: Model | None
    averaged: bool
    settings: Mapping[str, str]
    folder: Path | None
    epoch: int = 1
    batch: int = 0
    steps: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    epochs: list[Epoch] = field(default_factory=list)
    best: int | None = None
    best_weights: dict[str, np.ndarray] = field(default_factory=dict)

    def go(
        self,
        epochs: int,
        early_stop: int | None,
        interval: int | None,
        log: Log,
        interrupted: threading.Event,
        progress: Progress | None,
        after_epoch: Callable[[Epoch], None] | None,
    ) -> Ending:
        """Trains up to the end of epoch number `epochs`. Raises TrainingError."""
        total = steps_of(self.material.examples)
        while self.epoch <= epochs:
            if early_stop is not None and self.waited >= early_stop:
                return "stopped early"
            batches = read_ahead(self.material.batches(self.epoch, self.batch))
            start = time.perf_counter()
            with closing(batches):
                for feeds in batches:
                    self._one(feeds, log)
                    now = time.perf_counter()
                    self.seconds, start = self.seconds + now - start, now
                    if progress is not None:
                        progress(f"epoch {self.epoch} of {epochs}", self.batch, total)
                    if interrupted.is_set():
                        self.save()
                        return "interrupted"
                    if interval is not None and self.steps % interval == 0 and self.batch < total:
                        self.save()
            self._end_epoch(log, after_epoch)
            if interrupted.is_set():
                return "interrupted"
        return "finished"

    def _one(self, feeds: Mapping[str, np.ndarray], log: Log) -> None:
        """One step. Raises TrainingError, with the state as it was, for numbers that are none."""
        results = self.step.run(feeds)
        finite = bool(results.pop("finite"))
        found = {name: float(array) for name, array in results.items()}
        if not finite:
            raise self._not_finite(feeds, found)
        self.steps += 1
        self.batch += 1
        for name, number in found.items():
            self.sums[name] = number + (0.0 if name in LATEST else self.sums.get(name, 0.0))
        log(self.steps, {f"train/{name}": number for name, number in found.items()})

    def _not_finite(
        self, feeds: Mapping[str, np.ndarray], found: Mapping[str, float]
    ) -> TrainingError:
        layer = where_not_finite(self.graph, self.step.state, feeds)
        wrong = "loss" if not np.isfinite(found["loss"]) else "norm"
        what = {"loss": "the loss", "norm": "the norm of the gradient"}[wrong]
        kept = checkpoints.listed(self.folder) if self.folder is not None else []
        return TrainingError(
            f"{what} is {found[wrong]} in step {self.steps + 1} (epoch {self.epoch})",
            why=f"the first number that is none comes from {layer}",
            where=f"batch {self.batch} of the epoch, {self.material.examples.where}",
            hint="a smaller rate, or clip=1.0"
            + (f"; the last checkpoint is {kept[-1].name}" if kept else ""),
        )

    def _end_epoch(self, log: Log, after_epoch: Callable[[Epoch], None] | None) -> None:
        """Evaluates, reports and saves."""
        means = {
            name: number / (1 if name in LATEST else self.batch)
            for name, number in self.sums.items()
        }
        held = self._validation()
        metrics = {n: mean for n, mean in means.items() if n not in (*LATEST, "loss")}
        epoch = Epoch(
            self.epoch, self.batch, self.seconds, means["loss"], metrics, means["rate"], held
        )
        self.epochs.append(epoch)
        self.epoch, self.batch, self.seconds, self.sums = self.epoch + 1, 0, 0.0, {}
        if held is not None:
            log(self.steps, {f"validation/{n}": v for n, v in _numbers(held).items()})
            known = self._loss_of(self.best)
            if known is None or held.loss < known:
                self.best, self.best_weights = epoch.number, self.weights
                if self.folder is not None:
                    checkpoints.save_best(self.folder, self._checkpoint(self.best_weights))
        self.save()
        if after_epoch is not None:
            after_epoch(epoch)

    def _validation(self) -> Scores | None:
        if self.judge is None or self.material.held is None:
            return None
        weights = {**self.network.weights, **self.weights}
        taken = {name: weights[name] for name in self.judge.inputs if name in weights}
        return scores(self.judge, taken, self.material.held, [*self.network.graph.outputs])

    def _loss_of(self, number: int | None) -> float | None:
        held = None if number is None else self.epochs[number - 1].validation
        return None if held is None else held.loss

    @property
    def waited(self) -> int:
        """Epochs since the best one."""
        return 0 if self.best is None else len(self.epochs) - self.best

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """What was learned so far, by name: averages where there are any."""
        state = self.step.state
        names = [name for name in self.network.weights if name in state]
        average = {name: f"{name}/average" for name in names}
        return {
            name: state[average[name] if self.averaged and average[name] in state else name]
            for name in names
        }

    def history(self, ending: Ending) -> History:
        """What is reported of it."""
        return History(tuple(self.epochs), self.best, self.steps, ending)

    # ------------------------------------------------------------ checkpoints

    def save(self) -> None:
        """Writes a checkpoint, if there is a folder for them. Raises InputError."""
        if self.folder is not None:
            checkpoints.save(self.folder, self._checkpoint(self.step.state))

    def _checkpoint(self, state: Mapping[str, np.ndarray]) -> Checkpoint:
        record = {
            "epoch": self.epoch,
            "batch": self.batch,
            "seconds": self.seconds,
            "sums": self.sums,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "best": self.best,
        }
        return Checkpoint(self.steps, state, record, self.settings)

    def resume(self, wanted: bool, skip_damaged: bool) -> None:
        """Goes on from the newest checkpoint, if there is one.

        Raises InputError where none is wanted and there is one, and for that of another training;
        ModelError for a damaged one.
        """
        if self.folder is None:
            return
        if not wanted and (known := checkpoints.listed(self.folder)):
            raise InputError(
                f"{self.folder} holds a training already",
                why=f"its last checkpoint is {known[-1].name}",
                hint="resume it, or give another folder",
            )
        found = checkpoints.newest(self.folder, skip_damaged)
        if found is None:
            return
        self._check(found)
        self.step.state = found.state  # type: ignore[assignment]
        record = found.record
        self.steps, self.epoch, self.batch = found.step, record["epoch"], record["batch"]
        self.seconds, self.sums = record["seconds"], dict(record["sums"])
        self.epochs = [epoch_from(each) for each in record["epochs"]]
        self.best = record["best"]
        if self.best is not None:
            self.best_weights = dict(checkpoints.load(self.folder / checkpoints.BEST).state)

    def _check(self, found: Checkpoint) -> None:
        names = {*found.settings, *self.settings}
        then_now = {n: (found.settings.get(n), self.settings.get(n)) for n in sorted(names)}
        differ = [f"{n} was {a}, is {b}" for n, (a, b) in then_now.items() if a != b]
        state = self.step.state
        if found.state.keys() != state.keys():
            differ.append(f"other weights: {sorted(found.state.keys() ^ state.keys())[:3]}")
        if differ:
            raise InputError(
                f"the checkpoints in {self.folder} are of another training",
                why="; ".join(differ)[:500],
                hint="give the same options, or another folder",
            )


def _numbers(held: Scores) -> dict[str, float]:
    return {"loss": held.loss, **held.metrics}


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Yields what Ctrl-C sets in the meantime: a step is not torn apart by it. The second one
    raises KeyboardInterrupt. In other threads than the main one signals stay as they are."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before: Any = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
