"""Where samples come from: a folder of pictures, columns of a file or a mapping, a caller's items.

Each source gives chunks of samples, in the same order every time, and holds one of them. Nothing is
regrouped here and no number is looked at: see `data.py`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from brim.errors import InputError
from brim.pictures import SUFFIXES, network_input
from brim.types import Type

LABELS = "labels"  # the name of labels among arrays, unless an input has it
Wanted = Callable[[int], bool]  # whether a sample is, by its number
DAMAGE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
ROWS_HINT = "the first axis counts samples, the others are the input's without its batch"


@dataclass(frozen=True)
class Form:
    """How samples make what a run takes: `rows` of them along the first axis, which all inputs
    share; 0: one sample is all that a run takes."""

    types: dict[str, Type]
    rows: int


@dataclass(frozen=True)
class Chunk:
    """Some samples. feeds: name -> [count, *row], or with rows = 0 one sample in the input's shape;
    labels: [count, ...] or None; start: the number of its first sample."""

    feeds: dict[str, np.ndarray]
    labels: np.ndarray | None
    count: int
    start: int


class Samples(Protocol):
    """A source of samples. where: what it is, in a few words; count: how many, None if unknown."""

    form: Form
    where: str

    @property
    def count(self) -> int | None: ...

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """All samples, from the first on; those that are not wanted may be left out."""


def open_samples(
    data: Any,
    types: dict[str, Type],
    mean: float | Sequence[float],
    std: float | Sequence[float],
    classes: Sequence[str] = (),
) -> Samples:
    """The source for what `read_data` takes. classes: names of the sub-folders of a folder of
    pictures, whose places are the labels; none: it has no labels. Raises InputError."""
    if isinstance(data, (str, PathLike)):
        path = Path(data)
        if path.is_dir():
            return Pictures(path, types, mean, std, classes)
        source = _of_file(path, types)
    elif isinstance(data, np.ndarray):
        source = Columns({_only(types, "an array"): Held(data)}, types, "the array")
    elif isinstance(data, Mapping):
        held = {name: Held(_as_array(each, name)) for name, each in data.items()}
        source = Columns(held, types, "the mapping")
    else:
        source = Items(data, types)
    if np.any(mean) or np.any(np.not_equal(std, 1)):
        raise InputError("mean and std are for folders of pictures", hint="scale the arrays")
    return source


def _of_file(path: Path, types: dict[str, Type]) -> Samples:
    if not path.exists():
        raise InputError(f"there is no {path}", hint="give a folder of pictures or a .npz file")
    if path.suffix == ".npz":
        return Columns(_members(path), types, path.name)
    if path.suffix == ".npy":
        with _intact(path.name):
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        return Columns({_only(types, path.name): Held(mapped)}, types, path.name)
    raise InputError(
        f"data is not read from {path.name}",
        why="it is a folder of pictures, a .npz or a .npy file",
        hint="put pictures into a folder" if path.suffix.lower() in SUFFIXES else "",
    )


def _only(types: Mapping[str, Type], what: str) -> str:
    if len(types) > 1:
        raise InputError(
            f"{what} is for models with one input",
            why=f"this one takes {', '.join(types)}",
            hint="give a mapping or a .npz file of arrays by name",
        )
    return next(iter(types))


# ---------------------------------------------------------------- pictures


def class_folders(folder: Path) -> tuple[str, ...]:
    """The names of the folders in a folder, sorted: the classes of the pictures in them."""
    names = (path.name for path in folder.iterdir() if path.is_dir())
    return tuple(sorted(name for name in names if not name.startswith(".")))


class Pictures:
    """The pictures in a folder and its folders, one at a time; hidden files are left out."""

    def __init__(
        self,
        folder: Path,
        types: dict[str, Type],
        mean: float | Sequence[float],
        std: float | Sequence[float],
        classes: Sequence[str] = (),
    ) -> None:
        self.where = str(folder)
        self._name = _only(types, "a folder of pictures")
        self._mean, self._std = mean, std
        type = types[self._name]
        rows = type.dims[0] if type.rank else 1
        self._type = Type((1, *type.dims[1:]), type.dtype)
        self.form = Form(types, rows)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        self.files = [
            file
            for file in files
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        ]
        self.count = len(self.files)
        if not self.files:
            raise InputError(
                f"there are no pictures in {folder}",
                why=f"none of its {len(files)} files is one" if files else "it is empty",
                hint=f"pictures end in {' '.join(sorted(SUFFIXES))}",
            )

        self.labels = None
        if classes:
            labels = [_class_of(file.relative_to(folder), classes, folder) for file in self.files]
            self.labels = np.array(labels, np.int64)

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        for number in filter(wanted, range(self.count)):
            yield self.read(number)

    def read(self, number: int) -> Chunk:
        """One picture. Raises InputError."""
        pixels = network_input(self.files[number], self._type, self._mean, self._std)
        label = None if self.labels is None else self.labels[number : number + 1]
        return Chunk({self._name: pixels}, label, 1, number)


def _class_of(file: Path, classes: Sequence[str], folder: Path) -> int:
    name = file.parts[0]
    if len(file.parts) < 2 or name not in classes:
        raise InputError(
            f"{folder / file} belongs to no class",
            why=f"there is no class {name!r}"
            if len(file.parts) > 1
            else "it is in no folder of one",
            hint=f"put it into the folder of its class: {', '.join(classes)}"[:300],
        )
    return classes.index(name)


# ---------------------------------------------------------------- columns


class Column(Protocol):
    """An array whose first axis counts samples."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def parts(self, rows: int) -> Iterator[np.ndarray]:
        """The array in parts of `rows` samples; the last one may have fewer."""

    def whole(self) -> np.ndarray:
        """All of it: what is not in memory is read now."""


@dataclass(frozen=True)
class Held:
    """An array that is in memory, or mapped."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def parts(self, rows: int) -> Iterator[np.ndarray]:
        for start in range(0, len(self.array), rows):
            yield np.asarray(self.array[start : start + rows])

    def whole(self) -> np.ndarray:
        return self.array


@dataclass(frozen=True)
class Member:
    """An array of a .npz file, which is unpacked part by part."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def parts(self, rows: int) -> Iterator[np.ndarray]:
        row = self.shape[1:]
        size = prod(row) * self.dtype.itemsize
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.name}.npy") as file:
            _header(file)
            for start in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - start)
                with _intact(f"{self.path.name}: {self.name}"):
                    data = file.read(count * size)
                    part = np.frombuffer(data, self.dtype).reshape(count, *row)
                yield part

    def whole(self) -> np.ndarray:
        return next(self.parts(max(self.shape[0], 1)), np.empty(self.shape, self.dtype))


def _members(path: Path) -> dict[str, Column]:
    """The arrays of a .npz file, compressed or not. Raises InputError."""
    found: dict[str, Column] = {}
    with ExitStack() as stack:
        stack.enter_context(_intact(path.name))
        archive = stack.enter_context(zipfile.ZipFile(path))
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            with _intact(f"{path.name}: {name}"), archive.open(member) as file:
                found[name] = Member(path, name, *_header(file))
    return found


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version} of .npy holds records, not numbers")
    shape, by_columns, dtype = read(file)
    if by_columns and len(shape) > 1:
        raise ValueError("it is in Fortran order, so samples are not one after another")
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    return shape, dtype


@contextmanager
def _intact(where: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise InputError(f"{where} is damaged, or not numbers", why=str(error)[:200]) from None


class Columns:
    """Arrays by input name, and perhaps labels; their first axes count samples."""

    def __init__(self, columns: Mapping[str, Column], types: dict[str, Type], where: str) -> None:
        self.where = where
        columns = dict(columns)
        self._labels = None if LABELS in types else columns.pop(LABELS, None)
        _check_names(columns, types, where)
        for name, column in columns.items():
            _check_dtype(name, column.dtype, types[name], where)
        self.form = _form_of({name: column.shape for name, column in columns.items()}, types, where)
        self._columns = {name: columns[name] for name in types}
        self.count = next(iter(columns.values())).shape[0]
        for name, column in (*columns.items(), *([(LABELS, self._labels)] if self._labels else [])):
            if not column.shape or column.shape[0] != self.count:
                raise InputError(
                    f"{name!r} has another number of samples",
                    why=f"{column.shape[0] if column.shape else 'none'} instead of {self.count}",
                    where=where,
                    hint="first axes count samples, and must agree",
                )
        if self._labels is not None:
            _check_label(self._labels.dtype, where)

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        types, rows = self.form.types, max(self.form.rows, 1)
        parts = [column.parts(rows) for column in self._columns.values()]
        labels = self._labels.parts(rows) if self._labels is not None else None
        for start in range(0, self.count, rows):
            feeds = {name: next(part) for name, part in zip(types, parts)}
            count = len(next(iter(feeds.values())))
            if not self.form.rows:
                feeds = {name: array.reshape(types[name].dims) for name, array in feeds.items()}
            yield Chunk(feeds, None if labels is None else next(labels), count, start)

    def whole(self) -> Chunk:
        """All samples. What is mapped stays so; what is in a file is in memory then."""
        feeds = {name: column.whole() for name, column in self._columns.items()}
        return Chunk(feeds, None if self._labels is None else self._labels.whole(), self.count, 0)


def _form_of(shapes: Mapping[str, tuple[int, ...]], types: dict[str, Type], where: str) -> Form:
    """Which form the arrays have whose first axes count samples. Raises InputError."""
    rows = shared_rows(types)
    if rows and all(shape and shape[1:] == types[name].dims[1:] for name, shape in shapes.items()):
        return Form(types, rows)
    for name, shape in shapes.items():
        if not shape or not _is_whole(shape[1:], types[name]):
            raise _wrong_shape(name, shape, types[name], where)
    return Form(types, 0)


def shared_rows(types: Mapping[str, Type]) -> int:
    """The length of the first axis that all inputs share, 0 if they do not."""
    firsts = {type.dims[0] if type.rank else 0 for type in types.values()}
    shared = len(firsts) == 1 and any(type.rank > 1 for type in types.values())
    return firsts.pop() if shared else 0


def _is_whole(shape: tuple[int, ...], type: Type) -> bool:
    """Whether it is all of an input; an axis of length 1 in front may be left out."""
    return type.dims in (shape, (1, *shape))


def _wrong_shape(name: str, shape: tuple[int, ...], type: Type, where: str) -> InputError:
    return InputError(
        f"input {name!r} takes {type}, the data is {list(shape)}", where=where, hint=ROWS_HINT
    )


def _check_names(given: Mapping[str, Any], types: Mapping[str, Type], where: str) -> None:
    missing = [name for name in types if name not in given]
    unknown = [str(name) for name in given if name not in types]
    if missing or unknown:
        raise InputError(
            "the arrays are not the model's inputs",
            why=f"it takes {', '.join(types)}; given {', '.join(map(str, given)) or 'nothing'}",
            where=where,
            hint=f"name them: np.savez(file, {', '.join(f'{name}=...' for name in types)})",
        )


def _check_dtype(name: str, dtype: np.dtype, type: Type, where: str) -> None:
    if dtype != type.dtype.numpy:
        raise InputError(
            f"input {name!r} takes {type.dtype.numpy}, the data is {dtype}",
            where=where,
            hint=f".astype('{type.dtype.numpy}'), once its scale is what the model was trained on",
        )


def _check_label(dtype: np.dtype, where: str) -> None:
    if dtype.kind not in "biuf":
        raise InputError(f"labels are numbers, not {dtype}", where=where)


# ---------------------------------------------------------------- items


class Items:
    """What a caller's iterable gives: arrays, mappings, or pairs of that and a label."""

    where = "the iterable"
    count: int | None = None

    def __init__(self, data: Iterable[Any] | Callable[[], Any], types: dict[str, Type]) -> None:
        if not callable(data) and not isinstance(data, Iterable):
            raise InputError(
                f"data cannot be {type(data).__name__}",
                hint="give a folder, a .npz file, an array, or an iterable of arrays",
            )
        if isinstance(data, Iterator):
            raise InputError(
                "the data can be gone through only once",
                why=f"{type(data).__name__} is an iterator, and several passes are made",
                hint="give a list, or a function that returns a new iterator at each call",
            )
        self._data = data
        rows = shared_rows(types)
        self.form = Form(types, rows)
        first = next(self._items(), None)
        if first is not None and rows:
            feeds, labels = first
            exact = all(feeds[name].shape == type.dims for name, type in types.items())
            if exact and rows > 1 and labels is not None and not labels.ndim:
                self.form = Form(types, 0)  # one label: one sample

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        start, labelled = 0, None
        for number, (feeds, labels) in enumerate(self._items()):
            where = f"item {number} of {self.where}"
            if labelled is None:
                labelled = labels is not None
            if labelled != (labels is not None):
                raise InputError("some items have labels and some have not", where=where)
            chunk = self._chunk(feeds, labels, start, where)
            start += chunk.count
            yield chunk

    def _items(self) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray | None]]:
        """The arrays of each item by name, and its label."""
        items = self._data() if callable(self._data) else self._data
        if not isinstance(items, Iterable):
            raise InputError(
                f"the function for data returned {type(items).__name__}",
                hint="return an iterable of arrays",
            )
        for number, item in enumerate(items):
            where = f"item {number} of {self.where}"
            label = None
            if isinstance(item, (tuple, list)):
                if len(item) != 2:
                    raise InputError(
                        f"an item of the data is a {type(item).__name__} of {len(item)}",
                        where=where,
                        hint="items are arrays, mappings of name -> array, or (that, label)",
                    )
                item, label = item
            if not isinstance(item, Mapping):
                item = {_only(self.form.types, "an item that is one array"): item}
            _check_names(item, self.form.types, where)
            feeds = {name: _as_array(item[name], name) for name in self.form.types}
            for name, array in feeds.items():
                _check_dtype(name, array.dtype, self.form.types[name], where)
            labels = None if label is None else _as_array(label, LABELS)
            if labels is not None:
                _check_label(labels.dtype, where)
            yield feeds, labels

    def _chunk(
        self, feeds: dict[str, np.ndarray], labels: np.ndarray | None, start: int, where: str
    ) -> Chunk:
        types, counts = self.form.types, set()
        for name, array in feeds.items():
            type = types[name]
            if not self.form.rows and _is_whole(array.shape, type):
                feeds[name] = array.reshape(type.dims)
            elif self.form.rows and array.shape == type.dims[1:]:
                feeds[name] = array[None]
            elif not self.form.rows or array.shape[1:] != type.dims[1:]:
                raise _wrong_shape(name, array.shape, type, where)
            counts.add(len(feeds[name]) if self.form.rows else 1)
        count = counts.pop()
        if counts:
            raise InputError(
                "the arrays of an item have different numbers of samples",
                why=", ".join(f"{name}: {len(array)}" for name, array in feeds.items()),
                where=where,
            )
        if labels is not None and (count == 1 and labels.shape[:1] != (1,)):
            labels = labels[None]
        if labels is not None and len(labels) != count:
            raise InputError(f"{len(labels)} labels for {count} samples", where=where)
        return Chunk(feeds, labels, count, start)


def _as_array(value: Any, name: str) -> np.ndarray:
    """What numpy makes of an array of another library. Raises InputError."""
    try:
        return np.asarray(value)
    except Exception as error:  # whatever the other library raises
        raise InputError(f"{name!r} is no array", why=str(error)[:200]) from None
