"""The price of a schedule: what `choose` compares. Arithmetic on extents and strides, no measuring.

A register tile's step costs the largest of its issue, load and latency cycles; loops, edges and
horizontal sums come on top; then what memory takes (`brim.kernels.traffic`). The constants are
fields of `Target`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from brim.kernels.dots import Product, product_of
from brim.kernels.factors import factored
from brim.kernels.ir import (
    At,
    Do,
    Expr,
    Guard,
    Iota,
    Kernel,
    Num,
    Repeat,
    Schedule,
    Stage,
    dtype_of_expr,
    subexpressions,
)
from brim.kernels.traffic import LINE, PAGE, STEPS, Access, traffic_of
from brim.targets.target import Target
from brim.types import F16

# Vector instructions that an operation stands for, where it is not about one.
_WORK = {
    "exp": 14, "log": 18, "tanh": 20, "erf": 24, "sin": 20, "cos": 20, "atan": 20, "atan2": 30,
    "power": 45, "div": 8, "sqrt": 10, "mod": 12, "fmod": 12,
}  # fmt: skip

# Cycles per lane of stores and loads that are not contiguous, and of loads from the same lines.
_SCATTER, _PICK, _NEARBY = 1.5, 0.7, 0.45

# Repeats that run side by side; cycles of each instruction of one of them, and of a step alone. A
# place of a table, which the cells of a tile share, comes from the second cache, or from beyond.
CHAINS, _CHAINED, _ALONE, _NEAR, _FAR = 8, 0.3, 20.0, 2.0, 8.0

# Instructions a core starts per cycle. Addresses PAGE bytes apart compete for WAYS lines of the
# first cache; _CONFLICT: cycles that each load of a tile that loses them costs.
_WIDTH, WAYS, _CONFLICT = 5.0, 8, 0.65

# How much longer weights may take that are stored without padding, as a part of the padding.
_PADDED = 0.1

# Making the bytes of a group words, which about so many cells of a tile share.
_WORDS, _SHARING = 1.4, 2.5

# Instructions behind an integer product mostly find a unit that does not multiply.
_MIXED = 0.5

# Instructions of straight code that are as much text as one cell of a product.
_CELL = 16.0

# Cycles of entering an inner loop (its exit is mispredicted now and then), of starting a tile that
# has inner loops, and one that has not.
_ENTER, _START, _NEXT = 8.0, 12.0, 1.0


def predict(kernel: Kernel, schedule: Schedule, target: Target, again: bool = False) -> float:
    """Seconds on one core. again: it has just run, and caches hold what it left there."""
    return rank(kernel, [schedule], target, again)[0][0]


def memory_share(kernel: Kernel, schedule: Schedule, target: Target) -> float:
    """The part of a schedule's price that is waiting for memory; the rest is for instructions."""
    facts = _parts(kernel, schedule)
    waits = _traffic(kernel, facts, schedule, target, again=False)
    return waits / (waits + _compute(kernel, facts, schedule, target))


def work_of(expr: Expr) -> float:
    """Vector instructions that computing an expression takes, without its loads."""
    match expr:
        case Do(op="cast", args=(At(gathers=()) | Guard(value=At(gathers=())),)):
            return 0.0  # once per load, which many cells share
        case Do(op="div", args=(dividend, Num())):
            return 2.0 + work_of(dividend)
        case Do():
            return _WORK.get(expr.op, 1) + sum(work_of(arg) for arg in expr.args)
        case Guard():
            return work_of(expr.value)
        case At():
            return sum(work_of(gather.index) for gather in expr.gathers)
        case Repeat():  # the code of one round for all lanes; its time is in `_tile`
            return CHAINS * _instructions(expr)
    return 0.0


def _instructions(expr: Repeat) -> float:
    """Instructions and loads of one step of a repeat."""
    loads = sum(isinstance(part, At) for part in subexpressions(expr.step))
    return work_of(expr.step) + loads


def bits_of(expr: Expr, kernel: Kernel) -> int:
    """The width of the widest elements an expression computes with (not those of addresses)."""
    match expr:
        case At():
            dtype = kernel.buffers[expr.buf].dtype
            return 32 if dtype == F16 else dtype.bits
        case Guard():
            return bits_of(expr.value, kernel)
        case Repeat():
            return bits_of(expr.step, kernel)
        case Iota():
            return min(expr.dtype.bits, 32)
        case Do():
            return max(expr.dtype.bits, *(bits_of(arg, kernel) for arg in expr.args))
    return expr.dtype.bits


@dataclass(frozen=True)
class _Facts:
    """What the price needs to know of one loop of stages, or of all those outside of any."""

    axes: tuple[str, ...]
    accesses: tuple[Access, ...]
    work: float
    bits: int
    inner: tuple[str, ...]  # its reduction axes
    repeats: tuple[Repeat, ...]
    product: Product | None  # what a dot instruction computes of it
    operands: tuple[tuple[frozenset[str], float], ...]  # a product's: their axes, and their work

    def points(self, axis: str, sizes: dict[str, int]) -> int:
        """Steps that its loop along an axis takes."""
        grouped = self.product is not None and self.product.axis == axis
        return -(-sizes[axis] // self.product.dot.group) if grouped else sizes[axis]  # type: ignore[union-attr]


def _parts(kernel: Kernel, schedule: Schedule) -> list[_Facts]:
    """A kernel's loops, and as one piece of code what has none: Winograd's hundreds of stages."""
    loops = [[stage] for stage in kernel.stages if stage.axes]
    straight = [stage for stage in kernel.stages if not stage.axes]
    found = [_facts(kernel, stages, schedule) for stages in (*loops, straight) if stages]
    if any(facts.product is not None for facts in found):
        found = [
            facts if facts.product else replace(facts, work=facts.work * _MIXED) for facts in found
        ]
    return found


def _facts(kernel: Kernel, stages: Sequence[Stage], schedule: Schedule) -> _Facts:
    """Of one stage, or of several without axes."""
    value, reduce = stages[0].value, stages[0].reduce
    dot = product_of(kernel, stages[0], schedule.vector, schedule.dot)
    work = sum(work_of(stage.value) for stage in stages)
    product = isinstance(value, Do) and value.op == "mul"
    operands: tuple[tuple[frozenset[str], float], ...] = ()
    if reduce and product:
        taken = factored(kernel, stages[0], reduce.axes)
        pair = (taken.value if taken else value).args  # type: ignore[union-attr]
        operands = tuple((_axes(e), work_of(e)) for e in pair if work_of(e))
        work = 1.0
    if reduce and not (product and dtype_of_expr(value, kernel).is_float):
        work += 3 if reduce.op in ("max", "min") else 5 if reduce.is_arg else 1
    if dot is not None:
        work, operands = dot.dot.cost, ()
        if dot.dot.parts > 1 and not dot.by_lane:  # the rest: bytes are made words once for all
            work -= 2 * _WORDS / _SHARING
            operands = tuple((_axes(e), _WORDS) for e in (dot.shared, dot.own))
    found = [pair for stage in stages for pair in _accesses(stage)]
    # loads of equal addresses are one load
    unique = {(at.buf, at.index, at.gathers): (at, write) for at, write in found}
    alike: dict[tuple, list[tuple[At, bool]]] = {}
    for at, write in unique.values():
        alike.setdefault((at.buf, at.index.terms, at.gathers, write), []).append((at, write))
    parts = [part for stage in stages for part in subexpressions(stage.value)]
    guards = [part.value for part in parts if isinstance(part, Guard)]
    guarded = {part for value in guards for part in subexpressions(value) if isinstance(part, At)}
    return _Facts(
        stages[0].axes,
        tuple(_access(kernel, stages[0], pairs, guarded, dot) for pairs in alike.values()),
        work,
        max(bits_of(stage.value, kernel) for stage in stages),
        reduce.axes if reduce else (),
        tuple({id(part): part for part in parts if isinstance(part, Repeat)}.values()),
        dot,
        operands,
    )


def _axes(expr: Expr) -> frozenset[str]:
    """The axes that the loads of an expression follow."""
    loads = (part for part in subexpressions(expr) if isinstance(part, At))
    return frozenset(axis for at in loads for axis in at.index.strides)


def _accesses(stage: Stage) -> Iterator[tuple[At, bool]]:
    for part in subexpressions(stage.value):
        if isinstance(part, At):
            yield part, False
    for at in (stage.keep, stage.out):
        if at is not None:
            yield at, True


def _access(
    kernel: Kernel,
    stage: Stage,
    pairs: list[tuple[At, bool]],
    guarded: set[At],
    product: Product | None,
) -> Access:
    at, write = pairs[0]
    arg, reduced = kernel.buffers[at.buf], stage.reduce is not None
    shared = product is not None and at in subexpressions(product.shared)
    own = product is not None and at == product.own
    group = product.dot.group if product is not None and (shared or own) else 1
    rows = group if product is not None and product.by_lane and shared else 0
    return Access(
        {axis: stride for axis, stride in at.index.strides.items() if stride},
        arg.dtype.bytes,
        arg.size * arg.dtype.bytes,
        write,
        reduced and at is stage.out,
        arg.role == "const" and reduced and not at.gathers,
        len(pairs),
        not at.gathers and guarded.isdisjoint(at for at, _ in pairs),
        arg.dtype.bits * group,
        shared and product is not None and product.shift != 0,
        followed(at),
        prod([gather.size for gather in at.gathers]),
        rows,
    )


def followed(at: At) -> frozenset[str]:
    """The axes along which the gathers of an access look up where to go."""
    parts = [part for gather in at.gathers for part in subexpressions(gather.index)]
    indices = [part.index for part in parts if isinstance(part, (At, Iota))]
    return frozenset(axis for index in indices for axis in index.strides)


def rank(
    kernel: Kernel, schedules: Sequence[Schedule], target: Target, again: bool = False
) -> list[tuple[float, Schedule]]:
    """All schedules as (seconds, schedule), cheapest first; `again` as for `predict`.

    Memory is priced only while it can still decide: what computes longer than the best takes in all
    keeps the price of its instructions.
    """
    parts = {(s.vector, s.dot): s for s in schedules}
    facts_of = {key: _parts(kernel, schedule) for key, schedule in parts.items()}
    facts = next(iter(facts_of.values()))
    traffic: dict[tuple, float] = {}
    found, best = [], math.inf
    computed = [
        (_compute(kernel, facts_of[schedule.vector, schedule.dot], schedule, target), schedule)
        for schedule in schedules
    ]
    computed.sort(key=lambda pair: pair[0])
    for cycles, schedule in computed:
        if cycles < best:
            loops = tuple((axis, schedule.step(axis)) for axis in schedule.order)
            key = (loops, schedule.vector)
            if key not in traffic:
                own = facts_of[schedule.vector, schedule.dot]
                traffic[key] = _traffic(kernel, own, schedule, target, again)
            cycles += traffic[key]
        # between equals: what several threads can share, what compiles sooner, and what is stored
        few = 0.02 if schedule.order and _trips(kernel, schedule) < 8 else 0.0
        few += _PADDED * _padding(kernel, schedule)
        cycles *= 1 + few + _code(kernel, facts, schedule) * 3e-4
        best = min(best, cycles)
        found.append((cycles / (target.ghz * 1e9), schedule))
    found.sort(key=lambda pair: pair[0])
    return found


def _traffic(
    kernel: Kernel, facts: list[_Facts], schedule: Schedule, target: Target, again: bool
) -> float:
    heaviest = max(facts, key=lambda f: prod([kernel.sizes[a] for a in f.axes]))
    return traffic_of(
        [access for f in facts for access in f.accesses],
        kernel.sizes,
        tuple((axis, schedule.step(axis)) for axis in schedule.order),
        heaviest.axes,
        schedule.vector,
        target,
        again,
    )


def _padding(kernel: Kernel, schedule: Schedule) -> float:
    """The part by which packing for a dot instruction enlarges weights: the last block is whole."""
    if schedule.dot is None or schedule.vector is None:
        return 0.0
    size, step = kernel.sizes[schedule.vector], schedule.step(schedule.vector)
    return -size % step / size


def _trips(kernel: Kernel, schedule: Schedule) -> int:
    axis = schedule.order[0]
    return -(-kernel.sizes[axis] // schedule.step(axis))


def _code(kernel: Kernel, facts: list[_Facts], schedule: Schedule) -> float:
    """The length of the text, in cells of products: tiles, their remainders, written-out axes."""
    cells, sides = 1, 0
    loops = any(f.axes for f in facts)
    each = 1.0 if loops else max(1.0, sum(f.work for f in facts) / _CELL)
    for axis, count in schedule.tile:
        step = schedule.step(axis)
        side = min(count, kernel.sizes[axis]) + kernel.sizes[axis] % step * count // step
        cells, sides = cells * side, sides + side
    return (cells + sides) * each * prod([kernel.sizes[a] for a in schedule.unroll])


# ------------------------------------------------------------------ instructions


def _compute(kernel: Kernel, facts: list[_Facts], schedule: Schedule, target: Target) -> float:
    """Cycles of all instructions: full tiles and what remains of each axis, at their own price."""
    untiled, choices = 1, []
    for axis in kernel.outer:
        size, step = kernel.sizes[axis], schedule.step(axis)
        lanes = schedule.lanes if axis == schedule.vector else 1
        if step == 1:
            untiled *= size
            continue
        full, rest = divmod(size, step)
        options = [(full, axis, step // lanes)] if full else []
        if rest:
            options.append((1, axis, -(-rest // lanes)))
        choices.append(options)
    total = 0.0
    for combination in product(*choices):
        counts = {axis: count for _, axis, count in combination}
        tiles = untiled * prod([trips for trips, _, _ in combination])
        total += tiles * sum(_tile(kernel, f, counts, schedule, target) for f in facts)
    return total


def _tile(
    kernel: Kernel, facts: _Facts, counts: dict[str, int], schedule: Schedule, target: Target
) -> float:
    """Cycles of one loop, or of what is outside of them, for one register tile."""
    vector, lanes, sizes = schedule.vector, schedule.lanes, kernel.sizes
    points = 1
    for axis in facts.axes:
        points *= -(-sizes[axis] // lanes) if axis == vector else facts.points(axis, sizes)
    cells = prod(counts.values())
    wide = vector is not None and (vector in kernel.outer or vector in facts.axes)
    # processors with 64-byte vectors start twice as many of half that width
    least = 0.5 if target.vector_bytes == 64 else 1.0
    width = max(least, lanes * facts.bits / (target.vector_bytes * 8)) if wide else least
    loads, operands, once, lost = 0.0, 0, 0.0, 0.0
    by_lane = facts.product is not None and facts.product.by_lane
    shares = by_lane or cells * 4 <= target.registers
    for access in facts.accesses:
        number = access.times
        for axis, count in counts.items():
            if access.moves_along(axis):
                number *= count
        stride = access.strides.get(vector, 0) if vector is not None else 0
        if vector in access.followed:
            cost = number * lanes * (_SCATTER if access.write else _PICK)
        elif access.rows:
            vectors = counts.get(vector or "", 1)
            cost = number * width * _interleaved(access, vectors) / target.load_issue
            operands += min(access.rows, vectors)
        elif stride == 0 and vector is not None and not access.write:
            cost = number / max(target.load_issue, 2.0)
        elif stride in (0, 1) or (access.packs and vector in kernel.outer):
            cost = number * width / target.load_issue * (2 if access.write else 1)
            operands += 0 if access.write else number
            if by_lane and access.packs and facts.inner:  # a window's weights, for all its places
                operands += number * (facts.points(facts.inner[-1], sizes) - 1)
        else:
            cost = number * _across(access, stride, counts, width, schedule, target)
        if (access.bits < facts.bits or access.changed) and not access.write:
            cost *= 2  # widened after loading
        if access.once:
            once += cost
        else:
            if shares and schedule.unroll:
                cost *= _shared(access, counts, schedule, sizes)
            loads += cost
            lost += _CONFLICT * _conflicts(access, counts, schedule) * access.times
    work = facts.work * cells
    for axes, of_operand in facts.operands:  # once for all cells that share it
        work += of_operand * prod([count for axis, count in counts.items() if axis in axes])
    issue = work * width / target.fma_issue
    started = (work * width + loads * target.load_issue + 3) / _WIDTH
    # loads hide behind arithmetic, but not for nothing
    step = max(issue, loads, started) + lost + 0.1 * loads
    for repeat in facts.repeats:
        side_by_side = lanes if wide else 1  # a lane by itself waits for its loads
        each = max(_instructions(repeat) * _CHAINED * side_by_side, _ALONE)
        step += repeat.times * (each * cells + _fetched(kernel, repeat, counts, schedule, target))
    quick = facts.product is not None  # its loops are short, and their ends are foreseen
    start = _NEXT if quick or not facts.axes else _START
    total = start + once + cells * 0.5 * (points > 1)
    if facts.inner:
        spilled = cells + min(operands, cells) + 1 - target.registers
        if facts.inner[-1] in schedule.unroll and not shares:
            spilled += sum(_kept(a, counts, facts.inner[-1], sizes) for a in facts.accesses)
        step += max(0, spilled) * 2 / target.load_issue
        last = facts.points(facts.inner[-1], sizes)
        copies = 8 if cells < 12 and last >= 16 else 1
        step = max(
            step, target.fma_latency / max(1, min(copies, 16 // cells)) if cells < 12 else 0.0
        )
        entries = prod([sizes[a] for a in facts.inner[:-1]])
        total += (entries if last > 9 else 1) * (_NEXT if quick else _ENTER)
        if vector in facts.inner:
            total += (cells + 1) * lanes.bit_length() + 2  # sums across lanes, side by side
    return total + points * step


def _interleaved(access: Access, vectors: int) -> float:
    """Loads and shuffles of rows of lanes for each vector, where a tile has some side by side."""
    rows, left, total = access.rows, vectors, 0
    while left:
        together = min(rows, 1 << left.bit_length() - 1)
        total += rows + (rows + max(2 * together, 3) if rows == 4 else together)
        left -= together
    return total / vectors + (access.bits < 32)


def _across(
    access: Access,
    stride: int,
    counts: dict[str, int],
    width: float,
    schedule: Schedule,
    target: Target,
) -> float:
    """Cycles of an access whose lanes lie `stride` elements apart, for one vector."""
    lanes, along = schedule.lanes, _squared(access, counts)
    if along > 1:  # rows of a square, put together and transposed
        size = min(lanes, 1 << (along.bit_length() - 1))
        rows = lanes // size
        moves = rows * (2 if access.write else 1) / target.load_issue
        return moves + rows - 1 + (size.bit_length() - 1) * width
    if 1 < stride <= STEPS and not access.write:
        return (2 * stride - 1) * width
    near = stride * access.bytes < LINE
    return lanes * (_SCATTER if access.write else _NEARBY if near else _PICK)


def _squared(access: Access, counts: dict[str, int]) -> int:
    """Points of a tile that lie side by side in memory for an access that crosses the vectors."""
    along = [n for axis, n in counts.items() if access.free and access.strides.get(axis) == 1]
    return along[0] if along else 1


def _fetched(
    kernel: Kernel, repeat: Repeat, counts: dict[str, int], schedule: Schedule, target: Target
) -> float:
    """Cycles of fetching what one round of a repeat reads of tables for all cells of a tile."""
    loads = [part for part in subexpressions(repeat.step) if isinstance(part, At)]
    tables = [part for part in loads if kernel.buffers[part.buf].role == "const"]
    along = [*tables, *(part for part in subexpressions(repeat.start) if isinstance(part, At))]
    axes = {axis for at in along for axis in at.index.strides}  # other tables for each point
    places = len(tables) * prod([count for axis, count in counts.items() if axis in axes])
    places *= schedule.lanes if schedule.vector in axes else 1
    size = sum(arg.size * arg.dtype.bytes for arg in {kernel.buffers[t.buf] for t in tables})
    return places * (_NEAR if size <= target.caches[1] else _FAR)


def _shared(
    access: Access, counts: dict[str, int], schedule: Schedule, sizes: dict[str, int]
) -> float:
    """The part of a tile's loads that is left when overlapping windows load every element once."""
    part = 1.0
    for axis, count in counts.items():
        step = access.strides.get(axis, 0)
        if axis == schedule.vector or count == 1 or not step:
            continue
        for window in schedule.unroll:
            move = access.strides.get(window, 0)
            if move and step % move == 0:
                size = sizes[window]
                part *= min(1.0, ((count - 1) * (step // move) + size) / (count * size))
    return part


def _kept(access: Access, counts: dict[str, int], window: str, sizes: dict[str, int]) -> int:
    """Loads of a tile that stay in registers for the next points of a written-out window."""
    move = access.strides.get(window, 0)
    for axis, count in counts.items():
        step = access.strides.get(axis, 0)
        if count > 1 and step and move:
            if move % step == 0:
                return max(0, count - move // step)
            if step % move == 0 and sizes[window] > step // move:
                return count - 1
    return 0


def _conflicts(access: Access, counts: dict[str, int], schedule: Schedule) -> float:
    """Loads of a tile that fall into too few sets of the first cache, which then loses them.

    Picked lanes wait one by one: the more of them compete, the longer each.
    """
    for axis, count in counts.items():
        stride = access.strides.get(axis, 0)
        picked = axis == schedule.vector and stride != 1 and not access.packs
        picked = picked and _squared(access, counts) == 1
        loads = count * (schedule.lanes if picked else 1)
        distance = stride * access.bytes
        compete = loads * math.gcd(distance, PAGE) / (PAGE * WAYS) if distance else 0.0
        if loads > 1 and picked and compete >= 1:
            return loads * compete**2
        if loads > 1 and compete > 1:
            return loads
    return 0.0
