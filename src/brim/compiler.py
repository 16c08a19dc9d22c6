"""The compiler's pipeline: graph -> passes -> lowering -> schedules -> objects -> plan.

Reads top to bottom. `optimise` runs the graph passes (with dumps and checks when asked for), and
`compile_graph` turns the result into a `Compiled`: flat data that `Program` runs and `artifact`
saves. What a front end does before, and what a model does with shapes, is not here.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from brim import settings
from brim.debug import Window, open_window, show_graph, show_kernels, show_target
from brim.errors import CompileError
from brim.graph import Graph, evaluate
from brim.kernels.cost import predict
from brim.kernels.ir import Do, Expr, Kernel, Repeat, Schedule, subexpressions, trips
from brim.kernels.lower import lower
from brim.kernels.pack import Packing, pack
from brim.kernels.reference import run_lowered
from brim.kernels.schedule import choose
from brim.kernels.steps import KernelStep, Lowered
from brim.kernels.text import print_kernel, print_schedule
from brim.ops.storage import STEPS
from brim.passes.batchnorm import fold_batchnorm
from brim.passes.concat import nest_concats
from brim.passes.expand import expand_certain
from brim.passes.layout import layout
from brim.passes.simplify import simplify
from brim.passes.verify import verify
from brim.runtime.cache import Cache, default_directory
from brim.runtime.compiled import Compiled, Row, Stored
from brim.runtime.entry import emit_entry
from brim.runtime.memory import aligned_bytes
from brim.runtime.plan import HostCall, Place, Plan, Segment, aligned, plan
from brim.runtime.program import Program
from brim.seeds import one_run
from brim.targets.objects import compile_text
from brim.targets.target import Target, find_target
from brim.targets.workers import Job, compile_all
from brim.types import STR, DType, as_numbers, dtype_of
from brim.variants import settle

Progress = Callable[[str, int, int], None]

PIPELINE: tuple[tuple[str, Callable[[Graph], Graph]], ...] = (
    ("simplify", simplify),
    ("layout", layout),
    ("simplify_again", simplify),
    ("nest_concats", nest_concats),
    ("batchnorm", fold_batchnorm),  # after layout, which brings norms next to convolutions
    ("expand", expand_certain),
    ("simplify_expanded", simplify),
)


def optimise(graph: Graph, window: Window | None = None) -> Graph:
    """Runs PIPELINE. BRIM_DUMP writes the graph after each pass; BRIM_CHECK interprets it, too."""
    window = window or open_window(graph.name)
    show_graph(window, "00_import", graph)
    expected = _interpret(graph) if settings.get("check") else None
    for number, (name, run) in enumerate(PIPELINE, 1):
        graph = run(graph)
        show_graph(window, f"{number:02d}_{name}", graph)
        if expected is not None:
            verify(graph)
            _compare(f"pass {name!r}", expected, _interpret(graph), graph)
    return graph


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
        return random.standard_normal(shape).astype(dtype.numpy)
    numbers = random.integers(0, 2, shape)
    if dtype == STR:
        return np.asarray(np.array(["a", "b"], object)[numbers], object)
    return numbers.astype(dtype.numpy)


def _interpret(graph: Graph) -> dict[str, Any]:
    with one_run(seed=0):
        return evaluate(graph, sample_inputs(graph))


def _compare(culprit: str, expected: dict[str, Any], got: dict[str, Any], graph: Graph) -> None:
    """BRIM_CHECK: raises CompileError if `culprit` changed what a graph computes."""
    for output, want in expected.items():
        found = got[output]
        if not _same(found, want):
            raise CompileError(
                f"{culprit} changed output {output!r}",
                why=f"it was {_shortly(want)}, it became {_shortly(found)}",
                where=graph.name,
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
) -> Compiled:
    """Compiles a static graph for a row of the target table. Raises BrimError.

    progress(stage, done, total) is called while kernels are compiled. optimised: the graph has been
    through the pipeline already, as graphs in artifacts have. exact: no variants, see `settle`.
    """
    start = time.perf_counter()
    window, row = open_window(graph.name), find_target(target)
    show_target(window, row)
    passed = graph if optimised else optimise(graph, window)
    return _compile(passed, row, progress, start, window, exact)


def _compile(
    graph: Graph,
    target: Target,
    progress: Progress | None,
    start: float,
    window: Window,
    exact: bool,
) -> Compiled:
    settled = settle(graph, target, exact)
    show_graph(window, f"{len(PIPELINE) + 1:02d}_settle", settled)
    lowered = lower(settled)
    if settings.get("check"):
        with one_run(seed=0):
            found = run_lowered(lowered, sample_inputs(graph))
        _compare("lowering", _interpret(graph), found, graph)
    made = _Made(lowered, target)
    types = {name: value.type for name, value in graph.inputs.items()}
    results = {name: value.type for name, value in graph.outputs.items()}
    planned = plan(lowered, types, results, made.call, made.constant)
    show_kernels(window, made.rows, dict(zip(made.numbers, made.object_number)), target)
    objects = made.compile(planned, progress)
    subgraphs = {
        id(sub): _subgraph(sub, target, progress, exact)
        for step in planned.steps
        if isinstance(step, HostCall)
        for sub in step.value.attrs.values()
        if isinstance(sub, Graph) and all(v.type.is_static for v in sub.inputs.values())
    }
    seconds = time.perf_counter() - start
    weights = made.weights()
    return Compiled(
        settled if exact else graph,  # which an artifact keeps: variants are not made twice
        planned,
        weights,
        objects,
        tuple(made.rows),
        target,
        seconds,
        subgraphs,
        made.stored(),
    )


def _subgraph(graph: Graph, target: Target, progress: Progress | None, exact: bool) -> Compiled:
    start, window = time.perf_counter(), open_window(graph.name)
    return _compile(optimise(graph, window), target, progress, start, window, exact)


@dataclass(eq=False)
class _Made:
    """Kernels, schedules and packed constants, collected while the plan is laid out."""

    lowered: Lowered
    target: Target
    numbers: dict[Kernel, int] = field(default_factory=dict)
    schedules: list[tuple[Schedule, Kernel, dict[str, Packing]]] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    objects_of: dict[Job, int] = field(default_factory=dict)
    object_number: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    places: dict[tuple[str, Packing | None], int] = field(default_factory=dict)
    total: int = 0

    def call(self, step: KernelStep) -> tuple[int, int, float, tuple[Place | None, ...]]:
        """What `plan` asks about a step: kernel number, trips, predicted seconds, constants."""
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
        self.rows.append(
            Row(
                step.where,
                step.ops,
                job.kernel,
                job.schedule,
                seconds,
                flops(kernel),
                step.is_move,
                self.object_number[number],
            )
        )
        return self.object_number[number], trips(kernel, schedule), seconds, places

    def _schedule(self, kernel: Kernel) -> None:
        schedule, _ = choose(kernel, self.target)
        packed, packings = pack(kernel, schedule)
        self.schedules.append((schedule, packed, packings))
        self.seconds.append(predict(kernel, schedule, self.target))
        job = Job(print_kernel(packed), print_schedule(schedule), self.target.name)
        if job not in self.objects_of:
            self.objects_of[job] = len(self.jobs)
            self.jobs.append(job)
        self.object_number.append(self.objects_of[job])

    def constant(self, name: str) -> Place:
        return Place("weights", self._place(name, None))

    def _place(self, name: str, packing: Packing | None) -> int:
        key = (name, packing)
        if key not in self.places:
            buffer = self.lowered.buffers[name]
            size = (packing.size if packing else buffer.size) * buffer.dtype.bytes
            self.places[key] = self.total
            self.total += aligned(size)
        return self.places[key]

    def stored(self) -> tuple[Stored, ...]:
        """What `weights` holds, and where."""
        found = ((self.lowered.buffers[n].data, at, p) for (n, p), at in self.places.items())
        return tuple(Stored(data, at, p) for data, at, p in found if data is not None)

    def weights(self) -> np.ndarray:
        """All constants in one block, packed as their kernels read them."""
        block = aligned_bytes(self.total)
        for (name, packing), offset in self.places.items():
            data = self.lowered.buffers[name].data
            assert data is not None
            if data.dtype == object:
                continue
            packed = packing.pack(data) if packing else data
            raw = np.ascontiguousarray(packed).view(np.uint8)
            block[offset : offset + raw.size] = raw
        return block

    def compile(self, planned: Plan, progress: Progress | None) -> tuple[bytes, ...]:
        """The entry's object and every kernel's, from the cache where it has them."""
        segments = [s for s in planned.steps if isinstance(s, Segment)]
        if not segments:
            return ()
        stamp = emitter_stamp(self.target)
        keys = [_digest(stamp, job.kernel, job.schedule) for job in self.jobs]
        cache = open_cache()
        found = [cache.get(key) if cache else None for key in keys]
        missing = [i for i, blob in enumerate(found) if blob is None]
        jobs = [self.jobs[i] for i in missing]

        def tick(done: int) -> None:
            if progress:
                progress("compile", done, len(jobs))

        processes = settings.get("jobs") or os.cpu_count() or 1
        for i, blob in zip(missing, compile_all(jobs, processes, tick)):
            found[i] = blob
            if cache:
                cache.put(keys[i], blob)
        entry = emit_entry(segments, self.target.triple)
        return (compile_text(entry, self.target), *(b for b in found if b is not None))


def flops(kernel: Kernel) -> int:
    """Arithmetic operations of a kernel; a multiply and add counts as two."""
    sizes, total = kernel.sizes, 0
    for stage in kernel.stages:
        points = int(np.prod([sizes[a] for a in (*kernel.outer, *stage.axes)], dtype=np.int64))
        work = operations(stage.value)
        total += points * (work + (stage.reduce is not None))
    return total


def operations(expr: Expr) -> int:
    """Arithmetic operations of an expression; the step of a repeat counts as often as it runs."""
    parts = list(subexpressions(expr))
    again = sum((e.times - 1) * operations(e.step) for e in parts if isinstance(e, Repeat))
    return again + sum(isinstance(e, Do) and e.op != "cast" for e in parts)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def _sources() -> str:
    """Digest of the code that makes machine code: a changed emitter must not meet old objects."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted((*root.glob("targets/*.py"), *root.glob("kernels/*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def emitter_stamp(target: Target) -> str:
    """What, besides kernel and schedule, an object depends on."""
    import llvmlite

    return _digest(str(target), llvmlite.__version__, _sources())


def open_cache() -> Cache | None:
    """The disk cache that the settings name, or None for BRIM_CACHE=off."""
    where = settings.get("cache")
    if where == "off":
        return None
    return Cache(Path(where or default_directory()) / "kernels")


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
