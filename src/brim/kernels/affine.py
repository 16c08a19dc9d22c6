"""Index algebra for fusion: from an element's position in a value to those in its arguments.

A position is one affine `Index` per dimension. Every data-movement primitive maps the positions of
its result to positions of its argument; a reshape that splits or merges axes does so by splitting a
loop axis (`NeedSplit`), and what stays non-affine is reported (`NotAffine`). No division or modulo
of an axis ever appears.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from brim.graph import Value
from brim.kernels.ir import Bound, Index, Term

Position = tuple[Index, ...]
ZERO = Index()


class NotAffine(Exception):
    """The wanted position is not an affine function of the loop axes."""


class NeedSplit(Exception):
    """The position becomes affine when `axis` is split into (outer, inner of size `inner`)."""

    def __init__(self, axis: str, inner: int) -> None:
        self.axis, self.inner = axis, inner


def axis_index(axis: str) -> Index:
    """The index that is just one axis."""
    return Index((Term(axis, 1),))


def combine(parts: list[tuple[Index, int]], offset: int = 0) -> Index:
    """offset + the sum of index * factor."""
    strides: dict[str, int] = {}
    for index, factor in parts:
        offset += index.offset * factor
        for term in index.terms:
            strides[term.axis] = strides.get(term.axis, 0) + term.stride * factor
    return Index(tuple(Term(a, s) for a, s in strides.items() if s), offset)


def substitute(index: Index, replace: Mapping[str, Index]) -> Index:
    """Axes replaced by affine functions of other axes, repeatedly until none is left to replace."""
    while any(t.axis in replace for t in index.terms):
        parts = [(replace.get(t.axis, axis_index(t.axis)), t.stride) for t in index.terms]
        index = combine(parts, index.offset)
    return index


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of a contiguous tensor."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return tuple(strides)


def broadcast_position(position: Position, shape: tuple[int, ...]) -> Position:
    """The position in an operand of `shape` that broadcasts to the result at `position`."""
    tail = position[len(position) - len(shape) :]
    return tuple(ZERO if n == 1 else i for i, n in zip(tail, shape))


def through_move(
    value: Value, position: Position, extents: Mapping[str, int]
) -> tuple[Position, tuple[Bound, ...]]:
    """The position in a move's argument, and the bounds under which it exists (padding).

    Raises NotAffine or NeedSplit, for reshapes only.
    """
    attrs, source = value.attrs, value.args[0].shape
    assert value.op is not None
    match value.op.name:
        case "hold":
            return position, ()
        case "transpose":
            found = [ZERO] * len(source)
            for axis, index in zip(attrs["perm"], position):
                found[axis] = index
            return tuple(found), ()
        case "broadcast":
            return broadcast_position(position, source), ()
        case "slice":
            parts = zip(position, attrs["starts"], attrs["steps"])
            return tuple(combine([(i, step)], start) for i, start, step in parts), ()
        case "pad":
            moved = tuple(combine([(i, 1)], -low) for i, low in zip(position, attrs["low"]))
            sides = zip(moved, source, attrs["low"], attrs["high"])
            return moved, tuple(Bound(i, n) for i, n, low, high in sides if low or high)
        case "window":
            found = list(position[: len(source)])
            inner = position[len(source) :]
            steps = zip(attrs["axes"], inner, attrs["stride"], attrs["dilation"])
            for axis, k, stride, dilation in steps:
                found[axis] = combine([(found[axis], stride), (k, dilation)])
            return tuple(found), ()
        case "reshape":
            return through_reshape(value.shape, source, position, extents), ()
    raise AssertionError(f"{value.op.name} is not a move")


def through_reshape(
    shape: tuple[int, ...], source: tuple[int, ...], position: Position, extents: Mapping[str, int]
) -> Position:
    """Position in `source` (a shape) of the element at `position` of `shape`."""
    found: list[Index] = [ZERO] * len(source)
    if 0 in shape:
        return tuple(found)  # there is no element to place
    for outs, ins in _groups(shape, source):
        strides = row_major(tuple(shape[i] for i in outs))
        linear = combine([(position[i], s) for i, s in zip(outs, strides)])
        if len(ins) == 1:
            found[ins[0]] = linear
            continue
        sizes = tuple(source[i] for i in ins)
        for i, index in zip(ins, delinearise(linear, sizes, extents)):
            found[i] = index
    return tuple(found)


def _groups(a: tuple[int, ...], b: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of dimensions of a and b with equal products; dimensions of 1 are left out."""
    left = [i for i, n in enumerate(a) if n != 1]
    right = [i for i, n in enumerate(b) if n != 1]
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        outs, ins = [left[i]], [right[j]]
        p, q = a[left[i]], b[right[j]]
        i, j = i + 1, j + 1
        while p != q:
            if p < q:
                p *= a[left[i]]
                outs.append(left[i])
                i += 1
            else:
                q *= b[right[j]]
                ins.append(right[j])
                j += 1
        groups.append((outs, ins))
    return groups


def delinearise(linear: Index, sizes: tuple[int, ...], extents: Mapping[str, int]) -> list[Index]:
    """`linear` as mixed-radix digits of `sizes`, digit by digit without carries."""
    strides = row_major(sizes)
    digits: list[list[Term]] = [[] for _ in sizes]
    offsets = [linear.offset // s % n for s, n in zip(strides, sizes)]
    if linear.offset < 0 or linear.offset >= math.prod(sizes):
        raise NotAffine
    for term in linear.terms:
        if term.stride <= 0:
            raise NotAffine
        k = next(k for k, s in enumerate(strides) if s <= term.stride)
        unit, extent = strides[k], extents[term.axis]
        room = unit * sizes[k] // term.stride  # points of the axis before this digit overflows
        if term.stride % unit or (extent > room and (unit * sizes[k]) % term.stride):
            raise NotAffine
        if extent > room:
            if room < 2 or extent % room:
                raise NotAffine
            raise NeedSplit(term.axis, room)
        digits[k].append(Term(term.axis, term.stride // unit))
    found = []
    for terms, offset, size in zip(digits, offsets, sizes):
        if offset + sum(t.stride * (extents[t.axis] - 1) for t in terms) >= size:
            raise NotAffine
        found.append(Index(tuple(terms), offset))
    return found


def covers(
    position: Position, shape: tuple[int, ...], extents: Mapping[str, int]
) -> set[str] | None:
    """The axes that enumerate every element of `shape` exactly once at `position`, or None."""
    seen: set[str] = set()
    for index, size in zip(position, shape):
        if index.offset:
            return None
        reach = 1
        for term in sorted(index.terms, key=lambda t: t.stride):
            if term.stride != reach or term.axis in seen:
                return None
            seen.add(term.axis)
            reach *= extents[term.axis]
        if reach != size:
            return None
    return seen
