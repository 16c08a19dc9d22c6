"""The values that make up operands, and operands made of values: for sub-graphs that are closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from brim.errors import ModelError
from brim.frontends.subgraphs import Captures
from brim.frontends.tflite.table import Operand, Pair, Resource
from brim.graph import Value, placeholder


def flat(operands: Sequence[Operand]) -> list[Value]:
    """The values of operands, in order; handles have none."""
    found: list[Value] = []
    for operand in operands:
        match operand:
            case Value():
                found.append(operand)
            case Pair():
                found += (operand.real, operand.imaginary)
    return found


def rebuilt(forms: Sequence[Operand], values: Iterator[Value]) -> list[Operand]:
    """Operands of the forms of others, made of what `flat` would give of them."""
    found: list[Operand] = []
    for form in forms:
        match form:
            case Value():
                found.append(next(values))
            case Pair():
                found.append(Pair(next(values), next(values)))
            case _:
                found.append(form)
    return found


def check_alike(forms: Sequence[Operand], others: Sequence[Operand]) -> None:
    """Raises ModelError unless the operands are of the same kinds, and handles of the same."""
    kinds = ([o if isinstance(o, Resource) else type(o) for o in side] for side in (forms, others))
    first, second = kinds
    if first != second:
        raise ModelError("two ways through the model give values of different kinds")


def stand_ins(arguments: Mapping[int, Operand]) -> tuple[dict[int, Operand], Captures]:
    """What a closed part sees in place of its arguments: constants, or placeholders for values."""
    captures: Captures = {}
    given = {}
    for number, operand in arguments.items():
        inner = []
        for place, value in enumerate(flat([operand])):
            seen = value if value.is_const else placeholder(value.type, value.where)
            if seen is not value:
                captures[number, place] = value, seen
            inner.append(seen)
        (given[number],) = rebuilt([operand], iter(inner))
    return given, captures
