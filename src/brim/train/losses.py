"""Losses: how far a network's output is from its target, one number for each sample of a batch.

A loss is a small record of its options. Called with two values it gives the expression
f32[batch]: the loss of each sample, which is the mean over all that the sample has (pixels, words,
elements). `target(type)` says what type the target of an output has, `metrics` what else is worth
knowing of each sample, f32[batch] by name. All is computed in f32 (f64 where the output is), in
forms that neither overflow nor lose their slopes where outputs are extreme.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan, prod
from typing import Protocol

import numpy as np

from brim.errors import InputError, OpError
from brim.graph import Value, const
from brim.ops import math as maths
from brim.ops import primitive as p
from brim.types import F32, I64, Type


class Loss(Protocol):
    """What `training_step` asks of a loss."""

    def target(self, output: Type) -> Type:
        """The type of the target that belongs to an output of this type. Raises OpError."""

    def __call__(self, output: Value, target: Value) -> Value:
        """The loss of each sample, f32[batch]. Raises OpError for types that do not fit."""

    def metrics(self, output: Value, target: Value) -> dict[str, Value]:
        """What else is measured of each sample, f32[batch] by name."""


# ------------------------------------------------------------------ classes


@dataclass(frozen=True)
class CrossEntropy:
    """-log of the probability that softmax(output) gives the right class; an output that ends in
    softmax is taken to be that probability.

    Targets are class numbers, i64 of the output's shape without its `axis` of classes: i64[batch]
    for f32[batch, classes], or one for each pixel or word. A number that is no class gives NaN.
    soft: targets are probabilities instead, f32 of the output's shape, as mixed samples have.
    smoothing: this share of every target is spread evenly over all classes (Szegedy 2016,
    "Rethinking the Inception architecture for computer vision", arXiv:1512.00567).
    """

    smoothing: float = 0.0
    soft: bool = False
    axis: int = -1

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise InputError(f"smoothing is {self.smoothing}", hint="a share: 0 <= smoothing < 1")

    def target(self, output: Type) -> Type:
        axis = _axis(self.axis, output)
        if self.soft:
            return _floats(output)
        return Type(output.dims[:axis] + output.dims[axis + 1 :], I64)

    def __call__(self, output: Value, target: Value) -> Value:
        _check(self, output, target)
        axis = _axis(self.axis, output.type)
        log = maths.log_softmax(_wide(before_softmax(output, axis)), axis=axis)
        # nothing is expected of a class without a share, not even that it is possible
        if self.soft:
            expected = _where(p.gt(target, 0), p.mul(target, log))
        else:
            expected = _where(self._is_class(output.type, target), log)
        loss = p.neg(_total(expected, axis))
        if self.smoothing:
            even = p.mul(_total(log, axis), self.smoothing / output.shape[axis])
            loss = p.sub(p.mul(loss, 1 - self.smoothing), even)
        return _of_samples(loss if self.soft else self._known(output.type, target, loss))

    def metrics(self, output: Value, target: Value) -> dict[str, Value]:
        """accuracy: the share of a sample's positions whose class is named."""
        axis = _axis(self.axis, output.type)
        wanted = _largest(target, axis) if self.soft else target
        return {"accuracy": _of_samples(p.cast(p.eq(_largest(output, axis), wanted), to=F32))}

    def _is_class(self, output: Type, target: Value) -> Value:
        """bool of the output's shape: where the class of a position is."""
        axis = _axis(self.axis, output)
        labels = p.reshape(target, shape=_with_one(output.dims, axis))
        numbers = np.arange(output.dims[axis]).reshape(
            [-1 if i == axis else 1 for i in range(output.rank)]
        )
        return p.eq(labels, const(numbers))

    def _known(self, output: Type, target: Value, loss: Value) -> Value:
        """The loss where the target is a class, else NaN."""
        classes = output.dims[_axis(self.axis, output)]
        known = p.bit_and(p.ge(target, 0), p.lt(target, classes))
        return p.select(known, loss, const(np.asarray(nan, loss.dtype.numpy)))


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """-log of the probability that sigmoid(output) gives the target, for each output by itself; an
    output that ends in sigmoid is taken to be that probability.

    Targets are f32 of the output's shape, from 0 to 1.
    """

    def target(self, output: Type) -> Type:
        return _floats(output)

    def __call__(self, output: Value, target: Value) -> Value:
        _check(self, output, target)
        x = _wide(_before("sigmoid", output))
        # softplus(x) - x * target, from the side where little is subtracted from little
        high = p.ge(target, 0.5)
        rest = p.select(high, p.sub(1, target), p.neg(target))
        signed = p.select(high, p.neg(x), x)
        return _of_samples(p.add(maths.softplus(signed), p.mul(x, rest)))

    def metrics(self, output: Value, target: Value) -> dict[str, Value]:
        """accuracy: the share of outputs that are on the side of their targets."""
        hit = p.eq(p.gt(_before("sigmoid", output), 0), p.gt(target, 0.5))
        return {"accuracy": _of_samples(p.cast(hit, to=F32))}


@dataclass(frozen=True)
class KullbackLeibler:
    """How much softmax(output / temperature) differs from that of the target, for distillation.

    Targets are the teacher's logits, f32 of the output's shape; classes are along `axis`. Of what
    ends in softmax, output or target, the logits before it are taken. The divergence is multiplied
    by temperature**2, so that slopes do not depend on it (Hinton 2015, "Distilling the knowledge in
    a neural network", arXiv:1503.02531).
    """

    temperature: float = 1.0
    axis: int = -1

    def __post_init__(self) -> None:
        _positive("temperature", self.temperature)

    def target(self, output: Type) -> Type:
        _axis(self.axis, output)
        return _floats(output)

    def __call__(self, output: Value, target: Value) -> Value:
        _check(self, output, target)
        axis = _axis(self.axis, output.type)
        mine, theirs = (
            maths.log_softmax(p.div(_wide(before_softmax(x, axis)), self.temperature), axis=axis)
            for x in (output, target)
        )
        share = p.exp(theirs)
        differs = _where(p.gt(share, 0), p.mul(share, p.sub(theirs, mine)))
        return _of_samples(p.mul(_total(differs, axis), self.temperature**2))

    def metrics(self, output: Value, target: Value) -> dict[str, Value]:
        """agreement: the share of a sample's positions where both name the same class."""
        axis = _axis(self.axis, output.type)
        same = p.eq(_largest(output, axis), _largest(target, axis))
        return {"agreement": _of_samples(p.cast(same, to=F32))}


# ------------------------------------------------------------------ numbers


@dataclass(frozen=True)
class MeanSquared:
    """(output - target)**2. Targets are f32 of the output's shape."""

    def target(self, output: Type) -> Type:
        return _floats(output)

    def __call__(self, output: Value, target: Value) -> Value:
        off = _off(self, output, target)
        return _of_samples(p.mul(off, off))

    def metrics(self, output: Value, target: Value) -> dict[str, Value]:
        return {}


@dataclass(frozen=True)
class MeanAbsolute:
    """|output - target|, of which the slope is 0 where both are equal. Targets as MeanSquared's."""

    def target(self, output: Type) -> Type:
        return _floats(output)

    def __call__(self, output: Value, target: Value) -> Value:
        return _of_samples(p.absolute(_off(self, output, target)))

    def metrics(self, output: Value, target: Value) -> dict[str, Value]:
        return {}


@dataclass(frozen=True)
class Huber:
    """Half the squared error up to `delta`, from there on it grows as the error does (Huber 1964,
    "Robust estimation of a location parameter"). Targets as MeanSquared's."""

    delta: float = 1.0

    def __post_init__(self) -> None:
        _positive("delta", self.delta)

    def target(self, output: Type) -> Type:
        return _floats(output)

    def __call__(self, output: Value, target: Value) -> Value:
        off = _off(self, output, target)
        size = p.absolute(off)
        near = p.mul(p.mul(off, off), 0.5)
        far = p.mul(p.sub(size, self.delta / 2), self.delta)
        return _of_samples(p.select(p.le(size, self.delta), near, far))

    def metrics(self, output: Value, target: Value) -> dict[str, Value]:
        return {}


# ------------------------------------------------------------------ embeddings


@dataclass(frozen=True)
class Triplet:
    """max(0, margin + distance to the farthest of one's class - that to the nearest of another).

    Outputs are points f32[batch, n], targets class numbers i64[batch]. Triplets are made of the
    hardest that the batch has (Hermans 2017, "In defense of the triplet loss for person
    re-identification", arXiv:1703.07737); 0 where it has none. A number below 0 is no class and
    gives NaN.
    """

    margin: float = 0.2

    def __post_init__(self) -> None:
        _positive("margin", self.margin)

    def target(self, output: Type) -> Type:
        return _labels(output)

    def __call__(self, output: Value, target: Value) -> Value:
        _check(self, output, target)
        x = _wide(output)
        batch = x.shape[0]
        # which ones is found by products of all points, around their mean so that digits are kept
        centred = p.sub(x, maths.reduce_mean(x, axes=(0,)))
        square = p.reduce(p.mul(centred, centred), op="add", axes=(1,))
        apart = p.add(square, p.reshape(square, shape=(1, batch)))
        apart = p.sub(apart, p.mul(p.contract(centred, centred, spec="an,bn->ab"), 2))
        same, itself = _pairs(target)
        ours, others = p.bit_and(same, const(~itself)), p.bit_not(same)
        far = _distance(x, _first(p.neg(apart), ours))
        near = _distance(x, _first(apart, others))
        some = p.bit_and(_any(ours), _any(others))
        return _known(target, _where(some, maths.relu(p.add(p.sub(far, near), self.margin))))

    def metrics(self, output: Value, target: Value) -> dict[str, Value]:
        return {}


@dataclass(frozen=True)
class Contrastive:
    """-log of the probability that softmax(cosines / temperature) over all others in the batch
    gives those of one's class, their mean; 0 where there are none.

    Outputs are points f32[batch, n], targets class numbers i64[batch] (Khosla 2020, "Supervised
    contrastive learning", arXiv:2004.11362). With two views of each picture, and the picture's
    number as its class, that is the loss of Chen 2020 (SimCLR, arXiv:2002.05709). A number below 0
    is no class and gives NaN.
    """

    temperature: float = 0.1

    def __post_init__(self) -> None:
        _positive("temperature", self.temperature)

    def target(self, output: Type) -> Type:
        return _labels(output)

    def __call__(self, output: Value, target: Value) -> Value:
        _check(self, output, target)
        x = _wide(output)
        square = p.reduce(p.mul(x, x), op="add", axes=(1,))
        x = p.div(x, p.sqrt(p.maximum(square, 1e-24)))
        same, itself = _pairs(target)
        cosines = p.div(p.contract(x, x, spec="an,bn->ab"), self.temperature)
        never = const(np.asarray(np.finfo(x.dtype.numpy).min))
        log = maths.log_softmax(p.select(const(itself), never, cosines), axis=1)
        ours = p.bit_and(same, const(~itself))
        count = p.maximum(_total(p.cast(ours, to=x.dtype), 1), 1)
        return _known(target, p.div(p.neg(_total(_where(ours, log), 1)), count))

    def metrics(self, output: Value, target: Value) -> dict[str, Value]:
        return {}


# ------------------------------------------------------------------ parts


def _check(loss: Loss, output: Value, target: Value) -> None:
    wanted = loss.target(output.type)
    if target.type != wanted:
        raise OpError(f"{loss} takes targets {wanted} for outputs {output.type}, not {target.type}")


def _positive(name: str, number: float) -> None:
    if not number > 0:
        raise InputError(f"{name} is {number}", hint="it must be above 0")


def _floats(output: Type) -> Type:
    """The type of numbers of the output's shape, as `_wide` has them."""
    if not output.is_static or not output.dims or not output.dtype.is_float:
        raise OpError(f"there is no loss of outputs {output}", hint="floats, the batch first")
    return Type(output.dims, output.dtype if output.dtype.bits >= 32 else F32)


def _axis(axis: int, output: Type) -> int:
    """The axis of classes, counted from the front."""
    found = axis + _floats(output).rank * (axis < 0)
    if not 0 < found < output.rank:
        raise OpError(f"outputs {output} have no classes along axis {axis}")
    return found


def _labels(output: Type) -> Type:
    if _floats(output).rank != 2:
        raise OpError(f"outputs {output} are no points", hint="flatten them to f32[batch, n]")
    return Type(output.dims[:1], I64)


def _wide(output: Value) -> Value:
    """As f32, or f64 where it is that."""
    return output if output.dtype.bits >= 32 else p.cast(output, to=F32)


def _before(name: str, output: Value) -> Value:
    """What the operator of that name was applied to, in the output's shape, where the output is its
    result, maybe reshaped; else the output. Its slopes keep the digits that a quotient loses."""
    made = _reshaped(output)
    if made.op is None or made.op.name != name:
        return output
    return p.reshape(made.args[0], shape=output.shape)


def before_softmax(output: Value, axis: int) -> Value:
    """`_before` of a softmax along that axis of the output."""
    made = _reshaped(output)
    if made.op is None or made.op.name != "softmax":
        return output
    same = _split(made.shape, made.attrs["axis"]) == _split(output.shape, axis)
    return _before("softmax", output) if same else output


def _reshaped(value: Value) -> Value:
    while value.op is not None and value.op.name == "reshape":
        value = value.args[0]
    return value


def _split(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """How many elements there are before an axis, along it, and behind it."""
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])


def _off(loss: Loss, output: Value, target: Value) -> Value:
    _check(loss, output, target)
    return p.sub(_wide(output), target)


def _with_one(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], 1, *shape[axis + 1 :])


def _total(x: Value, axis: int) -> Value:
    """The sum along an axis, which goes."""
    total = p.reduce(x, op="add", axes=(axis,))
    return p.reshape(total, shape=x.shape[:axis] + x.shape[axis + 1 :])


def _where(chosen: Value, x: Value) -> Value:
    return p.select(chosen, x, maths.zero(x))


def _largest(x: Value, axis: int) -> Value:
    found = p.argreduce(x, op="max", axis=axis, last=False)
    return p.reshape(found, shape=x.shape[:axis] + x.shape[axis + 1 :])


def _distance(x: Value, partner: Value) -> Value:
    """Of each point to another, by its index."""
    off = p.sub(x, p.gather(x, partner, axis=0))
    square = _total(p.mul(off, off), 1)
    return p.sqrt(p.maximum(square, 1e-12))  # no slope, where that of a root is infinite


def _first(x: Value, among: Value) -> Value:
    """i64[n]: where the smallest number of each row is, of those that are `among` them."""
    limit = const(np.asarray(inf, x.dtype.numpy))
    found = p.argreduce(p.select(among, x, limit), op="min", axis=1, last=False)
    return p.reshape(found, shape=x.shape[:1])


def _any(x: Value) -> Value:
    return p.reshape(p.reduce(x, op="or", axes=(1,)), shape=x.shape[:1])


def _pairs(labels: Value) -> tuple[Value, np.ndarray]:
    """bool[batch, batch]: which two are of one class; which are one sample."""
    (batch,) = labels.shape
    same = p.eq(p.reshape(labels, shape=(batch, 1)), p.reshape(labels, shape=(1, batch)))
    return same, np.eye(batch, dtype=bool)


def _known(target: Value, loss: Value) -> Value:
    """The loss of each sample whose target may be a class, else NaN."""
    return p.select(p.ge(target, 0), loss, const(np.asarray(nan, loss.dtype.numpy)))


def _of_samples(x: Value) -> Value:
    """The mean over all axes but the first, which stays alone."""
    axes = tuple(range(1, len(x.shape)))
    return p.reshape(maths.reduce_mean(x, axes=axes), shape=x.shape[:1]) if axes else x
