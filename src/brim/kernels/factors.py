"""Factors that a sum of products has in common: scales of groups of weights, taken out of the sum.

    sum over (g, k) of x[g, k] * (w[g, k, n] * s[g, n])  =  sum over g of s[g, n] * (sum over k ...)

A product of unpacked weights then multiplies by a scale once for each group, not for each weight.
Sums of floats have no order that is promised, and the numbers are rounded less often.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from brim.kernels.ir import At, Do, Expr, Iota, Kernel, Stage, subexpressions
from brim.types import F32, F64

# Points of the inner sum from which taking the factor out pays.
_LEAST = 8


@dataclass(frozen=True)
class Factored:
    """A stage's value without the factor, the factor, and the innermost axes without it."""

    value: Expr
    factor: Expr
    inner: tuple[str, ...]


def factored(kernel: Kernel, stage: Stage, axes: tuple[str, ...]) -> Factored | None:
    """What can be taken out of a stage's sum, if its loops run over `axes`, innermost last."""
    reduce, value = stage.reduce, stage.value
    if reduce is None or reduce.op != "add" or stage.keep is not None:
        return None
    for rest, factor in _products(value):
        parts = list(subexpressions(factor))
        loads = [part for part in parts if isinstance(part, At)]
        if not loads or any(at.gathers or kernel.buffers[at.buf].role != "const" for at in loads):
            continue
        follows = {a for p in parts if isinstance(p, At | Iota) for a in p.index.strides}
        inner: list[str] = []
        for axis in reversed(axes):
            if axis in follows:
                break
            inner.insert(0, axis)
        points = prod(kernel.sizes[axis] for axis in inner)
        if len(inner) < len(axes) and points >= _LEAST:
            return Factored(rest, factor, tuple(inner))
    return None


def _products(value: Expr) -> Iterator[tuple[Expr, Expr]]:
    """x * (y * z) in floats as (x * y, z), in all orders."""
    match value:
        case Do("mul", (a, b), dtype) if dtype in (F32, F64):
            for x, product in ((a, b), (b, a)):
                match product:
                    case Do("mul", (y, z)):
                        yield Do("mul", (x, y), dtype), z
                        yield Do("mul", (x, z), dtype), y
