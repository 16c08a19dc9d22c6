"""`brim calibrate`: this machine's prices, measured in about two seconds by generated loops.

Clock, multiply-add and load throughput, the bandwidth of each level of memory, and what it costs
two threads to share some work replace the guesses in the table of targets. Each figure is the best
of many short runs, because everything that disturbs a run makes it slower; it counts when the best
two agree. `brim.targets.target.host` reads what is saved here. Cache sizes come from the operating
system where it tells them.
"""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import BrimError
from brim.files import write_text
from brim.runtime.loader import load_object
from brim.runtime.threads import Pool, cpus
from brim.targets.builder import Builder, Value, vector_of
from brim.targets.objects import compile_text
from brim.targets.target import PRICES, Target, host, prices_file

Progress = Callable[[str, int, int], None]

_RUN_SECONDS = 2e-3  # long against the clock's ticks, short against a scheduler's time slice
_RUNS, _TRIES = 6, 50
_AGREE = 1.05
_CHAIN = 64  # dependent instructions in one round
_ACCUMULATORS = 12  # enough to hide any latency, few enough for 16 registers
_LOADS = 16


# Calls parallel_for again and again for two tasks, each a chain of dependent additions.
_FORKS = """
target triple = "@TRIPLE@"
define void @task(ptr %length, i64 %index) {
  %end = load i64, ptr %length
  br label %loop
loop:
  %i = phi i64 [ 0, %0 ], [ %next, %loop ]
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %out
out:
  ret void
}
define void @forks(ptr %pool, ptr %parallel_for, ptr %task, i64 %length, i64 %limit, i64 %rounds) {
  %context = alloca i64
  store i64 %length, ptr %context
  br label %loop
loop:
  %i = phi i64 [ 0, %0 ], [ %next, %loop ]
  call void %parallel_for(ptr %pool, ptr %task, ptr %context, i64 2, i64 %limit)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %rounds
  br i1 %more, label %loop, label %out
out:
  ret void
}
"""
_FORK_RUNS = 200


@dataclass(frozen=True)
class _Loop:
    """Machine code `void f(ptr data, i64 rounds, i64 bytes)`; `engine` keeps it in memory."""

    function: Any
    engine: Any

    def seconds(self, data: int, rounds: int, size: int) -> float:
        start = time.perf_counter()
        self.function(data, rounds, size)
        return time.perf_counter() - start


def calibrate(target: Target | None = None, progress: Progress | None = None) -> Target:
    """Measures the host, saves the figures for later `host()` calls and returns its new row.

    target: the host's row to start from. progress: called with (what, done, total). Raises
    BrimError when the machine is too busy to measure or the figures are implausible; then nothing
    is saved.
    """
    target = target or host()
    caches = cache_sizes() or target.caches
    sizes = _level_sizes(caches)
    raw = np.ones(sizes[-1] + 8192, np.uint8)
    data = -(-raw.ctypes.data // 4096) * 4096  # else every wide load would touch two lines
    bodies = {"chain": _chain, "latency": _latency, "throughput": _throughput, "loads": _loads}
    loops = {name: _compile(target, name, body) for name, body in bodies.items()}
    runs = {name: (loops[name], 0) for name in ("chain", "latency", "throughput")}
    runs["near"] = (loops["loads"], 4096)
    runs |= {f"level {i + 1}": (loops["loads"], size) for i, size in enumerate(sizes)}
    rates = _rates(runs, data, progress or (lambda what, done, total: None))
    cycles = 2 * _CHAIN * rates["chain"]
    speeds = [size * rates[f"level {i + 1}"] / cycles for i, size in enumerate(sizes)]
    found: dict[str, Any] = {
        "fma_issue": round(_ACCUMULATORS * rates["throughput"] / cycles, 2),
        "load_issue": round(4096 / target.vector_bytes * rates["near"] / cycles, 2),
        "fma_latency": round(cycles / (_CHAIN * rates["latency"])),
        "ghz": round(cycles / 1e9, 3),
        "caches": caches,
        # no level is faster than the one before it
        "bandwidth": tuple(round(min(speeds[: i + 1]), 2) for i in range(4)),
        "fork": _fork_seconds(target),
    }
    check_plausible(found)
    _save(target, found)
    host.cache_clear()
    return replace(target, **found)


def check_plausible(found: dict[str, Any]) -> None:
    """Raises BrimError for figures that no processor has."""
    for name, (low, high) in PRICES.items():
        values = found[name] if isinstance(found[name], tuple) else (found[name],)
        if not all(low <= value <= high for value in values):
            raise BrimError(
                f"the measured {name} is {found[name]}, which is not plausible",
                why=f"processors lie between {low} and {high}",
                hint="measure again when the machine is idle",
            )


# ------------------------------------------------------------------ the loops


def _chain(b: Builder, data: Value, index: Value, target: Target) -> None:
    """Integer operations that need each other's results: one cycle each on any processor."""
    first, second = (b.load(b.gep(data, i, "i64"), "i64", 4) for i in (0, 1))
    with b.loop(b.i64(0), index, carried=[first]) as loop:
        value = loop.carried[0]
        for _ in range(_CHAIN):
            value = b.xor(b.add(value, second), first)
        loop.next = [value]
    b.store(loop.results[0], b.gep(data, 2, "i64"), 4)


def _latency(b: Builder, data: Value, index: Value, target: Target) -> None:
    _multiply_add(b, data, index, target, 1, _CHAIN)


def _throughput(b: Builder, data: Value, index: Value, target: Target) -> None:
    _multiply_add(b, data, index, target, _ACCUMULATORS, 1)


def _multiply_add(
    b: Builder, data: Value, index: Value, target: Target, chains: int, length: int
) -> None:
    kind = vector_of("float", target.lanes(32))
    x = b.load(data, kind, 4)
    tiny = b.const(kind, 2.0**-20)
    start = [b.fadd(x, b.const(kind, i)) for i in range(chains)]
    with b.loop(b.i64(0), index, carried=start) as loop:
        values = loop.carried
        for _ in range(length):
            values = [b.fma(value, tiny, x) for value in values]
        loop.next = values
    total = loop.results[0]
    for value in loop.results[1:]:
        total = b.fadd(total, value)
    b.store(total, b.gep(data, 64, "float"), 4)


def _loads(b: Builder, data: Value, index: Value, target: Target) -> None:
    """Reads `bytes` again and again, folding all into four vectors."""
    words = target.vector_bytes // 4
    kind = vector_of("i32", words)
    size = Value("%bytes", "i64")
    zeros = [b.zero(kind)] * 4
    with b.loop(b.i64(0), index, carried=zeros) as rounds:
        step = _LOADS * target.vector_bytes
        with b.loop(b.i64(0), size, step, carried=rounds.carried) as loop:
            sums = list(loop.carried)
            for i in range(_LOADS):
                place = b.gep(b.gep(data, loop.index, "i8"), i * target.vector_bytes, "i8")
                sums[i % 4] = b.xor(sums[i % 4], b.load(place, kind, 4))
            loop.next = sums
        rounds.next = loop.results
    first, second, third, fourth = rounds.results
    b.store(b.xor(b.xor(first, second), b.xor(third, fourth)), data, 4)


def _fork_seconds(target: Target) -> float:
    """What two threads lose when they share a task each of some microseconds, against half of it.

    With one core there is nothing to measure: the target's own price stays.
    """
    if cpus() < 2:
        return target.fork
    with Pool(2) as pool:
        loaded = load_object(compile_text(_FORKS.replace("@TRIPLE@", target.triple), target))
        task = loaded.symbols["task"]
        forks = loaded.function("forks", None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3)

        def seconds(threads: int) -> float:
            start = time.perf_counter()
            forks(pool.address, pool.parallel_for_address, task, _CHAIN * 40, threads, _FORK_RUNS)
            return (time.perf_counter() - start) / _FORK_RUNS

        pairs = [(seconds(1), seconds(2)) for _ in range(_RUNS * 4)]
    least, shared = (min(times) for times in zip(*pairs))
    low, high = PRICES["fork"]
    return round(min(max(shared - least / 2, low), high), 9)


def _compile(target: Target, name: str, body: Callable[..., None]) -> _Loop:
    from llvmlite import binding

    parameters = [("%data", "ptr"), ("%rounds", "i64"), ("%bytes", "i64")]
    b = Builder(name, parameters, target.fma)
    body(b, Value("%data", "ptr"), Value("%rounds", "i64"), target)
    bits = target.vector_bytes * 8
    width = f'"min-legal-vector-width"="{bits}" "prefer-vector-width"="{bits}"'
    text = b.module(target.triple, attributes=f'nounwind "no-builtins" {width}')
    blob = compile_text(text, target)
    machine = binding.Target.from_triple(target.triple).create_target_machine()
    empty = binding.parse_assembly(f'target triple = "{target.triple}"')
    engine = binding.create_mcjit_compiler(empty, machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(blob))
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    return _Loop(kind(engine.get_function_address(name)), engine)


# ------------------------------------------------------------------ running them


def _rates(runs: dict[str, tuple[_Loop, int]], data: int, report: Progress) -> dict[str, float]:
    """Rounds per second of (loop, bytes): the best of all, once each one's best two agree.

    All are measured in turn, several times: what disturbs one for a while spares it the next time.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    unsure = list(runs)
    for tried in range(_TRIES):
        report("measuring", len(runs) - len(unsure), len(runs))
        for name in runs if tried < 3 else unsure:
            times[name].append(_seconds(*runs[name], data))
            times[name].sort()
        unsure = [name for name in runs if tried < 2 or times[name][1] > times[name][0] * _AGREE]
        if not unsure:
            report("measuring", len(runs), len(runs))
            return {name: 1 / found[0] for name, found in times.items()}
    raise BrimError(
        "this machine is too busy to be measured",
        why=f"even after {_TRIES} tries no two agree on: {', '.join(unsure)}",
        hint="measure again when it is idle",
    )


def _seconds(loop: _Loop, size: int, data: int) -> float:
    """Seconds of a round: the best of some runs, each of about `_RUN_SECONDS`."""
    rounds = 1
    while (seconds := loop.seconds(data, rounds, size)) < _RUN_SECONDS / 4:
        rounds *= 4 if seconds < _RUN_SECONDS / 32 else 2
    rounds = max(1, int(rounds * _RUN_SECONDS / seconds))
    return min(loop.seconds(data, rounds, size) for _ in range(_RUNS)) / rounds


def _level_sizes(caches: tuple[int, int, int]) -> tuple[int, ...]:
    """Bytes that fit levels 1, 2, 3 and none; a missing third level counts as memory."""
    first, second, third = caches
    outside = min(max(4 * max(second, third), 16 << 20), 96 << 20)
    sizes = (first // 2, second // 2, max(third // 2, 2 * second) if third else outside, outside)
    return tuple(max(size // 4096, 1) * 4096 for size in sizes)


def cache_sizes() -> tuple[int, int, int] | None:
    """Bytes of the caches that one core uses (half of a shared third one), or None if unknown."""
    sizes = [0, 0, 0]
    with suppress(OSError, ValueError):
        for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
            level = int((folder / "level").read_text())
            if (folder / "type").read_text().strip() == "Instruction" or not 1 <= level <= 3:
                continue
            text = (folder / "size").read_text().strip()
            scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1], 1)
            size = int(text.rstrip("KMG")) * scale
            shared = level == 3 and (folder / "shared_cpu_list").read_text().strip() not in ("0",)
            sizes[level - 1] = size // 2 if shared else size
    return (sizes[0], sizes[1], sizes[2]) if sizes[0] and sizes[1] else None


def _save(target: Target, found: dict[str, Any]) -> None:
    path = prices_file()
    if path is None:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_text(path, json.dumps({"cpu": target.cpu, **found}, indent=1))
