"""Command-line text to arrays and back: shapes, inputs, pictures, and files of outputs.

Storage types have no name in .npy files: floats are there as the integers of their bits (or, as
numpy itself writes them, as bytes without a type), 4- and 2-bit integers as bytes.
Knows types, pictures and numpy only; no command and no model is here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from brim.errors import InputError
from brim.files import written
from brim.pictures import SUFFIXES, network_input
from brim.types import STR, Type, as_carrier, as_numbers, dtype_of

Arrays = dict[str, np.ndarray]
SEED = 1


Shape = tuple[int, ...]


def parse_shapes(texts: Sequence[str]) -> dict[str, Shape]:
    """`NAME=1x3x224x224` each; `NAME=` is a scalar. Raises InputError."""
    return dict(_shape(text, *_named(text)) for text in texts)


def parse_shape_lists(texts: Sequence[str]) -> list[dict[str, Shape]]:
    """`NAME=1x16,1x32` each: alternatives, of several inputs those in one place go together.

    One alternative is the same beside all others. Raises InputError.
    """
    lists = {}
    for text in texts:
        name, dims = _named(text)
        lists[name] = [_shape(text, name, part)[1] for part in dims.split(",")]
    count = max(map(len, lists.values()), default=1)
    if wrong := [name for name, found in lists.items() if len(found) not in (1, count)]:
        raise InputError(
            f"{len(lists[wrong[0]])} shapes are given for {wrong[0]}, {count} for another input",
            hint="give as many for each, those in one place go together; or one for all",
        )
    return [{n: found[i % len(found)] for n, found in lists.items()} for i in range(count)]


def _named(text: str) -> tuple[str, str]:
    """The name and the rest of NAME=REST; names may hold "=" themselves."""
    name, equals, rest = text.rpartition("=")
    if not equals or not name:
        raise InputError(f"not a shape: {text!r}", hint="write NAME=1x3x224x224")
    return name, rest


def _shape(text: str, name: str, dims: str) -> tuple[str, Shape]:
    parts = dims.split("x") if dims else []
    if not all(part.isdigit() for part in parts):
        raise InputError(f"not a shape: {text!r}", hint="write NAME=1x3x224x224")
    return name, tuple(map(int, parts))


def parse_counts(option: str, text: str, least: int) -> list[int]:
    """`1,2,4`: whole numbers from `least` on. Raises InputError."""
    parts = text.split(",")
    if not all(part.isdigit() and int(part) >= least for part in parts):
        raise InputError(
            f"{option} {text!r} is not a list of numbers from {least} on", hint=f"{option} 1,2"
        )
    return list(dict.fromkeys(map(int, parts)))


def parse_numbers(option: str, text: str) -> float | tuple[float, ...]:
    """A number, or several with commas between. Raises InputError."""
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        raise InputError(f"{option} {text!r} is not numbers", hint=f"{option} 0.5") from None
    return numbers if len(numbers) > 1 else numbers[0]


def check_shapes(types: Mapping[str, Type], shapes: Mapping[str, Sequence[int]]) -> None:
    """Raises InputError, in the command line's words, for inputs whose shape is still open."""
    if missing := [name for name, t in types.items() if not t.is_static and name not in shapes]:
        example = {name: types[name].example for name in missing}
        raise InputError(
            f"no shape for {'input' if len(missing) == 1 else 'inputs'} "
            f"{_listed({name: types[name] for name in missing})}",
            hint=" ".join(f"--shape {n}={'x'.join(map(str, dims))}" for n, dims in example.items()),
        )


def _listed(types: Mapping[str, Type]) -> str:
    return ", ".join(f"{name}: {type}" for name, type in types.items())


def parse_inputs(
    texts: Sequence[str],
    types: Mapping[str, Type],
    shapes: Mapping[str, Sequence[int]] | None = None,
    fill: bool = False,
    usual: Mapping[str, Sequence[int]] | None = None,
) -> Arrays:
    """An array for every input of a model.

    types: what the model takes; shapes: what the caller fixed of it; usual: what random inputs have
    where it is open. An input that no text names is drawn at random with a fixed seed if `fill`, or
    if one of the texts is the bare word random; else InputError says which ones are missing.
    """
    known = {name: _fixed(type, (shapes or {}).get(name)) for name, type in types.items()}
    given: dict[str, str] = {}
    fill = fill or "random" in texts
    for text in texts:
        if text == "random":
            continue
        name, value = _split(text, known)
        if name in given:
            raise InputError(f"input {name!r} is given twice")
        given[name] = value
    missing = [name for name in known if name not in given]
    if missing and not fill:
        listed = _listed({name: known[name] for name in missing})
        raise InputError(
            f"no value for {'input' if len(missing) == 1 else 'inputs'} {listed}",
            hint=" ".join(f"--input {name}=FILE.npy" for name in missing)
            + "; for a first try --input random",
        )
    drawn = {n: _fixed(t, (usual or {}).get(n)) for n, t in known.items() if not t.is_static}
    drawn = {n: t for n, t in drawn.items() if given.get(n, "random") == "random"}
    check_shapes({n: t for n, t in drawn.items() if t.dtype.kind != "o"}, {})
    random = np.random.default_rng(SEED)
    arrays = {}
    for name, type in known.items():
        text = given.get(name, "random")
        array = arrays[name] = _array(name, text, drawn.get(name, type), random)
        if not _fits(array, type):
            shape = "x".join(map(str, array.shape)) or "of a single number"
            raise InputError(
                f"input {name} takes {type}, the shape given is {shape}",
                hint="" if type.is_static else f"--shape {name}=1x3x224x224 fixes what is open",
            )
    return arrays


def _fits(array: np.ndarray, type: Type) -> bool:
    return type.shape is None or (
        array.ndim == len(type.shape)
        and all(not isinstance(n, int) or n == m for n, m in zip(type.shape, array.shape))
    )


def _fixed(type: Type, shape: Sequence[int] | None) -> Type:
    return type if shape is None else Type(tuple(shape), type.dtype)


def _split(text: str, types: Mapping[str, Type]) -> tuple[str, str]:
    # A tensor's name may hold "=" and ":" itself, so known names decide, the longest first.
    for name in sorted(types, key=len, reverse=True):
        if text.startswith(f"{name}="):
            return name, text[len(name) + 1 :]
    if len(types) == 1 and "=" not in text:
        return next(iter(types)), text
    raise InputError(
        f"{text!r} names no input of this model",
        hint=f"it takes {_listed(types)}",
    )


def _array(name: str, text: str, type: Type, random: np.random.Generator) -> np.ndarray:
    where = f"input {name}: {type}"
    if type.dtype.kind == "o":
        raise InputError(
            "the command line gives arrays only, no sequences, optionals or maps",
            where=where,
            hint=f"in Python: brim.load(...).run({{{name!r}: [...]}})",
        )
    suffix = Path(text).suffix.lower()
    if text == "random":
        check_shapes({name: type}, {})
    try:
        if text == "random":
            return random_array(type, random)
        if suffix == ".npy":
            return _load_array(Path(text), type)
        if suffix in SUFFIXES:
            return network_input(text, type)
        return _numbers(text, type)
    except InputError as error:
        raise InputError(error.what, error.why, error.where or where, error.hint) from None


def random_array(type: Type, random: np.random.Generator) -> np.ndarray:
    """Floats from N(0, 1), integers of up to 8 bits over their range, wider ones from {0, 1}.

    Wider integers are mostly indices and masks, for which other numbers may be out of range.
    type: static. Raises InputError for text.
    """
    dtype = type.dtype
    if dtype == STR:
        raise InputError("text is not drawn at random", hint="give the text itself")
    if dtype.is_float:
        return random.standard_normal(type.dims, np.float32).astype(dtype.numpy)
    if dtype.is_whole and dtype.bits <= 8:
        codes = random.integers(0, 1 << dtype.bits, type.dims)
        return codes.astype(np.uint8).view(dtype.numpy)
    if dtype.kind == "n":
        return random.standard_normal(type.dims, np.float32).astype(dtype.numpy)
    return random.integers(0, 2, type.dims).astype(dtype.numpy)


def _load_array(path: Path, type: Type) -> np.ndarray:
    try:
        # Mapped, so that a header that lies about the size is found out before memory is taken.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a readable .npy file", why=str(error)) from None
    if type.dtype.kind == "n" and array.dtype in (type.dtype.carrier.numpy, f"V{array.itemsize}"):
        return _stored(np.array(array), path, type)
    if array.dtype != type.dtype.numpy and not (type.dtype == STR and array.dtype.kind in "US"):
        raise InputError(
            f"{path} holds {array.dtype}, the model takes {type.dtype.numpy}",
            hint=f"save it with .astype('{type.dtype.numpy}')",
        )
    return np.array(array)


def _stored(array: np.ndarray, path: Path, type: Type) -> np.ndarray:
    """An array of a storage type from what `_for_file` writes, or numpy."""
    if array.dtype.kind == "V" or not type.dtype.is_whole:
        return array.view(type.dtype.numpy)
    narrow = array.astype(type.dtype.numpy)
    if not np.array_equal(as_numbers(narrow), array):
        raise InputError(f"{path} holds numbers that do not fit into {type.dtype}")
    return narrow


def _numbers(text: str, type: Type) -> np.ndarray:
    try:
        value = json.loads(text)
    except ValueError:
        value = [_word(part) for part in text.split(",")] if "," in text else _word(text)
    if type.dtype == STR:
        array = np.array(value, object)
    else:
        try:
            plain = np.array(value)
        except ValueError as error:
            raise InputError(f"not a regular array: {text[:80]!r}", why=str(error)) from None
        if plain.dtype.kind not in "biuf":
            raise InputError(
                f"{text[:80]!r} is neither numbers nor a file that brim reads",
                hint=f"files end in .npy or a picture's {' '.join(sorted(SUFFIXES))}",
            )
        array = plain.astype(type.dtype.numpy)
        whole = type.dtype.kind != "n" or type.dtype.is_whole
        if whole and plain.dtype.kind in "biu" and not np.array_equal(as_numbers(array), plain):
            raise InputError(f"{text[:80]!r} does not fit into {type.dtype}")
        if plain.dtype.kind == "f" and not type.dtype.is_float and whole:
            raise InputError(f"{text[:80]!r} is not whole, the model takes {type.dtype}")
    if type.is_static and array.shape != type.shape and array.size in (1, type.size):
        array = np.broadcast_to(array, type.dims) if array.size == 1 else array.reshape(type.dims)
    return np.ascontiguousarray(array).reshape(array.shape)


def _word(text: str) -> float | int | str:
    for parse in (int, float):
        try:
            return parse(text)
        except ValueError:
            pass
    return text


def save_arrays(arrays: Mapping[str, np.ndarray], folder: Path) -> dict[str, Path]:
    """Writes each array as .npy into `folder` (made if missing): name -> file.

    All files are complete before the first gets its name, so a failure leaves none behind.
    Raises InputError for what is no array, and where they cannot be written.
    """
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise InputError(
                f"output {name!r} is no array but a sequence, an optional or a map",
                hint="print it with --json",
            )
    files = {name: folder / f"{stem}.npy" for name, stem in _stems(list(arrays)).items()}
    with ExitStack() as all_written:
        for name, array in arrays.items():
            temporary = all_written.enter_context(written(files[name], parents=True))
            np.save(temporary, _for_file(array), allow_pickle=False)
    return files


def _for_file(array: np.ndarray) -> np.ndarray:
    dtype = dtype_of(array)
    if dtype == STR:
        return array.astype(np.str_)
    return as_numbers(array) if dtype.is_whole else as_carrier(array)


def _stems(names: Sequence[str]) -> dict[str, str]:
    """File names for tensor names, which may hold any text: no separators, no dots in front."""
    stems: dict[str, str] = {}
    for name in names:
        stem = plain = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[:100] or "output"
        for number in range(2, len(names) + 2):
            if stem not in stems.values():
                break
            stem = f"{plain}_{number}"
        stems[name] = stem
    return stems
