"""Branches, and sub-graphs that are called. Loops are `loops.py`.

A condition that is known at import chooses at import. Variables that a branch changes are results
of it, as all others are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.subgraphs import Captures, Part, choose
from brim.frontends.tflite.operands import check_alike, flat, rebuilt, stand_ins
from brim.frontends.tflite.table import Call, Operand, operator
from brim.frontends.tflite.variables import Variables
from brim.graph import Value, const

Branch: TypeAlias = Callable[[Any, list[Operand]], list[Operand]]  # of a scope and arguments

# ------------------------------------------------------------------ calls


@operator("CALL", moves=True, dynamic=True)
def call_(call: Call) -> list[Operand]:
    return call.scope.call(call.int("subgraph"), call.inputs)


@operator("STABLEHLO_COMPOSITE", moves=True, dynamic=True)
def composite(call: Call) -> list[Operand]:
    call.ignore("name", "composite_attributes", "composite_attributes_format", "version")
    return call.scope.call(call.int("decomposition_subgraph_index"), call.inputs)


# ------------------------------------------------------------------ branches


@operator("IF", moves=True, dynamic=True)
def if_(call: Call) -> list[Operand]:
    then, orelse = (_called(call.int(f"{name}_subgraph_index")) for name in ("then", "else"))
    return _branched(call.scope, call[0], then, orelse, list(call.inputs[1:]))


@operator("STABLEHLO_CASE", moves=True, dynamic=True)
def case(call: Call) -> list[Operand]:
    """The branch of a number; where there is none of it, the last."""
    branches = [_called(number) for number in call.option("branch_subgraph_indices")]
    if not branches:
        raise ModelError("a choice among no branches")

    def chosen(scope: Any, given: list[Operand], first: int = 0) -> list[Operand]:
        number, *arguments = given
        if first == len(branches) - 1:
            return branches[first](scope, arguments)
        assert isinstance(number, Value)
        here = p.eq(number, const(np.asarray(first, number.dtype.numpy)))
        rest = partial(chosen, first=first + 1)
        return _branched(scope, here, lambda s, xs: branches[first](s, xs[1:]), rest, given)

    return chosen(call.scope, [call[0], *call.inputs[1:]])


def _called(number: int) -> Branch:
    """A sub-graph as a branch."""
    return lambda scope, arguments: scope.call(number, arguments)


def _branched(
    scope: Any, predicate: Value, then: Branch, orelse: Branch, arguments: list[Operand]
) -> list[Operand]:
    if predicate.type.is_static and predicate.type.size != 1:
        raise ModelError(f"the condition is {predicate.type}, not one bool")
    if predicate.data is not None:
        return (then if predicate.data.reshape(-1)[0] else orelse)(scope, arguments)
    closed = [_closed(scope, branch, arguments) for branch in (then, orelse)]
    forms = closed[0].results
    check_alike(forms, closed[1].results)
    changed = list(dict.fromkeys(name for c in closed for name in c.variables.assigned))
    parts = []
    for branch in closed:
        values = [*flat(branch.results), *map(branch.variables.read, changed)]
        captures = {**branch.captures, **branch.variables.captures()}
        parts.append(Part("branch", values, captures))
    found = iter(choose(predicate, *parts))
    results = rebuilt(forms, found)
    for name in changed:
        scope.variables.assign(name, next(found))
    return results


@dataclass(frozen=True, eq=False)
class _Closed:
    """A converted branch; captures: the arguments that it takes, by stand-ins."""

    results: list[Operand]
    captures: Captures
    variables: Variables


def _closed(scope: Any, branch: Branch, arguments: list[Operand]) -> _Closed:
    inner = scope.inside(scope.variables.inside())
    given, captures = stand_ins(dict(enumerate(arguments)))
    results = branch(inner, list(given.values()))
    return _Closed(results, captures, inner.variables)
