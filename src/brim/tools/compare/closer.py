"""A closer look where compiled models differ: is it the files, or what compiling makes of one?

Kernels fuse layers, and what is inside a kernel cannot be looked at. Interpreted, every layer of
the file can; and if the files agree there, halving the list of passes finds the one to blame. An
artifact has no file to be interpreted: its passes have run.
"""

from __future__ import annotations

from dataclasses import replace

from brim.tools.compare.meet import Met, meet
from brim.tools.compare.sides import Asked, Side, Way, side, stage_names


def closer(ways: tuple[Way, Way], met: Met, tolerance: float) -> tuple[Met, list[str]]:
    """What the interpreter makes of the files, and that it did; where the interpreted files agree,
    `met` as it is, and what of compiling is to blame."""
    left, right = (_plain(way) for way in ways)
    artifact = any(way.is_compiled and way.model.is_artifact for way in ways)
    if artifact or (left.of, right.of) == (ways[0].of, ways[1].of):
        return met, []
    found = meet(side(left), side(right), tolerance, _quietly)
    if not found.agrees:
        return found, [f"layers are those of {found.left.name} and {found.right.name}"]
    notes = [f"{found.left.name} and {found.right.name} agree: compiling makes the difference"]
    for way, plain, reference, compiled in (
        (ways[0], left, found.right, met.left),
        (ways[1], right, found.left, met.right),
    ):
        if way.of != plain.of:
            notes += _blamed(way, compiled, reference, tolerance)
    return met, notes


def _plain(way: Way) -> Way:
    """Interpreted as the file says it, where it was to be compiled."""
    if not way.is_compiled:
        return way
    return replace(way, of=Asked(way.of.path, "interpreter"))


def _blamed(way: Way, compiled: Side, reference: Side, tolerance: float) -> list[str]:
    """What of compiling makes the difference; nothing where this side agrees."""

    def agrees(of: Side) -> bool:
        outputs_only = replace(of, results={})
        return meet(outputs_only, reference, tolerance, _quietly).agrees

    if agrees(compiled):
        return []
    stages = stage_names()
    right, wrong = 0, len(stages)  # the first is the file itself; beyond the last are kernels
    while wrong - right > 1:
        middle = (right + wrong) // 2
        if agrees(side(replace(way, of=Asked(way.of.path, stages[middle])))):
            right = middle
        else:
            wrong = middle
    if wrong == len(stages):
        return [f"{way.of} is right after every pass: its kernels are wrong, or round otherwise"]
    found = f"{way.of} is right after {stages[right]}, and wrong after {stages[wrong]}"
    if stages[wrong].endswith("settle"):
        found += f", which takes variants that round otherwise: see {way.of.path.name}@exact"
    return [found]


def _quietly(stage: str, done: int, total: int) -> None:
    """Progress that nobody sees: a closer look is a short one."""
