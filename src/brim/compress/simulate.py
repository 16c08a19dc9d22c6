"""A scheme in floats: numbers are rounded to what integers could stand for, and stay floats.

Such a graph gives what the integers' graph gives, up to the rounding of sums, and can be asked for
values in between and for gradients. What is made of a scheme in the end is in `integers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from brim.compress.points import Layer, roots
from brim.compress.scheme import ACTIVATIONS, Quant, Scheme
from brim.graph import Graph, Value, const, substitute, users
from brim.ops import primitive as p
from brim.ops.registry import at, emit
from brim.passes.autodiff import gradient

STEEPEST = 1e30  # of a derivative's square that is taken for one


def rounded(x: Value, quant: Quant) -> Value:
    """The real numbers nearest to x that u8 can stand for, f32."""
    units = p.rint(p.mul(x, 1 / quant.scale))
    units = p.minimum(p.maximum(units, float(-quant.zero)), float(ACTIVATIONS - quant.zero))
    return p.mul(units, quant.scale)


def rounded_data(layer: Layer, scheme: Scheme) -> Value:
    """What a layer reads, rounded where it was stored; all before that is as it was."""
    data = layer.value.args[layer.data]
    stored = {id(root): root for root in roots(data) if id(root) in scheme.activations}
    new = {key: rounded(root, scheme.activations[key]) for key, root in stored.items()}
    return substitute([data], new)[0]


def passed(graph: Graph, layer: Layer, scheme: Scheme) -> Value:
    """How much of a small difference in a layer's results is left where they are stored next: the
    square of the derivative, of the results' shape. 0 where a ReLU is closed, 1 where it is open;
    0, too, where it is not finite, as that of sqrt at 0.
    """
    around = users(graph)
    ends: list[Value] = []
    stack, seen = [layer.value], {id(layer.value)}
    while stack:
        value = stack.pop()
        after = around.get(id(value), [])
        if id(value) in scheme.activations or not all(_is_pointwise(user) for user in after):
            ends.append(value)
            continue
        if not after:
            ends.append(value)
        new = [user for user in after if id(user) not in seen]
        seen.update(map(id, new))
        stack.extend(new)
    slopes = [gradient(end, [layer.value])[0] for end in ends if end.dtype.is_float]
    total, *others = (p.mul(slope, slope) for slope in slopes)
    for other in others:
        total = p.add(total, other)
    return p.select(p.lt(total, STEEPEST), total, const(np.float32(0)))  # NaN is not less


def _is_pointwise(value: Value) -> bool:
    return value.op is not None and value.op.kind == "elementwise"


def simulated(graph: Graph, layers: Iterable[Layer], scheme: Scheme) -> Mapping[int, Value]:
    """id of each value of `graph` -> the one in its place, all that `scheme` says being rounded.

    Outputs that are stored are rounded, too.
    """
    of_value = {id(layer.value): layer for layer in layers}
    new: dict[int, Value] = {}
    for value in graph.values():
        args = [new[id(arg)] for arg in value.args]
        found, layer = value, of_value.get(id(value))
        weights = scheme.weights.get(id(value))
        with at(value.where):
            if layer is not None and weights is not None:
                args[layer.side] = const(weights.real)
            if any(a is not b for a, b in zip(args, value.args)):
                found = emit(value.op, *args, **value.attrs)  # type: ignore[arg-type]
            if layer is not None and weights is not None and weights.shift is not None:
                found = p.add(found, const(weights.shift))
            if id(value) in scheme.activations:
                found = rounded(found, scheme.activations[id(value)])
        new[id(value)] = found
    return new
