"""In which interval an expression lies, whatever the data: what needs no check, and no clamp.

Intervals of integers follow from the extents of the axes, from what is known of constants
(`Arg.below`) and from the arithmetic between them. Nothing is said of numbers that might wrap
around. Of floats only the size is followed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from brim.kernels.ir import (
    At,
    Carried,
    Do,
    Expr,
    Guard,
    Index,
    Iota,
    Kernel,
    Num,
    Repeat,
    dtype_of_expr,
)
from brim.types import BOOL, F32, DType

Interval = tuple[int, int]  # the smallest and the largest possible value

# Rounds of a repeat that are followed before its interval counts as unknown.
_ROUNDS = 64


def interval(expr: Expr, kernel: Kernel, carried: Interval | None = None) -> Interval | None:
    """Where the values of an integer expression lie; None: not known.

    carried: where the value so far lies, for an expression inside of a repeat.
    """
    match expr:
        case Num(value, dtype):
            return None if dtype.is_float else (int(value), int(value))
        case Iota(index, dtype):
            return _fitting(_affine(index, kernel), dtype)
        case At(buf):
            arg = kernel.buffers[buf]
            return _all_of(arg.dtype) if arg.below is None else (0, arg.below - 1)
        case Carried():
            return carried
        case Guard(_, value, other):
            return _union(interval(value, kernel, carried), interval(other, kernel, carried))
        case Repeat():
            return _rounds(expr, kernel)[1]
        case Do(op, args, dtype):
            found = _operation(op, [interval(arg, kernel, carried) for arg in args], dtype)
            return _all_of(dtype) if found is None else found
    return None


def magnitude(expr: Expr, kernel: Kernel) -> float | None:
    """Of an f32 expression that is never NaN: a bound of its absolute value, infinity included.
    None: not known."""
    match expr:
        case Num(value, dtype) if dtype == F32:
            return None if math.isnan(value) else abs(value)
        case At(buf):
            arg = kernel.buffers[buf]
            if arg.role != "const" or arg.dtype != F32 or arg.below is None:
                return None
            return arg.below * (1 - 2.0**-24)  # the next smaller number
        case Guard(_, value, other):
            both = magnitude(value, kernel), magnitude(other, kernel)
            return None if None in both else max(both)  # type: ignore[type-var]
        case Do("cast", (number,), dtype) if dtype == F32:
            of = dtype_of_expr(number, kernel)
            if not of.is_integer or of.bits > 32:
                return None
            lies = interval(number, kernel) or _ends(of)
            return float(np.float32(max(abs(end) for end in lies)))
        case Do("div", (dividend, Num(divisor)), dtype) if dtype == F32:
            size = magnitude(dividend, kernel)
            if size is None or size >= _HUGE or not 2.0**-120 < abs(divisor) < 2.0**120:
                return None  # infinity, or the reciprocal of a subnormal number
            return size / abs(divisor) * (1 + 2.0**-20)
        case Do(op, args, dtype) if dtype == F32 and op in _SIZES:
            sizes = [magnitude(arg, kernel) for arg in args]
            if any(size is None or size >= _HUGE for size in sizes):
                return None  # infinity times 0, or less itself, is NaN
            found = _SIZES[op](*sizes)
            return float(np.float32(found)) if found < _HUGE else math.inf
    return None


def clamped(expr: Expr) -> tuple[float, float] | None:
    """Between which numbers a minimum of a maximum (or the other way round) lies if it is no NaN;
    None: the expression is no such thing."""
    match expr:
        case Do("minimum", (Do("maximum", (_, Num(low))), Num(high))):
            return min(low, high), high
        case Do("maximum", (Do("minimum", (_, Num(high))), Num(low))):
            return low, max(low, high)
    return None


def carried_interval(repeat: Repeat, kernel: Kernel) -> Interval | None:
    """Where the value so far lies in all rounds of a repeat; None: not known."""
    return _rounds(repeat, kernel)[0]


def _rounds(repeat: Repeat, kernel: Kernel) -> tuple[Interval | None, Interval | None]:
    """Where the value so far lies at the start of all rounds, and at the end of the last."""
    now = interval(repeat.start, kernel)
    during = now
    for number in range(repeat.times):
        during = _union(during, now)
        after = interval(repeat.step, kernel, now)
        if after is None or after == now:
            return (None if after is None else during), after
        if number == _ROUNDS:
            return None, None
        now = after
    return during, now


def _operation(op: str, args: list[Interval | None], dtype: DType) -> Interval | None:
    if dtype == BOOL:
        return 0, 1
    if op == "select":
        return _union(args[1], args[2])
    rule = _RULES.get(op)
    if rule is None or dtype.is_float or any(arg is None for arg in args):
        return None
    return _fitting(rule(*args), dtype)


def _products(x: Interval, y: Interval) -> Interval:
    corners = [a * b for a in x for b in y]
    return min(corners), max(corners)


_RULES: dict[str, Callable[..., Interval]] = {
    "cast": lambda x: x,
    "add": lambda x, y: (x[0] + y[0], x[1] + y[1]),
    "sub": lambda x, y: (x[0] - y[1], x[1] - y[0]),
    "mul": _products,
    "maximum": lambda x, y: (max(x[0], y[0]), max(x[1], y[1])),
    "minimum": lambda x, y: (min(x[0], y[0]), min(x[1], y[1])),
}


def _affine(index: Index, kernel: Kernel) -> Interval | None:
    low = high = index.offset
    for term in index.terms:
        if term.block:
            return None
        reach = term.stride * max(kernel.sizes[term.axis] - 1, 0)
        low, high = low + min(reach, 0), high + max(reach, 0)
    return low, high


def _union(x: Interval | None, y: Interval | None) -> Interval | None:
    return None if x is None or y is None else (min(x[0], y[0]), max(x[1], y[1]))


# Floats below this are not infinite, nor are sums of two of them.
_HUGE = 2.0**126

_SIZES: dict[str, Callable[..., float]] = {
    "add": lambda x, y: (x + y) * (1 + 2.0**-50),  # it is rounded twice
    "sub": lambda x, y: (x + y) * (1 + 2.0**-50),
    "mul": lambda x, y: x * y,
    "maximum": max,
    "minimum": max,
    "neg": lambda x: x,
    "absolute": lambda x: x,
}


def _ends(dtype: DType) -> Interval:
    low = -(1 << dtype.bits - 1) if dtype.kind == "i" else 0
    return low, low + (1 << dtype.bits) - 1


def _all_of(dtype: DType) -> Interval | None:
    """All values of a short integer type."""
    if dtype == BOOL:
        return 0, 1
    return _ends(dtype) if dtype.is_integer and dtype.bits <= 16 else None


def _fitting(found: Interval | None, dtype: DType) -> Interval | None:
    """The interval, if all of it is representable: then nothing wrapped around."""
    if found is None or not dtype.is_integer:
        return None
    low, high = _ends(dtype)
    return found if low <= found[0] and found[1] <= high else None
