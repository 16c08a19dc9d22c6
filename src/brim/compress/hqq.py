"""Half-quadratic quantization: grids that outliers do not bend, found without any data.

H. Badri, A. Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023. The error
is measured by the p-norm, p < 1: a few weights may be far off, most are near. Two steps take turns:
an error for each weight that is mostly zero, and the grid that is best for what is left.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from brim.compress.codes import Codes, Grid, grid_of, storable, storable_zero

NORM, ROUNDS = 0.7, 20
SHARPNESS, GROWTH = 10.0, 1.01  # of the quadratic part, in the first round and from round to round


def half_quadratic(matrix: np.ndarray, group: int, bits: int, symmetric: bool) -> Codes:
    """Codes of f32[summed, columns] on the grid of the least error in the p-norm; `group` divides
    summed. With zero points these are fitted, as in the paper; without, the scales are."""
    parts = matrix.reshape(-1, group, matrix.shape[1]).astype(np.float32)
    grid = best = grid_of(parts, bits, symmetric)
    least = _error(parts, best)
    unit = np.abs(grid.scale)[:, None]  # errors are measured in steps
    sharpness = SHARPNESS
    for _ in range(ROUNDS):
        codes = grid.nearest(parts)
        error = (parts - grid.real(codes)) / unit
        goal = parts - _shrunk(error, sharpness) * unit
        grid = _fitted(grid, codes, goal, symmetric)
        found = _error(parts, grid)
        better = found < least
        least = np.where(better, found, least)
        best = best.replaced(better, grid)
        sharpness *= GROWTH
    return Codes(best.nearest(parts).astype(np.int8), best)


def _error(parts: np.ndarray, grid: Grid) -> np.ndarray:
    return np.power(np.abs(parts - grid.real(grid.nearest(parts))), NORM).sum(1)


def _shrunk(error: np.ndarray, sharpness: float) -> np.ndarray:
    """The generalized soft threshold: what of the errors is taken for outliers."""
    size = np.abs(error)
    limit = np.power(np.maximum(size, 1e-8), NORM - 1) / sharpness
    return np.sign(error) * np.maximum(size - limit, 0)


def _fitted(grid: Grid, codes: np.ndarray, goal: np.ndarray, symmetric: bool) -> Grid:
    """The grid of which these codes are nearest to the goal, by squares."""
    if not symmetric:
        return replace(grid, zero=storable_zero((codes - goal / grid.scale[:, None]).mean(1)))
    squares = np.square(codes).sum(1)
    scale = (codes * goal).sum(1) / np.where(squares == 0, 1, squares)
    return replace(grid, scale=storable(np.where(scale == 0, grid.scale, scale)))
