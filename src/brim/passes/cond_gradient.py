"""Cotangents through `cond`: the same choice, between the gradient graphs of both branches.

    %1: f32[3] = cond(%p, %0) then={%a -> mul(%a, %a)} orelse={%a -> exp(%a)}
--> given the cotangent %g of %1, that of %0 is
    %2: f32[3] = cond(%p, %0, %g) then={%a, %g -> add(mul(%g, %a), ..)} orelse={..}

What a gradient needs of its branch it computes again: which branch that is, only the run decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from brim.graph import Graph, Value, const, placeholder
from brim.ops.control import cond, results_of
from brim.passes.flow import slope_type

Pullback = Callable[[Sequence[Value], Sequence[Value], Sequence[Value]], list[Value | None]]


def cond_cotangents(
    value: Value, given: Sequence[Value | None], sources: Sequence[int], pullback: Pullback
) -> dict[int, Value]:
    """The cotangents of the arguments `sources` of a cond, by their number, from those of its
    results (None: 0)."""
    captured = [i for i in sources if i > 0]
    numbers = [n for n, g in enumerate(given) if g is not None]
    seeds = [g for g in given if g is not None]
    graphs = {}
    for name in ("then", "orelse"):
        branch = value.attrs[name]
        inner, outputs = list(branch.inputs.values()), list(branch.outputs.values())
        slopes = [placeholder(seed.type) for seed in seeds]
        found = pullback([outputs[n] for n in numbers], slopes, [inner[i - 1] for i in captured])
        inputs = {**branch.inputs, **{f"slope{n}": slope for n, slope in zip(numbers, slopes)}}
        results = {
            f"slope_of_{i}": zeros(inner[i - 1]) if part is None else part
            for i, part in zip(captured, found)
        }
        graphs[name] = Graph(inputs, results, f"{branch.name} backward")
    parts = results_of(cond(value.args[0], *value.args[1:], *seeds, **graphs))
    return dict(zip(captured, parts))


def zeros(value: Value) -> Value:
    """The cotangent 0 of a value."""
    wide = slope_type(value.type)
    return const(np.zeros(wide.dims, wide.dtype.numpy))
