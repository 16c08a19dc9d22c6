"""The bytes that a kernel has to move, known from its form alone: each element it touches, once.

An access walks a progression along each of its axes. Counted from the shortest step to the longest,
a step beyond all that is reached so far meets only new elements, and one within it (a window that
slides) at most those of the longer reach. So the count is never too low; for what networks are made
of it is exact, which the tests show by counting. Where gathers lead is not known before a run: they
count as if they never led to the same place twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import gcd, prod

from brim.kernels.cost import followed
from brim.kernels.ir import Arg, At, Index, Kernel, Stage, subexpressions


@dataclass(frozen=True)
class Footprint:
    """Bytes: of activations read, of constants read, and written."""

    read: int
    weights: int
    written: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.read + self.weights + self.written


def footprint(kernel: Kernel) -> Footprint:
    """What a kernel must read and write at least, however large or small the caches are.

    A result that is read again in the kernel that wrote it is not read from anywhere else.
    """
    read = weights = written = 0
    first: dict[str, int] = {}  # where each result is first written
    for number, stage in enumerate(kernel.stages):
        for at in _stores(stage):
            first.setdefault(at.buf, number)
    loads: dict[str, list[At]] = {}
    stores: dict[str, list[At]] = {}
    for number, stage in enumerate(kernel.stages):
        for at in _loads(stage):
            if number <= first.get(at.buf, number):
                loads.setdefault(at.buf, []).append(at)
        for at in _stores(stage):
            stores.setdefault(at.buf, []).append(at)
    for arg in kernel.args:
        seen = _elements(arg, loads.get(arg.name, ()), kernel) * arg.dtype.bytes
        if arg.role == "const":
            weights += seen
        else:
            read += seen
        written += _elements(arg, stores.get(arg.name, ()), kernel) * arg.dtype.bytes
    return Footprint(read, weights, written)


def _loads(stage: Stage) -> Iterator[At]:
    outside = [gather.index for at in _stores(stage) for gather in at.gathers]
    for expr in (stage.value, *outside):
        yield from (part for part in subexpressions(expr) if isinstance(part, At))


def _stores(stage: Stage) -> Iterator[At]:
    yield from (at for at in (stage.keep, stage.out) if at is not None)


def _elements(arg: Arg, accesses: Iterable[At], kernel: Kernel) -> int:
    """Elements of a buffer that accesses touch; those that differ in offsets only overlap."""
    alike: dict[tuple, list[At]] = {}
    for at in dict.fromkeys(accesses):
        alike.setdefault((at.index.terms, at.gathers), []).append(at)
    found = 0
    for (_, gathers), some in alike.items():
        offsets = [at.index.offset for at in some]
        reached = _reached(some[0].index, kernel.sizes, offsets)
        if gathers:  # they lead to all of their places, or to one for each time they look
            axes = followed(some[0]) | some[0].index.strides.keys()
            looks = len(some) * prod([kernel.sizes[axis] for axis in axes])
            reached = min(reached * prod([gather.size for gather in gathers]), looks)
        found += reached
    return min(found, arg.size)


def _reached(index: Index, sizes: dict[str, int], offsets: list[int]) -> int:
    """Elements that an index leads to, from each of some offsets."""
    if any(term.block for term in index.terms):  # packed weights never overlap
        return prod([sizes[term.axis] for term in index.terms])
    count, span, step = 1, 0, 0
    for stride, extent in sorted((abs(t.stride), sizes[t.axis]) for t in index.terms):
        if extent == 1 or not stride:
            continue
        step = gcd(step, stride)
        new, reach = count * extent, span + stride * (extent - 1)
        count = new if stride > span else min(new, reach // step + 1)
        span = reach
    if len(offsets) > 1:
        low = min(offsets)
        for offset in offsets:
            step = gcd(step, offset - low)
        count = min(count * len(offsets), (span + max(offsets) - low) // max(step, 1) + 1)
    return count
