"""GPTQ: weights rounded one row after another, the later ones making up for the earlier's error.

E. Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", arXiv:2210.17323. What counts is the error of a layer's results on calibration data,
of which its inputs' second moments say everything.
"""

from __future__ import annotations

import numpy as np

from brim.compress.codes import Codes, Grid, grid_of
from brim.compress.moments import Moments

BLOCK = 128  # rows, at most or of one group, whose errors reach the later ones at once


def errors_factor(moments: Moments) -> np.ndarray:
    """f64[k, k], upper: row i says how the error of input i's weight is made up for by the later
    ones: the Cholesky factor of the inverse of the second moments."""
    damped = moments.second + moments.damping * np.eye(len(moments.second))
    return np.linalg.cholesky(np.linalg.inv(damped)).T


def gptq(matrix: np.ndarray, known: np.ndarray, group: int, bits: int, symmetric: bool) -> Codes:
    """Codes of f32[summed, columns] for inputs of which `known` is the `errors_factor`; `group`
    divides summed. Rows beyond those of the factor are filled up with zeros, for no inputs.

    A group's grid follows from its weights as the errors of earlier groups have left them.
    """
    factor = np.eye(len(matrix))
    factor[: len(known), : len(known)] = known
    weights = matrix.astype(np.float64)
    integers = np.zeros(weights.shape, np.int8)
    grids: list[Grid] = []
    block = max(BLOCK // group, 1) * group
    for start in range(0, len(weights), block):
        end = min(start + block, len(weights))
        errors = np.zeros((end - start, weights.shape[1]))
        for row in range(start, end):
            if row % group == 0:
                parts = weights[None, row : row + group].astype(np.float32)
                grids.append(grid_of(parts, bits, symmetric))
            codes = grids[-1].nearest(weights[None, row : row + 1])
            integers[row] = codes[0, 0]
            error = (weights[row] - grids[-1].real(codes)[0, 0]) / factor[row, row]
            weights[row + 1 : end] -= np.outer(factor[row, row + 1 : end], error)
            errors[row - start] = error
        weights[end:] -= factor[start:end, end:].T @ errors
    scale, zero = (np.concatenate([getattr(g, n) for g in grids]) for n in ("scale", "zero"))
    return Codes(integers.reshape(-1, group, weights.shape[1]), Grid(scale, zero, bits))
