"""The facts: kernels with their times, bytes and roofs, and what was considered for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from brim.compiler import schedule_graph
from brim.errors import BrimError
from brim.graph import Graph
from brim.kernels.cost import memory_share
from brim.kernels.ir import flops
from brim.kernels.roofline import Roof, roof_of
from brim.kernels.text import parse_kernel, parse_schedule, print_schedule
from brim.model import Model
from brim.pages import frame
from brim.runtime.compiled import Row
from brim.search.choice import Search, by_times
from brim.search.explain import Rivals, rivals
from brim.targets.target import Target, find_target
from brim.tools.explain.why import Choice, in_short, reasons
from brim.where import split_name

SHOWN = 5  # candidates of a kernel that are kept
INNER = "are in cond or loop: they run as often as the data say, count once, and are not timed"
ABOVE = (
    "some kernels are faster than their roofs: the bandwidths of this target are estimates, which "
    "`brim calibrate` replaces by measured ones"
)


@dataclass(frozen=True)
class Priced:
    """A schedule and its seconds on one thread: `measured` where it was, else `predicted`."""

    schedule: str
    predicted: float
    measured: float | None

    @property
    def seconds(self) -> float:
        """Measured, where it was; else predicted."""
        return self.predicted if self.measured is None else self.measured


@dataclass(frozen=True)
class Explained:
    """One kernel of a compiled model. Seconds are on one thread, of all its `times`.

    where: the place that it is named after; layer: its node's name. fused: the operators of all
    nodes computed in it, in order; sources: their names. kernel, schedule: texts. roof: of one
    time. candidates: of the `considered` schedules the one taken, then the next best; none where it
    is not known how it was chosen. why: sentences. inner: it is in a sub-graph that a step in numpy
    runs as often as the data say; it counts once, and is not timed.
    """

    where: str
    layer: str
    fused: tuple[str, ...]
    sources: tuple[str, ...]
    operators: tuple[str, ...]
    kernel: str
    schedule: str
    times: int
    predicted: float
    measured: float | None
    roof: Roof
    considered: int
    candidates: tuple[Priced, ...]
    why: tuple[str, ...]
    inner: bool = False

    @property
    def seconds(self) -> float:
        """Measured, where it was; else predicted."""
        return self.predicted if self.measured is None else self.measured

    @property
    def short(self) -> str:
        """The schedule in a few words."""
        return in_short(parse_schedule(f"schedule {{ {self.schedule} }}"))

    @property
    def of_roof(self) -> float:
        """How near its roof it is: 1 is as fast as could be."""
        return self.roof.seconds * self.times / max(self.seconds, 1e-12)

    @property
    def above_roof(self) -> float:
        """Seconds that it takes beyond its roof: the most that better code could win."""
        return max(self.seconds - self.roof.seconds * self.times, 0.0)


@dataclass(frozen=True)
class Explanation:
    """All kernels of a model for the shapes it was compiled for last.

    inputs: their types. variants: of operators that have several bodies, what each would cost.
    host_steps: what numpy computes between compiled steps. prediction_error: of the median kernel,
    as `Report` has it; None: nothing is measured. Sizes in bytes.
    """

    model: str
    inputs: Mapping[str, str]
    target: Target
    kernels: tuple[Explained, ...]
    variants: tuple[Rivals, ...]
    host_steps: tuple[str, ...]
    compile_seconds: float
    arena_bytes: int
    tensor_bytes: int
    weight_bytes: int
    prediction_error: float | None

    @property
    def is_measured(self) -> bool:
        """Whether kernels were timed."""
        return self.prediction_error is not None

    @property
    def is_above_roofs(self) -> bool:
        """Whether a kernel that counts was measured to be faster than its roof by a tenth."""
        return any(
            each.of_roof > 1.1 and each.measured > self.seconds / 100
            for each in self.kernels
            if each.measured is not None
        )

    @property
    def seconds(self) -> float:
        """Of a run on one thread."""
        return sum(kernel.seconds for kernel in self.kernels)

    @property
    def flops(self) -> int:
        """Of a run."""
        return sum(kernel.roof.flops * kernel.times for kernel in self.kernels)

    @property
    def roof_seconds(self) -> float:
        """What all kernels would take if each were as fast as its roof."""
        return sum(kernel.roof.seconds * kernel.times for kernel in self.kernels)

    def bodies_of(self, kernel: Explained) -> Rivals | None:
        """The bodies that the operator of a kernel could have."""
        return next((each for each in self.variants if kernel.where in each.where), None)

    def furthest(self) -> list[tuple[list[int], float]]:
        """Numbers of kernels with the same code, and the seconds that they lose together beyond
        their roofs: those that lose most come first."""
        alike: dict[tuple[str, str], list[int]] = {}
        for number, each in enumerate(self.kernels):
            alike.setdefault((each.kernel, each.schedule), []).append(number)
        lost = [(some, sum(self.kernels[i].above_roof for i in some)) for some in alike.values()]
        return sorted(lost, key=lambda pair: -pair[1])

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON has it; figures that follow from others stand beside them."""
        kernels = [
            asdict(each)
            | {"seconds": each.seconds, "of_roof": each.of_roof, "above_roof": each.above_roof}
            | {"roof": asdict(each.roof) | {"seconds": each.roof.seconds}}
            for each in self.kernels
        ]
        totals = {"seconds": self.seconds, "flops": self.flops, "roof_seconds": self.roof_seconds}
        return asdict(self) | {"kernels": kernels} | totals

    def to_html(self) -> str:
        """One page that needs nothing else: no network, no script."""
        from brim.tools.explain.page import explain_page

        return explain_page(self)

    def _repr_html_(self) -> str:
        """The page within a notebook."""
        return frame(self.to_html(), f"{self.model}, explained")


def explain(model: Model, measure: bool = False) -> Explanation:
    """What became of a model in the shapes that it compiled last. measure: times every kernel, too.

    Raises InputError if nothing is compiled yet.
    """
    report = model.report()
    target = find_target(report.target)
    search = by_times(target)
    bodies = rivals(model.graph, search)
    measured = model.time_kernels() if measure else []
    seconds: list[float] | list[None] = measured or [None] * len(report.kernels)
    choices = _choices(model.graph, search)
    found = [
        _explained(row, taken, choices.get((row.kernel, row.schedule)), bodies, target)
        for row, taken in zip(report.kernels, seconds)
    ]
    found += [
        replace(
            _explained(row, None, choices.get((row.kernel, row.schedule)), bodies, target),
            inner=True,
        )
        for row in report.inner
    ]
    return Explanation(
        model.name,
        {name: str(value.type) for name, value in model.graph.inputs.items()},
        target,
        tuple(found),
        tuple(bodies),
        report.host_steps,
        report.compile_seconds,
        report.arena_bytes,
        report.tensor_bytes,
        report.weight_bytes,
        report.prediction_error(measured) if measure else None,
    )


def _explained(
    row: Row, measured: float | None, choice: Choice | None, bodies: list[Rivals], target: Target
) -> Explained:
    kernel, schedule = parse_kernel(row.kernel), parse_schedule(row.schedule)
    roof = roof_of(kernel, schedule, target)
    times = round(row.flops / flops(kernel)) if flops(kernel) else 1
    names = [split_name(source) for source in row.sources]
    taken = choice.candidates[:SHOWN] if choice else []
    return Explained(
        row.where,
        split_name(row.where)[0],
        tuple(op or name for name, op in names),
        tuple(name for name, _ in names),
        row.ops,
        row.kernel,
        _inside(row.schedule),
        times,
        row.predicted_seconds,
        measured,
        roof,
        len(choice.candidates) if choice else 0,
        tuple(Priced(_inside(print_schedule(c.schedule)), c.predicted, c.measured) for c in taken),
        tuple(
            reasons(
                kernel,
                schedule,
                roof,
                next((each for each in bodies if row.where in each.where), None),
                choice,
                target,
            )
        ),
    )


def _choices(graph: Graph, search: Search) -> dict[tuple[str, str], Choice]:
    """What was considered for the kernels that a graph and its sub-graphs become by now, by their
    text and schedule. An artifact made with other prices or measured times has other ones."""
    found: dict[tuple[str, str], Choice] = {}
    try:
        made = schedule_graph(graph, search.target.name)
    except BrimError:
        return found  # what an older brim has compiled
    for (step, _), row in zip(made.lowered.kernel_steps(), made.rows):
        if (row.kernel, row.schedule) not in found:
            candidates = tuple(search.candidates(step.kernel))
            share = memory_share(step.kernel, candidates[0].schedule, search.target)
            found[row.kernel, row.schedule] = Choice(step.kernel, candidates, share)
    for value in made.settled.values():
        for attr in value.attrs.values():
            if isinstance(attr, Graph) and all(v.type.is_static for v in attr.inputs.values()):
                found |= _choices(attr, search)
    return found


def _inside(schedule: str) -> str:
    return schedule.strip().removeprefix("schedule {").removesuffix("}").strip()
