"""StableHLO's operators as far as LiteRT computes them: arithmetic, gather, scatter, composites."""

from __future__ import annotations

import math

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import kept
from brim.frontends.tflite.operators.windows import Ints, region
from brim.frontends.tflite.table import Call, operator
from brim.graph import Value, const
from brim.ops.indexing import along, strides
from brim.types import I64

_BINARY = {
    "STABLEHLO_ADD": p.add, "STABLEHLO_MULTIPLY": p.mul, "STABLEHLO_MAXIMUM": p.maximum,
    "STABLEHLO_MINIMUM": p.minimum, "STABLEHLO_AND": p.bit_and,
    "STABLEHLO_SHIFT_LEFT": p.shift_left,
}  # fmt: skip


@operator(*_BINARY)
def binary(call: Call) -> Value:
    return _BINARY[call.name](call[0], call[1])


def _columns(index: Value, at: int) -> Value:
    """Indices whose axis `at` (that of the tuples) is the last; a missing one is added."""
    rank = len(index.shape)
    if not 0 <= at <= rank:
        raise ModelError(f"axis {at} of indices {index.type} holds no tuples")
    if at == rank:
        return p.reshape(index, shape=(*index.shape, 1))
    return p.transpose(index, perm=(*(i for i in range(rank) if i != at), at))


def _starts(index: Value, axes: Ints, rank: int) -> list[Value | None]:
    """Where slices begin along each of `rank` axes (None: at 0), from index[.., axes]."""
    if index.shape[-1] != len(axes) or not set(axes) <= set(range(rank)):
        raise ModelError(f"indices {index.type} do not fit axes {axes} of {rank}")
    found: list[Value | None] = [None] * rank
    lead = index.shape[:-1]
    for place, axis in enumerate(axes):
        part = p.slice(
            index,
            starts=(*(0,) * len(lead), place),
            sizes=(*lead, 1),
            steps=(1,) * (len(lead) + 1),
        )
        found[axis] = p.cast(p.reshape(part, shape=lead), to=I64)
    return found


def _whole_rows(shape: Ints, sizes: Ints, starts: list[Value | None]) -> int:
    """The first of the last axes along which slices are whole: they are moved as blocks."""
    first = len(shape)
    while first and sizes[first - 1] == shape[first - 1] and starts[first - 1] is None:
        first -= 1
    return first


@operator("STABLEHLO_GATHER", moves=True)
def gather(call: Call) -> Value:
    """Slices of x, each beginning where a tuple of indices says, moved to lie inside."""
    call.ignore("indices_are_sorted")
    x, sizes = call[0], call.numbers("slice_sizes")
    collapsed, places = call.numbers("collapsed_slice_dims"), call.numbers("offset_dims")
    index = _columns(call[1], call.int("index_vector_dim", 0))
    if len(sizes) != len(x.shape) or any(not 0 <= m <= n for m, n in zip(sizes, x.shape)):
        raise ModelError(f"slices of {sizes} from {x.type}")
    starts = _starts(index, call.numbers("start_index_map"), len(x.shape))
    lead = index.shape[:-1]
    first = _whole_rows(x.shape, sizes, starts)
    cut = kept(*sizes[:first])
    position = const(np.zeros(lead + (1,) * first, np.int64))
    for axis, stride in enumerate(strides(x.shape[:first])):
        inside: Value = const(along(np.arange(cut[axis]), len(lead) + axis, len(lead) + first))
        start = starts[axis]
        if start is not None:
            held = p.minimum(p.maximum(start, 0), x.shape[axis] - cut[axis])
            inside = p.add(p.reshape(held, shape=(*lead, *(1,) * first)), inside)
        position = p.add(position, p.mul(inside, stride))
    rows = p.reshape(x, shape=(math.prod(x.shape[:first]), *x.shape[first:]))
    y = p.gather(rows, position, axis=0)
    window = tuple(n for i, n in enumerate(sizes) if i not in collapsed)
    y = p.reshape(y, shape=(*lead, *window))
    rank = len(y.shape)
    if len(places) != len(window) or not set(places) <= set(range(rank)):
        raise ModelError(f"slices of {window} do not fit axes {places} of {rank}")
    order = iter(range(len(lead)))
    perm = tuple(len(lead) + places.index(i) if i in places else next(order) for i in range(rank))
    return p.transpose(y, perm=perm)


@operator("STABLEHLO_SCATTER")
def scatter(call: Call) -> Value:
    """x with slices set or combined where tuples of indices say; what lies outside is left out."""
    call.ignore("indices_are_sorted", "unique_indices")
    op = region(call, "update_computation_subgraph_index")
    if op in ("and", "or"):
        raise call.unsupported(f"a region that is {op!r}")
    x, update = call[0], call[2]
    windows, inserted = call.numbers("update_window_dims"), call.numbers("inserted_window_dims")
    index = _columns(call[1], call.int("index_vector_dim", 0))
    starts = _starts(index, call.numbers("scatter_dims_to_operand_dims"), len(x.shape))
    lead = index.shape[:-1]
    others = tuple(i for i in range(len(update.shape)) if i not in windows)
    if tuple(update.shape[i] for i in others) != lead:
        raise ModelError(f"updates {update.type} do not fit indices {call[1].type}")
    update = p.transpose(update, perm=(*others, *windows))
    inner = iter(update.shape[len(lead) :])
    sizes = tuple(1 if i in inserted else next(inner) for i in range(len(x.shape)))
    first = _whole_rows(x.shape, sizes, starts)
    cut, rank = kept(*sizes[:first]), len(lead) + first
    position, valid = const(np.zeros(lead + cut, np.int64)), const(np.ones((1,) * rank, bool))
    for axis, stride in enumerate(strides(x.shape[:first])):
        at: Value = const(along(np.arange(cut[axis]), len(lead) + axis, rank))
        start = starts[axis]
        if start is not None:
            at = p.add(p.reshape(start, shape=(*lead, *(1,) * first)), at)
        valid = p.bit_and(valid, p.bit_and(p.ge(at, 0), p.lt(at, x.shape[axis])))
        position = p.add(position, p.mul(at, stride))
    total, rest = math.prod(x.shape[:first]), x.shape[first:]
    count = math.prod(lead + cut)
    position = p.reshape(p.select(valid, position, const(np.int64(total))), shape=(count,))
    none = (0,) * len(rest)
    rows = p.pad(p.reshape(x, shape=(total, *rest)), low=(0, *none), high=(1, *none), value=0)
    update = p.reshape(update, shape=(count, *rest))
    y = p.scatter(rows, position, update, axis=0, op=op)  # the last row takes what lies outside
    y = p.slice(y, starts=(0, *none), sizes=(total, *rest), steps=(1,) * len(y.shape))
    return p.reshape(y, shape=x.shape)
