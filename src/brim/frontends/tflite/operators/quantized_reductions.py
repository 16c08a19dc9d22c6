"""Pooling, means and sums of quantized numbers, in integers."""

from __future__ import annotations

import brim.ops.nn as nn
import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.frontends.tflite.arithmetic import linear, same
from brim.frontends.tflite.operators.activation import quantized_bounds
from brim.frontends.tflite.operators.pooling import options
from brim.frontends.tflite.operators.reduction import reduced
from brim.frontends.tflite.table import Call, quantized
from brim.graph import Value
from brim.types import F32, I32


def _of_one_scale(call: Call) -> None:
    if not same(call.tensors[0], call.result()):
        raise call.unsupported("a result of another scale than its input")


@quantized("MAX_POOL_2D")
def max_pool_2d(call: Call) -> Value:
    _of_one_scale(call)
    return q.limited(nn.max_pool(call[0], **options(call)), quantized_bounds(call))


@quantized("AVERAGE_POOL_2D")
def average_pool_2d(call: Call) -> Value:
    """XNNPACK takes no integers here: LiteRT's own kernel rounds half away from zero."""
    _of_one_scale(call)
    y = q.average_pool_i32(call[0], **options(call))
    return p.cast(q.limited(y, quantized_bounds(call)), to=call[0].dtype)


@quantized("MEAN")
def mean(call: Call) -> Value:
    return _summed(call, mean=True)


@quantized("SUM")
def sum_(call: Call) -> Value:
    return _summed(call, mean=False)


def _summed(call: Call, mean: bool) -> Value:
    (scale, zero), (unit, base) = linear(call.tensors[0]), linear(call.result())
    y = reduced(call, lambda x, axes: p.reduce(p.cast(x, to=I32), op="add", axes=axes))
    y = p.cast(y, to=I32)
    terms = call[0].type.size // max(y.type.size, 1)
    total = p.cast(p.sub(y, terms * zero), to=F32)
    real = p.mul(p.div(total, terms) if mean else total, scale / unit)
    # XNNPACK rounds halves to even after the zero point is added
    return q.nearest(p.add(real, float(base)), q.zero_like(call.result_dtype()))
