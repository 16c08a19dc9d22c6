"""Why a kernel is as it is, in words: what decided, by how much, and what is above it.

The sentences come from the candidates and their prices: for each trait of the schedule that was
taken, the best candidate that differs in it tells what the trait is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite, prod

from brim.figures import duration, size
from brim.kernels.ir import Kernel, Schedule
from brim.kernels.roofline import LEVELS, Roof
from brim.search.choice import Candidate
from brim.search.explain import Rivals
from brim.targets.target import Target


@dataclass(frozen=True)
class Choice:
    """What was considered for a kernel, the candidate taken first, then the others, best first.

    kernel: with constants as they are before packing. memory: the part of the price that is waiting
    for memory.
    """

    kernel: Kernel
    candidates: tuple[Candidate, ...]
    memory: float


def reasons(
    kernel: Kernel,
    schedule: Schedule,
    roof: Roof,
    bodies: Rivals | None,
    choice: Choice | None,
    target: Target,
) -> Iterator[str]:
    """Sentences: of the operator's body, of the schedule, of the price, of the roof."""
    if bodies is not None and len(bodies.prices) > 1:
        yield _body(bodies)
    if choice is not None:
        yield _decision(choice)
        yield from _traits(choice, target)
        yield _price(choice, roof, target)
    else:
        yield "how it was chosen is not known: it was compiled with other prices or times than now"
    yield _roof(roof)


def _body(bodies: Rivals) -> str:
    (name, least), *others = bodies.prices
    costs = ", ".join(
        f"{other} {seconds / least:.2f}x" if isfinite(seconds) else f"{other} needs too much memory"
        for other, seconds in others
    )
    return f"{bodies.op} is computed as {name}; the others: {costs}"


def _decision(choice: Choice) -> str:
    taken, *others = choice.candidates
    count = len(choice.candidates)
    if not others:
        return "there is one schedule for it"
    how = "as the fastest measured" if taken.measured is not None else "by price"
    best = others[0].seconds / taken.seconds
    next_best = "as long" if best < 1.005 else f"{best:.2f}x as long"
    return f"chosen {how} out of {count} schedules; the next best takes {next_best}"


def _traits(choice: Choice, target: Target) -> Iterator[str]:
    """What each trait of the schedule is worth: beside the best candidate without it."""
    taken, *others = choice.candidates
    schedule, kernel = taken.schedule, choice.kernel

    def best(differs: Callable[[Schedule], bool]) -> Candidate | None:
        found = [c for c in others if differs(c.schedule)]
        return min(found, key=lambda c: c.seconds, default=None)

    def rival(candidate: Candidate | None, text: Callable[[Schedule], str]) -> str:
        if candidate is None:
            return ""
        return f"; {text(candidate.schedule)} {candidate.seconds / taken.seconds:.2f}x"

    lanes = f"{schedule.lanes} lanes along {_axis(kernel, schedule.vector)}"
    if schedule.vector is None:
        lanes = "one element at a time"
    if schedule.dot is not None:
        lanes += f", products by {schedule.dot[1]}"
    along = best(lambda s: s.vector != schedule.vector)
    yield lanes + rival(along, lambda s: f"along {_axis(kernel, s.vector)}")
    alike = lambda s: s.vector == schedule.vector  # noqa: E731
    other = best(lambda s: alike(s) and s.tile != schedule.tile)
    single = best(lambda s: alike(s) and not s.tile) if schedule.tile else None
    if schedule.tile or other is not None:
        text = _tile(schedule, target) + rival(other, lambda s: _short(s))
        yield text + (rival(single, _short) if single is not other else "")
    order = best(lambda s: alike(s) and s.tile == schedule.tile and s.order != schedule.order)
    if order is not None:
        text = f"loops over {' '.join(schedule.order)}, outermost first"
        yield text + rival(order, lambda s: " ".join(s.order))


def in_short(schedule: Schedule) -> str:
    """A schedule in a few words: lanes, tile, and the instruction for products."""
    lanes = "scalar" if schedule.vector is None else f"{schedule.lanes} lanes"
    tile = f", tile {_short(schedule)}" if schedule.tile else ""
    return lanes + tile + (f", {schedule.dot[1]}" if schedule.dot else "")


def _axis(kernel: Kernel, axis: str | None) -> str:
    return "no axis" if axis is None else f"{axis} ({kernel.sizes[axis]} points)"


def _short(schedule: Schedule) -> str:
    return " × ".join(str(count) for _, count in schedule.tile) or "no tile"


def _tile(schedule: Schedule, target: Target) -> str:
    if not schedule.tile:
        return "no tile"
    cells = prod(count for _, count in schedule.tile)
    axes = " × ".join(f"{count} {axis}" for axis, count in schedule.tile)
    return f"tile of {axes}: {cells} results in {target.registers} registers"


def _price(choice: Choice, roof: Roof, target: Target) -> str:
    """How the predicted time is made up."""
    predicted = choice.candidates[0].predicted
    waiting = choice.memory
    useful = min(roof.arithmetic_seconds / predicted, 1 - waiting)
    parts = (
        (useful, "is arithmetic at its peak"),
        (1 - waiting - useful, "other instructions"),
        (waiting, "waiting for memory"),
    )
    told = ", ".join(f"{share:.0%} {what}" for share, what in parts)
    return f"of the {duration(predicted)} predicted for a run, {told}"


def _roof(roof: Roof) -> str:
    moved = size(roof.bytes.total)
    place = LEVELS[roof.level - 1]
    if roof.is_memory:
        return (
            f"the roof is {place}: {moved} at {size(round(roof.bandwidth))}/s take "
            f"{duration(roof.memory_seconds)}; the arithmetic would take "
            f"{duration(roof.arithmetic_seconds)}"
        )
    return (
        f"the roof is arithmetic: {roof.flops / 1e6:.3g} MFLOP at {roof.peak / 1e9:.3g} GFLOP/s "
        f"take {duration(roof.arithmetic_seconds)}; {moved} from {place} would take "
        f"{duration(roof.memory_seconds)}"
    )
