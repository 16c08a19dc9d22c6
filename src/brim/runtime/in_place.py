"""Runs whose state stays where it is: what one writes, the next one reads, in the same arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from brim.runtime.memory import Memory
from brim.runtime.program import Program


class InPlace:
    """A program of one native segment, over these arrays of its state; one run at a time."""

    def __init__(self, program: Program, arrays: Mapping[str, np.ndarray]) -> None:
        self._program, self._memory = program, Memory(program.plan)
        for name, (_, slot) in program.plan.state.items():
            self._memory.io[slot] = arrays[name].ctypes.data
        self._arrays = arrays  # they must live as long as the pointers

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any] | None:
        """As `Program.quick`, for the other inputs and outputs. A run that raises InputError has
        changed nothing."""
        assert self._program.ports is not None
        return self._program.quick_in(self._memory, self._program.ports, feeds)
