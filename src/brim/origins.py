"""What constants follow from: remembered while they are folded, for whoever asks for it.

A folded constant is a plain array. Where it need not be stored (artifacts), the operations that
gave it are told here: an expression over the constants that were there before. It is remembered of
large arrays only, and for as long as they are there.
"""

from __future__ import annotations

import contextlib
import contextvars
import weakref
from collections.abc import Iterator

import numpy as np

from brim.graph import Value

LEAST = 4096  # bytes: smaller constants are stored as they are
APART = ("host", "control", "composite")  # kinds of operators that no such expression has

Identity = tuple[int, int, int]


def identity(array: np.ndarray) -> Identity:
    """Constants are contiguous and frozen: of equal address and sizes they have equal content."""
    return array.ctypes.data, array.size, array.itemsize


class Origins:
    """Arrays, by where they lie, and the expressions that give them."""

    def __init__(self) -> None:
        self._found: dict[Identity, tuple[weakref.ref[np.ndarray], Value]] = {}

    def note(self, value: Value, made: np.ndarray) -> None:
        """Remembers that an operation on constants gave an array."""
        assert value.op is not None
        if made.dtype == object or made.nbytes < LEAST or value.op.kind in APART:
            return
        args = tuple(self.of(arg.data) or arg for arg in value.args if arg.data is not None)
        expression = Value(value.op, args, value.attrs, value.type, None, value.where)
        self._found[identity(made)] = weakref.ref(_owner(made)), expression

    def of(self, array: np.ndarray) -> Value | None:
        """The expression that gave an array, or None: it was there before, or is small."""
        owner, expression = self._found.get(identity(array), (None, None))
        return expression if owner is not None and owner() is not None else None


def _owner(array: np.ndarray) -> np.ndarray:
    """Whose memory an array is: while that lives, no other array has this address."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


_listening: contextvars.ContextVar[Origins | None] = contextvars.ContextVar("brim_origins")


@contextlib.contextmanager
def remembered() -> Iterator[Origins]:
    """Remembers all constants that are folded inside."""
    token = _listening.set(found := Origins())
    try:
        yield found
    finally:
        _listening.reset(token)


def note(value: Value, made: np.ndarray) -> None:
    """To be told by who folds: `value`, of constants only, gave this array."""
    if (listening := _listening.get(None)) is not None:
        listening.note(value, made)
