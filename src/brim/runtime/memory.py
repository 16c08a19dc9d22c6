"""What one call of a program works in: its arena, pointers to inputs and outputs, the status word.

numpy takes a microsecond or two to tell where an array lies, as long as a small model runs. So all
addresses are looked up once, and small inputs and outputs are copied to and from places that stay.
"""

from __future__ import annotations

import ctypes
import sys

import numpy as np

from brim.errors import BrimError
from brim.runtime.plan import ALIGN, Plan
from brim.types import Type

POINTER = ctypes.c_void_p

# Bytes of an input or output that are copied sooner than their address is found.
_SMALL = 1 << 14


def aligned_bytes(size: int) -> np.ndarray:
    """`size` zeroed bytes that start on a cache line. Raises BrimError where memory is short."""
    try:
        raw = np.zeros(size + ALIGN, np.uint8)
    except MemoryError:
        raise BrimError(f"there is no memory for {size} bytes of temporaries") from None
    start = -raw.ctypes.data % ALIGN
    return raw[start : start + size]


def give_back() -> None:
    """Returns to the system what was freed. glibc keeps it, which after compiling is a lot."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


class Memory:
    """The memory of one call at a time. `io` holds a pointer for each input, then each output."""

    def __init__(self, plan: Plan) -> None:
        self.arena = aligned_bytes(plan.arena_bytes)
        self.status = ctypes.c_int32(0)
        slots = {slot: type for type, slot in (*plan.inputs.values(), *plan.outputs.values())}
        places = {slot: type for slot, type in slots.items() if isinstance(slot, int)}
        self.io = (POINTER * max(len(places), 1))()
        self._staged: dict[int, np.ndarray] = {}
        for slot, type in places.items():
            if type.is_static and type.bytes <= _SMALL and not type.dtype.is_object:
                place = aligned_bytes(type.bytes).view(type.dtype.numpy).reshape(type.dims)
                self._staged[slot] = place
                self.io[slot] = place.ctypes.data
        self.arena_address = self.arena.ctypes.data
        self.io_address = ctypes.addressof(self.io)
        self.status_address = ctypes.addressof(self.status)

    def give(self, slot: int, array: np.ndarray) -> np.ndarray:
        """Lets kernels read an array of the planned type; gives what they will see."""
        staged = self._staged.get(slot)
        if staged is None:
            if not array.flags.c_contiguous:
                array = np.ascontiguousarray(array).reshape(array.shape)
            self.io[slot] = array.ctypes.data
            return array
        staged[...] = array  # sooner than `copyto`
        return staged

    def room(self, slot: int, type: Type) -> np.ndarray:
        """Memory for an output. Raises BrimError where there is none."""
        staged = self._staged.get(slot)
        if staged is not None:
            return staged
        try:
            array = np.empty(type.dims, type.dtype.numpy)
        except MemoryError:
            raise BrimError(f"there is no memory for an output of type {type}") from None
        self.io[slot] = array.ctypes.data
        return array

    def owned(self, slot: int, array: np.ndarray) -> np.ndarray:
        """An input or output as a caller may keep it."""
        return array.copy() if slot in self._staged else array
