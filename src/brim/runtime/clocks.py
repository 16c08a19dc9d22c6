"""Clocks around kernels: which thread ran what part of which call of a program, from when to when.

The program stays as it is: its native functions find their kernels in a table, and for recording
the table names other functions, each of which asks the system for the time, calls the kernel and
leaves a record. Two calls of the clock and one atomic addition are 50 ns (measured: docs/why/034).
A record says nothing of the call that it belongs to; that follows from the order of the calls,
since each ends on all threads before the next begins.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from brim.errors import UnsupportedError
from brim.runtime.entry import MOST
from brim.runtime.plan import Call, Loop, Segment

# What a kernel leaves: nanoseconds of the monotonic clock, the iterations that it ran, and the
# address of the thread's own memory, which no two threads share. A cache line each, so that threads
# that end at the same time do not wait for each other.
FIELDS = ("kernel", "first", "last", "thread", "start", "end")
RECORD = np.dtype({"names": FIELDS, "formats": [np.int64] * len(FIELDS), "itemsize": 64})
MONOTONIC = 1  # Linux's number of the clock that Python's time.monotonic_ns reads


@dataclass(frozen=True)
class Part:
    """What one thread ran of a call: `tasks` pieces from `start` to `end`, busy for `busy`, in ns.

    call: its number in the segment, as `Segment.each` counts. iteration: of the loop around it.
    """

    call: int
    iteration: int
    thread: int
    start: int
    end: int
    busy: int
    tasks: int


def clock_address() -> int:
    """The C library's clock_gettime. Raises UnsupportedError where there is none."""
    found = getattr(ctypes.CDLL(None), "clock_gettime", None)
    if found is None:
        raise UnsupportedError("this system has no clock_gettime, which recording asks for")
    return ctypes.cast(found, ctypes.c_void_p).value or 0


def most_records(segment: Segment) -> int:
    """How many records one run of a segment may leave."""
    return sum(max(min(call.trips, MOST), 1) * trips for call, trips in segment.each())


def clocked_name(kernel: int) -> str:
    """Symbol of the function that calls a kernel and leaves a record."""
    return f"clocked_{kernel}"


def emit_clocked(
    kernels: Sequence[tuple[int, int]], triple: str, clock: int, count: int, records: int
) -> str:
    """LLVM text of a function for each kernel, and of `void *current_thread(void)`.

    kernels: the address and the number of buffers of each. clock, count, records: the addresses of
    clock_gettime, of the number of records so far (i64) and of the first one. Addresses are of this
    process, so the code is of no use elsewhere.
    """
    text = [_SHARED.format(triple=triple, clock=clock, count=count, records=records)]
    for number, (address, buffers) in enumerate(kernels):
        arguments = "".join(f"ptr %a{i}, " for i in range(buffers))
        arguments += "i64 %begin, i64 %end, ptr %status"
        text.append(f"""define void @{clocked_name(number)}({arguments}) {{
  %start = call i64 @now()
  call void inttoptr (i64 {address} to ptr)({arguments})
  %stop = call i64 @now()
  call void @record(i64 {number}, i64 %begin, i64 %end, i64 %start, i64 %stop)
  ret void
}}""")
    return "\n".join(text)


_SHARED = (
    f"""target triple = "{{triple}}"

declare ptr @llvm.thread.pointer.p0()

define ptr @current_thread() {{{{
  %thread = call ptr @llvm.thread.pointer.p0()
  ret ptr %thread
}}}}

define internal i64 @now() noinline {{{{
  %time = alloca {{{{ i64, i64 }}}}
  %failed = call i32 inttoptr (i64 {{clock}} to ptr)(i32 {MONOTONIC}, ptr %time)
  %seconds = load i64, ptr %time
  %rest_p = getelementptr {{{{ i64, i64 }}}}, ptr %time, i32 0, i32 1
  %rest = load i64, ptr %rest_p
  %whole = mul i64 %seconds, 1000000000
  %sum = add i64 %whole, %rest
  ret i64 %sum
}}}}

define internal void @record(i64 %kernel, i64 %begin, i64 %end, i64 %start, i64 %stop) noinline {{{{
  %number = atomicrmw add ptr inttoptr (i64 {{count}} to ptr), i64 1 monotonic
  %offset = mul i64 %number, {RECORD.itemsize}
  %at = getelementptr i8, ptr inttoptr (i64 {{records}} to ptr), i64 %offset
  %thread = call ptr @llvm.thread.pointer.p0()
  %who = ptrtoint ptr %thread to i64
  store i64 %kernel, ptr %at
"""
    + "".join(
        f"  %at{i} = getelementptr i64, ptr %at, i64 {i}\n  store i64 %{value}, ptr %at{i}\n"
        for i, value in enumerate(("begin", "end", "who", "start", "stop"), 1)
    )
    + "  ret void\n}}\n"
)


def parts(segment: Segment, records: np.ndarray) -> list[Part]:
    """What the threads did in one run of a segment, by time; neighbouring tasks of a call on one
    thread are one part. records: RECORD[n], as they were left.

    A run that ended early, after a bad index, has fewer calls than the segment.
    """
    found: list[Part] = []
    ordered = iter(np.sort(records, order="start").tolist())
    for number, iteration, call in _order(segment):
        mine: dict[int, Part] = {}
        left, once = call.trips, True  # a call of no iterations leaves a record, too
        while left > 0 or once:
            record = next(ordered, None)
            if record is None:
                return [*found, *mine.values()]
            kernel, first, last, thread, start, end = record
            assert kernel == call.kernel, "records and calls are out of step"
            left, once = left - (last - first), False
            so_far = mine.get(thread, Part(number, iteration, thread, start, end, 0, 0))
            busy, tasks = so_far.busy + end - start, so_far.tasks + 1
            mine[thread] = Part(number, iteration, thread, so_far.start, end, busy, tasks)
        found.extend(mine.values())
    return found


def _order(segment: Segment) -> Iterator[tuple[int, int, Call]]:
    """Every call as often as it runs: its number in the segment, the iteration, the call."""
    number = 0
    for part in segment.calls:
        match part:
            case Call():
                yield number, 0, part
                number += 1
            case Loop():
                for iteration in range(part.trips):
                    for i, call in enumerate(part.calls):
                        yield number + i, iteration, call
                number += len(part.calls)
