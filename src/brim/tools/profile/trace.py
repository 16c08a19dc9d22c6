"""A recording in the Trace Event Format, which ui.perfetto.dev and chrome://tracing open.

One track for each thread; runs, native functions, host steps and kernels lie in each other, and the
memory of live tensors is a counter. Format: "Trace Event Format" (Google, Duan-Nolan and others,
2016): times are microseconds, here since the first run began.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from brim.figures import printable
from brim.runtime.compiled import Compiled
from brim.runtime.recording import Recording, Run, Span
from brim.tools.profile.memory import live_bytes

PROCESS = 1


def trace(recording: Recording, model: str) -> dict[str, Any]:
    """The document, to be written as JSON. model: its name."""
    zero = recording.plain[0].start
    track = {thread: number for number, thread in enumerate(recording.threads)}
    events = [*_names(recording, model)]
    for number, (plain, run) in enumerate(zip(recording.plain, recording.runs)):
        events.append(_slice("run without clocks", "run", 0, plain.start, plain.end, zero, {}))
        events.append(_slice(f"run {number}", "run", 0, run.start, run.end, zero, {}))
        for span in run.spans:
            events.append(_event(recording.programs, span, model, track[span.thread], zero))
        events.extend(_memory(recording.programs[0], run, zero))
    facts = {"model": printable(model), "overhead of clocks": recording.overhead}
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": facts}


def _names(recording: Recording, model: str) -> Iterator[dict[str, Any]]:
    yield _meta("process_name", 0, {"name": f"brim: {printable(model)}"})
    for track in range(len(recording.threads)):
        name = f"worker {track}" if track else "calling thread"
        yield _meta("thread_name", track, {"name": name})
        yield _meta("thread_sort_index", track, {"sort_index": track})


def _meta(name: str, track: int, told: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": PROCESS, "tid": track, "args": told}


def _slice(
    name: str, category: str, track: int, start: int, end: int, zero: int, told: dict[str, Any]
) -> dict[str, Any]:
    return {
        "name": printable(name),
        "cat": category,
        "ph": "X",
        "pid": PROCESS,
        "tid": track,
        "ts": (start - zero) / 1e3,
        "dur": (end - start) / 1e3,
        "args": told,
    }


def _event(
    programs: tuple[Compiled, ...], span: Span, model: str, track: int, zero: int
) -> dict[str, Any]:
    compiled = programs[span.program]
    told: dict[str, Any] = {}
    match span.kind:
        case "native":
            name = "native code" if span.program == 0 else "native code of a sub-graph"
        case "host":
            value = compiled.plan.hosts[span.number].value
            ops = (value.op.name,) if value.op else ()
            name, told = _name(value.where, ops, model), {"runs": "in numpy"}
        case _:
            row = compiled.rows[span.number]
            name = _name(row.where, row.ops, model)
            told = {
                "kernel": span.number,
                "operators": ", ".join(row.ops),
                "computes": [printable(_name(each, (), model)) for each in row.sources],
                "schedule": row.schedule,
                "tasks": span.tasks,
                "busy us": span.busy / 1e3,
            }
            if span.iteration:
                told["iteration"] = span.iteration
    return _slice(name, span.kind, track, span.start, span.end, zero, told)


def _name(where: str, ops: tuple[str, ...], model: str) -> str:
    return where.removeprefix(f"{model}: ") or ", ".join(ops)


def _memory(compiled: Compiled, run: Run, zero: int) -> Iterator[dict[str, Any]]:
    """How much of the arena is in use, whenever that changes."""
    before = -1
    for start, held in live_bytes(compiled, run):
        if held != before:
            yield {
                "name": "live tensors", "ph": "C", "pid": PROCESS, "tid": 0,
                "ts": (start - zero) / 1e3, "args": {"bytes": held},
            }  # fmt: skip
        before = held
