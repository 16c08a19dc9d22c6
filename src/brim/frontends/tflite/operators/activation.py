"""The activation that an operator may end with, and those that are operators."""

from __future__ import annotations

import brim.ops.math as m
import brim.ops.primitive as p
from brim.frontends.tflite.table import Call
from brim.graph import Value

ACTIVATIONS = ("none", "relu", "relu_n1_to_1", "relu6", "tanh", "sign_bit")


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
