"""Automatic differentiation: a reverse walk that asks each operator for its cotangents.

    %1: f32[3] = mul(%0, %0)
    %2: f32[1] = reduce(%1) op="add" axes=(0,)
--> gradient(%2, [%0]):
    %3: f32[3] = broadcast(1.0) shape=(3,)
    %4: f32[3] = mul(%3, %0)
    %5: f32[3] = add(%4, %4)

The gradient is made of ordinary values: it can be simplified, expanded, compiled and differentiated
again. Composites without a gradient of their own are differentiated through their bodies. Training
loops and optimisers are not here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brim.errors import OpError, UnsupportedError
from brim.graph import Value, const, placeholder, substitute, topo
from brim.ops import primitive as ops
from brim.ops.elementwise import flat
from brim.ops.registry import at
from brim.passes.cond_gradient import cond_cotangents, zeros
from brim.passes.flow import Key, body_of, flows, key_of, missing, reach, slope_type, types_of
from brim.passes.loop_gradient import loop_cotangents


def gradient(loss: Value, wrt: list[Value]) -> list[Value]:
    """d(sum of loss) / d(value) for each value of `wrt`, of that value's type (f32 for a storage
    type, which is not computed with).

    Zeros for what no slope reaches. Raises as `slopes` does.
    """
    return [zeros(v) if part is None else part for v, part in zip(wrt, slopes(loss, wrt))]


def slopes(loss: Value, wrt: list[Value]) -> list[Value | None]:
    """`gradient`, but None for what no slope reaches: the loss does not depend on it, or only by
    roundings and comparisons.

    Raises OpError if the loss is not a float, and UnsupportedError that names every operator
    without gradient on the way from `wrt` to the loss.
    """
    for value in (loss, *wrt):
        if isinstance(value.type, tuple) or not (value.type.is_static and flows(value.type)):
            raise OpError(f"{value!r} cannot be differentiated", "its type is not a static float")
    lacking = missing([loss], wrt)
    if lacking:
        raise UnsupportedError(
            f"no gradient for {'; '.join(sorted(lacking))}",
            "they lie between the loss and what it is to be differentiated by",
            "; ".join(dict.fromkeys(where for where in lacking.values() if where)) or loss.where,
        )
    wide = slope_type(loss.type)
    return pullback([loss], [const(np.ones(wide.dims, wide.dtype.numpy))], wrt)


def pullback(
    outputs: Sequence[Value], seeds: Sequence[Value], wrt: Sequence[Value]
) -> list[Value | None]:
    """The cotangents of `wrt`, given those of the outputs; None where nothing depends on them."""
    order = topo(outputs)
    reached = reach(order, wrt)
    parts: dict[Key, list[Value]] = {}
    for value, seed in zip(outputs, seeds):
        parts.setdefault(key_of(value), []).append(seed)
    for value in reversed(order):
        if value.op is None or value.op.name == "item" or value.op.grad is flat:
            continue
        sources = [i for i, arg in enumerate(value.args) if key_of(arg) in reached]
        keys = [(id(value), number) for number in range(len(types_of(value)))]
        if not sources or not any(key in parts and key in reached for key in keys):
            continue
        with at(value.where):
            given = [total(parts[k]) if k in parts and k in reached else None for k in keys]
            for i, part in _cotangents_of_args(value, given, sources).items():
                parts.setdefault(key_of(value.args[i]), []).append(part)
    return [total(parts[key]) if (key := key_of(value)) in parts else None for value in wrt]


def _cotangents_of_args(
    value: Value, given: list[Value | None], sources: list[int]
) -> dict[int, Value]:
    """By number of the argument, for those of `sources` that the results with a cotangent use."""
    op = value.op
    assert op is not None
    if op.name == "cond":
        return cond_cotangents(value, given, sources, pullback)
    if op.name == "loop":
        return loop_cotangents(value, given, sources, pullback)
    if op.grad is None:
        (g,) = given
        assert g is not None
        return _through_body(value, g, sources)
    parts = op.grad(given if len(given) > 1 else given[0], value, *value.args, **value.attrs)
    for i in sources:
        if parts[i] is None:
            raise UnsupportedError(
                f"no gradient for {op.name} with {dict(value.attrs)}",
                f"argument {i} of {value!r} has none",
                value.where,
            )
    return {i: parts[i] for i in sources}


def _through_body(value: Value, g: Value, sources: list[int]) -> dict[int, Value]:
    body, inner = body_of(value)
    seed = placeholder(g.type)
    found = pullback([body], [seed], [inner[i] for i in sources])
    outer = {id(stand_in): arg for stand_in, arg in zip((*inner, seed), (*value.args, g))}
    used = [(i, part) for i, part in zip(sources, found) if part is not None]
    return dict(zip((i for i, _ in used), substitute((part for _, part in used), outer)))


def total(parts: Sequence[Value]) -> Value:
    """The sum of cotangents. Those of neighbouring pieces of one value are put side by side."""
    found = _side_by_side(parts)
    if found is None:
        found = parts[0]
        for part in parts[1:]:
            found = ops.add(found, part)
    return found


def _side_by_side(parts: Sequence[Value]) -> Value | None:
    """The sum of pieces, padded with zeros, that fill one axis without overlapping; else None."""
    axes = {_padded_axis(part) for part in parts}
    axis = axes.pop()
    if axis is None or axes:
        return None
    ordered, end = sorted(parts, key=lambda part: part.attrs["low"][axis]), 0
    for part in ordered:
        if part.attrs["low"][axis] != end:
            return None
        end += part.args[0].shape[axis]
    if end != parts[0].shape[axis]:
        return None
    return ops.concat(*(part.args[0] for part in ordered), axis=axis)


def _padded_axis(value: Value) -> int | None:
    """The one axis on which a value is padded with zeros; None for other values."""
    if value.op is None or value.op.name != "pad" or value.attrs["value"] != 0:
        return None
    ends = zip(value.attrs["low"], value.attrs["high"])
    axes = [axis for axis, both in enumerate(ends) if max(both)]
    return axes[0] if len(axes) == 1 else None
