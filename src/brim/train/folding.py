"""Scales and shifts by weights move into the product before them, as expressions of these weights.

    %2 = conv(%x, %w)                          %1 = mul(%w, div(%gamma, sqrt(add(%var, 1e-05))))
    %3 = batch_norm(%2, %gamma, ...)   -->     %2 = conv(%x, %1)
                                               %3 = add(%2, sub(%beta, mul(%mean, ...)))

What `passes.batchnorm` does with constants. The weights keep their names and contents, gradients
reach all of them, and what is quantized is what integers will multiply by: the folded weights
(Jacob 2018, arXiv:1712.05877, section 3.2, with running statistics; docs/why/031).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from brim.graph import Graph, Value
from brim.ops import primitive as p
from brim.ops.registry import at, emit
from brim.passes.batchnorm import channels
from brim.passes.expand import expand_certain
from brim.passes.simplify import simplify
from brim.types import Type


def settled(graph: Graph, weights: Collection[str]) -> set[int]:
    """ids of the values that no data changes: constants, weights, and what follows of these."""
    found = {id(graph.inputs[name]) for name in weights}
    for value in graph.values():
        follows = value.op is not None and all(id(arg) in found for arg in value.args)
        if value.is_const or (follows and value.op.kind not in ("host", "control")):  # type: ignore[union-attr]
            found.add(id(value))
    return found


@dataclass(frozen=True, eq=False)
class _Product:
    """A product that nothing else reads, of weights on `side`, plus a shift that is settled.

    axes: result axis -> axis of the weights.
    """

    value: Value
    side: int
    axes: dict[int, int]
    shift: Value | None = None


def fold_scales(graph: Graph, weights: Collection[str]) -> Graph:
    """The graph in primitives, with what scales and shifts a product's channels folded into it.

    weights: names of the inputs that are weights. Only where nothing else reads the product.
    """
    graph = simplify(expand_certain(graph, keep=("pruned",)))
    known, uses = settled(graph, weights), dict[int, int]()
    for value in (*(a for v in graph.values() for a in v.args), *graph.outputs.values()):
        uses[id(value)] = uses.get(id(value), 0) + 1
    new: dict[int, Value] = {}
    products: dict[int, _Product] = {}  # by id of the old value
    for value in graph.values():
        args = [new[id(arg)] for arg in value.args]
        made = value
        if any(a is not b for a, b in zip(args, value.args)):
            made = Value(value.op, tuple(args), value.attrs, value.type, value.data, value.where)
        with at(value.where):
            product = _product(value, made, known) or _extended(value, args, products, known)
        if product is not None:
            made = _with_shift(product)
            if uses.get(id(value)) == 1:
                products[id(value)] = product
        new[id(value)] = made
    outputs = {name: new[id(value)] for name, value in graph.outputs.items()}
    return simplify(Graph(graph.inputs, outputs, graph.name, graph.state))


def _product(old: Value, value: Value, known: Collection[int]) -> _Product | None:
    if value.op is None or not isinstance(value.type, Type) or not value.dtype.is_float:
        return None
    sides = [i for i, arg in enumerate(old.args) if id(arg) in known]
    axes = channels(value, sides[0]) if len(sides) == 1 else None
    return None if axes is None else _Product(value, sides[0], axes)


def _extended(
    old: Value, args: list[Value], products: dict[int, _Product], known: Collection[int]
) -> _Product | None:
    """The product that a value is, if it scales or shifts one by what is settled, per channel."""
    if old.op is None or old.op.name not in ("add", "sub", "mul", "div"):
        return None
    name = old.op.name
    sides = (0,) if name in ("sub", "div") else (0, 1)
    side = next((i for i in sides if id(old.args[i]) in products), None)
    if side is None or id(old.args[1 - side]) not in known:
        return None
    product, other = products[id(old.args[side])], args[1 - side]
    rank = old.type.rank
    shape = (1,) * (rank - other.type.rank) + other.shape
    if old.args[side].type != old.type:
        return None
    if any(n != 1 and axis not in product.axes for axis, n in enumerate(shape)):
        return None
    shift = product.shift
    if name in ("add", "sub"):
        moved = p.neg(other) if name == "sub" else other
        shift = moved if shift is None else p.add(shift, moved)
        return _Product(product.value, product.side, product.axes, shift)
    factor = p.div(1.0, other) if name == "div" else other
    operands = list(product.value.args)
    weights = operands[product.side]
    operands[product.side] = p.mul(weights, _along(factor, shape, product.axes, weights.type.rank))
    with at(product.value.where):
        scaled = emit(product.value.op, *operands, **product.value.attrs)  # type: ignore[arg-type]
    shift = None if shift is None else p.mul(shift, factor)
    return _Product(scaled, product.side, product.axes, shift)


def _along(part: Value, shape: tuple[int, ...], axes: dict[int, int], rank: int) -> Value:
    """Numbers that broadcast to a product as `shape` does, with their axes where weights have
    them."""
    present = [axis for axis, n in enumerate(shape) if n != 1]
    order = sorted(present, key=lambda axis: axes[axis])
    part = p.reshape(part, shape=tuple(shape[axis] for axis in present))
    part = p.transpose(part, perm=tuple(present.index(axis) for axis in order))
    sizes = {axes[axis]: shape[axis] for axis in order}
    return p.reshape(part, shape=tuple(sizes.get(axis, 1) for axis in range(rank)))


def _with_shift(product: _Product) -> Value:
    if product.shift is None:
        return product.value
    with at(product.value.where):
        return p.add(product.value, product.shift)
