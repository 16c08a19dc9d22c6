"""Weights of a few bits as an operator: real = (code - zero) * scale, with a scale for each group.

A constant in this form stays small in memory: `hold` keeps it from being computed before the graph
runs, and the product that reads it unpacks each vector of codes in registers. Which codes are best
for a weight is decided in `brim.compress`.
"""

from __future__ import annotations

import numpy as np

from brim.errors import OpError
from brim.graph import const
from brim.ops.primitive import (
    bit_and,
    bitcast,
    cast,
    div,
    iota,
    mul,
    reshape,
    shift_left,
    slice,
    sub,
)
from brim.ops.registry import composite
from brim.types import I8, U8

CODE_BITS = (4, 8)


@composite()
def unpack(codes, scale, zero, *, axis, bits):
    """(code - zero) * scale, for codes of 4 or 8 bits in groups along `axis`.

    codes[.., n * bits / 8, ..]: of 8 bits i8 or u8; of 4 bits u8, in which each group of s codes
    takes s / 2 bytes, the first half of them as the lower bits, the second half as the upper ones,
    in two's complement: -8 to 7.
    scale, zero: f32[.., groups, ..], other axes as those of codes, or 1. Result f32[.., n, ..] (all
    three f64, too).
    """
    rank = len(codes.shape)
    if bits not in CODE_BITS or not 0 <= axis < rank or len(scale.shape) != rank:
        raise OpError(f"codes {codes.type} of {bits} bits, scales {scale.type} along axis {axis}")
    groups, stored = scale.shape[axis], codes.shape[axis]
    if not groups or stored % groups:
        raise OpError(f"{groups} groups do not divide an axis of {stored} bytes")
    inner = (stored // groups,) if bits == 8 else (1, stored // groups)
    lead, rest = codes.shape[:axis], codes.shape[axis + 1 :]
    numbers = reshape(codes, shape=(*lead, groups, *inner, *rest))
    if bits == 4:
        if codes.dtype != U8:
            raise OpError(f"two codes in a byte are u8, not {codes.dtype}")
        # as the upper bits of i8, so 16 times the code, which a sign extension then unpacks
        up = slice(iota(size=5, dtype=U8), starts=(4,), sizes=(2,), steps=(-4,))  # by 4 and by 0
        up = reshape(up, shape=(2, 1, *(1,) * len(rest)))
        numbers = bitcast(bit_and(shift_left(numbers, up), const(np.uint8(0xF0))), to=I8)
        scale, zero = div(scale, 16.0), mul(zero, 16.0)

    def for_each_code(x):
        ones = (1,) * len(inner)
        return reshape(x, shape=(*x.shape[: axis + 1], *ones, *x.shape[axis + 1 :]))

    real = mul(sub(cast(numbers, to=scale.dtype), for_each_code(zero)), for_each_code(scale))
    return reshape(real, shape=(*lead, stored * 8 // bits, *rest))


def two_in_a_byte(codes: np.ndarray, axis: int) -> np.ndarray:
    """Integers of 4 bits, whole groups of them along `axis`, as `unpack` takes them: u8, half as
    many along that axis."""
    first, second = np.split(codes.astype(np.uint8) & 15, 2, axis)
    return first | second << 4
