"""Which schedules are worth pricing for a kernel, and the choice among them.

`candidates` are few, by rules that look only at strides and extents: lanes along an axis that some
access walks contiguously; register tiles that fit the registers and divide the extents well; loop
orders that keep either the vectors' operand or the other one near. `choose` prices them all with
`brim.kernels.cost` and measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import prod

from brim.kernels.cost import CHAINS, WAYS, bits_of, followed, rank, work_of
from brim.kernels.dots import DOTS, Dot, find_dot
from brim.kernels.ir import At, Guard, Iota, Kernel, Repeat, Schedule, Stage, subexpressions
from brim.targets.target import Target

# Axes of at most this many points may be written out, into at most so many vector operations;
# windows that move along the vectors, whose loads are never aligned but then shared, into more.
_UNROLL, _CODE, _WINDOW = 9, 96, 200

# Points along which memory is contiguous, in tiles whose vectors cross them.
_SQUARES = (2, 4, 8, 16)

# Rows of a tile: each is a stream of its own. Measured, 28 of them were 4 to 50 % slower than 14.
_ROWS = 16

# Elements between two places that a gather leads to, for all that is known.
_FAR = 1 << 12

# Instructions of elementwise code that one tile may repeat.
_LONG = 1000


@lru_cache(maxsize=2048)  # networks are compiled again and again while they are compressed
def choose(kernel: Kernel, target: Target) -> tuple[Schedule, tuple[tuple[float, Schedule], ...]]:
    """The cheapest schedule, and all candidates as (predicted seconds, schedule), best first."""
    ranked = rank(kernel, candidates(kernel, target), target)
    return ranked[0][1], tuple(ranked)


def candidates(kernel: Kernel, target: Target) -> list[Schedule]:
    """Schedules worth pricing; at least one."""
    found: dict[Schedule, None] = {}
    for vector in _vector_axes(kernel):
        lanes, dot = _lanes(kernel, vector, target), find_dot(kernel, vector, target)
        for tile in _tiles(kernel, vector, lanes, target, DOTS[dot[1]] if dot else None):
            unroll = _unrolled(kernel, vector, prod(count for _, count in tile))
            for order in _orders(kernel, vector, dict(tile)):
                found[Schedule(order, vector, lanes, tile, unroll, dot)] = None
    return list(found)


# ------------------------------------------------------------------ axes and accesses


def accesses(stage: Stage) -> Iterator[At]:
    """Every access of a stage, written ones last."""
    for part in subexpressions(stage.value):
        if isinstance(part, At):
            yield part
    yield from (at for at in (stage.keep, stage.out) if at is not None)


def main_stage(kernel: Kernel) -> Stage:
    """The stage with the most points."""

    def points(stage: Stage) -> int:
        total = 1
        for axis in stage.axes:
            total *= kernel.sizes[axis]
        return total

    return max(kernel.stages, key=points)


def _vector_axes(kernel: Kernel) -> list[str | None]:
    """Axes along which lanes may run: those that some access walks contiguously.

    A repeat waits for its own loads, so along any of its axes several of them may run as lanes.
    """
    found: dict[str | None, None] = {}
    for stage in kernel.stages:
        if _repeats(stage):
            free = [a for a in (*kernel.outer, *stage.axes) if a not in kernel.ordered]
            found |= {axis: None for axis in free if kernel.sizes[axis] > 1}
        for at in accesses(stage):
            for axis, stride in at.index.strides.items():
                if stride == 1 and axis not in kernel.ordered and kernel.sizes[axis] > 1:
                    found[axis] = None
    if not found:
        wide = [a for a in kernel.outer if a not in kernel.ordered and kernel.sizes[a] > 1]
        found = dict.fromkeys(sorted(wide, key=lambda a: -kernel.sizes[a])[:1])
    return list(found) or [None]


def _lanes(kernel: Kernel, vector: str | None, target: Target) -> int:
    if vector is None:
        return 1
    bits = max(bits_of(stage.value, kernel) for stage in kernel.stages)
    repeats = any(_repeats(stage) for stage in kernel.stages)
    lanes = CHAINS if repeats else min(target.lanes(bits), 64)
    return min(lanes, 1 << (kernel.sizes[vector] - 1).bit_length())


def _repeats(stage: Stage) -> bool:
    return any(isinstance(part, Repeat) for part in subexpressions(stage.value))


def _unrolled(kernel: Kernel, vector: str | None, cells: int) -> tuple[str, ...]:
    """Stage axes to write out: small windows, innermost first, as long as the code stays small."""
    found: list[str] = []
    for stage in kernel.stages:
        if not stage.axes:
            continue
        inner = stage.reduce.axes if stage.reduce else stage.axes
        guarded = _guarded(stage)
        long = any(kernel.sizes[a] > _UNROLL for a in inner)
        small = [
            a for a in inner if a != vector and a not in kernel.ordered and kernel.sizes[a] > 1
        ]
        # a written-out window axis decides its guards while compiling: those come first
        copies = 1
        small.reverse()
        counted = _counted(stage)
        for axis in sorted(small, key=lambda a: a not in guarded | counted):
            size = kernel.sizes[axis]
            if long and axis not in guarded | counted:
                continue
            most = _WINDOW if vector in guarded and axis in guarded else _CODE
            if size <= _UNROLL and (copies * size * cells <= most or not found):
                copies *= size
                found.append(axis)
                if long:
                    break
    return tuple(dict.fromkeys(found))


def _counted(stage: Stage) -> set[str]:
    """Axes whose number is computed with: written out, it is a constant."""
    parts = [p for p in subexpressions(stage.value) if isinstance(p, Iota)]
    return {a for p in parts for a in p.index.strides}


def _guarded(stage: Stage) -> set[str]:
    """Axes that guards of a stage look at."""
    parts = [p for p in subexpressions(stage.value) if isinstance(p, Guard)]
    return {a for p in parts for b in p.bounds for a in b.index.strides}


# ------------------------------------------------------------------ tiles and orders


def _tiles(
    kernel: Kernel, vector: str | None, lanes: int, target: Target, dot: Dot | None
) -> list[tuple[tuple[str, int], ...]]:
    """Register tiles: vectors along the vector axis times points of one other outer axis."""
    sizes = kernel.sizes
    reduces = any(stage.reduce for stage in kernel.stages)
    outside = vector is not None and vector in kernel.outer
    most, parts = target.registers - 1, dot.parts if dot else 1
    if dot is not None:
        most -= dot.registers + parts - 1
    work = sum(work_of(stage.value) for stage in kernel.stages)
    if work > 12:  # long expressions: a tile repeats their code
        few = int(_LONG / work)
        most = max(4, min(most, few)) if outside and reduces else max(1, min(4, few))
    widths = [1]
    if outside:
        vectors = -(-sizes[vector] // lanes)  # type: ignore[index]
        widths = [
            n for n in (1, 2, 3, 4, 6, 8) if n <= vectors and (reduces or n <= 4) and n <= most
        ]
    window = set(_unrolled(kernel, vector, 1))
    crossing = _crossing(kernel, vector)
    picks = any(at.gathers for at in accesses(main_stage(kernel)))  # from rows that may conflict
    found: dict[tuple[tuple[str, int], ...], None] = {(): None}
    for width in widths:
        base = ((vector, width),) if width > 1 else ()
        found[base] = None  # type: ignore[index]
        for axis in _shared(kernel, vector, window):
            # accumulators, the vectors they share, and one broadcast value
            top = min(
                (most - parts * width) // width if reduces else min(most, 4) // width, sizes[axis]
            )
            top = min(top, _ROWS)
            small = min(top, target.registers // 4 // width)  # windows share loads in small tiles
            counts = _counts(sizes[axis], top, width)
            if window:
                counts = [*counts[:1], *_counts(sizes[axis], small, width)]
            if picks and top > WAYS:
                counts = [*counts, *_counts(sizes[axis], WAYS, width)[:1]]
            for count in counts:
                found[((axis, count), *base)] = None  # type: ignore[index]
        for axis in crossing:
            for count in _SQUARES:
                cells = count * width
                small = cells * work <= _LONG and cells <= target.registers // 2
                if small and lanes // 4 <= count <= min(lanes, sizes[axis]):
                    found[((axis, count), *base)] = None  # type: ignore[index]
    if reduces and vector is not None and not outside and dot is None:
        for blocks in _blocks(kernel, target):
            found[blocks] = None
    return list(found)


def _blocks(kernel: Kernel, target: Target) -> list[tuple[tuple[str, int], ...]]:
    """Tiles of two axes for a product whose lanes are summed: what one operand loads is shared
    along the axis of the other, as the rows of two matrices are in the product of all pairs."""
    parts = [p for p in subexpressions(main_stage(kernel).value) if isinstance(p, At)]
    if len(parts) != 2 or any(at.gathers for at in parts):
        return []
    sides = []
    for mine, other in (parts, parts[::-1]):
        strides = mine.index.strides
        own = [a for a in kernel.outer if strides.get(a) and a not in other.index.strides]
        own = [a for a in own if a not in kernel.ordered and kernel.sizes[a] > 1]
        if not own:
            return []
        long = [a for a in own if kernel.sizes[a] >= 4] or own
        sides.append(min(long, key=lambda a: abs(strides[a])))
    left, right = sides
    found: list[tuple[tuple[str, int], ...]] = []
    for rows in range(2, min(target.registers // 4, kernel.sizes[left]) + 1):
        # accumulators, the vectors of the shorter side, and one of the longer
        top = max(
            n for n in range(1, target.registers) if rows * n + min(rows, n) < target.registers
        )
        for columns in _counts(kernel.sizes[right], min(top, kernel.sizes[right]), rows)[:2]:
            found.append(((left, rows), (right, columns)))
    return found


def _crossing(kernel: Kernel, vector: str | None) -> dict[str, bool]:
    """Outer axes along which an access is contiguous that is not so along the vectors.

    With as many of their points as lanes in a tile, whole vectors are moved and transposed. Value:
    whether a load is among the accesses.
    """
    found: dict[str, bool] = {}
    for stage in kernel.stages:
        for at in accesses(stage):
            strides = at.index.strides
            if strides.get(vector or "", 0) in (0, 1) or at.gathers:
                continue
            for axis in kernel.outer:
                free = axis != vector and axis not in kernel.ordered
                if free and strides.get(axis) == 1 and kernel.sizes[axis] > 1:
                    found[axis] = found.get(axis, False) or at is not stage.out
    return found


def _shared(kernel: Kernel, vector: str | None, unrolled: set[str]) -> list[str]:
    """Outer axes along which loads are shared: the one nearest in memory, if it is long."""
    parts = [p for p in subexpressions(main_stage(kernel).value) if isinstance(p, At)]
    # what a gather leads to may lie anywhere: in another line
    loads = [dict.fromkeys(followed(p), _FAR) | p.index.strides for p in parts]
    found = []
    for axis in kernel.outer:
        if axis == vector or axis in kernel.ordered or kernel.sizes[axis] == 1:
            continue
        moved = [strides for strides in loads if strides.get(axis)]
        windows = any(not unrolled.isdisjoint(strides) for strides in moved)
        if moved and (len(moved) < len(loads) or windows):
            # windows along which weights lie side by side share none of them
            near = max if windows else min
            found.append((near(abs(strides[axis]) for strides in moved), axis))
    found.sort()
    return [a for _, a in found if kernel.sizes[a] >= 4][:1] or [a for _, a in found[:2]]


def _counts(size: int, top: int, width: int) -> list[int]:
    """The best few tile counts up to `top` for an extent, remainder included."""

    def cost(count: int) -> float:
        full, rest = divmod(size, count)
        price = full * max(count * width + 0.5, width + count / 2 + 4)
        if rest:  # a second, smaller tile: slower, and more code
            price = (price + max(rest * width + 0.5, width + 4)) * 1.05
        return price

    return sorted(range(1, top + 1), key=cost)[:3]


def _orders(kernel: Kernel, vector: str | None, tile: dict[str, int]) -> list[tuple[str, ...]]:
    """Loop orders: as the output lies in memory, and with the vector axis outermost.

    Tiles that transpose walk along what they load: stores that wait for memory hold up less.
    """
    outer = kernel.outer
    if len(outer) < 2:
        return [outer]
    ordered = [a for a in outer if a in kernel.ordered]
    plain = [a for a in outer if a not in kernel.ordered]
    found = {(*plain, *ordered): None}
    if vector in plain:
        rest = tuple(a for a in plain if a != vector)
        if all(stage.reduce is None for stage in kernel.stages):
            found = {}
            for axis, loads in _crossing(kernel, vector).items():
                if loads and axis in tile:
                    others = [a for a in rest if a != axis]
                    return [(*others, vector, axis, *ordered)]  # type: ignore[list-item]
        found[(*rest, vector, *ordered)] = None  # type: ignore[index]
        if any(stage.reduce for stage in kernel.stages):
            found[(vector, *rest, *ordered)] = None  # type: ignore[index]
    return list(found)
