"""ONNX operators element by element: arithmetic, comparison, logic, activations, casts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import brim.ops.math as m
import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.onnx.table import Call, NeedsData, operator
from brim.graph import Value, const
from brim.ops.powers import power_of, whole_power
from brim.ops.storage import computable
from brim.types import F32, F64

_BINARY = {
    "Add": p.add, "Sub": p.sub, "Mul": p.mul, "Div": p.div,
    "And": p.bit_and, "Or": p.bit_or, "Xor": p.bit_xor,
    "BitwiseAnd": p.bit_and, "BitwiseOr": p.bit_or, "BitwiseXor": p.bit_xor,
    "Equal": p.eq, "Less": p.lt, "LessOrEqual": p.le, "Greater": p.gt, "GreaterOrEqual": p.ge,
}  # fmt: skip
_UNARY = {
    "Neg": p.neg, "Abs": p.absolute, "Exp": p.exp, "Log": p.log, "Sqrt": p.sqrt, "Tanh": p.tanh,
    "Erf": p.erf, "Sin": p.sin, "Cos": p.cos, "Atan": p.atan, "Not": p.bit_not,
    "BitwiseNot": p.bit_not, "Sign": p.sign, "Sigmoid": m.sigmoid,
    "HardSwish": m.hard_swish, "Softplus": m.softplus, "Softsign": m.softsign, "Mish": m.mish,
}  # fmt: skip

# Several operations each: see `wide`.
_SEVERAL = {"Sigmoid", "HardSwish", "Softplus", "Softsign", "Mish"}


@operator(*_BINARY)
def binary(call: Call) -> Value:
    return _BINARY[call.node.op](call[0], call[1])


@operator(*_UNARY)
def unary(call: Call) -> Value:
    function, x = _UNARY[call.node.op], call[0]
    if call.node.op == "Erf" and x.dtype.is_integer:  # allowed until operator set 13
        return p.cast(function(p.cast(x, to=F64)), to=x.dtype)
    return wide(function, x) if call.node.op in _SEVERAL else function(x)


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
    if x.dtype.is_integer and exponent.dtype.is_integer:
        if exponent.data is None:  # up to 63 squarings in one kernel are no joy to compile
            raise NeedsData("whole exponents")
        return whole_power(x, exponent.data)
    return power_of(x, exponent)


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
    dtype = first.dtype
    if dtype.is_float and dtype.bits == 16 and function is p.add:  # see `wide`
        first, *rest = (p.cast(value, to=F32) for value in (first, *rest))
    for value in rest:
        first = function(first, value)
    if call.node.op == "Mean":
        first = p.div(first, 1 + len(rest))
    return first if first.dtype == dtype else p.cast(first, to=dtype)


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


@operator("Where", storage=True)
def where(call: Call) -> Value:
    return p.select(call[0], call[1], call[2])


@operator("IsNaN", storage=True)
def is_nan(call: Call) -> Value:
    return p.is_nan(computable(call[0]))


@operator("IsInf", storage=True)
def is_inf(call: Call) -> Value:
    negative, positive = call.flag("detect_negative", True), call.flag("detect_positive", True)
    x = computable(call[0])
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
    alpha = call.float("alpha", 1.0)
    return wide(lambda x: m.elu(x, alpha=alpha), call[0])


@operator("Selu")
def selu(call: Call) -> Value:
    alpha, gamma = call.float("alpha", 1.6732631921768188), call.float("gamma", 1.0507010221481323)
    return wide(lambda x: m.selu(x, alpha=alpha, gamma=gamma), call[0])


@operator("Celu")
def celu(call: Call) -> Value:
    alpha = call.float("alpha", 1.0)
    return wide(lambda x: m.celu(x, alpha=alpha), call[0])


@operator("HardSigmoid")
def hard_sigmoid(call: Call) -> Value:
    alpha, beta = call.float("alpha", 0.2), call.float("beta", 0.5)
    return wide(lambda x: m.hard_sigmoid(x, alpha=alpha, beta=beta), call[0])


@operator("ThresholdedRelu")
def thresholded_relu(call: Call) -> Value:
    return m.thresholded_relu(call[0], alpha=call.float("alpha", 1.0))


@operator("Shrink")
def shrink(call: Call) -> Value:
    threshold, bias = call.float("lambd", 0.5), call.float("bias", 0.0)
    x = call[0]
    if x.dtype.is_float:
        return wide(lambda y: m.shrink(y, threshold=threshold, bias=bias), x)
    y = p.cast(x, to=F64)
    above, below = p.gt(y, threshold), p.lt(y, -threshold)
    if bias == int(bias):  # exact, and beyond the type's range it wraps like all integers
        amount = np.array(int(bias) % 2**x.dtype.bits, np.uint64).astype(x.dtype.numpy)
        less, more = p.sub(x, const(amount)), p.add(x, const(amount))
    else:
        less, more = (p.cast(p.add(y, b), to=x.dtype) for b in (-bias, bias))
    return p.select(above, less, p.select(below, more, m.zero(x)))


@operator("Swish")
def swish(call: Call) -> Value:
    alpha = call.float("alpha", 1.0)
    return wide(lambda x: m.swish(x, alpha=alpha), call[0])


@operator("Gelu")
def gelu(call: Call) -> Value:
    approximate = call.choice("approximate", "none", ("none", "tanh")) == "tanh"
    return wide(lambda x: m.gelu(x, approximate=approximate), call[0])


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
