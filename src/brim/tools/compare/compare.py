"""What `brim compare` does: two sides run on the same inputs, and what lies between them told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from brim.divergence import Compared, First
from brim.tools.compare.closer import closer
from brim.tools.compare.meet import Met, Progress, matched, meet
from brim.tools.compare.sides import Way, asked, side
from brim.tools.judge import TOLERANCE
from brim.tools.opened import open_model
from brim.tools.peers import Arrays
from brim.types import Type

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Comparison:
    """What two sides make of the same inputs; the right one is taken for right.

    outputs, layers: what could be compared, layers in order of computation. They agree within
    `tolerance` of the largest value; 8-bit integers that stand for numbers, within one. first:
    where outputs begin to differ; None if they agree. left_only, right_only: layers that the other
    side has no value for, or none that could be the same. notes: how it was found, and what
    restricts it.
    """

    left: str
    right: str
    tolerance: float
    outputs: tuple[Compared, ...]
    layers: tuple[Compared, ...]
    first: First | None
    left_only: tuple[str, ...]
    right_only: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether all outputs do."""
        return all(each.agrees for each in self.outputs)


def compare(
    left: str,
    right: str,
    feeds: Callable[[Mapping[str, Type], Shapes], Arrays],
    tolerance: float = TOLERANCE,
    signature: str = "",
    progress: Progress = lambda stage, done, total: None,
) -> Comparison:
    """Compares two models, or two ways to compute one: FILE, FILE@BY; right may be only @BY.

    feeds: gives arrays for the inputs of the left one, from their types and usual shapes. Raises
    BrimError for sides that do not exist, cannot run here, or take or give other things.
    """
    mine = asked(left)
    theirs = asked(right, mine.path)
    model = open_model(mine.path, signature)
    other = model if theirs.path == mine.path else open_model(theirs.path, signature)
    given = feeds(model.inputs, model.usual)
    names = matched("inputs", list(given), list(other.inputs))
    renamed = {other: given[name] for name, other in names.items()}
    ways = Way(mine, model, given, signature), Way(theirs, other, renamed, signature)
    progress("prepare", 0, 2)
    a = side(ways[0])
    progress("prepare", 1, 2)
    b = side(ways[1])
    progress("prepare", 2, 2)
    met = meet(a, b, tolerance, progress)
    outputs, notes = tuple(met.outputs.values()), list(_notes(met))
    if not met.agrees:
        met, told = closer(ways, met, tolerance)
        notes += told
    layers, start = met.judged()
    there = {each.layer for each in layers}
    return Comparison(
        a.name,
        b.name,
        tolerance,
        outputs,
        layers,
        start,
        tuple(layer for layer in met.left.results if layer not in there),
        tuple(layer for layer in met.right.results if layer not in there),
        tuple(notes),
    )


def _notes(met: Met) -> Iterator[str]:
    if not met.layers:
        named = met.left.results.keys() & met.right.results.keys()
        why = "those of equal names have other types" if named else "no names are the same"
        yield f"no layer could be compared: {why}"
    if met.unmatched:
        yield f"one side alone gives {', '.join(map(repr, met.unmatched))}: not compared"
    right = {id(value) for each, *values in met.layers for value in values if each.agrees}
    for (mine, other), output in met.outputs.items():
        roots = met.left.graph.outputs[mine], met.right.graph.outputs[other]
        if not output.agrees and any(id(root) in right for root in roots):
            yield (
                f"output {mine!r} differs, and agrees when layers are looked at: what is to blame "
                "depends on what is computed together"
            )
