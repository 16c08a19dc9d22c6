"""ONNX's ai.onnx.ml operators that prepare features: scale, normalise, impute, choose, join.

Everything is computed by compiled code; what encodes categories and labels is in
`ml/labels.py`.
"""

from __future__ import annotations

import math

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import kept
from brim.frontends.onnx.operators.ml.predictors import ML
from brim.frontends.onnx.table import Call, operator
from brim.graph import Value, const
from brim.types import F32, Type


def _chosen(call: Call) -> list[Type]:
    x, wanted = call[0].type, call[1].type
    if not (x.is_static and wanted.is_static and x.shape):
        return [Type(None, x.dtype)]
    return [Type((*(x.shape[:-1] or (1,)), wanted.size), x.dtype)]


@operator("ArrayFeatureExtractor", domain=ML, types=_chosen)
def array_feature_extractor(call: Call) -> Value:
    """The elements of the last axis that input 1 names: [..., C] -> [..., K], but [C] -> [1, K]."""
    x, wanted = call[0], call[1]
    if not x.shape:
        raise ModelError("ArrayFeatureExtractor takes no scalars")
    wanted = p.reshape(wanted, shape=(wanted.type.size,))
    x = p.reshape(x, shape=(1, *x.shape)) if len(x.shape) == 1 else x
    return p.gather(x, wanted, axis=len(x.shape) - 1)


@operator("Binarizer", domain=ML)
def binarizer(call: Call) -> Value:
    # NaN is not above any threshold; onnxruntime refuses it, onnx.reference does not.
    x, threshold = call[0], call.float("threshold", 0.0)
    if x.dtype.is_float:
        return p.cast(p.gt(x, threshold), to=x.dtype)
    limits = np.iinfo(x.dtype.numpy)
    limit = math.floor(min(max(threshold, limits.min - 1), limits.max))
    if limit < limits.min:
        return const(np.ones(kept(*x.shape), x.dtype.numpy))
    return p.cast(p.gt(x, limit), to=x.dtype)


@operator("FeatureVectorizer", domain=ML)
def feature_vectorizer(call: Call) -> Value:
    """All inputs side by side as f32, each cut or filled with zeros to its `inputdimensions`."""
    parts = call.values()
    widths = call.ints("inputdimensions", None)
    if widths is not None and (len(widths) != len(parts) or min(widths, default=0) < 0):
        raise ModelError(f"inputdimensions {widths[:8]} for {len(parts)} inputs")
    shaped = []
    for i, x in enumerate(parts):
        if len(x.shape) == 1:  # one row; onnx.reference makes it a column, against the text
            x = p.reshape(x, shape=(1, *x.shape))
        if len(x.shape) != 2:
            raise ModelError(f"FeatureVectorizer takes [N, C], not {x.type}")
        x = p.cast(x, to=F32)
        shaped.append(x if widths is None else _fitted(x, widths[i]))
    return p.concat(*shaped, axis=1)


def _fitted(x: Value, width: int) -> Value:
    rows, given = x.shape
    if width <= given:
        return p.slice(x, starts=(0, 0), sizes=(rows, width), steps=(1, 1))
    kept(rows, width)
    return p.pad(x, low=(0, 0), high=(0, width - given), value=0.0)


@operator("Imputer", domain=ML)
def imputer(call: Call) -> Value:
    x = call[0]
    floats = call.floats("imputed_value_floats", ())
    integers = call.ints("imputed_value_int64s", ())
    missing_float = call.float("replaced_value_float", 0.0)
    missing_integer = call.int("replaced_value_int64", 0)
    given, missing = (floats, missing_float) if x.dtype.is_float else (integers, missing_integer)
    if not given or (floats and integers):
        raise ModelError(
            f"Imputer of {x.type} has {len(floats)} floats and {len(integers)} integers to impute",
            hint="it needs those of the kind of its input, and only those",
        )
    if len(given) not in (1, x.shape[-1] if x.shape else 1):
        raise ModelError(f"Imputer with {len(given)} values for {x.type}")
    values = np.array(given, np.float64 if x.dtype.is_float else np.int64)
    if not x.dtype.is_float:
        limits = np.iinfo(x.dtype.numpy)
        if min(values.min(), missing) < limits.min or max(values.max(), missing) > limits.max:
            raise ModelError(f"Imputer with values that do not fit {x.dtype}")
    hit = p.is_nan(x) if isinstance(missing, float) and math.isnan(missing) else p.eq(x, missing)
    return p.select(hit, const(values.astype(x.dtype.numpy)[: len(given)]), x)


@operator("Scaler", domain=ML)
def scaler(call: Call) -> Value:
    """(x - offset) * scale as f32; both have one number, or one for each element of the last axis.

    onnxruntime wants as many numbers as axis 1 has elements, also where that is not the last.
    """
    x = call[0]
    offset, scale = call.floats("offset", None), call.floats("scale", None)
    if offset is not None and scale is not None and len(offset) != len(scale):
        raise ModelError(f"Scaler with {len(offset)} offsets and {len(scale)} scales")
    y = x if x.dtype.is_float else p.cast(x, to=F32)
    for function, numbers in ((p.sub, offset), (p.mul, scale)):
        if numbers is not None:
            if len(numbers) not in (1, x.shape[-1] if x.shape else 1):
                raise ModelError(f"Scaler with {len(numbers)} numbers for {x.type}")
            flat = numbers if x.shape else numbers[0]
            y = function(y, const(np.array(flat, y.dtype.numpy)))
    return p.cast(y, to=F32)


@operator("Normalizer", domain=ML)
def normalizer(call: Call) -> Value:
    """Each row divided by its norm, as f32; rows whose norm is 0 stay.

    MAX is the greatest |x|, as in onnx.reference and in the libraries that models come from.
    onnxruntime takes the text's max(X) literally, which turns the signs of negative rows; nobody
    reads the same text's sum(X) for L1 in that way.
    """
    x = call[0]
    if len(x.shape) not in (1, 2) or 0 in x.shape[-1:]:
        raise ModelError(f"Normalizer takes [C] or [N, C], not {x.type}")
    axes = (len(x.shape) - 1,)
    y = x if x.dtype.is_float else p.cast(x, to=F32)
    match call.choice("norm", "MAX", ("MAX", "L1", "L2")):
        case "MAX":
            norm = p.reduce(p.absolute(y), op="max", axes=axes)
        case "L1":
            norm = p.reduce(p.absolute(y), op="add", axes=axes)
        case _:
            norm = p.sqrt(p.reduce(p.mul(y, y), op="add", axes=axes))
    one = const(np.ones((), y.dtype.numpy))
    return p.cast(p.div(y, p.select(p.eq(norm, 0), one, norm)), to=F32)
