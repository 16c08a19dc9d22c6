"""Pooling: maximum, mean and root of mean squares over windows."""

from __future__ import annotations

import brim.ops.nn as nn
import brim.ops.primitive as p
from brim.frontends.tflite.operators.activation import activated
from brim.frontends.tflite.operators.convolution import padded, windows
from brim.frontends.tflite.table import Call, operator
from brim.graph import Value

_UNCOUNTED = {"counted_low": (0, 0), "counted_high": (0, 0)}  # padding is no part of a mean


def options(call: Call) -> dict[str, tuple[int, ...]]:
    size = (call.int("filter_height"), call.int("filter_width"))
    stride, ones = windows(call, "hw", "stride_"), (1, 1)
    low, high = padded(call, call[0].shape[1:-1], size, stride, ones)
    return {"size": size, "stride": stride, "dilation": ones, "low": low, "high": high}


@operator("MAX_POOL_2D")
def max_pool_2d(call: Call) -> Value:
    return activated(call, nn.max_pool(call[0], **options(call)))


@operator("AVERAGE_POOL_2D")
def average_pool_2d(call: Call) -> Value:
    return activated(call, nn.average_pool(call[0], **options(call), **_UNCOUNTED))


@operator("L2_POOL_2D")
def l2_pool_2d(call: Call) -> Value:
    squares = p.mul(call[0], call[0])
    return activated(call, p.sqrt(nn.average_pool(squares, **options(call), **_UNCOUNTED)))
