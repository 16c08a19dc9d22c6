"""Sigmoid and tanh of 16-bit fixed-point numbers, digit by digit as gemmlowp computes them.

A number with k integer bits is an integer (here i32, within 16 bits) over 2^(15 - k).
After gemmlowp's fixedpoint.h (Jacob et al., "Quantization and training of neural networks for
efficient integer-arithmetic-only inference", 2018).
"""

from __future__ import annotations

import numpy as np

import brim.ops.primitive as p
from brim.graph import Value, const

MOST = (1 << 15) - 1  # stands for 1 where there are no integer bits
# exp(-2^n), from n = -2 on
POWERS = [float(np.exp(-(2.0**n))) for n in range(-2, 5)]


def _saturated(x: Value) -> Value:
    return p.minimum(p.maximum(x, -MOST - 1), MOST)


def _times(a: Value, b: Value | int) -> Value:
    """The product of fractions, to the nearest, halves away from zero."""
    y = p.mul(a, b)
    nudge = p.select(p.ge(y, 0), const(np.int32(1 << 14)), const(np.int32(1 - (1 << 14))))
    return p.minimum(p.div(p.add(y, nudge), 1 << 15), MOST)


def _divided(x: Value, digits: int) -> Value:
    """x / 2^digits to the nearest, halves away from zero."""
    half = 1 << (digits - 1)
    return p.shift_right(p.sub(p.add(x, half), p.cast(p.lt(x, 0), to=x.dtype)), digits)


def _fraction(x: float) -> int:
    return round(x * (1 << 15))


def _exp(x: Value, bits: int) -> Value:
    """e**x of negative x with `bits` integer bits, as a fraction."""
    quarter = 1 << (13 - bits)
    part = p.sub(p.bit_and(x, quarter - 1), quarter)  # from -1/4 to 0
    y = p.add(_times_two(part, bits), 1 << 12)  # plus 1/8: a Taylor series around -1/8
    square = _times(y, y)
    cube, fourth = _times(square, y), _times(square, square)
    tail = _times(p.add(_divided(fourth, 2), cube), _fraction(1 / 3))
    series = p.add(y, _divided(p.add(tail, square), 1))
    start = _fraction(float(np.exp(-1 / 8)))
    y = _saturated(p.add(_times(series, start), start))
    rest = p.sub(part, x)
    for n, power in enumerate(POWERS[: bits + 2]):
        digit = p.bit_and(rest, quarter << n)
        y = p.select(p.ne(digit, 0), _times(y, _fraction(power)), y)
    return p.select(p.eq(x, 0), const(np.int32(MOST)), y)


def _times_two(x: Value, times: int) -> Value:
    return _saturated(p.mul(x, 1 << times))


def _two_over_one_plus(x: Value) -> Value:
    """2 / (1 + x) with two integer bits, of a fraction x: Newton's method, three steps."""
    half = p.add(x, MOST)
    half = p.div(p.add(half, p.sign(half)), 2)
    y = p.add(_times(half, round(-32 / 17 * (1 << 13))), round(48 / 17 * (1 << 13)))
    for _ in range(3):
        error = p.sub(1 << 13, _times(half, y))
        y = p.add(y, _times_two(_times(y, error), 2))
    return y


def sigmoid(x: Value, bits: int) -> Value:
    """1 / (1 + e**-x) of x (i32) with `bits` integer bits, as a fraction i32."""
    y = _times_two(_two_over_one_plus(_exp(p.neg(p.absolute(x)), bits)), 1)
    y = p.select(p.gt(x, 0), y, p.sub(MOST, y))
    return p.select(p.eq(x, 0), const(np.int32(1 << 14)), y)


def tanh(x: Value, bits: int) -> Value:
    """tanh of x (i32) with `bits` integer bits, as a fraction i32."""
    y = _two_over_one_plus(_exp(p.neg(p.absolute(x)), bits + 1))  # of 2 x
    return p.mul(_times_two(p.sub(y, 1 << 13), 2), p.sign(x))
