"""Which schedules are worth pricing for a kernel, and the choice among them.

`candidates` are few, by rules that look only at strides and extents: lanes along an axis that some
access walks contiguously; register tiles that fit the registers and divide the extents well; loop
orders that keep either the vectors' operand or the other one near. `choose` prices them all with
`brim.kernels.cost` and measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from brim.kernels.cost import predict, register_budget
from brim.kernels.ir import At, Expr, Guard, Iota, Kernel, Schedule, Stage, subexpressions
from brim.targets.target import Target

# Reductions of at most this many points are written out instead of looped.
_UNROLL = 9


def choose(kernel: Kernel, target: Target) -> tuple[Schedule, list[tuple[float, Schedule]]]:
    """The schedule with the lowest predicted time, and all candidates as (seconds, schedule), best first."""
    priced = [(predict(kernel, schedule, target), schedule) for schedule in candidates(kernel, target)]
    priced.sort(key=lambda pair: pair[0])
    return priced[0][1], priced


def candidates(kernel: Kernel, target: Target) -> list[Schedule]:
    """Schedules worth pricing; at least one."""
    found: dict[Schedule, None] = {}
    for vector in _vector_axes(kernel):
        lanes = _lanes(kernel, vector, target)
        unroll = _unrolled(kernel, vector)
        for tile in _tiles(kernel, vector, lanes, target):
            for order in _orders(kernel, vector, dict(tile)):
                found[Schedule(order, vector, lanes, tile, unroll)] = None
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
    """Axes along which lanes may run: those that some access walks contiguously."""
    found: dict[str | None, None] = {}
    for stage in kernel.stages:
        for at in accesses(stage):
            for axis, stride in at.index.strides.items():
                if stride == 1 and axis not in kernel.ordered and kernel.sizes[axis] > 1:
                    if axis in kernel.outer or _may_be_inner(kernel, axis):
                        found[axis] = None
    if not found:
        wide = [a for a in kernel.outer if a not in kernel.ordered and kernel.sizes[a] > 1]
        found = {axis: None for axis in sorted(wide, key=lambda a: -kernel.sizes[a])[:1]}
    return list(found) or [None]


def _may_be_inner(kernel: Kernel, axis: str) -> bool:
    """Stage axes: in every stage that has it, all lanes must be independent or folded by a reduction."""
    return any(axis in stage.axes for stage in kernel.stages)


def _lanes(kernel: Kernel, vector: str | None, target: Target) -> int:
    if vector is None:
        return 1
    bits = max(max(_bits(stage.value, kernel)) for stage in kernel.stages)
    lanes = min(target.lanes(bits), 64)
    return min(lanes, 1 << (kernel.sizes[vector] - 1).bit_length())


def _bits(expr: Expr, kernel: Kernel) -> Iterator[int]:
    """Widths of the elements an expression computes with (not those of addresses)."""
    match expr:
        case At():
            yield 32 if kernel.buffers[expr.buf].dtype.name == "f16" else kernel.buffers[expr.buf].dtype.bits
        case Guard():
            yield from _bits(expr.value, kernel)
        case Iota():
            yield min(expr.dtype.bits, 32)
        case _:
            yield 8 if expr.dtype.kind == "b" else expr.dtype.bits
            for arg in getattr(expr, "args", ()):
                yield from _bits(arg, kernel)


def _unrolled(kernel: Kernel, vector: str | None) -> tuple[str, ...]:
    """Stage axes to write out: small windows, innermost first, as long as the code stays small."""
    found: list[str] = []
    for stage in kernel.stages:
        inner = stage.reduce.axes if stage.reduce else stage.axes
        copies = 1
        small = [a for a in inner if a != vector and a not in kernel.ordered]
        big = [a for a in inner if kernel.sizes[a] > _UNROLL or a == vector]
        for axis in reversed(small):
            size = kernel.sizes[axis]
            # next to a long loop one window axis is enough: the others may skip iterations
            if size == 1 or size > _UNROLL or copies * size > (_UNROLL if big else 32):
                continue
            copies *= size
            found.append(axis)
            if big:
                break
    return tuple(dict.fromkeys(found))


# ------------------------------------------------------------------ tiles and orders


def _tiles(
    kernel: Kernel, vector: str | None, lanes: int, target: Target
) -> list[tuple[tuple[str, int], ...]]:
    """Register tiles: so many vectors along the vector axis times points of one other outer axis."""
    budget = register_budget(kernel, lanes, target)
    sizes = kernel.sizes
    reduces = any(stage.reduce for stage in kernel.stages)
    if vector is None or vector not in kernel.outer:
        widths = [1]
    else:
        most = -(-sizes[vector] // lanes)
        widths = [n for n in (1, 2, 3, 4, 6, 8) if n <= most and n <= budget]
        if not reduces:
            widths = [n for n in widths if n <= 4]
    others: list[str | None] = [None]
    main = main_stage(kernel)
    for axis in kernel.outer:
        if axis == vector or axis in kernel.ordered or sizes[axis] == 1:
            continue
        moved = [axis in at.index.strides for at in accesses(main)]
        if any(moved) and (reduces or not all(moved)):
            others.append(axis)
    found: dict[tuple[tuple[str, int], ...], None] = {}
    for width in widths:
        base = ((vector, width),) if vector in kernel.outer and width > 1 else ()
        for axis in others:
            for count in _counts(sizes[axis], budget // width) if axis else [1]:
                extra = ((axis, count),) if axis and count > 1 else ()
                found[(*extra, *base)] = None  # type: ignore[arg-type]
    return list(found)


def _counts(size: int, most: int) -> list[int]:
    """Tile counts for an extent: those that divide it, or leave little behind."""
    top = min(size, most, 28)
    good = [n for n in range(1, top + 1) if size % n == 0]
    best = max(good, default=1)
    if best * 2 <= top:  # no large divisor: accept a remainder, which costs a second tile
        good += [n for n in (4, 6, 8, 12) if n <= top and n > best]
    return sorted(set(good))[-4:]


def _orders(kernel: Kernel, vector: str | None, tile: dict[str, int]) -> list[tuple[str, ...]]:
    """Loop orders: as the output lies in memory, and with the vector axis outermost."""
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
        found[(*rest, vector, *ordered)] = None  # type: ignore[index]
        if any(stage.reduce for stage in kernel.stages):
            found[(vector, *rest, *ordered)] = None  # type: ignore[index]
    return list(found)
