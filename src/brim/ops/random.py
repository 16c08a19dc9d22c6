"""Random numbers: the one primitive whose result may differ from run to run.

It gives two distributions; others are arithmetic on them. Seeds and generators are `brim.seeds`.
"""

from __future__ import annotations

import numpy as np

from brim.errors import OpError
from brim.ops.registry import primitive
from brim.seeds import generator
from brim.types import F64, Type


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
