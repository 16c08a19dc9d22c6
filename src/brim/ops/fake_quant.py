"""Rounding that training can see: numbers become what integers could stand for, and stay floats.

The derivative of rounding is 0 or nothing at all. What is used instead: a number that is within the
integers' range moves its rounded one by as much (straight through; Bengio 2013, arXiv:1308.3432),
one beyond does not, and a scale has the slope that follows from that (LSQ: Esser 2020,
arXiv:1902.08153). So these gradients are declared here, and are not those of the bodies.
"""

from __future__ import annotations

from brim.graph import Value
from brim.ops.elementwise import (
    bit_and,
    div,
    ge,
    le,
    maximum,
    minimum,
    mul,
    neg,
    rint,
    sub,
    unbroadcast,
    where,
)
from brim.ops.registry import composite


def _fake_quant_grad(
    g: Value, y: Value, x: Value, scale: Value, zero: Value, *, low: int, high: int
) -> list[Value]:
    least, most = _range(zero, low, high)
    units = div(x, scale)
    inside = bit_and(ge(units, least), le(units, most))
    through = where(inside, g)
    # y = scale * integer, and inside the integer moves by as much as x / scale does
    integer = minimum(maximum(rint(units), least), most)
    to_scale = mul(g, sub(integer, where(inside, units)))
    to_zero = neg(mul(sub(g, through), scale))
    return [through, unbroadcast(to_scale, scale.shape), unbroadcast(to_zero, zero.shape)]


def _range(zero: Value, low: int, high: int) -> tuple[Value, Value]:
    """The integers' range as seen from the one that is 0."""
    whole = minimum(maximum(rint(zero), low), high)
    return sub(low, whole), sub(high, whole)


@composite(grad=_fake_quant_grad)
def fake_quant(x, scale, zero, *, low, high):
    """The real numbers nearest to x that integers in [low, high] stand for, by scale and zero.

    scale, zero: floats of x's element type that broadcast to x: one for all, or one a channel. zero
    is rounded and limited to [low, high] itself. It is `dequantize(quantize(x))`, and of NaN it is
    NaN. Gradients: of x straight through, 0 where x is clipped; of scale as LSQ has it, without its
    factor 1 / sqrt(N Q) (see `scaled_gradient`); of zero where x is clipped (LSQ+: Bhalgat 2020,
    arXiv:2004.09576).
    """
    least, most = _range(zero, low, high)
    return mul(minimum(maximum(rint(div(x, scale)), least), most), scale)


@composite(grad=lambda g, y, x, factor: [mul(g, factor), None])
def scaled_gradient(x, factor):
    """x, of which gradients are taken times `factor`, one or one for each element of x; with 0,
    nothing learns by what is computed of it. It is not the slope of its body."""
    return x
