"""Weights of which a growing share is 0 while they are trained.

Which ones follows from scores and a threshold, and the threshold from the share of scores that are
to lie below. It is found by halving the interval where it may be, once in a step, so that a step
costs one more look at the weights; after HALVINGS steps there is a new mask.
"""

from __future__ import annotations

import numpy as np

from brim.graph import Value
from brim.ops.elementwise import (
    add,
    cast,
    div,
    eq,
    floor,
    gt,
    le,
    maximum,
    minimum,
    mul,
    select,
    sub,
)
from brim.ops.movement import broadcast, concat, reshape, slice
from brim.ops.reduction import reduce
from brim.ops.registry import composite

HALVINGS = 20  # to about a millionth of the scores' range
STATE = 3  # rows: the ends of the interval, and the steps made


def _grad(
    g: Value,
    y: Value,
    w: Value,
    mask: Value,
    state: Value,
    score: Value | None = None,
    **_: float,
) -> list[Value | None]:
    kept = mul(g, _wide(mask, w))
    return [kept, None, None] if score is None else [kept, None, None, mul(g, w)]


@composite(grad=_grad)
def pruned(w, mask, state, score=None, *, share, begin, steps):
    """w[k, o] where the mask of its block of neighbouring outputs is 1, else 0.

    mask: f32[k, o / width] of 0 and 1. score: one for each weight, of w's type, which are added up
    in each block; None: its square. state: f32[3, 1], or f32[3, o / width] where each group of
    columns is pruned by itself. Mask and state become `advanced` in each step of training, by
    score, share, begin and steps. Gradients: of w where it is kept; of a score g * w, so that a
    weight that moves away from 0 gains (Sanh 2020, "Movement pruning", arXiv:2005.07683).
    """
    return mul(w, _wide(mask, w))


def _wide(mask: Value, w: Value) -> Value:
    """A mask of blocks as one of weights."""
    if mask.shape == w.shape:
        return mask
    inputs, groups = mask.shape
    split = (inputs, groups, w.shape[1] // groups)
    return reshape(broadcast(reshape(mask, shape=(inputs, groups, 1)), shape=split), shape=w.shape)


def _blocks(score: Value, mask: Value) -> Value:
    """Sums of scores over blocks, of the mask's shape."""
    if mask.shape == score.shape:
        return score
    inputs, groups = mask.shape
    split = reshape(score, shape=(inputs, groups, score.shape[1] // groups))
    return reshape(reduce(split, op="add", axes=(2,)), shape=mask.shape)


def advanced(
    w: Value,
    mask: Value,
    state: Value,
    score: Value | None = None,
    *,
    share: float,
    begin: int,
    steps: int,
) -> tuple[Value, Value]:
    """The mask and the state of `pruned` after a step of training.

    The share that is pruned grows from 0 after `begin` steps to `share` after `steps` more, fast at
    first: share * (1 - (1 - done)**3). (Zhu 2017, "To prune, or not to prune", arXiv:1710.01878.)
    A mask has that share of zeros, up to one, where scores stand still for HALVINGS steps; where
    they move, as many more or less as have crossed the threshold meanwhile.
    """
    blocks = _blocks(mul(w, w) if score is None else score, mask)
    axes = (0,) if state.shape[1] > 1 else (0, 1)
    count = blocks.type.size // state.shape[1]
    low, high, done = (
        slice(state, starts=(row, 0), sizes=(1, state.shape[1]), steps=(1, 1))
        for row in range(STATE)
    )
    window = mul(floor(div(done, float(HALVINGS))), float(HALVINGS))
    first, last = eq(done, window), eq(done, add(window, float(HALVINGS - 1)))
    least, most = (reduce(blocks, op=op, axes=axes) for op in ("min", "max"))
    low = select(first, sub(least, add(mul(sub(most, least), 1e-3), 1e-30)), low)
    high = select(first, most, high)
    middle = mul(add(low, high), 0.5)
    below = reduce(cast(le(blocks, middle), to=blocks.dtype), op="add", axes=axes)
    fits = le(div(below, float(count)), _share(add(window, float(HALVINGS)), share, begin, steps))
    low, high = select(fits, middle, low), select(fits, high, middle)
    new = select(last, cast(gt(blocks, low), to=mask.dtype), mask)
    return new, concat(low, high, add(done, 1.0), axis=0)


def _share(step: Value, share: float, begin: int, steps: int) -> Value:
    done = minimum(maximum(div(sub(step, float(begin)), float(steps)), 0.0), 1.0)
    left = sub(1.0, done)
    return mul(sub(1.0, mul(mul(left, left), left)), share)


def start(inputs: int, groups: int, by_group: bool) -> tuple[np.ndarray, np.ndarray]:
    """The mask and the state of `pruned` before the first step: all is kept."""
    state = np.zeros((STATE, groups if by_group else 1), np.float32)
    return np.ones((inputs, groups), np.float32), state
