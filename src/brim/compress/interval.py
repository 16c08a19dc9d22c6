"""Confidence intervals of the mean difference between paired measurements, two-sided, 95 %."""

from __future__ import annotations

import math

import numpy as np

LEVEL = 0.95
Z = 1.959963984540054  # of a normal distribution, (1 + LEVEL) / 2
RESAMPLES = 2000
AT_ONCE = 1 << 20  # numbers drawn at a time
SEED = 1


def interval_of_changes(differences: np.ndarray) -> tuple[float, float]:
    """For differences that are -1, 0 or 1: each sample was right or wrong, before and after.

    The normal interval with one pair added to each kind of change (Bonett and Price 2012,
    doi:10.3102/1076998611411915): a loss that no pair has shown yet is still possible.
    """
    n = len(differences) + 2
    lost, won = (float((differences == sign).sum() + 1) / n for sign in (1, -1))
    half = Z * math.sqrt((lost + won - (lost - won) ** 2) / n)
    return max(lost - won - half, -1.0), min(lost - won + half, 1.0)


def interval_of_mean(differences: np.ndarray) -> tuple[float, float]:
    """For differences of any distribution, f64[n]: the bootstrap of the studentised mean (Efron and
    Tibshirani 1993, section 12.5), which follows their skewness.

    One sample, or infinite differences, say nothing: (-inf, inf).
    """
    if len(differences) < 2 or not np.isfinite(differences).all():
        return -math.inf, math.inf
    n, mean = len(differences), float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    if error <= 1e-12 * abs(mean):
        return mean, mean
    random = np.random.default_rng(SEED)  # a report is the same every time
    found = []
    for start in range(0, RESAMPLES, step := max(AT_ONCE // n, 1)):
        drawn = differences[random.integers(0, n, (min(step, RESAMPLES - start), n))]
        errors = drawn.std(axis=1, ddof=1) / math.sqrt(n)
        some = errors > 1e-9 * error  # of few samples, one alone may be drawn
        found.append((drawn.mean(axis=1)[some] - mean) / errors[some])
    low, high = np.quantile(np.concatenate(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return mean - float(high) * error, mean - float(low) * error
