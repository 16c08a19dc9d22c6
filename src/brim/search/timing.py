"""Times of a kernel's schedules on this machine, one thread, on made-up data."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brim.kernels.ir import Arg, At, Kernel, Repeat, Schedule, subexpressions, trips
from brim.kernels.pack import pack
from brim.kernels.text import print_kernel, print_schedule
from brim.runtime.loader import LoadedObject, load_object
from brim.runtime.memory import POINTER, aligned_bytes
from brim.targets.target import Target
from brim.targets.workers import Job

ROUNDS = 6
_SAMPLE_SECONDS = 4e-4  # long against the clock's ticks, short against a scheduler's time slice
_HOPELESS = 1.25  # what is so much slower than the best after a round is not tried again
_PATTERN = 1 << 14


def is_timeable(kernel: Kernel) -> bool:
    """Whether made-up data costs what real data does: no addresses depend on it but by numbers to
    look up by that are constant, which may as well be others."""
    parts = [part for stage in kernel.stages for part in subexpressions(stage.value)]
    outs = [at for stage in kernel.stages for at in (stage.out, stage.keep) if at is not None]
    loads = [part for part in parts if isinstance(part, At)]
    indices = [gather.index for at in loads for gather in at.gathers]
    known = all(isinstance(i, At) and kernel.buffers[i.buf].below for i in indices)
    return (
        known
        and not any(at.gathers for at in outs)
        and not any(isinstance(part, Repeat) for part in parts)
    )


def job_of(kernel: Kernel, schedule: Schedule, target: Target) -> Job:
    """What to compile for a schedule."""
    packed, _ = pack(kernel, schedule)
    return Job(print_kernel(packed), print_schedule(schedule), target.name)


@dataclass(frozen=True)
class _Ready:
    """A schedule's code with its arguments; `loaded` and `buffers` keep them in memory."""

    call: Callable[[], Any]
    loaded: LoadedObject
    buffers: tuple[np.ndarray, ...]


def time_schedules(
    kernel: Kernel, schedules: Sequence[Schedule], objects: Sequence[bytes]
) -> list[float]:
    """Best seconds of each schedule's code.

    All are timed in turn, so that what disturbs one for a while spares it the next time.
    """
    ready = [_ready(kernel, *pair) for pair in zip(schedules, objects)]
    best = [_seconds(each, 1) for each in ready]  # which also warms up
    for number in range(ROUNDS):
        least = min(best)
        for i, each in enumerate(ready):
            if number < 2 or best[i] <= least * _HOPELESS:
                best[i] = min(best[i], _seconds(each, max(1, int(_SAMPLE_SECONDS / best[i]))))
    return best


def _seconds(ready: _Ready, runs: int) -> float:
    start = time.perf_counter()
    for _ in range(runs):
        ready.call()
    return (time.perf_counter() - start) / runs


def _ready(kernel: Kernel, schedule: Schedule, blob: bytes) -> _Ready:
    packed, _ = pack(kernel, schedule)
    loaded = load_object(blob)
    buffers = tuple(_data(arg) for arg in packed.args)
    status = aligned_bytes(4)
    types = [*[POINTER] * len(buffers), ctypes.c_int64, ctypes.c_int64, POINTER]
    code = ctypes.CFUNCTYPE(None, *types)(loaded.symbols["kernel"])
    arguments = (*(b.ctypes.data for b in buffers), 0, trips(kernel, schedule), status.ctypes.data)
    return _Ready(lambda: code(*arguments), loaded, (*buffers, status))


def _data(arg: Arg) -> np.ndarray:
    """Numbers that are neither zero nor denormal nor infinite; integers lie within any table."""
    random, dtype = np.random.default_rng(0), arg.dtype.numpy
    data = aligned_bytes(arg.size * dtype.itemsize).view(dtype)
    if dtype.kind == "f":
        pattern = random.uniform(0.5, 1.5, _PATTERN).astype(dtype)
        for start in range(0, arg.size, _PATTERN):
            data[start : start + _PATTERN] = pattern[: arg.size - start]
    elif arg.below:
        data[:] = random.integers(0, arg.below, arg.size)
    return data
