"""Repeats in LLVM IR: a value that is replaced again and again by a function of itself.

Each round needs the loads of the round before, so a single repeat mostly waits. The lanes of a cell
are therefore made by scalar code, several of them side by side in one loop: their loads overlap,
and nothing branches on data. (Gather instructions were measured: on Zen 4 sixteen lanes of a
decision tree take them 1.3 times as long as scalar loads do.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from brim.kernels.axes import indices_of
from brim.kernels.cost import CHAINS
from brim.kernels.ir import Ref, Repeat, subexpressions
from brim.kernels.ranges import carried_interval
from brim.targets.access import Cell, Condition, State
from brim.targets.builder import Value, vector_of

if TYPE_CHECKING:
    from brim.targets.llvm import Emitter

# In more rounds than _LONG it pays to look after every _LOOK of them whether one changes anything.
_LONG, _LOOK = 12, 4

_Lane = tuple[State, Cell, "Condition | None"]


def repeat(
    emitter: Emitter, expr: Repeat, state: State, cell: Cell, condition: Condition | None
) -> Value:
    """The value after the last round: a scalar where the lanes agree, else a vector of them."""
    b, access = emitter.b, emitter.access
    lies = carried_interval(expr, emitter.kernel)
    lanes: list[_Lane] = []
    for lane in range(cell.active if _differs(expr, access.vector) else 1):
        env = access.lane_env(state.env, lane)
        holds = condition
        if condition is not None and condition.by_lane:
            holds = Condition(b.extract(condition.value, lane))
        here = replace(state, env=env, lane=lane)
        lanes.append((here, Cell(cell.offsets, 1, 1, cell.outer), holds))
    if cell.lanes == 1:
        lanes = [(state, cell, condition)]
    results: list[Value] = []
    for first in range(0, len(lanes), CHAINS):
        group = lanes[first : first + CHAINS]

        def step(values: list[Value], group: list[_Lane] = group) -> list[Value]:
            pairs = zip(values, group)
            inside = ((replace(at, carried=(v, lies)), one, holds) for v, (at, one, holds) in pairs)
            return [emitter.evaluate(expr.step, *lane) for lane in inside]

        shared, access.loads = access.loads, {}  # what the loop loads stays inside
        results += _rounds(
            emitter, expr.times, [emitter.evaluate(expr.start, *g) for g in group], step
        )
        access.loads = shared
    if len(results) == 1:
        return results[0]
    vector = b.zero(vector_of(results[0].type, cell.lanes))
    for lane, value in enumerate(results):
        vector = b.insert(vector, value, lane)
    return vector


def _rounds(
    emitter: Emitter,
    times: int,
    values: list[Value],
    step: Callable[[list[Value]], list[Value]],
) -> list[Value]:
    """The values after so many steps. Of many, the loop ends when one changes nothing any more."""
    b = emitter.b
    each = _LOOK if times > _LONG else 1
    with b.loop(b.index(0), b.index(times // each), carried=values, certain=True) as loop:
        now = loop.carried
        for _ in range(each):
            before, now = now, step(now)
        loop.next = now
        if each > 1:
            loop.stop = _unchanged(emitter, before, now)
    now = loop.results
    for _ in range(times % each):
        now = step(now)
    return now


def _differs(expr: Repeat, vector: str | None) -> bool:
    """Whether the lanes of a vector axis may have different values."""
    along = any(vector in index.strides for index in indices_of(expr))
    return along or any(isinstance(part, Ref) for part in subexpressions(expr))


def _unchanged(emitter: Emitter, before: list[Value], after: list[Value]) -> Value:
    """Whether a round changed nothing: then none of those that follow will."""
    b = emitter.b
    same = b.icmp("eq", before[0], after[0])
    for old, new in zip(before[1:], after[1:]):
        same = b.and_(same, b.icmp("eq", old, new))
    return same
