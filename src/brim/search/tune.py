"""Measured refinement: the few best candidates of the kernels with most to gain are timed here.

The cost model's choice is timed first. A kernel that is near the machine's limits is done; of the
others, those that lose most go first, until the time is used up. Whatever is timed is kept in the
store, from which `choice` and `variants` take their prices from then on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from brim.graph import Graph
from brim.kernels.ir import Kernel, flops
from brim.kernels.lower import lower
from brim.kernels.text import print_kernel, print_schedule
from brim.objects import objects_of
from brim.passes.expand import variants
from brim.search.choice import Candidate, Search
from brim.search.timing import is_timeable, job_of, time_schedules
from brim.search.variants import bodies, kernels_of, kind, price, settle
from brim.targets.target import Target

Progress = Callable[[str, int, int], None]
REACH = 1.5  # candidates predicted to take at most so many times the best one's time are timed,
MOST = 8  # and at most so many of them
RIVAL = 1.3  # the same for variants
NEAR = 1.05  # a kernel that takes so many times the least time possible is left as it is
_TOGETHER = 16  # candidates that are compiled before some are timed again


def refine(
    graph: Graph, search: Search, seconds: float, exact: bool, progress: Progress | None = None
) -> None:
    """Times candidates for a graph's kernels on this machine for about `seconds`, at most.

    Half of them, at most, are for the variants of composites. progress(stage, done, total) counts
    kernels. Kernels of sub-graphs that run on the host, and those whose addresses depend on data,
    keep the cost model's choice. Raises CompileError.
    """
    report = progress or (lambda stage, done, total: None)
    start = time.monotonic()
    if not exact:
        _refine(_rivals(graph, search), search, start + seconds / 2, "time variants", report)
    settled = lower(settle(graph, search, exact))
    kernels: Counter[Kernel] = Counter()
    for step, times in settled.kernel_steps():
        kernels[step.kernel] += times
    _refine(kernels, search, start + seconds, "time kernels", report)


def _rivals(graph: Graph, search: Search) -> Counter[Kernel]:
    """The kernels of all bodies that are priced near the best one of their composite."""
    found: Counter[Kernel] = Counter()
    alike = Counter(kind(value) for value in graph.values() if variants(value))
    for value in {kind(value): value for value in graph.values() if variants(value)}.values():
        priced = [(price(value, body, search), body) for body in bodies(value)]
        least = min(seconds for seconds, _ in priced)
        rivals = [body for seconds, body in priced if seconds <= least * RIVAL]
        for body in rivals if len(rivals) > 1 else ():
            for kernel in kernels_of(value, body) or ():
                found[kernel] += alike[kind(value)]
    return found


def _refine(
    counts: Mapping[Kernel, int], search: Search, deadline: float, stage: str, report: Progress
) -> None:
    kernels = [kernel for kernel in counts if is_timeable(kernel)]
    report(stage, 0, 2 * len(kernels))
    done = 0
    chosen: dict[Kernel, float] = {}
    for some in _batches([(kernel, [search.best(kernel)]) for kernel in kernels]):
        if time.monotonic() > deadline:
            return
        _time(some, search)
        chosen |= {kernel: search.best(kernel).seconds for kernel, _ in some}
        report(stage, done := done + len(some), 2 * len(kernels))

    def gain(kernel: Kernel) -> float:
        return counts[kernel] * (chosen[kernel] - least_seconds(kernel, search.target))

    work = []
    for kernel in sorted(kernels, key=gain, reverse=True):
        if chosen[kernel] > NEAR * least_seconds(kernel, search.target):
            candidates = sorted(search.candidates(kernel), key=lambda c: c.predicted)
            reach = candidates[0].predicted * REACH
            work.append((kernel, [c for c in candidates[:MOST] if c.predicted <= reach]))
    for some in _batches(work):
        if time.monotonic() > deadline:
            return
        _time(some, search)
        report(stage, done := done + len(some), len(kernels) + len(work))


Work = Sequence[tuple[Kernel, Sequence[Candidate]]]


def _batches(work: Work) -> Iterator[Work]:
    """Kernels in order, as many at a time as are worth compiling side by side."""
    some: list[tuple[Kernel, Sequence[Candidate]]] = []
    for item in work:
        some.append(item)
        if sum(len(candidates) for _, candidates in some) >= _TOGETHER:
            yield some
            some = []
    if some:
        yield some


def _time(work: Work, search: Search) -> None:
    """Times what has no time yet, and keeps it with all candidates."""
    todo = [(k, [c for c in candidates if c.measured is None]) for k, candidates in work]
    target = search.target
    jobs = [job_of(kernel, c.schedule, target) for kernel, missing in todo for c in missing]
    objects = iter(objects_of(jobs, target))
    for kernel, missing in todo:
        if missing:
            schedules = [c.schedule for c in missing]
            times = time_schedules(kernel, schedules, [next(objects) for _ in missing])
            measured = dict(zip(map(print_schedule, schedules), times))
            rows = ((print_schedule(c.schedule), c.predicted) for c in search.candidates(kernel))
            search.store.put(print_kernel(kernel), ((s, p, measured.get(s)) for s, p in rows))


def least_seconds(kernel: Kernel, target: Target) -> float:
    """No schedule is faster: all arithmetic at full speed, or every byte moved once."""
    size = sum(arg.size * arg.dtype.bytes for arg in kernel.args)
    level = next((i for i, room in enumerate(target.caches) if size <= room), 3)
    moved = size / (target.bandwidth[level] * target.ghz * 1e9)
    return max(flops(kernel) / target.peak_flops, moved)
