"""Reductions in LLVM IR: accumulators in registers, loops over the reduced axes, sums of lanes.

A `Reduction` is built by the emitter for one stage at one place of the outer loops. Which schedule
is good is not decided here, apart from how often the innermost loop is written out.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from brim.kernels.cost import work_of
from brim.kernels.dots import product_of
from brim.kernels.factors import factored
from brim.kernels.ir import (
    At,
    Bound,
    Do,
    Expr,
    Guard,
    Num,
    Repeat,
    Stage,
    dtype_of_expr,
    subexpressions,
    unit,
)
from brim.targets import dots
from brim.targets.access import Cell, Point, State
from brim.targets.builder import I1, I64, Builder, Value, vector_of
from brim.targets.instructions import (
    combine,
    constant,
    convert,
    horizontal,
    memory_type,
    wins,
)
from brim.types import F16, F32

if TYPE_CHECKING:
    from brim.targets.llvm import Emitter


def _is_product(expr: Expr) -> bool:
    return isinstance(expr, Do) and expr.op == "mul"


class Reduction:
    """One reduction being built: its accumulators travel through the loops as a flat list.

    There are `sets` of one accumulator for each cell (for arg reductions: a value and an index), so
    that there are always enough independent ones to hide the latency of the arithmetic.
    """

    def __init__(self, emitter: Emitter, stage: Stage, state: State, wide: int) -> None:
        assert stage.reduce is not None
        self.emitter, self.stage, self.reduce = emitter, stage, stage.reduce
        self.b, self.kernel, self.schedule = emitter.b, emitter.kernel, emitter.schedule
        self.wide = wide
        product = product_of(self.kernel, stage, self.schedule.vector, self.schedule.dot)
        self.product = product if product is not None and dots.is_packed(product) else None
        target = emitter.target
        self.cells = (
            tuple(replace(c, lanes=wide, active=wide) for c in state.cells) if wide else state.cells
        )
        # The order of additions follows from the whole tile, never from a remainder, so that
        # equal numbers give equal sums wherever in a tensor they are.
        self.whole = prod(count for _, count in self.schedule.tile)
        self.element = dtype_of_expr(stage.value, self.kernel)
        self.dtype = F32 if self.element == F16 else self.element
        looped = [a for a in self.reduce.axes if not self.unrolled(a) and self.kernel.sizes[a] > 1]
        # Loads that written-out copies of one loop body share stay in registers between them (LLVM
        # sees to that), so only small tiles may do it.
        self.axes = self.reduce.axes
        if self.whole * 4 <= target.registers:
            self.axes = tuple(sorted(self.axes, key=self.unrolled))
        self.factored = factored(self.kernel, stage, self.axes)
        self.value = self.factored.value if self.factored else stage.value
        self.limits = {axis: self.limit(axis) for axis in looped}
        self.innermost = looped[-1] if looped and not self.limits[looped[-1]] else None
        self.copies = self.unroll_factor()
        needed = target.fma_latency * target.fma_issue
        if self.product is not None and not self.product.dot.adds:
            needed = 1  # an integer addition is done in the next cycle
        self.sets = 1
        while self.sets < self.copies and self.sets * self.whole < needed:
            self.sets *= 2
        self.parts = 2 if self.reduce.is_arg else 1
        self.outside = 1 if self.factored else self.sets  # sets of sums of what is scaled

    def unrolled(self, axis: str) -> bool:
        return axis in self.schedule.unroll and axis not in self.kernel.ordered

    def step(self, axis: str) -> int:
        if self.product is not None and axis == self.product.axis:
            return self.product.dot.group
        return self.wide if self.wide and axis == self.schedule.vector else 1

    def written_out(self, axis: str) -> bool:
        return self.unrolled(axis) or self.kernel.sizes[axis] <= self.step(axis)

    def unroll_factor(self) -> int:
        """Copies of the innermost loop's body: enough work to hide latency and the loop itself."""
        if self.innermost is None or self.innermost in self.kernel.ordered:
            return 1
        trips = self.kernel.sizes[self.innermost] // self.step(self.innermost)
        # long expressions overlap from one round to the next without being written out
        most = 12 / max(1.0, work_of(self.value) / 4)
        copies = 1
        while copies < 8 and copies * self.whole < most and trips >= 2 * copies:
            if trips % (2 * copies) and trips < 8 * copies:
                break  # what remains is written out too
            copies *= 2
        return copies

    # ------------------------------------------------------------------ accumulators

    def start(self, state: State) -> list[Value]:
        found, cells = list[Value](), self.cells * self.outside
        if self.product is not None and self.product.shift:
            found = [dots.start(self.emitter, self.product, state, cell) for cell in self.cells]
            cells = self.cells * (self.outside - 1)
        return found + self.units(cells)

    def units(self, cells: tuple[Cell, ...]) -> list[Value]:
        """What accumulators of cells start from."""
        b, found = self.b, list[Value]()
        for cell in cells:
            found.append(constant(b, self.dtype, unit(self.reduce.op, self.dtype), cell.lanes))
            if self.reduce.is_arg:
                found.append(b.const(vector_of(I64, cell.lanes), 0))
        return found

    def merged(self, accumulators: list[Value], cell: int, sets: int) -> list[Value]:
        """A cell's sets combined."""
        per_set = len(self.cells) * self.parts
        mine = [accumulators[s * per_set + cell * self.parts :][: self.parts] for s in range(sets)]
        while len(mine) > 1:
            mine = [self.merge(mine[i], mine[i + 1]) for i in range(0, len(mine), 2)]
        return mine[0]

    def finish(self, accumulators: list[Value], cell: int, b: Builder) -> Value:
        """The result of one cell: its sets combined, then its lanes."""
        result = self.merged(accumulators, cell, self.outside)
        if not self.wide:
            return result[-1]
        if not self.reduce.is_arg:
            return horizontal(b, self.reduce.op, result[0], self.dtype)
        lanes = [[b.extract(part, lane) for part in result] for lane in range(self.wide)]
        while len(lanes) > 1:
            lanes = [self.merge(lanes[i], lanes[i + 1]) for i in range(0, len(lanes), 2)]
        return lanes[0][-1]

    def merge(self, old: list[Value], new: list[Value]) -> list[Value]:
        b = self.b
        if not self.reduce.is_arg:
            return [combine(b, self.reduce.op, old[0], new[0], self.dtype)]
        better = wins(b, self.reduce.op, (new[0], new[1]), (old[0], old[1]), self.dtype)
        return [b.select(better, n, o) for n, o in zip(new, old)]

    # ------------------------------------------------------------------ loops

    def loops(self, axes: tuple[str, ...], state: State, accumulators: list[Value]) -> list[Value]:
        if self.factored is None or axes != self.factored.inner:
            return self.sums(axes, state, accumulators)
        sums = self.sums(axes, state, self.units(self.cells * self.sets))
        self.fresh()
        found = []
        for number, (cell, total) in enumerate(zip(self.cells, accumulators)):
            part = self.merged(sums, number, self.sets)[0]
            factor = self.emitter.evaluate(self.factored.factor, state, cell)
            found.append(self.b.fma(part, self.b.splat(factor, cell.lanes), total))
        return found

    def sums(self, axes: tuple[str, ...], state: State, accumulators: list[Value]) -> list[Value]:
        """The accumulators after all points of some axes, the innermost last."""
        if not axes:
            return self.body(state, accumulators, 0, self.cells)
        b, axis, rest = self.b, axes[0], axes[1:]
        size, step = self.kernel.sizes[axis], self.step(axis)
        if self.product is not None and self.product.by_lane and all(map(self.written_out, axes)):
            return self.windows(axes, state, accumulators)
        if size == 0:
            return accumulators
        if self.unrolled(axis) or size == 1:
            for at in range(0, size, step):
                accumulators = self.piece(
                    axis, Point(constant=at), size - at, rest, state, accumulators, 0
                )
            return accumulators
        limit = self.limits[axis]
        if limit:
            begin, end = self.range(axis, limit, state)
            inner = replace(state, known=state.known | set(limit))
            with b.loop(begin, end, carried=accumulators) as loop:
                self.fresh()
                here = inner.at(axis, Point(loop.index, 0, size - 1))
                loop.next = self.loops(rest, here, loop.carried)
            self.fresh()
            return loop.results
        copies = self.copies if axis == self.innermost else 1
        full = size // (step * copies)
        if full > 1:
            with b.loop(
                b.index(0),
                b.index(full * step * copies),
                step * copies,
                carried=accumulators,
                certain=True,
            ) as loop:
                self.fresh()
                accumulators = loop.carried
                if axis == self.innermost:
                    self.prefetch(axis, loop.index, step * copies, state)
                for copy in range(copies):
                    point = Point(
                        loop.index, copy * step, (full - 1) * step * copies, step * copies
                    )
                    accumulators = self.piece(axis, point, step, rest, state, accumulators, copy)
                loop.next = accumulators
            self.fresh()
            accumulators = loop.results
        else:
            full = 0
        for copy, at in enumerate(range(full * step * copies, size, step)):
            accumulators = self.piece(
                axis, Point(constant=at), size - at, rest, state, accumulators, copy
            )
        return accumulators

    def prefetch(self, axis: str, index: Value, step: int, state: State) -> None:
        """Asks for the rows that the next tile reads, while this one computes.

        As many bytes in each round as a round uses, for operands whose rows lie one after another:
        a tile's rows share pages, in which the processor sees no stream to follow. Beyond the last
        row this asks for memory that nobody reads, which is allowed.
        """
        b, kernel, value = self.b, self.kernel, self.stage.value
        parts = list(subexpressions(value))
        if self.wide or any(isinstance(part, Guard | Repeat) for part in parts):
            return
        for at in parts:
            if not isinstance(at, At) or at.gathers or kernel.buffers[at.buf].role == "const":
                continue
            strides = at.index.strides
            for row, count in self.schedule.tile:
                point = state.env[row]
                if row == self.schedule.vector or point.variable is None:
                    continue
                if strides.get(axis) != 1 or strides.get(row) != kernel.sizes[axis]:
                    continue
                rows = replace(point, constant=point.constant + count)
                there = state.at(row, rows).at(axis, Point())
                begin = self.emitter.access.pointer(at, there.env, self.cells[0], None, [], 1)
                dtype = kernel.buffers[at.buf].dtype
                here = b.gep(begin, b.multiple(index, count), memory_type(dtype))
                for line in range(0, step * count * dtype.bytes, 64):
                    b.prefetch(b.gep(here, line, "i8"))

    def fresh(self) -> None:
        self.emitter.access.forget()
        self.emitter.values = {}

    def piece(self, axis: str, point: Point, left: int, rest: tuple[str, ...], state: State,
              accumulators: list[Value], copy: int) -> list[Value]:  # fmt: skip
        """One step along an axis, into accumulator set `copy`."""
        here = state.at(axis, point)
        if not rest or all(self.kernel.sizes[a] == 1 for a in rest):
            for a in rest:
                here = here.at(a, Point())
            cells = self.cells
            if self.wide and axis == self.schedule.vector and left < self.wide:
                cells = tuple(replace(c, active=left) for c in cells)
            return self.body(here, accumulators, copy % self.sets, cells)
        active = self.cells
        if self.wide and axis == self.schedule.vector and left < self.wide:
            self.cells = tuple(replace(c, active=left) for c in active)
        result = self.loops(rest, here, accumulators)
        self.cells = active
        return result

    def body(
        self, state: State, accumulators: list[Value], chosen: int, cells: tuple[Cell, ...]
    ) -> list[Value]:
        """Every cell's value, taken into accumulator set `chosen`."""
        result = list(accumulators)
        for number, cell in enumerate(cells):
            at = (chosen * len(cells) + number) * self.parts
            result[at : at + self.parts] = self.take(state, cell, result[at : at + self.parts])
        return result

    def windows(self, axes: tuple[str, ...], state: State, totals: list[Value]) -> list[Value]:
        """Products of lanes that share nothing, over written-out windows: as the elements that
        overlapping windows share lie in memory, so that few have to stay in registers."""
        assert self.product is not None
        result = list(totals)
        places = [range(0, self.kernel.sizes[axis], self.step(axis)) for axis in axes]
        taken: list[tuple[int, int, int, State]] = []
        for place in itertools.product(*places):
            here = state
            for axis, at in zip(axes, place):
                here = here.at(axis, Point(constant=at))
            for number, cell in enumerate(self.cells):
                where = dots.place(self.product, here, cell, self.schedule.vector)
                taken.append((where, len(taken), number, here))
        for _, _, number, here in sorted(taken, key=lambda part: part[:2]):
            cell = self.cells[number]
            total = result[number]
            result[number] = dots.multiply_add(self.emitter, self.product, here, cell, total)
        return result

    def take(self, state: State, cell: Cell, old: list[Value]) -> list[Value]:
        b, emitter, stage, op = self.b, self.emitter, self.stage, self.reduce.op
        if self.product is not None:
            return [dots.multiply_add(emitter, self.product, state, cell, old[0])]
        value = self.value
        whole = not self.wide or cell.active == cell.lanes
        if (
            op == "add" and _is_product(value) and self.dtype.is_float and self.element != F16
            and stage.keep is None and b.fused and whole
        ):  # fmt: skip
            assert isinstance(value, Do)
            x, y = (b.splat(emitter.evaluate(e, state, cell), cell.lanes) for e in value.args)
            return [b.fma(x, y, old[0])]
        found = b.splat(emitter.evaluate(value, state, cell), cell.lanes)
        emitter.put(stage.keep, found, state, cell)
        new = [convert(b, found, self.element, self.dtype)]
        if self.reduce.is_arg:
            axis = self.reduce.axes[0]
            point = state.env[axis]
            base = (
                b.index(point.constant)
                if point.variable is None
                else b.add(point.variable, b.index(point.constant))
            )
            index = b.splat(base, cell.lanes)
            if self.wide:
                index = b.add(index, b.vector(b.index_type, range(cell.lanes)))
            index = b.cast("sext", index, vector_of(I64, cell.lanes))
            new.append(index)
        if not whole:
            mask = b.vector(I1, [lane < cell.active for lane in range(cell.lanes)])
            losing = [constant(b, self.dtype, unit(op, self.dtype), cell.lanes)]
            if self.reduce.is_arg:
                losing.append(b.const(new[1].type, -1 if op.endswith("last") else 1 << 62))
            new = [b.select(mask, mine, other) for mine, other in zip(new, losing)]
        return self.merge(old, new)

    # ------------------------------------------------------------------ skipped iterations

    def limit(self, axis: str) -> tuple[Bound, ...]:
        """Bounds outside of which this axis adds nothing, and which no tiled axis takes part in."""
        if axis == self.schedule.vector or axis in self.kernel.ordered or self.stage.keep:
            return ()
        found = []
        for guard in _vanishing(self.stage.value, self.reduce.op, unit(self.reduce.op, self.dtype)):
            for bound in guard.bounds:
                strides = bound.index.strides
                others = [a for a in strides if a != axis]
                spread = {a for cell in self.cells for a, _ in cell.offsets} | {
                    self.schedule.vector
                }
                if (
                    strides.get(axis, 0) > 0
                    and not spread.intersection(others)
                    and not any(a in self.reduce.axes for a in others)
                ):
                    found.append(bound)
        return tuple(found)

    def range(self, axis: str, bounds: tuple[Bound, ...], state: State) -> tuple[Value, Value]:
        """The values of `axis` for which all bounds hold."""
        b = self.b
        begin, end = b.index(0), b.index(self.kernel.sizes[axis])
        for bound in bounds:
            stride = bound.index.strides[axis]
            rest = self.emitter.access.integer(
                bound.index, state.at(axis, Point()).env, self.cells[0]
            )
            for low, number in ((True, 0), (False, bound.size)):
                needed = b.intrinsic("smax", b.sub(b.index(number), rest), b.index(0))
                if stride > 1:
                    needed = b.binary("udiv", b.add(needed, b.index(stride - 1)), b.index(stride))
                if low:
                    begin = b.intrinsic("smax", begin, needed)
                else:
                    end = b.intrinsic("smin", end, needed)
        return begin, end


def _vanishing(value: Expr, op: str, unit: float | int) -> list[Guard]:
    """Guards whose failing makes the whole value the unit of the reduction."""
    match value:
        case Guard(other=Num(value=other)) if other == unit:
            return [value]
        case Do(op="mul") if op == "add":
            return [g for arg in value.args for g in _vanishing(arg, "add", 0)]
    return []
