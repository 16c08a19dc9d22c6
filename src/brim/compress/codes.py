"""Matrices as small integers in groups: real = (code - zero) * scale, and how to come near one.

A matrix is [summed, columns]; `group` consecutive rows of a column share a scale. This is the form
that `brim.ops.packed_weights.unpack` computes with; other ways to find codes are in `hqq`, `gptq`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from brim.graph import Value, const
from brim.ops.packed_weights import two_in_a_byte

SHRUNK = np.linspace(1.0, 0.7, 13)  # parts of the full range that are tried as the range of codes

_NEAR = 64  # zero points up to this size are in f16 within 1/64


@dataclass(frozen=True)
class Grid:
    """scale, zero: f32[groups, columns]; bits: of a code, in two's complement. symmetric: all zeros
    are 0. A scale may be negative: so the largest number of a group may meet the lowest code."""

    scale: np.ndarray
    zero: np.ndarray
    bits: int

    @property
    def limits(self) -> tuple[int, int]:
        return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1

    @property
    def symmetric(self) -> bool:
        return not self.zero.any()

    def nearest(self, parts: np.ndarray) -> np.ndarray:
        """The codes nearest to parts[groups, size, columns], as floats."""
        codes = np.rint(parts / self.scale[:, None] + self.zero[:, None])
        return np.clip(codes, *self.limits)

    def real(self, codes: np.ndarray) -> np.ndarray:
        """What codes[groups, size, columns] stand for."""
        return (codes - self.zero[:, None]) * self.scale[:, None]

    def replaced(self, where: np.ndarray, other: Grid) -> Grid:
        """With the scales and zero points of `other` where that is true."""
        scale = np.where(where, other.scale, self.scale)
        return Grid(scale, np.where(where, other.zero, self.zero), self.bits)


@dataclass(frozen=True)
class Codes:
    """Integers i8[groups, size, columns] on a grid."""

    integers: np.ndarray
    grid: Grid

    @property
    def matrix(self) -> np.ndarray:
        """The matrix f32[groups * size, columns] that they stand for."""
        found = self.grid.real(self.integers.astype(np.float32))
        return found.reshape(-1, found.shape[-1])

    @cached_property
    def stored(self) -> np.ndarray:
        """As they are stored: [groups * size * bits / 8, columns], i8 or, for 4 bits, u8."""
        groups, size, columns = self.integers.shape
        if self.grid.bits == 8:
            return self.integers.reshape(-1, columns)
        return two_in_a_byte(self.integers, 1).reshape(groups * size // 2, columns)

    @property
    def bytes(self) -> int:
        """Of all that is stored."""
        grid = [self.grid.scale] if self.grid.symmetric else [self.grid.scale, self.grid.zero]
        return self.stored.nbytes + sum(_halves(part).nbytes for part in grid)


def nearest(matrix: np.ndarray, group: int, bits: int, symmetric: bool) -> Codes:
    """Every number to its nearest code, on the grid of the least squared error in each group.

    matrix: f32[summed, columns]; `group` divides summed.
    """
    parts = matrix.reshape(-1, group, matrix.shape[1]).astype(np.float32)
    grid = grid_of(parts, bits, symmetric)
    return Codes(grid.nearest(parts).astype(np.int8), grid)


def grid_of(parts: np.ndarray, bits: int, symmetric: bool) -> Grid:
    """The grid, of some, on which the nearest codes of parts[groups, size, columns] have the least
    squared error: full range and smaller ones, which cut off few large numbers."""
    best: Grid | None = None
    least = np.full((parts.shape[0], parts.shape[2]), np.inf)
    for grid in _grids(parts, bits, symmetric):
        error = np.square(grid.real(grid.nearest(parts)) - parts).sum(1)
        if best is None:
            best, least = grid, error
            continue
        better = error < least
        least = np.where(better, error, least)
        best = best.replaced(better, grid)
    assert best is not None
    return best


def _grids(parts: np.ndarray, bits: int, symmetric: bool) -> list[Grid]:
    top = float((1 << (bits - 1)) - 1)
    high, low = parts.max(1), parts.min(1)
    none = np.zeros_like(high)
    found = []
    for part in SHRUNK:
        if symmetric:
            found.append(Grid(storable(np.maximum(high, -low) * part / top), none, bits))
            extreme = np.where(high > -low, high, low)
            found.append(Grid(storable(extreme * part / -(top + 1)), none, bits))
        else:
            middle, half = (high + low) / 2, (high - low) / 2 * part
            scale = storable(half / (top + 0.5))
            found.append(Grid(scale, storable_zero(-0.5 - middle / scale), bits))
    return found


def storable(numbers: np.ndarray) -> np.ndarray:
    """Scales as they are stored, in f32; zeros become 1.

    They are rounded to f16 where all of them are normal numbers there.
    """
    numbers = np.where(numbers == 0, np.float32(1), numbers).astype(np.float32)
    limits = np.finfo(np.float16)
    size = np.abs(numbers)
    return _rounded(numbers, bool(np.all((size >= limits.tiny) & (size <= limits.max))))


def storable_zero(numbers: np.ndarray) -> np.ndarray:
    """Zero points as they are stored, in f32: rounded to f16 where that moves none by much."""
    numbers = numbers.astype(np.float32)
    return _rounded(numbers, bool(np.all(np.abs(numbers) <= _NEAR)))


def _rounded(numbers: np.ndarray, short: bool) -> np.ndarray:
    return numbers.astype(np.float16).astype(np.float32) if short else numbers


def small(numbers: np.ndarray) -> Value:
    """A grid's numbers as a constant: of f16 where that has them, else of f32."""
    return const(_halves(numbers))


def _halves(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = numbers.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), numbers) else numbers
