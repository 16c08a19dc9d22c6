"""Gates and cells of LSTMs in integers: sums and products of 16 bits, limited and rounded."""

from __future__ import annotations

import math

import numpy as np

import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.errors import ModelError
from brim.graph import Value, const
from brim.types import I16, I32, DType

GATE = 2.0**-12  # what 1 stands for in sums before their activation
FRACTION = 2.0**-15  # and in what lies between -1 and 1
GATE_BITS = 3  # integer bits of those sums
LOW, HIGH = q.limits(I16)


def rounded(total: Value, scale: np.ndarray | float, zero: int = 0, dtype: DType = I16) -> Value:
    """Integers times `scale`, to the nearest, limited to a type."""
    zero_value = const(np.array(zero, dtype.numpy))
    return q.requantize(total, const(np.asarray(scale, np.float32)), zero_value)


def added(a: Value, b: Value) -> Value:
    """a + b, limited to 16 bits."""
    total = p.add(p.cast(a, to=I32), p.cast(b, to=I32))
    return p.cast(q.limited(total, (LOW, HIGH)), to=I16)


def multiplied(a: Value, b: Value) -> Value:
    """a * b, exact for 16 bits."""
    return p.mul(p.cast(a, to=I32), p.cast(b, to=I32))


def integer_bits(unit: float) -> int:
    """Of numbers in which 1 stands for `unit`, a power of two. Raises ModelError for others."""
    bits = round(math.log2(unit)) + 15
    if unit != 2.0 ** (bits - 15) or not 0 <= bits <= 5:
        raise ModelError(f"cells have the scale {unit}, no power of two from 2**-15 to 2**-10")
    return bits
