"""Random ONNX operators: RandomNormal and its kin, Bernoulli, Multinomial, Dropout in training.

All are arithmetic on brim's one random operator, so nothing here draws a number: that happens when
the model runs. What a seed means is told in `brim.seeds`.
"""

from __future__ import annotations

import math

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import bounded
from brim.frontends.onnx.table import Call, operator
from brim.frontends.onnx.tensors import element
from brim.graph import Value, const
from brim.ops import dropout as layers
from brim.ops.random import DRAWN, classes, random
from brim.ops.storage import computable, convert
from brim.types import BF16, BOOL, F64, I32, I64, DType

_SEEDS = 1 << 32


def _seed(call: Call) -> int | None:
    """The seed attribute as 32 bits; None where the node has none."""
    seed = call.float("seed", None)
    if seed is None or math.isnan(seed):
        return None
    if math.isinf(seed):
        raise ModelError(f"{call.node.op} with seed {seed}")
    if seed == int(seed):
        return int(seed) % _SEEDS
    return int(np.float32(seed).view(np.uint32))  # seeds are floats in ONNX; this tells them apart


def _drawn(call: Call, shape: tuple[int, ...], normal: bool = False) -> Value:
    name = call.node.name or next(filter(None, call.node.outputs), "")
    if math.prod(bounded(shape)) > DRAWN:
        raise ModelError(f"{call.node.op} of shape {shape} is refused", f"over {DRAWN} elements")
    return random(shape=tuple(shape), normal=normal, seed=_seed(call), stream=name)


def _dtype(call: Call, default: DType | None = None) -> DType:
    number = call.int("dtype", None if default else 1)
    return default if number is None and default else element(number, call.node.op)


def _distributed(call: Call, shape: tuple[int, ...], dtype: DType) -> Value:
    if not dtype.is_float and dtype != BF16:
        raise ModelError(f"{call.node.op} of {dtype}", "its numbers are floats")
    if call.node.op.startswith("RandomNormal"):
        mean, scale = call.float("mean", 0.0), call.float("scale", 1.0)
        return convert(p.add(p.mul(_drawn(call, shape, True), scale), mean), dtype)
    low, high = call.float("low", 0.0), call.float("high", 1.0)
    return convert(p.add(p.mul(_drawn(call, shape), high - low), low), dtype)


@operator("RandomNormal", "RandomUniform")
def random_of_shape(call: Call) -> Value:
    return _distributed(call, call.ints("shape"), _dtype(call))


@operator("RandomNormalLike", "RandomUniformLike", storage=True)
def random_like(call: Call) -> Value:
    return _distributed(call, call[0].shape, _dtype(call, call[0].dtype))


@operator("Bernoulli", since=15, storage=True)
def bernoulli(call: Call) -> Value:
    chance = call[0]
    hit = p.lt(_drawn(call, chance.shape), convert(chance, F64))
    return convert(hit, _dtype(call, chance.dtype))


@operator("Multinomial", since=7)
def multinomial(call: Call) -> Value:
    logits, count = call[0], call.int("sample_size", 1)
    dtype = element(call.int("dtype", 6), call.node.op)
    if len(logits.shape) != 2 or not logits.shape[1] or count < 1 or dtype not in (I32, I64):
        raise ModelError(f"Multinomial of {count} samples from {logits.type} as {dtype}")
    batch, kinds = logits.shape
    bounded((batch, count, kinds))
    return convert(classes(convert(logits, F64), _drawn(call, (batch, count))), dtype)


@operator("Dropout", since=7, storage=True)
def dropout(call: Call) -> object:
    call.ignore("ratio", "seed", 1)  # of inference, which drops nothing
    if call.scope is not None and call.scope.trains:
        call.ignore(2)
        return droppable(call, _ratio(call) if call.version >= 12 else call.float("ratio", 0.5))
    training = call.given(2) and bool(call.array(2).any())
    return dropped(call, _ratio(call)) if training else undropped(call)


def _ratio(call: Call) -> float:
    ratio = float(call.array(1).reshape(())) if call.given(1) else 0.5
    if not 0 <= ratio < 1:
        raise ModelError(f"Dropout with ratio {ratio}")
    return ratio


def droppable(call: Call, ratio: float) -> object:
    """Dropout's results where the graph is imported for training: as in evaluation, for now."""
    kept = undropped(call)
    y = layers.dropout(call[0], rate=ratio)
    return (y, kept[1]) if isinstance(kept, tuple) else y


def undropped(call: Call) -> object:
    """Dropout's results when nothing is trained: its input, and a mask of ones."""
    if not call.wants(1):
        return call[0]
    kind = bool if call.version >= 10 else call[0].dtype.numpy  # the mask was of the input's type
    return call[0], p.broadcast(const(np.ones((), kind)), shape=call[0].shape)


def dropped(call: Call, ratio: float) -> object:
    """Dropout's results in training: each element kept with chance 1 - ratio, scaled; and which."""
    x = call[0]
    if not ratio:
        return undropped(call)
    mask = p.ge(_drawn(call, x.shape), ratio)
    wide = computable(x)
    y = p.mul(p.mul(convert(mask, wide.dtype), wide), 1 / (1 - ratio))
    return convert(y, x.dtype), convert(mask, BOOL)
