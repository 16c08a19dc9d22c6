"""What host steps that choose boxes compute, in numpy."""

from __future__ import annotations

import numpy as np


def intersection_over_union(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of one box (low, low, high, high) with each of others[n, 4], in [0, 1]; 0 where either has no
    area."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.prod(np.maximum(high - low, 0), -1)
    areas = np.prod(others[:, 2:] - others[:, :2], -1)
    area = np.prod(box[2:] - box[:2])
    union = area + areas - common
    valid = (common > 0) & (area > 0) & (areas > 0) & (union > 0)
    return np.where(valid, common / np.where(valid, union, 1), 0)
