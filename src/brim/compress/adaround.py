"""Learned rounding: which way each weight is rounded follows from what its layer reads.

Rounding every weight to its nearest integer is best only for data without correlation. Here a
weight is floor(w / s) + h(v) with h between 0 and 1, and v is learned so that the layer's results
are as they should be, by gradients; a second term, from weak to strong, drives every h to 0 or 1.
(Nagel 2020, "Up or down? Adaptive rounding for post-training quantization", arXiv:2004.10568.)
Before, the scale is chosen that gives the smallest error with weights rounded to the nearest. Each
layer is learned by itself, from samples of what it reads when all before it is in floats.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from brim.compress.layer_samples import Samples, samples, together
from brim.compress.matrices import matrices
from brim.compress.points import Layer, Points
from brim.compress.scheme import WEIGHTS, IntWeights, Scheme
from brim.compress.work import Work
from brim.graph import Graph, Value, placeholder
from brim.model import Model, compile
from brim.ops import primitive as p
from brim.passes.autodiff import gradient
from brim.types import F32, Type

STEPS = 1000  # at most, and as many as take this many operations, but a quarter at least:
OPERATIONS = 3e11
ROWS = 256  # samples in a step
RATE = 3e-2
STRENGTH = 4.0  # of the term that decides between 0 and 1; the error of nearest rounding is 1
BETAS = 20.0, 2.0  # the exponent of that term, at its begin and in the end
WARM = 0.2  # share of the steps without it
GAMMA, ZETA = -0.1, 1.1  # h is a sigmoid stretched to these and clipped, so that it reaches 0 and 1
SCALES = np.linspace(0.5, 1.05, 23)  # that are tried, where 1 fits the largest weight
DECAYS = 0.9, 0.999  # of Adam's two means (Kingma 2014, arXiv:1412.6980)


def rounded(graph: Graph, points: Points, scheme: Scheme, work: Work) -> Scheme:
    """`scheme` with integers, scales and shifts that are learned from the batches of `work`.

    Scales are per channel or per tensor, as they were. Each output channel keeps the nearest
    integers where learning has not made its error smaller.
    """
    layers = [layer for layer in points.layers if id(layer.value) in scheme.weights]
    weights = dict(scheme.weights)
    models: dict[tuple[int, ...], Model] = {}
    done = 0
    for run in together(layers):
        for layer, known in zip(run, samples(graph, run, scheme, work.batches, work.threads)):
            old = weights[id(layer.value)]
            weights[id(layer.value)] = _learned(layer, known, old, models, work.threads)
            done += 1
            work.tell("learn rounding", done, len(layers))
    return replace(scheme, weights=weights)


def _learned(
    layer: Layer,
    known: Samples,
    old: IntWeights,
    models: dict[tuple[int, ...], Model],
    threads: int | None,
) -> IntWeights:
    """The weights of one layer. models: compiled steps by their shapes, of which one is added."""
    _, m = matrices(layer)
    w = m.pack(layer.weights)
    scale = best_scale(known, w, per_channel=old.scale.size > 1)
    shape = (min(ROWS, len(known.x)), *m.shape)
    if shape not in models:
        models[shape] = compile(_step(*shape), threads=threads)
    integers = learned(known, w, scale, models[shape])
    shift = m.unpack(shift_of(known, integers * scale))
    return IntWeights(
        m.unpack(integers).astype(np.int8),
        m.unpack(scale) if old.scale.size > 1 else scale.reshape(old.scale.shape),
        layer.along_result(shift).astype(np.float32),
    )


# ------------------------------------------------------------------ errors


def _missing(known: Samples, w: np.ndarray) -> np.ndarray:
    """What results lack with weights w[g, k, o], of each sample: [g, n, o]."""
    return known.y.transpose(1, 0, 2) - known.x.transpose(1, 0, 2) @ w.astype(np.float32)


def shift_of(known: Samples, w: np.ndarray) -> np.ndarray:
    """[g, 1, o]: what is best added to the results."""
    felt = known.felt.transpose(1, 0, 2)
    total = (_missing(known, w) * felt).sum(1, keepdims=True, dtype=np.float64)
    return total / np.maximum(felt.sum(1, keepdims=True, dtype=np.float64), 1e-9)


def energies(known: Samples, w: np.ndarray) -> np.ndarray:
    """[g, 1, o]: energy of the difference of results, with the best shift, where it is felt."""
    felt = known.felt.transpose(1, 0, 2)
    wrong = _missing(known, w) - shift_of(known, w).astype(np.float32)
    return (wrong * wrong * felt).sum(1, keepdims=True, dtype=np.float64)


def _nearest(w: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(w / scale), -WEIGHTS, WEIGHTS)


def best_scale(known: Samples, w: np.ndarray, per_channel: bool) -> np.ndarray:
    """Scales that give the smallest error with weights w[g, k, o] rounded to the nearest: f32
    [g, 1, o], or [1, 1, 1] for all channels together."""
    axes = (1,) if per_channel else (0, 1, 2)
    largest = np.abs(w).max(axes, keepdims=True, initial=0) / WEIGHTS
    first = np.where(largest > 0, largest, 1).astype(np.float32)
    best, least = first, np.full(first.shape, np.inf)
    for factor in SCALES.astype(np.float32):
        scale = first * factor
        found = energies(known, _nearest(w, scale) * scale)
        found = found if per_channel else found.sum(keepdims=True)
        best = np.where(found < least, scale, best)
        least = np.minimum(found, least)
    return best


# ------------------------------------------------------------------ learning


def learned(known: Samples, w: np.ndarray, scale: np.ndarray, model: Model) -> np.ndarray:
    """The integers of weights w[g, k, o], f32. model: a compiled `_step` of their shape."""
    nearest = _nearest(w, scale)
    before = energies(known, nearest * scale)
    n, rows = len(known.x), min(ROWS, len(known.x))
    below = np.floor(w / scale).astype(np.float32)
    h = np.clip(w / scale - below, 0.01, 0.99)
    state = {"v": np.log((h - GAMMA) / (ZETA - h)).astype(np.float32)}
    state |= {name: np.zeros_like(state["v"]) for name in ("v mean", "v square")}
    zero = shift_of(known, nearest * scale) / scale
    state |= {"b": zero.astype(np.float32)}
    state |= {name: np.zeros_like(state["b"]) for name in ("b mean", "b square")}
    y = (known.y / scale[:, 0]).astype(np.float32)
    unit = before / np.square(scale.astype(np.float64))  # so that nearest integers have error 1
    price = known.felt * (n / rows / np.maximum(unit, 1e-9))[:, 0]
    price = price.astype(np.float32)
    random = np.random.default_rng(0)
    steps = int(np.clip(OPERATIONS / (6 * rows * w.size), STEPS / 4, STEPS))
    for step in range(steps):
        done = max(0.0, step / steps - WARM) / (1 - WARM)
        chosen = random.choice(n, rows, replace=False)
        numbers = {
            "beta": BETAS[1] + (BETAS[0] - BETAS[1]) * (1 + np.cos(np.pi * done)) / 2,
            "strength": STRENGTH / w.shape[1] if done else 0.0,
            "rate mean": 1 / (1 - DECAYS[0] ** (step + 1)),
            "rate square": 1 / (1 - DECAYS[1] ** (step + 1)),
        }
        feeds = {"x": known.x[chosen], "y": y[chosen], "price": price[chosen], "below": below}
        feeds |= {name: np.float32(number) for name, number in numbers.items()}
        state = model.run({**feeds, **state})
    up = below + (state["v"] > 0)
    up = np.clip(up, -WEIGHTS, WEIGHTS)
    return np.where(energies(known, up * scale) < before, up, nearest)


def _step(rows: int, groups: int, summed: int, outputs: int) -> Graph:
    """One step of Adam on a layer: state of v[g, k, o] and of a shift b[g, 1, o] goes in and out.

    Everything is in units of the weights' scale. price: of an error at a sample.
    """
    size, along = (groups, summed, outputs), (groups, 1, outputs)
    shapes: dict[str, tuple[int, ...]] = {
        "x": (rows, groups, summed),
        "y": (rows, groups, outputs),
        "price": (rows, groups, outputs),
        "below": size,
        **dict.fromkeys(("v", "v mean", "v square"), size),
        **dict.fromkeys(("b", "b mean", "b square"), along),
        **dict.fromkeys(("beta", "strength", "rate mean", "rate square"), ()),
    }
    inputs = {name: placeholder(Type(shape, F32)) for name, shape in shapes.items()}
    v, b, beta = inputs["v"], inputs["b"], inputs["beta"]
    sigmoid = p.div(1.0, p.add(p.exp(p.neg(v)), 1.0))
    h = p.minimum(p.maximum(p.add(p.mul(sigmoid, ZETA - GAMMA), GAMMA), 0.0), 1.0)
    w = p.minimum(p.maximum(p.add(inputs["below"], h), -float(WEIGHTS)), float(WEIGHTS))
    found = p.contract(inputs["x"], w, spec="ngk,gko->ngo")
    wrong = p.sub(p.add(found, p.reshape(b, shape=(1, groups, outputs))), inputs["y"])
    error = p.mul(p.mul(wrong, wrong), inputs["price"])
    undecided = p.sub(1.0, p.power(p.absolute(p.sub(p.mul(h, 2.0), 1.0)), beta))
    loss = p.add(_sum(error), p.mul(_sum(undecided), inputs["strength"]))
    results: dict[str, Value] = {}
    for name, slope in zip(("v", "b"), gradient(loss, [v, b])):
        mean, square = inputs[f"{name} mean"], inputs[f"{name} square"]
        mean = p.add(p.mul(mean, DECAYS[0]), p.mul(slope, 1 - DECAYS[0]))
        square = p.add(p.mul(square, DECAYS[1]), p.mul(p.mul(slope, slope), 1 - DECAYS[1]))
        length = p.add(p.sqrt(p.mul(square, inputs["rate square"])), 1e-8)
        moved = p.div(p.mul(p.mul(mean, inputs["rate mean"]), RATE), length)
        results |= {name: p.sub(inputs[name], moved)}
        results |= {f"{name} mean": mean, f"{name} square": square}
    return Graph(inputs, results, "adaround")


def _sum(x: Value) -> Value:
    return p.reshape(p.reduce(x, op="add", axes=tuple(range(x.type.rank))), shape=())
