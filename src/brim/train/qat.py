"""Quantization-aware training: a network whose numbers are rounded while it is trained.

    net = brim.train.quantized(net, pictures)
    ... train it as any other ...
    model, report = brim.train.compressed(net, pictures)

Rounding (`fake_quant`) stands exactly where `compress.integers` stores bytes: the same search finds
the points, so the integers' graph computes what training saw, up to the rounding of sums. Scales
begin with what calibration says, and are learned (LSQ: Esser 2020, arXiv:1902.08153). Batch norms
are folded before, with their running statistics, as expressions of their weights (`folding`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod, sqrt
from types import MappingProxyType

import numpy as np

from brim.compress.calibrate import observed, quants
from brim.compress.data import Data, read_data
from brim.compress.int8 import need_layers
from brim.compress.observers import OBSERVERS
from brim.compress.pipeline import CALIBRATION, some
from brim.compress.points import Layer, Points, find_points, is_move, moved
from brim.compress.recipe import Int8, selects
from brim.compress.scheme import ACTIVATIONS, PAIR, WEIGHTS, Quant, nearest_weights
from brim.graph import Graph, Value, placeholder
from brim.ops import primitive as p
from brim.ops.fake_quant import fake_quant, scaled_gradient
from brim.ops.registry import at, emit
from brim.passes.training import statistics
from brim.train.folding import fold_scales, settled
from brim.train.network import Network
from brim.train.twin import Twin, twin
from brim.types import F32, Type
from brim.where import split_name

# Of scales: an optimiser that moves every weight by 0.001 moves a scale by 1 % of itself, however
# small it is, and never below 0. (So Jain 2019, arXiv:1903.08066, who finds logarithms to learn
# stably; with 1 in place of 10 a scale that is 100 times too large is not found within an epoch.)
SPEED = 10.0
LARGEST = 1 << 30  # of a bias in units of a product, as in `compress.integers`


def quantized(
    network: Network,
    data: Data,
    recipe: Int8 | None = None,
    *,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    threads: int | None = None,
) -> Network:
    """The network with its numbers rounded as those of `brim.quantize` are, ready to be trained.

    data, mean, std: what calibration looks at, as `brim.quantize` takes it. recipe: its observer,
    per_channel and keep count; the rest is for networks that are not trained any more. New weights
    are "NODE.log_scale", f32[], of what a node stores, "NODE.weight_log_scale", both logarithms
    over SPEED, and, frozen, "NODE.zero": the integer that is 0. Dropout and batch norms are in
    evaluation form.

    Raises UnsupportedError where nothing can be integers, InputError for data that does not fit.
    """
    step, outputs = recipe or Int8(), network.graph.outputs
    ends = {name: _end(value) for name, value in outputs.items()}
    before = {name: end[-1].args[0] if end else outputs[name] for name, end in ends.items()}
    graph = fold_scales(replace(network.graph, outputs=before), network.weights)
    floats = twin(graph, network.weights, threads)
    need_layers(floats.graph, step)
    points = find_points(floats.graph, lambda layer: not selects(step.keep, layer.name))
    types = {name: value.type for name, value in floats.graph.inputs.items()}
    batches = some(read_data(data, types, mean, std), CALIBRATION)
    observer = OBSERVERS[step.observer]
    ranges = observed(floats.graph, points.stored, batches, observer, threads)
    made = _Inserter(graph, network, floats, points, quants(points, ranges), step).network()
    found = {name: _again(end, made.graph.outputs[name]) for name, end in ends.items()}
    return replace(made, graph=replace(made.graph, outputs=found))


def _end(output: Value) -> list[Value]:
    """The softmax or sigmoid that an output ends in and what reshapes its results, from the last
    one on; nothing where it ends in neither. It stays whole, for losses look for it."""
    end, value = [output], output
    while value.op is not None and value.op.name == "reshape":
        value = value.args[0]
        end.append(value)
    return end if value.op is not None and value.op.name in ("softmax", "sigmoid") else []


def _again(end: list[Value], x: Value) -> Value:
    for value in reversed(end):
        with at(value.where):
            x = emit(value.op, x, *value.args[1:], **value.attrs)  # type: ignore[arg-type]
    return x


@dataclass(frozen=True, eq=False)
class _Stored:
    """What the u8 of stored values stand for."""

    scale: Value
    zero: Value

    def rounded(self, x: Value) -> Value:
        return fake_quant(x, self.scale, self.zero, low=0, high=ACTIVATIONS)


class _Inserter:
    """What each old value became: as those see it who read bytes, and as it was before."""

    def __init__(
        self,
        graph: Graph,
        network: Network,
        floats: Twin,
        points: Points,
        quants: Mapping[int, Quant],
        step: Int8,
    ) -> None:
        self.old, self.before, self.per_channel = graph, network, step.per_channel
        self.settled = settled(graph, network.weights)
        self.input_names = {id(value): name for name, value in graph.inputs.items()}
        self.inputs, self.names = dict(graph.inputs), Counter[str]()
        self.added: dict[str, np.ndarray] = {}
        self.zeros: set[str] = set()
        self.layers = {id(floats.origin[id(each.value)]): each for each in points.layers}
        self.quants: dict[int, _Stored] = {}  # by id of the old value
        for group in points.groups:
            old = [floats.origin[id(value)] for value in group]
            quant = quants.get(id(group[0]))
            if quant is not None:
                stored = self._stored(old[0], quant)
                self.quants |= {id(value): stored for value in old}
        self.reals: dict[int, Value] = {}
        self.exact: dict[int, Value] = {}
        self.whole: dict[int, _Stored] = {}  # what is bytes: stored, or moved from such
        self.units: dict[int, Value] = {}  # of sums of integers: what one of them stands for

    def network(self) -> Network:
        """The network with its rounding."""
        for value in self.old.values():
            with at(value.where):
                self._value(value)
        outputs = {name: self.exact[id(value)] for name, value in self.old.outputs.items()}
        before, graph = self.before, Graph(self.inputs, outputs, self.old.name, self.old.state)
        weights = MappingProxyType({**before.weights, **self.added})
        folded = before.statistics - statistics(graph).keys()
        frozen = before.frozen | folded | self.zeros
        return Network(graph, weights, before.sources, frozen)

    def _value(self, value: Value) -> None:
        if id(value) in self.settled or value.op is None:
            real = exact = value
        elif id(value) in self.layers and self._as_layer(value):
            real = exact = self.reals[id(value)]
        elif is_move(value) and (stored := self._moved_from(value)):
            sources = moved(value)
            rest = [self.reals[id(arg)] for arg in value.args[len(sources) :]]
            bytes_ = [
                self.reals[id(a)] if id(a) in self.whole else stored.rounded(a) for a in sources
            ]
            real = emit(value.op, *bytes_, *rest, **value.attrs)
            exact = emit(value.op, *(self.exact[id(a)] for a in sources), *rest, **value.attrs)
            self.whole[id(value)] = stored
        else:
            is_product = value.op.name in ("conv", "contract")
            known = self.exact if is_product else self.reals
            args = [known[id(arg)] for arg in value.args]
            real = exact = self._sum(value, args) or emit(value.op, *args, **value.attrs)
        if (stored := self.quants.get(id(value))) is not None:
            real = stored.rounded(exact)
            self.whole[id(value)] = stored
        self.reals[id(value)], self.exact[id(value)] = real, exact

    def _moved_from(self, value: Value) -> _Stored | None:
        """Whose bytes a move moves; None: it moves no bytes, or such of different scales."""
        sources = moved(value)
        found = {id(s): s for a in sources if (s := self.whole.get(id(a))) is not None}
        if len(found) != 1 or not all(self._is_known(a) for a in sources):
            return None
        return next(iter(found.values()))

    def _is_known(self, value: Value) -> bool:
        return id(value) in self.whole or id(value) in self.settled

    # ---------------------------------------------------------- products and their biases

    def _as_layer(self, value: Value) -> bool:
        layer = self.layers[id(value)]
        stored = self.whole.get(id(value.args[layer.data]))
        if stored is None:
            return False
        args = [self.reals[id(arg)] for arg in value.args]
        args[layer.side], scale = self._weights(layer, args[layer.side])
        split, order, joined = layer.to_result(scale.shape)
        scale = p.reshape(p.transpose(p.reshape(scale, shape=split), perm=order), shape=joined)
        self.reals[id(value)] = emit(value.op, *args, **value.attrs)  # type: ignore[arg-type]
        self.units[id(value)] = scaled_gradient(p.mul(scale, stored.scale), np.float32(0))
        return True

    def _weights(self, layer: Layer, w: Value) -> tuple[Value, Value]:
        """A layer's weights as i8 can stand for them, and their scale."""
        axes = layer.summed if self.per_channel else tuple(range(layer.weights.ndim))
        first = nearest_weights(layer.weights, axes, layer.pairs).scale
        name = f"{self._node(layer.value)}.weight_log_scale"
        scale = self._scale(name, first, w.type.size // first.size, WEIGHTS)
        if layer.pairs is not None and w.shape[layer.pairs] > 1:
            limit = p.mul(scale, float(WEIGHTS))
            w = p.minimum(p.maximum(w, p.neg(limit)), limit)
            w = within_pairs(w, p.mul(scale, float(PAIR - 1)), layer.pairs)
        return fake_quant(w, scale, np.float32(0), low=-WEIGHTS, high=WEIGHTS), scale

    def _sum(self, value: Value, args: list[Value]) -> Value | None:
        """A product plus a bias, which is an integer there, too; None: it is no such sum."""
        if value.op.name != "add":  # type: ignore[union-attr]
            return None
        for x, b in ((0, 1), (1, 0)):
            units = self.units.get(id(value.args[x]))
            if units is not None and id(value.args[b]) in self.settled:
                if args[x].type != value.type:
                    return None
                self.units[id(value)] = units
                shape = np.broadcast_shapes(args[b].shape, units.shape)
                bias = p.broadcast(args[b], shape=shape)
                bias = fake_quant(bias, units, np.float32(0), low=-LARGEST, high=LARGEST)
                return p.add(args[x], bias)
        return None

    # ---------------------------------------------------------- new weights

    def _stored(self, value: Value, quant: Quant) -> _Stored:
        node = self._node(value)
        features = prod(value.shape[1:])
        scale = self._scale(
            f"{node}.log_scale", np.asarray(quant.scale, np.float32), features, ACTIVATIONS
        )
        zero = self._weight(f"{node}.zero", np.asarray(quant.zero, np.float32))
        self.zeros.add(f"{node}.zero")
        return _Stored(scale, zero)

    def _scale(self, name: str, first: np.ndarray, count: int, integers: int) -> Value:
        """A scale that is learned, by its logarithm over SPEED, with LSQ's factor on its slope."""
        log = self._weight(name, np.log(first) / SPEED)
        scale = p.exp(p.mul(log, SPEED))
        return scaled_gradient(scale, np.float32(1 / sqrt(count * integers)))

    def _weight(self, name: str, content: np.ndarray) -> Value:
        content = np.array(content, np.float32)
        content.flags.writeable = False
        self.added[name] = content
        self.inputs[name] = placeholder(Type(content.shape, F32), name)
        return self.inputs[name]

    def _node(self, value: Value) -> str:
        """A name for what belongs to a value: that of its node, with a number if it has several."""
        op = value.op.name if value.op is not None else "input"
        name = self.input_names.get(id(value)) or split_name(value.where)[0] or op
        self.names[name] += 1
        return name if self.names[name] == 1 else f"{name} {self.names[name]}"


def within_pairs(w: Value, limit: Value, axis: int) -> Value:
    """w, where the sums of neighbours along `axis` lie within [-limit, limit]; what is beyond is
    taken off both, half each. limit: f32 with 1 along `axis`, else as it broadcasts to w.

    What `compress.scheme.nearest_weights` does by larger scales: two integers within half a unit
    of such weights sum up to at most PAIR.
    """
    size, odd = w.shape[axis], w.shape[axis] % 2
    high = tuple(odd * (i == axis) for i in range(w.type.rank))
    even = p.pad(w, low=(0,) * len(high), high=high, value=0.0) if odd else w
    split = (*w.shape[:axis], (size + odd) // 2, 2, *w.shape[axis + 1 :])
    parts = p.reshape(even, shape=split)
    total = p.reduce(parts, op="add", axes=(axis + 1,))
    limit = p.reshape(limit, shape=(*limit.shape[:axis], 1, *limit.shape[axis:]))
    excess = p.sub(total, p.minimum(p.maximum(total, p.neg(limit)), limit))
    less = p.reshape(p.sub(parts, p.mul(excess, 0.5)), shape=even.shape)
    none = (0,) * len(high)
    return p.slice(less, starts=none, sizes=w.shape, steps=(1,) * len(high)) if odd else less
