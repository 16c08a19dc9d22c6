"""Observers: what range of its values an activation's integers should cover."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Observer(Protocol):
    """Watches the arrays of one value, one after another, in fixed memory."""

    def see(self, array: np.ndarray) -> None: ...

    def range(self) -> tuple[float, float]:
        """(low, high), with low <= 0 <= high."""


class MinMax:
    """All that was seen."""

    def __init__(self) -> None:
        self._low = self._high = 0.0

    def see(self, array: np.ndarray) -> None:
        self._low = min(self._low, float(array.min(initial=0)))
        self._high = max(self._high, float(array.max(initial=0)))

    def range(self) -> tuple[float, float]:
        return self._low, self._high
