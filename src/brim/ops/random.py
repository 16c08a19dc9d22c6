"""Random numbers: the one primitive whose result may differ from run to run.

It gives two distributions; others are arithmetic on them. Seeds and generators are `brim.seeds`.
"""

from __future__ import annotations

import numpy as np

from brim.errors import OpError
from brim.graph import Value
from brim.ops.math import softmax
from brim.ops.primitive import cast, cumulate, le, mul, reduce, reshape, slice
from brim.ops.registry import primitive
from brim.seeds import generator
from brim.types import F64, I64, Type

DRAWN = 1 << 28  # numbers that one operator may draw: they are 8 bytes each, whatever they become


def _random(*, shape: tuple[int, ...], normal: bool, seed: int | None, stream: str) -> Type:
    if any(n < 0 for n in shape):
        raise OpError(f"shape {shape} is negative")
    return Type(tuple(shape), F64)


def _draw(*, shape: tuple[int, ...], normal: bool, seed: int | None, stream: str) -> np.ndarray:
    source = generator(seed, stream)
    return np.asarray(source.standard_normal(shape) if normal else source.random_sample(shape))


@primitive("host", _random, _draw)
def random(*, shape, normal, seed, stream):
    """Independent f64 numbers: uniform in [0, 1), or of the standard normal distribution.

    seed: 32 bits that decide all numbers; None: new ones at every run, unless the setting `seed`
    fixes them. stream: a name, so that with one seed two places do not draw the same numbers.
    """


def classes(logits: Value, place: Value) -> Value:
    """Classes i64[batch, n] drawn by the softmax of logits f64[batch, kinds].

    place: f64[batch, n], uniform in [0, 1).
    """
    batch, kinds = logits.shape
    edges = cumulate(softmax(logits, axis=1), op="add", axis=1, exclusive=False, reverse=False)
    total = slice(edges, starts=(0, kinds - 1), sizes=(batch, 1), steps=(1, 1))
    place = reshape(mul(place, total), shape=(*place.shape, 1))
    # the class is the number of those that end at or before the place; the last one never does
    passed = cast(le(reshape(edges, shape=(batch, 1, kinds)), place), to=I64)
    return reshape(reduce(passed, op="add", axes=(2,)), shape=place.shape[:-1])
