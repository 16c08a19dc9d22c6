"""How rows walk through decision trees, as kernel expressions: `descend` and `follow` of ops.trees.

Both are repeats of one step from a node to its child. All tables are read where they are stored.
"""

from __future__ import annotations

from collections.abc import Callable

from brim.graph import Value
from brim.kernels.affine import ZERO, Position, combine
from brim.kernels.ir import At, Carried, Do, Expr, Gather, Index, Iota, Num, Repeat
from brim.kernels.steps import View
from brim.types import BOOL, I32

_NODE = Carried(I32)


def walk(value: Value, position: Position, stored: Callable[[Value], View]) -> Expr:
    """The leaf that a row reaches in a tree: the element of `value` at the position (row, tree)."""
    assert value.op is not None
    row, tree = position
    x, feature, threshold, *links = value.args
    complete = value.op.name == "descend"

    def look(table: Value, index: Expr) -> Expr:
        """What a table holds at a node; of complete trees, in the row of this tree."""
        view, size = stored(table), table.shape[-1]
        start = view.index((tree, ZERO)) if complete else Index((), view.offset)
        return At(view.buffer, start, (Gather(index, view.strides[-1], size),))

    place = stored(x)
    chosen = Gather(look(feature, _NODE), place.strides[1], x.shape[1])
    number = At(place.buffer, place.index((row, ZERO)), (chosen,))
    right = _not(Do("le", (number, look(threshold, _NODE)), BOOL))
    if complete:
        depth = value.attrs["depth"]
        first = _sum(Do("mul", (_NODE, Num(2, I32)), I32), Num(1, I32))
        found = Repeat(Num(0, I32), _sum(first, right), depth)
        # leaves follow the 2**depth - 1 other nodes of a tree, and each other from tree to tree
        return _sum(found, Iota(combine([(tree, 2**depth)], 1 - 2**depth), I32))
    child, root = links
    roots = stored(root)
    start = _as_node(At(roots.buffer, roots.index((tree,))), root)
    step = _sum(_as_node(look(child, _NODE), child), right)
    return Repeat(start, step, value.attrs["steps"])


def _not(condition: Expr) -> Expr:
    return Do("cast", (Do("bit_not", (condition,), BOOL),), I32)


def _sum(a: Expr, b: Expr) -> Expr:
    return Do("add", (a, b), I32)


def _as_node(expr: Expr, table: Value) -> Expr:
    return expr if table.dtype == I32 else Do("cast", (expr,), I32)
