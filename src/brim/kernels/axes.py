"""Tidying a kernel's axes: merging neighbours that always move together, and canonical names.

Merged axes give long loops and clean vectors (an elementwise kernel over contiguous memory has one
axis). Canonical names make kernels of equal shape equal, so that they are compiled once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

from brim.kernels.ir import (
    At,
    Bound,
    Do,
    Expr,
    Gather,
    Guard,
    Index,
    Iota,
    Kernel,
    Reduce,
    Ref,
    Repeat,
    Stage,
    Term,
    subexpressions,
)


def indices(kernel: Kernel) -> Iterator[Index]:
    """Every affine index in a kernel."""
    for stage in kernel.stages:
        for target in (stage.out, stage.keep):
            if target is not None:
                yield from indices_of(target)
        yield from indices_of(stage.value)


def indices_of(expr: Expr) -> Iterator[Index]:
    """Every affine index in an expression."""
    for e in subexpressions(expr):
        match e:
            case At() | Iota():
                yield e.index
            case Guard():
                yield from (b.index for b in e.bounds)


def map_kernel(
    kernel: Kernel,
    on_index: Callable[[Index], Index],
    on_buffer: Callable[[str], str] = str,
    on_stage: Callable[[str], str] = str,
) -> tuple[Stage, ...]:
    """The stages with indices and names of buffers and stages mapped; what is shared stays so."""
    memo: dict[int, Expr] = {}

    def expr(e: Expr) -> Expr:
        if id(e) not in memo:
            memo[id(e)] = build(e)
        return memo[id(e)]

    def at(e: At) -> At:
        gathers = tuple(Gather(expr(g.index), g.stride, g.size) for g in e.gathers)
        return At(on_buffer(e.buf), on_index(e.index), gathers)

    def build(e: Expr) -> Expr:
        match e:
            case At():
                return at(e)
            case Ref():
                return Ref(on_stage(e.stage), e.dtype)
            case Iota():
                return Iota(on_index(e.index), e.dtype)
            case Do():
                return Do(e.op, tuple(expr(a) for a in e.args), e.dtype)
            case Guard():
                bounds = tuple(Bound(on_index(b.index), b.size) for b in e.bounds)
                return Guard(bounds, expr(e.value), expr(e.other))
            case Repeat():
                return Repeat(expr(e.start), expr(e.step), e.times)
        return e

    return tuple(
        replace(
            s,
            name=on_stage(s.name),
            value=expr(s.value),
            out=None if s.out is None else at(s.out),
            keep=None if s.keep is None else at(s.keep),
        )
        for s in kernel.stages
    )


def merge_axes(kernel: Kernel) -> Kernel:
    """Merges neighbouring axes (a, b) where every index has stride(a) = stride(b) * extent(b)."""
    changed = True
    while changed:
        changed = False
        lists = [kernel.outer, *(s.axes for s in kernel.stages)]
        pairs = dict.fromkeys(pair for axes in lists for pair in pairwise(axes))
        all_indices = list(indices(kernel))
        for a, b in pairs:
            if _mergeable(kernel, a, b, lists, all_indices):
                kernel = _merge(kernel, a, b)
                changed = True
                break
    return kernel


def _mergeable(
    kernel: Kernel, a: str, b: str, lists: list[tuple[str, ...]], all_indices: list[Index]
) -> bool:
    if a in kernel.ordered or b in kernel.ordered:
        return False
    for axes in lists:
        if (a in axes) != (b in axes) or (a in axes and axes.index(b) != axes.index(a) + 1):
            return False
    for stage in kernel.stages:
        if stage.reduce is not None and (a in stage.reduce.axes) != (b in stage.reduce.axes):
            return False
    size = kernel.sizes[b]
    return all(i.strides.get(a, 0) == i.strides.get(b, 0) * size for i in all_indices)


def _merge(kernel: Kernel, a: str, b: str) -> Kernel:
    def on_index(index: Index) -> Index:
        return Index(tuple(t for t in index.terms if t.axis != a), index.offset)

    def drop(axes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(x for x in axes if x != a)

    stages = map_kernel(kernel, on_index)
    stages = tuple(
        replace(
            s,
            axes=drop(s.axes),
            reduce=None if s.reduce is None else Reduce(s.reduce.op, drop(s.reduce.axes)),
        )
        for s in stages
    )
    sizes = kernel.sizes
    extent = tuple((x, n * sizes[a] if x == b else n) for x, n in kernel.extent if x != a)
    return replace(kernel, extent=extent, outer=drop(kernel.outer), stages=stages)


def canonical(kernel: Kernel) -> Kernel:
    """Axes become x0, x1, ... (outer first), buffers a0, ..., stages s0, ...; terms are sorted."""
    axes = [*kernel.outer, *(a for s in kernel.stages for a in s.axes)]
    axis = {a: f"x{i}" for i, a in enumerate(dict.fromkeys(axes))}
    buffer = {arg.name: f"a{i}" for i, arg in enumerate(kernel.args)}
    stage = {s.name: f"s{i}" for i, s in enumerate(kernel.stages)}

    def on_index(index: Index) -> Index:
        terms = sorted((Term(axis[t.axis], t.stride) for t in index.terms), key=_axis_number)
        return Index(tuple(terms), index.offset)

    stages = []
    for s in map_kernel(kernel, on_index, buffer.__getitem__, stage.__getitem__):
        reduce = s.reduce and Reduce(s.reduce.op, tuple(axis[a] for a in s.reduce.axes))
        own = tuple(axis[a] for a in s.axes)
        stages.append(replace(s, axes=own, reduce=reduce))
    sizes = kernel.sizes
    return Kernel(
        kernel.name,
        tuple((new, sizes[old]) for old, new in axis.items()),
        tuple(axis[a] for a in kernel.outer),
        tuple(stages),
        tuple(replace(a, name=buffer[a.name]) for a in kernel.args),
        tuple(axis[a] for a in kernel.ordered),
    )


def _axis_number(term: Term) -> int:
    return int(term.axis[1:])
