"""Results in the memory of what they replace: fewer buffers, and state that stays where it is.

A kernel that reads each element of a buffer only where it writes the same element of its result may
write the result over it, if nothing else reads the old content afterwards. So temporaries share
memory, and of a graph's state, which is an input and an output, the output becomes the input's
buffer. Where that cannot be, the new state is made beside the old one and copied at the end.

State is written only when nothing can fail any more, so a run that fails leaves it as it was.
Before the first such write stands a `Commit`, and no step after it can find a bad index: those of
its gathers and scatters follow from the axes, or were looked at before.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from brim.kernels.affine import axis_index
from brim.kernels.axes import canonical
from brim.kernels.ir import (
    Arg,
    At,
    Do,
    Gather,
    Guard,
    Kernel,
    Num,
    Stage,
    subexpressions,
)
from brim.kernels.ranges import interval
from brim.kernels.steps import (
    Buffer,
    Commit,
    Fused,
    HostStep,
    KernelStep,
    LoopStep,
    Lowered,
    Step,
    View,
    accesses,
)


def in_place(lowered: Lowered, state: Collection[str]) -> Lowered:
    """The same steps over fewer buffers; each name of the state is one buffer, read and written.

    State that is no plain memory (text) stays an input and an output.
    """
    return _share(_keep_state(lowered, state))


def may_replace(kernel: Kernel, out: str, source: str) -> bool:
    """Whether the kernel's argument `out` may be the same memory as its argument `source`: each
    element is read by no point but the one that writes it, and before it does."""
    a, b = kernel.buffers[out], kernel.buffers[source]
    if kernel.ordered or b.role != "in" or (a.dtype, a.size) != (b.dtype, b.size):
        return False
    writers = [i for i, stage in enumerate(kernel.stages) if _writes(stage, out)]
    target = kernel.stages[writers[0]].out
    if len(writers) != 1 or target is None or target.buf != out or target.gathers:
        return False
    if kernel.stages[writers[0]].keep is not None:
        return False
    strides = target.index.strides
    points = math.prod(kernel.sizes[axis] for axis in strides)
    if points != a.size or any(kernel.sizes[x] > 1 and x not in strides for x in kernel.outer):
        return False
    return all(
        number <= writers[0] and not at.gathers and at.index == target.index
        for number, stage in enumerate(kernel.stages)
        for at in _loads(stage)
        if at.buf == source
    )


def _writes(stage: Stage, name: str) -> bool:
    return any(at is not None and at.buf == name for at in (stage.out, stage.keep))


def _loads(stage: Stage) -> Iterator[At]:
    """All that a stage reads, indices of its gathers included."""
    places = [at for at in (stage.out, stage.keep) if at is not None]
    for expr in (stage.value, *(gather.index for at in places for gather in at.gathers)):
        yield from (e for e in subexpressions(expr) if isinstance(e, At))


# ------------------------------------------------------------------ temporaries


def _share(lowered: Lowered) -> Lowered:
    """A temporary that ends where another one begins gives it its memory, where that may be."""
    first, last = _lives(lowered)
    names: dict[str, str] = {}
    for number, step in enumerate(lowered.steps):
        if not isinstance(step, KernelStep):
            continue
        args = [
            (arg, name)
            for arg, name in zip(step.kernel.args, step.buffers)
            if lowered.buffers[name].kind == "temp"
        ]
        begin = [(a, n) for a, n in args if first[n] == number and last[n] > number]
        end = [(a, n) for a, n in args if first[n] < number and last[n] == number]
        for arg, name in begin:
            for other, old in end:
                if may_replace(step.kernel, arg.name, other.name):
                    names[name] = names.get(old, old)
                    end.remove((other, old))
                    break
    return _renamed(lowered, names)


def _lives(lowered: Lowered) -> tuple[dict[str, int], dict[str, int]]:
    """Buffer -> the first and the last step that touches it."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for number, step in enumerate(lowered.steps):
        for names in accesses(step):
            for name in names:
                first.setdefault(name, number)
                last[name] = number
    for view in lowered.outputs.values():
        last[view if isinstance(view, str) else view.buffer] = len(lowered.steps)
    return first, last


def _renamed(lowered: Lowered, names: Mapping[str, str]) -> Lowered:
    """The same steps with other buffers for some."""

    def view(found: View | str) -> View | str:
        if isinstance(found, str):
            return found
        return replace(found, buffer=names.get(found.buffer, found.buffer))

    def step(found: Step) -> Step:
        match found:
            case KernelStep():
                return replace(found, buffers=tuple(names.get(n, n) for n in found.buffers))
            case HostStep():
                return replace(found, args=tuple(map(view, found.args)), result=view(found.result))
            case LoopStep():
                moving = {
                    n: replace(part, buffer=names.get(part.buffer, part.buffer))
                    for n, part in found.moving.items()
                }
                inner = tuple(
                    replace(s, buffers=tuple(names.get(n, n) for n in s.buffers))
                    for s in found.steps
                )
                return replace(found, steps=inner, moving=moving)
        return found

    return Lowered(
        {name: buffer for name, buffer in lowered.buffers.items() if name not in names},
        tuple(map(step, lowered.steps)),
        lowered.inputs,
        {name: view(found) for name, found in lowered.outputs.items()},
    )


# ------------------------------------------------------------------ state


def _keep_state(lowered: Lowered, state: Collection[str]) -> Lowered:
    """New state where the old one is, and a `Commit` before it is written."""
    touched = [accesses(step) for step in lowered.steps]
    fails = _failures(lowered.steps)
    settled = max((i for i, bad in enumerate(fails) if bad), default=-1)
    names: dict[str, str] = {}
    views: dict[str, View | str] = {}
    buffers, copies = dict(lowered.buffers), []
    for port in state:
        old, view = lowered.inputs[port], lowered.outputs[port]
        if isinstance(view, str) or buffers[old].dtype.is_object or not buffers[old].size:
            continue
        new = view.buffer
        writers = [i for i, (_, written) in enumerate(touched) if new in written]
        readers = [i for i, (read, _) in enumerate(touched) if old in read]
        if _fits(lowered.steps, writers, readers, old, new, settled):
            names[new] = old
        else:
            buffers[new] = replace(buffers[new], kind="temp")
            copies.append(_copied(buffers[new], buffers[old], port))
        views[port] = replace(view, buffer=old)
    steps = [step for step in lowered.steps if not _is_idle(step, names)]
    if settled >= 0 and views:
        writes = (
            i for i, step in enumerate(steps) if not names.keys().isdisjoint(accesses(step)[1])
        )
        steps.insert(next(writes, len(steps)), Commit())
    found = Lowered(buffers, (*steps, *copies), lowered.inputs, {**lowered.outputs, **views})
    return _renamed(found, names)


def _fits(
    steps: Sequence[Step],
    writers: list[int],
    readers: list[int],
    old: str,
    new: str,
    settled: int,
) -> bool:
    """Whether `new` may be written over `old`: by kernels alone, when nothing fails any more and
    nothing but the first of them reads the old content."""
    if not writers or writers[0] <= settled or any(i > writers[0] for i in readers):
        return False
    if any(not isinstance(steps[i], KernelStep) for i in writers):
        return False
    step = steps[writers[0]]
    assert isinstance(step, KernelStep)
    if old not in step.buffers:
        return True
    args = dict(zip(step.buffers, step.kernel.args))
    return may_replace(step.kernel, args[new].name, args[old].name)


def _is_idle(step: Step, names: Mapping[str, str]) -> bool:
    """Whether a step only copies what is now in one place."""
    if not isinstance(step, KernelStep) or step.fused.ops != ("copy",):
        return False
    return names.get(step.buffers[-1]) == step.buffers[0]


def _copied(source: Buffer, target: Buffer, port: str) -> KernelStep:
    """All of a buffer, copied at the end."""
    dtype, size, index = source.dtype.carrier, source.size, axis_index("x0")
    kernel = Kernel(
        "kernel",
        (("x0", size),),
        ("x0",),
        (Stage("s", (), At("a0", index), out=At("a1", index)),),
        (Arg("a0", dtype, size), Arg("a1", dtype, size, "out")),
    )
    names, place = (source.name, target.name), f"state {port}"
    return KernelStep(canonical(kernel), names, Fused(("copy",), place, (place,)), True)


# ------------------------------------------------------------------ bad indices


def _failures(steps: Sequence[Step]) -> list[bool]:
    """Which steps may find an index that is out of range, where none before them would have."""
    asked: set[Any] = set()
    found = []
    for step in steps:
        match step:
            case KernelStep():
                open_ = [g for g in _gathers(step.kernel) if not _lies_inside(g, step.kernel)]
                names = dict(zip((a.name for a in step.kernel.args), step.buffers))
                questions = [_question(g, names) for g in open_]
                found.append(any(q is None or q not in asked for q in questions))
                asked.update(_answered(step, names))
            case LoopStep():
                found.append(
                    any(
                        not _lies_inside(gather, inner.kernel)
                        for inner in step.steps
                        for gather in _gathers(inner.kernel)
                    )
                )
            case _:
                found.append(isinstance(step, HostStep))
    return found


def _gathers(kernel: Kernel) -> Iterator[Gather]:
    for stage in kernel.stages:
        for at in (stage.out, stage.keep, *_loads(stage)):
            yield from at.gathers if at is not None else ()


def _lies_inside(gather: Gather, kernel: Kernel) -> bool:
    lies = interval(gather.index, kernel)
    return lies is not None and lies[0] >= 0 and lies[1] < gather.size


def _answered(step: KernelStep, names: Mapping[str, str]) -> Iterator[Any]:
    """The questions that a kernel asks of whole buffers, whatever the data."""
    for stage in step.kernel.stages:
        if any(isinstance(e, Guard) for e in subexpressions(stage.value)):
            continue  # some loads may not happen
        for at in (stage.out, stage.keep, *_loads(stage)):
            for gather in at.gathers if at is not None else ():
                question = _question(gather, names)
                if question is not None and _covers(gather, step.kernel):
                    yield question


def _covers(gather: Gather, kernel: Kernel) -> bool:
    """Whether the buffers that an index is made of are read from end to end."""
    reads = [e for e in subexpressions(gather.index) if isinstance(e, At)]
    reach = 1
    for term in sorted(reads[0].index.terms, key=lambda t: t.stride) if reads else ():
        if term.block or term.stride != reach:
            return False
        reach *= kernel.sizes[term.axis]
    sizes = {kernel.buffers[e.buf].size for e in reads}
    return sizes == {reach} and not reads[0].index.offset


def _question(gather: Gather, names: Mapping[str, str]) -> Any:
    """What an index is asked, equal for the same function of the same elements; None: unknown."""
    parts: list[Any] = [gather.size]
    if len({e.index for e in subexpressions(gather.index) if isinstance(e, At)}) > 1:
        return None
    for expr in subexpressions(gather.index):
        match expr:
            case At(gathers=()):
                parts.append(names[expr.buf])
            case Num(value, dtype):
                parts.append((value, dtype))
            case Do(op, args, dtype):
                parts.append((op, len(args), dtype))
            case _:
                return None
    return tuple(parts)
