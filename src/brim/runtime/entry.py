"""The native function of a model: straight-line calls of its kernels over arena, weights and io.

    void brim_main_N(ptr arena, ptr weights, ptr io, ptr kernels, ptr pool, ptr parallel_for,
                     i64 limit, ptr status)

`io` is an array of pointers (inputs, then outputs), `kernels` an array of function pointers. With
`limit` > 1 a call that is worth it is split into tasks for `parallel_for`; otherwise the kernels
run one after another on the calling thread. Text only; objects are made in `objects.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from brim.runtime.plan import Call, Place, Segment

# A call is split if it takes so many times what a fork and a join cost: then two threads gain
# almost all there is to gain, and it has paid to keep them awake.
WORTH = 10.0
# Tasks of a split call. Whoever is free takes the next one, so that unequal cores share well: the
# last task of a slow core keeps the others waiting for a small part of the whole. More tasks than
# FEW only where each still takes so many times a fork that the cost of taking one is lost in it.
FEW, MOST, TASK = 16, 256, 10.0
CONTEXT = "{ ptr, ptr, ptr, ptr, ptr }"  # arena, weights, io, kernels, status


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
        for position, call in enumerate(segment.calls):
            name = f"s{number}_{position}"
            text.append(_step(name, call))
            tasks = task_count(call, fork) if is_split(call, fork) else 1
            if tasks > 1:
                text.append(_task(name, call, tasks))
            body.extend(_invoke(name, call, position, tasks))
        text.append(_function(entry_name(number), body))
    return "\n".join(text)


def _field(index: int, result: str) -> list[str]:
    return [
        f"  %{result}_p = getelementptr {CONTEXT}, ptr %context, i32 0, i32 {index}",
        f"  %{result} = load ptr, ptr %{result}_p",
    ]


def _step(name: str, call: Call) -> str:
    """`void @name(ptr context, i64 begin, i64 end)`: one kernel call with its arguments."""
    lines = [f"define internal void @{name}(ptr %context, i64 %begin, i64 %end) noinline {{"]
    for index, field in enumerate(("arena", "weights", "io", "kernels", "status")):
        lines += _field(index, field)
    lines += [
        f"  %kernel_p = getelementptr ptr, ptr %kernels, i64 {call.kernel}",
        "  %kernel = load ptr, ptr %kernel_p",
    ]
    for number, place in enumerate(call.args):
        lines += _argument(f"a{number}", place)
    args = ", ".join([*(f"ptr %a{i}" for i in range(len(call.args))), "i64 %begin", "i64 %end"])
    lines += [f"  call void %kernel({args}, ptr %status)", "  ret void", "}"]
    return "\n".join(lines)


def _argument(name: str, place: Place) -> list[str]:
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
    for index, field in enumerate(("arena", "weights", "io", "kernels", "status")):
        lines.append(f"  %f{index} = getelementptr {CONTEXT}, ptr %context, i32 0, i32 {index}")
        lines.append(f"  store ptr %{field}, ptr %f{index}")
    lines.append("  %threaded = icmp sgt i64 %limit, 1")
    return "\n".join([*lines, *body, "  ret void", "}"])
