"""Operators on single numbers: arithmetic, comparison, activations, conversion of types."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

import brim.ops.math as m
import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.tflite.arithmetic import dequantized
from brim.frontends.tflite.operators.activation import activated, activation, clamp
from brim.frontends.tflite.table import Call, Operand, Pair, operator, quantized
from brim.graph import Value, const
from brim.ops.powers import power_of, whole_power
from brim.ops.storage import convert
from brim.types import F32, find_dtype


def _binary(name: str, compute: Callable[..., Value]) -> None:
    @operator(name)
    def row(call: Call) -> Value:
        call.ignore("pot_scale_int16")  # of quantized forms
        return activated(call, compute(call[0], call[1]))


for _name, _compute in {
    "ADD": p.add, "SUB": p.sub, "DIV": p.div,
    "MAXIMUM": p.maximum, "MINIMUM": p.minimum,
    "EQUAL": p.eq, "NOT_EQUAL": p.ne, "LESS": p.lt, "LESS_EQUAL": p.le, "GREATER": p.gt,
    "GREATER_EQUAL": p.ge,
    "LOGICAL_AND": p.bit_and, "LOGICAL_OR": p.bit_or,
    "FLOOR_MOD": p.mod, "ATAN2": p.atan2,
}.items():  # fmt: skip
    _binary(_name, _compute)


@operator("MUL")
def mul(call: Call) -> Operand:
    """a * b, of complex numbers, too."""
    a, b = call.operand(0), call.operand(1)
    if isinstance(a, Pair) and isinstance(b, Pair):
        real = p.sub(p.mul(a.real, b.real), p.mul(a.imaginary, b.imaginary))
        return Pair(real, p.add(p.mul(a.real, b.imaginary), p.mul(a.imaginary, b.real)))
    return activated(call, p.mul(call[0], call[1]))


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


@operator("ADD_N")
def add_n(call: Call) -> Value:
    return reduce(p.add, call.values())


@operator("FLOOR_DIV")
def floor_div(call: Call) -> Value:
    a, b = call[0], call[1]
    if a.dtype.is_float:
        return p.floor(p.div(a, b))
    return p.div(p.sub(a, p.mod(a, b)), b)  # what is left divides without a rest


@operator("POW")
def power(call: Call) -> Value:
    if call[0].dtype.is_float:
        return power_of(call[0], call[1])
    return whole_power(call[0], call.array(1))


@operator("BITWISE_XOR")
@quantized("BITWISE_XOR")
def bitwise_xor(call: Call) -> Value:
    return p.bit_xor(call[0], call[1])


@operator("RIGHT_SHIFT")
@quantized("RIGHT_SHIFT")
def right_shift(call: Call) -> Value:
    x = call[0]
    amount = p.minimum(p.maximum(call[1], 0), x.dtype.bits - 1)  # all bits out: copies of the sign
    return p.shift_right(x, amount)


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


@operator("CAST")
@quantized("CAST")  # the integers themselves
def cast(call: Call) -> Operand:
    """From and to complex numbers by their real part; of integers what fits, as in C."""
    call.ignore("in_data_type", "out_data_type")
    given, result = call.operand(0), call.result()
    x = given.real if isinstance(given, Pair) else call[0]
    if result.dtype is not None:
        return convert(x, result.dtype)
    if isinstance(given, Pair):
        return given
    x = p.cast(x, to=F32)
    return Pair(x, p.broadcast(const(np.zeros((), np.float32)), shape=x.shape))


@operator("BITCAST", moves=True)
def bitcast(call: Call) -> Value:
    """The same bytes as numbers of another type: of k times its width, k of a last axis."""
    x, to = call[0], call.result_dtype()
    wide, narrow = max(x.dtype.bits, to.bits), min(x.dtype.bits, to.bits)
    if wide == narrow:
        return p.bitcast(x, to=to)
    count = wide // narrow
    large, small = (find_dtype(f"u{bits}") for bits in (wide, narrow))
    places = const(np.arange(count, dtype=large.numpy) * large.numpy.type(narrow))
    if to.bits == narrow:
        parts = p.shift_right(p.reshape(p.bitcast(x, to=large), shape=(*x.shape, 1)), places)
        return p.bitcast(p.cast(parts, to=small), to=to)
    if not x.shape or x.shape[-1] != count:
        raise ModelError(f"the last axis of {x.type} does not hold the parts of {to}")
    parts = p.shift_left(p.cast(p.bitcast(x, to=small), to=large), places)
    whole = p.reduce(parts, op="or", axes=(len(x.shape) - 1,))
    return p.bitcast(p.reshape(whole, shape=x.shape[:-1]), to=to)


@operator("DEQUANTIZE", moves=True)
def dequantize(call: Call) -> Value:
    found = call.quantization(0)
    return p.cast(call[0], to=call.result_dtype()) if found is None else dequantized(call[0], found)


@operator("SELECT", "SELECT_V2")
def select(call: Call) -> Value:
    condition, a, b = call[0], call[1], call[2]
    if call.name == "SELECT" and len(condition.shape) == 1 < len(a.shape):  # chooses whole rows
        condition = p.reshape(condition, shape=(*condition.shape, *(1,) * (len(a.shape) - 1)))
    return p.select(condition, a, b)


@operator("NumericVerify")
def numeric_verify(call: Call) -> Value:
    """How far numbers are from those of the float model: what a quantizer's debugger inserts."""
    call.ignore("tolerance", "log_if_failed")  # LiteRT may end the run; who looks decides here
    return p.sub(p.cast(call[0], to=F32), call[1])
