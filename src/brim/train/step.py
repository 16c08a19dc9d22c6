"""The training step as a graph: (state, batch) -> (state, loss and what else is measured).

    inputs   the network's data, "target"
    outputs  "loss" f32[], "norm" f32[], "finite" bool[], "rate" f32[], metrics of the loss f32[]
    state    each trained weight and each running statistic by its name, "<weight>/<slot>" of the
             optimiser, "<weight>/average", "step" i64[]: the updates made so far;
             where several batches make one: "<weight>/sum" of slopes, "micro" i64[] batches in it

It is compiled like any other graph. Weights that are not trained are constants of it, so nothing is
computed for them. Who feeds it batches is `brim.train.fit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from brim.errors import InputError, UnsupportedError
from brim.graph import Graph, Value, const, placeholder, substitute, topo
from brim.ops import math as maths
from brim.ops import primitive as p
from brim.ops.registry import at
from brim.passes.autodiff import slopes
from brim.passes.straight_through import rounded
from brim.passes.training import scales, step_key, training_form
from brim.train.losses import Loss
from brim.train.network import Network
from brim.train.optimisers import Optimiser, without_decay
from brim.train.schedules import rate_at
from brim.types import F32, type_of

Values = dict[str, Value]


def training_step(
    network: Network,
    loss: Loss,
    optimiser: Optimiser,
    *,
    clip: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
    ema: float | None = None,
    seed: int = 0,
) -> Graph:
    """One step of training, for batches of the network's shapes. Its first output has the loss.

    clip: slopes are scaled down where the norm of all together is larger (Pascanu 2012,
    arXiv:1211.5063). clip_value: instead, each slope is limited to plus and minus that.
    accumulate: so many batches make one update, by the mean of their slopes. ema: what share of
    its moving average each weight keeps at an update, such as 0.999. seed: of dropout.

    "loss" is the mean over the batch, "norm" that of the mean slope so far, before it is clipped.
    Where one of them is not finite, "finite" is False and all state stays as it was.

    Raises InputError for options without meaning and for names that clash, UnsupportedError for
    operators that have no gradient and for weights that only roundings see.
    """
    _check(network, clip, clip_value, accumulate, ema)
    state = _State()
    step = state.old("step", np.zeros((), np.int64))
    micro = const(np.int64(0))
    if accumulate > 1:
        micro = state.old("micro", np.zeros((), np.int64))
    key = step_key(seed, p.add(p.mul(step, accumulate), micro))
    outputs, running = _forward(network, key, state)
    learns = network.trained & state.first.keys()
    names = {id(state.inputs[name]): name for name in network.weights if name in learns}
    weights = {name: state.inputs[name] for name in _from_the_end(outputs[:1], names)}
    with at("loss"):
        target = placeholder(loss.target(outputs[0].type))
        measured = {"loss": loss(outputs[0], target), **loss.metrics(outputs[0], target)}
        measured = {name: _mean(each) for name, each in measured.items()}
    sums = _slopes(measured["loss"], weights)
    if accumulate > 1:
        for name, slope in sums.items():
            before = state.old(f"{name}/sum", np.zeros(slope.shape, np.float32))
            sums[name] = p.add(before, slope)
    with at("norm"):
        norm = _norm(sums.values(), accumulate)
        finite = p.bit_and(_is_finite(measured["loss"]), _is_finite(norm))

    last = p.eq(micro, accumulate - 1)  # of the batches that make an update
    moves = p.bit_and(finite, last)
    rate = rate_at(optimiser.rate, step)
    scale, steady = _scale(norm, clip, accumulate), scales(network.graph)
    for name, weight in weights.items():
        with at(f"{name} (update)"):
            slope = _clipped(sums[name], scale, clip_value)
            first = optimiser.slots(network.weights[name])
            slots = {slot: state.old(f"{name}/{slot}", array) for slot, array in first.items()}
            mover = without_decay(optimiser) if name in steady else optimiser
            new, after = mover.update(weight, slope, slots, step, rate)
            kept = {id(v): state.new(f"{name}/{slot}", v, moves) for slot, v in after.items()}
            # the same where the weight moves; so each slot is computed once, into its memory
            (new,) = substitute([new], kept)
            state.new(name, new, moves)
            if ema is not None:
                average = state.old(f"{name}/average", network.weights[name])
                mixed = p.add(p.mul(average, ema), p.mul(new, 1 - ema))
                state.new(f"{name}/average", mixed, moves)
            if accumulate > 1:
                state.new(f"{name}/sum", p.select(last, maths.zero(weight), sums[name]), finite)
    for name, value in running.items():
        state.new(name, value, finite)
    state.new("step", p.add(step, 1), moves)
    if accumulate > 1:
        state.new("micro", p.select(last, maths.zero(micro), p.add(micro, 1)), finite)
    results = {**measured, "norm": norm, "finite": finite, "rate": p.cast(rate, to=F32)}
    return state.graph({**network.data, "target": target}, results, f"{network.graph.name} step")


@dataclass(eq=False)
class _State:
    """State as it is collected: the first content of each name, its input and its output."""

    first: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: Values = field(default_factory=dict)
    outputs: Values = field(default_factory=dict)

    def old(self, name: str, first: np.ndarray) -> Value:
        """What the step is given under a name. Raises InputError for a name that is taken."""
        if name in self.first:
            raise InputError(f"two parts of the state are called {name!r}", hint="rename a weight")
        self.first[name] = first
        self.inputs[name] = placeholder(type_of(first), name)
        return self.inputs[name]

    def new(self, name: str, value: Value, moves: Value) -> Value:
        """What the step leaves: the value, but what it was given where nothing moves."""
        self.outputs[name] = p.select(moves, value, self.inputs[name])
        return self.outputs[name]

    def graph(self, inputs: Values, outputs: Values, name: str) -> Graph:
        """With these inputs and outputs besides. Raises InputError for names that clash."""
        if clash := self.first.keys() & {*inputs, *outputs} or inputs.keys() & outputs.keys():
            raise InputError(
                f"{sorted(clash)} name two things in the step", hint="rename them in the model"
            )
        inputs, outputs = {**inputs, **self.inputs}, {**outputs, **self.outputs}
        return Graph(inputs, outputs, name, self.first)


def _check(
    network: Network,
    clip: float | None,
    clip_value: float | None,
    accumulate: int,
    ema: float | None,
) -> None:
    if not network.trained:
        raise InputError("all weights are frozen", hint="unfreeze some, by patterns of names")
    for name, limit in (("clip", clip), ("clip_value", clip_value)):
        if limit is not None and not limit > 0:
            raise InputError(f"{name} is {limit}", hint="it must be above 0")
    if clip is not None and clip_value is not None:
        raise InputError("slopes are clipped by norm or by value", hint="leave one of them out")
    if accumulate < 1:
        raise InputError(f"accumulate is {accumulate}", hint="batches for an update, 1 or more")
    if ema is not None and not 0 < ema < 1:
        raise InputError(f"ema is {ema}", hint="a share, 0 < ema < 1, such as 0.999")


def _forward(network: Network, key: Value, state: _State) -> tuple[list[Value], Values]:
    """The outputs in training form, and the new statistics by name. What the first output reads and
    is trained, and what runs, becomes state; all other weights are constants."""
    graph, running = training_form(network.graph, key, network.frozen)
    read = {id(value) for value in topo([*graph.outputs.values()][:1])}
    learns = {name for name in network.trained if id(graph.inputs[name]) in read}
    if not learns:
        raise InputError("the loss sees no weight that is trained", hint="unfreeze some")
    replace = {}
    for name, array in network.weights.items():
        stays = name not in learns and name not in running
        replace[id(graph.inputs[name])] = const(array, name) if stays else state.old(name, array)
    found = substitute([*graph.outputs.values(), *running.values()], replace)
    count = len(graph.outputs)
    return found[:count], dict(zip(running, found[count:]))


def _from_the_end(outputs: list[Value], weights: Mapping[int, str]) -> list[str]:
    """The names of the weights (by id) from the last layer to the first: the order in which their
    slopes are found, so that what the walk back needs is freed as early as can be."""
    order = dict.fromkeys([id(value) for value in topo(outputs)] + list(weights))
    return [weights[i] for i in reversed(order) if i in weights]


def _slopes(loss: Value, weights: Values) -> Values:
    """The slope of the loss by each weight. Raises UnsupportedError where roundings are in its way:
    such a weight would not learn, or not of all that it does, and nothing would tell."""
    ends = rounded([loss], [*weights.values()])
    if ends:
        raise UnsupportedError(
            "no slope passes through numbers that are stored as integers",
            where="; ".join(dict.fromkeys(end.where for end in ends)),
            hint="freeze the weights in front, or train the float model",
        )
    found = dict(zip(weights, slopes(loss, [*weights.values()])))
    if flat := [name for name, slope in found.items() if slope is None]:
        raise UnsupportedError(
            f"no slope of the loss reaches {', '.join(map(repr, flat[:3]))}",
            "all that follows from it is rounded or compared",
            hint="freeze what cannot learn",
        )
    return {name: slope for name, slope in found.items() if slope is not None}


def _mean(each: Value) -> Value:
    return p.reshape(maths.reduce_mean(each, axes=(0,)), shape=())


def _square(x: Value) -> Value:
    """The sum of x * x, of the last axis by itself first: sums of few have more digits."""
    # not a sum of p.mul(x, x): Adam needs these too, and what is read twice is stored
    axes = "abcdefghijkl"[: x.type.rank]
    rows = p.contract(x, x, spec=f"{axes},{axes}->{axes[:-1]}")
    total = p.reduce(rows, op="add", axes=tuple(range(rows.type.rank)))
    return p.reshape(total, shape=())


def _norm(sums: Iterable[Value], count: int) -> Value:
    """The root of the sum of all squares of the slopes, which are these sums / count."""
    root = p.sqrt(reduce(p.add, map(_square, sums)))
    return root if count == 1 else p.div(root, count)


def _is_finite(x: Value) -> Value:
    return p.le(p.absolute(x), np.finfo(x.dtype.numpy).max)


def _scale(norm: Value, clip: float | None, count: int) -> Value | None:
    """What sums of `count` slopes are multiplied with; None: nothing."""
    if clip is None:
        return None if count == 1 else const(np.float32(1 / count))
    # as torch.nn.utils.clip_grad_norm_
    scale = p.minimum(p.div(clip, p.add(norm, 1e-6)), 1.0)
    return scale if count == 1 else p.div(scale, count)


def _clipped(slope: Value, scale: Value | None, limit: float | None) -> Value:
    slope = slope if scale is None else p.mul(slope, scale)
    return slope if limit is None else p.minimum(p.maximum(slope, -limit), limit)
