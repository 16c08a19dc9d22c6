"""Sampling of pictures at computed positions: weighted sums of the elements around them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from brim.graph import Value
from brim.ops.primitive import add, bit_and, cast, gather, ge, le, maximum, minimum, mul, reshape
from brim.types import I64

Taps = list[tuple[Value, Value]]  # (index, weight) of every element that takes part, along one axis


def sampled(rows: Value, start: Value, sizes: Sequence[int], axes: list[Taps]) -> Value:
    """Sum over all combinations of taps of weight * rows[start + position], outside counting 0.

    rows[R, C]: pictures flattened; start: where the picture of each sample begins; the taps of each
    axis broadcast with start. Result: start's shape, then C.
    """
    total: Value | None = None
    strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    for choice in np.ndindex(*(len(taps) for taps in axes)):
        position, weight = start, None
        for taps, which, n, stride in zip(axes, choice, sizes, strides):
            index, factor = taps[which]
            inside = bit_and(ge(index, 0), le(index, n - 1))
            factor = mul(factor, cast(inside, to=factor.dtype))
            held = cast(minimum(maximum(index, 0), n - 1), to=I64)
            position = add(position, mul(held, stride))
            weight = factor if weight is None else mul(weight, factor)
        assert weight is not None
        found = gather(rows, position, axis=0)
        part = mul(found, cast(reshape(weight, shape=(*weight.shape, 1)), to=rows.dtype))
        total = part if total is None else add(total, part)
    assert total is not None
    return total
