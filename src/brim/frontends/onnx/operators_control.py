"""ONNX control flow: If, Loop, Scan, and sequences that are known at import.

A condition or trip count that is constant disappears here: the branch is taken, the loop unrolled.
Otherwise the sub-graph becomes a closed brim graph inside `cond` or `loop`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError, OpError, UnsupportedError
from brim.frontends.onnx.model import Subgraph
from brim.frontends.onnx.table import Call, Operand, fronts, operator
from brim.graph import Graph, Value, const, placeholder
from brim.ops.control import cond, loop, merge_types, results_of
from brim.ops.host import fail, forget_shape
from brim.types import BOOL, I64, Type

UNROLL = 32  # iterations; more become a `loop`
PARTS = 1 << 14  # tensors in a sequence
_ENDLESS = np.iinfo(np.int64).max


@operator("If")
def if_(call: Call) -> list[Operand]:
    scope, predicate = call.scope, call[0]
    then, orelse = call.graph("then_branch"), call.graph("else_branch")
    if predicate.is_const:
        if predicate.data.size != 1:  # type: ignore[union-attr]
            raise ModelError(f"the condition is {predicate.type}, not one bool")
        return scope.inline(then if predicate.data.reshape(-1)[0] else orelse)  # type: ignore[union-attr]
    yes, yes_captures, yes_error = _branch(call, then)
    no, no_captures, no_error = _branch(call, orelse)
    if yes_error and no_error:
        raise yes_error
    if yes_error:  # such a branch is legal as long as the condition never chooses it
        yes = _failing(yes_error, no)
    if no_error:
        no = _failing(no_error, yes)
    outer = {**yes_captures, **no_captures}
    graphs = []
    for name, results, captures in ((then.name, yes, yes_captures), (orelse.name, no, no_captures)):
        inputs = {
            key: captures[key][1] if key in captures else placeholder(value.type, key)
            for key, (value, _) in outer.items()
        }
        graphs.append(Graph(inputs, _named(results, "If"), name))
    value = cond(predicate, *(v for v, _ in outer.values()), then=graphs[0], orelse=graphs[1])
    return results_of(value)


def _branch(
    call: Call, graph: Subgraph
) -> tuple[list[Operand], dict[str, tuple[Value, Value]], ModelError | OpError | None]:
    """Results, captures, and the error of a branch that makes no sense for these shapes."""
    try:
        results, captures = call.scope.closed(graph)
    except (ModelError, OpError) as error:
        return [], {}, error
    if call.scope.is_poisoned(results):
        raise UnsupportedError("If whose branches are not supported")
    return results, captures, None


def _failing(error: ModelError | OpError, like: list[Operand]) -> list[Operand]:
    """Results in place of a branch that cannot be converted: taking it raises its error."""
    types = tuple(str(value.type) for value in _named(like, "If").values())
    why = "; ".join(part for part in (error.what, error.why, error.where) if part)
    found = fail(what="this branch does not fit the model's inputs", why=why, results=types)
    return list(results_of(found))


def _named(results: list[Operand], op: str) -> dict[str, Value]:
    named = {}
    for i, result in enumerate(results):
        if not isinstance(result, Value):
            raise UnsupportedError(f"{op} on data-dependent conditions that gives a sequence")
        named[f"r{i}"] = result
    return named


# ------------------------------------------------------------------ loops


def _scalar(value: Value | None, default: Any) -> Value:
    if value is None:
        return const(np.asarray(default))
    return p.reshape(value, shape=()) if value.type.is_static and value.shape != () else value


@operator("Loop")
def loop_(call: Call) -> list[Operand]:
    body = call.graph("body")
    trips, start = _scalar(call.get(0), np.int64(_ENDLESS)), _scalar(call.get(1), np.bool_(True))
    state = list(call.inputs[2:])
    if len(body.inputs) != 2 + len(state) or len(body.outputs) <= len(state):
        raise ModelError(f"the body of a Loop takes {len(body.inputs)} inputs")
    if trips.is_const and start.is_const:
        done = _unroll_loop(call, body, int(trips.data), bool(start.data), state)  # type: ignore[arg-type]
        if done is not None:
            return done
    return _loop_step(call, body, trips, start, state)


def _unroll_loop(
    call: Call, body: Subgraph, trips: int, alive: bool, state: list[Operand]
) -> list[Operand] | None:
    """The loop spelled out, or None where its length is not known or too large."""
    if trips != _ENDLESS and trips > UNROLL:
        return None
    rows: list[list[Operand]] = [[] for _ in range(len(body.outputs) - 1 - len(state))]
    count = 0
    while alive and count < trips:
        if count == UNROLL:
            return None
        arguments = [const(np.int64(count)), const(np.bool_(True)), *state]
        results = call.scope.inline(body, arguments)
        if call.scope.is_poisoned(results):
            raise UnsupportedError("Loop whose body is not supported")
        again = results[0]
        if not isinstance(again, Value) or not again.is_const:
            return None
        alive = bool(again.data.reshape(-1)[0])  # type: ignore[union-attr]
        state = results[1 : 1 + len(state)]
        for row, part in zip(rows, results[1 + len(state) :]):
            row.append(part)
        count += 1
    if rows and not count:
        return None
    return [*state, *(_stack(row, 0) for row in rows)]


def _stack(rows: list[Operand], axis: int) -> Value:
    values = []
    for row in rows:
        if not isinstance(row, Value):
            raise UnsupportedError("a loop that collects sequences")
        if not row.type.is_static:
            raise UnsupportedError("an unrolled loop that collects values of unknown shape")
        values.append(p.reshape(row, shape=(*row.shape[:axis], 1, *row.shape[axis:])))
    if any(v.type != values[0].type for v in values):
        raise ModelError("a loop collects values of different shapes")
    return p.concat(*values, axis=axis)


def _loop_step(
    call: Call, body: Subgraph, trips: Value, start: Value, state: list[Operand]
) -> list[Operand]:
    given: list[Value] = []
    for operand in state:
        if not isinstance(operand, Value):
            raise UnsupportedError("Loop of unknown length that carries a sequence")
        given.append(operand)
    types = [value.type for value in given]
    for _ in range(len(types) + 2):  # until the carried types are those that the body gives
        index, alive = placeholder(Type((), I64)), placeholder(Type((), BOOL))
        carried = [placeholder(t) for t in types]
        results, captures = call.scope.closed(body, [index, alive, *carried])
        if call.scope.is_poisoned(results):
            raise UnsupportedError("Loop whose body is not supported")
        named = _named(results, "Loop")
        found = [value.type for value in list(named.values())[1 : 1 + len(types)]]
        merged = [merge_types(a, b) for a, b in zip(types, found)]
        if merged == types:
            break
        types = merged
    inputs = {"iteration": index, "condition": alive}
    inputs.update((f"carried{i}", value) for i, value in enumerate(carried))
    inputs.update((f"outer {key}", inner) for key, (_, inner) in captures.items())
    again = named["r0"]
    certain = again.is_const and bool(again.data.reshape(-1)[0])  # type: ignore[union-attr]
    fixed = trips.is_const and start.is_const and certain
    length = None
    if fixed:
        length = max(int(trips.data), 0) if bool(start.data) else 0  # type: ignore[arg-type]
    value = loop(
        trips,
        start,
        *(_as_type(v, t) for v, t in zip(given, types)),
        *(outer for outer, _ in captures.values()),
        body=Graph(inputs, named, body.name),
        carried=len(types),
        length=length,
    )
    return list(results_of(value))


def _as_type(value: Value, type: Type) -> Value:
    """`value` where a loop carries something whose shape changes: it enters without its shape."""
    if value.type == type:
        return value
    return forget_shape(value)


@operator("Scan", since=9)
def scan(call: Call) -> list[Operand]:
    body, count = call.graph("body"), call.int("num_scan_inputs")
    carried = len(call.inputs) - count
    if count < 1 or carried < 0 or len(body.inputs) != len(call.inputs):
        raise ModelError(f"the body of a Scan takes {len(body.inputs)} inputs")
    state: list[Operand] = list(call.inputs[:carried])
    scanned = [call[i] for i in range(carried, len(call.inputs))]
    if any(not v.type.is_static for v in scanned):
        raise UnsupportedError("Scan over values of unknown shape")
    axes = call.ints("scan_input_axes", (0,) * count)
    axes = tuple(fronts([a], len(v.shape))[0] for a, v in zip(axes, scanned, strict=True))
    backward = call.ints("scan_input_directions", (0,) * count)
    lengths = {v.shape[a] for v, a in zip(scanned, axes)}
    outputs = len(body.outputs) - carried
    out_axes = call.ints("scan_output_axes", (0,) * outputs)
    out_backward = call.ints("scan_output_directions", (0,) * outputs)
    if len(lengths) != 1 or len(out_axes) != outputs or len(out_backward) != outputs:
        raise ModelError("the axes of a Scan do not fit each other")
    (length,) = lengths
    if not 0 < length <= UNROLL:
        return _scan_step(
            call, body, state, scanned, axes, backward, out_axes, out_backward, length
        )
    rows: list[list[Operand]] = [[] for _ in range(outputs)]
    for step in range(length):
        slices = [
            _row(v, a, const(np.int64(length - 1 - step if b else step)))
            for v, a, b in zip(scanned, axes, backward)
        ]
        results = call.scope.inline(body, [*state, *slices])
        if call.scope.is_poisoned(results):
            raise UnsupportedError("Scan whose body is not supported")
        state = results[:carried]
        for row, part in zip(rows, results[carried:]):
            row.append(part)
    stacked = []
    for row, axis, back in zip(rows, out_axes, out_backward):
        first = row[0]
        rank = len(first.shape) + 1 if isinstance(first, Value) else 1
        stacked.append(_stack(row[::-1] if back else row, fronts([axis], rank)[0]))
    return [*state, *stacked]


def _row(x: Value, axis: int, index: Value) -> Value:
    """Slice `index` (i64[]) of x along `axis`, without that axis."""
    if index.is_const:
        starts = tuple(int(index.data) if i == axis else 0 for i in range(len(x.shape)))  # type: ignore[arg-type]
        sizes = tuple(1 if i == axis else n for i, n in enumerate(x.shape))
        y = p.slice(x, starts=starts, sizes=sizes, steps=(1,) * len(sizes))
        return p.reshape(y, shape=(*x.shape[:axis], *x.shape[axis + 1 :]))
    return p.gather(x, index, axis=axis)


def _scan_step(
    call: Call,
    body: Subgraph,
    state: list[Operand],
    scanned: list[Value],
    axes: tuple[int, ...],
    backward: tuple[int, ...],
    out_axes: tuple[int, ...],
    out_backward: tuple[int, ...],
    length: int,
) -> list[Operand]:
    index, alive = placeholder(Type((), I64)), placeholder(Type((), BOOL))
    carried = [placeholder(v.type) for v in state if isinstance(v, Value)]
    if len(carried) != len(state):
        raise UnsupportedError("a long Scan that carries a sequence")
    sources = [placeholder(v.type) for v in scanned]
    last = const(np.int64(max(length - 1, 0)))
    slices = [
        _row(v, a, p.sub(last, index) if b else index) for v, a, b in zip(sources, axes, backward)
    ]
    results, captures = call.scope.closed(body, [*carried, *slices])
    if call.scope.is_poisoned(results):
        raise UnsupportedError("Scan whose body is not supported")
    named = {"again": const(np.bool_(True)), **_named(results, "Scan")}
    inputs = {"iteration": index, "condition": alive}
    inputs.update((f"carried{i}", value) for i, value in enumerate(carried))
    inputs.update((f"scanned{i}", value) for i, value in enumerate(sources))
    inputs.update((f"outer {key}", inner) for key, (_, inner) in captures.items())
    found = results_of(
        loop(
            const(np.int64(length)),
            const(np.bool_(True)),
            *state,
            *scanned,
            *(outer for outer, _ in captures.values()),
            body=Graph(inputs, named, body.name),
            carried=len(carried),
            length=length,
        )
    )
    rows = []
    for value, axis, back in zip(found[len(carried) :], out_axes, out_backward):
        rank = len(value.shape)
        axis = fronts([axis], rank)[0]
        if back:
            starts = (length - 1, *(0,) * (rank - 1))
            steps = (-1, *(1,) * (rank - 1))
            value = p.slice(value, starts=starts, sizes=value.shape, steps=steps)
        perm = list(range(1, rank))
        perm.insert(axis, 0)
        rows.append(p.transpose(value, perm=tuple(perm)) if axis else value)
    return [*found[: len(carried)], *rows]


# ------------------------------------------------------------------ sequences and optionals


@operator("SequenceConstruct")
def sequence_construct(call: Call) -> list[Operand]:
    return [tuple(call.values())]


@operator("SequenceEmpty")
def sequence_empty(call: Call) -> list[Operand]:
    call.ignore("dtype")
    return [()]


def _place(call: Call, index: int, count: int) -> int:
    position = int(call.array(index).reshape(-1)[0])
    if not -count <= position < max(count, 1):
        raise ModelError(f"position {position} in a sequence of {count}")
    return position + count if position < 0 else position


@operator("SequenceAt")
def sequence_at(call: Call) -> list[Operand]:
    parts = call.sequence(0)
    return [parts[_place(call, 1, len(parts))]]


@operator("SequenceInsert")
def sequence_insert(call: Call) -> list[Operand]:
    parts = list(call.sequence(0))
    position = _place(call, 2, len(parts) + 1) if call.given(2) else len(parts)
    parts.insert(position, call[1])
    return [tuple(parts)]


@operator("SequenceErase")
def sequence_erase(call: Call) -> list[Operand]:
    parts = list(call.sequence(0))
    del parts[_place(call, 1, len(parts)) if call.given(1) else len(parts) - 1]
    return [tuple(parts)]


@operator("SequenceLength")
def sequence_length(call: Call) -> list[Operand]:
    return [const(np.int64(len(call.sequence(0))))]


@operator("SplitToSequence")
def split_to_sequence(call: Call) -> list[Operand]:
    from brim.frontends.onnx.operators_shape import slice_axes

    x, axis = call[0], call.axis("axis", 0)
    n, keep = x.shape[axis], call.flag("keepdims", True)
    if n > PARTS:
        raise ModelError(f"a sequence of up to {n} parts is refused")
    if not call.given(1):
        sizes: tuple[int, ...] = (1,) * n
    else:
        sizes = call.int_inputs(1)
        if call[1].shape == ():
            if sizes[0] < 1:
                raise ModelError(f"parts of {sizes[0]}")
            sizes = tuple(min(sizes[0], n - i) for i in range(0, n, sizes[0]))
        keep = True
    if sum(sizes) != n or min(sizes, default=0) < 0:
        raise ModelError(f"parts {sizes} do not make up axis {axis} of {x.type}")
    parts, start = [], 0
    for size in sizes:
        part = slice_axes(x, {axis: (start, start + size, 1)})
        start += size
        if not keep:
            part = p.reshape(part, shape=(*x.shape[:axis], *x.shape[axis + 1 :]))
        parts.append(part)
    return [tuple(parts)]


@operator("ConcatFromSequence")
def concat_from_sequence(call: Call) -> Value:
    parts = call.sequence(0)
    if not parts:
        raise ModelError("nothing to join")
    stacked, rank = call.flag("new_axis"), len(parts[0].shape)
    axis = call.axis("axis", rank=rank + stacked)
    return _stack(list(parts), axis) if stacked else p.concat(*parts, axis=axis)


@operator("SequenceMap")
def sequence_map(call: Call) -> list[Operand]:
    body, parts = call.graph("body"), call.sequence(0)
    columns: list[list[Value]] = [[] for _ in body.outputs]
    for i, part in enumerate(parts):
        others = [
            operand[i] if isinstance(operand, tuple) else operand for operand in call.inputs[1:]
        ]
        results = call.scope.inline(body, [part, *others])
        if call.scope.is_poisoned(results):
            raise UnsupportedError("SequenceMap whose body is not supported")
        for column, result in zip(columns, results):
            column.append(result)
    return [tuple(column) for column in columns]


@operator("Optional")
def optional(call: Call) -> list[Operand]:
    call.ignore("type")
    return [call.inputs[0] if call.inputs else None]


@operator("OptionalHasElement")
def optional_has_element(call: Call) -> list[Operand]:
    return [const(np.bool_(bool(call.inputs) and call.inputs[0] is not None))]


@operator("OptionalGetElement")
def optional_get_element(call: Call) -> list[Operand]:
    if not call.inputs or call.inputs[0] is None:
        raise ModelError("an empty optional has no element")
    return [call.inputs[0]]
