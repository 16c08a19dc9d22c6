"""Cotangents through `loop`: a loop that goes through the iterations in the opposite order.

    h = loop over t: tanh(h @ w)                 forward, which also stacks what follows reads:
                                                 each h before, and each tanh
    slope = loop over t from the end:            s = slope * (1 - tanh_t ** 2)
                                                 slope = s @ w^T; stacks s
    slope of w = contract(all h before, all s)   one product after the loop, not one per iteration

Forward it is the same loop with more rows; `brim.passes.loops` makes one of both. Where the number
of iterations is known at run time only, nothing can be stacked: each iteration then finds its state
by running those before it again, and adds up what `Sums` would take out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from brim.graph import Graph, Value, const, placeholder, substitute, topo
from brim.ops import primitive as ops
from brim.ops.control import loop, results_of
from brim.ops.movement import turned
from brim.passes.cond_gradient import Pullback, zeros
from brim.passes.flow import inputs_reached, slope_type
from brim.passes.loop_sums import Sums
from brim.types import BOOL, I64, Type


def loop_cotangents(
    value: Value, given: Sequence[Value | None], sources: Sequence[int], pullback: Pullback
) -> dict[int, Value]:
    """The cotangents of the arguments `sources` of a loop, by their number, from those of its
    results (None: 0)."""
    back = _backward(value, given, sources, pullback)
    return _running_again(back) if value.attrs["length"] is None else _by_rows(back)


@dataclass(frozen=True)
class _Backward:
    """One iteration backwards, over the inputs of the loop's body.

    carried: (number of a carried value, its cotangent after the iteration, before it, and that of
    the loop's result). rows: (cotangent of a row, those of all rows). captured: (number of an input
    of the body, what the iteration adds to its cotangent).
    """

    loop: Value
    carried: list[tuple[int, Value, Value, Value]]
    rows: list[tuple[Value, Value]]
    captured: list[tuple[int, Value]]

    @property
    def inputs(self) -> list[Value]:
        """The inputs of the body: iteration, condition, carried values, captured ones."""
        return list(self.loop.attrs["body"].inputs.values())

    @property
    def fixed(self) -> list[Value]:
        """The inputs of the body that are the same in all iterations."""
        return self.inputs[2 + self.loop.attrs["carried"] :]

    @property
    def results(self) -> list[Value]:
        return [*(part for _, _, part, _ in self.carried), *(part for _, part in self.captured)]


def _backward(
    value: Value, given: Sequence[Value | None], sources: Sequence[int], pullback: Pullback
) -> _Backward:
    """Which carried values have cotangents follows from the iteration: it is asked until no more
    are found."""
    body, carried = value.attrs["body"], value.attrs["carried"]
    inputs, outputs = list(body.inputs.values()), list(body.outputs.values())[1:]
    active = sorted(inputs_reached(value, sources))
    ends = {n: g for n, g in enumerate(given) if g is not None}
    seeds = {n: placeholder(slope_type(outputs[n].type)) for n in ends}
    while True:
        wrt = [inputs[i] for i in active]
        found = pullback([outputs[n] for n in seeds], list(seeds.values()), wrt)
        parts = {i: part for i, part in zip(active, found) if part is not None}
        more = [i - 2 for i in parts if i - 2 < carried and i - 2 not in seeds]
        if not more:
            break
        seeds.update((n, placeholder(slope_type(outputs[n].type))) for n in more)
        ends.update((n, zeros(outputs[n])) for n in more)
    states = [n for n in seeds if n < carried]
    return _Backward(
        value,
        [(n, seeds[n], parts.get(n + 2, zeros(outputs[n])), ends[n]) for n in states],
        [(seed, ends[n]) for n, seed in seeds.items() if n >= carried],
        [(i, part) for i, part in parts.items() if i - 2 >= carried],
    )


def _cotangents(
    back: _Backward, slopes: Sequence[Value], totals: Sequence[Value]
) -> dict[int, Value]:
    """By number of the loop's argument: those of carried values, then those of captured ones."""
    numbers = [*(n + 2 for n, *_ in back.carried), *(i for i, _ in back.captured)]
    return dict(zip(numbers, (*slopes, *totals)))


# ------------------------------------------------------------------ of known length


def _by_rows(back: _Backward) -> dict[int, Value]:
    """What an iteration backwards reads is stacked forward."""
    value, length = back.loop, back.loop.attrs["length"]
    states = back.inputs[: len(back.inputs) - len(back.fixed)]
    forward = {id(v) for v in topo(value.attrs["body"].outputs.values())}
    forward.update(map(id, back.inputs))
    seeds = [after for _, after, _, _ in back.carried] + [seed for seed, _ in back.rows]
    varying = _users(back.results, (*states, *seeds))
    wholes = {id(seed): whole for seed, whole in back.rows}
    sums = Sums(length, back.inputs[0], varying, forward, wholes)
    totals = [sums.of(part) for _, part in back.captured]
    added = [v for v, _ in sums.added.values() if sums.of_rows(v) is None]
    stacked = [v for v, _ in sums.stacked.values()]
    results = [*(before for _, _, before, _ in back.carried), *added, *stacked]

    number = placeholder(Type((), I64))
    iteration = ops.sub(const(np.int64(length - 1)), number)
    inside = {id(back.inputs[0]): iteration, id(back.inputs[1]): const(np.bool_(True))}
    reads = [(v, v) for v in back.fixed]  # what stands for a value inside, and the value outside
    for seed, whole in back.rows:
        reads.append((placeholder(whole.type), whole))
        inside[id(seed)] = ops.gather(reads[-1][0], iteration, axis=0)
    changing = _users(back.results, states[2:])
    for used in _frontier(results, forward):
        if sums.is_same(used) and _is_work(used):
            reads.append((placeholder(used.type), used))
            inside[id(used)] = reads[-1][0]
        elif id(used) in changing or (used not in states and _is_work(used)):
            rows = sums.save(used)
            reads.append((rows, rows))
            inside[id(used)] = ops.gather(rows, iteration, axis=0)
    slopes = [(after, end) for _, after, _, end in back.carried]
    slopes += [(placeholder(v.type), zeros(v)) for v in added]
    after = substitute(results, inside)
    for n in range(len(back.carried), len(slopes)):
        after[n] = ops.add(slopes[n][0], after[n])
    outer = {id(v): arg for v, arg in zip(back.fixed, value.args[len(states) :])}
    outer.update(_saved_rows(value, sums))
    wholes_read = substitute([whole for _, whole in reads], outer)
    reads = [(v, whole) for (v, _), whole in zip(reads, wholes_read)]
    found = _loop(number, slopes, reads, after, const(np.int64(length)), length)

    ends, rows_found = found[: len(slopes)], found[len(slopes) :]
    for v, rows in zip(stacked, rows_found):
        outer[id(sums.stacked[id(v)][1])] = turned(rows, 0)
    for v, end in zip(added, ends[len(back.carried) :]):
        outer[id(sums.added[id(v)][1])] = end
    for v, stand_in in sums.added.values():
        total = sums.of_rows(v)
        if total is not None:
            outer[id(stand_in)] = substitute([total], outer)[0]
    return _cotangents(back, ends[: len(back.carried)], substitute(totals, outer))


def _saved_rows(value: Value, sums: Sums) -> dict[int, Value]:
    """What stands for rows of values of a loop's body -> these rows, from the loop with more rows.

    The rows that it has already are not stacked again."""
    body, carried = value.attrs["body"], value.attrs["carried"]
    outputs = dict(body.outputs)
    numbers = {id(v): n for n, v in reversed([*enumerate(outputs.values())][1 + carried :])}
    for v, _ in sums.saved.values():
        if id(v) not in numbers:
            numbers[id(v)] = len(outputs)
            outputs[f"saved{len(outputs)}"] = v
    if not sums.saved:
        return {}
    attrs = {**value.attrs, "body": Graph(body.inputs, outputs, body.name), "empty": ()}
    found = results_of(loop(*value.args, **attrs))
    return {id(stand_in): found[numbers[id(v)] - 1] for v, stand_in in sums.saved.values()}


def _loop(
    number: Value,
    carried: Sequence[tuple[Value, Value]],
    captured: Sequence[tuple[Value, Value]],
    results: Sequence[Value],
    trips: Value,
    length: int | None,
) -> list[Value]:
    """The results of a loop whose body gives `results`. carried, captured: inputs of the body, each
    with what the loop is given for it; of the captured ones those that the body reads."""
    read = {id(v) for v in topo(results)}
    captured = [(inner, outside) for inner, outside in captured if id(inner) in read]
    names = {"iteration": number, "condition": placeholder(Type((), BOOL))}
    names.update((f"slope{n}", inner) for n, (inner, _) in enumerate(carried))
    names.update((f"captured{n}", inner) for n, (inner, _) in enumerate(captured))
    outputs = {f"slope{n}": result for n, result in enumerate(results)}
    body = Graph(names, {"again": const(np.bool_(True)), **outputs}, "backward")
    given = [outside for _, outside in (*carried, *captured)]
    start = const(np.bool_(True))
    return results_of(loop(trips, start, *given, body=body, carried=len(carried), length=length))


def _users(results: Iterable[Value], sources: Iterable[Value]) -> set[int]:
    """ids of the values that depend on `sources`, which are among them."""
    found = set(map(id, sources))
    for value in topo(results):
        if any(id(arg) in found for arg in value.args):
            found.add(id(value))
    return found


def _frontier(results: Sequence[Value], forward: Collection[int]) -> list[Value]:
    """The values of the forward body that `results` are computed from directly."""
    seen: dict[int, Value] = {}
    stack = list(results)
    found = []
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if id(value) in forward:
            found.append(value)
        else:
            stack += value.args
    return found


def _is_work(value: Value) -> bool:
    """Whether a value takes more than moving elements and counting to compute again."""
    return any(
        v.op is not None and v.op.kind not in ("move", "index", "source") and v.dtype.is_float
        for v in topo([value])
    )


# ------------------------------------------------------------------ of a length known at run time


def _running_again(back: _Backward) -> dict[int, Value]:
    """Iteration i of n, backwards from n - 1, runs the loop for i iterations to find its state."""
    value, inputs = back.loop, back.inputs
    body, carried = value.attrs["body"], value.attrs["carried"]
    states = inputs[2 : 2 + carried]
    number, count = placeholder(Type((), I64)), placeholder(Type((), I64))
    iteration = ops.sub(ops.sub(count, 1), number)
    starts = [placeholder(state.type) for state in states]
    again = dict(list(body.outputs.items())[: 1 + carried])
    attrs = {"carried": carried, "length": None}
    args = (iteration, const(np.bool_(True)), *starts, *back.fixed)
    found = results_of(loop(*args, body=Graph(body.inputs, again, body.name), **attrs))
    inside = {id(inputs[0]): iteration, id(inputs[1]): const(np.bool_(True))}
    inside.update((id(state), now) for state, now in zip(states, found))

    slopes = [(after, end) for _, after, _, end in back.carried]
    slopes += [(placeholder(part.type), zeros(part)) for _, part in back.captured]
    results = substitute(back.results, inside)
    for n in range(len(back.carried), len(slopes)):
        results[n] = ops.add(slopes[n][0], results[n])
    args = value.args[2:]
    reads = [(count, _count(value)), *zip((*starts, *back.fixed), args)]
    ends = _loop(number, slopes, reads, results, reads[0][1], None)
    return _cotangents(back, ends[: len(back.carried)], ends[len(back.carried) :])


def _count(value: Value) -> Value:
    """How many iterations a loop has: i64[]."""
    body, carried = value.attrs["body"], value.attrs["carried"]
    before = placeholder(Type((), I64))
    inputs, outputs = list(body.inputs.items()), list(body.outputs.items())[: 1 + carried]
    at = 2 + carried
    counted = Graph(
        dict([*inputs[:at], ("count", before), *inputs[at:]]),
        dict([*outputs, ("count", ops.add(before, 1))]),
        body.name,
    )
    args = (*value.args[:at], const(np.int64(0)), *value.args[at:])
    return results_of(loop(*args, body=counted, carried=carried + 1, length=None))[-1]
