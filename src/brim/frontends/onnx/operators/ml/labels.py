"""ONNX's ai.onnx.ml operators that translate by a table: labels and categories, numbers and texts.

Numbers are looked up by compiled code, in a table or by a search in the sorted keys; texts on the
host.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import brim.ops.primitive as p
from brim.errors import InputError, ModelError
from brim.frontends.bounds import bounded, kept
from brim.frontends.onnx.operators.ml.predictors import ML
from brim.frontends.onnx.table import Call, NeedsData, operator
from brim.graph import Value, const
from brim.types import F32, F64, I64, STR, DType, Type, dtype_of

_SPARSE = 8  # how many places of a table there may be for each key
_BLOCK = 16  # keys that a search compares at once


def _texts(items: tuple[str, ...]) -> np.ndarray:
    return np.array(items, object)


def translate(
    x: Value, keys: np.ndarray, values: np.ndarray, default: Any, nan_is_key: bool = True
) -> Value:
    """values[i] where x == keys[i], else `default`; of equal keys the last one counts.

    nan_is_key: a key that is NaN matches NaN. Raises NeedsData for texts that are not constant,
    and ModelError where keys and values do not fit together or to x.
    """
    if keys.ndim != 1 or keys.shape != values.shape or not keys.size:
        raise ModelError(f"a table from {keys.shape} keys to {values.shape} values")
    if dtype_of(keys) != x.dtype:
        raise ModelError(f"keys of {dtype_of(keys)} for an input of {x.dtype}")
    if x.dtype is not STR and dtype_of(values) is not STR:
        return _search(x, keys, values, default, nan_is_key)
    if x.data is None:
        raise NeedsData("text")
    entries = dict(zip(keys.tolist(), values.tolist()))
    found = np.empty(x.type.size, values.dtype)
    found[:] = [entries.get(item, default) for item in x.data.ravel().tolist()]
    if nan_is_key and keys.dtype.kind == "f" and np.isnan(keys).any():
        found[np.isnan(x.data.ravel())] = values[np.isnan(keys)][-1]
    return const(found.reshape(x.shape))


def _search(
    x: Value, keys: np.ndarray, values: np.ndarray, default: Any, nan_is_key: bool
) -> Value:
    """`translate` for numbers: by a table over all numbers between the keys, or by a search."""
    empty = const(np.array(default, values.dtype))
    missing = np.isnan(keys) if keys.dtype.kind == "f" else np.zeros(keys.shape, bool)
    found: Value = p.broadcast(empty, shape=x.shape)
    if not missing.all():
        # unique keeps the first of equal keys: of the reversed table that is the last one
        ordered, first = np.unique(keys[~missing][::-1], return_index=True)
        sought = values[~missing][::-1][first]
        span = int(ordered[-1]) - int(ordered[0]) + 1 if x.dtype.is_integer else 0
        if 0 < span <= _SPARSE * len(ordered):
            found = _in_span(x, ordered, sought, span, empty)
        else:
            place = _place(x, ordered)
            hit = p.eq(p.gather(const(ordered), place, axis=0), x)
            found = p.select(hit, p.gather(const(sought), place, axis=0), empty)
    if nan_is_key and missing.any():
        found = p.select(p.is_nan(x), const(values[missing][-1]), found)
    return found


def _in_span(x: Value, ordered: np.ndarray, sought: np.ndarray, span: int, empty: Value) -> Value:
    """The lookup of integers that lie so close together that all between them have a place."""
    assert empty.data is not None
    table = np.full(span, empty.data)
    table[(ordered - ordered[0]).astype(np.int64)] = sought
    inside = p.bit_and(p.ge(x, int(ordered[0])), p.le(x, int(ordered[-1])))
    offset = p.sub(p.cast(x, to=I64), int(ordered[0]))
    offset = p.select(inside, offset, const(np.int64(0)))
    return p.select(inside, p.gather(const(table), offset, axis=0), empty)


def _place(x: Value, ordered: np.ndarray) -> Value:
    """The index (i64) of the last of `ordered` that is not above x, or 0: a tree of blocks."""
    levels = 1
    while _BLOCK**levels < len(ordered):
        levels += 1
    padded = np.pad(ordered, (0, _BLOCK**levels - len(ordered)), mode="edge")
    place: Value = p.broadcast(const(np.int64(0)), shape=x.shape)
    last = len(x.shape)
    column = p.reshape(x, shape=(*x.shape, 1))
    for level in reversed(range(levels)):
        blocks = const(padded[:: _BLOCK**level].reshape(-1, _BLOCK))
        fits = p.le(p.gather(blocks, place, axis=0), column)
        count = p.reduce(p.cast(fits, to=I64), op="add", axes=(last,))
        inside = p.maximum(p.sub(p.reshape(count, shape=x.shape), 1), 0)
        place = p.add(p.mul(place, _BLOCK), inside)
    return p.minimum(place, len(ordered) - 1)


def _like(call: Call, dtype: DType) -> list[Type]:
    """The type of a result with the shape of input 0."""
    x = call[0].type
    return [Type(x.shape if x.is_static else None, dtype)]


def _other_kind(call: Call) -> list[Type]:
    return _like(call, I64 if call[0].dtype is STR else STR)


@operator("LabelEncoder", domain=ML, types=_other_kind)
def label_encoder_1(call: Call) -> Value:
    """Texts to their place among `classes_strings`, or places to texts."""
    names = _texts(call.texts("classes_strings"))
    text, number = call.text("default_string", "_Unused"), call.int("default_int64", -1)
    places = np.arange(len(names))
    if call[0].dtype is STR:
        return translate(call[0], names, places, number)
    return translate(call[0], places, names, text)


@operator(
    "LabelEncoder",
    since=2,
    domain=ML,
    types=lambda call: _like(call, dtype_of(_table(call, "values"))),
)
def label_encoder(call: Call) -> Value:
    """`keys_*` to `values_*`. onnxruntime takes the first of equal keys, the text (4) the last."""
    keys, values = _table(call, "keys"), _table(call, "values")
    defaults = {
        "i": call.int("default_int64", -1),
        "f": call.float("default_float", -0.0),
        "O": call.text("default_string", "_Unused"),
    }
    default: Any = defaults[values.dtype.kind]
    given = call.tensor("default_tensor", None)
    if given is not None:
        if given.size != 1 or given.dtype != values.dtype:
            raise ModelError(f"the default of {values.dtype} is {given.dtype}{given.shape}")
        default = given.item()
    # a NaN among the keys means something since version 4 only
    return translate(call[0], keys, values, default, nan_is_key=call.version >= 4)


def _table(call: Call, side: str) -> np.ndarray:
    """The one of the attributes side_int64s, side_floats, ... that a LabelEncoder has."""
    integers, floats = call.ints(f"{side}_int64s", None), call.floats(f"{side}_floats", None)
    texts, tensor = call.texts(f"{side}_strings", None), call.tensor(f"{side}_tensor", None)
    found = [
        np.array(items, dtype)
        for items, dtype in ((integers, np.int64), (floats, np.float32), (texts, object))
        if items
    ]
    found += [] if tensor is None else [tensor]
    if len(found) != 1 or found[0].dtype.kind not in "ifO":
        raise ModelError(f"LabelEncoder with {len(found)} tables of {side}", hint="it needs one")
    return found[0]


@operator("CategoryMapper", domain=ML, types=_other_kind)
def category_mapper(call: Call) -> Value:
    numbers = np.array(call.ints("cats_int64s"), np.int64)
    names = _texts(call.texts("cats_strings"))
    text, number = call.text("default_string", "_Unused"), call.int("default_int64", -1)
    if call[0].dtype is STR:
        return translate(call[0], names, numbers, number)
    return translate(call[0], numbers, names, text)


def _categories(call: Call) -> tuple:
    """The categories of the kind of input 0: integers or texts."""
    x = call[0]
    numbers, names = call.ints("cats_int64s", ()), call.texts("cats_strings", ())
    found: tuple = names if x.dtype is STR else numbers
    if not found or (numbers and names):
        raise ModelError(
            f"OneHotEncoder of {x.type} has {len(numbers)} integers and {len(names)} texts",
            hint="it needs the categories of the kind of its input, and only those",
        )
    if len(set(found)) != len(found):
        raise ModelError("OneHotEncoder lists a category twice")
    return found


def _one_hot(call: Call) -> list[Type]:
    (x,) = _like(call, F32)
    return [x if x.shape is None else Type((*x.shape, len(_categories(call))), F32)]


@operator("OneHotEncoder", domain=ML, types=_one_hot)
def one_hot_encoder(call: Call) -> Value:
    """[...] -> f32[..., K]: 1 in the column of the category, which is an integer or a text.

    Floats are cut to integers first, as the text says (onnx.reference compares them as they are);
    NaN and infinities are no category.
    """
    x, categories = call[0], _categories(call)
    sizes = bounded((*x.shape, len(categories)))
    if x.is_const and call.scope is not None:  # it will be allocated during import
        kept(*sizes)
    hit = p.eq(p.reshape(_numbered(x, categories), shape=(*x.shape, 1)), _codes(x, categories))
    y = p.cast(hit, to=F32)
    return y if call.flag("zeros", True) else _known(hit, y)


def _numbered(x: Value, categories: tuple) -> Value:
    """x as what `_codes` are compared with: i64, whole f64, or the place of a text among texts."""
    if x.dtype is STR:
        return translate(x, _texts(categories), np.arange(len(categories)), -1)
    return p.trunc(p.cast(x, to=F64)) if x.dtype.is_float else p.cast(x, to=I64)


def _codes(x: Value, categories: tuple) -> Value:
    if x.dtype is STR:
        return const(np.arange(len(categories)))
    if x.dtype.is_integer:
        return const(np.array(categories, np.int64))
    # an integer that no f64 can be must not match its neighbour
    return const(np.array([n if int(float(n)) == n else np.nan for n in categories], np.float64))


def _known(hit: Value, y: Value) -> Value:
    """y, but InputError at run time where an element is of no category."""
    known = p.reduce(hit, op="or", axes=(len(hit.shape) - 1,))
    if known.data is not None and not known.data.all():
        raise InputError(
            "OneHotEncoder met an element that is none of its categories",
            why="its attribute zeros=0 forbids that",
        )
    # Compiled code can refuse one thing, an index out of range: a table of one row, read at 0 or 1.
    index = p.select(known, const(np.int64(0)), const(np.int64(1)))
    return p.mul(y, p.gather(const(np.ones(1, np.float32)), index, axis=0))
