"""Bytes made of an input's planes lie pixel by pixel, as products of bytes read them.

    %2: u8[1,3,8,8] = cast(rint(mul(%0, 27.6))) to=u8
    %4: i32[1,4,4,16] = contract(window(%2) axes=(2, 3), %3) spec="nchwij,ijco->nhwo"
-->
    %1: f32[1,8,8,4] = pad(transpose(%0))
    %2: u8[1,8,8,4] = cast(rint(mul(%1, 27.6))) to=u8
    %4: i32[1,4,4,16] = contract(window(%2) axes=(1, 2), %3) spec="nhwcij,ijco->nhwo"

Products of floats read planes as they are. Instructions that multiply bytes take four neighbours
at once, and the kernel that makes the bytes can store them in any order. Three channels get a
fourth, whose weights are 0.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from brim.graph import Graph, Value, const, rewrite
from brim.ops import primitive as ops
from brim.ops.primitive import parse_spec
from brim.ops.registry import emit
from brim.types import I8, U8

GROUP = 4  # bytes that one instruction takes


def interleave(graph: Graph) -> Graph:
    """`graph`, of primitives, with planes of bytes that only one product reads interleaved."""
    uses = Counter(id(arg) for value in graph.values() for arg in value.args)
    uses.update(id(value) for value in graph.outputs.values())

    def rule(value: Value) -> Value | None:
        if value.op is None or value.op.name != "contract":
            return None
        for side in (0, 1):
            data, w = value.args[side], value.args[1 - side]
            if data.dtype in (I8, U8) and w.is_const and not data.is_const:
                found = _interleaved(data, w, _letters(value, side), uses)
                if found is not None:
                    data, w, letters = found
                    return emit(value.op, data, w, spec=letters)
        return None

    return rewrite(graph, rule)


def _letters(value: Value, side: int) -> tuple[str, str, str]:
    """Those of the data, the weights and the result."""
    specs = parse_spec(value.attrs["spec"])
    return specs[side], specs[1 - side], specs[2]


def _interleaved(
    data: Value, w: Value, letters: tuple[str, str, str], uses: Counter[int]
) -> tuple[Value, Value, str] | None:
    """Data, weights and spec of the same product of interleaved bytes; None: they are none."""
    path = []  # window, then pad
    root = data
    for name in ("window", "pad"):
        if root.op is not None and root.op.name == name and uses[id(root)] == 1:
            path.append(root)
            root = root.args[0]
    own, weights, out = letters
    rank = root.type.rank
    channels = [i for i in range(rank) if own[i] in weights and own[i] not in out]
    if len(channels) != 1 or channels[0] == rank - 1 or root.shape[channels[0]] == 1:
        return None
    (channel,) = channels
    perm = (*(i for i in range(rank) if i != channel), channel)
    count = root.shape[channel]
    more = GROUP - count if count < GROUP else 0
    laid = _rebuilt(root, perm, more, uses)
    if laid is None:
        return None
    for part in reversed(path):
        laid = _moved(part, laid, perm)
    letter = own[channel]
    ends = tuple(more if other == letter else 0 for other in weights)
    if more:
        w = const(np.pad(w.data, [(0, n) for n in ends]), w.where)  # type: ignore[arg-type]
    spec = "".join(own[i] for i in perm) + own[rank:]
    return laid, w, f"{spec},{weights}->{out}"


def _moved(part: Value, laid: Value, perm: tuple[int, ...]) -> Value:
    """A window or a pad of `laid`, whose axis i is axis perm[i] of the argument of `part`."""
    attrs = dict(part.attrs)
    if part.op.name == "window":  # type: ignore[union-attr]
        attrs["axes"] = tuple(perm.index(axis) for axis in attrs["axes"])
    else:
        attrs |= {side: tuple(attrs[side][i] for i in perm) for side in ("low", "high")}
    return emit(part.op, laid, **attrs)  # type: ignore[arg-type]


def _rebuilt(value: Value, perm: tuple[int, ...], more: int, uses: Counter[int]) -> Value | None:
    """What is computed number by number of an input, of the input transposed, its last axis then
    longer by `more`; None: it is computed otherwise, or somebody else reads parts of it."""
    if value.op is None:
        if value.is_const:
            return value if value.type.size == 1 else None
        laid = ops.transpose(value, perm=perm)
        none = (0,) * len(perm)
        return ops.pad(laid, low=none, high=(*none[1:], more), value=0) if more else laid
    if value.op.kind != "elementwise" or uses[id(value)] != 1:
        return None
    args = [_rebuilt(arg, perm, more, uses) for arg in value.args]
    if any(arg is None for arg in args):
        return None
    return emit(value.op, *args, **value.attrs)  # type: ignore[arg-type]
