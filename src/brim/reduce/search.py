"""The search for a small model that still fails: structure first, then what is left of it.

A model is a net of named values to it. What a format's values are, how a model is put together
again, and which shapes, constants and attributes could be simpler, a `Form` says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from brim.reduce.delta import most, shortest

T = TypeVar("T")
Name: TypeAlias = Any  # whatever names a format's values; hashable
ROUNDS = 8  # of everything, each on what the one before left; two or three are usual


@dataclass(frozen=True)
class Edits:
    """A model's values rearranged: what it gives; which values become inputs (`cut`) or constants
    (`fixed`); which others stand for some."""

    outputs: tuple[Name, ...]
    cut: frozenset[Name] = frozenset()
    fixed: frozenset[Name] = frozenset()
    instead: Mapping[Name, Name] = field(default_factory=dict)


@dataclass(frozen=True)
class Net(Generic[T]):
    """A model's values. results: what its nodes compute, each after what it is computed from.

    types: equal where one value may stand for another; a value without one cannot be an input or a
    constant. ends: results that may be outputs. build: the model with edits, None where there is
    none.
    """

    inputs: Sequence[Name]
    results: Sequence[Name]
    reads: Mapping[Name, Sequence[Name]]
    types: Mapping[Name, Hashable]
    ends: Collection[Name]
    outputs: tuple[Name, ...]
    build: Callable[[Edits], T | None]


@dataclass(frozen=True)
class Form(Generic[T]):
    """How models of one format are taken apart.

    nodes: how many a model has, those of graphs inside included. key: equal for equal models.
    simpler: changes of shapes, types, constants and attributes that keep the net, in groups; the
    first of a group that can be made is made. lifted: models that are parts of this one. inner:
    graphs inside, each with a function that puts another of the same inputs and outputs in its
    place.
    """

    nodes: Callable[[T], int]
    key: Callable[[T], bytes]
    net: Callable[[T], Net[T]]
    simpler: Callable[[T], Iterator[Sequence[Callable[[T], T | None]]]]
    lifted: Callable[[T], Iterator[T]]
    inner: Callable[[T], Iterator[tuple[T, Callable[[T, T], T | None]]]]


def reduced(
    model: T,
    form: Form[T],
    fails: Callable[[T], bool],
    found: Callable[[T], None] = lambda model: None,
) -> T:
    """The smallest model found on which `fails` holds, as it does on `model`.

    Deterministic as far as `fails` is. found: called with each smaller model, the last of which is
    the result, so that who interrupts the search keeps what it found.
    """
    asked: dict[bytes, bool] = {}

    def still(candidate: T | None) -> bool:
        if candidate is None or not form.nodes(candidate):
            return False
        key = form.key(candidate)
        if key not in asked:
            asked[key] = fails(candidate)
            if asked[key]:
                found(candidate)
        return asked[key]

    return _reduced(model, form, still, closed=False)


def _reduced(model: T, form: Form[T], still: Callable[[T | None], bool], closed: bool) -> T:
    """closed: inputs and outputs stay as they are."""
    for _ in range(ROUNDS):
        before = form.key(model)
        if not closed:
            model = _lifted(model, form, still)
            model = _ends(model, form, still)
            model = _edited(model, form, still, _cuts)
        model = _edited(model, form, still, _bypasses)
        model = _edited(model, form, still, _constants)
        for number, _ in enumerate(form.inner(model)):
            model = _inside(model, form, still, number)
        if not closed:
            for ways in form.simpler(model):
                candidates = (simplify(model) for simplify in ways)
                model = next(filter(still, candidates), None) or model
        if form.key(model) == before:
            break
    return model


def _lifted(model: T, form: Form[T], still: Callable[[T | None], bool]) -> T:
    """A graph inside as the model itself."""
    while (part := next(filter(still, form.lifted(model)), None)) is not None:
        model = part
    return model


def _inside(model: T, form: Form[T], still: Callable[[T | None], bool], number: int) -> T:
    """The graph inside of that number made small, in its place."""
    inner, put = list(form.inner(model))[number]
    small = _reduced(
        inner, form, lambda part: part is not None and still(put(model, part)), closed=True
    )
    found = put(model, small)
    return model if small is inner or found is None else found


# ------------------------------------------------------------------ structure


def _ends(model: T, form: Form[T], still: Callable[[T | None], bool]) -> T:
    """Fewer outputs; the shortest beginning that fails; of that the shortest end."""
    model = _fewer_outputs(model, form, still)
    net = form.net(model)

    def beginning(count: int) -> T | None:
        inside = set(net.results[:count])
        read = {name for result in net.results[:count] for name in net.reads[result]}
        ends = [n for n in net.results[:count] if n not in read and n in net.ends]
        ends += [name for name in net.outputs if name in inside and name not in ends]
        return net.build(Edits(tuple(ends))) if ends else None

    count = len(net.results)
    least = shortest(1, count, lambda n: still(beginning(n)))
    model = beginning(least) or model if least < count else model
    model = _fewer_outputs(model, form, still)
    net = form.net(model)

    def end(dropped: int) -> T | None:
        known = [n for n in net.results[:dropped] if net.types[n] is not None]
        return net.build(Edits(net.outputs, frozenset(known) - {*net.outputs}))

    count = len(net.results)
    kept = shortest(1, count, lambda n: still(end(count - n))) if count else 0
    return end(count - kept) or model if kept < count else model


def _fewer_outputs(model: T, form: Form[T], still: Callable[[T | None], bool]) -> T:
    net = form.net(model)

    def without(names: list[Name]) -> T | None:
        kept = tuple(name for name in net.outputs if name not in names)
        return net.build(Edits(kept)) if kept else None

    gone = most(net.outputs, lambda names: still(without(names)))
    return without(gone) or model if gone else model


Change: TypeAlias = tuple[Name, Name]  # a value, and what the family of edits needs to know


def _edited(
    model: T,
    form: Form[T],
    still: Callable[[T | None], bool],
    family: Callable[[Net[T]], tuple[list[Change], Callable[[list[Change]], Edits]]],
) -> T:
    """The model with as many edits of a family as can be made."""
    net = form.net(model)
    changes, edits = family(net)
    made = most(changes, lambda part: still(net.build(edits(part))))
    return net.build(edits(made)) or model if made else model


def _cuts(net: Net[T]) -> tuple[list[Change], Callable[[list[Change]], Edits]]:
    """Values as inputs, without what they were computed from; late ones first, which take most."""
    names = [n for n in reversed(net.results) if net.types[n] is not None and n not in net.outputs]
    return [(n, n) for n in names], lambda part: Edits(net.outputs, frozenset(n for n, _ in part))


def _bypasses(net: Net[T]) -> tuple[list[Change], Callable[[list[Change]], Edits]]:
    """A value that is read in place of the node that reads it; one input in place of another."""
    changes: list[Change] = []
    for name in net.results:
        same = (n for n in net.reads[name] if net.types[n] == net.types[name] is not None)
        changes += [(name, n) for n in list(same)[:1]]
    first: dict[Hashable, Name] = {}
    for name in net.inputs:
        if first.setdefault(net.types[name], name) != name and net.types[name] is not None:
            changes.append((name, first[net.types[name]]))
    return changes, lambda part: Edits(net.outputs, instead=dict(part))


def _constants(net: Net[T]) -> tuple[list[Change], Callable[[list[Change]], Edits]]:
    names = [n for n in net.results if net.types[n] is not None and n not in net.outputs]
    return [(n, n) for n in names], lambda part: Edits(
        net.outputs, fixed=frozenset(n for n, _ in part)
    )


def resolved(edits: Edits, name: Name) -> Name:
    """What stands for a value in the end."""
    while name in edits.instead:
        name = edits.instead[name]
    return name
