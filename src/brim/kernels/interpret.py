"""What the kernel form means, in numpy: every schedule on every target must agree with `interpret`.

Nothing here is fast or clever: all free axes become broadcasting grids, ordered axes become Python
loops. It is strict where generated code trusts the lowering: an address outside its buffer, a value
of another dtype than its place, or a reference to a missing stage raises CompileError.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from brim.errors import CompileError, InputError
from brim.kernels.dots import untrue_pairs
from brim.kernels.ir import (
    At,
    Carried,
    Do,
    Expr,
    Guard,
    Index,
    Iota,
    Kernel,
    Num,
    Reduce,
    Ref,
    Repeat,
    Stage,
    dtype_of_expr,
    unit,
)
from brim.ops.primitive import OPS

# Points that one pass over the stages may hold at once: bounds the memory of large kernels.
CHUNK_POINTS = 1 << 22

_REDUCE = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
}

Mask = np.ndarray | None


def interpret(kernel: Kernel, buffers: Mapping[str, np.ndarray]) -> bool:
    """Runs a kernel on flat arrays and writes its outputs in place.

    buffers: for every `Arg` a one-dimensional array of its dtype (BOOL: numpy's bool) and size.
    Returns the status: True if any gather was out of range (the nearest valid element was used).
    Raises InputError for unfitting buffers and CompileError for a kernel that contradicts itself.
    """
    _check_buffers(kernel, buffers)
    run = _Run(kernel, buffers)
    with np.errstate(all="ignore"):
        for axes in _outer_points(kernel):
            refs: dict[str, np.ndarray] = {}
            for stage in kernel.stages:
                run.stage(stage, axes, refs)
    return run.out_of_range


def _check_buffers(kernel: Kernel, buffers: Mapping[str, np.ndarray]) -> None:
    for arg in kernel.args:
        array = buffers.get(arg.name)
        wanted = f"{arg.dtype}[{arg.size}]"
        if array is None:
            raise InputError(f"kernel {kernel.name} needs buffer {arg.name}: {wanted}")
        if array.shape != (arg.size,) or array.dtype != arg.dtype.numpy:
            got = f"{array.dtype}{list(array.shape)}"
            raise InputError(f"buffer {arg.name} of kernel {kernel.name} is {got}, not {wanted}")
        if arg.below is None:
            continue
        size = np.abs(array) if arg.dtype.is_float else array
        if not np.all((size >= 0) & (size < arg.below)):
            wanted = f"(-{arg.below}, {arg.below})" if arg.dtype.is_float else f"[0, {arg.below})"
            raise InputError(f"buffer {arg.name} of kernel {kernel.name} leaves {wanted}")
    for name in untrue_pairs(kernel, buffers):
        raise InputError(f"buffer {name} of kernel {kernel.name} is not paired")


def _outer_points(kernel: Kernel) -> Iterator[dict[str, np.ndarray]]:
    """Axis -> its coordinates: ordered outer axes one by one, the others whole or in chunks."""
    sizes = kernel.sizes
    free = [axis for axis in kernel.outer if axis not in kernel.ordered]
    ordered = [axis for axis in kernel.outer if axis in kernel.ordered]
    inner = max((prod(sizes[a] for a in stage.axes) for stage in kernel.stages), default=1)
    split = max(free, key=lambda a: sizes[a]) if free else None
    for point in itertools.product(*(range(sizes[axis]) for axis in ordered)):
        axes = {axis: np.arange(sizes[axis]) for axis in free}
        axes |= {axis: np.array([at]) for axis, at in zip(ordered, point)}
        if split is None:
            yield axes
            continue
        row = inner * prod(sizes[axis] for axis in free if axis != split)
        step = max(1, CHUNK_POINTS // max(row, 1))
        for start in range(0, sizes[split], step):
            yield axes | {split: np.arange(start, min(start + step, sizes[split]))}


@dataclass
class _Grid:
    """The points at which one stage's value is evaluated: the coordinates of each of its axes."""

    axes: dict[str, np.ndarray]
    refs: dict[str, np.ndarray]
    carried: np.ndarray | None = None  # the value so far, inside a Repeat
    known: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    masks: list[np.ndarray] = field(default_factory=list)  # alive, so that their ids stay unique

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(points) for points in self.axes.values())

    def index(self, index: Index) -> np.ndarray:
        """An affine index at every point, broadcastable to the grid's shape."""
        rank = len(self.axes)
        place = {axis: i for i, axis in enumerate(self.axes)}
        total = np.full((1,) * rank, index.offset, np.int64)
        for term in index.terms:
            if term.axis not in place:
                raise CompileError(f"an address uses axis {term.axis!r}, which is not in scope")
            points = self.axes[term.axis]
            along = points * term.stride
            if term.block:
                along = points // term.block * term.outer + points % term.block * term.stride
            total = total + along.reshape([-1 if i == place[term.axis] else 1 for i in range(rank)])
        return total


@dataclass
class _Run:
    kernel: Kernel
    buffers: Mapping[str, np.ndarray]
    out_of_range: bool = False

    def stage(
        self, stage: Stage, outer: dict[str, np.ndarray], refs: dict[str, np.ndarray]
    ) -> None:
        """One stage at the given points of the outer axes; its reduced value is added to `refs`."""
        kernel = self.kernel
        reduce = stage.reduce
        free = {axis: np.arange(kernel.sizes[axis]) for axis in stage.axes}
        ordered = [axis for axis in stage.axes if axis in kernel.ordered]
        grid = _Grid(outer | free, refs)
        dtype = dtype_of_expr(stage.value, kernel)
        values = np.empty(grid.shape, dtype.numpy)
        for point in itertools.product(*(range(kernel.sizes[axis]) for axis in ordered)):
            at = dict(zip(ordered, point))
            part = _Grid({a: p[at[a]][None] if a in at else p for a, p in grid.axes.items()}, refs)
            value = np.broadcast_to(self.value(stage.value, part, None), part.shape)
            if stage.keep is not None:
                self.store(stage.keep, value, part)
            if stage.out is not None and reduce is None:
                self.store(stage.out, value, part)
            here = [slice(at[a], at[a] + 1) if a in at else slice(None) for a in grid.axes]
            values[tuple(here)] = value
        if reduce is None:
            if not stage.axes and stage.out is None:  # a let: read by later stages through Ref
                refs[stage.name] = values
            return
        names = list(grid.axes)
        places = tuple(names.index(axis) for axis in reduce.axes)
        result = _reduce(reduce, values, places, unit(reduce.op, dtype))
        if stage.out is not None:
            # reduced axes have one point left; an address of `out` does not use them
            one = np.zeros(1, np.int64)
            kept = {axis: one if axis in reduce.axes else p for axis, p in grid.axes.items()}
            self.store(stage.out, result, _Grid(kept, refs))
        if set(reduce.axes) == set(stage.axes):
            refs[stage.name] = result.reshape([len(points) for points in outer.values()])

    def value(self, expr: Expr, grid: _Grid, mask: Mask) -> np.ndarray:
        """An expression at every point (broadcastable); loads happen only where `mask` holds."""
        key = (id(expr), id(mask))
        if key not in grid.known:
            value = np.asarray(self.compute(expr, grid, mask))
            dtype = dtype_of_expr(expr, self.kernel)
            if value.dtype != dtype.numpy:
                raise CompileError(f"{expr} computes {value.dtype}, but is declared {dtype}")
            grid.known[key] = value
        return grid.known[key]

    def compute(self, expr: Expr, grid: _Grid, mask: Mask) -> np.ndarray:
        match expr:
            case Num(value, dtype):
                return np.asarray(value).astype(dtype.numpy)
            case Iota(index, dtype):
                return grid.index(index).astype(dtype.numpy)
            case Ref(stage):
                if stage not in grid.refs:
                    raise CompileError(f"no earlier stage {stage!r} has a reduced value")
                found = grid.refs[stage]
                return found.reshape(found.shape + (1,) * (len(grid.axes) - found.ndim))
            case At():
                where, valid = self.address(expr, grid, mask)
                if valid is None:
                    return self.buffers[expr.buf][where]
                loaded = np.zeros(np.broadcast_shapes(where.shape, valid.shape), self.dtype(expr))
                where, valid = np.broadcast_arrays(where, valid)
                loaded[valid] = self.buffers[expr.buf][where[valid]]
                return loaded
            case Do(op, args, dtype):
                attrs = {"to": dtype} if op in ("cast", "bitcast") else {}
                return OPS[op].numpy(*(self.value(arg, grid, mask) for arg in args), **attrs)
            case Guard(bounds, value, other):
                inside = np.ones((1,) * len(grid.axes), bool)
                for bound in bounds:
                    at = grid.index(bound.index)
                    inside = inside & (at >= 0) & (at < bound.size)
                within = inside if mask is None else inside & mask
                grid.masks.append(within)
                chosen = self.value(value, grid, within)
                return np.where(inside, chosen, self.value(other, grid, mask))
            case Carried():
                if grid.carried is None:
                    raise CompileError("a carried value outside of any repeat")
                return grid.carried
            case Repeat(start, step, times):
                found = self.value(start, grid, mask)
                for _ in range(times):
                    found = self.value(step, replace(grid, carried=found, known={}), mask)
                return found

    def dtype(self, at: At) -> np.dtype:
        return self.kernel.buffers[at.buf].dtype.numpy

    def address(self, at: At, grid: _Grid, mask: Mask) -> tuple[np.ndarray, Mask]:
        """Element indices and the points where they are used, checked to lie in the buffer."""
        where = grid.index(at.index)
        for gather in at.gathers:
            if gather.size < 1:
                raise CompileError(f"a gather from {at.buf!r} has nothing to choose from")
            index = _as_int64(self.value(gather.index, grid, mask))
            wrong = (index < 0) | (index >= gather.size)
            self.out_of_range |= bool(np.any(wrong if mask is None else wrong & mask))
            where = where + np.clip(index, 0, gather.size - 1) * gather.stride
        size = self.kernel.buffers[at.buf].size
        outside = (where < 0) | (where >= size)
        if np.any(outside if mask is None else outside & mask):
            raise CompileError(
                f"kernel {self.kernel.name} leaves buffer {at.buf!r} of {size} elements",
                why=f"addresses span [{where.min()}, {where.max()}]",
            )
        return where, mask

    def store(self, at: At, value: np.ndarray, grid: _Grid) -> None:
        if value.dtype != self.dtype(at):
            raise CompileError(f"{value.dtype} is stored to {at.buf!r}, which is {self.dtype(at)}")
        where, _ = self.address(at, grid, None)
        self.buffers[at.buf][np.broadcast_to(where, value.shape)] = value


def _as_int64(index: np.ndarray) -> np.ndarray:
    """Gather indices as int64; unsigned ones that do not fit become the largest (out of range)."""
    if index.dtype == np.uint64:
        index = np.minimum(index, np.uint64(np.iinfo(np.int64).max))
    return index.astype(np.int64)


def _reduce(
    reduce: Reduce, values: np.ndarray, places: tuple[int, ...], start: float | int
) -> np.ndarray:
    """Reduced axes stay with size 1; f16 is rounded once. No elements: the op's unit (arg: 0)."""
    if not all(values.shape[place] for place in places):
        shape = [1 if i in places else n for i, n in enumerate(values.shape)]
        return np.zeros(shape, np.int64) if reduce.is_arg else np.full(shape, start, values.dtype)
    if not reduce.is_arg:
        dtype = np.dtype(np.float32) if values.dtype == np.float16 else values.dtype
        result = _REDUCE[reduce.op].reduce(values.astype(dtype), places, dtype=dtype, keepdims=True)
        return result.astype(values.dtype)
    (place,) = places
    find = np.argmax if "max" in reduce.op else np.argmin
    if reduce.op.endswith("_last"):
        last = values.shape[place] - 1
        return (last - find(np.flip(values, place), place, keepdims=True)).astype(np.int64)
    return find(values, place, keepdims=True).astype(np.int64)
