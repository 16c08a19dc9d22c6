"""ONNX's tree ensembles of ai.onnx.ml: TreeEnsembleRegressor, TreeEnsembleClassifier, TreeEnsemble.

Their nodes are read in `trees`, walked and added up in `brim.ops.forest`; all of it is compiled.
"""

from __future__ import annotations

import numpy as np

import brim.ops.math as m
import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import bounded
from brim.frontends.onnx.operators.ml.ensembles import build, numbers, read_leaves, read_nodes
from brim.frontends.onnx.operators.ml.post_transform import NAMES, post_transform, transform
from brim.frontends.onnx.operators.ml.predictors import ML, class_labels, features, labelled, winner
from brim.frontends.onnx.table import Call, operator
from brim.graph import Value, const
from brim.ops.forest import Planted, Weights, plant, said, scores
from brim.types import F32, F64, I64

_HOW = {"AVERAGE": "mean", "SUM": "add", "MIN": "min", "MAX": "max"}  # in TreeEnsemble's order


@operator("TreeEnsembleRegressor", domain=ML)
def tree_ensemble_regressor(call: Call) -> Value:
    """f32[N, n_targets].

    Unlike onnxruntime we add all weights that a leaf has for one target (it takes the first where
    n_targets is 1), apply every post_transform (it forgets all but PROBIT there), and add the base
    value to a minimum or maximum of nothing.
    """
    how = _HOW[call.choice("aggregate_function", "SUM", _HOW)]
    targets = _targets(call)
    tests, root, weights = read_nodes(call, "target", targets)
    base = numbers(call, "base_values")
    x = _exact(features(call), tests.value, weights.value, base)
    total = scores(plant(x, build(tests, root, x.dtype.numpy)), weights, how)
    return p.cast(transform(post_transform(call), _with_base(total, base)), to=F32)


@operator("TreeEnsemble", since=5, domain=ML)
def tree_ensemble(call: Call) -> Value:
    """[N, n_targets] of the input's type; f16 is computed in f32."""
    kinds = tuple(_HOW.values())
    how, name = call.int("aggregate_function", 1), call.int("post_transform", 0)
    if not 0 <= how < len(kinds) or not 0 <= name < len(NAMES):
        raise ModelError(f"aggregate_function {how} or post_transform {name} does not exist")
    tests, root, weights = read_leaves(call, _targets(call))
    x = features(call)
    x = _exact(x if x.dtype == F64 else p.cast(x, to=F32), tests.value, weights.value)
    total = scores(plant(x, build(tests, root, x.dtype.numpy)), weights, kinds[how])
    return p.cast(transform(NAMES[name], total), to=call[0].dtype)


@operator("TreeEnsembleClassifier", domain=ML)
def tree_ensemble_classifier(call: Call) -> tuple[Value, Value]:
    """Labels [N] and scores f32[N, E].

    The label is that of the highest score before the transform, among classes with votes.
    """
    labels, name = class_labels(call, "classlabels_int64s"), post_transform(call)
    classes = len(labels)
    if classes < 2:
        raise call.unsupported(
            f"{classes} class labels", "what the label of the other class is, is not defined"
        )
    tests, root, weights = read_nodes(call, "class", classes)
    base = numbers(call, "base_values")
    x = _exact(features(call), tests.value, weights.value, base)
    planted = plant(x, build(tests, root, x.dtype.numpy))
    voted = np.unique(weights.target)
    if classes == 2 and len(voted) == 1:
        index, total = _binary(planted, weights, base, int(voted[0]), name)
        return labelled(labels, index), p.cast(total, to=F32)
    total = _with_base(scores(planted, weights, "add"), base)
    voted_for = None if len(base) else said(planted, weights)
    lowest = const(np.array(-np.inf, x.dtype.numpy))
    rated = total if voted_for is None else p.select(voted_for, total, lowest)
    return labelled(labels, winner(rated)), p.cast(transform(name, total), to=F32)


def _binary(
    planted: Planted, weights: Weights, base: np.ndarray, voted: int, name: str
) -> tuple[Value, Value]:
    """Class indices and scores where the votes for one of two classes are the whole model.

    As exporters and onnxruntime have it: such votes s speak for the second class. Where none is
    negative they are its probability, the scores are 1 - s and s, and it wins beyond 1/2; otherwise
    the scores are -s and s, and it wins beyond 0. As in onnx.reference, LOGISTIC gives it the
    probability sigmoid(s) in any case, with the label that has the higher one, and the other
    transforms are applied to -s and s (onnxruntime leaves those out). Votes that are given under
    the second class leave the first one the score 0.
    """
    if len(base) > 2:
        raise ModelError(f"{len(base)} base values for two classes")
    only = Weights(weights.node, np.zeros_like(weights.target), weights.value, 1)
    score = scores(planted, only, "add")
    if len(base):
        score = p.add(score, float(base[voted if len(base) == 2 else 0]))
    is_share = not (weights.value < 0).any()
    if voted == 1:
        nothing = p.broadcast(m.zero(score), shape=score.shape)
        total = transform(name, p.concat(nothing, score, axis=1))
    elif name != "LOGISTIC" and (is_share or name == "PROBIT"):
        both = p.concat(p.sub(1, score), score, axis=1)
        total = transform(name, both) if name == "PROBIT" else both
    else:
        total = transform(name, p.concat(p.neg(score), score, axis=1))
    limit = 0.5 if is_share and (voted == 1 or name != "LOGISTIC") else 0.0
    wins = p.gt(score, limit)
    return p.cast(p.reshape(wins, shape=(score.shape[0],)), to=I64), total


def _targets(call: Call) -> int:
    targets = call.int("n_targets")
    if targets < 1:
        raise ModelError(f"n_targets is {targets}")
    bounded((call[0].shape[0], targets))
    return targets


def _exact(x: Value, *arrays: np.ndarray) -> Value:
    """x in f64 where it or any number of the model is."""
    return p.cast(x, to=F64) if any(array.dtype == np.float64 for array in arrays) else x


def _with_base(total: Value, base: np.ndarray) -> Value:
    if not len(base):
        return total
    if len(base) != total.shape[1]:
        raise ModelError(f"{len(base)} base values for {total.shape[1]} targets")
    return p.add(total, const(base.astype(total.dtype.numpy)))
