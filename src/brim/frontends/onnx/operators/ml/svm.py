"""ONNX's support vector machines: SVMRegressor and SVMClassifier, with the semantics of libsvm.

Probabilities of several classes are coupled by the method of Wu, Lin and Weng ("Probability
Estimates for Multi-class Classification by Pairwise Coupling", 2004, algorithm 2), with libsvm's
order of updates and its criterion for stopping, because its results are not the fixed point.
"""

from __future__ import annotations

import numpy as np

import brim.ops.math as m
import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import kept
from brim.frontends.onnx.operators.ml.post_transform import post_transform, transform, two_columns
from brim.frontends.onnx.operators.ml.predictors import (
    ML,
    class_labels,
    columns,
    features,
    labelled,
    table,
    winner,
)
from brim.frontends.onnx.table import Call, operator
from brim.graph import Graph, Value, const, placeholder
from brim.ops.control import loop, results_of
from brim.types import BOOL, F32, I64, Type

_CLASSES = 1 << 10  # more would make more than half a million pairs
_ROUNDS = 100  # of the coupling, as in libsvm
_KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")


def _kernel(call: Call, x: Value, vectors: Value) -> Value:
    """The kernel of every row of x [N, C] with every support vector [V, C]: [N, V]."""
    name = call.choice("kernel_type", "LINEAR", _KERNELS)
    parameters = call.floats("kernel_params", ())
    if len(parameters) < 3 and name != "LINEAR":
        raise ModelError(f"kernel {name} with {len(parameters)} parameters, not 3")
    if x.is_const:  # computed during import, or by the interpreter: all differences at once
        kept(x.shape[0], *vectors.shape)
    if name == "RBF":
        # by differences: |x|**2 - 2xv + |v|**2 would cancel where x is near v
        rows = p.reshape(x, shape=(x.shape[0], 1, x.shape[1]))
        apart = p.sub(rows, p.reshape(vectors, shape=(1, *vectors.shape)))
        distance = p.reduce(p.mul(apart, apart), op="add", axes=(2,))
        distance = p.reshape(distance, shape=(x.shape[0], vectors.shape[0]))
        return p.exp(p.mul(distance, -parameters[0]))
    product = m.matmul(x, p.transpose(vectors, perm=(1, 0)))
    if name == "LINEAR":
        return product
    product = p.add(p.mul(product, parameters[0]), parameters[1])
    return p.tanh(product) if name == "SIGMOID" else _power(product, parameters[2])


def _power(x: Value, degree: float) -> Value:
    """x**degree; whole degrees by multiplication, so that x may be negative."""
    if degree != int(degree) or not 0 < degree <= 64:
        return p.power(x, degree)
    result, rest = None, int(degree)
    while rest:
        if rest % 2:
            result = x if result is None else p.mul(result, x)
        rest //= 2
        x = p.mul(x, x) if rest else x
    assert result is not None
    return result


def _vectors(call: Call, x: Value, count: int) -> Value:
    """The support vectors [count, C]."""
    numbers = call.floats("support_vectors", ())
    if count * x.shape[1] != len(numbers):
        raise ModelError(f"{len(numbers)} numbers for {count} support vectors of {x.type}")
    return table(numbers, x, count, x.shape[1])


def _linear(call: Call, x: Value, targets: int) -> Value:
    """What a machine without support vectors computes: x times [targets, C] + rho[0]."""
    call.ignore("kernel_type", "kernel_params", "support_vectors")
    weights, rho = call.floats("coefficients"), call.floats("rho")
    if not rho or targets * x.shape[1] != len(weights):
        raise ModelError(f"{len(weights)} coefficients, {len(rho)} rho: {targets} x {x.type}")
    y = m.matmul(x, p.transpose(table(weights, x, targets, x.shape[1]), perm=(1, 0)))
    return p.add(y, rho[0])


@operator("SVMRegressor", domain=ML)
def svm_regressor(call: Call) -> Value:
    """f32[N, 1]: the score, or for a one-class machine 1 where the score is above 0, else -1.

    onnxruntime ignores post_transform here, the text and this function do not.
    """
    x, count, name = features(call), call.int("n_supports", 0), post_transform(call)
    if count > 0:
        weights, rho = call.floats("coefficients"), call.floats("rho")
        if len(weights) != count or not rho:
            raise ModelError(f"{len(weights)} coefficients, {len(rho)} rho: {count} vectors")
        score = m.matmul(_kernel(call, x, _vectors(call, x, count)), table(weights, x, count, 1))
        score = p.add(score, rho[0])
    else:
        score = _linear(call, x, 1)
    if not call.flag("one_class"):
        return p.cast(transform(name, score), to=F32)
    if name != "NONE":
        raise call.unsupported(f"post_transform {name} of a decision between 1 and -1")
    return p.select(p.gt(score, 0), const(np.float32(1)), const(np.float32(-1)))


@operator("SVMClassifier", domain=ML)
def svm_classifier(call: Call) -> tuple[Value, Value]:
    """Labels [N] and f32 scores: probabilities [N, C], or else one score for each pair of classes.

    The label is that with most votes of the pairs, the first of equal ones, also where there are
    probabilities. Two classes without probabilities have the scores -s and s before the transform,
    as in onnx.reference: onnxruntime forgets some of the transforms there. Without support vectors
    there is one score for each class, the highest wins, and rho[0] belongs to all.
    """
    labels, name, x = class_labels(call), post_transform(call), features(call)
    sizes = call.ints("vectors_per_class", ())
    a, b = call.floats("prob_a", ()), call.floats("prob_b", ())
    if not 2 <= len(labels) <= _CLASSES:
        raise call.unsupported(f"{len(labels)} classes", f"it tells 2 to {_CLASSES} apart")
    if not sum(sizes):
        scores = _linear(call, x, len(labels))
        return labelled(labels, winner(scores)), p.cast(transform(name, scores), to=F32)
    if len(sizes) != len(labels) or min(sizes) < 0:
        raise ModelError(f"{len(sizes)} counts of support vectors for {len(labels)} classes")
    pairs = _pairs(call, x, sizes)
    label = labelled(labels, winner(_votes(pairs, len(sizes))))
    if len(a) != len(b) or len(a) not in (0, pairs.shape[1]):
        raise ModelError(f"{len(a)} prob_a and {len(b)} prob_b for {pairs.shape[1]} pairs")
    if a:
        # 1 - logistic(v), as libsvm computes it, and kept away from 0 and 1
        sure = m.sigmoid(p.neg(p.add(p.mul(pairs, table(a, x)), table(b, x))))
        sure = p.minimum(p.maximum(sure, 1e-7), 1 - 1e-7)
        return label, p.cast(transform(name, _coupled(sure, len(sizes))), to=F32)
    if pairs.shape[1] > 1:
        return label, p.cast(transform(name, pairs), to=F32)
    return label, p.cast(two_columns(call, name, pairs), to=F32)


def _pair_index(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the higher class of each pair, in libsvm's order: 0-1, 0-2, ..., 1-2, ..."""
    lower, higher = np.triu_indices(classes, 1)
    return lower, higher


def _pairs(call: Call, x: Value, sizes: tuple[int, ...]) -> Value:
    """The score of every pair of classes [N, C(C-1)/2]; above 0 it is for the lower class.

    A pair's score sums over the support vectors of both classes; those of class i have one
    coefficient for each other class: row j - 1 for a higher class j, row j for a lower one.
    """
    count, classes = sum(sizes), len(sizes)
    weights, rho = call.floats("coefficients"), call.floats("rho")
    lower, higher = _pair_index(classes)
    if len(weights) != (classes - 1) * count or len(rho) != len(lower):
        raise ModelError(
            f"{len(weights)} coefficients and {len(rho)} rho for {classes} classes, {count} vectors"
        )
    kernel = _kernel(call, x, _vectors(call, x, count))
    matrix = np.array(weights, x.dtype.numpy).reshape(classes - 1, count)
    parts, start = [], 0
    for size in sizes:
        block = p.slice(kernel, starts=(0, start), sizes=(x.shape[0], size), steps=(1, 1))
        parts.append(m.matmul(block, const(matrix[:, start : start + size].T)))
        start += size
    sums = p.concat(*parts, axis=1)  # [N, classes * (classes - 1)], by class, then row
    own = columns(sums, lower * (classes - 1) + higher - 1)
    other = columns(sums, higher * (classes - 1) + lower)
    return p.add(p.add(own, other), table(rho, x))


def _votes(pairs: Value, classes: int) -> Value:
    """How many pairs each class wins: f32[N, C]."""
    lower, higher = _pair_index(classes)
    kept(len(lower), classes)
    places = np.arange(classes)
    first = (lower[:, None] == places).astype(np.float32)
    second = (higher[:, None] == places).astype(np.float32)
    won = p.cast(p.gt(pairs, 0), to=F32)
    lost = p.sub(1, won)
    return p.add(m.matmul(won, const(first)), m.matmul(lost, const(second)))


def _coupled(sure: Value, classes: int) -> Value:
    """Probabilities [N, C] from those of the lower class of each pair [N, C(C-1)/2].

    A loop over rounds and classes that ends when all rows are done; each stays then as it is.
    """
    rows, dtype = sure.shape[0], sure.dtype
    lower, higher = _pair_index(classes)
    pairs = len(lower)
    place = np.full((classes, classes), 2 * pairs)  # the diagonal: a column of zeros
    place[lower, higher], place[higher, lower] = np.arange(pairs), np.arange(pairs) + pairs
    zeros = const(np.zeros((rows, 1), dtype.numpy))
    known = columns(p.concat(sure, p.sub(1, sure), zeros, axis=1), place.reshape(-1))
    r = p.reshape(known, shape=(rows, classes, classes))  # r[i, j] = P(i | i or j)
    turned = p.transpose(r, perm=(0, 2, 1))
    square = p.reduce(p.mul(turned, turned), op="add", axes=(2,))
    eye = const(np.eye(classes, dtype=bool))
    q = p.select(eye, p.broadcast(square, shape=r.shape), p.neg(p.mul(turned, r)))
    state = (
        const(np.full((rows, classes), 1 / classes, dtype.numpy)),
        const(np.zeros((rows, classes), dtype.numpy)),
        const(np.zeros((rows, 1), dtype.numpy)),
        const(np.ones((rows, 1), bool)),
    )
    found = loop(
        const(np.int64(max(_ROUNDS, classes) * classes)),
        const(np.array(True)),
        *state,
        q,
        body=_update(rows, classes, q.type),
        carried=len(state),
        length=0,
    )
    return results_of(found)[0]


def _update(rows: int, classes: int, matrix: Type) -> Graph:
    """The body of the loop: one class's part of a round, for all rows.

    Carries the guess p [N, C], q p [N, C], p q p [N, 1], and which rows [N, 1] are not done; all
    but the guess begin anew with each round.
    """
    trip, condition = placeholder(Type((), I64)), placeholder(Type((), BOOL))
    guess, product = (placeholder(Type((rows, classes), matrix.dtype)) for _ in range(2))
    value, busy = placeholder(Type((rows, 1), matrix.dtype)), placeholder(Type((rows, 1), BOOL))
    q = placeholder(matrix)
    names = {"trip": trip, "condition": condition, "guess": guess, "product": product}
    names |= {"value": value, "busy": busy, "q": q}
    t = p.mod(trip, classes)
    first = p.eq(t, 0)
    fresh = p.contract(q, guess, spec="nij,nj->ni")
    product = p.select(first, fresh, product)
    value = p.select(first, p.reduce(p.mul(guess, fresh), op="add", axes=(1,)), value)
    error = p.reduce(p.absolute(p.sub(product, value)), op="max", axes=(1,))
    busy = p.select(first, p.ge(error, 0.005 / classes), busy)
    row = p.reshape(p.gather(q, t, axis=1), shape=(rows, classes))
    here = p.eq(const(np.arange(classes)), t)
    weight, slope = (
        p.reduce(p.select(here, x, m.zero(x)), op="add", axes=(1,)) for x in (row, product)
    )
    step = p.div(p.sub(value, slope), weight)
    scale = p.add(step, 1)
    value = p.add(value, p.mul(step, p.add(p.mul(step, weight), p.mul(slope, 2))))
    value = p.div(value, p.mul(scale, scale))
    product = p.div(p.add(product, p.mul(step, row)), scale)
    moved = p.div(p.select(here, p.add(guess, step), guess), scale)
    results = {
        "more": p.reshape(p.reduce(busy, op="or", axes=(0, 1)), shape=()),
        "guess": p.select(busy, moved, guess),
        "product": product,
        "value": value,
        "busy": busy,
    }
    return Graph(names, results, "coupling")
