"""Which body of a composite is cheapest on a target.

A composite may have several bodies of one meaning (`conv` and its Winograd forms). Each is lowered
by itself, its kernels get their best schedules, and the sum of their times decides: nothing is a
rule about layers.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from brim.graph import Graph, Op, Value, const, placeholder
from brim.kernels.dots import is_paired
from brim.kernels.ir import Kernel
from brim.kernels.lower import lower
from brim.ops.registry import may_be_const
from brim.passes.expand import expand, variants
from brim.passes.simplify import simplify
from brim.passes.subgraphs import inside
from brim.passes.tables import tabulate
from brim.search.choice import Search
from brim.types import I8, Type

MOST = 1 << 28  # bytes


def settle(graph: Graph, search: Search, exact: bool = False) -> Graph:
    """The graph with primitives only: of each composite the body with the lowest price.

    exact: only bodies that round as the composite's own does. Sub-graphs are settled, too.
    """
    graph = inside(graph, lambda body: settle(body, search, exact))
    if any(value.op is not None and value.op.body is not None for value in graph.values()):
        graph = _settled(graph, search, exact)
    return tabulate(graph, search.target)


def _settled(graph: Graph, search: Search, exact: bool) -> Graph:
    if exact:
        return simplify(expand(graph))
    chosen: dict[tuple, Op | None] = {}

    def cheapest(value: Value) -> Op | None:
        if not variants(value):
            return None
        if (key := kind(value)) not in chosen:
            chosen[key] = min(bodies(value), key=lambda body: price(value, body, search))
        return chosen[key]

    return simplify(expand(graph, choose=cheapest))


def bodies(value: Value) -> list[Op | None]:
    """What a composite may be computed by. None: its own body."""
    return [None, *variants(value)]


def kind(value: Value) -> tuple:
    """What a composite's bodies and their prices depend on."""
    args = tuple(_read_as(arg) for arg in value.args)
    names = tuple(op.name for op in variants(value))
    return (value.op, args, tuple(sorted(value.attrs.items())), names)


def price(value: Value, body: Op | None, search: Search) -> float:
    """Seconds of a composite computed by `body`, infinite where it is out of the question."""
    kernels = kernels_of(value, body)
    return math.inf if kernels is None else sum(search.best(k).seconds for k in kernels)


def kernels_of(value: Value, body: Op | None) -> list[Kernel] | None:
    """The kernels of a composite computed by `body`; what follows from constants alone has none.

    None where a variant would need more than MOST bytes for what it stores in between.
    """
    known: dict[int, Value] = {}
    args = [_stand_in(arg, known) for arg in value.args]
    inputs = {f"x{i}": v for i, v in enumerate(known.values()) if v.op is None and not v.is_const}
    made = (body or value.op).body(*args, **value.attrs)  # type: ignore[union-attr, misc]
    lowered = lower(expand(Graph(inputs, {"y": made})))
    temporary = [b.size * b.dtype.bytes for b in lowered.buffers.values() if b.kind == "temp"]
    if body is not None and sum(temporary) > MOST:
        return None
    return [step.kernel for step, times in lowered.kernel_steps() for _ in range(times)]


def _is_paired(arg: Value) -> bool:
    """Whether instructions that add pairs of products may take these weights[.., C, O]."""
    if arg.data is None or arg.type.dtype != I8 or arg.type.rank < 2:
        return False
    return is_paired(np.moveaxis(arg.data, -2, -1))


def _is_moved(arg: Value) -> bool:
    """Whether a value is read where another one lies, in another order."""
    return arg.op is not None and arg.op.kind == "move" and len(arg.args) == 1


def _read_as(arg: Value) -> tuple:
    """What the kernels that read an argument depend on."""
    if _is_moved(arg):
        return (arg.op, tuple(sorted(arg.attrs.items())), _read_as(arg.args[0]))
    return (arg.type, arg.is_const, _is_paired(arg))


def _stand_in(arg: Value, known: dict[int, Value]) -> Value:
    """A value of the same type, read in the same way: kernels depend on no numbers, but for
    integers. known: id(argument) -> what stands for it."""
    if id(arg) not in known:
        if _is_moved(arg):
            moved = (_stand_in(arg.args[0], known),)
            known[id(arg)] = replace(arg, args=moved)
        else:
            known[id(arg)] = _leaf(arg)
    return known[id(arg)]


def _leaf(arg: Value) -> Value:
    """A value of the same type that nothing computes."""
    assert isinstance(arg.type, Type)
    if not arg.is_const or not may_be_const(arg.type):
        return placeholder(arg.type)
    if arg.dtype.is_integer:
        return arg  # kernels know the largest of those to look up by, and of pairs of weights
    data = np.zeros(arg.shape, arg.dtype.numpy)
    data.reshape(-1)[:1] = 1  # small constants of one number would stand in the kernel's text
    return const(data)
