"""What a report says of every layer: how much noise it adds, what is clipped, how long it takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from brim.compress.calibrate import watch
from brim.compress.histogram import Histogram
from brim.compress.measure import Times, layer_times
from brim.compress.points import Layer, find_layers, roots
from brim.compress.report import FLOAT, distribution
from brim.compress.report import Layer as Row
from brim.compress.scheme import ACTIVATIONS, Quant
from brim.compress.sensitivity import sensitivities
from brim.compress.work import Made, Work
from brim.graph import Graph, Value
from brim.model import Model
from brim.types import F32
from brim.where import split_name

SHOWN = 32  # batches that figures and histograms are made of


def described(
    before: Model, after: Model, made: Made, work: Work
) -> tuple[tuple[Row, ...], tuple[Times | None, Times | None]]:
    """A row for every product of the float network, in order, and what all other kernels take in
    the float and in the compressed model."""
    source = before.graph if made.source is None else made.source
    layers = find_layers(source)
    wheres = [layer.value.where for layer in layers if layer.name == layer.value.where]
    times = [layer_times(model, wheres) for model in (before, after)]
    forms = stored_forms(after.graph)
    whole = {id(layer.value) for layer in made.points.layers}
    work.tell("layers", 0, 0)
    some = work.batches.first(SHOWN)
    noise = sensitivities(source, made.points, made.scheme, some, work.threads) if whole else {}
    stored = [root for layer in made.points.layers for root in _stored(layer, made)]
    seen = watch(source, stored, some, Histogram, work.threads) if whole else {}
    rows, met = [], Counter[str]()
    for layer in layers:
        name, op = split_name(layer.name)
        form = forms.get((layer.value.where, met[layer.value.where]), FLOAT)
        met[layer.value.where] += 1
        row = Row(name, op, form, before=times[0].get(layer.name), after=times[1].get(layer.name))
        if id(layer.value) in whole:
            row = _integer_row(row, layer, made, noise[id(layer.value)], seen)
        rows.append(row)
    return tuple(rows), (times[0].get(""), times[1].get(""))


def stored_forms(graph: Graph) -> dict[tuple[str, int], str]:
    """Where products are from, and how many of the same place come before -> what their weights are
    stored in: that of the largest constant that they are computed of."""
    inputs = {id(value) for value in graph.inputs.values()}
    largest: dict[int, Value | None] = {}  # id of what depends on no input -> that constant
    found: dict[tuple[str, int], str] = {}
    met = Counter[str]()
    for value in graph.values():
        known = [arg for arg in value.args if id(arg) in largest]
        if value.is_const:
            largest[id(value)] = value
        elif len(known) == len(value.args) and id(value) not in inputs:
            parts = [part for arg in known if (part := largest[id(arg)]) is not None]
            largest[id(value)] = max(parts, key=lambda part: part.type.size, default=None)
        elif known and value.op is not None and value.op.name in ("conv", "contract"):
            found[value.where, met[value.where]] = _form(known[0], largest[id(known[0])])
            met[value.where] += 1
    return found


def _form(weights: Value, stored: Value | None) -> str:
    if stored is None or stored.dtype == F32:
        return FLOAT
    if stored.dtype.is_float:
        return f"{stored.dtype} weights"
    bits = round(8 * stored.type.size * stored.dtype.bytes / weights.type.size)
    return f"int{bits} weights"


def _integer_row(
    row: Row, layer: Layer, made: Made, noise: float, seen: Mapping[int, Histogram]
) -> Row:
    scheme, weights = made.scheme, Histogram()
    weights.see(layer.weights)
    roots = _stored(layer, made)
    clipped, activations = None, None
    if roots:
        quant = scheme.activations[id(roots[0])]
        found = seen[id(roots[0])]
        kept = _kept(quant)
        clipped, activations = found.share_beyond(*kept), distribution(found, kept)
    return replace(
        row,
        form="int8",
        sqnr=-10 * math.log10(noise) if noise > 0 else None,
        clipped=clipped,
        activations=activations,
        weights=distribution(weights),
    )


def _stored(layer: Layer, made: Made) -> list[Value]:
    """The values that a layer reads as integers."""
    found = roots(layer.value.args[layer.data])
    return [root for root in found if id(root) in made.scheme.activations]


def _kept(quant: Quant) -> tuple[float, float]:
    """The range that u8 stand for."""
    return -quant.zero * quant.scale, (ACTIVATIONS - quant.zero) * quant.scale
