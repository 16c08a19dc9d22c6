"""Which weights matter least: scores, and masks that keep a share of them.

Pure arrays, so that training can draw its masks from here, too. Weights are matrices [k, o], as
`Matrices.pack` gives them: what is pruned together in blocks are neighbouring outputs of one input.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def blocks(squares: np.ndarray, width: int) -> np.ndarray:
    """Sums over `width` neighbouring outputs, which it divides: [k, o / width] of [k, o]."""
    inputs, outputs = squares.shape
    return squares.reshape(inputs, outputs // width, width).sum(axis=2)


def relative(squares: np.ndarray) -> np.ndarray:
    """Each square, relative to the sum of all that are at least as large.

    So magnitudes of layers can be compared, and no layer loses everything. (Lee 2021,
    "Layer-adaptive sparsity for the magnitude-based pruning", arXiv:2010.07611.)
    """
    flat = squares.reshape(-1)
    order = np.argsort(flat, kind="stable")
    above = np.cumsum(flat[order][::-1])[::-1]
    scores = np.empty_like(flat)
    scores[order] = flat[order] / np.maximum(above, np.finfo(np.float64).tiny)
    return scores.reshape(squares.shape)


def densities(scores: Mapping[int, np.ndarray], sparsity: float) -> dict[int, float]:
    """The share of each layer's blocks that is kept if the lowest of all layers go."""
    everything = np.concatenate([each.reshape(-1) for each in scores.values()])
    count = round(sparsity * everything.size)
    if count == 0:
        return dict.fromkeys(scores, 1.0)
    limit = np.partition(everything, count - 1)[count - 1]
    return {key: float((each > limit).mean()) for key, each in scores.items()}


def mask(scores: np.ndarray, kept: float, width: int = 1) -> np.ndarray:
    """bool[k, o]: the `kept` share of blocks with the highest scores, [k, o / width].

    Groups of outputs that are blocks' columns keep equally many, as `sparse_matmul` wants it; of
    single weights it does not matter which. At least one is kept.
    """
    found = np.zeros(scores.shape, bool)
    if width == 1:
        count = max(1, round(kept * scores.size))
        found.reshape(-1)[np.argsort(-scores, axis=None, kind="stable")[:count]] = True
    else:
        count = max(1, round(kept * len(scores)))
        order = np.argsort(-scores, axis=0, kind="stable")[:count]
        np.put_along_axis(found, order, True, axis=0)
    return np.repeat(found, width, axis=1)
