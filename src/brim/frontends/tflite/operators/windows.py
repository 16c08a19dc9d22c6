"""Windows over any axes, and what is put between and around elements before: StableHLO's terms."""

from __future__ import annotations

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import bounded, kept
from brim.frontends.tflite.table import Call, operator
from brim.graph import Value, const
from brim.ops.movement import spread

Ints = tuple[int, ...]
COMBINE = {"add": p.add, "mul": p.mul, "min": p.minimum, "max": p.maximum}
FUNCTIONS = ("unsupported", "add", "mul", "min", "max", "and", "or")  # of REDUCE_WINDOW
# How the sub-graph of one operator combines two elements.
REGIONS = {
    "ADD": "add", "MUL": "mul", "MAXIMUM": "max", "MINIMUM": "min", "LOGICAL_AND": "and",
    "LOGICAL_OR": "or", "STABLEHLO_ADD": "add", "STABLEHLO_MULTIPLY": "mul",
    "STABLEHLO_MAXIMUM": "max", "STABLEHLO_MINIMUM": "min", "STABLEHLO_AND": "and",
    "STABLEHLO_OR": "or",
}  # fmt: skip


def region(call: Call, option: str) -> str:
    """How the sub-graph that an option names combines elements; "set": it gives the new one."""
    graph = call.graph(option)
    names = [operator.name for operator in graph.operators]
    if not names:
        return "set"
    if len(names) > 1 or names[0] not in REGIONS:
        raise call.unsupported(f"a region of {', '.join(names[:5])}")
    return REGIONS[names[0]]


def surrounded(x: Value, value: Value, low: Ints, high: Ints, steps: Ints) -> Value:
    """x with `value` (a scalar) around it and steps - 1 times between neighbours.

    low, high: of each axis; negative amounts cut off from what the steps gave.
    """
    if not len(low) == len(high) == len(steps) == len(x.shape) or min(steps, default=1) < 1:
        raise ModelError(f"{x.type} padded by {low}, {high} with steps of {steps}")
    shape = bounded(
        max((n - 1) * s + 1 if n else 0, 0) + a + b for n, s, a, b in zip(x.shape, steps, low, high)
    )
    if value.data is not None:
        return _surrounded(x, value.data.item(), low, high, steps)
    if shape == x.shape and max(steps, default=1) == 1 and not any(low):
        return x
    kept(*shape)
    real = _surrounded(const(np.ones(kept(*x.shape), bool)), False, low, high, steps)
    return p.select(real, _surrounded(x, 0, low, high, steps), p.reshape(value, shape=()))


def _surrounded(x: Value, value: float, low: Ints, high: Ints, steps: Ints) -> Value:
    y = spread(x, steps, value)
    ends = tuple(n + min(b, 0) for n, b in zip(y.shape, high))
    starts = tuple(max(-a, 0) for a in low)
    if min((*low, *high), default=0) < 0:
        cut = tuple(max(end - start, 0) for start, end in zip(starts, ends))
        y = p.slice(y, starts=starts, sizes=cut, steps=(1,) * len(cut))
    low, high = (tuple(max(n, 0) for n in side) for side in (low, high))
    return p.pad(y, low=low, high=high, value=value)


@operator("STABLEHLO_PAD", moves=True)
def stablehlo_pad(call: Call) -> Value:
    low, high = call.numbers("edge_padding_low"), call.numbers("edge_padding_high")
    steps = tuple(n + 1 for n in call.numbers("interior_padding"))
    return surrounded(call[0], call[1], low, high, steps)


@operator("DILATE", moves=True)
def dilate(call: Call) -> Value:
    none = (0,) * len(call[0].shape)
    return surrounded(call[0], call[2], none, none, call.integers(1))


@operator("REDUCE_WINDOW")
def reduce_window(call: Call) -> Value:
    op = call.choice("reduce_function", FUNCTIONS)
    size, stride, dilation = (call.integers(i) for i in (2, 3, 4))
    return _reduced(call[0], call[1], op, (size, stride, dilation))


@operator("STABLEHLO_REDUCE_WINDOW")
def stablehlo_reduce_window(call: Call) -> Value:
    op = region(call, "body_subgraph_index")
    ones = (1,) * len(call[0].shape)
    size = call.numbers("window_dimensions")
    stride = call.numbers("window_strides") or ones
    dilation = call.numbers("window_dilations") or ones
    steps = call.numbers("base_dilations") or ones
    amounts = call.numbers("padding") or (0,) * (2 * len(ones))
    x = surrounded(call[0], call[1], amounts[::2], amounts[1::2], steps)
    return _reduced(x, call[1], op, (size, stride, dilation))


def _reduced(x: Value, first: Value, op: str, windows: tuple[Ints, Ints, Ints]) -> Value:
    """Windows (size, stride, dilation of each axis) combined, each beginning with `first`."""
    size, stride, dilation = windows
    rank = len(x.shape)
    if op not in (*COMBINE, "and", "or") or not len(size) == len(stride) == len(dilation) == rank:
        raise ModelError(f"windows of {size} over {x.type} combined by {op!r}")
    y = p.window(x, axes=tuple(range(rank)), size=size, stride=stride, dilation=dilation)
    shape, axes = y.shape[:rank], tuple(range(rank, 2 * rank))
    first = p.reshape(first, shape=())
    if op in COMBINE:
        return COMBINE[op](p.reshape(p.reduce(y, op=op, axes=axes), shape=shape), first)
    true = p.reshape(p.reduce(_truth(y), op=op, axes=axes), shape=shape)
    both = (p.bit_and if op == "and" else p.bit_or)(true, _truth(first))
    return both if x.dtype.kind == "b" else p.cast(both, to=x.dtype)


def _truth(x: Value) -> Value:
    return x if x.dtype.kind == "b" else p.ne(x, 0)
