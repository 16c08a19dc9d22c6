"""Checkpointing: what the backward pass needs of the forward pass is computed again, not kept.

    %1 = contract(%x, %w)             %1 = contract(%x, %w)
    %2 = tanh(%1)                     %2 = tanh(%1)
    loss: f(%2)                 -->   loss: f(%2)
    slope: g(%2)                      %3 = hold(%1)
                                      %4 = tanh(%3)
                                      slope: g(%4)

Values of the forward pass that others read live until the backward pass comes to them: that is most
of the memory of training. Here some of them are dropped, and made again from those that are kept
(Chen 2016, arXiv:1604.06174). A `hold` stands between, so that `simplify` does not take the two for
one; when the copies are made, `brim.kernels.order` says. Which values to keep, `choices` proposes,
from the cheapest on; what memory that takes, `brim.train.memory` measures. What is kept may be kept
in 16 bits: the forward pass computes with f32, and so do weights and gradients.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from brim.graph import Graph, Value, topo
from brim.ops import primitive as p
from brim.ops.storage import convert
from brim.types import F32, DType, Type

SMALL = 16  # what is so many times smaller than the largest value that is kept is not worth it
SEGMENTS = (12, 8, 6, 4, 3, 2)  # numbers of them that are tried
CHEAP = ("elementwise", "move")  # kinds
PURE = (*CHEAP, "source", "reduce", "contract", "composite", "index", "tiles", "untile", "walk")


def recompute(
    graph: Graph, loss: Collection[str], kept: Collection[int], dtype: DType = F32
) -> Graph:
    """The same graph; what the outputs `loss` do not need takes nothing of what they need but the
    values with these ids, the graph's inputs and constants, and makes again what follows.

    dtype: F32, or BF16 or F16, in which it then finds the f32 values that are kept.
    """
    forward = topo(graph.outputs[name] for name in loss)
    inside = {id(value) for value in forward}
    across = {id(value) for value in crossing(graph, loss)}
    wanted = across.difference(kept) if dtype == F32 else set(across)
    again = frozenset(wanted)
    for value in reversed(forward):  # and what these are made of
        if id(value) in wanted and id(value) not in kept and _is_made(value):
            wanted.update(id(arg) for arg in value.args)
    copies: dict[int, Value] = {}
    for value in forward:
        if id(value) in wanted and not value.is_const:
            ends = id(value) in kept or not _is_made(value)
            copies[id(value)] = _held(value, dtype) if ends else _with(value, copies)
    new = {i: copies[i] for i in again}
    for value in topo(graph.outputs.values()):
        if id(value) not in inside:
            new[id(value)] = _with(value, new)
    outputs = {n: v if id(v) in inside else new[id(v)] for n, v in graph.outputs.items()}
    return Graph(graph.inputs, outputs, graph.name, graph.state)


def crossing(graph: Graph, loss: Collection[str]) -> list[Value]:
    """What the outputs `loss` need and other values read, in the order in which it is made, if it
    is computed: most of the memory of a step of training."""
    forward = topo(graph.outputs[name] for name in loss)
    inside = {id(value) for value in forward}
    others = (v for v in topo(graph.outputs.values()) if id(v) not in inside)
    read = {id(arg) for value in others for arg in value.args}
    return [value for value in forward if id(value) in read and _is_made(value)]


def choices(graph: Graph, loss: Collection[str]) -> Iterator[frozenset[int]]:
    """Ids of values to keep: those that leave the least to be made again come first.

    What follows element by element from other values that are kept is dropped first: where only
    such operators read it, which costs nothing; half of it; all. Then all is dropped but what is
    small, and what lives at the borders of so many segments of the forward pass: products, too.
    """
    found = crossing(graph, loss)
    everything = frozenset(id(v) for v in found)
    least = max((v.type.bytes for v in found), default=0) // SMALL
    large = [v for v in found if v.type.bytes > least]
    stored = _read_from_memory(graph)
    free = _without_cheap([v for v in large if id(v) not in stored], everything, ends=1)
    yield free
    for part in (large[: len(large) // 2], large):
        yield _without_cheap([v for v in part if id(v) in free], free, ends=2)
    small = everything.difference(id(v) for v in large)
    forward = topo(graph.outputs[name] for name in loss)
    for count in SEGMENTS:
        yield small | _borders(forward, everything, count)


def _read_from_memory(graph: Graph) -> set[int]:
    """Ids of what others than elementwise operators and reductions read, moved or not."""
    found: set[int] = set()
    for value in reversed(graph.values()):
        if value.op is None or value.op.kind in ("elementwise", "reduce"):
            continue
        if value.op.kind != "move" or id(value) in found:
            found.update(id(arg) for arg in value.args)
    return found


def _without_cheap(large: list[Value], kept: frozenset[int], ends: int) -> frozenset[int]:
    """What is to keep if these values are dropped where they follow from others by elementwise
    operators and moves, and less has to be kept for that than they take themselves.

    ends: from how many large ones at most; or a sum of residuals would go back to the first.
    """
    for value in large:
        if value.op is None or value.op.kind not in CHEAP:
            continue
        found: dict[int, Value] = {}
        rest, seen = list(value.args), set()
        while rest:
            part = rest.pop()
            if id(part) in seen:
                continue
            seen.add(id(part))
            if id(part) in kept or part.op is None or part.op.kind not in (*CHEAP, "source"):
                found[id(part)] = part
            else:
                rest += part.args
        fresh = [v for i, v in found.items() if i not in kept and v.op is not None]
        few = sum(v.type.bytes * SMALL > value.type.bytes for v in found.values()) <= ends
        if few and sum(v.type.bytes for v in fresh) < value.type.bytes:
            kept = kept - {id(value)} | {id(v) for v in fresh}
    return kept


def _borders(forward: list[Value], found: frozenset[int], count: int) -> frozenset[int]:
    """Ids of what lives between segments of the forward pass that have about equal parts of the
    values of `found`, cut where least lives."""
    last = {id(arg): i for i, value in enumerate(forward) for arg in value.args}
    size = [v.type.bytes if _is_made(v) else 0 for v in forward]
    live, done = [0], [0]  # bytes that live after each value; bytes of `found` up to it
    ends: dict[int, int] = {}
    for i, value in enumerate(forward):
        end = last.get(id(value), i)
        ends[end] = ends.get(end, 0) + size[i]
        live.append(live[-1] + size[i] - ends.get(i, 0))
        done.append(done[-1] + size[i] * (id(value) in found))
    kept: set[int] = set()
    for border in range(1, count):
        low, high = (done[-1] * (border + side) / count for side in (-0.4, 0.4))
        near = [i for i in range(1, len(live)) if low <= done[i] <= high]
        if near:
            cut = min(near, key=live.__getitem__)
            before = forward[:cut]
            kept.update(id(v) for v in before if _is_made(v) and last.get(id(v), -1) >= cut)
    return frozenset(kept)


def _held(value: Value, dtype: DType) -> Value:
    """A value as it is kept, f32 ones in `dtype`."""
    if dtype == F32 or value.dtype != F32 or not _is_made(value):
        return p.hold(value)
    return convert(p.hold(convert(value, dtype)), F32)


def _is_made(value: Value) -> bool:
    """Whether a value is computed, by what may be computed twice."""
    return (
        value.op is not None
        and value.op.kind in PURE
        and isinstance(value.type, Type)
        and value.type.is_static
        and not value.dtype.is_object
    )


def _with(value: Value, new: dict[int, Value]) -> Value:
    """The value, of arguments in place of which others stand."""
    args = tuple(new.get(id(arg), arg) for arg in value.args)
    if all(a is b for a, b in zip(args, value.args)):
        return value
    return Value(value.op, args, value.attrs, value.type, value.data, value.where)
