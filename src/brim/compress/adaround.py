"""Learned rounding: which way each weight is rounded follows from what its layer reads.

Rounding every weight to its nearest integer is best only for data without correlation. Here a
weight is floor(w / s) + h(v) with h between 0 and 1, and v is learned so that the layer's results
are as they should be, by gradients; a second term, from weak to strong, drives every h to 0 or 1.
(Nagel 2020, "Up or down? Adaptive rounding for post-training quantization", arXiv:2004.10568.)
Before, the scale is chosen that gives the smallest error with weights rounded to the nearest. Each
layer is learned by itself, from positions of what it reads when all before it is in floats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from brim.compress.calibrate import at_once
from brim.compress.matrices import matrices
from brim.compress.points import Layer, Points
from brim.compress.positions import Positions, kept_bytes, positions
from brim.compress.scheme import PAIR, WEIGHTS, IntWeights, Scheme
from brim.compress.work import Work
from brim.graph import Graph, Value, placeholder
from brim.model import Model, compile
from brim.ops import primitive as p
from brim.passes.autodiff import gradient
from brim.types import F32, Type

STEPS = 250  # at most, and as many as take this many operations, but a quarter at least:
OPERATIONS = 3e11
ROWS = 256  # positions in a step
RATE = 6e-2
STRENGTH = 4.0  # of the term that decides between 0 and 1; the error of nearest rounding is 1
BETAS = 20.0, 2.0  # the exponent of that term, at its begin and in the end
WARM = 0.2  # share of the steps without it
GAMMA, ZETA = -0.1, 1.1  # h is a sigmoid stretched to these and clipped, so that it reaches 0 and 1
SCALES = np.linspace(1.05, 0.5, 23)  # that are tried, where with 1 all weights fit
UNFELT = 0.05  # what places count where a ReLU is closed: other data may open it
MANY = 64  # positions for each weight that is summed over
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
    for run in at_once(layers, kept_bytes):
        for layer, known in zip(run, positions(graph, run, scheme, work.batches, work.threads)):
            old = weights[id(layer.value)]
            weights[id(layer.value)] = _learned(layer, known, old, models, work.threads)
            done += 1
            work.tell("learn rounding", done, len(layers))
    return replace(scheme, weights=weights)


def _learned(
    layer: Layer,
    known: Positions,
    old: IntWeights,
    models: dict[tuple[int, ...], Model],
    threads: int | None,
) -> IntWeights:
    """The weights of one layer. models: compiled steps by their shapes, of which one is added."""
    _, m = matrices(layer)
    last = 0 if layer.pairs is None else layer.weights.shape[layer.pairs]
    known = replace(known, felt=np.maximum(known.felt, UNFELT))
    task = Task(known, m.pack(layer.weights), last).without_noise()
    each = m.pack(np.broadcast_to(old.scale, layer.weights.shape))[:, :1]
    scale = task.best_scale(each if old.scale.size > 1 else each[:1, :, :1])
    shape = (min(ROWS, len(known.x)), *m.shape)
    if shape not in models:
        models[shape] = compile(_step(*shape), threads=threads)
    integers = learned(task, scale, models[shape])
    return IntWeights(
        m.unpack(integers).astype(np.int8),
        m.unpack(scale) if old.scale.size > 1 else scale.reshape(old.scale.shape),
        layer.along_result(m.unpack(task.shift(integers * scale))).astype(np.float32),
    )


@dataclass(frozen=True, eq=False)
class Task:
    """Weights w[g, k, o] that are to be rounded, and what is known of their layer.

    pairs: size of the last axis in k, along which sums of two neighbours are limited as those of
    `nearest_weights` are; 0: none are.

    With fewer positions than weights, errors of weights may cancel out in all that were seen and in
    nothing else. So they are also priced one by one, the more the fewer positions there are.
    """

    known: Positions
    w: np.ndarray
    pairs: int = 0

    def without_noise(self) -> Task:
        """With the results that the weights give of data that is rounded already, if there are few
        positions: else what learning takes for its due is the noise of rounding that data. With
        many, some of that noise is made up for."""
        n, _, k = self.known.x.shape
        if n >= MANY * k:
            return self
        y = self.known.x.transpose(1, 0, 2) @ self.w.astype(np.float32)
        return replace(self, known=replace(self.known, y=y.transpose(1, 0, 2)))

    @cached_property
    def price(self) -> np.ndarray:
        """[g, k, o]: of the squared error of a weight by itself."""
        n, _, k = self.known.x.shape
        spread = self.known.x.var(0)[:, :, None]
        return k / n * spread * self.known.felt.sum(0)[:, None]

    def nearest(self, scale: np.ndarray) -> np.ndarray:
        return self.fitting(np.rint(self.w / scale))

    def fitting(self, integers: np.ndarray) -> np.ndarray:
        """The integers limited to what may be stored; of two that are too much together the larger
        one is made smaller."""
        integers = np.clip(integers, -WEIGHTS, WEIGHTS)
        if not self.pairs:
            return integers
        g, k, o = integers.shape
        parts = integers.reshape(g, k // self.pairs, self.pairs, o)
        even = self.pairs // 2 * 2
        a, b = parts[:, :, :even:2], parts[:, :, 1:even:2]
        total = a + b
        excess = total - np.clip(total, -PAIR, PAIR)
        first = np.abs(a) >= np.abs(b)
        parts = parts.copy()
        parts[:, :, :even:2] -= np.where(first, excess, 0)
        parts[:, :, 1:even:2] -= np.where(first, 0, excess)
        return parts.reshape(g, k, o)

    @cached_property
    def _x(self) -> np.ndarray:
        return np.ascontiguousarray(self.known.x.transpose(1, 0, 2))

    @cached_property
    def _felt(self) -> np.ndarray:
        return np.ascontiguousarray(self.known.felt.transpose(1, 0, 2))

    @cached_property
    def _weight(self) -> np.ndarray:
        """[g, 1, o]: how much all positions count together."""
        return np.maximum(self._felt.sum(1, keepdims=True, dtype=np.float64), 1e-9)

    def _missing(self, w: np.ndarray) -> np.ndarray:
        """What results lack with weights w, at each position: [g, n, o]."""
        return self.known.y.transpose(1, 0, 2) - self._x @ w.astype(np.float32)

    def shift(self, w: np.ndarray) -> np.ndarray:
        """[g, 1, o]: what is best added to the results with weights w."""
        total = (self._missing(w) * self._felt).sum(1, keepdims=True, dtype=np.float64)
        return total / self._weight

    def energies(self, w: np.ndarray) -> np.ndarray:
        """[g, 1, o]: of what is wrong with weights w and the best shift, where it is felt."""
        missing = self._missing(w)
        felt = missing * self._felt
        first = felt.sum(1, keepdims=True, dtype=np.float64)
        second = (felt * missing).sum(1, keepdims=True, dtype=np.float64)
        alone = (np.square(w - self.w) * self.price).sum(1, keepdims=True, dtype=np.float64)
        return second - first * first / self._weight + alone

    def best_scale(self, first: np.ndarray) -> np.ndarray:
        """f32, of the shape of `first`: of all multiples of these scales that are tried the ones
        that are best if weights are rounded to the nearest."""
        best, least = first, np.full(first.shape, np.inf)
        for factor in SCALES.astype(np.float32):
            scale = first * factor
            found = self.energies(self.nearest(scale) * scale)
            found = found.sum(keepdims=True) if first.size == 1 else found
            best = np.where(found < least, scale, best)
            least = np.minimum(found, least)
        return best


def learned(task: Task, scale: np.ndarray, model: Model) -> np.ndarray:
    """The integers of a task's weights, f32 [g, k, o]. model: a compiled `_step` of their shape."""
    known, nearest = task.known, task.nearest(scale)
    before = task.energies(nearest * scale)
    n, rows = len(known.x), min(ROWS, len(known.x))
    units = (task.w / scale).astype(np.float32)
    below = np.floor(units)
    h = np.clip(units - below, 0.01, 0.99)
    state = {"v": np.log((h - GAMMA) / (ZETA - h)), "b": np.float32(task.shift(nearest * scale))}
    state["b"] = state["b"] / scale
    for name in ("v", "b"):
        zero = np.zeros_like(state[name])
        state |= {f"{name} mean": zero, f"{name} square": zero}
    # all in units of the scale, and so that the error of nearest integers is 1
    one = np.maximum(before / np.square(scale.astype(np.float64)), 1e-9)
    y = (known.y / scale[:, 0]).astype(np.float32)
    price = (known.felt * (n / rows / one)[:, 0]).astype(np.float32)
    fixed = {"units": units, "below": below, "alone": (task.price / one).astype(np.float32)}
    random = np.random.default_rng(0)
    steps = int(np.clip(OPERATIONS / (6 * rows * units.size), STEPS / 4, STEPS))
    for step in range(steps):
        done = max(0.0, step / steps - WARM) / (1 - WARM)
        chosen = random.choice(n, rows, replace=False)
        numbers = {
            "beta": BETAS[1] + (BETAS[0] - BETAS[1]) * (1 + np.cos(np.pi * done)) / 2,
            "strength": STRENGTH / units.shape[1] if done else 0.0,
            "rate mean": 1 / (1 - DECAYS[0] ** (step + 1)),
            "rate square": 1 / (1 - DECAYS[1] ** (step + 1)),
        }
        feeds = {"x": known.x[chosen], "y": y[chosen], "price": price[chosen], **fixed, **state}
        state = model.run({**feeds, **{name: np.float32(x) for name, x in numbers.items()}})
    up = task.fitting(below + (state["v"] > 0))
    return np.where(task.energies(up * scale) < before, up, nearest)


def _step(rows: int, groups: int, summed: int, outputs: int) -> Graph:
    """One step of Adam on a layer: state of v[g, k, o] and of a shift b[g, 1, o] goes in and out.

    Everything is in units of the weights' scale. price: of a squared error at a position; alone:
    of that of a weight by itself.
    """
    size, along = (groups, summed, outputs), (groups, 1, outputs)
    shapes: dict[str, tuple[int, ...]] = {
        "x": (rows, groups, summed),
        "y": (rows, groups, outputs),
        "price": (rows, groups, outputs),
        **dict.fromkeys(("units", "below", "alone", "v", "v mean", "v square"), size),
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
    off = p.sub(w, inputs["units"])
    alone = p.mul(p.mul(off, off), inputs["alone"])
    undecided = p.sub(1.0, p.power(p.absolute(p.sub(p.mul(h, 2.0), 1.0)), beta))
    loss = p.add(p.add(_sum(error), _sum(alone)), p.mul(_sum(undecided), inputs["strength"]))
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
