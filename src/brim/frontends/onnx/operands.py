"""What a name stands for during import: a value, a sequence of known length, an empty optional.

A sequence whose length is known at import is a `Sequence` of operands, and an optional that is
known to be there is its content: neither leaves a trace in the graph, everything compiles. Where
only the run can tell, each becomes one value of a container type (`seq.f32`, `opt.f32`), which host
steps handle; the conversions are here. What operators do with operands is in the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from brim.errors import ModelError
from brim.frontends.subgraphs import as_open
from brim.graph import Value, placeholder
from brim.ops import containers
from brim.types import DType, Type


@dataclass(frozen=True, eq=False)
class Sequence:
    """A sequence of known length; `of`: what it holds, an element type or a container."""

    parts: tuple[Operand, ...]
    of: DType


@dataclass(frozen=True, eq=False)
class Nothing:
    """An optional that is known to be empty; `of`: what it could hold."""

    of: DType


Operand: TypeAlias = Value | Sequence | Nothing | None  # None: an input that is left out


def type_of_operand(operand: Operand) -> Type:
    """The type of the value that `as_value` makes."""
    match operand:
        case Sequence():
            return containers.container("seq", operand.of)
        case Nothing():
            return containers.container("opt", operand.of)
        case None:
            raise ModelError("an input is left out where a value is needed")
    return operand.type


def as_value(operand: Operand) -> Value:
    """The operand as one value of the graph."""
    match operand:
        case Sequence():
            return containers.sequence(*map(as_value, operand.parts), of=operand.of)
        case Nothing():
            return containers.optional(of=operand.of)
        case None:
            raise ModelError("an input is left out where a value is needed")
    return operand


def as_type(operand: Operand, type: Type) -> Value:
    """The operand as a value of `type`, which says no more than its own. Raises ModelError."""
    value = as_value(operand)
    if value.type == type:
        return value
    if is_container(type.dtype, "opt") and not is_container(value.dtype, "opt"):
        return containers.optional(as_type(value, content(type)), of=type.dtype.of)
    return as_open(value, type)


def is_container(dtype: DType, kind: str) -> bool:
    """Whether this is a sequence ("seq"), an optional ("opt") or a map ("map")."""
    return dtype.kind == "o" and dtype.name.startswith(f"{kind}.")


def content(type: Type) -> Type:
    """The type of what a sequence or an optional holds."""
    return containers.content_type(type.dtype)


def map_values(operand: Operand, change: Callable[[Value], Value]) -> Operand:
    """The operand with every value in it changed."""
    match operand:
        case Value():
            return change(operand)
        case Sequence():
            parts = tuple(map_values(part, change) for part in operand.parts)
            return Sequence(parts, operand.of)
    return operand


def values_of(operand: Operand) -> Iterator[Value]:
    """All values in an operand."""
    match operand:
        case Value():
            yield operand
        case Sequence():
            for part in operand.parts:
                yield from values_of(part)


# ------------------------------------------------------------------ where two ways of a model meet


def merge(a: Operand, b: Operand) -> Operand:
    """What can stand for both: placeholders of the types that two branches, or the rounds of a
    loop, have in common. Sequences of one length stay what they are. Raises ModelError.
    """
    if isinstance(a, Sequence) and isinstance(b, Sequence) and len(a.parts) == len(b.parts):
        return Sequence(tuple(map(merge, a.parts, b.parts)), a.of)
    if isinstance(a, Nothing) and isinstance(b, Nothing) and a.of == b.of:
        return a
    return placeholder(_common(type_of_operand(a), type_of_operand(b)))


def _common(a: Type, b: Type) -> Type:
    if a == b:
        return a
    if a.dtype == b.dtype:
        return Type(None, a.dtype)
    for some, other in ((a, b), (b, a)):
        if is_container(some.dtype, "opt") and some.dtype.of == other.dtype:
            return some
    raise ModelError(f"a value cannot be {a} in one case and {b} in another")


def alike(a: Operand, b: Operand) -> bool:
    """Whether two operands have the same form: types, lengths of sequences, emptiness."""
    if isinstance(a, Sequence) and isinstance(b, Sequence):
        same = len(a.parts) == len(b.parts) and a.of == b.of
        return same and all(map(alike, a.parts, b.parts))
    if type(a) is not type(b):
        return False
    return a is None or type_of_operand(a) == type_of_operand(b)


def flat(operand: Operand, form: Operand) -> list[Value]:
    """The values that make up `operand` where it takes the form that `merge` gave."""
    match form:
        case Sequence():
            assert isinstance(operand, Sequence)
            pairs = zip(operand.parts, form.parts, strict=True)
            return [value for part, like in pairs for value in flat(part, like)]
        case Value():
            return [as_type(operand, form.type)]
    return []


def rebuilt(form: Operand, values: Iterator[Value]) -> Operand:
    """An operand of this form, of the values that `flat` gave."""
    return map_values(form, lambda _: next(values))
