"""Runs whose state stays where it is: what one writes, the next one reads.

Each name of the state has two arrays. A run reads one of them and writes the other, so a run that
fails has changed nothing, and nothing is copied. Which of the two is read, the caller says.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np

from brim.runtime.memory import Memory
from brim.runtime.program import Program

Pair = tuple[np.ndarray, np.ndarray]


class InPlace:
    """A program of one native segment, over these arrays of its state; one run at a time."""

    def __init__(self, program: Program, pairs: Mapping[str, Pair]) -> None:
        assert program.ports is not None
        inputs, outputs = program.ports
        self._program, self._memory = program, Memory(program.plan)
        self._ports = (
            [port for port in inputs if port[0] not in pairs],
            [port for port in outputs if port[0] not in pairs],
        )
        first = self._memory.io
        self._pointers = (first, type(first)(*first))
        for turn, pointers in enumerate(self._pointers):
            for ports, side in ((inputs, turn), (outputs, 1 - turn)):
                for name, slot, *_ in ports:
                    if name in pairs:
                        pointers[slot] = pairs[name][side].ctypes.data
        self._addresses = tuple(map(ctypes.addressof, self._pointers))
        self._pairs = pairs  # they must live as long as the pointers

    def run(self, feeds: Mapping[str, Any], turn: int) -> dict[str, Any] | None:
        """As `Program.quick`, for the other inputs and outputs. turn: which arrays are read."""
        memory = self._memory
        memory.io, memory.io_address = self._pointers[turn], self._addresses[turn]
        return self._program.quick_in(memory, self._ports, feeds)
