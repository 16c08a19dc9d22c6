"""The arena of a compiled model: which tensors it holds, where, from which step to which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from brim.runtime.compiled import Compiled
from brim.runtime.plan import Call, HostCall, Plan, Temporary, Tensor
from brim.runtime.recording import Run


@dataclass(frozen=True)
class Writing:
    """A step that writes a buffer, and what the step is in the source."""

    step: int
    where: str


@dataclass(frozen=True)
class Held:
    """A buffer of the arena: `bytes` from `offset` on, touched by the steps first to last.

    writers: who makes it; several where a result takes the place of what it is made of, or where
    several steps write a part each.
    """

    offset: int
    bytes: int
    first: int
    last: int
    writers: tuple[Writing, ...]


@dataclass(frozen=True)
class Arena:
    """The memory of temporaries. steps: what each step is in the source. live: bytes of the tensors
    that are there in each step. inner_bytes: arenas and weights of sub-graphs, which are not in
    here. Sizes in bytes.

    The arena is larger than the peak where tensors leave gaps that nothing fits in.
    """

    model: str
    bytes: int
    tensor_bytes: int
    weight_bytes: int
    inner_bytes: int
    steps: tuple[str, ...]
    held: tuple[Held, ...]
    live: tuple[int, ...]

    @property
    def peak(self) -> int:
        """The step with the most bytes."""
        return int(np.argmax(self.live)) if self.live else 0

    @property
    def at_peak(self) -> list[Held]:
        """What is there at the peak, the largest first."""
        there = (each for each in self.held if each.first <= self.peak <= each.last)
        return sorted(there, key=lambda each: -each.bytes)


def arena(compiled: Compiled, model: str) -> Arena:
    """What the arena of a compiled model holds. model: its name."""
    steps = _steps(compiled, model)
    writers: dict[Temporary, list[Writing]] = {each: [] for each in compiled.plan.temporaries}
    for number, offset in _writes(compiled):
        for each in compiled.plan.temporaries:
            inside = each.offset <= offset < each.offset + max(each.bytes, 1)
            if inside and each.first <= number <= each.last:
                writers[each].append(Writing(number, steps[number]))
    return Arena(
        model,
        compiled.plan.arena_bytes,
        compiled.plan.tensor_bytes,
        compiled.weight_bytes,
        sum(map(_whole, compiled.subgraphs.values())),
        tuple(steps),
        tuple(
            Held(each.offset, each.bytes, each.first, each.last, tuple(found))
            for each, found in writers.items()
        ),
        tuple(_live(compiled.plan)),
    )


def _whole(compiled: Compiled) -> int:
    """Arena and weights, and those of sub-graphs."""
    inner = sum(map(_whole, compiled.subgraphs.values()))
    return compiled.plan.arena_bytes + compiled.weight_bytes + inner


def _steps(compiled: Compiled, model: str) -> list[str]:
    """What each step is in the source, as `Plan.numbered` counts them."""
    rows = iter(compiled.rows)
    names = []
    for step in compiled.plan.numbered():
        match step:
            case Call():
                row = next(rows)
                name = row.where or ", ".join(row.ops)
            case HostCall():
                name = step.value.where or (step.value.op.name if step.value.op else "")
            case _:
                name = "state is written from here on"
        names.append(name.removeprefix(f"{model}: "))
    return names


def _writes(compiled: Compiled) -> Iterator[tuple[int, int]]:
    """The steps that write to the arena, and where."""
    for number, step in enumerate(compiled.plan.numbered()):
        match step:
            case Call():
                roles = [role for role, _ in compiled.kernels[step.kernel].args]
                for role, at in zip(roles, step.args):
                    if role == "out" and at.kind == "arena":
                        yield number, at.offset
            case HostCall(result=Tensor(place=at)) if at.kind == "arena":
                yield number, at.offset


def _live(plan: Plan) -> list[int]:
    """Bytes of the tensors that are there in each step."""
    change = np.zeros(len(plan.numbered()) + 1, np.int64)
    for each in plan.temporaries:
        change[each.first] += each.bytes
        change[min(each.last + 1, len(change) - 1)] -= each.bytes
    return np.cumsum(change)[:-1].tolist()


def live_bytes(compiled: Compiled, run: Run) -> Iterator[tuple[int, int]]:
    """When each step of the program first began in a run, and the bytes of live tensors from then
    on; at the end none."""
    live = _live(compiled.plan)
    begun: dict[tuple[str, int], int] = {}
    for span in run.spans:
        if span.program == 0:
            begun.setdefault((span.kind, span.number), span.start)
    kernels = hosts = 0
    for step, held in zip(compiled.plan.numbered(), live):
        match step:
            case Call():
                key, kernels = ("kernel", kernels), kernels + 1
            case HostCall():
                key, hosts = ("host", hosts), hosts + 1
            case _:
                continue
        if key in begun:
            yield begun[key], held
    yield run.end, 0
