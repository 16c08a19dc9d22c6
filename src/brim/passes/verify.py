"""Verification: a graph is what it claims to be. Run between passes while looking for a bug.

Immutable values cannot form cycles, so what is left to check are operators, types and placeholders.
Whether two graphs mean the same is not decided here: compare what `evaluate` gives.
"""

from __future__ import annotations

from typing import NoReturn

from brim.errors import BrimError, ModelError
from brim.graph import Graph, Op, Value
from brim.ops.registry import OPS, VARIANTS, infer_type
from brim.text import excerpt, print_equations
from brim.types import type_of


def verify(graph: Graph) -> None:
    """Raises ModelError, showing the ten equations around the fault, unless all of this holds.

    Every operator is registered; every type is the one its operator infers; constants have their
    array's type; inputs are placeholders, and there are no placeholders but the inputs; state is an
    input and an output of the type of its first content; the same for the graphs inside cond and
    loop, which have no state.
    """
    inputs = {id(value) for value in graph.inputs.values()}
    for name, value in graph.inputs.items():
        if value.op is not None or value.is_const:
            _fail(graph, value, f"the input {name!r} is not a placeholder")
    for name, first in graph.state.items():
        given, left = graph.inputs.get(name), graph.outputs.get(name)
        if given is None or left is None:
            raise ModelError(f"the state {name!r} is not an input and an output", where=graph.name)
        for value in (given, left):
            if value.type != type_of(first):
                _fail(graph, value, f"the state {name!r} should be {type_of(first)}")
    for value in graph.values():
        if value.op is None:
            if value.data is None and id(value) not in inputs:
                _fail(graph, value, "a placeholder is not among the graph's inputs")
            if value.data is not None and type_of(value.data) != value.type:
                _fail(graph, value, f"a constant of {type_of(value.data)} is typed {value.type}")
            continue
        if not _registered(value.op):
            _fail(graph, value, f"the operator {value.op.name!r} is not registered")
        try:
            found = infer_type(value.op, tuple(arg.type for arg in value.args), value.attrs)
        except BrimError as error:
            _fail(graph, value, error.what, error.why)
        if found != value.type:
            _fail(graph, value, f"the type should be {found}, not {value.type}")
        for attr in value.attrs.values():
            if isinstance(attr, Graph):
                if attr.state:
                    _fail(graph, value, "a graph inside another has state")
                verify(attr)


def _registered(op: Op) -> bool:
    if OPS.get(op.name) is op:
        return True
    family = VARIANTS.get(op.name.partition(".")[0], [])
    return any(op is variant for _, variant in family)


def _fail(graph: Graph, value: Value, what: str, why: str = "") -> NoReturn:
    lines, line_of = print_equations(graph)
    raise ModelError(what, why, excerpt(lines, line_of[id(value)])) from None
