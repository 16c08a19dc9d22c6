"""Loops that compiled code runs by itself: their bodies become kernels of the graph around them.

An iteration reads what the one before left, and writes beside it, so nothing is copied in between:
a carried value has a buffer of two halves, which take turns; if all its values are a result as
well, it walks along their rows. A row of a tensor that the body takes at the number of the
iteration, or as far from the end, is found by its address. All other loops are host steps, see
`brim.runtime.program`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from brim.graph import Graph, Value, placeholder, rewrite
from brim.kernels.affine import row_major
from brim.kernels.steps import Buffer, KernelStep, LoopStep, Lowered, Moving, View
from brim.ops.control import row_number
from brim.types import Type

LINE = 64  # bytes of a cache line


def is_compiled(value: Value) -> bool:
    """Whether a value is a loop whose length is known and whose body is kernels alone, or one of
    the results of such a loop."""
    if value.op is None:
        return False
    if value.op.name == "item":
        return is_compiled(value.args[0])
    if value.op.name != "loop" or not value.attrs["length"]:
        return False
    again, *results = value.attrs["body"].outputs.values()
    trips, start = (arg.data for arg in value.args[:2])
    if trips is None or trips.reshape(-1)[0] != value.attrs["length"]:
        return False
    if any(flag is None or not flag.reshape(-1)[0] for flag in (start, again.data)):
        return False
    return all(map(_has_memory, [*value.args[2:], *results])) and all(
        _has_memory(inner) and (inner.op is None or inner.op.kind not in ("host", "control"))
        for inner in value.attrs["body"].values()
    )


def _has_memory(value: Value) -> bool:
    type = value.type
    return isinstance(type, Type) and type.is_static and not type.dtype.is_object


@dataclass(frozen=True)
class Body:
    """A loop's body as kernels need it: without the condition, which always holds, each result
    once, and with rows given in place of a tensor and the number of its row.

    rows: (input, number of the captured value that it is a row of, that row's number in the first
    iteration, 1 or -1 from each to the next). stacked: for each stacked result the number of the
    carried value that it equals and 1, or 0 if it equals that before the iteration; or None.
    """

    graph: Graph
    rows: tuple[tuple[str, int, int, int], ...]
    stacked: tuple[tuple[int, int] | None, ...]


def loop_body(value: Value) -> Body:
    """The body of a compiled loop."""
    body, carried, trips = (value.attrs[name] for name in ("body", "carried", "length"))
    iteration, _, *given = body.inputs.values()
    captured = {id(v): number for number, v in enumerate(given[carried:])}
    found: dict[tuple[int, int, int], Value] = {}

    def row(value: Value) -> Value | None:
        if value.op is None or value.op.name != "gather" or value.attrs["axis"] != 0:
            return None
        whole, index = value.args
        number, at = captured.get(id(whole)), row_number(index, iteration)
        if number is None or at is None or index.shape:
            return None
        first, step = at
        if not all(0 <= at < whole.shape[0] for at in (first, first + step * (trips - 1))):
            return None
        return found.setdefault((number, first, step), placeholder(value.type))

    rewritten = rewrite(Graph(body.inputs, dict([*body.outputs.items()][1:]), body.name), row)
    outputs = list(rewritten.outputs.items())
    states = {id(v): (number, 0) for number, v in enumerate(given[:carried])}
    states.update((id(v), (number, 1)) for number, (_, v) in enumerate(outputs[:carried]))
    stacked = tuple(states.pop(id(v), None) for _, v in outputs[carried:])
    kept = outputs[:carried] + [o for o, s in zip(outputs[carried:], stacked) if s is None]
    rows = {f"row{number}": v for number, v in enumerate(found.values())}
    graph = Graph({**body.inputs, **rows}, dict(kept), body.name)
    return Body(graph, tuple((name, *at) for name, at in zip(rows, found)), stacked)


@dataclass(frozen=True)
class Placed:
    """A compiled loop in the buffers of the graph around it: those to add, the step, the views of
    its results, and where the carried values are when it starts."""

    buffers: Mapping[str, Buffer]
    step: LoopStep
    results: tuple[View, ...]
    starts: tuple[View, ...]


def place_loop(
    value: Value, body: Body, lowered: Lowered, captured: list[str], prefix: str
) -> Placed:
    """Joins the lowered body of a loop to the graph around it.

    captured: the buffers of the values that do not change. prefix: of the names of new buffers.
    """
    carried, trips = value.attrs["carried"], value.attrs["length"]
    inner = lowered.buffers
    inputs = [lowered.inputs[name] for name in value.attrs["body"].inputs]
    names = {name: f"{prefix}{name}" for name in inner}
    names.update(zip(inputs[2 + carried :], captured))
    buffers = {
        names[n]: replace(b, name=names[n]) for n, b in inner.items() if b.kind in ("const", "temp")
    }
    moving: dict[str, Moving] = {}

    def room(name: str, like: str, size: int, data: np.ndarray | None = None) -> str:
        kind = "temp" if data is None else "const"
        buffers[name] = Buffer(name, inner[like].dtype, size, kind, data)
        return name

    number, alive = inputs[:2]
    table = room(f"{names[number]}.all", number, trips, np.arange(trips, dtype=np.int64))
    moving[names[number]] = Moving(table, 1, 0, trips)
    room(names[alive], alive, 1, np.ones(1, np.bool_))
    for name, index, first, step in body.rows:
        row = lowered.inputs[name]
        reach = max(first, first + step * (trips - 1)) + 1
        moving[names[row]] = Moving(captured[index], inner[row].size, first, reach, step)

    walked = {stacked[0] for stacked in body.stacked if stacked is not None}
    views = [view for view in lowered.outputs.values() if isinstance(view, View)]
    rows = iter(views[carried:])
    results: list[View] = []
    starts: list[View] = []
    for index, (before, view) in enumerate(zip(inputs[2:], views[:carried])):
        after, size = view.buffer, inner[view.buffer].size
        if index in walked:
            stride, period = size, trips + 1
        else:
            stride, period = _in_lines(inner[after]), 2
        whole = room(f"{names[before]}.all", after, stride * period)
        moving[names[before]] = Moving(whole, stride, 0, period)
        moving[names[after]] = Moving(whole, stride, 1, period)
        starts.append(replace(view, buffer=whole))
        results.append(replace(view, buffer=whole, offset=stride * (trips % period)))
    for state in body.stacked:
        view = results[state[0]] if state is not None else next(rows)
        size = math.prod(view.shape)
        shape = (trips, *view.shape)
        if state is not None:
            results.append(View(view.buffer, shape, row_major(shape), size * state[1]))
            continue
        whole = room(f"{names[view.buffer]}.all", view.buffer, trips * size)
        moving[names[view.buffer]] = Moving(whole, size, 0, trips)
        results.append(View(whole, shape, row_major(shape)))
    steps = tuple(
        replace(step, buffers=tuple(names[name] for name in step.buffers))
        for step in lowered.steps
        if isinstance(step, KernelStep)
    )
    touched = {name for step in steps for name in step.buffers}
    moving = {name: part for name, part in moving.items() if name in touched}
    used = {moving[name].buffer if name in moving else name for name in touched}
    used.update(view.buffer for view in results)
    own = frozenset(names[n] for n, b in inner.items() if b.kind == "temp")
    return Placed(
        {n: b for n, b in buffers.items() if n in used},
        LoopStep(trips, steps, moving, own),
        tuple(results),
        tuple(starts),
    )


def _in_lines(buffer: Buffer) -> int:
    """Elements of a buffer, rounded up to whole cache lines."""
    line = LINE // buffer.dtype.bytes
    return -(-buffer.size // line) * line
