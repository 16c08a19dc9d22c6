"""Another batch for a file that fixes one sample: what a front end does for it.

Inputs take more samples, and targets of reshapes that count one sample count them all. That no
sample sees another is not proved here, but in `brim.passes.batch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from brim.types import Dim, Type


def opened(type: Type) -> Type:
    """An input's type with its first axis open, if that is of one sample."""
    if not type.shape or type.shape[0] != 1:
        return type
    return Type((Dim("batch"), *type.shape[1:]), type.dtype)


def target_for(batch: int | None, shape: Sequence[int], target: Sequence[int]) -> tuple[int, ...]:
    """What a value of `shape` is reshaped to, where the file says `target` of one sample.

    batch: None for what the file says. Samples come first in what is reshaped.
    """
    if batch is None or not shape or not target or shape[0] % batch:
        return tuple(target)
    if -1 in target:
        one = target[0] == 1 and shape[0] == batch
        return (batch, *target[1:]) if one else tuple(target)
    if prod(shape) != batch * prod(target):
        return tuple(target)
    return (target[0] * batch, *target[1:])
