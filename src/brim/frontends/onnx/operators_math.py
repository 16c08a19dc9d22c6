"""ONNX operators element by element: arithmetic, comparison, logic, activations, casts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import brim.ops.math as m
import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.onnx.table import Call, NeedsData, operator
from brim.frontends.onnx.tensors import element
from brim.graph import Value, const
from brim.types import BOOL, F32, F64, STR, DType

_BINARY = {
    "Add": p.add, "Sub": p.sub, "Mul": p.mul, "Div": p.div,
    "And": p.bit_and, "Or": p.bit_or, "Xor": p.bit_xor,
    "BitwiseAnd": p.bit_and, "BitwiseOr": p.bit_or, "BitwiseXor": p.bit_xor,
    "Equal": p.eq, "Less": p.lt, "LessOrEqual": p.le, "Greater": p.gt, "GreaterOrEqual": p.ge,
}  # fmt: skip
_UNARY = {
    "Neg": p.neg, "Abs": p.absolute, "Exp": p.exp, "Log": p.log, "Sqrt": p.sqrt, "Tanh": p.tanh,
    "Erf": p.erf, "Sin": p.sin, "Cos": p.cos, "Atan": p.atan, "Not": p.bit_not,
    "BitwiseNot": p.bit_not, "IsNaN": p.is_nan, "Sign": p.sign, "Sigmoid": m.sigmoid,
    "HardSwish": m.hard_swish, "Softplus": m.softplus, "Softsign": m.softsign, "Mish": m.mish,
}  # fmt: skip


@operator(*_BINARY)
def binary(call: Call) -> Value:
    return _BINARY[call.node.op](call[0], call[1])


@operator(*_UNARY)
def unary(call: Call) -> Value:
    return _UNARY[call.node.op](call[0])


def wide(function: Callable[[Value], Value], x: Value) -> Value:
    """`function` of x computed in f32 where x is f16: one rounding at the end, as ONNX does."""
    if x.dtype.is_float and x.dtype.bits == 16:
        return p.cast(function(p.cast(x, to=F32)), to=x.dtype)
    return function(x)


@operator("Relu")
def relu(call: Call) -> Value:
    return m.relu(call[0])


@operator("Floor", "Ceil", "Round")
def rounding(call: Call) -> Value:
    return {"Floor": p.floor, "Ceil": p.ceil, "Round": p.rint}[call.node.op](call[0])


@operator("Reciprocal")
def reciprocal(call: Call) -> Value:
    return p.div(1.0, call[0])


@operator("Pow")
def pow_(call: Call) -> Value:
    x, exponent = call[0], call[1]
    if exponent.is_const and exponent.type.size == 1 and x.dtype.is_float:
        amount = float(exponent.data.reshape(-1)[0])  # type: ignore[union-attr]
        same = len(exponent.shape) <= len(x.shape)
        if same and amount == 2:
            return p.mul(x, x)
        if same and amount == 0.5:
            return p.sqrt(x)
        if same and amount == 1:
            return x
    if x.dtype.is_float and exponent.dtype == x.dtype:
        return p.power(x, exponent)
    # mixed types: in f64, then converted to the type of the base
    return p.cast(p.power(p.cast(x, to=F64), p.cast(exponent, to=F64)), to=x.dtype)


@operator("Mod")
def mod(call: Call) -> Value:
    if call.flag("fmod"):
        return p.fmod(call[0], call[1])
    if call[0].dtype.is_float and call.version < 28:
        raise ModelError("Mod of floats needs fmod=1")
    return p.mod(call[0], call[1])


@operator("BitShift")
def bit_shift(call: Call) -> Value:
    left = call.choice("direction", "", ("LEFT", "RIGHT")) == "LEFT"
    x, amount = call[0], call[1]
    if left or x.dtype.kind == "u":
        return (p.shift_left if left else p.shift_right)(x, amount)
    most = x.dtype.bits - 1  # amounts out of range leave copies of the sign
    inside = p.bit_and(p.ge(amount, 0), p.le(amount, most))
    return p.shift_right(x, p.select(inside, amount, const(np.array(most, x.dtype.numpy))))


@operator("Max", "Min", "Sum", "Mean")
def many(call: Call) -> Value:
    function = {"Max": p.maximum, "Min": p.minimum}.get(call.node.op, p.add)
    first, *rest = call.values()
    for value in rest:
        first = function(first, value)
    return p.mul(first, 1 / (1 + len(rest))) if call.node.op == "Mean" else first


@operator("Clip", since=7)
def clip_attributes(call: Call) -> Value:
    lowest, highest = -3.4028234663852886e38, 3.4028234663852886e38
    return _clip(call[0], call.float("min", lowest), call.float("max", highest))


@operator("Clip", since=11)
def clip(call: Call) -> Value:
    return _clip(call[0], call.get(1), call.get(2))


def _clip(x: Value, low: Value | float | None, high: Value | float | None) -> Value:
    if low is not None:
        x = p.maximum(x, _scalar(low))
    return x if high is None else p.minimum(x, _scalar(high))


def _scalar(x: Value | float) -> Value | float:
    return p.reshape(x, shape=()) if isinstance(x, Value) and x.shape != () else x


@operator("Where")
def where(call: Call) -> Value:
    return p.select(call[0], call[1], call[2])


@operator("IsInf")
def is_inf(call: Call) -> Value:
    negative, positive = call.flag("detect_negative", True), call.flag("detect_positive", True)
    x = call[0]
    if negative and positive:
        return p.is_inf(x)
    if not negative and not positive:
        return p.broadcast(const(np.zeros((), bool)), shape=x.shape)
    return p.bit_and(p.is_inf(x), (p.gt if positive else p.lt)(x, 0))


# ------------------------------------------------------------------ activations with attributes


@operator("LeakyRelu")
def leaky_relu(call: Call) -> Value:
    return m.leaky_relu(call[0], alpha=call.float("alpha", 0.01))


@operator("PRelu")
def prelu(call: Call) -> Value:
    return m.prelu(call[0], call[1])


@operator("Elu")
def elu(call: Call) -> Value:
    return m.elu(call[0], alpha=call.float("alpha", 1.0))


@operator("Selu")
def selu(call: Call) -> Value:
    alpha = call.float("alpha", 1.6732631921768188)
    return m.selu(call[0], alpha=alpha, gamma=call.float("gamma", 1.0507010221481323))


@operator("Celu")
def celu(call: Call) -> Value:
    return m.celu(call[0], alpha=call.float("alpha", 1.0))


@operator("HardSigmoid")
def hard_sigmoid(call: Call) -> Value:
    return m.hard_sigmoid(call[0], alpha=call.float("alpha", 0.2), beta=call.float("beta", 0.5))


@operator("ThresholdedRelu")
def thresholded_relu(call: Call) -> Value:
    return m.thresholded_relu(call[0], alpha=call.float("alpha", 1.0))


@operator("Shrink")
def shrink(call: Call) -> Value:
    x = call[0]
    y = p.cast(x, to=F32) if not x.dtype.is_float else x
    y = m.shrink(y, threshold=call.float("lambd", 0.5), bias=call.float("bias", 0.0))
    return y if y.dtype == x.dtype else p.cast(y, to=x.dtype)


@operator("Swish")
def swish(call: Call) -> Value:
    return m.swish(call[0], alpha=call.float("alpha", 1.0))


@operator("Gelu")
def gelu(call: Call) -> Value:
    approximate = call.choice("approximate", "none", ("none", "tanh")) == "tanh"
    return m.gelu(call[0], approximate=approximate)


# ------------------------------------------------------------------ functions over exp, log, atan


def _odd(x: Value, limit: float, coefficients: tuple[float, ...], far: Value) -> Value:
    """x * (c0 + c1 * x**2 + ...) where |x| < limit, else `far`, which cancels digits near 0."""
    square = p.mul(x, x)
    total: Value = p.add(p.mul(square, coefficients[-1]), coefficients[-2])
    for c in coefficients[-3::-1]:
        total = p.add(p.mul(square, total), c)
    return p.select(p.lt(p.absolute(x), limit), p.mul(x, total), far)


@operator("Sinh", "Cosh")
def sinh_cosh(call: Call) -> Value:
    def formula(x: Value) -> Value:
        a, b = p.exp(p.mul(x, 0.5)), p.exp(p.mul(x, -0.5))
        # half of e**x as a product of roots: e**x itself may overflow where its half does not
        a, b = p.mul(p.mul(a, 0.5), a), p.mul(p.mul(b, 0.5), b)
        if call.node.op == "Cosh":
            return p.add(a, b)
        return _odd(x, 0.25, (1, 1 / 6, 1 / 120, 1 / 5040, 1 / 362880), p.sub(a, b))

    return wide(formula, call[0])


@operator("Tan")
def tan(call: Call) -> Value:
    return wide(lambda x: p.div(p.sin(x), p.cos(x)), call[0])


@operator("Asin", "Acos")
def asin_acos(call: Call) -> Value:
    def formula(x: Value) -> Value:
        other = p.sqrt(p.mul(p.sub(1.0, x), p.add(x, 1.0)))
        return p.atan2(x, other) if call.node.op == "Asin" else p.atan2(other, x)

    return wide(formula, call[0])


def _large(x: Value) -> float:
    """From here on x**2 + 1 is x**2, and further on overflows."""
    return 1e9 if x.dtype.bits < 64 else 1e18


@operator("Asinh")
def asinh(call: Call) -> Value:
    def formula(x: Value) -> Value:
        size = p.absolute(x)
        middle = p.log(p.add(size, p.sqrt(p.add(p.mul(x, x), 1.0))))
        far = p.add(p.log(size), math.log(2))
        y = p.mul(p.sign(x), p.select(p.gt(size, _large(x)), far, middle))
        return _odd(x, 1 / 64, (1, -1 / 6, 3 / 40, -5 / 112, 35 / 1152), y)

    return wide(formula, call[0])


@operator("Acosh")
def acosh(call: Call) -> Value:
    def formula(x: Value) -> Value:
        # the roots one by one: their product would be real below -1
        root = p.mul(p.sqrt(p.sub(x, 1.0)), p.sqrt(p.add(x, 1.0)))
        far = p.add(p.log(x), math.log(2))
        return p.select(p.gt(x, _large(x)), far, p.log(p.add(x, root)))

    return wide(formula, call[0])


@operator("Atanh")
def atanh(call: Call) -> Value:
    def formula(x: Value) -> Value:
        far = p.mul(p.log(p.div(p.add(x, 1.0), p.sub(1.0, x))), 0.5)
        return _odd(x, 1 / 64, (1, 1 / 3, 1 / 5, 1 / 7, 1 / 9), far)

    return wide(formula, call[0])


# ------------------------------------------------------------------ types


@operator("Cast")
def cast(call: Call) -> Value:
    call.ignore("saturate", "round_mode")  # these change float8 only
    return cast_to(call[0], element(call.int("to")))


@operator("CastLike")
def cast_like(call: Call) -> Value:
    call.ignore("saturate", "round_mode")
    return cast_to(call[0], call[1].dtype)


def cast_to(x: Value, to: DType) -> Value:
    """ONNX's Cast: like brim's, plus text where x is constant."""
    if x.dtype == to:
        return x
    if STR not in (x.dtype, to):
        return p.ne(x, 0) if to == BOOL else p.cast(x, to=to)
    if not x.is_const:
        raise NeedsData("text")
    array: np.ndarray = x.data  # type: ignore[assignment]
    if to == STR:
        return const(
            np.array([_number_text(v) for v in array.ravel()], object).reshape(array.shape)
        )
    numbers = [_parse_number(v, to) for v in array.ravel()]
    return const(np.array(numbers, to.numpy).reshape(array.shape))


def _number_text(value: Any) -> str:
    if value.dtype.kind == "f":
        return (
            np.format_float_positional(value, trim="-")
            if np.isfinite(value)
            else ({math.inf: "INF", -math.inf: "-INF"}.get(float(value), "NaN"))
        )
    return str(value)


def _parse_number(text: str, to: DType) -> float | int | bool:
    if to.is_float:
        return float(text)
    whole = int(text) if text.strip().lstrip("+-").isdigit() else int(float(text))
    return bool(whole) if to == BOOL else whole


@operator("BitCast")
def bit_cast(call: Call) -> Value:
    return p.bitcast(call[0], to=element(call.int("to")))
