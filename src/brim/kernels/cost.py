"""The price of a schedule: what `choose` compares. One page of arithmetic, nothing is measured.

Cycles of a tile step are the largest of FMA issue, load issue and FMA latency, plus what spills,
loops and edges add; the bytes that move between cache levels may be slower still. Constants are the
fields of `Target`.
"""

from __future__ import annotations

from math import prod

from brim.kernels.ir import At, Do, Expr, Guard, Kernel, Schedule, Stage, subexpressions
from brim.targets.target import Target

# Vector instructions that an operation stands for, where it is not about one.
_WORK = {
    "exp": 14, "log": 18, "tanh": 20, "erf": 24, "sin": 20, "cos": 20, "atan": 20, "atan2": 30,
    "power": 45, "div": 8, "sqrt": 10, "mod": 12, "fmod": 12,
}  # fmt: skip


def register_budget(kernel: Kernel, lanes: int, target: Target) -> int:
    """Accumulators that fit the registers beside operands."""
    return max(1, target.registers - (4 if target.registers > 16 else 3))


def predict(kernel: Kernel, schedule: Schedule, target: Target) -> float:
    """Seconds on one core."""
    cycles = sum(_stage(kernel, stage, schedule, target) for stage in kernel.stages)
    return max(cycles, _traffic(kernel, schedule, target)) / (target.ghz * 1e9)


def _cells(kernel: Kernel, schedule: Schedule) -> tuple[float, float]:
    """Register tiles that the outer loops run, and vectors in a full one."""
    tiles, cells = 1.0, 1.0
    for axis in kernel.outer:
        size, step = kernel.sizes[axis], schedule.step(axis)
        full, rest = divmod(size, step)
        lanes = schedule.lanes if axis == schedule.vector else 1
        count = step // lanes
        # a remainder runs at the price of its own, smaller tile
        tiles *= full + (max(-(-rest // lanes) / count, 0.35) if rest else 0)
        cells *= min(count, -(-size // lanes))
    return tiles, cells


def _stage(kernel: Kernel, stage: Stage, schedule: Schedule, target: Target) -> float:
    """Cycles of one stage over the whole kernel."""
    sizes, vector = kernel.sizes, schedule.vector
    tiles, cells = _cells(kernel, schedule)
    points = 1.0
    for axis in stage.axes:
        points *= -(-sizes[axis] // schedule.lanes) if axis == vector else sizes[axis]
    loads, work = _loads(kernel, stage, schedule), _work(stage.value)
    if stage.reduce and not _is_fused(stage):
        work += 1
    width = max(1.0, schedule.lanes * _bits(kernel, stage) / (target.vector_bytes * 8))
    vectors = cells if vector is None or vector in kernel.outer or vector in stage.axes else cells
    issue = work * vectors * width / target.fma_issue
    spill = max(0.0, cells - register_budget(kernel, schedule.lanes, target))
    memory = (loads + 2 * spill) * width / target.load_issue
    step = max(issue, memory)
    if stage.reduce:
        independent = cells if cells >= 12 else cells * 4
        step = max(step, target.fma_latency * vectors / independent)
    loop = 1.5 / (1 if cells >= 12 else 4)
    return tiles * (points * (step + loop) + 6 + 2 * cells)


def _is_fused(stage: Stage) -> bool:
    return isinstance(stage.value, Do) and stage.value.op == "mul"


def _bits(kernel: Kernel, stage: Stage) -> int:
    return max((kernel.buffers[p.buf].dtype.bits for p in subexpressions(stage.value) if isinstance(p, At)), default=32)


def _work(expr: Expr) -> float:
    match expr:
        case Do():
            return _WORK.get(expr.op, 1) + sum(_work(arg) for arg in expr.args)
        case Guard():
            return 0.1 + _work(expr.value)
    return 0.0


def _loads(kernel: Kernel, stage: Stage, schedule: Schedule) -> float:
    """Loads and stores that one step of a tile makes: each access once per coordinate it depends on."""
    total = 0.0
    inner = {*stage.axes}
    for part in [*subexpressions(stage.value), stage.keep, stage.out]:
        if not isinstance(part, At):
            continue
        strides = part.index.strides
        count = 1.0
        for axis in kernel.outer:
            if axis in strides and strides[axis]:
                lanes = schedule.lanes if axis == schedule.vector else 1
                count *= max(1, min(schedule.tiles.get(axis, 1), -(-kernel.sizes[axis] // lanes)))
        stride = strides.get(schedule.vector, 0) if schedule.vector else 0
        packed = kernel.buffers[part.buf].role == "const" and stage.reduce and schedule.vector in kernel.outer
        if stride not in (0, 1, -1) and not packed:
            count *= 1.5 * schedule.lanes
        if part is stage.out and stage.reduce:
            count /= max(1, prod(kernel.sizes[a] for a in inner))
        total += count
    return total


def _traffic(kernel: Kernel, schedule: Schedule, target: Target) -> float:
    """Cycles that moving data between the cache levels takes: the slowest level's."""
    sizes = kernel.sizes
    main = max(kernel.stages, key=lambda s: prod([sizes[a] for a in s.axes]))
    loops = [(a, schedule.step(a)) for a in schedule.order] + [(a, 1) for a in main.axes]
    ats = {p for s in kernel.stages for p in [*subexpressions(s.value), s.keep, s.out] if isinstance(p, At)}
    used = [(frozenset(a for a, s in at.index.strides.items() if s), kernel.buffers[at.buf]) for at in ats]
    slowest = 0.0
    for capacity, rate in zip(target.caches, target.bandwidth[1:]):
        if not capacity:
            continue
        total = 0.0
        depth = len(loops)
        while depth and sum(_footprint(axes, arg, loops, depth - 1, sizes) for axes, arg in used) <= capacity * 0.8:
            depth -= 1
        for axes, arg in used:
            moved = _footprint(axes, arg, loops, depth, sizes)
            reused = True
            for axis, step in reversed(loops[:depth]):
                if axis in axes:
                    reused = False
                if not reused:
                    moved *= -(-sizes[axis] // step)
            total += moved
        slowest = max(slowest, total / rate)
    return slowest


def _footprint(axes: frozenset[str], arg: object, loops: list[tuple[str, int]], depth: int, sizes: dict[str, int]) -> float:
    """Bytes of a buffer that the loops from `depth` inwards touch."""
    points = 1
    for number, (axis, step) in enumerate(loops):
        if axis in axes:
            points *= sizes[axis] if number >= depth else min(step, sizes[axis])
    return min(points, arg.size) * arg.dtype.bytes  # type: ignore[attr-defined]
