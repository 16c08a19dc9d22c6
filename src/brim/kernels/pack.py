"""Weight packing: constants laid out in the order in which a scheduled kernel reads them.

A constant that is read under a reduction is stored as blocks of as many columns as the register
tile is wide: [columns / block][reduction loops][block]. Which layout is right follows from the
schedule alone, so packing happens after the schedule is chosen; the kernel's addresses change with
it, and `Packing` says how to move the data (and how to move it back).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from brim.kernels.ir import (
    At,
    Do,
    Expr,
    Guard,
    Index,
    Kernel,
    Repeat,
    Schedule,
    Stage,
    Term,
    subexpressions,
)
from brim.types import strided


@dataclass(frozen=True)
class Packing:
    """How packed order relates to the source: loops over `axes` (name, extent, source stride).

    Packed order: blocked axis // block, then the axes in order, then blocked axis % block, padded
    with zeros. The axes are (extent, stride in the source); the blocked axis comes separately.
    """

    axes: tuple[tuple[int, int], ...]  # (extent, source stride), outermost first
    before: int  # how many of `axes` stand before the blocks
    extent: int  # of the blocked axis
    stride: int  # of the blocked axis, in the source
    block: int
    offset: int  # first element in the source

    @property
    def size(self) -> int:
        """Elements of the packed constant."""
        blocks = -(-self.extent // self.block)
        return math.prod(n for n, _ in self.axes) * blocks * self.block

    @property
    def end(self) -> int:
        """One after the last element in the source that is read."""
        axes = (*self.axes, (self.extent, self.stride))
        return self.offset + sum((n - 1) * stride for n, stride in axes) + 1

    def pack(self, flat: np.ndarray) -> np.ndarray:
        """The packed constant, flat, of the flat source."""
        assert self.offset >= 0 and self.end <= flat.size  # views are not checked by numpy
        sizes = (*(n for n, _ in self.axes), self.extent)
        strides = (*(s for _, s in self.axes), self.stride)
        item = flat.itemsize
        view = strided(flat[self.offset :], sizes, tuple(s * item for s in strides))
        blocks = -(-self.extent // self.block)
        lead = sizes[: self.before]
        inner = sizes[self.before : -1]
        packed = np.zeros((*lead, blocks, *inner, self.block), flat.dtype)
        for b in range(blocks):
            width = min(self.block, self.extent - b * self.block)
            columns = view[..., b * self.block : b * self.block + width]
            np.moveaxis(packed, len(lead), 0)[b, ..., :width] = columns
        return packed.reshape(-1)

    def is_lossless(self, size: int) -> bool:
        """Whether the packing holds each of the source's `size` elements exactly once."""
        step = 1
        for extent, stride in sorted((*self.axes, (self.extent, self.stride)), key=lambda a: a[1]):
            if extent > 1:
                if stride != step:
                    return False
                step *= extent
        return self.offset == 0 and step == size

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """The flat source of the packed constant; only for packings that are lossless."""
        sizes = (*(n for n, _ in self.axes), self.extent)
        strides = (*(s for _, s in self.axes), self.stride)
        blocks = -(-self.extent // self.block)
        inner = sizes[self.before : -1]
        view = packed.reshape((*sizes[: self.before], blocks, *inner, self.block))
        columns = np.moveaxis(view, self.before, -2)  # the blocks back beside their columns
        whole = columns.reshape((*sizes[:-1], blocks * self.block))[..., : self.extent]
        flat = np.empty(math.prod(sizes), packed.dtype)
        steps = tuple(s * packed.itemsize for s in strides)
        strided(flat, sizes, steps)[...] = whole
        return flat


def pack(kernel: Kernel, schedule: Schedule) -> tuple[Kernel, dict[str, Packing]]:
    """The kernel with its constants' addresses blocked for `schedule`; the packings by arg name."""
    packings: dict[str, Packing] = {}
    axis = schedule.vector
    if axis is None or axis not in kernel.outer:
        return kernel, packings
    block = schedule.step(axis)
    reads: dict[str, list[tuple[Stage, At]]] = {}
    tables: set[str] = set()
    for stage in kernel.stages:
        for expr in subexpressions(stage.value):
            if isinstance(expr, At):
                reads.setdefault(expr.buf, []).append((stage, expr))
                for gather in expr.gathers:  # tables of indices stay as they are
                    looked_up = (e.buf for e in subexpressions(gather.index) if isinstance(e, At))
                    tables.update(looked_up)
    rewritten: dict[str, Index] = {}
    for arg in kernel.args:
        places = reads.get(arg.name, [])
        if arg.role != "const" or arg.name in tables or len({at.index for _, at in places}) != 1:
            continue
        stage, at = places[0]
        if not stage.axes or at.gathers or any(s is not stage for s, _ in places):
            continue
        made = _packing(kernel, schedule, stage, at.index, axis, block)
        # A guarded read (of a padded constant) may lie outside: its addresses stay.
        if made is not None and made[0].offset >= 0 and made[0].end <= arg.size:
            packings[arg.name], rewritten[arg.name] = made
    if not packings:
        return kernel, packings
    stages = tuple(replace(s, value=_readdress(s.value, rewritten)) for s in kernel.stages)
    args = tuple(
        replace(a, size=packings[a.name].size) if a.name in packings else a for a in kernel.args
    )
    return replace(kernel, stages=stages, args=args), packings


def _packing(
    kernel: Kernel, schedule: Schedule, stage: Stage, index: Index, axis: str, block: int
) -> tuple[Packing, Index] | None:
    strides = index.strides
    if axis not in strides or any(t.stride < 0 or t.block for t in index.terms):
        return None
    sizes = kernel.sizes
    before = [a for a in kernel.outer if a in strides and a != axis]
    inner = [a for a in stage.axes if a in strides]
    if not inner:
        return None
    axes = [*before, *inner]
    packing = Packing(
        tuple((sizes[a], strides[a]) for a in axes),
        len(before),
        sizes[axis],
        strides[axis],
        block,
        index.offset,
    )
    blocks = -(-sizes[axis] // block)
    terms, step = [Term(axis, 1, block, block * math.prod(sizes[a] for a in inner))], block
    for a in reversed(inner):
        terms.append(Term(a, step))
        step *= sizes[a]
    step *= blocks
    for a in reversed(before):
        terms.append(Term(a, step))
        step *= sizes[a]
    order = {a: i for i, (a, _) in enumerate(kernel.extent)}
    return packing, Index(tuple(sorted(terms, key=lambda t: order[t.axis])))


def _readdress(expr: Expr, rewritten: dict[str, Index]) -> Expr:
    """The expression with the addresses of packed buffers replaced."""
    match expr:
        case At() if expr.buf in rewritten:
            return At(expr.buf, rewritten[expr.buf])
        case Do():
            return Do(expr.op, tuple(_readdress(a, rewritten) for a in expr.args), expr.dtype)
        case Guard():
            value, other = _readdress(expr.value, rewritten), _readdress(expr.other, rewritten)
            return Guard(expr.bounds, value, other)
        case Repeat():
            start, step = _readdress(expr.start, rewritten), _readdress(expr.step, rewritten)
            return Repeat(start, step, expr.times)
    return expr
