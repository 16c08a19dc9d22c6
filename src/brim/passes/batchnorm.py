"""Batch-norm folding: scales and shifts by constants per channel move into weights and biases.

    %2: f32[1,9,9,8] = conv(%0, %w) stride=(1, 1) ...
    %3: f32[1,9,9,8] = add(%2, %bias)
    %4: f32[1,9,9,8] = batch_norm(%3, %scale, %shift, %mean, %variance) epsilon=1e-05
-->
    %2: f32[1,9,9,8] = conv(%0, %w') stride=(1, 1) ...
    %3: f32[1,9,9,8] = add(%2, %bias')

conv(x, w) * s + t = conv(x, w * s) + t up to rounding: the constants of a whole chain are gathered
in f64 and rounded once. Only where nothing else reads the convolution or its weights. Run it after
`layout`, which brings the convolution and its norm next to each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brim.graph import Graph, Value, const
from brim.ops import primitive as ops
from brim.ops.primitive import parse_spec
from brim.ops.registry import at, emit
from brim.passes.subgraphs import inside
from brim.types import Type


@dataclass(frozen=True)
class _Product:
    """A convolution or contraction, times `scale`, plus `shift` (f64, of the result's rank).

    side: which argument is the weights. axes: result axis -> the axis of the weights it comes from.
    """

    base: Value
    side: int
    axes: dict[int, int]
    scale: np.ndarray
    shift: np.ndarray


def fold_batchnorm(graph: Graph) -> Graph:
    """Moves every scale and shift that can be folded into the weights and bias before it."""
    graph = inside(graph, fold_batchnorm)
    values = graph.values()
    uses: dict[int, int] = {}
    for value in (*(arg for v in values for arg in v.args), *graph.outputs.values()):
        uses[id(value)] = uses.get(id(value), 0) + 1
    new: dict[int, Value] = {}
    products: dict[int, _Product] = {}  # those that only one value reads, by id of the old value
    for value in values:
        args = tuple(new[id(arg)] for arg in value.args)
        moved = value
        if any(a is not b for a, b in zip(args, value.args)):
            moved = Value(value.op, args, value.attrs, value.type, value.data, value.where)
        product = _product(moved, [uses[id(arg)] for arg in value.args])
        if product is None and (product := _extended(value, products)):
            with at(value.where):
                moved = _build(product)
        if product and uses.get(id(value)) == 1:
            products[id(value)] = product
        new[id(value)] = moved
    outputs = {name: new[id(value)] for name, value in graph.outputs.items()}
    return Graph(graph.inputs, outputs, graph.name, graph.state)


def _product(value: Value, uses: list[int]) -> _Product | None:
    """`value` as the start of a chain: a product with constant weights that nothing else reads."""
    if value.op is None or not isinstance(value.type, Type) or not value.dtype.is_float:
        return None
    side = 0 if value.op.name == "contract" and not value.args[1].is_const else 1
    axes = channels(value, side)
    if axes is None or not value.args[side].is_const or uses[side] != 1:
        return None
    one = np.ones((1,) * value.type.rank)
    return _Product(value, side, axes, one, 0 * one)


def channels(value: Value, side: int) -> dict[int, int] | None:
    """Result axis -> the axis of the weights, argument `side`, that it comes from; None: no
    product."""
    match value.op.name:  # type: ignore[union-attr]
        case "conv" | "conv_transpose":
            return {value.type.rank - 1: value.args[1].type.rank - 1}
        case "contract":
            *sources, out = parse_spec(value.attrs["spec"])
            return {i: sources[side].index(c) for i, c in enumerate(out) if c in sources[side]}
    return None


def _extended(value: Value, products: dict[int, _Product]) -> _Product | None:
    """The product that `value` is, if it scales and shifts one by constants per channel."""
    x = next((arg for arg in value.args if id(arg) in products), None)
    if x is None or x.type != value.type:
        return None
    product = products[id(x)]
    affine = _affine(value, x)
    if affine is None:
        return None
    parts = []
    for part in affine:
        part = part.reshape((1,) * (value.type.rank - part.ndim) + part.shape)
        if any(n != 1 and axis not in product.axes for axis, n in enumerate(part.shape)):
            return None
        if not np.isfinite(part).all():
            return None
        parts.append(part)
    scale, shift = parts
    return _Product(
        product.base,
        product.side,
        product.axes,
        product.scale * scale,
        product.shift * scale + shift,
    )


def _affine(value: Value, x: Value) -> tuple[np.ndarray, np.ndarray] | None:
    """(scale, shift) in f64 such that value = x * scale + shift; None if it is not of that form."""
    others = [arg for arg in value.args if arg is not x]
    if value.op is None or len(others) != len(value.args) - 1:
        return None
    if not all(arg.data is not None and arg.dtype.is_float for arg in others):
        return None
    c = [arg.data.astype(np.float64) for arg in others]  # type: ignore[union-attr]
    first = value.args[0] is x
    one, zero = np.ones(()), np.zeros(())
    with np.errstate(all="ignore"):
        match value.op.name:
            case "add":
                return one, c[0]
            case "sub":
                return (one, -c[0]) if first else (-one, c[0])
            case "mul":
                return c[0], zero
            case "div" if first:
                return 1 / c[0], zero
            case "neg":
                return -one, zero
            case "batch_norm" if first:
                scale, shift, mean, variance = c
                factor = scale / np.sqrt(variance + value.attrs["epsilon"])
                return factor, shift - mean * factor
    return None


def _build(product: _Product) -> Value:
    """The product with its scale in the weights, plus its shift."""
    args = list(product.base.args)
    weights = args[product.side]
    assert weights.data is not None
    if (product.scale != 1).any():
        scaled = np.empty_like(weights.data)  # no copy of the weights in f64
        np.multiply(weights.data, _along(product), out=scaled, casting="same_kind")
        args[product.side] = const(scaled, weights.where)
        with at(product.base.where):  # it goes on being called after the product
            result = emit(product.base.op, *args, **product.base.attrs)  # type: ignore[arg-type]
    else:
        result = product.base
    if (product.shift != 0).any():
        shift = product.shift.astype(result.dtype.numpy)
        result = ops.add(result, const(shift.reshape(_trimmed(shift.shape))))
    return result


def _along(product: _Product) -> np.ndarray:
    """The scale with its axes where the weights have them."""
    rank = product.base.args[product.side].type.rank
    present = [axis for axis, n in enumerate(product.scale.shape) if n != 1]
    order = sorted(present, key=lambda axis: product.axes[axis])
    packed = product.scale.reshape([product.scale.shape[axis] for axis in present])
    packed = packed.transpose([present.index(axis) for axis in order])
    shape = [1] * rank
    for axis in order:
        shape[product.axes[axis]] = product.scale.shape[axis]
    return packed.reshape(shape)


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without its leading 1s, which broadcasting supplies."""
    lead = next((i for i, n in enumerate(shape) if n != 1), len(shape))
    return shape[lead:]
