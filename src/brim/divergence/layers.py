"""The layers of a graph: what each node of the source file hands on, found by `Value.where`.

Passes rewrite what a node is computed by, but give what they make its place, so the results of one
node can be found in a graph before and after, and in the same file's other runtimes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeVar

from brim.graph import Graph, Value, users
from brim.types import Type
from brim.where import layer_of

T = TypeVar("T")
Results = Mapping[str, tuple[T, ...]]  # layer -> what it hands on, in order


def results(graph: Graph, stored: Collection[int] | None = None) -> dict[str, tuple[Value, ...]]:
    """Layer -> its values that other layers, or callers, read; in order of computation.

    Only arrays that follow from an input: a constant is no layer. stored: ids of the values that
    are there to be looked at; None: all.
    """
    readers, inputs = users(graph), {id(value) for value in graph.inputs.values()}
    outputs = {id(value) for value in graph.outputs.values()}
    moving = set(inputs)  # ids of what depends on inputs
    found: dict[str, list[Value]] = {}
    for value in graph.values():
        if value.op is None or not any(id(arg) in moving for arg in value.args):
            continue
        moving.add(id(value))
        if not value.where or not isinstance(value.type, Type) or value.dtype.is_object:
            continue
        if stored is not None and id(value) not in stored:
            continue
        leaves = id(value) in outputs or any(
            reader.where != value.where for reader in readers.get(id(value), ())
        )
        if leaves:
            found.setdefault(layer_of(value.where), []).append(value)
    return {layer: tuple(values) for layer, values in found.items()}


def pairs(
    left: Results[T], right: Results[T], fits: Callable[[T, T], bool]
) -> Iterator[tuple[str, T, T]]:
    """What may be the same value on both sides: of each layer, the first that fit, in order."""
    for layer, mine in left.items():
        theirs = list(right.get(layer, ()))
        for value in mine:
            match = next((other for other in theirs if fits(value, other)), None)
            if match is not None:
                theirs.remove(match)
                yield layer, value, match


def may_agree(mine: Value, other: Value) -> bool:
    """Whether two values can be one in two forms: they hold as many elements."""
    return mine.type.is_static and other.type.is_static and mine.type.size == other.type.size
