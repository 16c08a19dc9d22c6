"""The memory plan: every temporary of a lowered graph gets an offset in one arena, by liveness.

The result is flat data that can be saved: what is called in which order, and where each argument
lies. It holds no code and no addresses.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from brim.graph import Value
from brim.types import Type

if TYPE_CHECKING:  # whoever runs a finished plan needs no kernels: a warm load imports this file
    from brim.kernels.steps import Buffer, KernelStep, Lowered, Moving, View

ALIGN = 64


@dataclass(frozen=True)
class Place:
    """Where a buffer lies. kind arena, weights: `offset` in bytes; io: the number of a pointer.

    In a loop, iteration i finds it `stride * ((first + step * i) % period)` bytes further.
    """

    kind: str
    offset: int
    stride: int = 0
    first: int = 0
    period: int = 1
    step: int = 1


@dataclass(frozen=True)
class Call:
    """One kernel call: its number in the kernel table, its arguments, its outermost iterations.

    `seconds` is the predicted time on one thread (in a loop: of each time); short calls are not
    worth splitting.
    """

    kernel: int
    args: tuple[Place, ...]
    trips: int
    seconds: float


@dataclass(frozen=True)
class Tensor:
    """A typed, strided tensor at a place; strides and offset in elements."""

    place: Place
    type: Type
    strides: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class HostCall:
    """One operator that numpy runs. Objects that are not plain memory are named by strings."""

    value: Value
    args: tuple[Tensor | str, ...]
    result: Tensor | str


@dataclass(frozen=True)
class Loop:
    """Kernel calls that run `trips` times, in order."""

    trips: int
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Commit:
    """What follows writes the state that was given; after a bad index the function ends here."""


@dataclass(frozen=True)
class Segment:
    """Consecutive kernel calls and loops of them: one native function."""

    calls: tuple[Call | Loop | Commit, ...]

    def each(self) -> Iterator[tuple[Call, int]]:
        """All calls, in order, and how often each runs."""
        for call in self.calls:
            if isinstance(call, Loop):
                yield from ((inner, call.trips) for inner in call.calls)
            elif isinstance(call, Call):
                yield call, 1


@dataclass(frozen=True)
class Temporary:
    """A buffer of the arena, in bytes, and the first and last step that touches it, as `numbered`
    counts them. What takes the place of what it is made of is the same buffer."""

    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """All steps of a program over one arena. inputs, outputs: name -> (type, io slot or object).

    An output with the slot of the input of its name is state: it is written over what was given.
    temporaries: what the arena holds, by offset; for people, nothing that runs reads it.
    """

    steps: tuple[Segment | HostCall, ...]
    inputs: Mapping[str, tuple[Type, int]]
    outputs: Mapping[str, tuple[Type, int | str]]
    arena_bytes: int
    tensor_bytes: int
    temporaries: tuple[Temporary, ...] = ()

    @property
    def segments(self) -> list[Segment]:
        """Its native functions, in order."""
        return [step for step in self.steps if isinstance(step, Segment)]

    @property
    def hosts(self) -> list[HostCall]:
        """Its host steps, in order."""
        return [step for step in self.steps if isinstance(step, HostCall)]

    def numbered(self) -> list[Call | HostCall | Commit]:
        """All steps, in order, each call of a loop once: their numbers are those of lifetimes."""
        found: list[Call | HostCall | Commit] = []
        for step in self.steps:
            for part in step.calls if isinstance(step, Segment) else (step,):
                found.extend(part.calls if isinstance(part, Loop) else (part,))
        return found

    @property
    def state(self) -> dict[str, tuple[Type, int]]:
        """The inputs that become outputs where they are."""
        ports = self.outputs
        return {n: port for n, port in self.inputs.items() if n in ports and ports[n][1] == port[1]}


def aligned(size: int) -> int:
    """`size` rounded up so that the next buffer starts on a cache line."""
    return -(-size // ALIGN) * ALIGN


def lifetimes(lowered: Lowered) -> dict[str, tuple[int, int]]:
    """Temporary buffer -> first and last step that touches it; kernels in a loop count as steps.

    What a loop reads from before, or leaves for later or its next iteration, lives all through it.
    """
    from brim.kernels.steps import HostStep, KernelStep, LoopStep, View

    spans: dict[str, tuple[int, int]] = {}

    def touch(name: str, step: int) -> None:
        if lowered.buffers[name].kind == "temp":
            first, _ = spans.get(name, (step, step))
            spans[name] = (first, step)

    end = 0
    for step in lowered.steps:
        match step:
            case KernelStep():
                for name in step.buffers:
                    touch(name, end)
            case HostStep():
                for item in (*step.args, step.result):
                    if isinstance(item, View):
                        touch(item.buffer, end)
            case LoopStep():
                for number, inner in enumerate(step.steps, end):
                    for name in inner.buffers:
                        if name in step.own:
                            touch(name, number)
                            continue
                        shared = step.moving[name].buffer if name in step.moving else name
                        touch(shared, end)
                        touch(shared, end + len(step.steps) - 1)
                end += len(step.steps) - 1
        end += 1
    for view in lowered.outputs.values():
        if isinstance(view, View):
            touch(view.buffer, end)
    return spans


def allocate(
    buffers: Mapping[str, Buffer], spans: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, int], int]:
    """Offsets such that buffers alive at the same time do not overlap; and the arena's size.

    Large buffers first, each at the lowest gap that fits: within a few percent of the best known
    orders for networks, and quick.
    """
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    offsets: dict[str, int] = {}
    total = 0
    order = sorted(spans, key=lambda n: (-buffers[n].size * buffers[n].dtype.bytes, spans[n], n))
    for name in order:
        size = aligned(max(buffers[name].size * buffers[name].dtype.bytes, 1))
        first, last = spans[name]
        at = 0
        for offset, end, begin, finish in placed:
            if finish < first or begin > last:
                continue
            if offset - at >= size:
                break
            at = max(at, end)
        insort(placed, (at, at + size, first, last))
        offsets[name] = at
        total = max(total, at + size)
    return offsets, total


def plan(
    lowered: Lowered,
    types: Mapping[str, Type],
    result_types: Mapping[str, Type],
    call: Callable[[KernelStep, int], tuple[int, int, float, tuple[Place | None, ...]]],
    constant: Callable[[str], Place],
) -> Plan:
    """Places everything. `call` gives, for a step and how often it runs, the kernel's number,
    trips, predicted seconds and the places of its packed constants (None for other args);
    `constant` gives the place of a plain constant.
    """
    from brim.kernels import steps as lower
    from brim.kernels.steps import HostStep, KernelStep, LoopStep, View

    spans = lifetimes(lowered)
    offsets, arena = allocate(lowered.buffers, spans)
    slots: dict[str, int] = {}
    for name in lowered.inputs.values():
        slots[name] = len(slots)
    for view in lowered.outputs.values():
        if isinstance(view, View):
            slots.setdefault(view.buffer, len(slots))

    def place(name: str) -> Place:
        buffer = lowered.buffers[name]
        if name in slots:
            return Place("io", slots[name])
        if buffer.kind == "const":
            return constant(name)
        return Place("arena", offsets[name])

    def tensor(item: View | str, type: Type) -> Tensor | str:
        if isinstance(item, str):
            return item
        return Tensor(place(item.buffer), type, item.strides, item.offset)

    def moving(part: Moving) -> Place:
        at = place(part.buffer)
        stride = part.stride * lowered.buffers[part.buffer].dtype.bytes
        return Place(at.kind, at.offset, stride, part.first, part.period, part.step)

    def called(step: KernelStep, times: int, parts: Mapping[str, Moving]) -> Call:
        number, trips, seconds, packed = call(step, times)
        args = (
            p or (moving(parts[b]) if b in parts else place(b))
            for p, b in zip(packed, step.buffers)
        )
        return Call(number, tuple(args), trips, seconds)

    steps: list[Segment | HostCall] = []
    calls: list[Call | Loop | Commit] = []

    def close() -> None:
        if calls:
            steps.append(Segment(tuple(calls)))
            calls.clear()

    for step in lowered.steps:
        match step:
            case KernelStep():
                calls.append(called(step, 1, {}))
            case LoopStep():
                inner = (called(s, step.trips, step.moving) for s in step.steps)
                calls.append(Loop(step.trips, tuple(inner)))
            case HostStep():
                close()
                args_ = tuple(tensor(v, a.type) for v, a in zip(step.args, step.value.args))
                steps.append(HostCall(step.value, args_, tensor(step.result, step.value.type)))
            case lower.Commit():
                calls.append(Commit())
    close()
    sizes = {n: lowered.buffers[n].size * lowered.buffers[n].dtype.bytes for n in spans}
    return Plan(
        tuple(steps),
        {name: (types[name], slots[buffer]) for name, buffer in lowered.inputs.items()},
        {
            name: (result_types[name], v if isinstance(v, str) else slots[v.buffer])
            for name, v in lowered.outputs.items()
        },
        arena,
        sum(sizes.values()),
        tuple(
            Temporary(offsets[n], sizes[n], *spans[n])
            for n in sorted(spans, key=offsets.__getitem__)
        ),
    )


def _offset(each: Temporary) -> tuple[int, int]:
    return each.offset, each.first
