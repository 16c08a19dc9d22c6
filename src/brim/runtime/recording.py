"""Runs of a program with the time of everything: each kernel on each thread, each host step.

The program is the one that `Model` runs, with clocks between its native functions and its kernels
(see `clocks.py`). What is recorded is told here; what is to be read in it is up to `brim.tools`.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from brim.runtime import pool_source
from brim.runtime.clocks import (
    RECORD,
    Part,
    clock_address,
    clocked_name,
    emit_clocked,
    most_records,
    parts,
)
from brim.runtime.compiled import Compiled
from brim.runtime.loader import load_object
from brim.runtime.memory import POINTER, Memory, aligned_bytes
from brim.runtime.plan import HostCall
from brim.runtime.program import Program, _Run

WARM_UP_RUNS = 3


@dataclass(frozen=True)
class Span:
    """Something that took from `start` to `end`, in ns of the monotonic clock, on a thread.

    kind: "kernel", the row `number` of program `program`; "host", its host step `number`;
    "native", its native function `number`. Of a kernel that was split, what one thread did:
    `tasks` pieces, in which it was busy for `busy` ns. iteration: of the loop around a kernel.
    turn: the how manieth native function of the run it is, or is in.
    """

    kind: str
    program: int
    number: int
    thread: int
    start: int
    end: int
    busy: int
    tasks: int = 1
    iteration: int = 0
    turn: int = 0


@dataclass(frozen=True)
class Run:
    """One run: from `start` to `end` in ns, and what it did, by time."""

    start: int
    end: int
    spans: tuple[Span, ...]

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / 1e9


@dataclass(frozen=True, eq=False)
class Recording:
    """Some runs of a program. programs: it, then those of its sub-graphs. threads: all that took
    part, the calling one first. plain: runs without clocks, one before each of these.
    """

    programs: tuple[Compiled, ...]
    threads: tuple[int, ...]
    runs: tuple[Run, ...]
    plain: tuple[Run, ...]

    @property
    def middle(self) -> Run:
        """The run with the median time, of two the shorter one."""
        return sorted(self.runs, key=lambda run: run.seconds)[(len(self.runs) - 1) // 2]

    @property
    def overhead(self) -> float:
        """What recording costs, as a share: the median over pairs of neighbouring runs."""
        pairs = zip(self.runs, self.plain)
        return float(np.median([run.seconds / plain.seconds for run, plain in pairs])) - 1


@dataclass
class _Log:
    """What a program and its sub-programs leave while they run. caller: the thread that runs them,
    as records name it; 0 if they have no kernels."""

    caller: int = 0
    programs: list[Compiled] = field(default_factory=list)
    native: list[tuple[int, int, int, int, np.ndarray]] = field(default_factory=list)
    hosts: list[tuple[int, int, int, int]] = field(default_factory=list)


class _Recorder(Program):
    """A program with clocks. Only one thread may call it."""

    def __init__(self, compiled: Compiled, threads: int, log: _Log) -> None:
        self._number, self._log = len(log.programs), log
        log.programs.append(compiled)
        subs = {key: _Recorder(sub, threads, log) for key, sub in compiled.subgraphs.items()}
        triple = compiled.target.triple
        super().__init__(
            compiled.plan,
            compiled.weights,
            compiled.objects,
            threads,
            lambda: pool_source.pool_object(triple),
            subs,
        )
        self._host_number = {id(step): number for number, step in enumerate(self.plan.hosts)}
        if self.plan.segments:
            self._insert_clocks(compiled)

    def _insert_clocks(self, compiled: Compiled) -> None:
        from brim.targets.objects import compile_text

        most = max(map(most_records, self.plan.segments))
        self._records = aligned_bytes(most * RECORD.itemsize).view(RECORD)
        self._count = ctypes.c_int64()
        kernels = [(a or 0, len(k.args)) for a, k in zip(self._table, compiled.kernels)]
        where = ctypes.addressof(self._count), self._records.ctypes.data
        text = emit_clocked(kernels, compiled.target.triple, clock_address(), *where)
        self._clocked = load_object(compile_text(text, compiled.target))
        symbols = self._clocked.symbols
        self._log.caller = self._clocked.function("current_thread", POINTER)() or 0
        table = [symbols[clocked_name(number)] for number in range(len(kernels))]
        self._table = (POINTER * max(len(table), 1))(*table)
        self._table_address = ctypes.addressof(self._table)

    def _native(self, segment: int, memory: Memory) -> None:
        self._count.value = 0
        start = time.monotonic_ns()
        super()._native(segment, memory)
        end = time.monotonic_ns()
        left = self._records[: self._count.value].copy()
        self._log.native.append((self._number, segment, start, end, left))

    def _host(self, call: _Run, step: HostCall) -> None:
        start = time.monotonic_ns()
        super()._host(call, step)
        times = (start, time.monotonic_ns())
        self._log.hosts.append((self._number, self._host_number[id(step)], *times))


def record(
    compiled: Compiled,
    plain: Program,
    feeds: Mapping[str, Any],
    runs: int,
) -> Recording:
    """Runs a program `runs` times with clocks and, alternating, as it is.

    plain: the program of `compiled`. feeds: an array of exactly the planned type for every input.
    Raises InputError for inputs that do not fit, UnsupportedError without a clock.
    """
    log = _Log()
    recorder = _Recorder(compiled, plain.threads, log)
    for _ in range(WARM_UP_RUNS):
        plain.run(feeds)
        recorder.run(feeds)
    with_clocks, without = [], []
    for _ in range(runs):
        without.append(_run(plain, feeds, log))
        with_clocks.append(_run(recorder, feeds, log))
    others = {span.thread for run in with_clocks for span in run.spans} - {log.caller}
    return Recording(
        tuple(log.programs), (log.caller, *sorted(others)), tuple(with_clocks), tuple(without)
    )


def _run(program: Program, feeds: Mapping[str, Any], log: _Log) -> Run:
    log.native.clear()
    log.hosts.clear()
    start = time.monotonic_ns()
    program.run(feeds)
    end = time.monotonic_ns()
    return Run(start, end, tuple(_spans(log)))


def _spans(log: _Log) -> list[Span]:
    spans = [
        Span("host", program, number, log.caller, start, end, end - start)
        for program, number, start, end in log.hosts
    ]
    for turn, (program, number, start, end, records) in enumerate(log.native):
        segments = log.programs[program].plan.segments
        before = sum(len(list(s.each())) for s in segments[:number])
        whole = Span("native", program, number, log.caller, start, end, end - start, turn=turn)
        kernels = parts(segments[number], records)
        spans += [whole, *(_kernel(program, before, turn, part) for part in kernels)]
    return sorted(spans, key=lambda span: (span.start, -span.end))


def _kernel(program: int, before: int, turn: int, part: Part) -> Span:
    return Span(
        "kernel",
        program,
        before + part.call,
        part.thread,
        part.start,
        part.end,
        part.busy,
        part.tasks,
        part.iteration,
        turn,
    )
