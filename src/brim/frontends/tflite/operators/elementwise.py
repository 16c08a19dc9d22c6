"""Operators on single numbers: arithmetic, comparison, activations, conversion of types."""

from __future__ import annotations

from collections.abc import Callable

import brim.ops.math as m
import brim.ops.primitive as p
from brim.frontends.tflite.arithmetic import dequantized, quantized_as, rescaled
from brim.frontends.tflite.operators.activation import activated, activation, clamp
from brim.frontends.tflite.table import Call, operator
from brim.graph import Value


def _binary(name: str, compute: Callable[..., Value]) -> None:
    @operator(name)
    def row(call: Call) -> Value:
        call.ignore("pot_scale_int16")  # of quantized forms
        return activated(call, compute(call[0], call[1]))


for _name, _compute in {
    "ADD": p.add, "SUB": p.sub, "MUL": p.mul, "DIV": p.div,
    "MAXIMUM": p.maximum, "MINIMUM": p.minimum,
    "EQUAL": p.eq, "NOT_EQUAL": p.ne, "LESS": p.lt, "LESS_EQUAL": p.le, "GREATER": p.gt,
    "GREATER_EQUAL": p.ge,
    "LOGICAL_AND": p.bit_and, "LOGICAL_OR": p.bit_or,
}.items():  # fmt: skip
    _binary(_name, _compute)


def _unary(name: str, compute: Callable[..., Value]) -> None:
    @operator(name)
    def row(call: Call) -> Value:
        return compute(call[0])


for _name, _compute in {
    "ABS": p.absolute, "CEIL": p.ceil, "COS": p.cos, "EXP": p.exp, "FLOOR": p.floor, "LOG": p.log,
    "LOGICAL_NOT": p.bit_not, "NEG": p.neg, "ROUND": p.rint, "SIN": p.sin, "SQRT": p.sqrt,
    "TANH": p.tanh, "SIGN": p.sign,
    "LOGISTIC": m.sigmoid, "HARD_SWISH": m.hard_swish,
    "RSQRT": lambda x: p.div(1, p.sqrt(x)),
    "SQUARE": lambda x: p.mul(x, x),
    "ELU": lambda x: m.elu(x, alpha=1.0),
    "RELU": lambda x: activation(x, "relu"),
    "RELU6": lambda x: activation(x, "relu6"),
    "RELU_N1_TO_1": lambda x: activation(x, "relu_n1_to_1"),
    "RELU_0_TO_1": lambda x: clamp(x, 0, 1),
}.items():  # fmt: skip
    _unary(_name, _compute)


@operator("SQUARED_DIFFERENCE")
def squared_difference(call: Call) -> Value:
    difference = p.sub(call[0], call[1])
    return p.mul(difference, difference)


@operator("PRELU")
def prelu(call: Call) -> Value:
    return m.prelu(call[0], call[1])


@operator("LEAKY_RELU")
def leaky_relu(call: Call) -> Value:
    return m.leaky_relu(call[0], alpha=call.float("alpha"))


@operator("GELU")
def gelu(call: Call) -> Value:
    return m.gelu(call[0], approximate=call.flag("approximate"))


@operator("SOFTMAX")
def softmax(call: Call) -> Value:
    beta = call.float("beta", 1.0)
    x = call[0] if beta == 1 else p.mul(call[0], beta)
    return m.softmax(x, axis=len(x.shape) - 1)


@operator("LOG_SOFTMAX")
def log_softmax(call: Call) -> Value:
    return m.log_softmax(call[0], axis=len(call[0].shape) - 1)


# ------------------------------------------------------------------ types


@operator("CAST", moves=True)
def cast(call: Call) -> Value:
    call.ignore("in_data_type", "out_data_type")
    return p.cast(call[0], to=call.result_dtype())


@operator("DEQUANTIZE", moves=True)
def dequantize(call: Call) -> Value:
    found = call.quantization(0)
    return p.cast(call[0], to=call.result_dtype()) if found is None else dequantized(call[0], found)


@operator("QUANTIZE", moves=True)
def quantize(call: Call) -> Value:
    if call.quantization(0) is None:
        return quantized_as(call[0], call.result())
    return rescaled(call[0], call.tensors[0], call.result())


@operator("SELECT", "SELECT_V2")
def select(call: Call) -> Value:
    condition, a, b = call[0], call[1], call[2]
    if call.name == "SELECT" and len(condition.shape) == 1 < len(a.shape):  # chooses whole rows
        condition = p.reshape(condition, shape=(*condition.shape, *(1,) * (len(a.shape) - 1)))
    return p.select(condition, a, b)
