"""Training data: each epoch has its order, nothing is lost or seen twice, errors come early."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brim.errors import InputError
from brim.train.data import (
    Examples,
    in_order,
    read_ahead,
    read_examples,
    shuffled,
    split,
    steps_of,
    with_targets,
)
from brim.types import Type, parse_type

ROWS = np.random.default_rng(1).standard_normal((10, 3, 4, 5)).astype(np.float32)
LABELS = np.arange(10) % 3


def inputs(**types: str) -> dict[str, Type]:
    return {name: parse_type(type) for name, type in types.items()}


X = inputs(x="f32[4,3,4,5]")


def examples(count: int, rows: int) -> Examples:
    """Samples that are their own numbers."""
    data = {"x": np.arange(count, dtype=np.float32)[:, None], "labels": np.arange(count)}
    return read_examples(data, inputs(x=f"f32[{rows},1]"))


def saved(path: Path, save: Callable = np.savez, **arrays: np.ndarray) -> Path:
    save(path, **arrays)
    return path


SOURCES: dict[str, Callable[[Path], Any]] = {
    "npz": lambda path: saved(path / "d.npz", x=ROWS, labels=LABELS),
    "compressed": lambda path: saved(path / "d.npz", np.savez_compressed, x=ROWS, labels=LABELS),
    "mapping": lambda path: {"x": ROWS, "labels": LABELS},
    "pairs": lambda path: list(zip(ROWS, LABELS)),
    "batches": lambda path: [(ROWS[:7], LABELS[:7]), (ROWS[7:], LABELS[7:])],
    "function": lambda path: lambda: zip(ROWS, LABELS),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_way_it_comes_gives_the_same(source: str, tmp_path: Path) -> None:
    found = read_examples(SOURCES[source](tmp_path), X)
    assert len(found) == 10 and found.rows == 4
    batch = found.batch(np.array([7, 0, 3, 3]))
    np.testing.assert_array_equal(batch.feeds["x"], ROWS[[7, 0, 3, 3]])
    np.testing.assert_array_equal(batch.labels, LABELS[[7, 0, 3, 3]])


def test_mapped_arrays_stay_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ROWS)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    found = read_examples({"x": mapped, "labels": LABELS}, X)
    mapped[3] = 7
    assert (found.batch(np.array([3, 3, 3, 3])).feeds["x"] == 7).all()


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 5), st.integers(1, 3))
def test_an_epoch_has_each_sample_at_most_once(
    count: int, rows: int, seed: int, epoch: int
) -> None:
    data = examples(count, rows)
    seen = [batch.labels for batch in shuffled(data, seed, epoch)]
    assert len(seen) == count // rows
    flat = np.concatenate([[], *seen])
    assert len(set(flat)) == len(flat) == count // rows * rows
    again = [batch.labels for batch in shuffled(data, seed, epoch)]
    np.testing.assert_array_equal(seen, again)
    for start in range(len(seen)):
        rest = [batch.labels for batch in shuffled(data, seed, epoch, start)]
        np.testing.assert_array_equal(rest, seen[start:])


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    data = examples(64, 64)
    orders = {
        tuple(next(shuffled(data, seed, epoch)).feeds["x"][:, 0])
        for seed in range(3)
        for epoch in (1, 2, 3)
    }
    assert len(orders) == 9


@given(st.integers(1, 40), st.integers(1, 9))
def test_evaluation_counts_each_sample_once(count: int, rows: int) -> None:
    seen = []
    for batch in in_order(examples(count, rows)):
        assert batch.feeds["x"].shape == (rows, 1) and batch.rows == rows
        assert batch.labels is not None and len(batch.labels) == batch.count
        np.testing.assert_array_equal(batch.feeds["x"][: batch.count, 0], batch.labels)
        seen += [*batch.labels]
    assert seen == [*range(count)]


@given(st.integers(2, 50), st.floats(0.05, 0.95), st.integers(0, 9))
def test_a_split_shares_no_sample(count: int, share: float, seed: int) -> None:
    data = examples(count, 1)
    if not 0 < round(count * share) < count:
        with pytest.raises(InputError, match="cannot be held back"):
            split(data, share, seed)
        return
    parts = split(data, share, seed)
    assert len(parts[1]) == round(count * share)
    seen = [[int(b.labels[0]) for b in in_order(part) if b.labels is not None] for part in parts]
    assert sorted(seen[0] + seen[1]) == [*range(count)]
    again = split(data, share, seed)
    np.testing.assert_array_equal(again[1].numbers, parts[1].numbers)


# ---------------------------------------------------------------- pictures


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    for name, grey in (("cats/a.png", 51), ("cats/more/b.png", 102), ("dogs/c.bmp", 153)):
        file = tmp_path / "pictures" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        image.new("RGB", (9, 7), (grey, grey, grey)).save(file)
    (tmp_path / "pictures" / ".hidden").mkdir()
    return tmp_path / "pictures"


def test_folders_are_classes(pictures: Path) -> None:
    found = read_examples(pictures, inputs(x="f32[2,3,6,8]"))
    assert found.classes == ("cats", "dogs") and len(found) == 3
    batch = found.batch(np.array([2, 1]))
    np.testing.assert_allclose(batch.feeds["x"][:, 0, 0, 0], [0.6, 0.4], rtol=1e-3)
    assert batch.labels is not None and batch.labels.tolist() == [1, 0]
    assert found.name(2).endswith("c.bmp")


def test_validation_has_the_classes_of_training(pictures: Path) -> None:
    (pictures / "cats").rename(pictures / "mice")
    with pytest.raises(InputError, match="belongs to no class") as error:
        read_examples(pictures, inputs(x="f32[2,3,6,8]"), classes=("cats", "dogs"))
    assert "'mice'" in error.value.why
    found = read_examples(pictures, inputs(x="f32[2,3,6,8]"), classes=("cats", "dogs", "mice"))
    assert found.labels is not None and found.labels.tolist() == [1, 2, 2]


def test_folders_without_classes_are_refused(pictures: Path) -> None:
    with pytest.raises(InputError, match="there are no classes"):
        read_examples(pictures / "dogs", inputs(x="f32[2,3,6,8]"))
    (pictures / "dogs" / "c.bmp").rename(pictures / "c.bmp")
    with pytest.raises(InputError, match=r"c\.bmp belongs to no class"):
        read_examples(pictures, inputs(x="f32[2,3,6,8]"))


def test_a_damaged_picture_is_named_when_it_is_read(pictures: Path) -> None:
    (pictures / "dogs" / "c.bmp").write_bytes(b"nothing")
    found = read_examples(pictures, inputs(x="f32[1,3,6,8]"))
    with pytest.raises(InputError, match=r"c\.bmp"):
        found.batch(np.array([2]))


# ---------------------------------------------------------------- what is wrong


def test_data_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="gave no sample|no training data"):
        read_examples([], X)
    with pytest.raises(InputError, match="no training data"):
        read_examples({"x": ROWS[:0], "labels": LABELS[:0]}, X)
    with pytest.raises(InputError, match="first axis is the batch"):
        read_examples({"x": ROWS, "n": ROWS}, inputs(x="f32[4,3,4,5]", n="f32[10,3,4,5]"))
    with pytest.raises(InputError, match="takes no input"):
        read_examples(ROWS, {})
    with pytest.raises(InputError, match="10 samples do not fill a batch of 16"):
        steps_of(examples(10, 16))


def test_numbers_that_are_none_are_named() -> None:
    rows = ROWS.copy()
    rows[6, 1, 2, 3] = np.nan
    found = read_examples({"x": rows, "labels": LABELS}, X)
    with pytest.raises(InputError, match="holds nan") as error:
        found.batch(np.array([0, 6, 1, 2]))
    assert error.value.where == "sample 6 of the mapping"


@pytest.mark.parametrize(
    ("labels", "target", "message"),
    [
        (None, "i64[4]", "no labels"),
        (LABELS, "i64[4]", "the label 2 is none of the network's 2 classes"),
        (LABELS - 1, "i64[4]", "the label -1 is none"),
        (np.where(np.eye(10, 3), -7, 1), "i64[4,3]", "the label -7 is no class"),  # of any
        (LABELS.astype(np.float32), "i64[4]", "do not fit the loss"),
        (LABELS, "f32[4,7]", "do not fit the loss"),
        (np.full((10, 7), np.inf), "f32[4,7]", "not finite"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Any, target: str, message: str) -> None:
    data = {"x": ROWS} if labels is None else {"x": ROWS, "labels": labels}
    with pytest.raises(InputError, match=message) as error:
        with_targets(read_examples(data, X), parse_type(target), 2 if target == "i64[4]" else 0)
    if "label 2" in message:
        assert error.value.where == "sample 2 of the mapping"


def test_labels_become_what_the_loss_takes() -> None:
    data = read_examples({"x": ROWS, "labels": LABELS[:, None].astype(np.uint8)}, X)
    found = with_targets(data, parse_type("i64[4]"), 3)
    assert found.labels is not None
    assert found.labels.dtype == np.int64 and found.labels.tolist() == LABELS.tolist()


# ---------------------------------------------------------------- reading ahead


def test_what_is_read_ahead_is_the_same() -> None:
    assert [*read_ahead(iter(range(100)))] == [*range(100)]
    assert [*read_ahead(iter(()))] == []


def test_errors_of_the_worker_reach_the_caller() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise InputError("a picture is damaged")

    found = read_ahead(items())
    assert next(found) == 1
    with pytest.raises(InputError, match="a picture is damaged"):
        next(found)


def test_the_worker_reads_little_ahead_and_ends_with_its_reader() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(1000):
            made.append(i)
            yield i

    found = read_ahead(items(), 2)
    assert [next(found), next(found)] == [0, 1]
    time.sleep(0.3)
    assert len(made) <= 6
    found.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "brim data"]
