"""Semi-automatic search, first half: which body of a composite is cheapest on a target.

A composite may have several bodies of one meaning (`conv` and its Winograd forms). Each is lowered
by itself, its kernels get their best schedules, and the sum of their predicted times decides:
nothing is measured, nothing is a rule about layers. Schedules are `kernels.schedule`.
"""

from __future__ import annotations

import math

import numpy as np

from brim.graph import Graph, Op, Value, const, placeholder
from brim.kernels.lower import lower
from brim.kernels.schedule import choose
from brim.kernels.steps import KernelStep
from brim.ops.registry import may_be_const
from brim.passes.expand import expand, variants
from brim.passes.simplify import simplify
from brim.targets.target import Target
from brim.types import Type

MOST = 1 << 28  # bytes


def settle(graph: Graph, target: Target, exact: bool = False) -> Graph:
    """The graph with primitives only: of each composite the body with the lowest price.

    exact: only bodies that round as the composite's own does.
    """
    if all(value.op is None or value.op.body is None for value in graph.values()):
        return graph
    if exact:
        return simplify(expand(graph))
    chosen: dict[tuple, Op | None] = {}

    def cheapest(value: Value) -> Op | None:
        bodies: list[Op | None] = [None, *variants(value)]
        args = tuple((arg.type, arg.is_const) for arg in value.args)
        key = (value.op, args, tuple(sorted(value.attrs.items())))
        if len(bodies) > 1 and key not in chosen:
            chosen[key] = min(bodies, key=lambda body: price(value, body, target))
        return chosen.get(key)

    return simplify(expand(graph, choose=cheapest))


def price(value: Value, body: Op | None, target: Target) -> float:
    """Predicted seconds of a composite computed by `body`; None: by its own.

    What follows from constants alone is free. Infinite where a variant would need more than MOST
    bytes for what it stores in between.
    """
    args = [_stand_in(arg) for arg in value.args]
    inputs = {f"x{i}": arg for i, arg in enumerate(args) if not arg.is_const}
    made = (body or value.op).body(*args, **value.attrs)  # type: ignore[union-attr, misc]
    lowered = lower(expand(Graph(inputs, {"y": made})))
    temporary = [b.size * b.dtype.bytes for b in lowered.buffers.values() if b.kind == "temp"]
    if body is not None and sum(temporary) > MOST:
        return math.inf
    kernels = [step.kernel for step in lowered.steps if isinstance(step, KernelStep)]
    return sum(choose(kernel, target)[1][0][0] for kernel in kernels)


def _stand_in(arg: Value) -> Value:
    assert isinstance(arg.type, Type)
    if not arg.is_const or not may_be_const(arg.type):
        return placeholder(arg.type)
    return const(np.zeros(arg.shape, arg.dtype.numpy))
