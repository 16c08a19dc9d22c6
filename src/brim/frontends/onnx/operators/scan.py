"""ONNX Scan: a loop over slices of its inputs, spelled out where it is short.

Operator set 8 has a batch axis and lengths: there, every row of the batch is a scan of its own.
How loops become graphs is in `operators/control.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError, UnsupportedError
from brim.frontends.bounds import front
from brim.frontends.onnx.model import Subgraph
from brim.frontends.onnx.operands import Operand
from brim.frontends.onnx.operators.control import UNROLL, UNROLL_NESTED, repeat, stack
from brim.frontends.onnx.table import Call, operator
from brim.graph import Value, const
from brim.ops import containers

BATCH = 1 << 10  # rows of the batch in operator set 8, each of which is converted
_FIRST = np.iinfo(np.int64).min


@dataclass(frozen=True, eq=False)
class _Scan:
    """What a Scan does: its body, and axis and direction of every input and output."""

    body: Subgraph
    axes: tuple[int, ...]
    backward: tuple[bool, ...]
    out_axes: tuple[int, ...]
    out_backward: tuple[bool, ...]


@operator("Scan", since=9, dynamic=True)
def scan(call: Call) -> list[Operand]:
    body, count = call.graph("body"), call.int("num_scan_inputs")
    carried = len(call.inputs) - count
    outputs = len(body.outputs) - carried
    how = _Scan(
        body,
        call.ints("scan_input_axes", (0,) * count),
        tuple(map(bool, call.ints("scan_input_directions", (0,) * count))),
        call.ints("scan_output_axes", (0,) * outputs),
        tuple(map(bool, call.ints("scan_output_directions", (0,) * outputs))),
    )
    _check(how, len(call.inputs), count)
    scanned = [call[i] for i in range(carried, len(call.inputs))]
    return _scan(call, how, call.operands()[:carried], scanned)


def _check(how: _Scan, inputs: int, count: int) -> None:
    outputs = len(how.body.outputs) - (inputs - count)
    if count < 1 or inputs < count or len(how.body.inputs) != inputs or outputs < 0:
        raise ModelError(f"the body of a Scan takes {len(how.body.inputs)} inputs")
    sizes = [count, count, outputs, outputs]
    if [len(x) for x in (how.axes, how.backward, how.out_axes, how.out_backward)] != sizes:
        raise ModelError("the axes and directions of a Scan do not fit its inputs and outputs")


def _scan(call: Call, how: _Scan, state: list[Operand], scanned: list[Value]) -> list[Operand]:
    if not all(x.type.is_static for x in scanned):
        return _scan_loop(call, how, state, scanned)
    lengths = {x.shape[front(axis, len(x.shape))] for x, axis in zip(scanned, how.axes)}
    if len(lengths) != 1:
        raise ModelError(f"the inputs of a Scan have {sorted(lengths)} slices")
    (length,) = lengths
    if not 0 < length <= UNROLL or length * call.scope.times > UNROLL_NESTED:
        return _scan_loop(call, how, state, scanned)
    rows: list[list[Operand]] = [[] for _ in how.out_axes]
    carried = len(state)
    for step in range(length):
        at = (const(np.int64(length - 1 - step if back else step)) for back in how.backward)
        slices = [_slice(call.scope, *part) for part in zip(scanned, at, how.axes)]
        results = call.scope.inline(how.body, [*state, *slices], times=length)
        if call.scope.is_poisoned(results):
            raise UnsupportedError("Scan whose body is not supported")
        state = results[:carried]
        for row, part in zip(rows, results[carried:]):
            row.append(part)
    pairs = zip(rows, how.out_axes, how.out_backward)
    return [*state, *(stack(row[::-1] if back else row, axis) for row, axis, back in pairs)]


def _slice(scope: Any, x: Value, index: Value, axis: int) -> Value:
    """Slice `index` (i64[]) of x along `axis`, without that axis."""
    if not x.type.is_static or not index.is_const:
        return scope.apply("Gather", x, index, axis=axis)
    axis, position = front(axis, len(x.shape)), int(index.data)  # type: ignore[arg-type]
    starts = tuple(position if i == axis else 0 for i in range(len(x.shape)))
    sizes = tuple(1 if i == axis else n for i, n in enumerate(x.shape))
    y = p.slice(x, starts=starts, sizes=sizes, steps=(1,) * len(sizes))
    return p.reshape(y, shape=(*x.shape[:axis], *x.shape[axis + 1 :]))


def _scan_loop(
    call: Call,
    how: _Scan,
    state: list[Operand],
    scanned: list[Value],
    until: Value | None = None,
) -> list[Operand]:
    """until: how many of the slices count (i64[]); later ones change nothing and give zeros."""
    scope, body, carried = call.scope, how.body, len(state)
    sizes = [_size(scope, x, axis) for x, axis in zip(scanned, how.axes)]

    def step(inner: Any, index: Value, alive: Value, before: list[Operand]) -> list[Operand]:
        end = None if until is None else inner.capture(until, "until")
        inside = None if end is None else inner.apply("Less", index, end)
        slices = []
        for x, size, axis, back in zip(scanned, sizes, how.axes, how.backward):
            at = index
            if back:
                last = inner.apply("Sub", end or inner.capture(size, "size"), const(np.int64(1)))
                at = inner.apply("Sub", last, index)
            if inside is not None:
                at = inner.apply("Where", inside, at, const(np.int64(0)))
            slices.append(_slice(inner, inner.capture(x, "scanned"), at, axis))
        results = inner.inline(body, [*before, *slices])
        if inside is not None and not inner.is_poisoned(results):
            old = [*before, *(const(np.zeros((), r.dtype.numpy)) for r in results[carried:])]
            results = [inner.apply("Where", inside, new, kept) for new, kept in zip(results, old)]
        return [const(np.bool_(True)), *results]

    declared = list(body.outputs.values())[carried:]
    after, rows = repeat(call, step, sizes[0], const(np.bool_(True)), state, declared, body.name)
    placed = zip(rows, how.out_axes, how.out_backward)
    return [*after, *(_placed(scope, *part) for part in placed)]


def _size(scope: Any, x: Value, axis: int) -> Value:
    """How many slices x has along `axis` (i64[])."""
    if x.type.is_static:
        return const(np.int64(x.shape[front(axis, len(x.shape))]))
    return scope.apply("Gather", scope.apply("Shape", x), const(np.int64(axis)), axis=0)


def _placed(scope: Any, rows: Value, axis: int, back: bool) -> Value:
    """Stacked rows, the last first where they are to run backward, along another axis."""
    if back:
        ends = (-1, _FIRST, 0, -1)
        rows = scope.apply("Slice", rows, *(const(np.array([n], np.int64)) for n in ends))
    if axis == 0:
        return rows
    if not rows.type.is_static:
        parts = containers.sequence_split(rows, axis=0, keep=False)
        return containers.sequence_concat(parts, axis=axis, stack=True)
    perm = list(range(1, len(rows.shape)))
    perm.insert(front(axis, len(rows.shape)), 0)
    return p.transpose(rows, perm=tuple(perm))


# ------------------------------------------------------------------ operator set 8


@operator("Scan", since=8)
def scan_8(call: Call) -> list[Operand]:
    body, count = call.graph("body"), call.int("num_scan_inputs")
    given = [call[i] for i in range(1, len(call.inputs))]
    carried = len(given) - count
    outputs = len(body.outputs) - carried
    backward = tuple(map(bool, call.ints("directions", (0,) * count)))
    how = _Scan(body, (0,) * count, backward, (0,) * outputs, (False,) * outputs)
    _check(how, len(given), count)
    batches = {x.shape[0] for x in given if x.shape}
    lengths = {x.shape[1] for x in given[carried:] if len(x.shape) > 1}
    if len(batches) != 1 or len(lengths) != 1 or not 0 < min(batches) <= BATCH:
        raise ModelError(f"batches of {sorted(batches)} and lengths of {sorted(lengths)}")
    (batch,), (length,) = batches, lengths
    known = call.int_inputs(0) if call.given(0) and call[0].is_const else (length,) * batch
    if len(known) != batch or not all(0 <= n <= length for n in known):
        raise ModelError(f"sequence_lens {known[:8]} for {batch} sequences of up to {length}")
    columns: list[list[Operand]] = [[] for _ in body.outputs]
    for row, n in enumerate(known):
        at = const(np.int64(row))
        parts = [_slice(call.scope, x, at, 0) for x in given]
        if call.given(0) and not call[0].is_const:
            until = _slice(call.scope, call[0], at, 0)
            results = _scan_loop(call, how, list(parts[:carried]), parts[carried:], until)
        else:
            scanned = [_first(x, n) for x in parts[carried:]]
            results = _scan(call, how, list(parts[:carried]), scanned)
        padded = [_padded(x, length) for x in results[carried:]]
        for column, result in zip(columns, [*results[:carried], *padded], strict=True):
            column.append(result)
    return [stack(column, 0) for column in columns]


def _first(x: Value, count: int) -> Value:
    sizes = (count, *x.shape[1:])
    return p.slice(x, starts=(0,) * len(sizes), sizes=sizes, steps=(1,) * len(sizes))


def _padded(x: Operand, length: int) -> Value:
    """Rows up to `length`: what lies behind the end of a sequence is zero."""
    if not isinstance(x, Value) or not x.type.is_static:
        raise UnsupportedError("Scan of operator set 8 that gives values of unknown shape")
    high = (length - x.shape[0], *(0,) * (len(x.shape) - 1))
    return p.pad(x, low=(0,) * len(high), high=high, value=0)
