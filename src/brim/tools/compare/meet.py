"""The values of two sides, compared as both come by them.

Each side runs once, however large the network is, and no more is kept than one of them is ahead of
the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from brim.divergence import (
    Apart,
    Compared,
    First,
    apart,
    arranged,
    first,
    lasting,
    may_agree,
    pairs,
    results,
)
from brim.errors import InputError
from brim.graph import Value
from brim.tools.compare.sides import Side
from brim.types import type_of

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Met:
    """What could be compared: the outputs by their names on both sides, and results of layers with
    the values that they are in both sides' graphs, in the order of the right one. unmatched:
    outputs that one side alone gives."""

    left: Side
    right: Side
    outputs: Mapping[tuple[str, str], Compared]
    unmatched: tuple[str, ...]
    layers: tuple[tuple[Compared, Value, Value], ...]

    @property
    def agrees(self) -> bool:
        return all(each.agrees for each in self.outputs.values())

    def judged(self) -> tuple[tuple[Compared, ...], First | None]:
        """The layers, of which those that differ heal or not, and where the outputs begin to
        differ; by the graph that has more layers to tell of."""
        mine = len(results(self.left.graph)) > len(results(self.right.graph))
        graph = (self.left if mine else self.right).graph
        known = {id(a if mine else b): each.agrees for each, a, b in self.layers}
        ports = [ports for ports, each in self.outputs.items() if not each.agrees]
        wrong = [a if mine else b for a, b in ports]
        last = lasting(graph, wrong, known)
        layers = tuple(
            replace(each, heals=not each.agrees and id(a if mine else b) not in last)
            for each, a, b in self.layers
        )
        return layers, first(graph, wrong, known)


def meet(left: Side, right: Side, tolerance: float, progress: Progress) -> Met:
    """Runs both. Raises BrimError where one cannot run, or they have no outputs in common."""
    gots, wants = left.outputs(), right.outputs()
    loose = left.quantized & right.quantized
    names = matched("outputs", list(gots), list(wants))
    alone = [name for name in gots if name not in names]
    alone += [name for name in wants if name not in names.values()]
    outputs = {
        (mine, other): _output(mine, gots[mine], wants[other], tolerance, mine in loose)
        for mine, other in names.items()
    }
    layers = _layers(left, right, tolerance, progress)
    return Met(left, right, outputs, tuple(alone), tuple(layers))


def matched(what: str, mine: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """Names of the left side -> those of the right one: the same ones, else by their places."""
    common = {name: name for name in mine if name in theirs}
    if len(common) == len(mine) or (common and len(mine) != len(theirs)):
        return common
    if len(mine) != len(theirs):
        raise InputError(
            f"the two models have other {what}",
            why=f"{', '.join(mine)} on the left, {', '.join(theirs)} on the right",
        )
    return dict(zip(mine, theirs))


def _layers(
    left: Side, right: Side, tolerance: float, progress: Progress
) -> list[tuple[Compared, Value, Value]]:
    found = list(pairs(left.results, right.results, may_agree))
    order = {layer: number for number, layer in enumerate(right.results)}
    found.sort(key=lambda pair: order[pair[0]])
    mine = left.inside([value for _, value, _ in found])
    theirs = right.inside([value for _, _, value in found])
    met = {}
    for done, (number, got, want) in enumerate(_meeting(mine, theirs), 1):
        progress("layers", done, len(found))
        layer, value, other = found[number]
        compared = _layer(layer, np.asarray(got), np.asarray(want), tolerance)
        if compared is not None:
            met[number] = compared, value, other
    return [met[number] for number in sorted(met)]


def _meeting(
    left: Iterator[tuple[int, Any]], right: Iterator[tuple[int, Any]]
) -> Iterator[tuple[int, Any, Any]]:
    """Both sides' contents by number; each is kept until the other one is there."""
    streams = [left, right]
    held: tuple[dict[int, Any], dict[int, Any]] = ({}, {})
    running = [0, 1]
    while running:
        turn = min(running, key=lambda each: len(held[each]))  # whoever is behind
        found = next(streams[turn], None)
        if found is None:
            running.remove(turn)
            continue
        number, content = found
        if number not in held[1 - turn]:
            held[turn][number] = content
            continue
        other = held[1 - turn].pop(number)
        yield (number, content, other) if turn == 0 else (number, other, content)


def _output(name: str, got: Any, want: Any, tolerance: float, quantized: bool) -> Compared:
    if not (isinstance(got, np.ndarray) and isinstance(want, np.ndarray)):
        same = type(got) is type(want) and got == want
        return Compared(name, (type(got).__name__, type(want).__name__), _by_equality(same), same)
    types = str(type_of(got)), str(type_of(want))
    if got.shape != want.shape:
        return Compared(name, types, _by_equality(False), False)
    return Compared(name, types, *_judged(got, want, tolerance, quantized))


def _layer(layer: str, got: np.ndarray, want: np.ndarray, tolerance: float) -> Compared | None:
    """None where the two cannot be the same value."""
    form = arranged(got, want)
    if form is None:
        return None
    mine, theirs, how = form
    codes = all(each.dtype.kind in "iu" and each.itemsize == 1 for each in (mine, theirs))
    types = str(type_of(got)), str(type_of(want))
    return Compared(layer, types, *_judged(mine, theirs, tolerance, codes), how)


def _judged(
    got: np.ndarray, want: np.ndarray, tolerance: float, quantized: bool
) -> tuple[Apart, bool]:
    """quantized: integers that stand for numbers, which engines round apart by one."""
    if quantized:
        found = apart(got.astype(np.float64), want.astype(np.float64))
        return found, found.largest <= tolerance or abs(found.got - found.want) <= 1
    found = apart(got, want)
    return found, found.largest <= tolerance


def _by_equality(same: bool) -> Apart:
    return Apart(0.0, math.inf) if same else Apart(math.inf, -math.inf)
