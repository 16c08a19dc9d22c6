"""Closed sub-graphs: how front ends make `cond` and `loop` of parts that they have converted.

A part sees nothing from outside but stand-ins for outer values, which become its inputs. When a
choice or a loop is known at import, and what formats say about it, front ends know for themselves.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from brim.errors import ModelError
from brim.graph import NO_ATTRS, Graph, Value, placeholder
from brim.ops.control import cond, loop, results_of
from brim.ops.registry import OPS
from brim.types import BOOL, I64, Type

Captures: TypeAlias = dict[Hashable, tuple[Value, Value]]  # outer value, its stand-in inside
ENDLESS = np.iinfo(np.int64).max  # the trip count of a loop that only its condition ends
SETTLED = 256  # rounds in which the types of carried values must settle


@dataclass(frozen=True, eq=False)
class Part:
    """A converted sub-graph: its results, and the outer values that it sees."""

    name: str
    results: list[Value]
    captures: Captures


def choose(predicate: Value, then: Part, orelse: Part) -> list[Value]:
    """The results of one of two parts, by a bool that only the run knows."""
    if len(then.results) != len(orelse.results):
        given = f"{len(then.results)} and {len(orelse.results)}"
        raise ModelError(f"the branches give {given} results")
    if not then.results:
        return []  # nothing that depends on the condition
    parts = (then, orelse)
    outer = {key: value for part in parts for key, (value, _) in part.captures.items()}
    graphs = []
    for part in parts:
        stand_ins = {
            key: part.captures[key][1] if key in part.captures else placeholder(value.type)
            for key, value in outer.items()
        }
        inputs = _numbered("outer", stand_ins.values())
        graphs.append(Graph(inputs, _numbered("r", part.results), part.name))
    return results_of(cond(predicate, *outer.values(), then=graphs[0], orelse=graphs[1]))


@dataclass(frozen=True, eq=False)
class Iteration:
    """One converted iteration of a loop, over placeholders: its number, whether the loop goes on,
    the carried values before and after it, and a row for each result that is stacked."""

    name: str
    index: Value
    alive: Value
    before: list[Value]
    again: Value
    after: list[Value]
    rows: list[Value]
    captures: Captures


def counter() -> tuple[Value, Value]:
    """Placeholders for the number of an iteration and for its condition."""
    return placeholder(Type((), I64)), placeholder(Type((), BOOL))


def repeat(
    trips: Value,
    start: Value,
    state: Iterable[Value],
    body: Iteration,
    empty: tuple[tuple[int, ...], ...] = (),
) -> list[Value]:
    """The last carried values and the stacked rows of a loop from `state` on.

    empty: the shape of each row for a loop that makes none, where rows have no known shape.
    """
    if not body.after and not body.rows:
        return []  # nothing that iterations could change
    inputs = {"iteration": body.index, "condition": body.alive, **_numbered("carried", body.before)}
    inputs.update(_numbered("outer", (inner for _, inner in body.captures.values())))
    certain = body.again.is_const and bool(body.again.data.reshape(-1)[0])  # type: ignore[union-attr]
    length = None
    if trips.is_const and start.is_const and certain:
        length = max(int(trips.data), 0) if bool(start.data) else 0  # type: ignore[arg-type]
    value = loop(
        trips,
        start,
        *state,
        *(outer for outer, _ in body.captures.values()),
        body=Graph(inputs, _numbered("r", [body.again, *body.after, *body.rows]), body.name),
        carried=len(body.after),
        length=length,
        empty=empty,
    )
    return results_of(value)


def as_open(value: Value, type: Type) -> Value:
    """A value as one of `type`, which knows as much of its shape or nothing. Raises ModelError."""
    if value.type == type:
        return value
    if value.dtype == type.dtype and type.shape is None:
        # not by calling the operator: of a constant that would be the constant, shape and all
        return Value(OPS["forget_shape"], (value,), NO_ATTRS, type, None, value.where)
    raise ModelError(f"a value of type {value.type} where {type} is wanted")


def _numbered(word: str, values: Iterable[Value]) -> dict[str, Value]:
    """Names for the inputs of a closed graph; where they came from is kept in the values."""
    return {f"{word}{i}": value for i, value in enumerate(values)}
