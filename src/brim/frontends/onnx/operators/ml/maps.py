"""ONNX's ai.onnx.ml operators on maps, which are Python dicts and therefore the host's business."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from brim.errors import InputError, ModelError
from brim.frontends.bounds import kept
from brim.frontends.onnx.operators.ml.predictors import ML
from brim.frontends.onnx.table import Call, host
from brim.ops.elementwise import cast_array
from brim.types import F32, I64, STR, DType, Type, find_dtype

_CASTS = {"TO_FLOAT": F32, "TO_INT64": I64, "TO_STRING": STR}


def _map_type(call: Call) -> tuple[str, Type]:
    """Of input 0, which is a map: the name of its keys' type, and the type of one value."""
    dtype = call[0].dtype
    if not dtype.name.startswith("map."):
        raise ModelError(f"{call.node.op} takes a map, not {call[0].type}")
    return dtype.name.split(".")[1], Type((), dtype.of)


def _vocabulary(call: Call) -> tuple[Any, ...]:
    numbers, texts = call.ints("int64_vocabulary", ()), call.texts("string_vocabulary", ())
    if bool(numbers) == bool(texts):
        raise ModelError("DictVectorizer needs one vocabulary")
    return numbers or texts


def _vectorized(call: Call) -> list[Type]:
    (key, value), vocabulary = _map_type(call), _vocabulary(call)
    if (key == "str") != isinstance(vocabulary[0], str):
        raise ModelError(f"DictVectorizer of {call[0].type} with a vocabulary of the other kind")
    return [Type((1, len(vocabulary)), value.dtype)]


@host("DictVectorizer", domain=ML, types=_vectorized)
def dict_vectorizer(call: Call, content: Mapping[Any, Any]) -> np.ndarray:
    """[1, K]: the map's value for each key of the vocabulary, 0 or "" where it has none.

    The text speaks of one axis; onnxruntime and the shapes that exporters declare have two, as
    what follows needs. Keys of the map that are not in the vocabulary are left out, as by both.
    """
    dtype = call.results[0].dtype
    empty: Any = "" if dtype is STR else 0
    return np.array([[content.get(key, empty) for key in _vocabulary(call)]], dtype.numpy)


def _length(call: Call) -> int | None:
    """How many elements CastMap gives; None where the map decides."""
    sparse = call.choice("map_form", "DENSE", ("DENSE", "SPARSE")) == "SPARSE"
    length = call.int("max_map", 1)
    if length < 1:
        raise ModelError(f"CastMap with max_map {length}")
    return kept(length)[0] if sparse else None


def _cast(call: Call) -> list[Type]:
    key, value = _map_type(call)
    length, to = _length(call), _CASTS[call.choice("cast_to", "TO_FLOAT", _CASTS)]
    if key != "i64" or value.dtype not in (F32, STR):
        raise ModelError(f"CastMap of {call[0].type}")
    if length is not None and to is STR:
        raise call.unsupported("TO_STRING of a SPARSE map", "nobody says what fills the gaps")
    return [Type(None if length is None else (1, length), to)]


@host("CastMap", domain=ML, types=_cast)
def cast_map(call: Call, content: Mapping[int, Any]) -> np.ndarray:
    """[1, K]: the values by ascending key, or (SPARSE) each in the place that its key says."""
    length, dtype = _length(call), _CASTS[call.text("cast_to", "TO_FLOAT")]
    keys = sorted(content)
    values = np.empty(len(keys), dtype.numpy)
    values[:] = [_converted(content[key], dtype) for key in keys]
    if length is None:
        return values.reshape(1, -1)
    if keys and not 0 <= keys[0] <= keys[-1] < length:
        # onnxruntime leaves the high ones out
        raise InputError(f"a map with keys from {keys[0]} to {keys[-1]}, not 0 to {length - 1}")
    found = np.zeros((1, length), dtype.numpy)
    found[0, keys] = values
    return found


def _converted(value: float | str, to: DType) -> Any:
    if to is STR:  # numbers with six digits behind the point, as by onnxruntime
        return value if isinstance(value, str) else f"{value:f}"
    try:
        if to is I64 and isinstance(value, str) and value.lstrip("+-").isdecimal():
            return int(value)
        return cast_array(np.array(value, np.float64), to)
    except ValueError:
        raise InputError(f"a text of a map is no number: {str(value)[:40]!r}") from None


def _zipped(call: Call) -> list[Type]:
    kind = "str" if call.texts("classlabels_strings", ()) else "i64"
    return [Type((), find_dtype(f"seq.map.{kind}.f32"))]


@host("ZipMap", domain=ML, types=_zipped)
def zip_map(call: Call, x: np.ndarray) -> list[dict[Any, float]]:
    """A map from label to score for each row of x [N, C], or one for x [C]."""
    numbers, texts = call.ints("classlabels_int64s", ()), call.texts("classlabels_strings", ())
    labels: tuple[Any, ...] = numbers or texts
    if bool(numbers) == bool(texts) or len(set(labels)) != len(labels):
        raise ModelError(f"ZipMap with {len(numbers)} integer and {len(texts)} text labels")
    rows = x.reshape(1, -1) if x.ndim == 1 else x
    if rows.ndim != 2 or rows.shape[1] != len(labels):
        raise ModelError(f"ZipMap with {len(labels)} labels for scores of shape {x.shape}")
    return [dict(zip(labels, row)) for row in rows.tolist()]
