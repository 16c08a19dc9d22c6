"""ONNX's linear models of ai.onnx.ml: LinearRegressor and LinearClassifier."""

from __future__ import annotations

import brim.ops.math as m
import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.onnx.operators.ml.post_transform import post_transform, transform, two_columns
from brim.frontends.onnx.operators.ml.predictors import (
    ML,
    class_labels,
    features,
    labelled,
    table,
    winner,
)
from brim.frontends.onnx.table import Call, operator
from brim.graph import Value
from brim.types import F32, I64


def _scores(call: Call, x: Value, targets: int | None) -> Value:
    """x[N, C] times the coefficients [T, C], plus the intercepts [T]: [N, T]."""
    coefficients, intercepts = call.floats("coefficients"), call.floats("intercepts", ())
    width = x.shape[1]
    targets = len(coefficients) // max(width, 1) if targets is None else targets
    if targets < 1 or targets * width != len(coefficients):
        raise ModelError(f"{len(coefficients)} coefficients for {targets} targets of {x.type}")
    if intercepts and len(intercepts) != targets:
        # onnxruntime would leave them out without a word
        raise ModelError(f"{len(intercepts)} intercepts for {targets} targets")
    y = m.matmul(x, p.transpose(table(coefficients, x, targets, width), perm=(1, 0)))
    return p.add(y, table(intercepts, x)) if intercepts else y


@operator("LinearRegressor", domain=ML)
def linear_regressor(call: Call) -> Value:
    """f32[N, T]. onnxruntime forgets every post_transform but PROBIT where T is 1; we do not."""
    y = _scores(call, features(call), call.int("targets", 1))
    return p.cast(transform(post_transform(call), y), to=F32)


@operator("LinearClassifier", domain=ML)
def linear_classifier(call: Call) -> tuple[Value, Value]:
    """Labels [N] and scores f32[N, E].

    The label is that of the highest score before the transform: behind it, scores that differ may
    have become equal. Where one row of coefficients separates two classes, these have the scores
    -s and s before the transform, as in onnx.reference; onnxruntime writes 1 - s and s, also
    where s is no probability, and so contradicts its own labels.
    """
    call.ignore("multi_class")  # says how the model was trained
    scores = _scores(call, features(call), None)
    labels, name = class_labels(call), post_transform(call)
    count = scores.shape[1]
    if count > 1:
        if labels and len(labels) < count:
            raise ModelError(f"{len(labels)} labels for {count} scores")
        index = winner(scores)
        return labelled(labels[:count], index), p.cast(transform(name, scores), to=F32)
    if len(labels) not in (0, 2):
        raise call.unsupported(f"one score for {len(labels)} classes", "it separates two")
    index = p.reshape(p.cast(p.gt(scores, 0), to=I64), shape=(scores.shape[0],))
    both = two_columns(call, name, scores) if labels else transform(name, scores)
    return labelled(labels, index), p.cast(both, to=F32)
