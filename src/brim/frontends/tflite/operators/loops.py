"""Loops. A loop whose counters are known at import runs as often as they say, and they are no part
of it: they follow from the number of the iteration, so compiled code can run it by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.subgraphs import (
    ENDLESS,
    SETTLED,
    Captures,
    Iteration,
    as_open,
    counter,
    repeat,
)
from brim.frontends.tflite.operands import check_alike, flat, rebuilt, stand_ins
from brim.frontends.tflite.table import Call, Operand, operator
from brim.frontends.tflite.variables import Variables
from brim.graph import Value, const, evaluate_values, placeholder, substitute, topo
from brim.ops.control import merge_types
from brim.types import BOOL, Type

UNROLL = 32  # iterations of loops that compiled code could not run by itself
COUNTED = 1 << 14  # iterations that are counted at import


@operator("WHILE", "STABLEHLO_WHILE", moves=True, dynamic=True)
def while_(call: Call) -> list[Operand]:
    scope, arguments = call.scope, list(call.inputs)
    test, body = (call.int(f"{name}_subgraph_index") for name in ("cond", "body"))
    start = _condition(scope, test, arguments)
    if start.data is not None and not start.data:
        return arguments
    fixed = _unchanged(scope.graph_of(body), arguments)
    moving = [operand for k, operand in enumerate(arguments) if k not in fixed]
    given = flat(moving)
    types = [value.type for value in given]
    for _ in range(SETTLED):
        turn = _turn(scope, test, body, arguments, fixed, types)
        counts = _counts(turn, given, start)
        merged = [merge_types(t, value.type) for t, value in zip(types, turn.after)]
        if counts and counts.trips <= UNROLL and (merged != types or not turn.is_native):
            for _ in range(counts.trips):
                arguments = scope.call(body, arguments)
            return arguments
        if merged == types:
            break
        types = merged
    else:
        raise ModelError("the types of the carried values never settle")
    found = iter(_looped(scope, turn, counts, start, [*map(as_open, given, types)]))
    last = iter(rebuilt(moving, found))
    return [arguments[k] if k in fixed else next(last) for k in range(len(arguments))]


def _condition(scope: Any, test: int, arguments: Sequence[Operand]) -> Value:
    """Whether the loop goes on from here: bool[]."""
    found = scope.call(test, arguments)
    if len(found) != 1 or not isinstance(found[0], Value) or found[0].dtype != BOOL:
        raise ModelError("the condition of a loop is not one bool")
    one = found[0]
    return p.reshape(one, shape=()) if one.type.is_static and one.shape != () else one


def _unchanged(body: Any, arguments: Sequence[Operand]) -> set[int]:
    """The arguments that each iteration hands on as they are, such as weights."""
    if not len(body.inputs) == len(body.outputs) == len(arguments):
        raise ModelError(
            f"a loop's body takes {len(body.inputs)} values and gives {len(body.outputs)}, "
            f"for {len(arguments)}"
        )
    return {k for k, tensor in enumerate(body.inputs) if body.outputs[k] == tensor}


@dataclass(frozen=True, eq=False)
class _Turn:
    """One converted iteration: what changes, before and after it; `captures`: what does not."""

    index: Value
    alive: Value
    before: list[Value]
    again: Value
    after: list[Value]
    captures: Captures
    variables: Variables

    @property
    def is_native(self) -> bool:
        """Whether compiled code could run it by itself."""
        return all(
            value.op is None or (value.op.kind not in ("host", "control") and value.type.is_static)
            for value in topo([*self.after, *self.variables.left.values()])
        )


def _turn(
    scope: Any,
    test: int,
    body: int,
    arguments: list[Operand],
    fixed: set[int],
    types: list[Type],
) -> _Turn:
    index, alive = counter()
    inner = scope.inside(scope.variables.inside(constants=False))
    given, captures = stand_ins({k: arguments[k] for k in fixed})
    before = [placeholder(type) for type in types]
    rest = iter(before)
    taken = [
        given[k] if k in fixed else rebuilt([operand], rest)[0]
        for k, operand in enumerate(arguments)
    ]
    results = inner.call(body, taken)
    check_alike(arguments, results)
    after = flat([operand for k, operand in enumerate(results) if k not in fixed])
    again = _condition(inner, test, results)
    return _Turn(index, alive, before, again, after, captures, inner.variables)


def _looped(
    scope: Any, turn: _Turn, counts: _Counts | None, start: Value, given: list[Value]
) -> list[Value]:
    """The carried values after the loop, from `given` on."""
    trips, again = const(np.int64(ENDLESS)), turn.again
    known: Mapping[int, _Counter] = {}
    if counts:
        trips, start, again = const(np.int64(counts.trips)), const(np.True_), const(np.True_)
        known = counts.counters
    names = turn.variables.assigned
    rest = [i for i in range(len(given)) if i not in known]
    before = [turn.before[i] for i in rest] + [turn.variables.given[name] for name in names]
    after = [turn.after[i] for i in rest] + [turn.variables.left[name] for name in names]
    inner = {id(turn.before[i]): c.at(turn.index) for i, c in known.items()}
    again, *after = substitute([again, *after], inner)
    captures = {**turn.captures, **turn.variables.captures()}
    captures = {key: pair for key, pair in captures.items() if key not in names}
    body = Iteration("body", turn.index, turn.alive, before, again, after, [], captures)
    state = [given[i] for i in rest] + [scope.variables.read(name) for name in names]
    found = dict(zip([*rest, *names], repeat(trips, start, state, body)))
    for name in names:
        scope.variables.assign(name, found[name])
    return [known[i].last if i in known else found[i] for i in range(len(given))]


# ------------------------------------------------------------------ counters


@dataclass(frozen=True)
class _Counter:
    """Integers that grow by the same in each iteration."""

    first: np.ndarray
    step: int
    trips: int

    def at(self, index: Value) -> Value:
        """In the iteration of this number (i64[])."""
        dtype = const(self.first).dtype
        grown = index if self.step == 1 else p.mul(index, const(np.int64(self.step)))
        grown = grown if grown.dtype == dtype else p.cast(grown, to=dtype)
        if not self.first.shape and not self.first:
            return grown
        return p.add(const(self.first), grown)

    @property
    def last(self) -> Value:
        after = self.first.astype(np.int64) + self.step * self.trips
        return const(after.astype(self.first.dtype))


@dataclass(frozen=True)
class _Counts:
    """How often a loop runs, and which of the carried values only count."""

    trips: int
    counters: Mapping[int, _Counter]


def _counts(turn: _Turn, given: list[Value], start: Value) -> _Counts | None:
    """Runs what the condition depends on, if nothing of it is known only when the model runs."""
    wanted = _needed(turn)
    if start.data is None or wanted is None or any(given[i].data is None for i in wanted):
        return None
    now: list[np.ndarray] = [given[i].data for i in wanted]  # type: ignore[misc]
    past = [now]
    outputs = [*(turn.after[i] for i in wanted), turn.again]
    for trips in range(1, COUNTED + 1):
        env: dict[int, Any] = {id(turn.before[i]): array for i, array in zip(wanted, now)}
        *now, again = evaluate_values(outputs, env)
        past.append(now)
        if not again:
            rows = zip(wanted, zip(*past))
            found = {i: _counter(row) for i, row in rows}
            return _Counts(trips, {i: c for i, c in found.items() if c is not None})
    return None


def _needed(turn: _Turn) -> list[int] | None:
    """The carried values that decide when the loop ends; None if they are not all that does."""
    number = {id(value): i for i, value in enumerate(turn.before)}
    wanted: list[int] = []
    todo = [turn.again]
    while todo:
        for value in topo([todo.pop()]):
            if value.op is not None and value.op.kind in ("host", "control"):
                return None
            if value.op is not None or value.is_const:
                continue
            if id(value) not in number:
                return None
            if (i := number[id(value)]) not in wanted:
                wanted.append(i)
                todo.append(turn.after[i])
    return wanted


def _counter(row: Sequence[np.ndarray]) -> _Counter | None:
    """What the values of one counter have in common, if they are integers in equal steps."""
    if row[0].dtype.kind not in "iu" or any(array.shape != row[0].shape for array in row):
        return None
    values = np.stack(row).astype(np.int64)
    steps = np.unique(np.diff(values, axis=0))
    return _Counter(row[0], int(steps[0]), len(row) - 1) if steps.size == 1 else None
