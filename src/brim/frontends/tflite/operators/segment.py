"""Operators on segments: rows combined by the number of the segment that they belong to."""

from __future__ import annotations

import math

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import kept
from brim.frontends.tflite.table import Call, operator
from brim.graph import Value, const
from brim.ops.nn import lowest


@operator("SEGMENT_SUM")
def segment_sum(call: Call) -> Value:
    ids = call.array(1)  # sorted: the last one tells how many segments there are
    count = int(ids[-1]) + 1 if ids.size else 0
    return _combined(call[0], call[1], count, "add")


@operator(
    "UNSORTED_SEGMENT_SUM", "UNSORTED_SEGMENT_PROD", "UNSORTED_SEGMENT_MAX", "UNSORTED_SEGMENT_MIN"
)
def unsorted_segment(call: Call) -> Value:
    op = {"SUM": "add", "PROD": "mul", "MAX": "max", "MIN": "min"}[call.name.rpartition("_")[2]]
    return _combined(call[0], call[1], call.integer(2), op)


def _combined(x: Value, ids: Value, count: int, op: str) -> Value:
    """x[ids.shape.., rest..] as [count, rest..]; rows with negative numbers belong nowhere."""
    rank = len(ids.shape)
    if x.shape[:rank] != ids.shape:
        raise ModelError(f"segments {ids.type} do not fit {x.type}")
    n, rest = math.prod(ids.shape), x.shape[rank:]
    start = const(np.full(kept(count + 1, *rest), _neutral(op, x), x.dtype.numpy))
    ids = p.reshape(ids, shape=(n,))
    place = p.select(p.lt(ids, 0), const(np.array(count, ids.dtype.numpy)), ids)
    y = p.scatter(start, place, p.reshape(x, shape=(n, *rest)), axis=0, op=op)
    return p.slice(y, starts=(0,) * len(y.shape), sizes=(count, *rest), steps=(1,) * len(y.shape))


def _neutral(op: str, x: Value) -> float | int:
    """What a segment without rows holds: finite, as in LiteRT."""
    if op in ("add", "mul"):
        return int(op == "mul")
    if x.dtype.is_float:
        top = float(np.finfo(x.dtype.numpy).max)
        return -top if op == "max" else top
    return lowest(x) if op == "max" else int(np.iinfo(x.dtype.numpy).max)
