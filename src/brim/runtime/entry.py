"""The native function of a model: calls of its kernels, and loops of them, over its memory.

    void brim_main_N(ptr arena, ptr weights, ptr io, ptr kernels, ptr pool, ptr parallel_for,
                     i64 limit, ptr status)

`io` is an array of pointers (inputs, then outputs), `kernels` an array of function pointers. With
`limit` > 1 a call that is worth it is split into tasks for `parallel_for`; otherwise the kernels
run one after another on the calling thread. Text only; objects are made in `objects.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from brim.runtime.plan import Call, Commit, Loop, Place, Segment

# A call is split if it takes so many times what a fork and a join cost: then two threads gain
# almost all there is to gain, and it has paid to keep them awake.
WORTH = 10.0
# Tasks of a split call. Whoever is free takes the next one, so that unequal cores share well: the
# last task of a slow core keeps the others waiting for a small part of the whole. More tasks than
# FEW only where each still takes so many times a fork that the cost of taking one is lost in it.
FEW, MOST, TASK = 16, 256, 10.0
FIELDS = ("arena", "weights", "io", "kernels", "status")
CONTEXT = "{ ptr, ptr, ptr, ptr, ptr, i64 }"  # FIELDS, then the iteration of a loop
ITERATION = len(FIELDS)


def is_split(call: Call, fork: float) -> bool:
    """Whether a call is worth several threads. fork: seconds of a fork and a join."""
    return call.trips > 1 and call.seconds >= WORTH * fork


def task_count(call: Call, fork: float) -> int:
    """Into how many tasks a call is split."""
    return min(call.trips, MOST, max(FEW, int(call.seconds / (TASK * fork))))


def entry_name(number: int) -> str:
    """Symbol of the function of segment `number`."""
    return f"brim_main_{number}"


def emit_entry(segments: Sequence[Segment], triple: str, fork: float) -> str:
    """LLVM text of one module with a function for each segment (most models have one segment).

    fork: seconds that a fork and a join of two threads cost on the target.
    """
    text = [f'target triple = "{triple}"']
    for number, segment in enumerate(segments):
        body: list[str] = []
        positions = count()
        for part in segment.calls:
            body.extend(_part(part, number, positions, text, fork))
        text.append(_function(entry_name(number), body))
    return "\n".join(text)


def _part(
    part: Call | Loop | Commit,
    segment: int,
    positions: Iterator[int],
    text: list[str],
    fork: float,
    times: int = 1,
) -> list[str]:
    """The instructions that run a call or a loop; appends the functions they need to `text`."""
    position = next(positions)
    if isinstance(part, Commit):
        return _commit(position)
    if isinstance(part, Loop):
        body: list[str] = []
        for call in part.calls:
            body.extend(_part(call, segment, positions, text, fork, part.trips))
        return _repeat(position, part.trips, body)
    name = f"s{segment}_{position}"
    text.append(_step(name, part, times))
    tasks = task_count(part, fork) if is_split(part, fork) else 1
    if tasks > 1:
        text.append(_task(name, part, tasks))
    return _invoke(name, part, position, tasks)


def _commit(position: int) -> list[str]:
    return [
        f"  %bad{position} = load i32, ptr %status",
        f"  %is_good{position} = icmp eq i32 %bad{position}, 0",
        f"  br i1 %is_good{position}, label %good{position}, label %end{position}",
        f"end{position}:",
        "  ret void",
        f"good{position}:",
    ]


def _repeat(position: int, trips: int, body: list[str]) -> list[str]:
    start, done, i = f"loop{position}", f"after{position}", f"i{position}"
    return [
        f"  store i64 0, ptr %f{ITERATION}",
        f"  br label %{start}",
        f"{start}:",
        *body,
        f"  %{i} = load i64, ptr %f{ITERATION}",
        f"  %{i}_next = add i64 %{i}, 1",
        f"  store i64 %{i}_next, ptr %f{ITERATION}",
        f"  %{i}_again = icmp ult i64 %{i}_next, {trips}",
        f"  br i1 %{i}_again, label %{start}, label %{done}",
        f"{done}:",
    ]


def _field(index: int, result: str, type: str = "ptr") -> list[str]:
    return [
        f"  %{result}_p = getelementptr {CONTEXT}, ptr %context, i32 0, i32 {index}",
        f"  %{result} = load {type}, ptr %{result}_p",
    ]


def _step(name: str, call: Call, times: int) -> str:
    """`void @name(ptr context, i64 begin, i64 end)`: one kernel call with its arguments.

    times: how many iterations the loop around it has.
    """
    lines = [f"define internal void @{name}(ptr %context, i64 %begin, i64 %end) noinline {{"]
    for index, field in enumerate(FIELDS):
        lines += _field(index, field)
    if any(place.stride for place in call.args):
        lines += _field(ITERATION, "iteration", "i64")
    lines += [
        f"  %kernel_p = getelementptr ptr, ptr %kernels, i64 {call.kernel}",
        "  %kernel = load ptr, ptr %kernel_p",
    ]
    for number, place in enumerate(call.args):
        lines += _argument(f"a{number}", place, times)
    args = ", ".join([*(f"ptr %a{i}" for i in range(len(call.args))), "i64 %begin", "i64 %end"])
    lines += [f"  call void %kernel({args}, ptr %status)", "  ret void", "}"]
    return "\n".join(lines)


def _argument(name: str, place: Place, times: int) -> list[str]:
    if place.stride:
        last = place.first + place.step * (times - 1)
        wraps = not (min(place.first, last) >= 0 and max(place.first, last) < place.period)
        return [
            *_argument(f"{name}_start", Place(place.kind, place.offset), times),
            f"  %{name}_steps = mul i64 %iteration, {place.step}",
            f"  %{name}_i = add i64 %{name}_steps, {place.first}",
            *([f"  %{name}_part = urem i64 %{name}_i, {place.period}"] if wraps else []),
            f"  %{name}_bytes = mul i64 %{name}_{'part' if wraps else 'i'}, {place.stride}",
            f"  %{name} = getelementptr i8, ptr %{name}_start, i64 %{name}_bytes",
        ]
    if place.kind == "io":
        return [
            f"  %{name}_p = getelementptr ptr, ptr %io, i64 {place.offset}",
            f"  %{name} = load ptr, ptr %{name}_p",
        ]
    return [f"  %{name} = getelementptr i8, ptr %{place.kind}, i64 {place.offset}"]


def _task(name: str, call: Call, count: int) -> str:
    """`void @name.task(ptr context, i64 i)`: the i-th of equal shares of the iterations."""
    return f"""define internal void @{name}.task(ptr %context, i64 %i) {{
  %j = add i64 %i, 1
  %low = mul i64 %i, {call.trips}
  %high = mul i64 %j, {call.trips}
  %begin = udiv i64 %low, {count}
  %end = udiv i64 %high, {count}
  call void @{name}(ptr %context, i64 %begin, i64 %end)
  ret void
}}"""


def _invoke(name: str, call: Call, position: int, tasks: int) -> list[str]:
    serial = f"  call void @{name}(ptr %context, i64 0, i64 {call.trips})"
    if tasks == 1:
        return [serial]
    many, one, done = f"many{position}", f"one{position}", f"done{position}"
    return [
        f"  br i1 %threaded, label %{many}, label %{one}",
        f"{many}:",
        f"  call void %parallel_for(ptr %pool, ptr @{name}.task, ptr %context, "
        f"i64 {tasks}, i64 %limit)",
        f"  br label %{done}",
        f"{one}:",
        serial,
        f"  br label %{done}",
        f"{done}:",
    ]


def _function(name: str, body: list[str]) -> str:
    params = (
        "ptr %arena, ptr %weights, ptr %io, ptr %kernels, ptr %pool, ptr %parallel_for, "
        "i64 %limit, ptr %status"
    )
    lines = [f"define void @{name}({params}) {{", f"  %context = alloca {CONTEXT}"]
    for index, field in enumerate(FIELDS):
        lines.append(f"  %f{index} = getelementptr {CONTEXT}, ptr %context, i32 0, i32 {index}")
        lines.append(f"  store ptr %{field}, ptr %f{index}")
    place = f"getelementptr {CONTEXT}, ptr %context, i32 0, i32 {ITERATION}"
    lines.append(f"  %f{ITERATION} = {place}")
    lines.append("  %threaded = icmp sgt i64 %limit, 1")
    return "\n".join([*lines, *body, "  ret void", "}"])
