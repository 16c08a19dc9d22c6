"""Which weights matter least: scores, and masks that keep a share of them.

Pure arrays, so that training can draw its masks from here, too. Weights are matrices [k, o], as
`Matrices.pack` gives them: what is pruned together in blocks are neighbouring outputs of one input.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def magnitude(weights: np.ndarray) -> np.ndarray:
    """The square of each weight, relative to that of all that are at least as large.

    So scores of layers can be compared, and no layer loses everything. (Lee 2021, "Layer-adaptive
    sparsity for the magnitude-based pruning", arXiv:2010.07611.)
    """
    squares = np.square(weights, dtype=np.float64).reshape(-1)
    order = np.argsort(squares, kind="stable")
    above = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = squares[order] / np.maximum(above, np.finfo(np.float64).tiny)
    return scores.reshape(weights.shape)


def movement(weights: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """What the loss would change by without each weight, to first order, squared; slopes: its
    gradient. (Molchanov 2019, "Importance estimation for neural network pruning",
    arXiv:1906.10771; while weights move, arXiv:2005.07683.)"""
    return np.square(weights.astype(np.float64) * slopes)


def densities(scores: Mapping[int, np.ndarray], sparsity: float) -> dict[int, float]:
    """The share of each layer's weights that is kept if the lowest of all layers go."""
    everything = np.concatenate([each.reshape(-1) for each in scores.values()])
    count = round(sparsity * everything.size)
    if count == 0:
        return dict.fromkeys(scores, 1.0)
    limit = np.partition(everything, count - 1)[count - 1]
    return {key: float((each > limit).mean()) for key, each in scores.items()}


def mask(scores: np.ndarray, kept: float, width: int = 1) -> np.ndarray:
    """bool[k, o]: the `kept` share of [k, o] with the highest scores.

    width: of blocks of neighbouring outputs that stay or go as one; it divides o. Then each of
    their groups keeps equally many, as `sparse_matmul` wants it. At least one is kept.
    """
    inputs, outputs = scores.shape
    if width == 1:
        count = max(1, round(kept * scores.size))
        order = np.argsort(-scores, axis=None, kind="stable")[:count]
        found = np.zeros(scores.size, bool)
        found[order] = True
        return found.reshape(scores.shape)
    blocks = scores.reshape(inputs, outputs // width, width).sum(axis=2)
    count = max(1, round(kept * inputs))
    order = np.argsort(-blocks, axis=0, kind="stable")[:count]
    found = np.zeros(blocks.shape, bool)
    np.put_along_axis(found, order, True, axis=0)
    return np.repeat(found, width, axis=1)
