"""Plans as JSON and back: what `plan.Plan` holds, written as data and checked when it is read.

A plan tells native code and numpy where to read and write. So every number of one that is read is
compared with the sizes of the arena, the weights, the inputs and the outputs, and with what each
kernel takes, before anything can use it. Where the JSON is kept is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from brim.errors import ModelError
from brim.graph import Value
from brim.runtime.plan import (
    Call,
    Commit,
    HostCall,
    Loop,
    Place,
    Plan,
    Segment,
    Temporary,
    Tensor,
)
from brim.runtime.record import (
    Record,
    as_integer,
    as_list,
    as_real,
    as_record,
    as_text,
    as_type,
)
from brim.types import Type

ARENA = 1 << 40
SLOTS = 100_000
TRIPS = 1 << 48
COMMIT = "commit"


@dataclass(frozen=True)
class KernelShape:
    """What one kernel of the table takes: iterations, and (role, bytes) of every argument."""

    trips: int
    args: tuple[tuple[str, int], ...]


# ------------------------------------------------------------------ writing


def write_plan(
    plan: Plan, kernels: Sequence[KernelShape], hosts: Sequence[Value]
) -> dict[str, Any]:
    """The plan as plain data. hosts: the values of its host steps, in order of the steps."""
    number = iter(range(len(hosts)))
    return {
        "arena_bytes": plan.arena_bytes,
        "tensor_bytes": plan.tensor_bytes,
        "kernels": [{"trips": k.trips, "args": [list(a) for a in k.args]} for k in kernels],
        "inputs": [[name, str(type), slot] for name, (type, slot) in plan.inputs.items()],
        "outputs": [[name, str(type), slot] for name, (type, slot) in plan.outputs.items()],
        "steps": [_write_step(step, number) for step in plan.steps],
        "temporaries": [[t.offset, t.bytes, t.first, t.last] for t in plan.temporaries],
    }


def _write_step(step: Segment | HostCall, number: Any) -> dict[str, Any]:
    if isinstance(step, Segment):
        return {"calls": [_write_call(call) for call in step.calls]}
    args = [
        None if _is_text(arg) else _write_tensor(tensor)
        for arg, tensor in zip(step.value.args, step.args)
    ]
    return {"host": next(number), "args": args, "result": _write_tensor(step.result)}


def _write_call(call: Call | Loop | Commit) -> Any:
    if isinstance(call, Commit):
        return COMMIT
    if isinstance(call, Loop):
        return {"trips": call.trips, "calls": [_write_call(inner) for inner in call.calls]}
    return [call.kernel, call.seconds, [_write_place(place) for place in call.args]]


def _write_place(place: Place) -> list[Any]:
    moves = [place.stride, place.first, place.period] if place.stride else []
    if place.step != 1:
        moves.append(1)  # backwards
    return [place.kind, place.offset, *moves]


def _is_text(value: Value) -> bool:
    """Constants of text stay in the host step's value: they are Python objects, not memory."""
    return value.data is not None and value.data.dtype == object


def _write_tensor(tensor: Tensor | str) -> Any:
    if isinstance(tensor, str):
        return tensor
    place = tensor.place
    return [place.kind, place.offset, str(tensor.type), list(tensor.strides), tensor.offset]


# ------------------------------------------------------------------ reading


def read_plan(
    record: Record, weight_bytes: int, hosts: Sequence[Value]
) -> tuple[Plan, tuple[KernelShape, ...]]:
    """The plan and its kernel table. hosts: the values of the host steps. Raises ModelError."""
    kernels = tuple(_kernel(k) for k in record.records("kernels"))
    reader = _Reader(record, kernels, weight_bytes, hosts)
    inputs = reader.ports("inputs")
    reader.slots.update((slot, type) for type, slot in inputs.values() if isinstance(slot, int))
    if len(reader.slots) != len(inputs):
        reader.fail("two inputs share a slot, or one has none")
    outputs = reader.ports("outputs")
    for name, (type, slot) in outputs.items():
        if isinstance(slot, int) and reader.slots.setdefault(slot, type) != type:
            reader.fail(f"output {name!r} shares a slot with a tensor of another type")
    state = {port for name, port in inputs.items() if outputs.get(name) == port}
    reader.read_only = frozenset(slot for _, slot in inputs.values()) - {s for _, s in state}
    steps = tuple(reader.step(step) for step in record.records("steps"))
    for name, (_, slot) in outputs.items():
        if isinstance(slot, str) and slot not in reader.objects:
            reader.fail(f"no step computes output {name!r}")
    if reader.hosts_seen != len(hosts):
        reader.fail(f"{len(hosts)} host steps are described, {reader.hosts_seen} are used")
    plan = Plan(
        steps,
        {name: (type, slot) for name, (type, slot) in inputs.items() if isinstance(slot, int)},
        outputs,
        reader.arena_bytes,
        record.integer("tensor_bytes"),
        tuple(map(reader.temporary, record.list("temporaries") if "temporaries" in record else ())),
    )
    if any(each.last > len(plan.numbered()) for each in plan.temporaries):
        reader.fail("a temporary is used after the last step")
    return plan, kernels


def _kernel(record: Record) -> KernelShape:
    args = []
    for i, item in enumerate(record.list("args")):
        role, size = as_list(item, f"{record.where}.args[{i}]", 2)
        if role not in ("in", "out", "const"):
            raise ModelError("a kernel's argument is in, out or const", where=record.where)
        args.append((role, as_integer(size, f"{record.where}.args[{i}]", 0, ARENA)))
    return KernelShape(record.integer("trips", 0, TRIPS), tuple(args))


class _Reader:
    """Reads steps in order, knowing the sizes and what exists so far."""

    def __init__(
        self,
        record: Record,
        kernels: tuple[KernelShape, ...],
        weight_bytes: int,
        hosts: Sequence[Value],
    ) -> None:
        self.record, self.kernels, self.hosts = record, kernels, hosts
        self.weight_bytes = weight_bytes
        self.arena_bytes = record.integer("arena_bytes", 0, ARENA)
        self.slots: dict[int, Type] = {}
        self.read_only: frozenset[int] = frozenset()
        self.objects: set[str] = set()
        self.hosts_seen = 0

    def fail(self, what: str) -> NoReturn:
        raise ModelError("the plan contradicts itself", what, self.record.where)

    def ports(self, key: str) -> dict[str, tuple[Type, Any]]:
        where = f"{self.record.where}.{key}"
        found: dict[str, tuple[Type, Any]] = {}
        for item in self.record.list(key):
            name, text, slot = as_list(item, where, 3)
            inside = key == "outputs" and isinstance(slot, str)
            type = as_type(text, where, static=not inside)
            if type.is_static and type.bytes > ARENA:
                self.fail(f"{text[:80]} is absurdly large")
            found[as_text(name, where)] = (
                type,
                slot if inside else as_integer(slot, where, 0, SLOTS),
            )
        if len(found) != len(self.record.list(key)):
            self.fail(f"two {key} have the same name")
        return found

    def step(self, record: Record) -> Segment | HostCall:
        if "calls" in record:
            return Segment(tuple(self.part(c, record.where) for c in record.list("calls")))
        return self.host(record)

    def part(self, item: Any, where: str) -> Call | Loop | Commit:
        if item == COMMIT:
            return Commit()
        if not isinstance(item, dict):
            return self.call(item, where)
        loop = as_record(item, where)
        calls = tuple(self.call(inner, where, looped=True) for inner in loop.list("calls"))
        return Loop(loop.integer("trips", 1, TRIPS), calls)

    def call(self, item: Any, where: str, looped: bool = False) -> Call:
        number, seconds, places = as_list(item, where, 3)
        number = as_integer(number, where, 0, len(self.kernels) - 1)
        kernel = self.kernels[number]
        args = []
        for (role, size), found in zip(kernel.args, as_list(places, where, len(kernel.args))):
            place = self.place(found, where)
            self.check_place(place, size, role == "out")
            if place.stride and not looped:
                self.fail("memory moves outside a loop")
            if place.kind == "io" and self.slots[place.offset].dtype.is_object:
                self.fail("a kernel is given text or a container")
            args.append(place)
        return Call(number, tuple(args), kernel.trips, as_real(seconds, where))

    def place(self, found: Any, where: str) -> Place:
        moves_too = len(as_list(found, where)) > 2
        count = min(len(as_list(found, where)), 6)
        kind, *numbers = as_list(found, where, max(count, 5) if moves_too else 2)
        offset, *moves = (as_integer(number, where) for number in numbers)
        if not moves:
            return Place(as_text(kind, where), offset)
        stride, first, period, *back = moves
        if not 0 < period <= TRIPS or back not in ([], [1]):
            self.fail("a loop's memory does not repeat after a number of iterations")
        return Place(as_text(kind, where), offset, stride, first, period, -1 if back else 1)

    def check_place(self, place: Place, size: int, written: bool) -> None:
        """`size` bytes from the place must exist, wherever a loop moves it, and be writable where
        they are written."""
        reach = size + place.stride * (place.period - 1)
        match place.kind:
            case "arena":
                start, room, locked = place.offset, self.arena_bytes, False
            case "weights":
                start, room, locked = place.offset, self.weight_bytes, True
            case "io" if place.offset in self.slots:
                start, room = 0, self.slots[place.offset].bytes
                locked = place.offset in self.read_only
            case _:
                self.fail(f"there is no place {place.kind[:20]!r} {place.offset}")
        if start + reach > room or (written and locked):
            self.fail(f"{reach} bytes of {place.kind} at {start} of {room} cannot be used")

    def host(self, record: Record) -> HostCall:
        number = record.integer("host", 0, len(self.hosts) - 1)
        if number != self.hosts_seen:
            self.fail("host steps are out of order")
        self.hosts_seen += 1
        value = self.hosts[number]
        args: list[Tensor | str] = []
        for found, arg in zip(record.list("args", len(value.args)), value.args):
            if found is None:
                if not _is_text(arg):
                    self.fail("only constants of text have no place")
                args.append(Tensor(Place("weights", 0), arg.type, (), 0))
            else:
                args.append(self.tensor(found, arg, record.where, written=False))
        result = self.tensor(record.get("result"), value, record.where, written=True)
        if isinstance(result, str):
            self.objects.add(result)
        return HostCall(value, tuple(args), result)

    def tensor(self, found: Any, value: Value, where: str, written: bool) -> Tensor | str:
        if isinstance(found, str):
            if not written and found not in self.objects:
                self.fail(f"{found[:40]!r} is used before it is computed")
            return found
        kind, offset, text, strides, first = as_list(found, where, 5)
        type = as_type(text, where)
        if type != value.type:
            self.fail(f"a {value.type} is stored as {type}")
        place = Place(as_text(kind, where), as_integer(offset, where))
        steps = [as_integer(s, where) for s in as_list(strides, where, len(type.dims))]
        first = as_integer(first, where)
        self.check_tensor(place, type, steps, first, written)
        return Tensor(place, type, tuple(steps), first)

    def temporary(self, item: Any) -> Temporary:
        where = f"{self.record.where}.temporaries"
        offset, size, first, last = (as_integer(n, where) for n in as_list(item, where, 4))
        if offset + size > self.arena_bytes or first > last:
            self.fail("a temporary lies outside the arena, or ends before it begins")
        return Temporary(offset, size, first, last)

    def check_tensor(
        self, place: Place, type: Type, strides: list[int], first: int, written: bool
    ) -> None:
        objects = type.dtype.is_object
        slot = self.slots.get(place.offset) if place.kind == "io" else None
        if objects != (slot is not None and slot.dtype.is_object) or (objects and slot != type):
            self.fail("objects and numbers share a place")
        reach = first + 1 + sum((n - 1) * s for n, s in zip(type.dims, strides))
        size = reach * type.dtype.bytes if type.size and not objects else 0
        self.check_place(place, size, written)
