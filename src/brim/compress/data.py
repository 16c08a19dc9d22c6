"""Calibration data, however it comes: batches in a model's own input shapes, checked early.

A sample is one row along the first axis, which all inputs of most models share; for other models
(and for data that has an axis more than the inputs) it is all that one run takes. Samples are
regrouped into the model's batches. Where samples come from is told in `chunks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Any

import numpy as np

from brim.compress.chunks import Chunk, Samples, open_samples
from brim.errors import InputError
from brim.types import Type

# What a caller may give; see `read_data`.
Data = str | PathLike[str] | np.ndarray | Mapping[str, Any] | Iterable[Any] | Callable[[], Any]
CHECKED = 8  # samples that are looked at before anything else happens


@dataclass(frozen=True)
class Batch:
    """What one run takes. feeds: name -> array; they hold `rows` samples, of which the first
    `count` are distinct, and the rest repeats them (in the last batch only); labels: [count, ...],
    or None."""

    feeds: dict[str, np.ndarray]
    rows: int
    count: int
    labels: np.ndarray | None = None


class Batches:
    """Calibration data that can be gone through any number of times, a batch at a time.

    Iterating gives dicts of name -> array, of exactly the types in `inputs`; `batches` gives those
    with their labels. total: the number of batches, None where the data does not say.
    """

    def __init__(
        self, source: Samples, numbers: Sequence[int] | None = None, stop: int | None = None
    ) -> None:
        self._source, self._form, self._stop = source, source.form, stop
        self.inputs = dict(source.form.types)
        self._rows = max(self._form.rows, 1)
        if numbers is None and source.count is not None:
            numbers = range(-(-source.count // self._rows))
        self._numbers = numbers
        self._set = None if numbers is None else frozenset(numbers)
        self.total = None if numbers is None else len(numbers)

    def chosen(self, chosen: Callable[[int], bool]) -> Batches:
        """Those of the batches whose number, counted from 0, is chosen; pictures of others are not
        read. Only where `total` is known."""
        assert self._numbers is not None
        return Batches(self._source, [n for i, n in enumerate(self._numbers) if chosen(i)])

    def first(self, count: int) -> Batches:
        """The first `count` batches."""
        if self._numbers is not None:
            return self.chosen(lambda number: number < count)
        return Batches(self._source, stop=count if self._stop is None else min(count, self._stop))

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return (batch.feeds for batch in self.batches())

    def batches(self) -> Iterator[Batch]:
        """Feeds with labels. Raises InputError for numbers that are none (NaN, infinity), naming
        the sample, and for whatever else is wrong with the data."""
        rows, done = self._form.rows, 0
        pending: list[Chunk] = []
        for chunk in self._wanted():
            check_finite(chunk.feeds, rows, partial(self._sample, chunk.start))
            if not rows:
                done += 1
                yield Batch(chunk.feeds, 1, 1, chunk.labels)
                continue
            pending.append(chunk)
            while sum(each.count for each in pending) >= rows:
                whole, rest = _split(pending, rows)
                done += 1
                yield Batch(whole.feeds, rows, rows, whole.labels)
                pending = [rest] if rest.count else []
        if pending:
            last = joined(pending)
            again = np.arange(rows) % last.count
            done += 1
            feeds = {name: array[again] for name, array in last.feeds.items()}
            yield Batch(feeds, rows, last.count, last.labels)
        if not done:
            raise InputError(
                "there is no calibration data",
                why=f"{self._source.where} gave no sample",
                hint="an iterable is gone through several times: give a list, or a function that "
                "returns a new iterable at each call",
            )

    def _sample(self, start: int, row: int) -> str:
        return f"sample {start + row} of {self._source.where}"

    def _wanted(self) -> Iterator[Chunk]:
        """The samples of the chosen batches."""

        def is_wanted(sample: int) -> bool:
            return self._set is None or sample // self._rows in self._set

        for chunk in self._source.chunks(is_wanted):
            if self._stop is not None and chunk.start >= self._stop * self._rows:
                return
            last = chunk.count
            if self._stop is not None:
                last = min(last, self._stop * self._rows - chunk.start)
            kept = [i for i in range(last) if is_wanted(chunk.start + i)]
            if len(kept) == chunk.count:
                yield chunk
            elif kept:
                feeds = {name: array[kept] for name, array in chunk.feeds.items()}
                labels = None if chunk.labels is None else chunk.labels[kept]
                yield Chunk(feeds, labels, len(kept), chunk.start + kept[0])


def read_data(
    data: Data,
    inputs: Mapping[str, Type],
    mean: float | Sequence[float] = 0,
    std: float | Sequence[float] = 1,
) -> Batches:
    """Calibration data for a model whose inputs have these static types.

    data is one of
    - a folder: all pictures in it and in its folders, in the order of their paths, read and resized
      as `brim.pictures.network_input` does; floats are (0..1 - mean) / std;
    - a .npz file, or a mapping: arrays by input name, their first axis counts samples; `labels`
      holds their labels, if there are any. Files are streamed;
    - a .npy file or an array, for models with one input;
    - an iterable that can be gone through again and again, or a function that returns a new one at
      each call. Its items are an array (one input) or a mapping of name -> array, or (that, label):
      one sample, or several along the first axis. A file or folder is never in memory as a whole.

    Nothing is converted: dtypes must be the inputs'. An incomplete last batch is filled up with its
    own samples (see `Batch.count`). Raises InputError now for what the first samples show: nothing
    there, no picture or an unreadable one, NaN or infinity, wrong names, shapes and dtypes, labels
    of another number, samples that are all the same; later, with the sample's name, for the rest.
    """
    for name, type in inputs.items():
        if not type.is_static or type.dtype.is_object:
            raise InputError(
                f"calibration needs inputs of fixed shape that hold numbers: {name} is {type}",
                hint="" if type.is_static else "fix the shape first",
            )
    if not inputs:
        raise InputError("the model takes no input, so there is nothing to calibrate with")
    batches = Batches(open_samples(data, dict(inputs), mean, std))
    _check_first(batches)
    return batches


def _check_first(batches: Batches) -> None:
    """Reads CHECKED samples, or all as long as they are equal. Raises InputError."""
    first: dict[str, np.ndarray] | None = None
    seen, differ = 0, False
    for batch in batches.batches():
        for index in range(batch.count):
            sample = {
                name: array[index] if batches._form.rows else array
                for name, array in batch.feeds.items()
            }
            if first is None:
                first = {name: array.copy() for name, array in sample.items()}
            differ = differ or any(not np.array_equal(sample[n], first[n]) for n in first)
        seen += batch.count
        if differ and seen >= CHECKED:
            return
    assert first is not None
    constant = all(array.size > 1 and (array == array.flat[0]).all() for array in first.values())
    if not differ and (seen > 1 or constant):
        raise InputError(
            "the calibration data shows nothing",
            why=f"all {seen} samples are the same" if seen > 1 else "its only sample is constant",
            where=batches._source.where,
            hint="give samples like those that the model will see, some dozens or more",
        )


def check_finite(feeds: Mapping[str, np.ndarray], rows: int, sample: Callable[[int], str]) -> None:
    """Raises InputError that names the input and the sample of a NaN or an infinity.

    rows: 0 where the feeds are one sample; sample: what messages call the one in a row.
    """
    for name, array in feeds.items():
        if array.dtype.kind != "f" or not array.size:
            continue
        # Both let NaN through, and take no memory, unlike isfinite of the whole.
        if not (np.isfinite(array.min()) and np.isfinite(array.max())):
            bad = np.argwhere(~np.isfinite(array))[0]
            raise InputError(
                f"data for input {name!r} holds {array[tuple(bad)]}",
                where=sample(int(bad[0]) if rows else 0),
                hint="remove the sample, or mend what makes it",
            )


def _split(chunks: list[Chunk], rows: int) -> tuple[Chunk, Chunk]:
    """The first `rows` samples, and the rest."""
    whole = chunks[0] if len(chunks) == 1 else joined(chunks)
    return _part(whole, 0, rows), _part(whole, rows, whole.count)


def _part(chunk: Chunk, start: int, stop: int) -> Chunk:
    labels = None if chunk.labels is None else chunk.labels[start:stop]
    feeds = {name: array[start:stop] for name, array in chunk.feeds.items()}
    return Chunk(feeds, labels, stop - start, chunk.start + start)


def joined(chunks: list[Chunk]) -> Chunk:
    """All samples as one chunk. Raises InputError for labels of several shapes."""
    names = chunks[0].feeds
    feeds = {name: np.concatenate([chunk.feeds[name] for chunk in chunks]) for name in names}
    labels = [chunk.labels for chunk in chunks if chunk.labels is not None]
    try:
        joined = np.concatenate(labels) if labels else None
    except ValueError as error:
        raise InputError("labels differ in shape", why=str(error)) from None
    return Chunk(feeds, joined, sum(chunk.count for chunk in chunks), chunks[0].start)
