"""Arithmetic on single quantized numbers, in integers; what is not here computes in float."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.frontends.bounds import front
from brim.frontends.tflite.arithmetic import (
    Bounds,
    in_float,
    linear,
    quantized_as,
    requantized,
    rescaled,
    same,
)
from brim.frontends.tflite.operators.activation import bounds_of, quantized_bounds
from brim.frontends.tflite.table import TABLE, Call, operator, quantized
from brim.graph import Value, const
from brim.types import F32, I32

BITS = 20  # of the larger factor of a sum, as in XNNPACK


@quantized("ADD")
def add(call: Call) -> Value:
    return _sum(call, 1)


@quantized("SUB")
def sub(call: Call) -> Value:
    return _sum(call, -1)


def _sum(call: Call, sign: int) -> Value:
    """a + sign * b by XNNPACK's fixed point: two factors of one power of two, rounded half up."""
    call.ignore("pot_scale_int16")
    (sa, za), (sb, zb), (sy, zy) = map(linear, (call.tensors[0], call.tensors[1], call.result()))
    bounds, ratios = quantized_bounds(call), (sa / sy, sb / sy)
    shift = BITS + 1 - int(np.frexp(max(ratios))[1])
    a, b = (p.cast(call[i], to=I32) for i in (0, 1))
    if not 12 <= shift <= 30 or call.result_dtype().bits > 8:  # 32 bits would not do
        total = p.add(_real(a, za, sa), _real(b, zb, sign * sb))
        return requantized(total, np.float32(1), call.result(), bounds)
    ma, mb = (round(float(ratio) * 2.0**shift) for ratio in ratios)
    mb *= sign
    half = (1 << (shift - 1)) - ma * za - mb * zb
    total = p.shift_right(p.add(p.add(p.mul(a, ma), p.mul(b, mb)), half), shift)
    return p.cast(q.limited(p.add(total, zy), bounds), to=call.result_dtype())


def _real(x: Value, zero: int, scale: np.float32) -> Value:
    return p.mul(p.cast(p.sub(x, zero), to=F32), scale)


@quantized("MUL")
def mul(call: Call) -> Value:
    (sa, za), (sb, zb) = map(linear, (call.tensors[0], call.tensors[1]))
    a, b = (p.sub(p.cast(x, to=I32), zero) for x, zero in ((call[0], za), (call[1], zb)))
    return requantized(p.mul(a, b), sa * sb, call.result(), quantized_bounds(call))


# ------------------------------------------------------------------ ranges


def _rescaled(call: Call, index: int, bounds: Bounds | None = None) -> Value:
    """Input `index` as integers of the result."""
    return rescaled(call[index], call.tensors[index], call.result(), bounds)


def _range(name: str, activation: str) -> None:
    @quantized(name)
    def row(call: Call) -> Value:
        return _rescaled(call, 0, bounds_of(call, activation))


for _name, _activation in {
    "RELU": "relu", "RELU6": "relu6", "RELU_N1_TO_1": "relu_n1_to_1",
    "RELU_0_TO_1": "relu_0_to_1",
}.items():  # fmt: skip
    _range(_name, _activation)


# ------------------------------------------------------------------ numbers of one scale


@quantized("MAXIMUM")
def maximum(call: Call) -> Value:
    return p.maximum(_rescaled(call, 0), _rescaled(call, 1))


@quantized("MINIMUM")
def minimum(call: Call) -> Value:
    return p.minimum(_rescaled(call, 0), _rescaled(call, 1))


@quantized("CONCATENATION")
def concatenation(call: Call) -> Value:
    bounds = quantized_bounds(call)
    values = [_rescaled(call, i, bounds) for i in range(len(call))]
    return p.concat(*values, axis=front(call.int("axis"), len(values[0].shape)))


# ------------------------------------------------------------------ factors of 8 binary places


@operator("QUANTIZE")
@quantized("QUANTIZE")
def quantize(call: Call) -> Value:
    if call.quantization(0) is None:
        return quantized_as(call[0], call.result())
    (scale, _), (unit, _) = linear(call.tensors[0]), linear(call.result())
    if same(call.tensors[0], call.result()) or not _in_256ths(call, scale / unit):
        return _rescaled(call, 0)
    return _times_256ths(call, lambda _: _256ths(scale / unit))


@quantized("LEAKY_RELU")
def leaky_relu(call: Call) -> Value:
    (scale, _), (unit, _) = linear(call.tensors[0]), linear(call.result())
    ratio, alpha = scale / unit, np.float32(call.float("alpha"))
    if not (_in_256ths(call, ratio) and _in_256ths(call, abs(ratio * alpha))):
        (y,) = in_float(TABLE["LEAKY_RELU"].function, call)
        assert isinstance(y, Value)
        return y
    positive, negative = (const(np.int32(_256ths(r))) for r in (ratio, ratio * alpha))
    return _times_256ths(call, lambda x: p.select(p.ge(x, 0), positive, negative))


def _in_256ths(call: Call, ratio: np.float32) -> bool:
    """Whether XNNPACK computes x * ratio: in 256ths, which is coarse, but what LiteRT gives."""
    kind = call[0].dtype
    return kind == call.result_dtype() and kind.bits == 8 and 2**-8 <= float(ratio) <= 2**7


def _256ths(ratio: np.float32) -> int:
    return round(float(ratio) * 256)


def _times_256ths(call: Call, factor: Callable[[Value], Value | int]) -> Value:
    """x * factor / 256 as the result's integers, halves up."""
    zero, base = linear(call.tensors[0])[1], linear(call.result())[1]
    x = p.sub(p.cast(call[0], to=I32), zero)
    y = p.shift_right(p.add(p.mul(x, factor(x)), 128), 8)
    kind = call.result_dtype()
    return p.cast(q.limited(p.add(y, base), q.limits(kind)), to=kind)
