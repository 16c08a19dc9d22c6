"""Kernels whose elements must be made one after another: running sums, and updates at indices.

Both have one stage and an ordered outermost axis; what they read was stored before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from brim.graph import Value
from brim.kernels.affine import ZERO, axis_index, combine
from brim.kernels.ir import At, Bound, Do, Expr, Gather, Guard, Index, Num, Stage, unit
from brim.kernels.stages import load, narrow, widened
from brim.kernels.steps import View


@dataclass(frozen=True)
class InOrder:
    """One stage and its loops; the first axis of `outer` runs in increasing order."""

    extents: Mapping[str, int]
    outer: tuple[str, ...]
    stage: Stage


def _loops(shape: tuple[int, ...], axis: int, stage: Stage) -> InOrder:
    names = _names(shape)
    others = (n for i, n in enumerate(names) if i != axis)
    return InOrder(dict(zip(names, shape)), (names[axis], *others), stage)


def _names(shape: tuple[int, ...]) -> list[str]:
    return [f"x{i}" for i in range(len(shape))]


def running(value: Value, x: View, y: View) -> InOrder:
    """A running sum or product of x into y: each element follows from the one before."""
    attrs, shape = value.attrs, value.shape
    axis, size, names = attrs["axis"], shape[attrs["axis"]], _names(shape)

    def at(view: View, step: Index) -> Index:
        along = combine([(step, -1)], size - 1) if attrs["reverse"] else step
        return view.index(tuple(along if i == axis else axis_index(n) for i, n in enumerate(names)))

    here = axis_index(names[axis])
    before = combine([(here, 1)], -1)
    has_before = (Bound(before, size),)
    dtype = widened(value.dtype)
    start = Num(unit(attrs["op"], dtype), dtype)
    total = Guard(has_before, load(y, value.dtype, at(y, before)), start)
    term: Expr = load(x, value.dtype, at(x, before if attrs["exclusive"] else here))
    if attrs["exclusive"]:
        term = Guard(has_before, term, start)
    result = Do(attrs["op"], (total, term), dtype)
    stage = Stage("s", (), narrow(result, value.dtype), out=At(y.buffer, at(y, here)))
    return _loops(shape, axis, stage)


def updates(value: Value, index: View, update: View, target: View) -> InOrder:
    """The updates of a scatter, applied in order to `target`, which holds a copy of x."""
    axis = value.attrs["axis"]
    position = tuple(axis_index(n) for n in _names(update.shape))
    rest = target.index(tuple(ZERO if i == axis else p for i, p in enumerate(position)))
    row = At(index.buffer, index.index((position[axis],)))
    found = (Gather(row, target.strides[axis], value.shape[axis]),)
    new = load(update, value.dtype, update.index(position))
    if value.attrs["op"] != "set":
        op = str(value.attrs["op"])
        scalar = {"max": "maximum", "min": "minimum"}.get(op, op)
        old = load(target, value.dtype, rest, found)
        new = Do(scalar, (old, new), widened(value.dtype))
    out = At(target.buffer, rest, found)
    return _loops(update.shape, axis, Stage("s", (), narrow(new, value.dtype), out=out))
