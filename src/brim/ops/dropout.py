"""Random numbers that are a function of a key, so that a run can be repeated; and dropout.

Nothing is remembered between two numbers: number i of a stream is a hash of i, of the stream and of
the key. (Salmon 2011, "Parallel random numbers: as easy as 1, 2, 3": Threefry-2x32, additions,
rotations and exclusive ors of 32 bits, of the 13 rounds that pass all tests of BigCrush; so much
still is one kernel.) What is random in model files is
`brim.ops.random`.
"""

from __future__ import annotations

import numpy as np

from brim.errors import OpError
from brim.graph import Value, const
from brim.ops.elementwise import add, bit_or, bit_xor, ge, mul, select, shift_left, shift_right
from brim.ops.math import zero
from brim.ops.movement import reshape, slice
from brim.ops.primitive import iota
from brim.ops.registry import composite
from brim.types import U32, Type

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
ROUNDS = 13
PARITY = 0x1BD11BDA  # so that a key of zeros does not give three zeros
KEY = Type((2,), U32)


def _u32(number: int) -> Value:
    return const(np.array(number, np.uint32))


def _word(key: Value, index: int) -> Value:
    return slice(key, starts=(index,), sizes=(1,), steps=(1,))


@composite()
def random_bits(key, *, size, stream):
    """u32[size] of random bits, a function of key u32[2], `stream` and the place alone."""
    if key.type != KEY:
        raise OpError(f"a key is {KEY}, not {key.type}")
    a, b = _word(key, 0), _word(key, 1)
    keys = (a, b, bit_xor(bit_xor(a, b), _u32(PARITY)))
    x, y = add(iota(size=size, dtype=U32), a), add(b, _u32(stream))
    for i in range(ROUNDS):
        turn = ROTATIONS[i % 8]
        x = add(x, y)
        y = bit_or(shift_left(y, _u32(turn)), shift_right(y, _u32(32 - turn)))
        y = bit_xor(y, x)
        if i % 4 == 3:
            x = add(x, keys[(i // 4 + 1) % 3])
            y = add(y, add(keys[(i // 4 + 2) % 3], _u32(i // 4 + 1)))
    return x


@composite()
def dropout(x, *, rate):
    """x: what drops a share `rate` of its elements in training keeps them all in evaluation."""
    if not 0 <= rate < 1:
        raise OpError(f"rate={rate} is no share of elements that may be dropped")
    return mul(x, 1)


def dropped(x: Value, key: Value, *, rate: float, stream: int) -> Value:
    """Dropout in training: each element is 0 with probability `rate`, else divided by 1 - rate.

    (Srivastava 2014, "Dropout: a simple way to prevent neural networks from overfitting".)
    """
    bits = reshape(random_bits(key, size=x.type.size, stream=stream), shape=x.shape)
    kept = ge(bits, _u32(round(rate * 2**32)))
    return select(kept, mul(x, 1 / (1 - rate)), zero(x))
