"""What a model file may ask for: sizes, axes, work. All front ends hold to these bounds.

Against files that are small and unfold to endless work or memory; and how what is not supported is
told, all at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from brim.errors import ModelError, UnsupportedError
from brim.graph import Value

LARGEST = 1 << 31  # elements that one value may have
KEPT = 1 << 25  # elements of a constant that a row makes: it is allocated during import
NODES = 300_000  # operators that one import may visit: unrolled loops, sub-graphs, functions
CALLS = 64  # how deep functions, branches and sub-graphs may nest


@dataclass
class Budget:
    """What one import may still spend."""

    nodes: int
    bytes: int

    @classmethod
    def of(cls, size: int) -> Budget:
        """For a model of `size` bytes."""
        return cls(NODES, (2 << 30) + 24 * size)

    def node(self) -> None:
        self.nodes -= 1
        if self.nodes < 0:
            raise ModelError(f"the model unfolds to more than {NODES} operators")

    def constant(self, value: Value) -> None:
        if value.data is not None and value.data.dtype != object:
            self.bytes -= value.data.nbytes
            if self.bytes < 0:
                raise ModelError("the model's constants unfold to absurd sizes")


def reason_of(error: UnsupportedError) -> str:
    """What could not be converted, and why, as a part of `all_reasons`."""
    reason = f"{error.what} ({error.why})" if error.why else error.what
    return f"{reason}, {error.hint}" if error.hint else reason


def all_reasons(reasons: list[str], where: str) -> UnsupportedError:
    """One error that names everything that cannot be converted."""
    distinct = sorted(set(reasons))
    shown = distinct[:50] + ([f"and {len(distinct) - 50} more"] if len(distinct) > 50 else [])
    things = f"{len(distinct)} things are" if len(distinct) > 1 else "1 thing is"
    return UnsupportedError(f"{things} not supported: {'; '.join(shown)}", where=where)


def front(axis: int, rank: int) -> int:
    """A possibly negative axis counted from the front. Raises ModelError."""
    if not -rank <= axis < rank:
        raise ModelError(f"axis {axis} does not fit rank {rank}")
    return axis + rank if axis < 0 else axis


def bounded(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape that may be allocated. Raises ModelError for negative and absurd sizes."""
    shape = tuple(int(n) for n in shape)
    if any(n < 0 for n in shape) or math.prod(shape) > LARGEST:
        raise ModelError(
            f"a value of shape {shape} is refused", why=f"more than {LARGEST} elements"
        )
    return shape


def kept(*shape: int) -> tuple[int, ...]:
    """The shape of a constant that may be made during import. Raises ModelError if it is huge."""
    if math.prod(bounded(shape)) > KEPT:
        raise ModelError(f"a constant of shape {shape} is refused", why=f"over {KEPT} elements")
    return shape


def ramp(n: int) -> np.ndarray:
    """0, 1, ..., n - 1 (i64), for a size n that a damaged model may have made absurd."""
    return np.arange(*kept(n))
