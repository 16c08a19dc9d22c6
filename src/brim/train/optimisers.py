"""Optimisers: how a weight moves along its slope, and what is remembered of it from step to step.

An optimiser is a small record of its options. `slots(weight)` gives what it remembers of a weight,
with its first content; `update` makes expressions of the moved weight and of the new slots. How
slopes are found, clipped and summed is `brim.train.step`. With equal options, and a rate that is a
plain number, each moves weights as the one of that name in torch does.

Decay pulls weights towards 0. `decay_vectors=False` leaves those of at most one axis alone: biases,
and the scales and shifts of norms, which decay does not help (Goyal 2017, arXiv:1706.02677; He
2018, "Bag of tricks", arXiv:1812.01187). The scales of a `quantized` network never decay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from brim.errors import InputError
from brim.graph import Value, const
from brim.ops import primitive as p
from brim.train.schedules import Rate
from brim.types import F64

Slots = dict[str, Value]
Moved = tuple[Value, Slots]


class Optimiser(Protocol):
    """What `training_step` asks of an optimiser."""

    @property
    def rate(self) -> Rate:
        """A number, or a schedule."""

    def slots(self, weight: np.ndarray) -> dict[str, np.ndarray]:
        """What is remembered of a weight, f32 by name, before the first step."""

    def update(self, weight: Value, slope: Value, slots: Slots, step: Value, rate: Value) -> Moved:
        """The moved weight and the new slots, of the types of the old ones.

        slope: of the loss, of the weight's type. step: i64[], updates made before. rate: f64[].
        """


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent. With momentum weights move along the sum of all slopes so far,
    of which each counts `momentum` times the one after it (Polyak 1964); nesterov: along that sum
    as it will be one step later (Sutskever 2013, "On the importance of initialization and
    momentum"). decay: times the weight is added to the slope."""

    rate: Rate
    momentum: float = 0.0
    nesterov: bool = False
    decay: float = 0.0
    decay_vectors: bool = True

    def __post_init__(self) -> None:
        _checked(self.rate, self.decay, momentum=self.momentum)
        if self.nesterov and not self.momentum:
            raise InputError("nesterov without momentum", hint="SGD(rate, momentum=0.9, ...)")

    def slots(self, weight: np.ndarray) -> dict[str, np.ndarray]:
        return _zeros(weight, "momentum") if self.momentum else {}

    def update(self, weight: Value, slope: Value, slots: Slots, step: Value, rate: Value) -> Moved:
        if _decays(self, weight):
            slope = p.add(slope, p.mul(weight, self.decay))
        new: Slots = {}
        if self.momentum:
            new["momentum"] = p.add(p.mul(slots["momentum"], self.momentum), slope)
            ahead = p.add(slope, p.mul(new["momentum"], self.momentum))
            slope = ahead if self.nesterov else new["momentum"]
        return p.sub(weight, p.mul(slope, p.cast(rate, to=weight.dtype))), new


@dataclass(frozen=True)
class Adam:
    """Weights move by the mean of slopes over the root of the mean of their squares (Kingma 2014,
    arXiv:1412.6980). betas: how much of each mean a step keeps. epsilon: is added to the root.
    decay: times the weight is added to the slope; what is called weight decay is mostly better
    done by AdamW."""

    rate: Rate
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    decay: float = 0.0
    decay_vectors: bool = True

    def __post_init__(self) -> None:
        _checked(self.rate, self.decay, **dict(zip(("first beta", "second beta"), self.betas)))

    def slots(self, weight: np.ndarray) -> dict[str, np.ndarray]:
        return _zeros(weight, "mean", "square")

    def update(self, weight: Value, slope: Value, slots: Slots, step: Value, rate: Value) -> Moved:
        if _decays(self, weight):
            slope = p.add(slope, p.mul(weight, self.decay))
        move, new = _adam(slope, slots, step, rate, self.betas, self.epsilon)
        return p.sub(weight, move), new


@dataclass(frozen=True)
class AdamW:
    """Adam, with a decay of the weight itself by rate * decay, which does not go through the means
    (Loshchilov 2017, "Decoupled weight decay regularization", arXiv:1711.05101)."""

    rate: Rate
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    decay: float = 1e-2
    decay_vectors: bool = True

    def __post_init__(self) -> None:
        _checked(self.rate, self.decay, **dict(zip(("first beta", "second beta"), self.betas)))

    def slots(self, weight: np.ndarray) -> dict[str, np.ndarray]:
        return _zeros(weight, "mean", "square")

    def update(self, weight: Value, slope: Value, slots: Slots, step: Value, rate: Value) -> Moved:
        move, new = _adam(slope, slots, step, rate, self.betas, self.epsilon)
        if _decays(self, weight):
            weight = p.mul(weight, p.cast(p.sub(1.0, p.mul(rate, self.decay)), to=weight.dtype))
        return p.sub(weight, move), new


@dataclass(frozen=True)
class Lion:
    """Every weight moves by the rate, against the sign of a mean of slopes (Chen 2023, "Symbolic
    discovery of optimization algorithms", arXiv:2302.06675). Its rate is 3 to 10 times smaller
    than Adam's. decay: of the weight itself by rate * decay."""

    rate: Rate
    betas: tuple[float, float] = (0.9, 0.99)
    decay: float = 0.0
    decay_vectors: bool = True

    def __post_init__(self) -> None:
        _checked(self.rate, self.decay, **dict(zip(("first beta", "second beta"), self.betas)))

    def slots(self, weight: np.ndarray) -> dict[str, np.ndarray]:
        return _zeros(weight, "mean")

    def update(self, weight: Value, slope: Value, slots: Slots, step: Value, rate: Value) -> Moved:
        now, later = (_mixed(slots["mean"], slope, beta) for beta in self.betas)
        if _decays(self, weight):
            weight = p.mul(weight, p.cast(p.sub(1.0, p.mul(rate, self.decay)), to=weight.dtype))
        return p.sub(weight, p.mul(p.sign(now), p.cast(rate, to=weight.dtype))), {"mean": later}


def _adam(
    slope: Value,
    slots: Slots,
    step: Value,
    rate: Value,
    betas: tuple[float, float],
    epsilon: float,
) -> Moved:
    """How far Adam moves, and its new means.

    Both means begin at 0, and after t steps have 1 - beta**t of what they would have. That is made
    up for in two numbers, which are computed in f64: 1 - 0.999 has few digits in f32.
    """
    mean = _mixed(slots["mean"], slope, betas[0])
    square = _mixed(slots["square"], p.mul(slope, slope), betas[1])
    t = p.cast(p.add(step, 1), to=F64)
    first, second = (p.sub(1.0, p.power(const(np.float64(beta)), t)) for beta in betas)
    length = p.add(p.div(p.sqrt(square), p.cast(p.sqrt(second), to=slope.dtype)), epsilon)
    return p.mul(p.div(mean, length), p.cast(p.div(rate, first), to=slope.dtype)), {
        "mean": mean,
        "square": square,
    }


def _mixed(old: Value, new: Value, kept: float) -> Value:
    return p.add(p.mul(old, kept), p.mul(new, 1 - kept))


def _zeros(weight: np.ndarray, *names: str) -> dict[str, np.ndarray]:
    return {name: np.zeros(weight.shape, np.float32) for name in names}


def _decays(optimiser: SGD | Adam | AdamW | Lion, weight: Value) -> bool:
    return optimiser.decay > 0 and (optimiser.decay_vectors or weight.type.rank > 1)


def without_decay(optimiser: Optimiser) -> Optimiser:
    """The optimiser for weights that are no factors of anything, such as logarithms."""
    if isinstance(optimiser, SGD | Adam | AdamW | Lion):
        return replace(optimiser, decay=0.0)
    return optimiser


def _checked(rate: Rate, decay: float, **shares: float) -> None:
    """Raises InputError for options that cannot be meant."""
    if isinstance(rate, int | float) and not rate > 0:
        raise InputError(f"the rate is {rate}", hint="it must be above 0")
    if not decay >= 0:
        raise InputError(f"decay is {decay}", hint="it must not be below 0")
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise InputError(f"{name} is {share}", hint=f"a share: 0 <= {name} < 1")
