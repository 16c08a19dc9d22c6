"""Reductions along axes, and what is found along one: positions, running sums."""

from __future__ import annotations

from collections.abc import Callable

import brim.ops.math as m
import brim.ops.primitive as p
from brim.frontends.bounds import front
from brim.frontends.tflite.table import Call, fronts, operator
from brim.graph import Value


def reduced(call: Call, compute: Callable[..., Value]) -> Value:
    """`compute(x, axes)` without the axes, unless the operator keeps them."""
    x = call[0]
    axes = fronts(call.integers(1), len(x.shape))
    y = compute(x, axes) if axes else x
    if call.flag("keep_dims"):
        return y
    return p.reshape(y, shape=tuple(n for i, n in enumerate(x.shape) if i not in axes))


@operator("MEAN")
def mean(call: Call) -> Value:
    return reduced(call, lambda x, axes: m.reduce_mean(x, axes=axes))


def _reduce(name: str, op: str) -> None:
    @operator(name)
    def row(call: Call) -> Value:
        return reduced(call, lambda x, axes: p.reduce(x, op=op, axes=axes))


for _name, _op in {
    "SUM": "add", "REDUCE_PROD": "mul", "REDUCE_MAX": "max", "REDUCE_MIN": "min",
    "REDUCE_ANY": "or", "REDUCE_ALL": "and",
}.items():  # fmt: skip
    _reduce(_name, _op)


def _arg(name: str, op: str) -> None:
    @operator(name, moves=True)
    def row(call: Call) -> Value:
        call.ignore("output_type")
        x = call[0]
        axis = front(call.integer(1), len(x.shape))
        found = p.cast(p.argreduce(x, op=op, axis=axis, last=False), to=call.result_dtype())
        return p.reshape(found, shape=tuple(n for i, n in enumerate(x.shape) if i != axis))


_arg("ARG_MAX", "max")
_arg("ARG_MIN", "min")


@operator("CUMSUM")
def cumsum(call: Call) -> Value:
    axis = front(call.integer(1), len(call[0].shape))
    exclusive, reverse = call.flag("exclusive"), call.flag("reverse")
    return p.cumulate(call[0], op="add", axis=axis, exclusive=exclusive, reverse=reverse)
