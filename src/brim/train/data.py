"""Labelled samples in any order: shuffled for training, padded for evaluation, read ahead.

Where samples come from is told in `brim.compress.chunks`, which calibration reads, too. An epoch's
order follows from the seed and the epoch's number alone, so that a training that is resumed goes on
with the samples that it would have seen.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TypeVar

import numpy as np

from brim.compress.chunks import Columns, Pictures, class_folders, open_samples, shared_rows
from brim.compress.data import Batch, Data, check_finite, joined
from brim.errors import InputError
from brim.types import Type

T = TypeVar("T")
AHEAD = 2  # batches that are read before they are asked for


@dataclass(frozen=True, eq=False)
class Examples:
    """Samples that can be read in any order.

    types: of a batch, by input name; labels: of all samples of the source, or None; numbers: which
    of them these are; classes: their names, where the source has names for them.
    """

    types: dict[str, Type]
    where: str
    labels: np.ndarray | None
    numbers: np.ndarray
    read: Callable[[np.ndarray], dict[str, np.ndarray]]
    name: Callable[[int], str]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def rows(self) -> int:
        """The samples of a batch."""
        return next(iter(self.types.values())).dims[0]

    def batch(self, places: np.ndarray) -> Batch:
        """The samples at these places. Raises InputError for what cannot be read, and for NaN."""
        numbers = self.numbers[places]
        feeds = self.read(numbers)
        check_finite(feeds, len(numbers), lambda row: self.name(int(numbers[row])))
        labels = None if self.labels is None else self.labels[numbers]
        return Batch(feeds, len(places), len(places), labels)


def read_examples(
    data: Data | Examples,
    inputs: Mapping[str, Type],
    mean: float | Sequence[float] = 0,
    std: float | Sequence[float] = 1,
    classes: Sequence[str] = (),
) -> Examples:
    """Samples for a network whose inputs have these static types, first axes being the batch.

    data is one of
    - a folder with one folder of pictures per class, read as `brim.pictures.network_input` does;
      classes are numbered in the order of their names. classes: those of the training, for
      pictures that are to be evaluated;
    - arrays by input name and `labels`, their first axes count samples: a mapping or an .npz file;
    - an iterable of (array, label) or (mapping of name -> array, label), which is gone through once
      and kept in memory. A folder's pictures are not, and mapped arrays stay mapped.

    Nothing is converted. Raises InputError for what does not fit the inputs, and where there is no
    sample.
    """
    if isinstance(data, Examples):
        return data
    types = dict(inputs)
    if not types:
        raise InputError("the network takes no input, so there is nothing to train it with")
    folder = isinstance(data, (str, PathLike)) and Path(data).is_dir()
    named = tuple(classes) or (class_folders(Path(data)) if folder else ())  # type: ignore[arg-type]
    if folder and not named:
        raise InputError(
            f"there are no classes in {data}",
            why="each class is a folder with its pictures, and there is none",
            hint=f"such as {Path(data) / 'cats' / '1.jpg'}",  # type: ignore[arg-type]
        )
    if not shared_rows(types):
        raise InputError(
            "training needs inputs whose first axis is the batch, the same of all",
            why=", ".join(f"{name} is {type}" for name, type in types.items()),
        )
    source = open_samples(data, types, mean, std, named if folder else ())
    if not source.form.rows:
        raise InputError(
            "items with as many samples as a batch, and one label",
            hint="give one sample with its label, or several with as many labels",
        )
    if isinstance(source, Pictures):
        return _of_pictures(source, named)
    chunks = [source.whole()] if isinstance(source, Columns) else [*source.chunks(lambda n: True)]
    if not sum(chunk.count for chunk in chunks):
        raise InputError("there is no training data", why=f"{source.where} gave no sample")
    whole = chunks[0] if len(chunks) == 1 else joined(chunks)

    def read(numbers: np.ndarray) -> dict[str, np.ndarray]:
        return {name: whole.feeds[name][numbers] for name in types}

    numbers = np.arange(whole.count)
    where = source.where
    return Examples(types, where, whole.labels, numbers, read, lambda n: f"sample {n} of {where}")


def _of_pictures(source: Pictures, classes: tuple[str, ...]) -> Examples:
    def read(numbers: np.ndarray) -> dict[str, np.ndarray]:
        return joined([source.read(int(number)) for number in numbers]).feeds

    return Examples(
        source.form.types, source.where, source.labels, np.arange(source.count), read,
        lambda number: str(source.files[number]), classes,
    )  # fmt: skip


def with_targets(examples: Examples, target: Type, classes: int = 0) -> Examples:
    """With labels as a loss takes them. target: of a batch's; classes: labels are less than that.

    Raises InputError, which names the sample, for labels that are none of the classes, and for
    those of another shape or kind, or none.
    """
    labels = examples.labels
    if labels is None:
        raise InputError(
            "the data has no labels",
            where=examples.where,
            hint="name them 'labels' among the arrays, or give pairs of a sample and its label",
        )
    if labels.ndim == 2 and target.rank == 1 and labels.shape[1] == 1:
        labels = labels[:, 0]
    kinds = "biu" if target.dtype.is_integer else "biuf"
    if labels.shape[1:] != target.dims[1:] or labels.dtype.kind not in kinds:
        raise InputError(
            f"labels of shape {list(labels.shape)} and type {labels.dtype} do not fit the loss",
            why=f"for a batch it takes {target}",
            where=examples.where,
        )
    mine = labels[examples.numbers].reshape(len(examples), -1)
    if target.dtype.is_integer:
        wrong = (mine < 0) | (mine >= classes) if classes else mine < 0
    else:
        wrong = ~np.isfinite(mine)
    if wrong.any():
        place = int(wrong.any(1).argmax())
        number, what, hint = mine[place, wrong[place].argmax()], "a label is not finite", ""
        if target.dtype.is_integer:
            what, hint = f"the label {number} is no class", "classes count from 0"
        if classes:
            what = f"the label {number} is none of the network's {classes} classes"
            hint += "; a new head makes more: network.replace(classes)"
        raise InputError(
            what,
            why=f"{int(wrong.sum())} of {wrong.size} labels are wrong",
            where=examples.name(int(examples.numbers[place])),
            hint=hint,
        )
    return replace(examples, labels=labels.astype(target.dtype.numpy))


def split(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """(training, validation): `share` of the samples are held back, drawn by the seed.

    Raises InputError for a share that leaves nothing on one side.
    """
    held = round(len(examples) * share)
    if not 0 < held < len(examples):
        raise InputError(
            f"a share of {share} of {len(examples)} samples cannot be held back",
            hint="give a number between 0 and 1, such as 0.1, or data of its own for validation",
        )
    order = np.random.RandomState([seed, 0]).permutation(examples.numbers)
    return (
        replace(examples, numbers=np.sort(order[held:])),
        replace(examples, numbers=np.sort(order[:held])),
    )


def steps_of(examples: Examples) -> int:
    """Batches of an epoch: what is left over is another sample's each time. Raises InputError
    where the samples do not make one."""
    if len(examples) < examples.rows:
        raise InputError(
            f"{len(examples)} samples do not fill a batch of {examples.rows}",
            where=examples.where,
            hint="train with a smaller batch",
        )
    return len(examples) // examples.rows


def shuffled(examples: Examples, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
    """The full batches of an epoch (counted from 1), from number `start` on, in its order."""
    order = np.random.RandomState([seed, epoch]).permutation(len(examples))
    rows = examples.rows
    for number in range(start, len(examples) // rows):
        yield examples.batch(order[number * rows : (number + 1) * rows])


def in_order(examples: Examples) -> Iterator[Batch]:
    """All samples once; the last batch is filled up with its own, see `Batch.count`."""
    rows = examples.rows
    for start in range(0, len(examples), rows):
        count = min(rows, len(examples) - start)
        batch = examples.batch(start + np.arange(rows) % count)
        labels = None if batch.labels is None else batch.labels[:count]
        yield Batch(batch.feeds, rows, count, labels)


def read_ahead(items: Iterator[T], ahead: int = AHEAD) -> Generator[T, None, None]:
    """The same items, made by a thread that is `ahead` of them; its errors are raised here.

    The thread ends with this iterator, also where that is closed early.
    """
    made: queue.Queue[T | BaseException | None] = queue.Queue(ahead)
    closed = threading.Event()

    def put(item: T | BaseException | None) -> bool:
        while not closed.is_set():
            try:
                made.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:  # whatever it is, it belongs to who asked for the items
            put(error)
        else:
            put(None)

    thread = threading.Thread(target=work, name="brim data", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()
