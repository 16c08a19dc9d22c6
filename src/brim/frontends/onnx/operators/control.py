"""ONNX If and Loop.

A condition or trip count that is constant disappears here: the branch is taken, the loop unrolled.
Otherwise the sub-graph becomes a closed brim graph inside `cond` or `loop`; what its results and
carried values have in common decides their types (`operands.merge`). Scan is `scan.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError, OpError, UnsupportedError
from brim.frontends import subgraphs
from brim.frontends.bounds import front
from brim.frontends.onnx.model import Subgraph
from brim.frontends.onnx.operands import (
    Operand,
    alike,
    as_value,
    flat,
    merge,
    rebuilt,
    type_of_operand,
)
from brim.frontends.onnx.table import Call, operator
from brim.frontends.subgraphs import ENDLESS, SETTLED, Captures, Iteration, Part, choose, counter
from brim.graph import Value, const
from brim.ops import containers
from brim.ops.control import results_of
from brim.ops.host import fail
from brim.types import Type

UNROLL = 32  # iterations; more become a `loop`
UNROLL_NESTED = 256  # iterations of loops within unrolled loops, all counted
_Failure: TypeAlias = ModelError | OpError

# ------------------------------------------------------------------ If


@dataclass(frozen=True, eq=False)
class _Branch:
    """A converted branch; error: why it makes no sense for these shapes, and has no results."""

    name: str
    results: list[Operand]
    captures: Captures
    error: _Failure | None = None


@operator("If", dynamic=True)
def if_(call: Call) -> list[Operand]:
    predicate = call[0]
    then, orelse = call.graph("then_branch"), call.graph("else_branch")
    if predicate.is_const:
        if predicate.data.size != 1:  # type: ignore[union-attr]
            raise ModelError(f"the condition is {predicate.type}, not one bool")
        return call.scope.inline(then if predicate.data.reshape(-1)[0] else orelse)  # type: ignore[union-attr]
    yes, no = _branch(call, then), _branch(call, orelse)
    if yes.error and no.error:
        raise yes.error
    if yes.error:  # such a branch is legal as long as the condition never chooses it
        yes = _failing(yes.name, yes.error, no)
    if no.error:
        no = _failing(no.name, no.error, yes)
    if len(yes.results) != len(no.results):
        raise ModelError(f"the branches give {len(yes.results)} and {len(no.results)} results")
    forms = [merge(a, b) for a, b in zip(yes.results, no.results)]
    parts = []
    for branch in (yes, no):
        values = [v for r, form in zip(branch.results, forms) for v in flat(r, form)]
        parts.append(Part(branch.name, values, branch.captures))
    found = iter(choose(predicate, *parts))
    return [rebuilt(form, found) for form in forms]


def _branch(call: Call, graph: Subgraph) -> _Branch:
    try:
        results, captures = call.scope.closed(lambda inner: inner.inline(graph))
    except (ModelError, OpError) as error:
        return _Branch(graph.name, [], {}, error)
    if call.scope.is_poisoned(results):
        raise UnsupportedError("If whose branches are not supported")
    return _Branch(graph.name, results, captures)


def _failing(name: str, error: _Failure, like: _Branch) -> _Branch:
    """In place of a branch that cannot be converted: taking it raises its error."""
    types = tuple(str(type_of_operand(result)) for result in like.results)
    why = "; ".join(part for part in (error.what, error.why, error.where) if part)
    found = fail(what="this branch does not fit the model's inputs", why=why, results=types)
    return _Branch(name, list(results_of(found)), {})


# ------------------------------------------------------------------ Loop


@operator("Loop", dynamic=True)
def loop_(call: Call) -> list[Operand]:
    body, state = call.graph("body"), call.operands(2)
    trips, start = _scalar(call.get(0), np.int64(ENDLESS)), _scalar(call.get(1), np.bool_(True))
    if len(body.inputs) != 2 + len(state) or len(body.outputs) <= len(state):
        raise ModelError(f"the body of a Loop takes {len(body.inputs)} inputs")
    if trips.is_const and start.is_const:
        done = _unrolled(call, body, int(trips.data), bool(start.data), state)  # type: ignore[arg-type]
        if done is not None:
            return done

    def step(scope: Any, index: Value, alive: Value, carried: list[Operand]) -> list[Operand]:
        return scope.inline(body, [index, alive, *carried])

    declared = list(body.outputs.values())[1 + len(state) :]
    carried, rows = repeat(call, step, trips, start, state, declared, body.name)
    return [*carried, *rows]


def _scalar(value: Value | None, default: Any) -> Value:
    if value is None:
        return const(np.asarray(default))
    return p.reshape(value, shape=()) if value.type.is_static and value.shape != () else value


def _unrolled(
    call: Call, body: Subgraph, trips: int, alive: bool, state: list[Operand]
) -> list[Operand] | None:
    """The loop spelled out, or None where its length is not known or too large."""
    most = min(trips, UNROLL)
    if (trips != ENDLESS and trips > UNROLL) or most * call.scope.times > UNROLL_NESTED:
        return None
    rows: list[list[Operand]] = [[] for _ in range(len(body.outputs) - 1 - len(state))]
    count = 0
    while alive and count < trips:
        if count == UNROLL:
            return None
        arguments = [const(np.int64(count)), const(np.bool_(True)), *state]
        results = call.scope.inline(body, arguments, times=most)
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
    return [*state, *(stack(row, 0) for row in rows)]


def stack(rows: list[Operand], axis: int) -> Value:
    """Tensors of one shape, joined along a new axis."""
    values = [row for row in rows if isinstance(row, Value) and row.dtype.kind != "o"]
    if len(values) != len(rows):
        raise ModelError("tensors can be stacked, sequences and optionals cannot")
    if not all(value.type.is_static for value in values):
        whole = containers.sequence(*values, of=values[0].dtype)
        return containers.sequence_concat(whole, axis=axis, stack=True)
    if any(value.type != values[0].type for value in values):
        raise ModelError("values of different shapes cannot be stacked")
    axis = front(axis, len(values[0].shape) + 1)
    shape = (*values[0].shape[:axis], 1, *values[0].shape[axis:])
    return p.concat(*(p.reshape(value, shape=shape) for value in values), axis=axis)


Step: TypeAlias = Callable[[Any, Value, Value, list[Operand]], list[Operand]]


def repeat(
    call: Call,
    step: Step,
    trips: Value,
    start: Value,
    state: list[Operand],
    declared: list[Type | None],
    name: str,
) -> tuple[list[Operand], list[Value]]:
    """A `loop`: the last carried operands, and for each row the stack of all iterations.

    step(scope, iteration, condition, carried) converts one iteration inside `scope`: it gives the
    next condition, the carried operands, and as many rows as `declared` has types.
    """
    forms = [merge(operand, operand) for operand in state]
    for _ in range(SETTLED):  # until the carried forms are those that an iteration gives
        index, alive = counter()
        results, captures = call.scope.closed(
            lambda inner: step(inner, index, alive, forms)  # noqa: B023 - called at once
        )
        if call.scope.is_poisoned(results):
            raise UnsupportedError(f"{call.node.op} whose body is not supported")
        after = results[1 : 1 + len(forms)]
        merged = [merge(form, result) for form, result in zip(forms, after, strict=True)]
        if all(map(alike, forms, merged)):
            break
        forms = merged
    else:
        raise ModelError("the types of the carried values never settle")
    carried = [v for form in forms for v in flat(form, form)]
    again, rows = as_value(results[0]), [as_value(row) for row in results[1 + len(forms) :]]
    values = [v for result, form in zip(after, forms) for v in flat(result, form)]
    given = [v for operand, form in zip(state, forms) for v in flat(operand, form)]
    empty = tuple(_without_rows(row, like) for row, like in zip(rows, declared, strict=True))
    body = Iteration(name, index, alive, carried, again, values, rows, captures)
    found = iter(subgraphs.repeat(trips, start, given, body, empty))
    return [rebuilt(form, found) for form in forms], list(found)


def _without_rows(row: Value, declared: Type | None) -> tuple[int, ...]:
    """The shape of one row for a loop that makes none: as declared, 0 where that is open."""
    if row.type.is_static:
        return row.shape
    shape = declared.shape if declared is not None and declared.shape is not None else ()
    return tuple(n if isinstance(n, int) else 0 for n in shape)
