"""`brim calibrate`: this machine's prices, measured in about two seconds by generated loops.

Clock, multiply-add and load throughput, and the bandwidth of each level of memory replace the
guesses in the table of targets. Each figure is the best of many short runs, because everything that
disturbs a run makes it slower; it counts when the best few agree. `brim.targets.target.host` reads
what is saved here. Cache sizes come from the operating system where it tells them.
"""

from __future__ import annotations

import ctypes
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from brim.errors import BrimError
from brim.targets.builder import Builder, Value, vector_of
from brim.targets.objects import compile_text
from brim.targets.target import PRICES, Target, host, prices_file

Progress = Callable[[str, int, int], None]

_RUN_SECONDS = 2e-3  # long against the clock's ticks, short against a scheduler's time slice
_TRIES = 60
_CHAIN = 64  # dependent instructions in one round
_ACCUMULATORS = 12  # enough to hide any latency, few enough for 16 registers
_LOADS = 16


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
    report = progress or (lambda what, done, total: None)
    steps = ("clock", "multiply-add", "loads", "memory")
    report(steps[0], 0, len(steps))
    page = np.ones(1 << 12, np.float32)
    data = page.ctypes.data
    chain, latency, throughput = (
        _compile(target, name, body)
        for name, body in (("chain", _chain), ("latency", _latency), ("throughput", _throughput))
    )
    throughput.seconds(data, 4_000_000, 0)  # the clock under vector code, not the idle one
    ghz = 2 * _CHAIN * _rate(chain, data) / 1e9
    report(steps[1], 1, len(steps))
    cycles = ghz * 1e9
    fma_latency = cycles / (_CHAIN * _rate(latency, data))
    fma_issue = _ACCUMULATORS * _rate(throughput, data) / cycles
    report(steps[2], 2, len(steps))
    loads = _compile(target, "loads", _loads)
    load_issue = _rate(loads, data, 4096) * 4096 / target.vector_bytes / cycles
    report(steps[3], 3, len(steps))
    caches = cache_sizes() or target.caches
    bandwidth = _bandwidth(loads, caches, cycles)
    found = {
        "fma_issue": round(fma_issue, 2),
        "load_issue": round(load_issue, 2),
        "fma_latency": round(fma_latency),
        "ghz": round(ghz, 3),
        "caches": caches,
        "bandwidth": tuple(round(b, 2) for b in bandwidth),
    }
    check_plausible(found)
    _save(target, found)
    host.cache_clear()
    report(steps[3], 4, len(steps))
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
            values = [b.fma(x, tiny, value) if chains > 1 else b.fma(value, tiny, x) for value in values]
        loop.next = values
    for value in loop.results:
        b.store(value, b.gep(data, 64, "float"), 4)


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
    for value in rounds.results:
        b.store(value, data, 4)


def _compile(target: Target, name: str, body: Callable[..., None]) -> _Loop:
    from llvmlite import binding

    parameters = [("%data", "ptr"), ("%rounds", "i64"), ("%bytes", "i64")]
    b = Builder(name, parameters, target.fma)
    body(b, Value("%data", "ptr"), Value("%rounds", "i64"), target)
    bits = target.vector_bytes * 8
    width = f'"min-legal-vector-width"="{bits}" "prefer-vector-width"="{bits}"'
    blob = compile_text(b.module(target.triple, attributes=f'nounwind "no-builtins" {width}'), target)
    machine = binding.Target.from_triple(target.triple).create_target_machine()
    empty = binding.parse_assembly(f'target triple = "{target.triple}"')
    engine = binding.create_mcjit_compiler(empty, machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(blob))
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    return _Loop(kind(engine.get_function_address(name)), engine)


# ------------------------------------------------------------------ running them


def _rate(loop: _Loop, data: int, size: int = 0, agreement: float = 0.05) -> float:
    """Rounds per second: the best run's, once the best three agree. Raises BrimError if none do."""
    rounds = 1
    while (seconds := loop.seconds(data, rounds, size)) < _RUN_SECONDS / 4:
        rounds *= 4 if seconds < _RUN_SECONDS / 32 else 2
    rounds = max(1, int(rounds * _RUN_SECONDS / seconds))
    times: list[float] = []
    for tried in range(_TRIES):
        times.append(loop.seconds(data, rounds, size))
        times.sort()
        if tried >= 7 and times[2] <= times[0] * (1 + agreement):
            return rounds / times[0]
    raise BrimError(
        "this machine is too busy to be measured",
        why=f"the best of {_TRIES} runs took {times[0] * 1e3:.2f} ms, the third {times[2] * 1e3:.2f}",
        hint="measure again when it is idle",
    )


def _bandwidth(loop: _Loop, caches: tuple[int, int, int], cycles: float) -> tuple[float, ...]:
    """Bytes per cycle from levels 1, 2, 3 and memory; a missing level 3 counts as memory."""
    first, second, third = caches
    outside = min(max(4 * max(second, third), 16 << 20), 128 << 20)
    sizes = (first // 2, second // 2, max(third // 2, 2 * second) if third else outside, outside)
    buffer = np.ones(outside // 4 + 1024, np.float32)
    found: list[float] = []
    for level, size in enumerate(sizes):
        size = size // 4096 * 4096
        speed = size * _rate(loop, buffer.ctypes.data, size, 0.05 if level < 2 else 0.15) / cycles
        found.append(min(speed, found[-1]) if found else speed)
    return tuple(found)


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
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump({"cpu": target.cpu, **found}, file, indent=1)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
