"""The last stage: the kernels that a graph becomes, and what passes from one to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from brim.compiler import Scheduled
from brim.figures import printable
from brim.graph import Value
from brim.kernels.steps import HostStep, KernelStep, LoopStep, Lowered, View, accesses
from brim.ops import OPS
from brim.runtime.compiled import Row
from brim.view.document import Kernel, Node
from brim.view.draft import Draft, Scope, Shared, name_of, shown
from brim.view.kinds import heaviest, kind_of
from brim.where import split_name

NAMED = 4  # operators of a kernel that stand in its box


def kernel_drafts(made: Scheduled, shared: Shared) -> list[Draft]:
    """Kernels and host steps in the order in which they run; loops with the kernels inside."""
    sketch = _Sketch(made, shared, enumerate(made.rows))
    for name, buffer in made.lowered.inputs.items():
        type = str(made.settled.inputs[name].type)
        sketch.add(Draft("input", "input", name, "input", name, outputs=(type,)), (), [buffer])
    for step in made.lowered.steps:
        match step:
            case KernelStep():
                sketch.kernel(step, ())
            case HostStep():
                sketch.host(step)
            case LoopStep():
                sketch.loop(step)
    for name, place in made.lowered.outputs.items():
        buffer = place.buffer if isinstance(place, View) else place
        sketch.add(Draft("output", "output", name, "output", name), [buffer], ())
    return sketch.drafts


def kernels_of(rows: Sequence[Row], lowered: Lowered, seconds: Sequence[float]) -> list[Kernel]:
    """What is told of each kernel. seconds: measured, of all of them, or none."""
    times = [count for _, count in lowered.kernel_steps()]
    return [
        Kernel(
            row.ops,
            printable(name_of(row.where)),
            row.schedule.strip().removeprefix("schedule {").removesuffix("}").strip(),
            row.predicted_seconds,
            seconds[i] if seconds else None,
            row.flops,
            times[i],
        )
        for i, row in enumerate(rows)
    ]


def computed_by(
    nodes: Sequence[Node], rows: Sequence[Row], sources: Mapping[str, int]
) -> list[Node]:
    """The nodes of a stage with the kernels that compute them.

    A layer may be computed by several kernels: the one with the node's operator counts, then the
    slowest. What is part of no kernel by name, as a batch norm that is folded into a convolution,
    is part of that which computes what reads it.
    """
    kernels: dict[int | None, list[int]] = {}
    for number, row in enumerate(rows):
        for where in row.sources:
            kernels.setdefault(sources.get(where) if where else None, []).append(number)
    found: list[int | None] = []
    for node in nodes:
        able = kernels.get(node.source, [])
        if node.source is None:
            able = [i for i in able if node.op in rows[i].ops]
        order = sorted(
            able, key=lambda i: (node.op not in rows[i].ops, -rows[i].predicted_seconds, i)
        )
        found.append(order[0] if order else None)
    for number in range(len(nodes) - 1, -1, -1):
        for i, _ in nodes[number].inputs:
            if found[i] is None and nodes[i].kind not in ("input", "folded", "control", "host"):
                found[i] = found[number]
    ports = ("input", "output")
    return [
        replace(node, kernel=None if node.kind in ports else kernel)
        for node, kernel in zip(nodes, found)
    ]


@dataclass(eq=False)
class _Sketch:
    """The steps so far, and which of them have written what is now in a buffer."""

    made: Scheduled
    shared: Shared
    rows: Iterator[tuple[int, Row]]
    drafts: list[Draft] = field(default_factory=list)
    writers: dict[str, list[int]] = field(default_factory=dict)
    loops: int = 0

    @cached_property
    def values(self) -> dict[str, Value]:
        """Where-string -> the last value that it names."""
        return {value.where: value for value in self.made.settled.values() if value.op is not None}

    def add(self, draft: Draft, reads: Iterable[str], writes: Iterable[str]) -> None:
        buffers = self.made.lowered.buffers
        before = [i for name in reads for i in self._written(name)]
        draft.inputs = [(i, 0) for i in dict.fromkeys(before)]
        for position, name in enumerate(reads):
            data = buffers[name].data if name in buffers else None
            if data is not None:
                weight = self.shared.weights.number(data, f"constant of {name_of(draft.where)}")
                draft.weights.append((position, weight))
        for name in writes:
            if name in reads:  # in place: nobody sees what was there before
                self.writers[name] = []
            self.writers.setdefault(name, []).append(len(self.drafts))
        self.drafts.append(draft)

    def _written(self, name: str) -> list[int]:
        """The node that made what is in a buffer. Where several have each written a part of it,
        that is a concat which costs nothing."""
        parts = self.writers.get(name, [])
        if len(parts) < 2:
            return parts
        there = {self.drafts[i].where for i in parts}
        concats = [v for v in self.made.settled.values() if v.op and v.op.name == "concat"]
        value = max(concats, key=lambda v: len(there & _beneath(v)), default=None)
        last = self.drafts[parts[-1]]
        if value is None or not there & _beneath(value):  # parts of one layer, as Winograd's are
            value = self.values.get(last.where)
        draft = Draft("concat", "move", value.where if value else last.where, hint="in place")
        draft.outputs = (str(value.type),) if value else last.outputs[:1]
        draft.inputs = [(i, 0) for i in parts]
        self.writers[name] = [len(self.drafts)]
        self.drafts.append(draft)
        return self.writers[name]

    def kernel(self, step: KernelStep, scope: Scope) -> None:
        number, row = next(self.rows)
        kind = heaviest(kind_of(OPS[name]) if name in OPS else "move" for name in row.ops)
        reads, writes = accesses(step)
        last = row.sources[-1] if row.sources else row.where
        value = self.values.get(last)
        buffers = self.made.lowered.buffers
        types = [f"{b.dtype}[{b.size}]" for n in writes if (b := buffers.get(n))] or [""]
        if value is not None and len(types) == 1:
            types = [str(value.type)]
        attrs = {
            "layers": ", ".join(map(name_of, row.sources)),
            "operators": " ".join(reversed(row.ops)),
        }
        draft = Draft(
            _fused(row),
            kind,
            row.where,
            "product" if kind == "product" else row.ops[0],
            self.shared.hints.get(row.where, "") if kind == "product" else "",
            outputs=tuple(types),
            attrs=shown(attrs),
            scope=scope,
            kernel=number,
        )
        self.add(draft, reads, writes)

    def host(self, step: HostStep) -> None:
        value = step.value
        reads, writes = accesses(step)
        assert value.op is not None
        outputs = (str(value.type),)
        self.add(Draft(value.op.name, "host", value.where, outputs=outputs), reads, writes)

    def loop(self, step: LoopStep) -> None:
        """A loop, and the kernels that it runs again and again."""
        reads, writes = accesses(step)
        self.loops += 1
        where = step.steps[0].fused.where if step.steps else ""
        hint = f"{step.trips} times"
        draft = Draft("loop", "control", where, hint=hint, outputs=("",) * max(1, len(writes)))
        inside: Scope = ((where, self.loops, 0),)
        draft.bodies.append((inside, f"body of {name_of(where)}"))
        self.add(draft, reads, writes)
        for inner in step.steps:
            self.kernel(inner, inside)


def _fused(row: Row) -> str:
    """What a kernel fuses, in the file's words; where values name no operators, in brim's."""
    found = [op for where in row.sources if (op := split_name(where)[1])]
    names = list(dict.fromkeys(found or reversed(row.ops)))
    return " + ".join(names[:NAMED]) + (" + ..." if len(names) > NAMED else "")


def _beneath(value: Value) -> set[str]:
    """The places of a concat's operands, and of what they move."""
    found, rest = set(), list(value.args)
    while rest:
        arg = rest.pop()
        found.add(arg.where)
        if arg.op is not None and arg.op.kind == "move":
            rest += arg.args
        elif arg.op is not None and arg.op.kind == "elementwise":
            rest += arg.args[:1]
    return found
