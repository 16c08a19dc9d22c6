"""Weight packing: constants laid out in the order in which a scheduled kernel reads them.

A constant that is read under a reduction is stored as blocks of as many columns as the register
tile is wide: [columns / block][reduction loops][block]. For a dot instruction the points of a group
lie side by side, [columns / block][loops][points / group][block][group], behind what the sums start
from. Which layout is right follows from the schedule alone, so packing happens after the schedule
is chosen; the kernel's addresses change with it, and `Packing` says how to move the data (and how
to move it back).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from brim.kernels.dots import Product, dot_of
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
    with zeros. The axes are (extent, stride in the source); the blocked axis comes separately. Of
    the last axis, groups of points (padded with zeros, too) lie behind the blocked axis. With a
    shift, each block begins with an i32 for each of its columns: their sums times -shift.
    """

    axes: tuple[tuple[int, int], ...]  # (extent, source stride), outermost first
    before: int  # how many of `axes` stand before the blocks
    extent: int  # of the blocked axis
    stride: int  # of the blocked axis, in the source
    block: int
    offset: int  # first element in the source
    group: int = 1
    shift: int = 0

    @property
    def head(self) -> int:
        """Elements of a block (bytes, where there are any) before its columns."""
        return 4 * self.block if self.shift else 0

    @property
    def counts(self) -> tuple[int, ...]:
        """Extents of the axes; of the last one, its groups."""
        *sizes, last = (n for n, _ in self.axes)
        return (*sizes, -(-last // self.group))

    @property
    def shape(self) -> tuple[int, ...]:
        """[axes before the blocks][blocks][elements of a block]"""
        inner = math.prod(self.counts[self.before :]) * self.block * self.group
        blocks = -(-self.extent // self.block)
        return (*self.counts[: self.before], blocks, self.head + inner)

    @property
    def size(self) -> int:
        """Elements of the packed constant."""
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        """One after the last element in the source that is read."""
        axes = (*self.axes, (self.extent, self.stride))
        return self.offset + sum((n - 1) * stride for n, stride in axes) + 1

    def pack(self, flat: np.ndarray) -> np.ndarray:
        """The packed constant, flat, of the flat source."""
        assert self.offset >= 0 and self.end <= flat.size  # views are not checked by numpy
        source = self._view(flat[self.offset :])
        packed = np.zeros(self.shape, flat.dtype)
        inner = tuple(range(self.before, len(self.axes)))
        for number in range(packed.shape[-2]):
            found = source[..., number * self.block :][..., : self.block]
            columns = np.zeros((*self.counts, self.block, self.group), flat.dtype)
            for j in range(self.group):
                points = found[..., j :: self.group, :]
                columns[..., : points.shape[-2], : points.shape[-1], j] = points
            packed[..., number, self.head :] = columns.reshape((*packed.shape[:-2], -1))
            if self.shift:
                sums = found.sum(inner, np.int32) * np.int32(-self.shift)
                packed[..., number, : 4 * sums.shape[-1]] = sums.view(flat.dtype)
        return packed.reshape(-1)

    def _view(self, flat: np.ndarray) -> np.ndarray:
        """A flat source as [axes][blocked axis]."""
        sizes, steps = zip(*self.axes, (self.extent, self.stride))
        return strided(flat, sizes, tuple(step * flat.itemsize for step in steps))

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
        flat = np.empty(math.prod(n for n, _ in self.axes) * self.extent, packed.dtype)
        whole, packed = self._view(flat), packed.reshape(self.shape)
        for number in range(packed.shape[-2]):
            found = whole[..., number * self.block :][..., : self.block]
            columns = packed[..., number, self.head :]
            columns = columns.reshape((*self.counts, self.block, self.group))
            for j in range(self.group):
                points = found[..., j :: self.group, :]
                points[...] = columns[..., : points.shape[-2], : points.shape[-1], j]
        return flat


def pack(kernel: Kernel, schedule: Schedule) -> tuple[Kernel, dict[str, Packing]]:
    """The kernel with its constants' addresses blocked for `schedule`; the packings by arg name."""
    packings: dict[str, Packing] = {}
    axis = schedule.vector
    if axis is None or axis not in kernel.outer:
        return kernel, packings
    block = schedule.step(axis)
    product = dot_of(kernel, schedule)
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
        own = product if product is not None and product.own.buf == arg.name else None
        made = _packing(kernel, stage, at.index, axis, block, own)
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
    kernel: Kernel, stage: Stage, index: Index, axis: str, block: int, product: Product | None
) -> tuple[Packing, Index] | None:
    strides = index.strides
    if axis not in strides or any(t.stride < 0 or t.block for t in index.terms):
        return None
    sizes = kernel.sizes
    before = [a for a in kernel.outer if a in strides and a != axis]
    inner = [a for a in stage.axes if a in strides]
    if not inner:
        return None
    group, shift = 1, 0
    if product is not None:
        inner = [*(a for a in inner if a != product.axis), product.axis]
        group, shift = product.dot.group, product.shift
    axes = tuple((sizes[a], strides[a]) for a in (*before, *inner))
    packing = Packing(
        axes, len(before), sizes[axis], strides[axis], block, index.offset, group, shift
    )
    terms, step = [Term(axis, group, block, packing.shape[-1])], block * group
    if product is not None:
        terms.append(Term(inner.pop(), 1, group, step))
        step *= packing.counts[-1]
    for a in reversed(inner):
        terms.append(Term(a, step))
        step *= sizes[a]
    step = math.prod(packing.shape[-2:])
    for a in reversed(before):
        terms.append(Term(a, step))
        step *= sizes[a]
    order = {a: i for i, (a, _) in enumerate(kernel.extent)}
    return packing, Index(tuple(sorted(terms, key=lambda t: order[t.axis])), packing.head)


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
