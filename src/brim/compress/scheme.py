"""Where a network's numbers are integers, and what they stand for: real = scale * (integer - zero).

A scheme is data: the steps that find good scales and roundings change it, `integers` builds the
graph that it describes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

ACTIVATIONS = 255  # quanta of a u8
WEIGHTS = 127  # the largest i8 that has an opposite
PAIR = 128  # the largest sum of two neighbours, of which 255 times as much fits 16 bits


@dataclass(frozen=True)
class Quant:
    """What the u8 of a tensor stand for. zero: the integer that is 0."""

    scale: float
    zero: int

    def integer(self, real: float) -> int:
        """The integer nearest to a real number; of infinities the last one."""
        nearest = np.rint(np.clip(real / self.scale, -(2**20), 2**20)) + self.zero
        return int(np.clip(nearest, 0, ACTIVATIONS))


@dataclass(frozen=True)
class IntWeights:
    """The weights of one product as integers.

    integers: i8, of the constant's shape, in [-127, 127]. scale: f32, of the same rank; 1 along the
    axes that are summed over. shift: f32, what is added to the product's results, of the shape that
    `Layer.along_result` gives scales, or None.
    """

    integers: np.ndarray
    scale: np.ndarray
    shift: np.ndarray | None = None

    @property
    def real(self) -> np.ndarray:
        """What the integers stand for, f32."""
        return self.integers * self.scale


@dataclass(frozen=True)
class Scheme:
    """activations: id of a value that is stored as u8 -> what they stand for. weights: id of a
    product that is computed in integers -> its weights."""

    activations: Mapping[int, Quant] = field(default_factory=lambda: MappingProxyType({}))
    weights: Mapping[int, IntWeights] = field(default_factory=lambda: MappingProxyType({}))


def quant_of(low: float, high: float) -> Quant:
    """The u8 that cover [low, high] and 0, which is represented exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    width = high - low
    scale = float(np.float32(width / ACTIVATIONS)) if width else 1.0
    scale = max(scale, float(np.finfo(np.float32).tiny))
    return Quant(scale, int(np.clip(np.rint(-low / scale), 0, ACTIVATIONS)))


def nearest_weights(w: np.ndarray, axes: tuple[int, ...], pairs: int | None = None) -> IntWeights:
    """Weights rounded to the nearest i8; the slices over `axes` reach from -127 to 127 each.

    pairs: an axis along which neighbours are multiplied and added in 16 bits where a processor has
    no better instruction (x86's pmaddubsw). The integers of two neighbours sum up to at most PAIR
    then if they are of one sign, so that no sum with u8 saturates; scales are larger for that.
    """
    largest = np.max(np.abs(w), axis=axes, keepdims=True, initial=0)
    if pairs is not None:
        for part in (np.maximum(w, 0), np.maximum(-w, 0)):
            sums = np.max(_neighbours(part, pairs), axis=axes, keepdims=True, initial=0)
            largest = np.maximum(largest, sums)  # 127, and half a unit of rounding for each
    scale = (largest / WEIGHTS).astype(np.float32)
    scale = np.where(scale > 0, scale, np.float32(1))
    integers = np.clip(np.rint(w / scale), -WEIGHTS, WEIGHTS)
    return IntWeights(integers.astype(np.int8), scale)


def _neighbours(w: np.ndarray, axis: int) -> np.ndarray:
    """w[2j] + w[2j + 1] along an axis; of a last one without a neighbour, itself."""
    starts = np.arange(0, w.shape[axis], 2)
    return np.add.reduceat(w, starts, axis=axis)
