"""ONNX conversions of element types: Cast, CastLike, BitCast. Between any two types, text included.

Numbers are converted by `brim.ops.storage.convert`; what text means is here.
"""

from __future__ import annotations

import math
import re

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.onnx.table import Call, NeedsData, operator
from brim.frontends.onnx.tensors import element
from brim.graph import Value, const
from brim.ops.storage import ROUNDINGS, convert
from brim.types import BOOL, STR, DType

_INTEGER = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf|infinity|nan)", re.I)


@operator("Cast", storage=True)
def cast(call: Call) -> Value:
    return _cast(call, element(call.int("to")))


@operator("CastLike", storage=True)
def cast_like(call: Call) -> Value:
    return _cast(call, call[1].dtype)


def _cast(call: Call, to: DType) -> Value:
    saturate = call.flag("saturate", True)
    rounding = call.choice("round_mode", "up", ROUNDINGS)
    x = call[0]
    if x.dtype == to:
        return x
    if STR not in (x.dtype, to):
        return convert(x, to, saturate, rounding)
    if x.data is None:
        raise NeedsData("text")
    if to == STR:
        return const(_texts(x.data.astype(np.float32) if x.dtype.kind == "n" else x.data))
    if to.is_float or to.kind == "n":
        wide = const(np.array([_real(v) for v in x.data.ravel()], np.float64).reshape(x.shape))
        return convert(wide, to, saturate, rounding)
    return const(_integers(x.data, to))


@operator("BitCast", storage=True)
def bit_cast(call: Call) -> Value:
    x, to = call[0], element(call.int("to"))
    if x.dtype == to:
        return x
    if x.dtype.bits != to.bits or STR in (x.dtype, to):
        raise ModelError(f"the bits of {x.dtype} are not those of {to}")
    for step in (x.dtype.carrier, to.carrier, to):
        x = x if x.dtype == step else p.bitcast(x, to=step)
    return x


# ------------------------------------------------------------------ text


def _texts(numbers: np.ndarray) -> np.ndarray:
    """Plain notation with the fewest digits that tell the number from its neighbours."""
    texts = np.empty(numbers.size, object)
    for i, number in enumerate(numbers.ravel()):
        texts[i] = _real_text(number) if numbers.dtype.kind == "f" else str(number)
    return texts.reshape(numbers.shape)


def _real_text(number: np.floating) -> str:
    if np.isfinite(number):
        return np.format_float_positional(number, trim="-")
    return {math.inf: "INF", -math.inf: "-INF"}.get(float(number), "NaN")


def _real(text: str) -> float:
    plain = text.strip()
    if not _FLOAT.fullmatch(plain):
        raise ModelError(f"{text[:60]!r} is no number")
    return float(plain)


def _integers(texts: np.ndarray, to: DType) -> np.ndarray:
    """Text as integers or bool; "2.7" counts as 2. Raises ModelError for what does not fit."""
    try:
        numbers = [_whole(text) for text in texts.ravel()]
        if to == BOOL:
            numbers = [bool(number) for number in numbers]
        return np.array(numbers, to.numpy).reshape(texts.shape)
    except (OverflowError, ValueError) as error:  # too large, infinite, NaN
        raise ModelError(f"a text is no number of type {to}", why=str(error)) from None


def _whole(text: str) -> int:
    plain = text.strip()
    return int(plain) if _INTEGER.fullmatch(plain) else int(_real(plain))
