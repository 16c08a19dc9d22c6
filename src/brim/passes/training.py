"""Training form: norms by the statistics of the batch, dropout that drops, and masks that grow.

    %1: f32[8,9,9,4] = batch_norm(%x, %scale, %shift, %mean, %variance) epsilon=1e-05
-->
    %1: f32[8,9,9,4] = layer_norm(%x, %scale, %shift) axes=(0, 1, 2) epsilon=1e-05

and beside the graph the new running statistics: 0.9 of the old ones and 0.1 of the batch's, whose
variance is the unbiased one (Ioffe 2015, arXiv:1502.03167; the shares are PyTorch's). The gradient
goes through the statistics, by autodiff. A graph imported for training is in evaluation form; what
is trained, and the step, are not here.
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod

import numpy as np

from brim.errors import InputError
from brim.graph import Graph, Value, const, rewrite, topo
from brim.ops import primitive as p
from brim.ops.dropout import dropped
from brim.ops.math import reduce_mean
from brim.ops.nn import layer_norm
from brim.ops.pruned import advanced
from brim.ops.registry import OPS, at
from brim.types import U32

KEEP = 0.9  # of the old running statistics in each step
_MOVES = (OPS["reshape"], OPS["transpose"])


def statistics(graph: Graph) -> dict[str, Value]:
    """Name -> input, of those that batch norms take for running means and variances, and pruned
    weights for their masks and the state of these."""
    inputs = {id(value): name for name, value in graph.inputs.items()}
    read: list[Value] = []
    for value in graph.values():
        match value.op.name if value.op is not None else "":
            case "batch_norm":
                read.extend(value.args[3:])
            case "pruned":
                read.extend(value.args[1:3])
    return {inputs[id(value)]: value for value in read if id(value) in inputs}


def scales(graph: Graph) -> set[str]:
    """The inputs of which the scales of roundings (`fake_quant`) are made, and nothing else is."""
    inputs = {id(value): name for name, value in graph.inputs.items()}
    of_scales = [v.args[1] for v in graph.values() if v.op is OPS["fake_quant"]]
    found = {id(leaf) for leaf in topo(of_scales)} & inputs.keys()
    inside = {id(value) for value in topo(of_scales)}
    for value in graph.values():
        if id(value) not in inside and value.op is not OPS["fake_quant"]:
            found -= {id(arg) for arg in value.args}
    return {inputs[i] for i in found}


def dropout_before_moves(graph: Graph) -> Graph:
    """Dropout of what is flattened is dropout before: so the flattening meets its product, whose
    weights can take its order (see `layout`)."""

    def rule(value: Value) -> Value | None:
        moves = []
        while value.op is OPS["dropout"] and (moved := value.args[0]).op in _MOVES:
            moves.append(moved)
            value = Value(value.op, moved.args, value.attrs, moved.args[0].type, None, value.where)
        for moved in reversed(moves):
            value = Value(moved.op, (value,), moved.attrs, moved.type, None, moved.where)
        return value

    return rewrite(graph, rule)


def step_key(seed: int, step: Value) -> Value:
    """A key for `training_form`, of step i64[]: another one in each step. seed: 32 bits."""
    words = const(np.array([seed], np.uint32)), p.reshape(p.cast(step, to=U32), shape=(1,))
    return p.concat(*words, axis=0)


def training_form(
    graph: Graph, key: Value, frozen: Collection[str] = ()
) -> tuple[Graph, dict[str, Value]]:
    """The graph as it is trained, and the new value of each running statistic by its input's name.

    key: u32[2] of which all random bits are made: another one for each step. frozen: names of
    inputs; norms whose statistics are among them, or are no inputs, stay in evaluation form.
    Raises InputError where a norm has one number per channel, which has no variance.
    """
    live = {id(v): name for name, v in statistics(graph).items() if name not in frozen}
    running: dict[str, Value] = {}
    streams = 0

    def rule(value: Value) -> Value | None:
        nonlocal streams
        name = value.op.name if value.op else ""
        if name == "batch_norm" and all(id(arg) in live for arg in value.args[3:]):
            mean, variance = (live[id(arg)] for arg in value.args[3:])
            with at(value.where):
                found, running[mean], running[variance] = _by_batch(*value.args, **value.attrs)
            return found
        if name == "pruned" and all(id(arg) in live for arg in value.args[1:3]):
            mask, state = (live[id(arg)] for arg in value.args[1:3])
            with at(value.where):
                running[mask], running[state] = advanced(*value.args, **value.attrs)
        if name == "dropout" and value.attrs["rate"]:
            streams += 1
            with at(value.where):
                return dropped(value.args[0], key, rate=value.attrs["rate"], stream=streams)
        return None

    return rewrite(graph, rule), running


def _by_batch(
    x: Value, scale: Value, shift: Value, mean: Value, variance: Value, *, epsilon: float
) -> tuple[Value, Value, Value]:
    """A norm in training: its result, and the new running mean and variance."""
    axes = tuple(range(x.type.rank - 1))
    count = prod(x.shape[:-1])
    if count < 2:
        raise InputError(
            f"a batch norm sees {count} numbers per channel",
            why="one number has no variance",
            hint="train with a larger batch, or freeze the norm",
        )
    y = layer_norm(x, scale, shift, axes=axes, epsilon=epsilon)
    own = reduce_mean(x, axes=axes)  # as the norm itself computes them
    centred = p.sub(x, own)
    spread = p.mul(reduce_mean(p.mul(centred, centred), axes=axes), count / (count - 1))
    return y, _follow(mean, own), _follow(variance, spread)


def _follow(running: Value, own: Value) -> Value:
    own = p.reshape(own, shape=running.shape)
    return p.add(p.mul(running, KEEP), p.mul(own, 1 - KEEP))
