"""Weights that need not be stored: what follows from the constants of a graph is made when loaded.

A kernel may read a constant in another form than the graph has it: transformed, as Winograd's
convolution does, in wider numbers, or packed in two ways. An artifact leaves such parts out of its
weights, and says by which expression over its constants they are found. Evaluating one here gives
the bits that the compiler had. Expressions of files are bounded before anything is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NoReturn

import numpy as np

from brim.errors import BrimError, ModelError
from brim.graph import Graph, evaluate_values, topo
from brim.origins import APART, identity
from brim.runtime.compiled import Compiled, Derived, Stored
from brim.runtime.memory import aligned_bytes
from brim.runtime.plan import ALIGN, aligned

GROWTH = 16  # times what a file holds of them, weights may take: Winograd's take eight times
SMALL = 1 << 20  # bytes that they may always take
FAULTS = (BrimError, ArithmeticError, LookupError, MemoryError, TypeError, ValueError)


def derived_graph(parts: Sequence[Derived]) -> tuple[Graph, list[str]]:
    """The parts' expressions as one graph, and for each part the output that it is."""
    names: dict[int, str] = {}
    for part in parts:
        names.setdefault(id(part.value), str(len(names)))
    values = {names[id(part.value)]: part.value for part in parts}
    return Graph({}, values, "derived"), [names[id(part.value)] for part in parts]


def may_be_left_out(compiled: Compiled) -> bool:
    """Whether weights without what follows from constants are smaller, and not so much that a
    reader would refuse to make them."""
    there = {identity(item.data) for item in compiled.stored}
    values = topo(part.value for part in compiled.derived)
    beside = {identity(v.data): v.data.nbytes for v in values if v.data is not None}
    kept = compiled.weight_bytes - sum(aligned(part.bytes) for part in compiled.derived)
    kept += sum(size for where, size in beside.items() if where not in there)
    return kept < compiled.weight_bytes <= max(GROWTH * kept, SMALL)


def without(compiled: Compiled) -> tuple[np.ndarray, tuple[Stored, ...]]:
    """The bytes of the weights that do not follow from constants, and where these lie there."""
    pieces, at = [], 0
    for part in compiled.derived:
        pieces.append(compiled.weights[at : part.offset])
        at = part.offset + aligned(part.bytes)
    left = np.concatenate([*pieces, compiled.weights[at:]])
    parts = compiled.derived
    return left, tuple(replace(s, offset=_left_at(s.offset, parts)) for s in compiled.stored)


def _left_at(offset: int, parts: Sequence[Derived]) -> int:
    """Where a byte of the weights lies when parts are left out."""
    return offset - sum(aligned(part.bytes) for part in parts if part.offset < offset)


class Weights:
    """The weights of a program as its kernels read them; made when they are first asked for.

    stored: the bytes that a file has of them. size: of all. parts: tells which of them follow from
    constants; is_complete: they are stored as well.
    """

    def __init__(
        self,
        stored: np.ndarray,
        size: int,
        parts: Callable[[], tuple[Derived, ...]],
        where: str,
    ) -> None:
        self.size, self.is_complete = size, stored.size == size
        self._stored, self._parts, self._where = stored, parts, where

    @cached_property
    def parts(self) -> tuple[Derived, ...]:
        """What follows from constants, in order of the offsets; all numbers checked."""
        found, end = self._parts(), 0
        for part in found:
            if part.offset < end or part.offset % ALIGN or part.bytes > self.size:
                self._damaged("parts of the weights overlap")
            if part.packing is not None and part.packing.end > part.value.type.size:
                self._damaged("a part of the weights is packed of more than there is")
            end = part.offset + aligned(part.bytes)
        left_out = 0 if self.is_complete else sum(aligned(part.bytes) for part in found)
        if end > self.size or self._stored.size + left_out != self.size:
            self._damaged("there are other weights than the plan expects")
        for value in topo(part.value for part in found):
            if value.op is not None and value.op.kind in APART:
                self._damaged(f"constants do not follow by {value.op.name}")
            if value.type.bytes > max(4 * self.size, SMALL):
                self._damaged("a value of an expression is larger than all weights")
        return found

    def where(self, offset: int) -> int:
        """Where a byte of those that are stored lies among all."""
        for part in () if self.is_complete else self.parts:
            offset += aligned(part.bytes) if part.offset <= offset else 0
        return offset

    @cached_property
    def block(self) -> np.ndarray:
        """All of them, from the start of a cache line on. Raises ModelError."""
        if self.is_complete:
            return on_a_line(self._stored)
        block, start, at = aligned_bytes(self.size), 0, 0
        for part in (*self.parts, None):
            end = self.size if part is None else part.offset
            block[at:end] = self._stored[start : start + end - at]
            start, at = start + end - at, end if part is None else end + aligned(part.bytes)
        try:
            _fill(block, self.parts)
        except FAULTS as error:
            self._damaged(f"an expression has no value: {error}")
        return block

    def _damaged(self, why: str) -> NoReturn:
        raise ModelError("not an intact .brim file", why, self._where, "save the model again")


def _fill(block: np.ndarray, parts: Sequence[Derived]) -> None:
    """Makes each value once, and puts it where it belongs: one at a time, as they may be large."""
    places: dict[int, list[Derived]] = {}
    for part in parts:
        places.setdefault(id(part.value), []).append(part)
    for group in places.values():
        (array,) = evaluate_values([group[0].value], {})
        for part in group:
            flat = array.reshape(-1)
            raw = np.ascontiguousarray(part.packing.pack(flat) if part.packing else flat)
            block[part.offset : part.offset + part.bytes] = raw.view(np.uint8)


def on_a_line(data: np.ndarray) -> np.ndarray:
    """Bytes where they are if they start on a cache line, as in a mapped file, else a copy."""
    if data.ctypes.data % ALIGN == 0:
        return data
    copy = aligned_bytes(data.size)
    copy[:] = data
    return copy
