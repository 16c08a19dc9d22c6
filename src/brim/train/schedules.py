"""Schedules: the rate of learning at each step, computed in the graph from the step's number.

A schedule is a small record with `at(step)`: step i64[], which counts updates from 0, gives f64[].
A plain number is a schedule, too. Sums and cosines are those of f64, so that the rates are the ones
that people know from elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Protocol

import numpy as np

from brim.errors import InputError
from brim.graph import Value, const
from brim.ops import primitive as p
from brim.types import F64


class Schedule(Protocol):
    """A rate that depends on the step."""

    def at(self, step: Value) -> Value:
        """The rate f64[] at step i64[]."""


Rate = float | Schedule


def rate_at(rate: Rate, step: Value) -> Value:
    """The rate f64[] of a number or a schedule at step i64[], the number of updates before it."""
    return const(np.float64(rate)) if isinstance(rate, int | float) else rate.at(step)


def rate_of(rate: Rate, step: int) -> float:
    """`rate_at` as a number."""
    found = rate_at(rate, const(np.int64(step))).data
    assert found is not None  # all is constant
    return float(found)


@dataclass(frozen=True)
class Warmup:
    """Up to the rate with which `then` begins in so many equal `steps`, and `then` from there on.

    The first step has 1 / steps of that rate (Goyal 2017, "Accurate, large minibatch SGD",
    arXiv:1706.02677).
    """

    steps: int
    then: Rate

    def __post_init__(self) -> None:
        _count("steps", self.steps)

    def at(self, step: Value) -> Value:
        part = p.minimum(_share(p.add(step, 1), self.steps), 1.0)
        return p.mul(rate_at(self.then, p.maximum(p.sub(step, self.steps), 0)), part)


@dataclass(frozen=True)
class Cosine:
    """From `rate` to `end` along half a cosine in so many steps (Loshchilov 2016, "SGDR",
    arXiv:1608.03983); `end` from there on."""

    rate: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        _count("steps", self.steps)

    def at(self, step: Value) -> Value:
        return _along_cosine(self.rate, self.end, p.minimum(_share(step, self.steps), 1.0))


@dataclass(frozen=True)
class Steps:
    """`rate`, multiplied by `factor` at each of the steps `falls`."""

    rate: float
    falls: tuple[int, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        if not self.falls or min(self.falls) < 1:
            raise InputError(f"the rate changes at steps {self.falls}", hint="steps count from 1")

    def at(self, step: Value) -> Value:
        passed = p.cast(p.ge(step, const(np.array(self.falls, np.int64))), to=F64)
        count = p.reshape(p.reduce(passed, op="add", axes=(0,)), shape=())
        return p.mul(p.power(const(np.float64(self.factor)), count), self.rate)


@dataclass(frozen=True)
class Polynomial:
    """From `rate` to `end` in so many steps: what is left of the way is the share of steps that are
    left to the given power, 1 for a straight line; `end` from there on."""

    rate: float
    steps: int
    power: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        _count("steps", self.steps)

    def at(self, step: Value) -> Value:
        left = p.maximum(p.sub(1.0, _share(step, self.steps)), 0.0)
        way = left if self.power == 1 else p.power(left, self.power)
        return p.add(p.mul(way, self.rate - self.end), self.end)


@dataclass(frozen=True)
class OneCycle:
    """Up from peak / `start` to `peak` in the first `rise` of so many steps, and down to peak /
    `start` / `end` in the others, both along half a cosine (Smith 2017, "Super-convergence",
    arXiv:1708.07120)."""

    peak: float
    steps: int
    rise: float = 0.3
    start: float = 25.0
    end: float = 1e4

    def __post_init__(self) -> None:
        _count("steps", self.steps)
        if not 1 <= self.rise * self.steps < self.steps:
            raise InputError(
                f"a rise of {self.rise} of {self.steps} steps",
                hint="it takes at least one step, and leaves some",
            )

    def at(self, step: Value) -> Value:
        low, last = self.peak / self.start, self.peak / self.start / self.end
        # both ends have steps of their own: the top is at step top, the end at the last step
        top = self.rise * self.steps - 1
        done = p.cast(step, to=F64)
        up = p.div(done, top) if top else p.add(done, 1.0)
        down = p.div(p.sub(done, top), self.steps - 1 - top)
        rising = _along_cosine(low, self.peak, p.minimum(up, 1.0))
        falling = _along_cosine(self.peak, last, p.minimum(p.maximum(down, 0.0), 1.0))
        return p.select(p.le(done, top), rising, falling)


def _count(name: str, number: int) -> None:
    if number < 1:
        raise InputError(f"{name} is {number}", hint="at least one step")


def _share(step: Value, steps: int) -> Value:
    return p.div(p.cast(step, to=F64), float(steps))


def _along_cosine(begin: float, end: float, share: Value) -> Value:
    """From begin (share 0) to end (share 1) along half a cosine."""
    way = p.mul(p.add(p.cos(p.mul(share, pi)), 1.0), 0.5)
    return p.add(p.mul(way, begin - end), end)
