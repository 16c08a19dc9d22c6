"""ONNX sequences and optionals, and SequenceMap.

Sequences whose length is known at import are taken to pieces here and leave no trace; others
become values of a container type, and these operators host steps of `brim.ops.containers`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError, UnsupportedError
from brim.frontends.onnx.operands import (
    Nothing,
    Operand,
    Sequence,
    as_value,
    is_container,
    type_of_operand,
)
from brim.frontends.onnx.operators.control import repeat, stack
from brim.frontends.onnx.operators.shape import slice_axes
from brim.frontends.onnx.table import Call, operator
from brim.frontends.onnx.tensors import element
from brim.graph import Value, const
from brim.ops import containers
from brim.types import DType

PARTS = 1 << 10  # parts of a sequence that is taken to pieces; longer ones become values

# ------------------------------------------------------------------ sequences


@operator("SequenceConstruct", dynamic=True)
def sequence_construct(call: Call) -> list[Operand]:
    parts = [_part(call, i) for i in range(len(call.inputs))]
    if not parts:
        raise ModelError("SequenceConstruct needs at least one input")
    of = type_of_operand(parts[0]).dtype
    for part in parts:
        _check_part(part, of)
    return [_sequence(parts, of)]


def _part(call: Call, index: int) -> Operand:
    found = call.operand(index)
    if found is None:
        raise ModelError(f"{call.node.op} lacks its input {index}")
    return found


def _check_part(part: Operand, of: DType) -> None:
    found = type_of_operand(part).dtype
    if found != of:
        raise ModelError(f"a sequence of {of} cannot hold {found}")


def _sequence(parts: Iterable[Operand], of: DType) -> Operand:
    """A sequence in pieces, or as a value where the pieces are too many."""
    whole = Sequence(tuple(parts), of)
    return whole if len(whole.parts) <= PARTS else as_value(whole)


@operator("SequenceEmpty", dynamic=True)
def sequence_empty(call: Call) -> list[Operand]:
    return [Sequence((), element(call.int("dtype", 1)))]


def _operand(call: Call) -> Sequence | Value:
    """Input 0: a sequence, in pieces or as a value."""
    found = call.operand(0)
    if isinstance(found, Sequence):
        return found
    if isinstance(found, Value) and is_container(found.dtype, "seq"):
        return found
    raise ModelError(f"input 0 of {call.node.op} is not a sequence")


def _position(call: Call, index: int, count: int, behind: int = 0) -> int | None:
    """A position among `count` parts, or up to `behind` after them; negative from the last part.

    None where it is not known; the last one where none is given.
    """
    if not call.given(index):
        return count - 1 + behind
    if not call[index].is_const:
        return None
    (position,) = call.int_inputs(index)
    if not -count <= position < count + behind:
        raise ModelError(f"position {position} in a sequence of {count}")
    return position + count if position < 0 else position


def _rest(call: Call, index: int) -> list[Value]:
    return [call[index]] if call.given(index) else []


@operator("SequenceAt", dynamic=True)
def sequence_at(call: Call) -> list[Operand]:
    whole, index = _operand(call), call[1]
    if isinstance(whole, Sequence):
        at = _position(call, 1, len(whole.parts))
        if at is not None:
            return [whole.parts[at]]
        types = {type_of_operand(part) for part in whole.parts}
        if len(types) == 1 and min(t.is_static and t.dtype.kind != "o" for t in types):
            return [call.scope.apply("Gather", stack(list(whole.parts), 0), index, axis=0)]
    return [containers.sequence_at(as_value(whole), index)]


@operator("SequenceInsert", dynamic=True)
def sequence_insert(call: Call) -> list[Operand]:
    whole, part = _operand(call), _part(call, 1)
    if isinstance(whole, Sequence):
        at = _position(call, 2, len(whole.parts), behind=1)
        if at is not None:
            _check_part(part, whole.of)
            return [_sequence((*whole.parts[:at], part, *whole.parts[at:]), whole.of)]
    return [containers.sequence_insert(as_value(whole), as_value(part), *_rest(call, 2))]


@operator("SequenceErase", dynamic=True)
def sequence_erase(call: Call) -> list[Operand]:
    whole = _operand(call)
    if isinstance(whole, Sequence):
        if not whole.parts:
            raise ModelError("nothing can be taken from an empty sequence")
        at = _position(call, 1, len(whole.parts))
        if at is not None:
            return [_sequence((*whole.parts[:at], *whole.parts[at + 1 :]), whole.of)]
    return [containers.sequence_erase(as_value(whole), *_rest(call, 1))]


@operator("SequenceLength", dynamic=True)
def sequence_length(call: Call) -> list[Operand]:
    whole = _operand(call)
    if isinstance(whole, Sequence):
        return [const(np.int64(len(whole.parts)))]
    return [containers.sequence_length(whole)]


@operator("SplitToSequence", dynamic=True)
def split_to_sequence(call: Call) -> list[Operand]:
    x, keep = call[0], call.flag("keepdims", True) or call.given(1)
    if not x.type.is_static or (call.given(1) and not call[1].is_const):
        axis = call.int("axis", 0)
        return [containers.sequence_split(x, *_rest(call, 1), axis=axis, keep=keep)]
    axis = call.axis("axis", 0)
    n = x.shape[axis]
    if n > PARTS:
        return [containers.sequence_split(x, *_rest(call, 1), axis=axis, keep=keep)]
    parts, start = [], 0
    for size in _sizes(call, n):
        part = slice_axes(x, {axis: (start, start + size, 1)})
        start += size
        if not keep:
            part = p.reshape(part, shape=(*x.shape[:axis], *x.shape[axis + 1 :]))
        parts.append(part)
    return [Sequence(tuple(parts), x.dtype)]


def _sizes(call: Call, n: int) -> tuple[int, ...]:
    """How long the parts of an axis of n are."""
    if not call.given(1):
        return (1,) * n
    sizes = call.int_inputs(1)
    if call[1].shape == ():
        if sizes[0] < 1:
            raise ModelError(f"parts of {sizes[0]}")
        return tuple(min(sizes[0], n - i) for i in range(0, n, sizes[0]))
    if sum(sizes) != n or min(sizes, default=0) < 0:
        raise ModelError(f"parts {sizes[:8]} do not make up an axis of {n}")
    return sizes


@operator("ConcatFromSequence", dynamic=True)
def concat_from_sequence(call: Call) -> Value:
    whole, stacked, axis = _operand(call), call.flag("new_axis"), call.int("axis")
    parts = list(whole.parts) if isinstance(whole, Sequence) else []
    known = isinstance(whole, Sequence) and all(type_of_operand(x).is_static for x in parts)
    if not known:
        return containers.sequence_concat(as_value(whole), axis=axis, stack=stacked)
    if not parts:
        raise ModelError("nothing to join")
    if stacked:
        return stack(parts, axis)
    values = [as_value(part) for part in parts]
    return p.concat(*values, axis=call.axis("axis", rank=len(values[0].shape)))


@operator("SequenceMap", dynamic=True)
def sequence_map(call: Call) -> list[Operand]:
    body, whole = call.graph("body"), _operand(call)
    others = call.operands(1)
    if not isinstance(whole, Sequence):
        return _map_loop(call, whole, others)
    columns: list[list[Operand]] = [[] for _ in body.outputs]
    for i, part in enumerate(whole.parts):
        index = const(np.int64(i))
        results = call.scope.inline(body, [part, *(_nth(x, index) for x in others)])
        if call.scope.is_poisoned(results):
            raise UnsupportedError("SequenceMap whose body is not supported")
        for column, result in zip(columns, results):
            column.append(result)
    types = [
        type_of_operand(c[0]).dtype if c else _declared(body, i) for i, c in enumerate(columns)
    ]
    return [_sequence(column, of) for column, of in zip(columns, types)]


def _nth(operand: Operand, index: Value) -> Operand:
    """What one round of SequenceMap gets: sequences give a part, tensors are the same in each."""
    if isinstance(operand, Sequence) and index.is_const:
        at = int(index.data)  # type: ignore[arg-type]
        if at >= len(operand.parts):
            raise ModelError("the sequences of a SequenceMap have different lengths")
        return operand.parts[at]
    value = as_value(operand)
    return containers.sequence_at(value, index) if is_container(value.dtype, "seq") else operand


def _declared(body: Any, index: int) -> DType:
    found = list(body.outputs.values())[index]
    if found is None:
        raise UnsupportedError("SequenceMap on an empty sequence: the body's types are not known")
    return found.dtype


def _map_loop(call: Call, whole: Value, others: list[Operand]) -> list[Operand]:
    """A sequence of unknown length: a loop that inserts into sequences it starts empty."""
    body = call.graph("body")

    def parts(inner: Any, index: Value) -> list[Operand]:
        inputs = [inner.capture(operand, f"input{i}") for i, operand in enumerate((whole, *others))]
        return inner.inline(body, [_nth(operand, index) for operand in inputs])

    def step(inner: Any, index: Value, alive: Value, carried: list[Operand]) -> list[Operand]:
        results = parts(inner, index)
        if inner.is_poisoned(results):
            raise UnsupportedError("SequenceMap whose body is not supported")
        pairs = zip(carried, results, strict=True)
        longer = [containers.sequence_insert(as_value(s), as_value(x)) for s, x in pairs]
        return [const(np.bool_(True)), *longer]

    tried, _ = call.scope.closed(lambda inner: parts(inner, containers.sequence_length(whole)))
    if call.scope.is_poisoned(tried):
        raise UnsupportedError("SequenceMap whose body is not supported")
    state: list[Operand] = [
        as_value(Sequence((), type_of_operand(result).dtype)) for result in tried
    ]
    count = containers.sequence_length(whole)
    found, _ = repeat(call, step, count, const(np.bool_(True)), state, [], body.name)
    return found


# ------------------------------------------------------------------ optionals


@operator("Optional", dynamic=True)
def optional(call: Call) -> list[Operand]:
    declared = call.declared_type("type", None)
    if call.given(0):
        return [call.operand(0)]
    if declared is None:
        raise ModelError("an empty Optional without a type")
    return [Nothing(declared.dtype)]


def _is_optional(operand: Operand) -> bool:
    return isinstance(operand, Value) and is_container(operand.dtype, "opt")


@operator("OptionalHasElement", dynamic=True)
def optional_has_element(call: Call) -> list[Operand]:
    found = call.operand(0)
    if _is_optional(found):
        return [containers.has_element(found)]
    return [const(np.bool_(found is not None and not isinstance(found, Nothing)))]


@operator("OptionalGetElement", dynamic=True)
def optional_get_element(call: Call) -> list[Operand]:
    found = call.operand(0)
    if _is_optional(found):
        return [containers.get_element(found)]
    if found is None or isinstance(found, Nothing):
        raise ModelError("an empty optional has no element")
    return [found]
