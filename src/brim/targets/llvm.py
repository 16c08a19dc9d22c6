"""Kernels in LLVM IR: loops, register tiles, stages and reductions of any kernel and schedule.

`emit` gives the text of one module with one function
`void NAME(ptr arg0, ..., i64 begin, i64 end, ptr status)` that runs iterations [begin, end) of the
outermost loop. The cells of a register tile are computed together: loads are shared, accumulators
stay in registers, and a matrix product's micro-kernel falls out of the strides. Addresses are in
`access`, operations in `instructions`, turning text into machine code in `objects`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from brim.kernels.cost import work_of
from brim.kernels.ir import (
    At,
    Bound,
    Do,
    Expr,
    Guard,
    Iota,
    Kernel,
    Num,
    Ref,
    Schedule,
    Stage,
    dtype_of_expr,
    subexpressions,
    unit,
)
from brim.targets.access import Access, Cell, Condition, Env, Point, axes_of, is_zero_guard
from brim.targets.builder import I1, I64, Builder, Value, lanes_of, vector_of
from brim.targets.instructions import combine, constant, convert, horizontal, operate, wins
from brim.targets.target import Target
from brim.types import F16, F32, I64 as I64_TYPE

def emit(kernel: Kernel, schedule: Schedule, target: Target) -> str:
    """The LLVM text of one kernel under one schedule (without a data layout)."""
    return _Emitter(kernel, schedule, target).run()


def chunks(count: int, lanes: int) -> list[tuple[int, int, int]]:
    """`count` points as (offset, lanes, active): full vectors, then one of the next power of two."""
    found = [(offset, lanes, lanes) for offset in range(0, count - lanes + 1, lanes)]
    rest = count % lanes
    if rest:
        found.append((count - rest, 1 << (rest - 1).bit_length(), rest))
    return found


@dataclass(frozen=True)
class _State:
    """What holds at one place in the loops."""

    env: Env
    cells: tuple[Cell, ...]
    known: frozenset[Bound] = frozenset()

    def at(self, axis: str, point: Point) -> _State:
        return replace(self, env={**self.env, axis: point})


class _Emitter:
    def __init__(self, kernel: Kernel, schedule: Schedule, target: Target) -> None:
        self.kernel, self.schedule, self.target = kernel, schedule, target
        # an output may share memory with an input, so only constants are free of aliases
        parameters = [
            (f"%{arg.name}", "ptr noalias" if arg.role == "const" else "ptr") for arg in kernel.args
        ]
        parameters += [("%begin", I64), ("%end", I64), ("%status", "ptr")]
        self.b = Builder(kernel.name, parameters, target.fma, target.nan_extremes, target.lacks)
        bases = {arg.name: Value(f"%{arg.name}", "ptr") for arg in kernel.args}
        self.access = Access(self.b, kernel, schedule.vector, bases)
        self.refs: dict[tuple[str, int], Value] = {}
        self.values: dict[tuple, tuple[Value, _State]] = {}

    def run(self) -> str:
        start = _State({}, (Cell(),))
        if all(self.kernel.sizes[axis] for axis in self.schedule.order):
            self.outer(self.schedule.order, start, self.stages)
        bits = self.target.vector_bytes * 8
        attributes = 'nounwind "no-builtins"'
        if self.target.architecture == "x86_64":
            attributes += f' "min-legal-vector-width"="{bits}" "prefer-vector-width"="{bits}"'
        return self.b.module(self.target.triple, attributes=attributes)

    # ------------------------------------------------------------------ outer loops and tiles

    def outer(self, axes: Sequence[str], state: _State, body: Callable[[_State], None]) -> None:
        """Loops over outer axes: full tiles, then one smaller tile of what remains."""
        if not axes:
            cells = tuple(replace(cell, outer=i) for i, cell in enumerate(state.cells))
            return body(replace(state, cells=cells))
        b, schedule, axis = self.b, self.schedule, axes[0]
        size, step = self.kernel.sizes[axis], schedule.step(axis)
        full, rest = divmod(size, step)
        first = axis == schedule.order[0]

        def inside(point: Point, count: int) -> None:
            tiled = replace(state, cells=self.split(axis, state.cells, count)).at(axis, point)
            self.outer(axes[1:], tiled, body)

        if full > 1:
            begin, end = b.i64(0), b.i64(full * step)
            if first:
                end = b.select(b.icmp("slt", _END, b.i64(full)), _END, b.i64(full))
                begin, end = b.mul(_BEGIN, b.i64(step)), b.mul(end, b.i64(step))
            with b.loop(begin, end, step, certain=not first) as loop:
                inside(Point(loop.index, 0, (full - 1) * step, step), step)
        elif full == 1:
            if first:
                with b.when(b.icmp("slt", _BEGIN, b.select(b.icmp("slt", _END, b.i64(1)), _END, b.i64(1)))):
                    inside(Point(), step)
            else:
                inside(Point(), step)
        if rest:
            if first:
                with b.when(b.icmp("sgt", _END, b.i64(full))):
                    inside(Point(constant=full * step), rest)
            else:
                inside(Point(constant=full * step), rest)

    def split(self, axis: str, cells: tuple[Cell, ...], count: int) -> tuple[Cell, ...]:
        """Every cell at each of `count` points of an axis (in vectors, if it is the vector axis)."""
        lanes = self.schedule.lanes if axis == self.schedule.vector else 1
        pieces = chunks(count, lanes)
        if len(pieces) == 1 and pieces[0] == (0, 1, 1):
            return cells
        # the vector axis varies fastest: a broadcast value then meets all its vectors at once
        if axis == self.schedule.vector:
            pairs = [(cell, piece) for cell in cells for piece in pieces]
        else:
            pairs = [(cell, piece) for piece in pieces for cell in cells]
        return tuple(
            Cell(
                (*cell.offsets, (axis, offset)) if offset else cell.offsets,
                lanes if axis == self.schedule.vector else cell.lanes,
                active if axis == self.schedule.vector else cell.active,
                cell.outer,
            )
            for cell, (offset, lanes, active) in pairs
        )

    # ------------------------------------------------------------------ stages

    def stages(self, state: _State) -> None:
        for stage in self.kernel.stages:
            inner = stage.reduce.axes if stage.reduce else ()
            if stage.reduce and stage.out is None:
                assert set(inner) == set(stage.axes), f"{stage.name}: a Ref reduces all its axes"
            free = [axis for axis in stage.axes if axis not in inner]
            if all(self.kernel.sizes[axis] for axis in free):
                self.loops(free, state, stage)

    def loops(self, axes: Sequence[str], state: _State, stage: Stage) -> None:
        """Loops over a stage's own axes that it does not reduce."""
        if not axes:
            self.access.forget()
            self.values = {}
            return self.leaf(stage, state)
        b, schedule, axis = self.b, self.schedule, axes[0]
        size = self.kernel.sizes[axis]

        def inside(point: Point, count: int) -> None:
            split = replace(state, cells=self.split(axis, state.cells, count)).at(axis, point)
            self.loops(axes[1:], split, stage)

        if axis in schedule.unroll and axis not in self.kernel.ordered:
            step = schedule.lanes if axis == schedule.vector else 1
            for at in range(0, size, step):
                inside(Point(constant=at), min(step, size - at))
            return
        step = 1
        if axis == schedule.vector:
            copies = 1 if work_of(stage.value) > 12 else 4 // len(state.cells)
            step = schedule.lanes * max(1, min(copies, size // schedule.lanes))
        full, rest = divmod(size, step)
        if full == 1:
            inside(Point(), step)
        elif full:
            with b.loop(b.i64(0), b.i64(full * step), step, certain=True) as loop:
                inside(Point(loop.index, 0, (full - 1) * step, step), step)
        if rest:
            inside(Point(constant=full * step), rest)

    def leaf(self, stage: Stage, state: _State) -> None:
        """One stage at one place: every cell's value, stored or kept for later stages."""
        if stage.reduce:
            results = self.reduction(stage, state)
        else:
            results = []
            for cell in state.cells:
                value = self.evaluate(stage.value, state, cell)
                results.append(value)
                self.put(stage.keep, value, state, cell)
                self.put(stage.out, value, state, cell)
                if stage.out is None:  # a let, read by later stages
                    self.refs[stage.name, cell.outer] = value
            return
        for cell, value in zip(state.cells, results):
            if stage.out is None:
                self.refs[stage.name, cell.outer] = value
            else:
                self.put(stage.out, value, state, cell)

    def put(self, at: At | None, value: Value, state: _State, cell: Cell) -> None:
        if at is not None:
            gathers = self.gathers(at, state, cell, None)
            self.access.store(at, value, state.env, cell, gathers)

    # ------------------------------------------------------------------ reductions

    def reduction(self, stage: Stage, state: _State) -> list[Value]:
        """The reduced value of every cell. Lanes of a reduced vector axis are folded at the end."""
        assert stage.reduce is not None
        reduce, schedule, b = stage.reduce, self.schedule, self.b
        dtype = dtype_of_expr(stage.value, self.kernel)
        inside = schedule.vector in reduce.axes
        wide = schedule.lanes if inside else 1
        if inside:
            size = self.kernel.sizes[schedule.vector]  # type: ignore[index]
            wide = min(wide, 1 << max(size - 1, 0).bit_length())
        run = _Reduction(self, stage, state, wide if inside else 0)
        accumulators = run.loops(run.axes, state, run.start())
        return [run.finish(accumulators, i, dtype, b) for i in range(len(state.cells))]

    # ------------------------------------------------------------------ expressions

    def evaluate(
        self, expr: Expr, state: _State, cell: Cell, condition: Condition | None = None
    ) -> Value:
        """The value of an expression: a scalar when all lanes of the cell agree, else a vector."""
        b = self.b
        match expr:
            case Num():
                return constant(b, expr.dtype, expr.value)
            case Ref():
                return self.refs[expr.stage, cell.outer]
            case Iota():
                value = self.access.ramp(expr.index, state.env, cell)
                return convert(b, value, I64_TYPE, expr.dtype)
            case At():
                gathers = self.gathers(expr, state, cell, condition)
                return self.access.load(expr, state.env, cell, condition, gathers)
            case Guard():
                return self.guard(expr, state, cell, condition)
        key = (id(expr), id(state), cell, condition)
        if key not in self.values:  # the state is kept too, so that its id stays its own
            self.values[key] = (self.operation(expr, state, cell, condition), state)
        return self.values[key][0]

    def operation(self, expr: Do, state: _State, cell: Cell, condition: Condition | None) -> Value:
        b = self.b
        # Products are not contracted into sums here: a product computed in two stages (softmax of
        # x * c shifted by its maximum) must be the same number in both. Reductions do use fma.
        args = [self.evaluate(arg, state, cell, condition) for arg in expr.args]
        of = dtype_of_expr(expr.args[-1], self.kernel)
        return operate(b, expr.op, self.level(args), of, expr.dtype)

    def level(self, values: list[Value]) -> list[Value]:
        """Values with equal numbers of lanes."""
        lanes = max(lanes_of(v.type) for v in values)
        return [self.b.splat(v, lanes) for v in values]

    def guard(self, expr: Guard, state: _State, cell: Cell, condition: Condition | None) -> Value:
        b, access = self.b, self.access
        held = access.bounds_hold(expr.bounds, state.env, cell, state.known)
        if held is True:
            return self.evaluate(expr.value, state, cell, condition)
        if held is False:
            return self.evaluate(expr.other, state, cell, condition)
        assert isinstance(held, Condition)
        value = self.evaluate(expr.value, state, cell, access.both(condition, held))
        if is_zero_guard(expr) and not (held.by_lane and lanes_of(value.type) == 1):
            return value
        other = self.evaluate(expr.other, state, cell, condition)
        lanes = max(lanes_of(v.type) for v in (held.value, value, other))
        return b.select(
            b.splat(held.value, lanes) if held.by_lane else held.value,
            b.splat(value, lanes),
            b.splat(other, lanes),
        )

    def gathers(
        self, at: At, state: _State, cell: Cell, condition: Condition | None
    ) -> list[Value]:
        """The indices of an access's gathers, clamped; a bad one sets *status."""
        b = self.b
        found = []
        for gather in at.gathers:
            value = self.evaluate(gather.index, state, cell, condition)
            dtype = dtype_of_expr(gather.index, self.kernel)
            index = convert(b, value, dtype, I64_TYPE)
            good = b.icmp("ult", index, b.const(index.type, gather.size))
            bad = b.not_(good)
            if condition is not None:
                holds, wrong = self.level([condition.value, bad])
                bad = b.and_(holds, wrong)
            if lanes_of(bad.type) > 1:
                if cell.active < cell.lanes:
                    live = b.vector(I1, [lane < cell.active for lane in range(cell.lanes)])
                    bad = b.and_(bad, live)
                bad = b.intrinsic("vector.reduce.or", bad, result=I1)
            with b.when(bad):
                b.store(b.const("i32", 1), Value("%status", "ptr"), 4)
            top = b.const(index.type, gather.size - 1)
            low = b.intrinsic("smax", index, b.zero(index.type))
            found.append(b.intrinsic("smin", low, top))
        return found


_BEGIN, _END = Value("%begin", I64), Value("%end", I64)


def _is_product(expr: Expr) -> bool:
    return isinstance(expr, Do) and expr.op == "mul"


class _Reduction:
    """One reduction being built: its accumulators travel through the loops as a flat list.

    There are `sets` of one accumulator for each cell (for arg reductions: a value and an index), so
    that there are always enough independent ones to hide the latency of the arithmetic.
    """

    def __init__(self, emitter: _Emitter, stage: Stage, state: _State, wide: int) -> None:
        assert stage.reduce is not None
        self.emitter, self.stage, self.reduce = emitter, stage, stage.reduce
        self.b, self.kernel, self.schedule = emitter.b, emitter.kernel, emitter.schedule
        self.wide = wide
        target = emitter.target
        self.cells = tuple(replace(c, lanes=wide, active=wide) for c in state.cells) if wide else state.cells
        self.element = dtype_of_expr(stage.value, self.kernel)
        self.dtype = F32 if self.element == F16 else self.element
        looped = [a for a in self.reduce.axes if not self.unrolled(a) and self.kernel.sizes[a] > 1]
        # Loads that written-out copies of one loop body share stay in registers between them (LLVM
        # sees to that), so only small tiles may do it.
        self.axes = self.reduce.axes
        if len(self.cells) * 4 <= target.registers:
            self.axes = tuple(sorted(self.axes, key=self.unrolled))
        self.limits = {axis: self.limit(axis) for axis in looped}
        self.innermost = looped[-1] if looped and not self.limits[looped[-1]] else None
        self.copies = self.unroll_factor()
        needed = target.fma_latency * target.fma_issue
        self.sets = 1
        while self.sets < self.copies and self.sets * len(self.cells) < needed:
            self.sets *= 2
        self.parts = 2 if self.reduce.is_arg else 1

    def unrolled(self, axis: str) -> bool:
        return axis in self.schedule.unroll and axis not in self.kernel.ordered

    def step(self, axis: str) -> int:
        return self.wide if self.wide and axis == self.schedule.vector else 1

    def unroll_factor(self) -> int:
        """Copies of the innermost loop's body: enough work to hide latency and the loop itself."""
        if self.innermost is None or self.innermost in self.kernel.ordered:
            return 1
        trips = self.kernel.sizes[self.innermost] // self.step(self.innermost)
        # long expressions overlap from one round to the next without being written out
        most = 12 / max(1.0, work_of(self.stage.value) / 4)
        copies = 1
        while copies < 8 and copies * len(self.cells) < most and trips >= 2 * copies:
            if trips % (2 * copies) and trips < 8 * copies:
                break  # what remains is written out too
            copies *= 2
        return copies

    # ------------------------------------------------------------------ accumulators

    def start(self) -> list[Value]:
        b, found = self.b, []
        for cell in self.cells * self.sets:
            found.append(constant(b, self.dtype, unit(self.reduce.op, self.dtype), cell.lanes))
            if self.reduce.is_arg:
                found.append(b.const(vector_of(I64, cell.lanes), 0))
        return found

    def finish(self, accumulators: list[Value], cell: int, dtype: object, b: Builder) -> Value:
        """The result of one cell: its sets combined, then its lanes."""
        per_set = len(self.cells) * self.parts
        mine = [
            accumulators[s * per_set + cell * self.parts :][: self.parts] for s in range(self.sets)
        ]
        while len(mine) > 1:
            mine = [self.merge(mine[i], mine[i + 1]) for i in range(0, len(mine), 2)]
        result = mine[0]
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

    def loops(self, axes: tuple[str, ...], state: _State, accumulators: list[Value]) -> list[Value]:
        if not axes:
            return self.body(state, accumulators, 0, self.cells)
        b, axis, rest = self.b, axes[0], axes[1:]
        size, step = self.kernel.sizes[axis], self.step(axis)
        if size == 0:
            return accumulators
        if self.unrolled(axis) or size == 1:
            for at in range(0, size, step):
                accumulators = self.piece(axis, Point(constant=at), size - at, rest, state, accumulators, 0)
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
            with b.loop(b.i64(0), b.i64(full * step * copies), step * copies, carried=accumulators, certain=True) as loop:
                self.fresh()
                accumulators = loop.carried
                for copy in range(copies):
                    point = Point(loop.index, copy * step, (full - 1) * step * copies, step * copies)
                    accumulators = self.piece(axis, point, step, rest, state, accumulators, copy)
                loop.next = accumulators
            self.fresh()
            accumulators = loop.results
        else:
            full = 0
        for copy, at in enumerate(range(full * step * copies, size, step)):
            accumulators = self.piece(axis, Point(constant=at), size - at, rest, state, accumulators, copy)
        return accumulators

    def fresh(self) -> None:
        self.emitter.access.forget()
        self.emitter.values = {}

    def piece(self, axis: str, point: Point, left: int, rest: tuple[str, ...], state: _State,
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

    def body(self, state: _State, accumulators: list[Value], chosen: int, cells: tuple[Cell, ...]) -> list[Value]:
        """Every cell's value, taken into accumulator set `chosen`."""
        result = list(accumulators)
        for number, cell in enumerate(cells):
            at = (chosen * len(cells) + number) * self.parts
            result[at : at + self.parts] = self.take(state, cell, result[at : at + self.parts])
        return result

    def take(self, state: _State, cell: Cell, old: list[Value]) -> list[Value]:
        b, emitter, stage, op = self.b, self.emitter, self.stage, self.reduce.op
        value = stage.value
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
            base = b.i64(point.constant) if point.variable is None else b.add(point.variable, b.i64(point.constant))
            index = b.splat(base, cell.lanes)
            if self.wide:
                index = b.add(index, b.vector(I64, range(cell.lanes)))
            new.append(index)
        if not whole:
            mask = b.vector(I1, [lane < cell.active for lane in range(cell.lanes)])
            losing = [constant(b, self.dtype, unit(op, self.dtype), cell.lanes)]
            if self.reduce.is_arg:
                losing.append(b.const(new[1].type, -1 if op.endswith("last") else 1 << 62))
            new = [b.select(mask, n, l) for n, l in zip(new, losing)]
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
                spread = {a for cell in self.cells for a, _ in cell.offsets} | {self.schedule.vector}
                if strides.get(axis, 0) > 0 and not spread.intersection(others) and not any(
                    a in self.reduce.axes for a in others
                ):
                    found.append(bound)
        return tuple(found)

    def range(self, axis: str, bounds: tuple[Bound, ...], state: _State) -> tuple[Value, Value]:
        """The values of `axis` for which all bounds hold."""
        b = self.b
        begin, end = b.i64(0), b.i64(self.kernel.sizes[axis])
        for bound in bounds:
            stride = bound.index.strides[axis]
            rest = self.emitter.access.integer(bound.index, state.at(axis, Point()).env, self.cells[0])
            for low, number in ((True, 0), (False, bound.size)):
                needed = b.intrinsic("smax", b.sub(b.i64(number), rest), b.i64(0))
                if stride > 1:
                    needed = b.binary("udiv", b.add(needed, b.i64(stride - 1)), b.i64(stride))
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
