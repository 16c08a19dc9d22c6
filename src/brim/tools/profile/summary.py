"""What the runs of a recording come to: the time of each layer, and where the rest of it went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from brim.ops.registry import OPS
from brim.runtime.compiled import Compiled
from brim.runtime.plan import Call, HostCall
from brim.runtime.recording import Recording, Run, Span

Key = tuple[str, int, int]  # kind of the span, program, number


@dataclass(frozen=True)
class Layer:
    """All kernels of one name in the source, or one operator that numpy runs; of the model or of a
    sub-graph.

    where: the name. kind: what is most of the work. kernels: how many they are, 0 for what numpy
    runs. times: how often they ran. seconds: of all these, from the first thread's begin to the
    last one's end. threads: how many were busy in that time, on average. flops: of all these.
    """

    where: str
    ops: tuple[str, ...]
    kind: str
    kernels: int
    times: int
    seconds: float
    threads: float
    flops: int


@dataclass(frozen=True)
class Kind:
    """All layers of a kind."""

    name: str
    layers: int
    seconds: float


@dataclass(frozen=True)
class Profile:
    """Times in seconds, of one run: that in the middle of all, by its time. Layers, in the order in
    which they began, `between` and `around` add up to its `seconds`.

    low, high: quartiles of all runs. plain: the median of runs without clocks. overhead: what
    clocks cost, as a share. between: in native functions outside of kernels; around: outside of
    native functions and host steps, such as checks and copies.
    """

    model: str
    threads: int
    runs: int
    seconds: float
    low: float
    high: float
    plain: float
    overhead: float
    layers: tuple[Layer, ...]
    between: float
    around: float

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What each kind of layers takes, the slowest first."""
        groups: dict[str, list[Layer]] = defaultdict(list)
        for layer in self.layers:
            groups[layer.kind].append(layer)
        found = (Kind(n, len(g), sum(each.seconds for each in g)) for n, g in groups.items())
        return tuple(sorted(found, key=lambda kind: -kind.seconds))

    def slowest(self, count: int) -> list[Layer]:
        """The layers that take the most time."""
        return sorted(self.layers, key=lambda layer: -layer.seconds)[:count]


def profile(recording: Recording, model: str, threads: int) -> Profile:
    """Sums up a recording. model: its name; threads: how many it was allowed."""
    low, high = np.quantile([run.seconds for run in recording.runs], (0.25, 0.75)).tolist()
    sums, between, around = _shares(recording.middle)
    groups: dict[tuple[int, str] | Key, list[Key]] = defaultdict(list)
    for key in sums:
        where = _told(recording.programs[key[1]], key)[0]
        groups[(key[1], where) if where and key[0] == "kernel" else key].append(key)
    return Profile(
        model,
        threads,
        len(recording.runs),
        recording.middle.seconds,
        low,
        high,
        float(np.median([run.seconds for run in recording.plain])),
        recording.overhead,
        tuple(_layer(recording, keys, sums, model) for keys in groups.values()),
        between / 1e9,
        around / 1e9,
    )


def step_seconds(recording: Recording) -> list[float]:
    """Seconds of each step of the model, as `Plan.numbered` counts them, in the run in the middle:
    of a call in a loop for all iterations, of a host step with all that its sub-graphs do."""
    run = recording.middle
    took = {key: sums.wall for key, sums in _shares(run)[0].items() if key[0] == "kernel"}
    for span in run.spans:
        if span.kind == "host":
            took[_key(span)] = took.get(_key(span), 0) + span.end - span.start
    return [0.0 if key is None else took.get(key, 0) / 1e9 for key in _keys(recording)]


def _keys(recording: Recording) -> Iterator[Key | None]:
    """The keys of the model's steps, as `Plan.numbered` counts them; None: there is nothing."""
    kernels, hosts = count(), count()
    for step in recording.programs[0].plan.numbered():
        match step:
            case Call():
                yield "kernel", 0, next(kernels)
            case HostCall():
                yield "host", 0, next(hosts)
            case _:
                yield None


@dataclass
class _Sum:
    """Of one layer in one run: nanoseconds, how often it ran, and in how many native functions."""

    wall: int = 0
    busy: int = 0
    times: int = 0
    turns: int = 0


def _shares(run: Run) -> tuple[dict[Key, _Sum], int, int]:
    """What each layer took in a run; what native functions took besides, and the rest of it.

    Threads that share a call count as one stretch of time. What a host step with sub-graphs does
    in them is theirs.
    """
    calls: dict[tuple[Key, int, int], list[Span]] = defaultdict(list)
    own: dict[Span, int] = {}
    around: list[Span] = []
    for span in run.spans:
        if span.kind == "kernel":
            calls[_key(span), span.turn, span.iteration].append(span)
            continue
        while around and around[-1].end <= span.start:
            around.pop()
        if around:
            own[around[-1]] -= span.end - span.start
        own[span] = span.end - span.start
        around.append(span)
    sums: dict[Key, _Sum] = defaultdict(_Sum)
    for (key, _, iteration), spans in calls.items():
        found = sums[key]
        found.wall += max(s.end for s in spans) - min(s.start for s in spans)
        found.busy += sum(s.busy for s in spans)
        found.times += 1
        found.turns += iteration == 0
    in_kernels = sum(found.wall for found in sums.values())
    for span, time in own.items():
        if span.kind == "host":
            found = sums[_key(span)]
            found.wall, found.busy, found.times = (
                found.wall + time,
                found.busy + time,
                found.times + 1,
            )
    between = sum(time for span, time in own.items() if span.kind == "native") - in_kernels
    return dict(sums), between, run.end - run.start - sum(own.values())


def _key(span: Span) -> Key:
    return span.kind, span.program, span.number


def _layer(
    recording: Recording, keys: Sequence[Key], sums: Mapping[Key, _Sum], model: str
) -> Layer:
    """What kernels of one name, or one host step, come to."""
    told = [_told(recording.programs[key[1]], key) for key in keys]
    ops = tuple(dict.fromkeys(name for _, names, _ in told for name in names))
    found = [sums[key] for key in keys]
    wall = sum(each.wall for each in found) / 1e9
    return Layer(
        told[0][0].removeprefix(f"{model}: ") or ", ".join(ops),
        ops,
        "numpy" if keys[0][0] == "host" else kind_of(ops),
        sum(key[0] == "kernel" for key in keys),
        sum(each.times for each in found),
        wall,
        sum(each.busy for each in found) / 1e9 / max(wall, 1e-12),
        # a row counts all iterations of its loop
        sum(flops * each.turns for (_, _, flops), each in zip(told, found)),
    )


def _told(compiled: Compiled, key: Key) -> tuple[str, tuple[str, ...], int]:
    """Where a kernel or host step is in the source, its operators and its arithmetic."""
    kind, _, number = key
    if kind == "host":
        value = compiled.plan.hosts[number].value
        return value.where, (value.op.name,) if value.op else (), 0
    row = compiled.rows[number]
    return row.where, row.ops, row.flops


def kind_of(ops: Sequence[str]) -> str:
    """What most of a kernel's work is, told by the heaviest of its operators."""
    kinds = {OPS[name].kind for name in ops if name in OPS}  # copies are no operators
    if kinds & {"contract", "tiles", "untile"}:
        spatial = "window" in ops or kinds & {"tiles", "untile"}
        return "convolution" if spatial else "matrix product"
    if "reduce" in kinds:
        return "pooling" if "window" in ops else "reduction"
    return next((told for kind, told in _LIGHTER.items() if kind in kinds), "moving")


_LIGHTER = {"scan": "running sum", "walk": "trees", "scatter": "scatter", "index": "gather"} | {
    "elementwise": "elementwise"
}
