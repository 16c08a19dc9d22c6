"""Calibration data: every way it comes gives the same batches, and what is wrong is told early."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brim.compress.data import Batches, read_data
from brim.compress.pipeline import HELD_BACK, shares, some
from brim.errors import InputError
from brim.types import Type, parse_type

RANDOM = np.random.default_rng(1)
ROWS = RANDOM.standard_normal((10, 3, 4, 5)).astype(np.float32)
LABELS = np.arange(10) % 3


def inputs(**types: str) -> dict[str, Type]:
    return {name: parse_type(type) for name, type in types.items()}


def samples(batches: Batches) -> tuple[np.ndarray, np.ndarray | None]:
    """All distinct rows of the first input, and their labels."""
    name = next(iter(batches.inputs))
    rows, labels = [], []
    for batch in batches.batches():
        assert batch.feeds.keys() == batches.inputs.keys()
        for each, type in batches.inputs.items():
            assert batch.feeds[each].shape == type.dims
            assert batch.feeds[each].dtype == type.dtype.numpy
        rows.append(batch.feeds[name][: batch.count])
        if batch.labels is not None:
            assert len(batch.labels) == batch.count
            labels.append(batch.labels)
    return np.concatenate(rows), np.concatenate(labels) if labels else None


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def squeezed(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays)
    return path


SOURCES: dict[str, Callable[[Path], Any]] = {
    "npz": lambda path: saved(path / "d.npz", x=ROWS, labels=LABELS),
    "compressed": lambda path: squeezed(path / "d.npz", x=ROWS, labels=LABELS),
    "mapping": lambda path: {"x": ROWS, "labels": LABELS},
    "pairs": lambda path: list(zip(ROWS, LABELS)),
    "lists": lambda path: [[row, label] for row, label in zip(ROWS, LABELS)],
    "mappings": lambda path: [({"x": row[None]}, label) for row, label in zip(ROWS, LABELS)],
    "batches": lambda path: [(ROWS[:7], LABELS[:7]), (ROWS[7:], LABELS[7:])],
    "function": lambda path: lambda: zip(ROWS, LABELS),
}


@pytest.mark.parametrize("batch", [1, 3, 4, 10, 16])
@pytest.mark.parametrize("source", SOURCES)
def test_all_sources_give_the_same(source: str, batch: int, tmp_path: Path) -> None:
    batches = read_data(SOURCES[source](tmp_path), inputs(x=f"f32[{batch},3,4,5]"))
    for _ in range(2):
        rows, labels = samples(batches)
        np.testing.assert_array_equal(rows, ROWS)
        np.testing.assert_array_equal(labels, LABELS)
    found = len(list(batches))
    assert found == -(-10 // batch)
    assert batches.total in (found, None)
    assert (batches.total is None) == (source not in ("npz", "compressed", "mapping"))


@given(st.integers(1, 12), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_items_of_any_length_are_regrouped(batch: int, lengths: list[int]) -> None:
    rows = np.arange(sum(lengths) * 2, dtype=np.float32).reshape(-1, 2)
    items = np.split(rows, np.cumsum(lengths)[:-1])
    batches = read_data(items, inputs(x=f"f32[{batch},2]"))
    found, _ = samples(batches)
    np.testing.assert_array_equal(found, rows)
    *_, last = batches.batches()
    again = last.feeds["x"][np.arange(batch) % last.count]
    np.testing.assert_array_equal(last.feeds["x"], again)


@given(
    st.integers(1, 5),
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.sets(st.integers(0, 12), min_size=1),
    st.integers(1, 12),
)
def test_chosen_batches_are_those_of_all(
    batch: int, lengths: list[int], numbers: set[int], stop: int
) -> None:
    rows = np.arange(sum(lengths) * 2, dtype=np.float32).reshape(-1, 2)
    types = inputs(x=f"f32[{batch},2]")
    for data in (rows, np.split(rows, np.cumsum(lengths)[:-1])):
        whole = read_data(data, types)
        wanted, chosen = list(whole.batches())[:stop], whole.first(stop)
        if whole.total is not None:
            wanted = [batch for i, batch in enumerate(wanted) if i in numbers]
            chosen = chosen.chosen(lambda number: number in numbers)
            assert chosen.total == len(wanted)
        if not wanted:
            continue
        for found, each in zip(chosen.batches(), wanted, strict=True):
            np.testing.assert_array_equal(found.feeds["x"], each.feeds["x"])
            assert (found.rows, found.count) == (each.rows, each.count)


def test_the_first_of_the_first_are_no_more() -> None:
    rows = [np.full((1, 2), i, np.float32) for i in range(9)]
    for data in (lambda: iter(rows), np.concatenate(rows)):
        few = read_data(data, inputs(x="f32[1,2]")).first(3)
        assert len(list(few.first(5))) == 3
        assert len(list(few.first(2))) == 2


def test_pictures_that_are_not_chosen_are_not_read(pictures: Path) -> None:
    batches = read_data(pictures, inputs(x="f32[1,3,6,8]"))
    (pictures / "b.png").write_bytes(b"nothing")
    assert len(list(batches.chosen(lambda number: number != 1))) == 2
    with pytest.raises(InputError, match=r"b\.png"):
        list(batches)


def test_arrays_need_no_name(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ROWS)
    for data in (ROWS, tmp_path / "x.npy", str(tmp_path / "x.npy"), list(ROWS)):
        rows, labels = samples(read_data(data, inputs(x="f32[2,3,4,5]")))
        np.testing.assert_array_equal(rows, ROWS)
        assert labels is None


def test_several_inputs(tmp_path: Path) -> None:
    arrays = {"a": ROWS, "n": np.arange(10), "labels": LABELS}
    types = inputs(n="i64[2]", a="f32[2,3,4,5]")
    for data in (arrays, saved(tmp_path / "d.npz", **arrays)):
        batches = read_data(data, types)
        np.testing.assert_array_equal(samples(batches)[0], np.arange(10))
        assert all(list(feeds) == ["n", "a"] for feeds in batches)


def test_inputs_that_share_no_axis_take_whole_samples(tmp_path: Path) -> None:
    """A recurrent network: a row of sound, a state, and a rate, which has no axis at all."""
    types = inputs(x="f32[1,576]", state="f32[2,1,128]", rate="i64[]")
    x = RANDOM.standard_normal((4, 576)).astype(np.float32)
    state = RANDOM.standard_normal((4, 2, 1, 128)).astype(np.float32)
    arrays = {"x": x, "state": state, "rate": np.full(4, 16000), "labels": LABELS[:4]}
    names = list(types)
    items = [({name: arrays[name][i] for name in names}, LABELS[i]) for i in range(4)]
    for data in (arrays, saved(tmp_path / "d.npz", **arrays), items):
        batches = read_data(data, types)
        assert [batch.labels.tolist() for batch in batches.batches()] == [[0], [1], [2], [0]]
        for i, feeds in enumerate(batches):
            np.testing.assert_array_equal(feeds["x"], x[i : i + 1])
            np.testing.assert_array_equal(feeds["state"], state[i])
            assert feeds["rate"] == 16000 and feeds["rate"].shape == ()


def test_an_input_named_labels_is_an_input() -> None:
    batches = read_data({"labels": ROWS}, inputs(labels="f32[1,3,4,5]"))
    rows, labels = samples(batches)
    np.testing.assert_array_equal(rows, ROWS)
    assert labels is None


@pytest.mark.parametrize(
    "data",
    [{"x": ROWS, "labels": LABELS}, list(zip(ROWS, LABELS))],
    ids=["mapping", "items"],
)
def test_models_without_a_batch(data: Any) -> None:
    batches = read_data(data, inputs(x="f32[3,4,5]"))
    for batch, row, label in zip(batches.batches(), ROWS, LABELS):
        np.testing.assert_array_equal(batch.feeds["x"], row)
        assert batch.count == 1 and batch.labels is not None and batch.labels.tolist() == [label]


def test_files_are_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    rows = np.zeros((4000, 1000), np.float32)
    rows[:, 0] = np.arange(4000)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "d.npz", x=rows)
        tracemalloc.start()
        total = sum(
            feeds["x"][0, 0] for feeds in read_data(tmp_path / "d.npz", inputs(x="f32[8,1000]"))
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total == sum(range(0, 4000, 8))
        assert peak < 1_000_000


# ---------------------------------------------------------------- pictures


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for name, grey in (("b.png", 51), ("a.PNG", 102), ("more/c.bmp", 153)):
        image.new("RGB", (9, 7), (grey, grey, grey)).save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    (folder / "._a.png").write_bytes(b"what another system leaves behind")
    return folder


@pytest.mark.parametrize("type", ["f32[2,3,6,8]", "f32[2,6,8,1]", "u8[2,6,8,3]", "f16[1,1,6,8]"])
def test_pictures_come_in_the_order_of_their_paths(pictures: Path, type: str) -> None:
    batches = read_data(pictures, inputs(x=type))
    rows, labels = samples(batches)
    wanted = np.array([0.4, 0.2, 0.6], np.float32)
    greys = rows.reshape(3, -1)
    assert labels is None and batches.total == -(-3 // batches.inputs["x"].dims[0])
    assert (greys == greys[:, :1]).all()
    scale = 255 if type.startswith("u8") else 1
    np.testing.assert_allclose(greys[:, 0], wanted * scale, rtol=1e-3)


def test_pictures_are_scaled_as_asked(pictures: Path) -> None:
    batches = read_data(pictures, inputs(x="f32[1,3,6,8]"), mean=(0.2, 0.4, 0), std=(0.5, 1, 2))
    np.testing.assert_allclose(samples(batches)[0][0, :, 0, 0], [0.4, 0, 0.2], atol=1e-6)


@pytest.mark.parametrize(
    "how", [{"std": 0}, {"mean": (0.1, 0.2)}, {"std": (1, 1, 0)}], ids=["zero", "two", "one is 0"]
)
def test_scales_that_do_not_fit_are_refused(pictures: Path, how: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="do not fit"):
        read_data(pictures, inputs(x="f32[1,3,6,8]"), **how)


def test_bytes_are_not_scaled(pictures: Path) -> None:
    with pytest.raises(InputError, match="do not fit"):
        read_data(pictures, inputs(x="u8[1,3,6,8]"), mean=0.5)


def test_bad_folders(tmp_path: Path, pictures: Path) -> None:
    x = inputs(x="f32[1,3,6,8]")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures in") as error:
        read_data(tmp_path / "empty", x)
    assert error.value.why == "it is empty"
    (tmp_path / "empty" / "readme.md").write_text("nothing")
    with pytest.raises(InputError, match="none of its 1 files is one"):
        read_data(tmp_path / "empty", x)
    with pytest.raises(InputError, match="there is no"):
        read_data(tmp_path / "nowhere", x)
    with pytest.raises(InputError, match="one input"):
        read_data(pictures, inputs(x="f32[1,3,6,8]", y="f32[1]"))
    with pytest.raises(InputError, match="a picture does not fit"):
        read_data(pictures, inputs(x="f32[1,7]"))
    with pytest.raises(InputError, match="put pictures into a folder"):
        read_data(pictures / "b.png", x)
    (pictures / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(InputError, match=r"bad\.png"):
        read_data(pictures, x)


def test_pictures_that_are_all_the_same_are_refused(pictures: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name in ("a.PNG", "more/c.bmp"):
        (pictures / name).unlink()
    with pytest.raises(InputError, match="its only sample is constant"):
        read_data(pictures, inputs(x="f32[1,3,6,8]"))
    for i in range(20):
        image.new("RGB", (5, 5), (51, 51, 51)).save(pictures / f"{i}.png")
    with pytest.raises(InputError, match="all 21 samples are the same"):
        read_data(pictures, inputs(x="f32[4,3,6,8]"))
    image.new("RGB", (5, 5), (50, 51, 51)).save(pictures / "z.png")
    assert read_data(pictures, inputs(x="f32[4,3,6,8]")).total == 6


# ---------------------------------------------------------------- what is wrong


class Broken:
    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("this is on another device")


X = ROWS[:, 0, 0]  # f32[10, 5]
BAD: dict[str, tuple[Any, str]] = {
    "nothing": ([], "gave no sample"),
    "no rows": (X[:0], "gave no sample"),
    "nan": (np.where(np.arange(10)[:, None] == 6, np.float32(np.nan), X), "sample 6 of the array"),
    "infinity": ([X[0], X[1], np.float32([1, 2, 3, 4, np.inf])], "sample 2 of the iterable"),
    "shape": (ROWS, r"takes f32\[2,5\], the data is \[10, 3, 4, 5\]"),
    "scalar": (np.float32(1), "cannot be float32"),
    "item": ([X[0], X[1, :4]], r"the data is \[4\]"),
    "dtype": (X.astype(np.float64), "takes float32, the data is float64"),
    "bytes": (X.astype(np.uint8), "takes float32, the data is uint8"),
    "item's dtype": ([X[0], X[1].astype(np.float64)], "item 1 of the iterable"),
    "name": ({"y": X}, "it takes x; given y"),
    "more names": ({"x": X, "y": X}, "it takes x; given x, y"),
    "no name": ({}, "given nothing"),
    "labels": ({"x": X, "labels": LABELS[:9]}, "9 instead of 10"),
    "one label": ({"x": X, "labels": np.int64(3)}, "none instead of 10"),
    "words": ({"x": X, "labels": np.array(["a"] * 10)}, "labels are numbers"),
    "item's labels": ([(X[:2], LABELS[:3])], "3 labels for 2 samples"),
    "some labels": ([(X[0], 1), X[1]], "some items have labels"),
    "shapes of labels": ([(X[0], [1]), (X[1], [1, 2])], "labels differ in shape"),
    "triples": ([(X[0], 1, 2)], "tuple of 3"),
    "the same": (np.ones((9, 5), np.float32) * X[0], "all 9 samples are the same"),
    "constant": (np.ones((1, 5), np.float32), "its only sample is constant"),
    "generator": ((row for row in X), "only once"),
    "function": (lambda: 3, "returned int"),
    "number": (3, "cannot be int"),
    "text": ([["a", "b"]], "the data is <U1"),
    "broken": ([Broken()], "on another device"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_data_is_told_at_once(bad: str) -> None:
    data, message = BAD[bad]
    with pytest.raises(InputError, match=message):
        read_data(data, inputs(x="f32[2,5]"))


def test_numbers_that_are_none_are_found_later_too() -> None:
    rows = np.arange(200, dtype=np.float32).reshape(100, 2)
    rows[90, 1] = np.nan
    batches = read_data(rows, inputs(x="f32[4,2]"))
    with pytest.raises(InputError, match="sample 90 of the array"):
        list(batches)


def test_items_that_run_out_are_told() -> None:
    class Once:
        """Iterable, but only the first times; the check takes two passes."""

        left = 2

        def __iter__(self) -> Iterator[np.ndarray]:
            self.left -= 1
            return iter(X if self.left >= 0 else [])

    batches = read_data(Once(), inputs(x="f32[2,5]"))
    with pytest.raises(InputError, match="gave no sample"):
        list(batches)


def test_open_shapes_and_text_cannot_be_calibrated() -> None:
    with pytest.raises(InputError, match="fixed shape"):
        read_data(X, inputs(x="f32[n,5]"))
    with pytest.raises(InputError, match="hold numbers"):
        read_data(X, inputs(x="str[2,5]"))
    with pytest.raises(InputError, match="takes no input"):
        read_data(X, {})


def test_damaged_files(tmp_path: Path) -> None:
    x, path = inputs(x="f32[2,5]"), tmp_path / "d.npz"
    whole = saved(path, x=np.tile(X, (100, 1))).read_bytes()
    for content in (whole[:300], b"", b"PK\3\4 nothing", whole.replace(b"1000", b"9999")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"d\.npz"):
            list(read_data(path, x))
    np.savez(path, x=np.asfortranarray(X))
    with pytest.raises(InputError, match="Fortran"):
        read_data(path, x)
    np.savez(path, x=np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match="Python objects"):
        read_data(path, x)
    (tmp_path / "d.npy").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"d\.npy is damaged"):
        read_data(tmp_path / "d.npy", x)
    (tmp_path / "d.csv").write_text("1,2")
    with pytest.raises(InputError, match=r"not read from d\.csv"):
        read_data(tmp_path / "d.csv", x)


def test_arrays_have_no_scale_to_set() -> None:
    with pytest.raises(InputError, match="for folders of pictures"):
        read_data(X, inputs(x="f32[2,5]"), mean=0.5)


# ---------------------------------------------------------------- parts of the data


def test_parts_of_parts_are_counted_anew() -> None:
    batches = read_data({"x": ROWS}, inputs(x="f32[1,3,4,5]"))
    third = batches.chosen(lambda number: number % 3 == 0)
    assert third.total == 4
    np.testing.assert_array_equal(samples(third)[0], ROWS[::3])
    first = third.chosen(lambda number: number % 2 == 0)
    assert first.total == 2
    np.testing.assert_array_equal(samples(first)[0], ROWS[[0, 6]])
    assert third.total == 4


@pytest.mark.parametrize(("wanted", "got"), [(1, 1), (4, 4), (10, 10), (99, 10)])
def test_some_samples_are_evenly_spread(wanted: int, got: int) -> None:
    part = some(read_data({"x": ROWS}, inputs(x="f32[1,3,4,5]")), wanted)
    assert part.total == got
    found = [int(np.flatnonzero((row == ROWS).all(axis=(1, 2, 3)))[0]) for row in samples(part)[0]]
    gaps = np.diff([*found, len(ROWS)])
    assert found[0] == 0
    assert gaps.max() - gaps.min() <= 1


def test_of_an_iterable_the_first_samples_are_taken_in_whole_batches() -> None:
    part = some(read_data(lambda: iter(ROWS), inputs(x="f32[2,3,4,5]")), 5)
    np.testing.assert_array_equal(samples(part)[0], ROWS[:6])


def test_what_calibrates_does_not_judge_where_there_is_enough() -> None:
    many = RANDOM.standard_normal((80, 2)).astype(np.float32)
    batches = read_data({"x": many}, inputs(x="f32[1,2]"))
    calibrating, judging = (samples(each)[0] for each in shares(batches))
    both = np.concatenate([calibrating, judging])
    assert len(both) == 80
    np.testing.assert_array_equal(np.unique(both, axis=0), np.unique(many, axis=0))
    assert len(judging) >= HELD_BACK
    few = read_data({"x": many[:40]}, inputs(x="f32[1,2]"))
    assert [len(samples(each)[0]) for each in shares(few)] == [40, 40]
