"""The compiler's pipeline: graph -> passes -> lowering -> schedules -> objects -> plan.

Reads top to bottom. `optimise` runs the graph passes (with dumps and checks when asked for), and
`compile_graph` turns the result into a `Compiled`: flat data that `Program` runs and `artifact`
saves. What a front end does before, and what a model does with shapes, is not here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import numpy as np

from brim import settings
from brim.debug import Window, open_window, show_graph, show_kernels, show_target
from brim.divergence import First, broken_by_change, broken_by_running
from brim.errors import CompileError
from brim.graph import Graph, Value, const, evaluate, topo
from brim.kernels.cost import predict
from brim.kernels.fuse import fuse
from brim.kernels.in_place import in_place
from brim.kernels.ir import Kernel, Schedule, flops, trips
from brim.kernels.lower import lower
from brim.kernels.order import orders
from brim.kernels.pack import Packing, pack
from brim.kernels.reference import run_lowered
from brim.kernels.steps import Buffer, KernelStep, Lowered
from brim.kernels.text import print_kernel, print_schedule
from brim.objects import objects_of
from brim.ops.storage import STEPS
from brim.origins import LEAST, Identity, Origins, identity, remembered
from brim.passes.batchnorm import fold_batchnorm
from brim.passes.concat import nest_concats
from brim.passes.expand import expand_certain
from brim.passes.layout import layout
from brim.passes.loops import share_loops
from brim.passes.planes import interleave
from brim.passes.simplify import simplify
from brim.passes.sparse import sparsify
from brim.passes.subgraphs import inside
from brim.passes.verify import verify
from brim.runtime.compiled import Compiled, Derived, Row, Stored
from brim.runtime.entry import emit_entry
from brim.runtime.memory import aligned_bytes
from brim.runtime.plan import (
    Place,
    Plan,
    aligned,
    allocate,
    lifetimes,
    plan,
)
from brim.runtime.planfile import KernelShape
from brim.runtime.program import Program
from brim.search.choice import Search, by_times
from brim.search.tune import refine
from brim.search.variants import settle
from brim.seeds import one_run
from brim.targets.objects import compile_text
from brim.targets.target import Target, find_target
from brim.targets.workers import Job
from brim.types import STR, DType, Type, as_numbers, dtype_of

Progress = Callable[[str, int, int], None]
PERIOD = 4093  # of sample inputs; a prime, so that no row is like the next

PIPELINE: tuple[tuple[str, Callable[[Graph], Graph]], ...] = (
    ("share_loops", share_loops),  # before all that makes other values of equal ones
    ("simplify", simplify),
    ("layout", layout),
    ("simplify_again", simplify),
    ("nest_concats", nest_concats),
    ("batchnorm", fold_batchnorm),  # after layout, which brings norms next to convolutions
    ("expand", expand_certain),
    ("simplify_expanded", simplify),
    ("interleave", interleave),
    ("sparsify", sparsify),
)


def optimise(graph: Graph, window: Window | None = None) -> Graph:
    """Runs PIPELINE on a graph and its sub-graphs.

    BRIM_DUMP writes the graph after each pass; BRIM_CHECK interprets it, too.
    """
    window = window or open_window(graph.name)
    show_graph(window, "00_import", graph)
    expected = _interpret(graph) if settings.get("check") else None
    for number, (name, run) in enumerate(PIPELINE, 1):
        before = graph if expected is not None else None  # else its memory is let go of
        graph = run(graph)
        show_graph(window, f"{number:02d}_{name}", graph)
        if expected is not None and before is not None:
            verify(graph)
            blame = partial(broken_by_change, before, graph, run=_interpret, same=_same)
            _compare(f"pass {name!r}", expected, _interpret(graph), graph, blame)
    return inside(graph, optimise)


def sample_inputs(graph: Graph, seed: int = 0) -> dict[str, Any]:
    """Seeded inputs of the right types: normal floats, small non-negative integers, short texts.

    Sequences and maps have two parts, which are of shape [2] where they are arrays.
    """
    random = np.random.default_rng(seed)
    return {n: _sample(v.type.dtype, v.shape, random) for n, v in graph.inputs.items()}


def _sample(dtype: DType, shape: tuple[int, ...], random: np.random.Generator) -> Any:
    if dtype.kind == "o":
        kind, *rest = dtype.name.split(".")
        parts = [_sample(dtype.of, () if kind == "map" else (2,), random) for _ in range(2)]
        if kind == "map":
            keys = (0, 1) if rest[0] == "i64" else ("a", "b")
            return {k: v.item() if isinstance(v, np.ndarray) else v for k, v in zip(keys, parts)}
        return parts if kind == "seq" else parts[0]
    if dtype.is_float or (dtype.kind == "n" and not dtype.is_whole):
        # again and again the same ones: artifacts keep inputs, which deflate to little then
        return np.resize(random.standard_normal(min(prod(shape), PERIOD)), shape).astype(
            dtype.numpy
        )
    numbers = random.integers(0, 2, shape)
    if dtype == STR:
        return np.asarray(np.array(["a", "b"], object)[numbers], object)
    return numbers.astype(dtype.numpy)


def _interpret(graph: Graph) -> dict[str, Any]:
    with one_run(seed=0):
        return evaluate(graph, sample_inputs(graph))


def _compare(
    culprit: str,
    expected: dict[str, Any],
    got: dict[str, Any],
    graph: Graph,
    blame: Callable[[list[str]], First | None],
) -> None:
    """BRIM_CHECK: raises CompileError if `culprit` changed what a graph computes. blame: the first
    layer that is wrong where the outputs of these names are."""
    wrong = [name for name, want in expected.items() if not _same(got[name], want)]
    if not wrong:
        return
    want, found, first = expected[wrong[0]], got[wrong[0]], blame(wrong)
    raise CompileError(
        f"{culprit} changed output {wrong[0]!r}",
        why=f"it was {_shortly(want)}, it became {_shortly(found)}",
        where=f"{graph.name}, first in {first}" if first else graph.name,
        hint="this is a bug in brim; BRIM_DUMP keeps the graphs before and after",
    )


def _same(found: Any, want: Any) -> bool:
    """Whether two outputs agree; those of containers part by part."""
    match want:
        case list():
            return len(found) == len(want) and all(map(_same, found, want))
        case dict():
            return list(found) == list(want) and all(map(_same, found.values(), want.values()))
        case np.ndarray() if want.dtype != object and found is not None:
            near, want = STEPS.get(dtype_of(want), 1e-3), as_numbers(want)
            if want.dtype.kind == "f":
                return np.allclose(as_numbers(found), want, near, 1e-4, equal_nan=True)
    return np.array_equal(found, want)


def _shortly(array: Any) -> str:
    if not isinstance(array, np.ndarray):
        return repr(array)[:300]
    return np.array2string(array.reshape(-1), threshold=6, edgeitems=3, precision=5)


def compile_graph(
    graph: Graph,
    target: str = "host",
    progress: Progress | None = None,
    optimised: bool = False,
    exact: bool = False,
    tune: float = 0.0,
) -> Compiled:
    """Compiles a static graph for a row of the target table. Raises BrimError.

    progress(stage, done, total) is called while kernels are compiled. optimised: the graph has been
    through the pipeline already, as graphs in artifacts have. exact: no variants, see `settle`.
    tune: seconds for measuring candidates on this machine first; what was measured is kept.
    """
    start = time.perf_counter()
    window, row = open_window(graph.name), find_target(target)
    show_target(window, row)
    graph = graph if optimised else optimise(graph, window)  # what is replaced takes no more memory
    search = by_times(row)
    if tune:
        refine(graph, search, tune, exact, progress)
    return _compile(graph, search, progress, start, window, exact)


def _compile(
    graph: Graph,
    search: Search,
    progress: Progress | None,
    start: float,
    window: Window,
    exact: bool,
) -> Compiled:
    kept, planned, made = _planned(graph, search, window, exact)
    objects = made.compile(planned, progress)
    subgraphs = {
        id(sub): _subgraph(sub, search, progress, exact)
        for step in planned.hosts
        for sub in step.value.attrs.values()
        if isinstance(sub, Graph) and all(v.type.is_static for v in sub.inputs.values())
    }
    seconds = time.perf_counter() - start
    weights, stored, derived = made.weights(kept)
    return Compiled(
        kept,
        planned,
        tuple(made.shapes),
        weights,
        objects,
        tuple(made.rows),
        search.target,
        seconds,
        subgraphs,
        stored,
        derived,
    )


@dataclass(frozen=True, eq=False)
class Scheduled:
    """An optimised graph on its way to a program, short of machine code: with its variants settled,
    as steps, and what each of their kernels is, in order."""

    settled: Graph
    lowered: Lowered
    rows: tuple[Row, ...]
    target: Target

    @property
    def arena_bytes(self) -> int:
        """Bytes of temporaries."""
        return _arena_bytes(self.lowered)


def schedule_graph(graph: Graph, target: str = "host", exact: bool = False) -> Scheduled:
    """What `compile_graph` makes of a graph that has been through the pipeline, before code."""
    search = by_times(find_target(target))
    settled = settle(graph, search, exact)
    lowered = _laid_out(settled)
    made = _Made(dict(lowered.buffers), search, Origins())
    _plan(graph, lowered, made)
    return Scheduled(settled, lowered, tuple(made.rows), search.target)


def _planned(
    graph: Graph, search: Search, window: Window, exact: bool
) -> tuple[Graph, Plan, _Made]:
    """The graph that an artifact keeps (variants are not made twice), the plan, what it calls."""
    with remembered() as origins:
        settled = settle(graph, search, exact)
    show_graph(window, f"{len(PIPELINE) + 1:02d}_settle", settled)
    lowered = _laid_out(settled)
    if settings.get("check"):
        _check_lowering(graph, settled, lowered)
    made = _Made(dict(lowered.buffers), search, origins)
    planned = _plan(graph, lowered, made)
    show_kernels(window, made.rows, dict(zip(made.numbers, made.object_number)), search.target)
    return settled if exact else graph, planned, made


def _plan(graph: Graph, lowered: Lowered, made: _Made) -> Plan:
    types = {name: value.type for name, value in graph.inputs.items()}
    results = {name: value.type for name, value in graph.outputs.items()}
    return plan(lowered, types, results, made.call, made.constant)


def _check_lowering(graph: Graph, settled: Graph, lowered: Lowered) -> None:
    """BRIM_CHECK: raises CompileError if the choice of bodies, or the kernels, change a result."""
    wanted = _interpret(graph)
    variants = partial(broken_by_change, graph, settled, run=_interpret, same=_same)
    _compare("the choice of variants", wanted, _interpret(settled), settled, variants)

    def run(watched: Graph) -> dict[str, Any]:
        return _run_kernels(_laid_out(watched), watched)

    kernels = partial(
        broken_by_running, settled, stored_values(settled), run=_interpret, rerun=run, same=_same
    )
    _compare("lowering", wanted, _run_kernels(lowered, settled), settled, kernels)


def stored_values(settled: Graph) -> list[Value]:
    """The arrays that kernels of a graph of primitives leave in memory: what can be looked at
    without a change of what is fused."""
    demanded = fuse(settled).demanded
    return [
        value
        for value in settled.values()
        if id(value) in demanded
        and value.op is not None
        and isinstance(value.type, Type)
        and value.type.is_static
        and not value.dtype.is_object
    ]


def _run_kernels(lowered: Lowered, graph: Graph) -> dict[str, Any]:
    with one_run(seed=0):
        return run_lowered(lowered, sample_inputs(graph))


def arena_bytes(graph: Graph, target: str = "host") -> int:
    """Bytes of temporaries that a graph needs which has been through the pipeline."""
    return _arena_bytes(_laid_out(settle(graph, by_times(find_target(target)), exact=False)))


def _laid_out(graph: Graph) -> Lowered:
    """A graph's steps in the order, and over the buffers, that need the least memory."""
    found = [in_place(each, graph.state) for each in orders(lower(graph), graph.state)]
    return min(found, key=lambda each: (_arena_bytes(each), len(each.steps)))


def _arena_bytes(lowered: Lowered) -> int:
    return allocate(lowered.buffers, lifetimes(lowered))[1]


def _subgraph(graph: Graph, search: Search, progress: Progress | None, exact: bool) -> Compiled:
    start, window = time.perf_counter(), open_window(graph.name)
    return _compile(graph, search, progress, start, window, exact)


@dataclass(eq=False)
class _Made:
    """Kernels, schedules and packed constants, collected while the plan is laid out."""

    buffers: dict[str, Buffer]
    search: Search
    origins: Origins
    numbers: dict[Kernel, int] = field(default_factory=dict)
    schedules: list[tuple[Schedule, Kernel, dict[str, Packing]]] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    shapes: list[KernelShape] = field(default_factory=list)  # of the jobs' kernels
    objects_of: dict[Job, int] = field(default_factory=dict)
    object_number: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    places: dict[tuple[str, Packing | None], int] = field(default_factory=dict)
    total: int = 0

    def call(
        self, step: KernelStep, times: int
    ) -> tuple[int, int, float, tuple[Place | None, ...]]:
        """What `plan` asks about a step that runs so many times: kernel number, trips, predicted
        seconds of one run, constants."""
        number = self.numbers.get(step.kernel)
        if number is None:
            number = self.numbers[step.kernel] = len(self.numbers)
            self._schedule(step.kernel)
        schedule, kernel, packings = self.schedules[number]
        constants = [packings.get(arg.name) for arg in kernel.args]
        places = tuple(
            Place("weights", self._place(name, packing)) if packing else None
            for packing, name in zip(constants, step.buffers)
        )
        job = self.jobs[self.object_number[number]]
        seconds = self.seconds[number]
        if times > 1:
            seconds = predict(step.kernel, schedule, self.search.target, again=True)
        self.rows.append(
            Row(
                step.fused.where,
                step.fused.ops,
                job.kernel,
                job.schedule,
                seconds * times,
                flops(kernel) * times,
                step.is_move,
                self.object_number[number],
                step.fused.sources,
            )
        )
        return self.object_number[number], trips(kernel, schedule), seconds, places

    def _schedule(self, kernel: Kernel) -> None:
        best = self.search.best(kernel)
        packed, packings = pack(kernel, best.schedule)
        self.schedules.append((best.schedule, packed, packings))
        self.seconds.append(best.predicted)
        job = Job(print_kernel(packed), print_schedule(best.schedule), self.search.target.name)
        if job not in self.objects_of:
            self.objects_of[job] = len(self.jobs)
            self.jobs.append(job)
            args = tuple((a.role, a.size * a.dtype.bytes) for a in packed.args)
            self.shapes.append(KernelShape(trips(packed, best.schedule), args))
        self.object_number.append(self.objects_of[job])

    def constant(self, name: str) -> Place:
        return Place("weights", self._place(name, None))

    def _place(self, name: str, packing: Packing | None) -> int:
        key = (name, packing)
        if key not in self.places:
            buffer = self.buffers[name]
            size = (packing.size if packing else buffer.size) * buffer.dtype.bytes
            self.places[key] = self.total
            self.total += aligned(size)
        return self.places[key]

    def weights(self, graph: Graph) -> tuple[np.ndarray, tuple[Stored, ...], tuple[Derived, ...]]:
        """All constants in one block, packed as their kernels read them; and which of them are of
        the graph or follow from those.

        The others are let go one by one: they may be four times as large.
        """
        block, stored, derived = aligned_bytes(self.total), dict[Identity, Stored](), []
        there = {identity(v.data) for v in graph.values() if v.data is not None}
        last = {name: key for key in self.places for name in key[:1]}
        for key, offset in self.places.items():
            name, packing = key
            data = self.buffers[name].data
            assert data is not None
            where = identity(data)
            if (
                where in there
                and where not in stored
                and (packing is None or packing.is_lossless(data.size))
            ):
                stored[where] = Stored(data, offset, packing)
            elif value := self._expression(data, there):
                derived.append(Derived(value, offset, packing))
            if data.dtype != object:
                packed = packing.pack(data) if packing else data
                raw = np.ascontiguousarray(packed).view(np.uint8)
                block[offset : offset + raw.size] = raw
            if last[name] == key:
                del self.buffers[name], data
        return block, tuple(stored.values()), tuple(sorted(derived, key=lambda d: d.offset))

    def _expression(self, data: np.ndarray, there: Collection[Identity]) -> Value | None:
        """How a constant follows from those that are there, if it is worth it to say."""
        if data.dtype == object or data.nbytes < LEAST:
            return None
        if identity(data) in there:
            return const(data)
        found = self.origins.of(data)
        given = [] if found is None else [v.data for v in topo([found]) if v.data is not None]
        beside = sum(part.nbytes for part in given if identity(part) not in there)
        return found if beside * 4 <= data.nbytes else None  # what it needs is stored, too

    def compile(self, planned: Plan, progress: Progress | None) -> tuple[bytes, ...]:
        """The entry's object and every kernel's."""
        target = self.search.target
        segments = planned.segments
        if not segments:
            return ()
        found = objects_of(self.jobs, target, progress and partial(progress, "compile"))
        entry = emit_entry(segments, target.triple, target.fork)
        return (compile_text(entry, target), *found)


def load_program(compiled: Compiled, threads: int = 1) -> Program:
    """A runnable program of compiled data."""
    from brim.runtime.pool_source import pool_object

    subprograms = {key: load_program(sub, threads) for key, sub in compiled.subgraphs.items()}
    triple = compiled.target.triple
    return Program(
        compiled.plan,
        compiled.weights,
        compiled.objects,
        threads,
        lambda: pool_object(triple),
        subprograms,
    )
