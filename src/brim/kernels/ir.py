"""The kernel form: *what* one kernel computes (`Kernel`) and *how* it runs (`Schedule`).

A kernel runs its stages in order for every point of its outer axes. Each stage computes `value` at
every point of its own axes and either stores it (`out`), or reduces it over axes and keeps the
result for later stages of the same outer point (`Ref`). All addresses are affine in the axes, plus
optional gathers. `brim.kernels.interpret` is the definition of this form; every schedule on every
target must agree with it. Text printing and parsing is in `brim.kernels.text`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

from brim.types import BOOL, I64, DType


@dataclass(frozen=True)
class Term:
    """One axis in an address. Plain: axis * stride.

    Blocked (block > 0, made by weight packing): axis // block * outer + axis % block * stride.
    """

    axis: str
    stride: int
    block: int = 0
    outer: int = 0


@dataclass(frozen=True)
class Index:
    """An affine function of the axes: offset + the sum of the terms. Each axis occurs once."""

    terms: tuple[Term, ...] = ()
    offset: int = 0

    @cached_property
    def strides(self) -> dict[str, int]:
        return {t.axis: t.stride for t in self.terms}


@dataclass(frozen=True)
class Gather:
    """A data-dependent part of an address: value of `index` times `stride`.

    `index` must lie in [0, size); otherwise the kernel sets *status to 1 and uses the nearest valid
    one, so that bad data gives an error after the run and never a wild access.
    """

    index: Expr
    stride: int
    size: int


@dataclass(frozen=True)
class At:
    """The element of a buffer at an affine index (in elements), plus gathers."""

    buf: str
    index: Index
    gathers: tuple[Gather, ...] = ()


@dataclass(frozen=True)
class Ref:
    """The reduced value of an earlier stage, same outer point."""

    stage: str
    dtype: DType


@dataclass(frozen=True)
class Num:
    """A number of a dtype (bool: 0 or 1)."""

    value: float | int
    dtype: DType


@dataclass(frozen=True)
class Iota:
    """The value of an affine index itself, as an integer of `dtype`."""

    index: Index
    dtype: DType = I64


@dataclass(frozen=True)
class Do:
    """A scalar operation: the name of an elementwise primitive, and the result's dtype.

    cast, bitcast and comparisons have a result dtype that differs from their arguments' dtype.
    f16 is a storage type: kernels load it, `cast` it to f32, compute, and cast back before storing.
    """

    op: str
    args: tuple[Expr, ...]
    dtype: DType


@dataclass(frozen=True)
class Bound:
    """Holds where 0 <= index < size."""

    index: Index
    size: int


@dataclass(frozen=True)
class Guard:
    """`value` where all bounds hold, else `other`. Loads in `value` happen only where they hold."""

    bounds: tuple[Bound, ...]
    value: Expr
    other: Expr


@dataclass(frozen=True)
class Carried:
    """Inside the step of a `Repeat` (of the innermost one): the value so far."""

    dtype: DType


@dataclass(frozen=True)
class Repeat:
    """`start`, replaced `times` times (at least once) by `step` of itself (see `Carried`).

    The step computes the dtype of the start.
    """

    start: Expr
    step: Expr
    times: int


Expr = At | Ref | Num | Iota | Do | Guard | Carried | Repeat


@dataclass(frozen=True)
class Reduce:
    """op: add mul max min and or; argmax argmin argmax_last argmin_last (one axis, give i64)."""

    op: str
    axes: tuple[str, ...]

    @property
    def is_arg(self) -> bool:
        return self.op.startswith("arg")


@dataclass(frozen=True)
class Stage:
    """One step of a kernel.

    axes: the stage's own axes, inside the kernel's outer ones. With `reduce`, its axes are among
    them (usually all of them). out: where the (reduced) value goes. keep: where the *unreduced*
    value goes while it is being reduced. A reduced stage without `out` is read through `Ref`, and
    then reduces all its axes. A stage without axes, `reduce` and `out` is a "let": one value for
    each outer point, read through `Ref` by later stages.
    """

    name: str
    axes: tuple[str, ...]
    value: Expr
    reduce: Reduce | None = None
    out: At | None = None
    keep: At | None = None


@dataclass(frozen=True)
class Arg:
    """One buffer a kernel takes: flat, `size` elements. role: in, out (maybe read too), const.

    below: known of constants, None if nothing is: integers all lie in [0, below), floats all in
    (-below, below).
    paired: known of constants of i8 that dot instructions take (`brim.kernels.dots.is_paired`).
    """

    name: str
    dtype: DType
    size: int
    role: str = "in"
    below: int | None = None
    paired: bool = False


@dataclass(frozen=True)
class Kernel:
    """extent: axis -> size, for all axes. outer: axes every stage shares.

    ordered: axes that must run one after another in increasing order (scans, scatters): never
    vectorised, tiled or run in parallel.
    """

    name: str
    extent: tuple[tuple[str, int], ...]
    outer: tuple[str, ...]
    stages: tuple[Stage, ...]
    args: tuple[Arg, ...]
    ordered: tuple[str, ...] = ()

    @cached_property
    def sizes(self) -> dict[str, int]:
        return dict(self.extent)

    @cached_property
    def buffers(self) -> dict[str, Arg]:
        return {arg.name: arg for arg in self.args}


@dataclass(frozen=True)
class Schedule:
    """How a kernel runs.

    order:  the kernel's outer axes, outermost loop first; the first one is split among threads.
    vector: axis (outer or a stage's) whose consecutive points fill the lanes of a vector.
    lanes:  elements per vector (1: scalar code).
    tile:   outer axis -> points (for `vector`: vectors) that are computed together in registers.
    unroll: stage axes whose loops are unrolled.
    dot:    a reduced axis, whose points are taken in groups by a dot instruction of that name
            (`brim.kernels.dots`), where its operand is packed for it.
    A remainder of a tiled axis is one smaller tile of the same code; a remainder of lanes is done
    in narrower vectors of 2**k lanes.
    """

    order: tuple[str, ...] = ()
    vector: str | None = None
    lanes: int = 1
    tile: tuple[tuple[str, int], ...] = ()
    unroll: tuple[str, ...] = ()
    dot: tuple[str, str] | None = None

    @cached_property
    def tiles(self) -> dict[str, int]:
        return dict(self.tile)

    def step(self, axis: str) -> int:
        """Points of an outer axis that one iteration of its loop covers."""
        return self.tiles.get(axis, 1) * (self.lanes if axis == self.vector else 1)


def trips(kernel: Kernel, schedule: Schedule) -> int:
    """Iterations of the outermost loop that may run apart: what a kernel's `begin`, `end` count.

    An ordered outermost loop always runs as a whole, as one iteration.
    """
    if not schedule.order or schedule.order[0] in kernel.ordered:
        return 1
    axis = schedule.order[0]
    return -(-kernel.sizes[axis] // schedule.step(axis))


def flops(kernel: Kernel) -> int:
    """Arithmetic operations of a kernel; a multiply and add counts as two."""
    total = 0
    for stage in kernel.stages:
        points = prod([kernel.sizes[a] for a in (*kernel.outer, *stage.axes)])
        total += points * (operations(stage.value) + (stage.reduce is not None))
    return total


def operations(expr: Expr) -> int:
    """Arithmetic operations of an expression; the step of a repeat counts as often as it runs."""
    parts = list(subexpressions(expr))
    again = sum((e.times - 1) * operations(e.step) for e in parts if isinstance(e, Repeat))
    return again + sum(isinstance(e, Do) and e.op != "cast" for e in parts)


def dtype_of_expr(expr: Expr, kernel: Kernel) -> DType:
    """The element type an expression computes."""
    match expr:
        case At():
            return kernel.buffers[expr.buf].dtype
        case Guard():
            return dtype_of_expr(expr.value, kernel)
        case Repeat():
            return dtype_of_expr(expr.start, kernel)
        case _:
            return expr.dtype


def subexpressions(expr: Expr) -> Iterator[Expr]:
    """An expression and all that is inside it, outermost first (indices of gathers too)."""
    rest = [expr]
    while rest:
        part = rest.pop()
        yield part
        match part:
            case Do():
                rest.extend(reversed(part.args))
            case At():
                rest.extend(gather.index for gather in reversed(part.gathers))
            case Guard():
                rest += (part.other, part.value)
            case Repeat():
                rest += (part.step, part.start)


UNITS: dict[str, float] = {"add": 0, "mul": 1, "or": 0}


def unit(op: str, dtype: DType) -> float | int:
    """The value that a reduction starts from."""
    if op in UNITS:
        return UNITS[op]
    if op == "and":
        return 1 if dtype == BOOL else -1 if dtype.kind == "i" else 2**dtype.bits - 1
    if dtype.is_float:
        return float("-inf") if "max" in op else float("inf")
    if dtype == BOOL:
        return 0 if "max" in op else 1
    low = -(2 ** (dtype.bits - 1)) if dtype.kind == "i" else 0
    high = 2 ** (dtype.bits - (dtype.kind == "i")) - 1
    return low if "max" in op else high
