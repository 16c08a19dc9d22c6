"""What classifiers and regressors of ai.onnx.ml do with their scores, as functions on values.

`transform` is the attribute post_transform, row by row of scores [N, C]; `two_columns` is what a
model of two classes makes of its only column. Which label wins is not here.
"""

from __future__ import annotations

import numpy as np

import brim.ops.math as m
import brim.ops.primitive as p
from brim.frontends.onnx.table import Call
from brim.graph import Value, const
from brim.types import F64

NAMES = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def post_transform(call: Call) -> str:
    """The attribute post_transform of a node. Raises UnsupportedError for names not in NAMES."""
    return call.choice("post_transform", "NONE", NAMES)


def transform(name: str, scores: Value) -> Value:
    """The transform `name` (one of NAMES) of scores [N, C], along C; f32 or f64 as given."""
    match name:
        case "SOFTMAX":
            return m.softmax(scores, axis=1)
        case "SOFTMAX_ZERO":
            return softmax_zero(scores)
        case "LOGISTIC":
            return m.sigmoid(scores)
        case "PROBIT":
            return probit(scores)
    return scores


def two_columns(call: Call, name: str, score: Value) -> Value:
    """Scores -s and s of two classes [N, 2], transformed; s [N, 1] speaks for the second one.

    Raises UnsupportedError for PROBIT, which has no meaning for -s: onnx.reference leaves that
    column out, and onnxruntime leaves in it what happened to be in memory.
    """
    if name == "PROBIT":
        raise call.unsupported("PROBIT of one score for two classes", "nobody defines the other")
    return transform(name, p.concat(p.neg(score), score, axis=1))


def softmax_zero(scores: Value) -> Value:
    """Softmax [N, C] over those scores that are not 0 (within 1e-7); zeros stay zeros.

    A row of zeros has no sum to be divided by: it becomes 1/2 everywhere, as in onnx.reference
    (onnxruntime gives NaN).
    """
    top = p.reduce(scores, op="max", axes=(1,))
    counted = p.gt(p.absolute(scores), 1e-7)
    half = const(np.array(0.5, scores.dtype.numpy))
    e = p.exp(p.sub(scores, top))
    total = p.reduce(p.select(counted, e, m.zero(scores)), op="add", axes=(1,))
    share = p.div(p.select(counted, e, m.zero(scores)), total)
    return p.select(p.eq(total, 0), p.broadcast(half, shape=scores.shape), share)


def probit(x: Value) -> Value:
    """The quantile x of the normal distribution, by Winitzki's formula (a = 0.147), error 3e-3.

    Both onnx.reference and onnxruntime use this approximation, so its error is part of the
    operator. It is computed in f64: in f32 its difference of almost equal numbers near x = 1/2
    would leave no digit.
    """
    centred = p.sub(p.mul(p.cast(x, to=F64), 2), 1)
    log = p.log(p.mul(p.sub(1, centred), p.add(centred, 1)))
    half = p.add(p.mul(log, 0.5), 2 / (3.14159 * 0.147))
    square = p.sub(p.sqrt(p.sub(p.mul(half, half), p.mul(log, 1 / 0.147))), half)
    return p.cast(p.mul(p.mul(p.sign(centred), p.sqrt(square)), 2**0.5), to=x.dtype)
