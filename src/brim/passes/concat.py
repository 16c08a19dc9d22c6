"""Concats that grow: a concat whose first operands are another concat becomes a concat of that one.

    %3 = concat(%0, %1) axis=3
    %5 = concat(%0, %1, %4) axis=3
-->
    %3 = concat(%0, %1) axis=3
    %5 = concat(%3, %4) axis=3

Lowering stores operands in place, but a value has only one place. Networks that concatenate all
earlier layers again and again (DenseNet) would copy each of them; nested, each is stored once.
"""

from __future__ import annotations

from brim.graph import Graph, Value, rewrite
from brim.ops import primitive as ops


def nest_concats(graph: Graph) -> Graph:
    """Reuses the longest earlier concat that a concat begins with."""
    known: dict[tuple[int, tuple[int, ...]], Value] = {}

    def rule(value: Value) -> Value | None:
        if value.op is None or value.op.name != "concat":
            return None
        axis, args = value.attrs["axis"], value.args
        for count in range(len(args) - 1, 1, -1):
            found = known.get((axis, tuple(id(a) for a in args[:count])))
            if found is not None:
                nested = ops.concat(found, *args[count:], axis=axis)
                known[axis, tuple(id(a) for a in args)] = nested
                return nested
        known[axis, tuple(id(a) for a in args)] = value
        return None

    return rewrite(graph, rule)
