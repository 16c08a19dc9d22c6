"""What a container type holds at run time: lists, optionals and dicts, boxed in numpy arrays.

To users a sequence (`seq.f32`) is a list of arrays, an optional (`opt.f32`) None or its content, a
map (`map.i64.f32`) a dict of plain Python numbers or texts. Inside, where every value is an array,
it is a *box*: an array of no axes whose one element is that object. The operators on containers
are in `brim.ops.containers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from brim.errors import InputError
from brim.types import BOOL, STR, DType

MAPPING_KEYS: dict[str, Any] = {"i64": Integral, "str": str}


def box(content: Any) -> np.ndarray:
    """The array of no axes that holds a list, a dict, None, or the content of an optional."""
    cell = np.empty(1, object)
    cell[0] = content
    return cell.reshape(())


def is_box(array: Any) -> bool:
    """Whether this is a box. A text alone is an array of objects as well, but no box."""
    boxed = isinstance(array, np.ndarray) and array.dtype == object and array.ndim == 0
    return boxed and not isinstance(array.item(), str)


def unbox(array: Any) -> Any:
    """The content of a box; whatever else it is given, as it is."""
    return array.item() if is_box(array) else array


def checked_box(given: Any, dtype: DType, name: str) -> np.ndarray:
    """A box of what a user gave for the container `dtype`, checked and copied.

    A box that holds the right thing is taken as it is. name: what messages call it. Raises
    InputError.
    """
    if is_box(given) and fits(given.item(), dtype):
        return given
    return box(checked(unbox(given), dtype, name))


def checked(given: Any, dtype: DType, name: str) -> Any:
    """A copy of `given`, which must be what `dtype` holds: arrays are never converted silently.

    Plain Python numbers and lists become arrays. Raises InputError.
    """
    kind = dtype.name.partition(".")[0] if dtype.kind == "o" else ""
    match kind:
        case "seq":
            if not isinstance(given, (list, tuple)):
                _refuse(given, dtype, name, "a list of what it holds")
            return [checked(part, dtype.of, f"{name}[{i}]") for i, part in enumerate(given)]
        case "opt":
            return None if given is None else checked(given, dtype.of, name)
        case "map":
            if not isinstance(given, Mapping):
                _refuse(given, dtype, name, "a dict")
            return {
                _key(key, dtype, name): _element(value, dtype.of, f"{name}[{key!r}]")
                for key, value in given.items()
            }
    return _array(given, dtype, name)


def _refuse(given: Any, dtype: DType, name: str, wanted: str) -> Any:
    found = given.dtype if isinstance(given, np.ndarray) else type(given).__name__
    raise InputError(f"{name} is {found}, the model wants {dtype}", hint=f"give {wanted}")


def _array(given: Any, dtype: DType, name: str) -> np.ndarray:
    wanted = dtype.numpy
    if isinstance(given, (np.ndarray, np.generic)):
        is_text = dtype is STR and given.dtype.kind in "OUST"
        if given.dtype != wanted and not is_text:
            _refuse(given, dtype, name, f"an array of numpy.{wanted}")
    elif given is None or isinstance(given, Mapping):
        _refuse(given, dtype, name, "an array")
    try:
        return np.array(given, wanted)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name} is no array of {dtype}", why=str(error)) from None


def _key(key: Any, dtype: DType, name: str) -> int | str:
    kind = dtype.name.split(".")[1]
    if not isinstance(key, MAPPING_KEYS[kind]) or isinstance(key, bool):
        raise InputError(f"{name} has the key {key!r}, the model wants {dtype}")
    return str(key) if kind == "str" else int(key)


def _element(value: Any, dtype: DType, name: str) -> Any:
    """One value of a map: a plain Python number or text, rounded to the element type."""
    if dtype.kind == "o":
        return checked(value, dtype, name)
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    is_bool = isinstance(value, (bool, np.bool_))
    kinds: Any = {"f": Real, "s": str, "b": (bool, np.bool_)}.get(dtype.kind, Integral)
    if not isinstance(value, kinds) or is_bool != (dtype == BOOL):
        _refuse(value, dtype, name, "a plain number or text")
    if dtype == STR:
        return str(value)
    try:
        with np.errstate(over="ignore"):
            return np.asarray(value, dtype.numpy).item()
    except (OverflowError, ValueError) as error:
        raise InputError(f"{name} does not fit {dtype}", why=str(error)) from None


def fits(content: Any, dtype: DType) -> bool:
    """Whether this is just what a container `dtype` (or an array of `dtype`) holds."""
    match dtype.name.partition(".")[0] if dtype.kind == "o" else "":
        case "seq":
            return isinstance(content, list) and all(fits(part, dtype.of) for part in content)
        case "opt":
            return content is None or fits(content, dtype.of)
        case "map":
            keys = MAPPING_KEYS[dtype.name.split(".")[1]]
            inner = dtype.of
            return isinstance(content, dict) and all(
                isinstance(key, keys)
                and (fits(x, inner) if inner.kind == "o" else isinstance(x, (int, float, str)))
                for key, x in content.items()
            )
    return isinstance(content, np.ndarray) and content.dtype == dtype.numpy
