"""Functions of 16-bit numbers by LiteRT's tables, which are coarser than the numbers.

The rows of 8-bit numbers are those of float ones: their tables have an entry for each number.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import brim.ops.primitive as p
from brim.frontends.tflite.arithmetic import in_float, linear
from brim.frontends.tflite.operators import elementwise, fixed_point  # noqa: F401  (float rows)
from brim.frontends.tflite.table import TABLE, Call, Operand, quantized
from brim.graph import Value, const
from brim.types import F64, I16, I32, I64

LOW, HIGH, STEPS = -(1 << 15), (1 << 15) - 1, 512
CURVE = np.rint(65536 / (1 + np.exp(-np.arange(256) / 24)))  # the sigmoid, up to 10.6
TEN = 10 / (HIGH - LOW)  # a unit of a softmax's exponents, which reach from -10 to 0


def _nearest(x: np.ndarray) -> np.ndarray:
    """To whole numbers, halves away from zero."""
    return np.trunc(x + np.copysign(0.5, x)).astype(x.dtype)


def table(
    function: Callable[[np.ndarray], np.ndarray], low: float, high: float, unit: float, kind: type
) -> Value:
    """513 values of a function from `low` to `high`, in units of `unit`, as i32.

    Between two of them LiteRT interpolates; half of the error in the middle is taken off the first.
    """
    step, scale = kind((kind(high) - kind(low)) / STEPS), kind(1 / kind(unit))
    at = kind(low) + np.arange(STEPS + 1).astype(kind) * step
    value, middle = function(at) * scale, _nearest(function(at[:-1] + step / 2) * scale)
    first = _nearest(value[:-1])
    error = _nearest((value[1:] + first) / 2) - middle
    last = _nearest(function(np.array([high], kind)) * scale)
    found = np.concatenate([first - _nearest(error / 2), last])
    return const(np.clip(found, LOW, HIGH).astype(np.int32))


def looked_up(x: Value, values: Value) -> Value:
    """The function of `table` at x, i32 within 16 bits, as i32: upper 9 bits choose, 7 weigh."""
    index = p.add(p.shift_right(x, 7), STEPS // 2)
    base = p.gather(values, index, axis=0)
    rise = p.sub(p.gather(values, p.add(index, 1), axis=0), base)
    rise = p.cast(p.cast(rise, to=I16), to=I32)  # LiteRT keeps 16 bits of it
    return p.add(base, p.shift_right(p.add(p.mul(rise, p.bit_and(x, 127)), 64), 7))


def _clipped(x: Value) -> Value:
    return p.minimum(p.maximum(x, LOW), HIGH)


def _by_table(name: str, function: Callable[[np.ndarray, float], np.ndarray]) -> None:
    plain = TABLE[name].function

    @quantized(name)
    def row(call: Call) -> list[Operand]:
        if call[0].dtype != I16:
            return in_float(plain, call)
        scale, unit = (float(linear(t)[0]) for t in (call.tensors[0], call.result()))
        values = table(lambda x: function(x, unit), scale * LOW, scale * HIGH, unit, np.float32)
        return [p.cast(looked_up(p.cast(call[0], to=I32), values), to=I16)]


def _log(x: np.ndarray, unit: float) -> np.ndarray:
    return np.where(x > 0, np.log(np.maximum(x, 1e-30)), x.dtype.type(LOW * unit))


def _rsqrt(x: np.ndarray, unit: float) -> np.ndarray:
    return np.where(x > 0, 1 / np.sqrt(np.maximum(x, 1e-30)), x.dtype.type(HIGH * unit))


_by_table("EXP", lambda x, unit: np.exp(x))
_by_table("LOG", _log)
_by_table("RSQRT", _rsqrt)


# ------------------------------------------------------------------ the sigmoid's curve


def _on_curve(scale: float, x: Value, bits: int) -> tuple[Value, Value]:
    """x in units of 1 / (3 * 4096), and the sigmoid of |x| (of 2 |x|) with `bits` more bits."""
    factor, shift = scale * 4096 * 3, 0
    while factor <= HIGH / 2 and shift <= 30:
        factor, shift = 2 * factor, shift + 1
    x = p.mul(x, int(factor))
    x = p.shift_right(p.add(x, 1 << (shift - 1)), shift) if shift else x
    size = p.absolute(x)
    index, rest = p.minimum(p.shift_right(size, bits), 254), p.bit_and(size, (1 << bits) - 1)
    curve = const(CURVE.astype(np.int32))
    base = p.gather(curve, index, axis=0)
    rise = p.sub(p.gather(curve, p.add(index, 1), axis=0), base)
    y = p.add(p.mul(base, 1 << bits), p.mul(rest, rise))
    return x, p.select(p.ge(size, 255 << bits), const(np.int32(MOST[bits])), y)


MOST = {9: 0x7FFF << 10, 8: 0xFFFF << 8}


@quantized("LOGISTIC")
def logistic(call: Call) -> list[Operand]:
    if call[0].dtype != I16:
        return in_float(TABLE["LOGISTIC"].function, call)
    x, scale = p.cast(call[0], to=I32), float(linear(call.tensors[0])[0])
    if scale == 2.0**-12:
        return [p.cast(fixed_point.sigmoid(x, 3), to=I16)]
    x, y = _on_curve(scale, x, 9)
    y = p.select(p.ge(x, 0), p.add(y, 1 << 9), p.sub((1 << 25) + (1 << 9) - 1, y))
    return [p.cast(p.shift_right(y, 10), to=I16)]


@quantized("TANH")
def tanh(call: Call) -> list[Operand]:
    if call[0].dtype != I16:
        return in_float(TABLE["TANH"].function, call)
    x, scale = p.cast(call[0], to=I32), float(linear(call.tensors[0])[0])
    if scale in (2.0**-12, 2.0**-11):
        return [p.cast(fixed_point.tanh(_clipped(p.mul(x, int(scale * 4096))), 3), to=I16)]
    x, y = _on_curve(scale, x, 8)
    half = 1 << 23
    y = p.select(p.ge(x, 0), p.add(p.sub(y, half), 128), p.add(p.sub(half, y), 127))
    return [p.cast(p.shift_right(y, 8), to=I16)]


# ------------------------------------------------------------------ softmax


@quantized("SOFTMAX")
def softmax(call: Call) -> list[Operand]:
    if call[0].dtype != I16:
        return in_float(TABLE["SOFTMAX"].function, call)
    axis = len(call[0].shape) - 1
    exponents = table(np.exp, -10, 0, 2 / (HIGH - LOW), np.float64)
    reciprocals = table(lambda x: 1 / (1 + x), 0, 1, 2 / (HIGH - LOW), np.float64)
    x = p.cast(call[0], to=I32)
    below = p.sub(x, p.reduce(x, op="max", axes=(axis,)))
    factor = float(linear(call.tensors[0])[0]) * call.float("beta", 1.0) / TEN
    below = p.rint(p.maximum(p.mul(p.cast(below, to=F64), factor), float(LOW - HIGH)))
    powers = looked_up(_clipped(p.add(p.cast(below, to=I32), HIGH)), exponents)
    total = p.reduce(powers, op="add", axes=(axis,))
    # total = 2^digits * (1 + fraction), with 16 bits of the fraction
    steps = const(np.left_shift(1, np.arange(16, 31)).astype(np.int32))
    digits = p.add(p.reduce(p.cast(p.ge(total, steps), to=I32), op="add", axes=(axis,)), 15)
    wide = p.shift_left(p.cast(total, to=I64), p.cast(p.sub(30, digits), to=I64))
    fraction = p.shift_right(p.add(wide, 1 << 13), 14)
    fraction = p.sub(p.cast(fraction, to=I32), (1 << 15) + (1 << 16))
    scale = looked_up(_clipped(fraction), reciprocals)
    y = p.mul(powers, scale)  # below 2^30
    y = p.add(y, p.shift_left(const(np.int32(1)), p.sub(digits, 1)))
    return [p.cast(p.minimum(p.maximum(p.shift_right(y, digits), 0), HIGH), to=I16)]
