"""The activation that an operator may end with, and those that are operators."""

from __future__ import annotations

import math

import brim.ops.math as m
import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.frontends.tflite.arithmetic import Bounds, linear
from brim.frontends.tflite.table import Call
from brim.graph import Value

ACTIVATIONS = ("none", "relu", "relu_n1_to_1", "relu6", "tanh", "sign_bit")


RANGES = {
    "none": (-math.inf, math.inf),
    "relu": (0.0, math.inf),
    "relu_n1_to_1": (-1.0, 1.0),
    "relu_0_to_1": (0.0, 1.0),
    "relu6": (0.0, 6.0),
}


def activated(call: Call, y: Value) -> Value:
    """y after the operator's own activation, `fused_activation_function`."""
    return activation(y, call.choice("fused_activation_function", ACTIVATIONS, 0))


def activation(y: Value, name: str) -> Value:
    match name:
        case "relu":
            return m.relu(y)
        case "relu_n1_to_1":
            return clamp(y, -1, 1)
        case "relu6":
            return clamp(y, 0, 6)
        case "tanh":
            return p.tanh(y)
        case "sign_bit":
            return p.cast(p.lt(y, 0), to=y.dtype)
    return y


def clamp(y: Value, low: float, high: float) -> Value:
    return p.minimum(p.maximum(y, low), high)


def quantized_bounds(call: Call) -> Bounds:
    """The operator's own activation as bounds of its quantized result."""
    name = call.choice("fused_activation_function", ACTIVATIONS, 0)
    if name not in RANGES:
        raise call.unsupported(f"activation {name} of quantized numbers")
    return bounds_of(call, name)


def bounds_of(call: Call, name: str) -> Bounds:
    """An activation that is a range of real numbers as a range of the result's integers."""
    scale, zero = linear(call.result())
    least, most = q.limits(call.result_dtype())

    def integer(real: float) -> int:
        quanta = max(min(real / float(scale), 2.0**32), -(2.0**32))
        return max(least, min(most, round(quanta) + zero))

    low, high = RANGES[name]
    return integer(low), integer(high)
