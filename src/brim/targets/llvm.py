"""Kernels in LLVM IR: loops, register tiles, stages and reductions of any kernel and schedule.

`emit` gives the text of one module with one function
`void NAME(ptr arg0, ..., i64 begin, i64 end, ptr status)` that runs iterations [begin, end) of the
outermost loop. The cells of a register tile are computed together: loads are shared, accumulators
stay in registers, and a matrix product's micro-kernel falls out of the strides. Addresses are in
`access`, operations in `instructions`, turning text into machine code in `objects`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from brim.kernels.cost import work_of
from brim.kernels.ir import (
    At,
    Carried,
    Do,
    Expr,
    Guard,
    Iota,
    Kernel,
    Num,
    Ref,
    Repeat,
    Schedule,
    Stage,
    dtype_of_expr,
)
from brim.kernels.ranges import clamped, interval
from brim.targets.access import Access, Cell, Condition, Point, State, fill_of
from brim.targets.builder import I1, I64, Builder, Value, lanes_of, with_scalar
from brim.targets.functions import divided_by
from brim.targets.instructions import constant, convert, fits, operate, whole
from brim.targets.narrow import narrowing, store_bytes
from brim.targets.reductions import Reduction
from brim.targets.repeats import repeat
from brim.targets.tables import is_table, look_up
from brim.targets.target import Target
from brim.types import DTYPES, F32, F64
from brim.types import I64 as I64_TYPE


def emit(kernel: Kernel, schedule: Schedule, target: Target) -> str:
    """The LLVM text of one kernel under one schedule (without a data layout)."""
    return Emitter(kernel, schedule, target).run()


def chunks(count: int, lanes: int) -> list[tuple[int, int, int]]:
    """`count` points as (offset, lanes, active): whole vectors, then one that is not full."""
    found = [(offset, lanes, lanes) for offset in range(0, count - lanes + 1, lanes)]
    rest = count % lanes
    if rest:
        found.append((count - rest, 1 << (rest - 1).bit_length(), rest))
    return found


class Emitter:
    def __init__(self, kernel: Kernel, schedule: Schedule, target: Target) -> None:
        self.kernel, self.schedule, self.target = kernel, schedule, target
        # an output may share memory with an input, so only constants are free of aliases
        parameters = [
            (f"%{arg.name}", "ptr noalias" if arg.role == "const" else "ptr") for arg in kernel.args
        ]
        parameters += [("%begin", I64), ("%end", I64), ("%status", "ptr")]
        self.b = Builder(
            kernel.name,
            parameters,
            target.fma,
            target.nan_extremes,
            target.lacks,
            target.index_type,
        )
        self.begin = self.b.cast("trunc", Value("%begin", I64), target.index_type)
        self.end = self.b.cast("trunc", Value("%end", I64), target.index_type)
        bases = {arg.name: Value(f"%{arg.name}", "ptr") for arg in kernel.args}
        self.access = Access(self.b, kernel, schedule.vector, bases)
        self.refs: dict[tuple[str, int], Value] = {}
        self.values: dict[tuple, tuple[Value, State]] = {}

    def run(self) -> str:
        start = State({}, (Cell(),))
        if all(self.kernel.sizes[axis] for axis in self.schedule.order):
            self.outer(self.schedule.order, start, self.stages)
        bits = self.target.vector_bytes * 8
        attributes = 'nounwind "no-builtins"'
        if self.target.architecture == "x86_64":
            attributes += f' "min-legal-vector-width"="{bits}" "prefer-vector-width"="{bits}"'
        return self.b.module(self.target.triple, attributes=attributes)

    # ------------------------------------------------------------------ outer loops and tiles

    def outer(self, axes: Sequence[str], state: State, body: Callable[[State], None]) -> None:
        """Loops over outer axes: full tiles, then one smaller tile of what remains."""
        if not axes:
            cells = tuple(replace(cell, outer=i) for i, cell in enumerate(state.cells))
            body(replace(state, cells=cells))
            return
        b, schedule, axis = self.b, self.schedule, axes[0]
        size, step = self.kernel.sizes[axis], schedule.step(axis)
        full, rest = divmod(size, step)
        first = axis == schedule.order[0] and axis not in self.kernel.ordered  # see ir.trips

        def inside(point: Point, count: int) -> None:
            cells = self.split(axis, state.cells, count)
            tiled = replace(state, cells=cells).at(axis, replace(point, count=count))
            self.outer(axes[1:], tiled, body)

        if full > 1:
            begin, end = b.index(0), b.index(full * step)
            if first:
                end = b.intrinsic("smin", self.end, b.index(full))
                begin, end = b.mul(self.begin, b.index(step)), b.mul(end, b.index(step))
            with b.loop(begin, end, step, certain=not first) as loop:
                inside(Point(loop.index, 0, (full - 1) * step, step), step)
        elif full == 1:
            if first:
                last = b.intrinsic("smin", self.end, b.index(1))
                with b.when(b.icmp("slt", self.begin, last)):
                    inside(Point(), step)
            else:
                inside(Point(), step)
        if rest:
            if first:
                with b.when(b.icmp("sgt", self.end, b.index(full))):
                    inside(Point(constant=full * step), rest)
            else:
                inside(Point(constant=full * step), rest)

    def split(self, axis: str, cells: tuple[Cell, ...], count: int) -> tuple[Cell, ...]:
        """Every cell at each of `count` points of an axis, in vectors along the vector axis."""
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

    def stages(self, state: State) -> None:
        for stage in self.kernel.stages:
            inner = stage.reduce.axes if stage.reduce else ()
            if stage.reduce and stage.out is None:
                assert set(inner) == set(stage.axes), f"{stage.name}: a Ref reduces all its axes"
            free = [axis for axis in stage.axes if axis not in inner]
            if all(self.kernel.sizes[axis] for axis in free):
                self.loops(free, state, stage)

    def loops(self, axes: Sequence[str], state: State, stage: Stage) -> None:
        """Loops over a stage's own axes that it does not reduce."""
        if not axes:
            self.access.forget()
            self.values = {}
            self.leaf(stage, state)
            return
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
            with b.loop(b.index(0), b.index(full * step), step, certain=True) as loop:
                inside(Point(loop.index, 0, (full - 1) * step, step), step)
        if rest:
            inside(Point(constant=full * step), rest)

    def leaf(self, stage: Stage, state: State) -> None:
        """One stage at one place: every cell's value, stored or kept for later stages."""
        made = narrowing(self, stage)
        if made is not None:
            state = replace(state, cells=store_bytes(self, made, state))
        if stage.reduce:
            values = self.reduction(stage, state)
        else:
            values = [self.evaluate(stage.value, state, cell) for cell in state.cells]
            for cell, value in zip(state.cells, values):
                self.put(stage.keep, value, state, cell)
        if stage.out is not None:
            self.put_tile(stage.out, values, state)
            return
        for cell, value in zip(state.cells, values):  # a let, or reduced: read by later stages
            self.refs[stage.name, cell.outer] = value

    def put_tile(self, at: At, values: list[Value], state: State) -> None:
        """Stores the values of all cells, whole squares of them at once."""
        by_place = {frozenset(c.offsets): value for c, value in zip(state.cells, values)}
        for cell, value in zip(state.cells, values):
            square = self.access.square(at, state.env, cell)
            if square is None:
                self.put(at, value, state, cell)
            elif cell.offset(square.axis) == square.start:
                places = [frozenset(c.offsets) for c in square.cells(cell)]
                column = [by_place[place] for place in places]
                self.access.store_square(at, column, state.env, cell, square)

    def put(self, at: At | None, value: Value, state: State, cell: Cell) -> None:
        if at is not None:
            gathers = self.gathers(at, state, cell, None)
            self.access.store(at, value, state.env, cell, gathers)

    # ------------------------------------------------------------------ reductions

    def reduction(self, stage: Stage, state: State) -> list[Value]:
        """The reduced value of every cell. Lanes of a reduced vector axis are folded at the end."""
        assert stage.reduce is not None
        reduce, schedule, b = stage.reduce, self.schedule, self.b
        dtype = dtype_of_expr(stage.value, self.kernel)
        inside = schedule.vector in reduce.axes
        wide = schedule.lanes if inside else 1
        if inside:
            size = self.kernel.sizes[schedule.vector]  # type: ignore[index]
            wide = min(wide, 1 << max(size - 1, 0).bit_length())
        run = Reduction(self, stage, state, wide if inside else 0)
        accumulators = run.loops(run.axes, state, run.start(state))
        found = [run.finish(accumulators, i, b) for i in range(len(state.cells))]
        return found if stage.reduce.is_arg else [convert(b, v, run.dtype, dtype) for v in found]

    # ------------------------------------------------------------------ expressions

    def evaluate(
        self, expr: Expr, state: State, cell: Cell, condition: Condition | None = None
    ) -> Value:
        """The value of an expression: a scalar when all lanes of the cell agree, else a vector."""
        b = self.b
        match expr:
            case Num():
                return constant(b, expr.dtype, expr.value)
            case Ref():
                found = self.refs[expr.stage, cell.outer]
                return b.extract(found, state.lane) if cell.lanes == 1 else found
            case Iota():
                known = self.access.known(expr.index, state.env, cell)
                positive = range(1 << (expr.dtype.bits - 1))
                if expr.dtype.is_integer and known is not None and known in positive:
                    return constant(b, expr.dtype, known)
                value = self.access.ramp(expr.index, state.env, cell)
                return convert(b, value, DTYPES[b.index_type], expr.dtype)
            case At(gathers=(gather, *_)) if is_table(expr, self.kernel, self.target):
                index = self.evaluate(gather.index, state, cell, condition)
                if lanes_of(index.type) > 1:
                    return look_up(b, self.target, self.access.bases[expr.buf], index)
                gathers = self.gathers(expr, state, cell, condition)
                return self.access.load(expr, state.env, cell, condition, gathers)
            case At():
                gathers = self.gathers(expr, state, cell, condition)
                return self.access.load(expr, state.env, cell, condition, gathers)
            case Guard():
                return self.guard(expr, state, cell, condition)
            case Carried():
                assert state.carried is not None, "a carried value outside of any repeat"
                return state.carried[0]
        key = (id(expr), id(state), cell, condition)
        if key not in self.values:  # the state is kept too, so that its id stays its own
            if isinstance(expr, Repeat):
                value = repeat(self, expr, state, cell, condition)
            else:
                value = self.operation(expr, state, cell, condition)
            self.values[key] = (value, state)
        return self.values[key][0]

    def operation(self, expr: Do, state: State, cell: Cell, condition: Condition | None) -> Value:
        b = self.b
        # Products are not contracted into sums here: a product computed in two stages (softmax of
        # x * c shifted by its maximum) must be the same number in both. Reductions do use fma.
        of = dtype_of_expr(expr.args[-1], self.kernel)
        match expr:
            case Do(op="div", args=(dividend, Num(value=divisor))) if of in (F32, F64):
                return divided_by(b, self.evaluate(dividend, state, cell, condition), divisor)
            case Do(op="cast", args=(Do(op="rint", args=(number,)) | number,), dtype=to) if (
                of == F32 and to.is_integer and fits(clamped(number), to)
            ):
                nearest = expr.args[0] is not number
                return whole(b, self.evaluate(number, state, cell, condition), to, nearest)
        args = [self.evaluate(arg, state, cell, condition) for arg in expr.args]
        return operate(b, expr.op, self.level(args), of, expr.dtype)

    def level(self, values: list[Value]) -> list[Value]:
        """Values with equal numbers of lanes."""
        lanes = max(lanes_of(v.type) for v in values)
        return [self.b.splat(v, lanes) for v in values]

    def guard(self, expr: Guard, state: State, cell: Cell, condition: Condition | None) -> Value:
        b, access = self.b, self.access
        held = access.bounds_hold(expr.bounds, state.env, cell, state.known)
        if held is True:
            return self.evaluate(expr.value, state, cell, condition)
        if held is False:
            return self.evaluate(expr.other, state, cell, condition)
        assert isinstance(held, Condition)
        fill = fill_of(expr)
        both = access.both(condition, replace(held, fill=fill or 0))
        value = self.evaluate(expr.value, state, cell, both)
        if fill is not None and (not both.by_lane or (fill == 0 and lanes_of(value.type) > 1)):
            return value
        other = self.evaluate(expr.other, state, cell, condition)
        lanes = max(lanes_of(v.type) for v in (held.value, value, other))
        return b.select(
            b.splat(held.value, lanes) if held.by_lane else held.value,
            b.splat(value, lanes),
            b.splat(other, lanes),
        )

    def gathers(self, at: At, state: State, cell: Cell, condition: Condition | None) -> list[Value]:
        """The indices of an access's gathers, clamped; a bad one sets *status.

        Where the index cannot be wrong there is nothing to test.
        """
        b = self.b
        found = []
        for gather in at.gathers:
            value = self.evaluate(gather.index, state, cell, condition)
            dtype = dtype_of_expr(gather.index, self.kernel)
            lies = interval(gather.index, self.kernel, state.carried and state.carried[1])
            if lies is not None and lies[0] >= 0 and lies[1] < gather.size:
                shorter = dtype.bits < DTYPES[b.index_type].bits
                offset = with_scalar(value.type, b.index_type)
                found.append(b.cast("zext" if shorter else "trunc", value, offset))
                continue
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
            inside = b.intrinsic("smin", low, top)
            found.append(b.cast("trunc", inside, with_scalar(index.type, b.index_type)))
        return found
