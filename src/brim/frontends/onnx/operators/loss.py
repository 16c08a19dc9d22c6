"""ONNX losses and the optimiser steps of its training preview."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import brim.ops.math as m
import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import ramp
from brim.frontends.onnx.table import Call, operator, refuse
from brim.graph import Value, const
from brim.types import I64


@operator("NegativeLogLikelihoodLoss")
def negative_log_likelihood(call: Call) -> Value:
    return _loss(call, call[0], call[1], call.get(2))


@operator("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(call: Call) -> tuple[Value, Value]:
    log_probability = m.log_softmax(call[0], axis=1)
    return _loss(call, log_probability, call[1], call.get(2)), log_probability


def _loss(call: Call, x: Value, target: Value, weight: Value | None) -> Value:
    """-weight * x[target] for x[N, C, ...] and target[N, ...], reduced."""
    how = call.choice("reduction", "mean", ("none", "sum", "mean"))
    ignored = call.int("ignore_index", None)
    if len(x.shape) < 2 or target.shape != (x.shape[0], *x.shape[2:]):
        raise ModelError(f"targets {target.type} do not fit {x.type}")
    target = p.cast(target, to=I64)
    counted = None if ignored is None else p.ne(target, ignored)
    if counted is not None:  # an ignored target may be no class at all
        target = p.select(counted, target, const(np.int64(0)))
    classes = const(ramp(x.shape[1]).reshape(1, -1, *(1,) * (len(x.shape) - 2)))
    hit = p.eq(p.reshape(target, shape=(x.shape[0], 1, *x.shape[2:])), classes)
    zero = const(np.zeros((), x.dtype.numpy))
    picked = p.reduce(p.select(hit, x, zero), op="add", axes=(1,))
    loss = p.neg(p.reshape(picked, shape=target.shape))
    factor = None
    if weight is not None:
        factor = p.gather(weight, target, axis=0)
    if factor is not None:
        loss = p.mul(loss, factor)
    if counted is not None:  # chosen, not multiplied by 0: an ignored element may be NaN
        factor = p.cast(counted, to=x.dtype) if factor is None else p.select(counted, factor, zero)
        loss = p.select(counted, loss, zero)
    if how == "none":
        return loss
    axes = tuple(range(len(loss.shape)))
    total = p.reshape(p.reduce(loss, op="add", axes=axes), shape=())
    if how == "sum":
        return total
    if factor is None:
        return p.div(total, max(loss.type.size, 1))
    return p.div(total, p.reshape(p.reduce(factor, op="add", axes=axes), shape=()))


_TRAINING = "ai.onnx.preview.training"


def _groups(call: Call, parts: int) -> list[tuple[Value, ...]]:
    """The inputs behind rate and count: `parts` lists of equal length, regrouped by tensor."""
    rest = call.values()[2:]
    if len(rest) % parts:
        raise ModelError(f"{len(rest)} tensors do not make {parts} equal lists")
    count = len(rest) // parts
    return [tuple(rest[i + j * count] for j in range(parts)) for i in range(count)]


def _columns(rows: Sequence[tuple[Value, ...]]) -> tuple[Value, ...]:
    return tuple(value for column in zip(*rows) for value in column)


@operator("Momentum", domain=_TRAINING)
def momentum(call: Call) -> tuple[Value, ...]:
    rate, count = call[0], call[1]
    alpha, beta = call.float("alpha"), call.float("beta")
    norm, nesterov = call.float("norm_coefficient"), call.text("mode") == "nesterov"
    first = p.eq(count, 0)
    rows = []
    for x, gradient, velocity in _groups(call, 3):
        g = p.add(p.mul(x, norm), gradient)
        factor = p.select(
            first, const(np.array(1, g.dtype.numpy)), const(np.array(beta, g.dtype.numpy))
        )
        velocity = p.add(p.mul(velocity, alpha), p.mul(g, factor))
        step = p.add(g, p.mul(velocity, alpha)) if nesterov else velocity
        rows.append((p.sub(x, p.mul(step, rate)), velocity))
    return _columns(rows)


refuse(
    "Gradient",
    what="a gradient inside a model file",
    why="it names tensors of the graph around it, not inputs",
    hint="export the forward pass, and differentiate brim's graph with brim.passes.autodiff",
    domain=_TRAINING,
)


@operator("Adagrad", domain=_TRAINING)
def adagrad(call: Call) -> tuple[Value, ...]:
    rate, count = call[0], call[1]
    epsilon, norm = call.float("epsilon", 0.0), call.float("norm_coefficient", 0.0)
    decay = call.float("decay_factor", 0.0)
    rate = p.div(rate, p.add(p.mul(p.cast(count, to=rate.dtype), decay), 1.0))
    rows = []
    for x, gradient, squares in _groups(call, 3):
        g = p.add(p.mul(x, norm), gradient)
        squares = p.add(squares, p.mul(g, g))
        rows.append((p.sub(x, p.div(p.mul(g, rate), p.add(p.sqrt(squares), epsilon))), squares))
    return _columns(rows)


@operator("Adam", domain=_TRAINING)
def adam(call: Call) -> tuple[Value, ...]:
    rate, count = call[0], call[1]
    alpha, beta = call.float("alpha", 0.9), call.float("beta", 0.999)
    epsilon, norm = call.float("epsilon", 0.0), call.float("norm_coefficient", 0.0)
    after = call.float("norm_coefficient_post", 0.0)
    steps = p.cast(count, to=rate.dtype)

    def remaining(base: float) -> Value:
        return p.sub(1.0, p.power(const(np.array(base, rate.dtype.numpy)), steps))

    corrected = p.div(p.mul(rate, p.sqrt(remaining(beta))), remaining(alpha))
    rate = p.select(p.gt(count, 0), corrected, rate)
    rows = []
    for x, gradient, mean, square in _groups(call, 4):
        g = p.add(p.mul(x, norm), gradient)
        mean = p.add(p.mul(mean, alpha), p.mul(g, 1 - alpha))
        square = p.add(p.mul(square, beta), p.mul(p.mul(g, g), 1 - beta))
        new = p.sub(x, p.div(p.mul(mean, rate), p.add(p.sqrt(square), epsilon)))
        rows.append((p.mul(new, 1 - after) if after else new, mean, square))
    return _columns(rows)
