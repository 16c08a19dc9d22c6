"""The price of memory: cycles in which a kernel waits for the caches below it.

A cache holds what the loops from some depth on touch; what they touch is moved from the level below
as often as the loops outside of them turn. Most of it hides behind the arithmetic; streams that the
hardware does not follow do not. Instructions are priced in `brim.kernels.cost`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from brim.targets.target import Target

# Bytes that are moved together, and that share an entry of the table of addresses.
LINE, PAGE = 64, 4096

# Loads of lanes at most so many elements apart are picked out of whole vectors.
STEPS = 4

# Hardware follows _ROWS pieces of memory at once, where windows of at most _SHORT points move along
# them. Each further one costs _WAITS cycles a line from beyond the second cache, up to _WAIT.
_SHORT, _ROWS, _WAITS, _WAIT = 9, 4, 0.7, 30.0

# Leaps of so many bytes and more are not foreseen: cycles that a line costs, from memory or where
# each lies in a page of its own, and otherwise. Measured for x^T y of matrices of 2048 rows.
_LEAP, _AWAY, _NEXT_PAGE = 1024, 30.0, 6.0


@dataclass(frozen=True)
class Access:
    """What the price needs to know of accesses that differ in their offsets only, of which there
    are `times`. once: made once per tile, not per step. followed: axes that its gathers follow, to
    one of `places`; where they lead is not known."""

    strides: dict[str, int]
    bytes: int
    total: int
    write: bool
    once: bool
    packs: bool  # a constant that packing will lay out as the tile reads it
    times: int
    free: bool  # neither guarded nor gathered: a tile's loads may become others
    bits: int  # of what one load of it fills: a group's, where a dot instruction takes it
    changed: bool  # by an instruction between its load and its use
    followed: frozenset[str]
    places: int
    rows: int  # of lanes, which are interleaved for a dot instruction; else 0

    def moves_along(self, axis: str) -> bool:
        return axis in self.strides or axis in self.followed

    @property
    def grouped(self) -> bool:
        """Whether it is weights for dot instructions, packed as they are read."""
        return self.packs and self.bits > 8 * self.bytes


def traffic_of(
    accesses: Sequence[Access],
    sizes: dict[str, int],
    outer: tuple[tuple[str, int], ...],
    axes: tuple[str, ...],
    vector: str | None,
    target: Target,
    again: bool,
) -> float:
    """Cycles that moving data between the cache levels takes.

    outer: a schedule's loops and the points that one turn of each covers. axes: of the heaviest
    loop inside of them. again: the kernel ran before and its data may still be in a cache.
    """
    loops = [*outer, *((axis, 1) for axis in axes)]
    # bytes that each access touches inside the loops from `depth` on, exactly and in whole lines
    inside, lines = [], []
    counts = [_counts(loops, depth, sizes) for depth in range(len(loops) + 1)]
    for depth, count in enumerate(counts):
        exact, lined = [], []
        for access in accesses:
            places = _looked_up(access, count)
            points = access.times * places * access.bytes
            points *= prod([n for axis, n in count.items() if axis in access.strides])
            exact.append(min(points, access.total))
            more = LINE // max(1, _run(access, count))
            if access.followed:  # in the end all of their lines are there
                more = min(more, access.places // max(1, places))
            whole = not depth or access.grouped  # lines
            lined.append(exact[-1] if whole else points * max(1, more))
        inside.append(exact)
        lines.append(lined)
    total, depth = 0.0, len(loops)
    for level, capacity in enumerate(target.caches):
        while depth and sum(lines[depth - 1]) <= capacity * 0.8:
            depth -= 1
        if again and not depth:
            break  # this level holds everything since the last time
        moved = 0.0
        for number, access in enumerate(accesses):
            # what fits stays while the next loop out moves along the lines
            near = depth and access.strides.get(loops[depth - 1][0]) == 1
            bytes_moved = float((inside if near else lines)[depth][number])
            reused = True
            all_seen = _looked_up(access, counts[depth]) == access.places
            for axis, step in reversed(loops[:depth]):
                elsewhere = axis in access.strides or (axis in access.followed and not all_seen)
                reused = reused and not elsewhere
                if not reused:
                    bytes_moved *= -(-sizes[axis] // step)
            moved += bytes_moved
            if level and depth:
                lines_moved = bytes_moved / LINE
                last = level + 1 == len(target.caches)
                if any(sizes[axis] > _SHORT for axis in axes):  # short windows come again and again
                    total += lines_moved * _waits(access, axes, last)
                if _slides(access, vector, axes, sizes):
                    rows = _rows(access, [*outer, *((a, sizes[a]) for a in axes)])
                    total += lines_moved * min(_WAIT, _WAITS * max(0.0, rows - _ROWS))
        # hardware prefetches most of it behind the arithmetic
        total += moved / target.bandwidth[level + 1] * 0.25
    return total


def _slides(
    access: Access, vector: str | None, axes: tuple[str, ...], sizes: dict[str, int]
) -> bool:
    """Whether a short window moves along the vectors that an access loads."""
    near = {axis for axis, stride in access.strides.items() if 0 < stride <= STEPS}
    short = all(sizes[axis] <= _SHORT for axis in axes)
    return short and vector in near and not near.isdisjoint(axes) and not access.write


def _rows(access: Access, points: list[tuple[str, int]]) -> float:
    """Separate pieces of memory that a tile and its windows touch."""
    rows, span = 1.0, 1
    moves = [(abs(access.strides[axis]), n) for axis, n in points if axis in access.strides]
    for stride, count in sorted(moves):
        reach = stride * (count - 1)
        if stride > max(span, LINE // access.bytes):
            rows *= count
        elif rows > 1:
            rows *= (span + reach) / span
        span += reach
    return rows


def _waits(access: Access, axes: tuple[str, ...], last: bool) -> float:
    """Cycles that a line from beyond the second cache (of the `last`: from memory) is waited for,
    because each step of the innermost loop leaps to another page or so: no hardware follows.
    Stores wait for nothing."""
    if access.packs or access.followed or access.write:
        return 0.0
    moving = (abs(access.strides[axis]) for axis in reversed(axes) if axis in access.strides)
    leap = next(moving, 0) * access.bytes
    if leap < _LEAP:
        return 0.0
    return _AWAY if last or leap >= PAGE else _NEXT_PAGE


def _counts(loops: list[tuple[str, int]], depth: int, sizes: dict[str, int]) -> dict[str, int]:
    """Points of each axis that the loops from `depth` on touch; of those outside one step's."""
    inner = {axis: sizes[axis] for axis, _ in loops[depth:]}
    return {axis: min(step, sizes[axis]) for axis, step in loops[:depth]} | inner


def _run(access: Access, counts: dict[str, int]) -> int:
    """Bytes that lie side by side of what an access touches."""
    run = 1
    for stride, count in sorted((access.strides.get(axis, 0), n) for axis, n in counts.items()):
        run *= count if stride == run else 1
    return run * access.bytes


def _looked_up(access: Access, counts: dict[str, int]) -> int:
    """Places that the gathers of an access may lead to at so many points."""
    return min(access.places, prod([counts.get(axis, 1) for axis in access.followed]))
