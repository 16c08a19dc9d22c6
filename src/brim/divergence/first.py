"""The first value that is wrong for good: found by going back from an output that differs.

The first value in order of computation that differs is often none: a pass that folds a scale into
the weights before it changes a convolution's result, and the next value is right again. Going back
from a wrong output, always to a wrong value that it was computed of, passes such values by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from brim.divergence.errors import Apart
from brim.graph import Graph, Value
from brim.where import layer_of


@dataclass(frozen=True)
class Compared:
    """A value of both sides. layer: its place in the source file, or an output's name; how: what
    was done to bring one into the form of the other. agrees: within what is allowed. heals: it does
    not, but no output that differs is computed of it, but by way of values that agree again: it has
    another meaning on one side, such as a convolution into which a scale was moved."""

    layer: str
    types: tuple[str, str]
    apart: Apart
    agrees: bool
    how: str = ""
    heals: bool = False


@dataclass(frozen=True)
class First:
    """layer: whose result differs though all that it was computed of agrees: `after`. between:
    layers in between whose results could not be compared, so that they may be to blame as well."""

    layer: str
    after: tuple[str, ...]
    between: tuple[str, ...]

    def __str__(self) -> str:
        told = [repr(self.layer)]
        if self.between:
            told.append(f"or in what it is computed of: {_some(self.between)}")
        if self.after:
            told.append(f"as far as {_some(self.after)} all agrees")
        return "; ".join(told)


def _some(names: Sequence[str]) -> str:
    """At most four of the names."""
    return ", ".join(map(repr, names[:4])) + (f" and {len(names) - 4} more" if names[4:] else "")


def first(
    graph: Graph,
    wrong_outputs: Iterable[str],
    known: Mapping[int, bool],
    names: Callable[[Value], str] = lambda value: layer_of(value.where),
) -> First | None:
    """Where the outputs of these names begin to be wrong; of several such places the earliest.

    known: id(value of `graph`) -> whether it is right, for those values that could be compared.
    names: what a value is called. None where there is no wrong output.
    """
    order = {id(value): number for number, value in enumerate(graph.values())}
    starts: dict[int, tuple[Value, str]] = {}
    for output in wrong_outputs:
        value = graph.outputs[output]
        name = "" if known.get(id(value)) is False else f"output {output}"
        while True:
            before, _ = _before(value, known, lambda each: False)
            wrong = [each for each in before if not known[id(each)]]
            if not wrong:
                break
            value, name = min(wrong, key=lambda each: order[id(each)]), ""
        starts.setdefault(id(value), (value, name))
    if not starts:
        return None
    value, name = min(starts.values(), key=lambda start: order[id(start[0])])
    own = names(value)
    before, passed = _before(value, known, lambda each: names(each) == own)
    after = dict.fromkeys(filter(None, map(names, before)))
    between = dict.fromkeys(filter(None, map(names, reversed(passed))))
    left = tuple(n for n in between if n not in (own, *after))
    return First(name or own, tuple(after), left)


def lasting(graph: Graph, wrong_outputs: Iterable[str], known: Mapping[int, bool]) -> set[int]:
    """ids of the wrong values that wrong outputs are computed of, on a way without right ones."""
    found: set[int] = set()
    seen: set[int] = set()
    stack = [graph.outputs[output] for output in wrong_outputs]
    roots = {id(value) for value in stack}
    while stack:
        value = stack.pop()
        right = known.get(id(value)) and id(value) not in roots
        if id(value) in seen or right:
            continue
        seen.add(id(value))
        if id(value) in known:
            found.add(id(value))
        stack.extend(value.args)
    return found


def _before(
    value: Value, known: Mapping[int, bool], inner: Callable[[Value], bool]
) -> tuple[list[Value], list[Value]]:
    """The nearest known values that one was computed of, and those in between: the unknown ones,
    and what is `inner`."""
    found: dict[int, Value] = {}
    passed: dict[int, Value] = {}
    stack = list(value.args)
    while stack:
        each = stack.pop()
        if id(each) in found or id(each) in passed:
            continue
        if id(each) in known and not inner(each):
            found[id(each)] = each
        elif each.op is not None:
            passed[id(each)] = each
            stack.extend(each.args)
    return list(found.values()), list(passed.values())
