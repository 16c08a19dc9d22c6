"""Confidence intervals: how often they hold the truth, by simulation, and what they say by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from brim.compress.interval import interval_of_changes, interval_of_mean

ROUNDS = 400
CHANCE = 3 * math.sqrt(0.95 * 0.05 / ROUNDS)  # three standard errors of a coverage of 95 %


def coverage(
    draw: Callable[[np.random.Generator], np.ndarray], truth: float, find: Callable
) -> float:
    random = np.random.default_rng(7)
    ends = [find(draw(random)) for _ in range(ROUNDS)]
    return float(np.mean([low <= truth <= high for low, high in ends]))


@pytest.mark.parametrize("samples", [20, 100, 1000, 10_000])
@pytest.mark.parametrize(("lost", "won"), [(0.01, 0.01), (0.05, 0.02), (0.002, 0.0), (0.3, 0.1)])
def test_changes_are_covered(samples: int, lost: float, won: float) -> None:
    def draw(random: np.random.Generator) -> np.ndarray:
        return random.choice([1.0, -1.0, 0.0], samples, p=[lost, won, 1 - lost - won])

    # Where changes are rare the interval holds the truth more often than it says, never less.
    assert coverage(draw, lost - won, interval_of_changes) >= 0.95 - CHANCE


@pytest.mark.parametrize("samples", [1000, 10_000])
def test_intervals_of_changes_are_not_too_wide(samples: int) -> None:
    def draw(random: np.random.Generator) -> np.ndarray:
        return random.choice([1.0, -1.0, 0.0], samples, p=[0.05, 0.02, 0.93])

    assert coverage(draw, 0.03, interval_of_changes) <= 0.95 + CHANCE


DISTRIBUTIONS: dict[str, tuple[Callable[[np.random.Generator, int], np.ndarray], float]] = {
    "normal": (lambda random, n: random.normal(0.3, 2, n), 0.3),
    "uniform": (lambda random, n: random.uniform(0, 1, n), 0.5),
    "exponential": (lambda random, n: random.exponential(1, n), 1.0),
}


@pytest.mark.parametrize("samples", [16, 64])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_means_are_covered(name: str, samples: int) -> None:
    draw, truth = DISTRIBUTIONS[name]
    found = coverage(lambda random: draw(random, samples), truth, interval_of_mean)
    assert abs(found - 0.95) <= CHANCE + (0.02 if samples < 64 else 0)


def test_changes_by_hand() -> None:
    """98 pairs, 3 lost and 1 won: (4 - 2) / 100 -+ 1.96 sqrt((0.06 - 0.0004) / 100)."""
    differences = np.array([1, 1, 1, -1] + [0] * 94)
    half = 1.959964 * math.sqrt(0.000596)
    assert interval_of_changes(differences) == pytest.approx((0.02 - half, 0.02 + half))


def test_no_change_seen_is_not_none_possible() -> None:
    few, many = (interval_of_changes(np.zeros(n)) for n in (10, 10_000))
    assert few[0] < 0 < 0.2 < few[1] <= 1
    assert many[0] < 0 < many[1] < 0.001


def test_skewed_differences_have_longer_ends_on_their_side() -> None:
    numbers = np.random.default_rng(1).exponential(1, 50)
    low, high = interval_of_mean(numbers)
    assert high - numbers.mean() > 1.1 * (numbers.mean() - low)


def test_what_says_nothing() -> None:
    for differences in ([], [1.0], [1.0, np.inf]):
        assert interval_of_mean(np.array(differences)) == (-math.inf, math.inf)
    assert interval_of_mean(np.full(5, 0.25)) == (0.25, 0.25)


def test_the_same_numbers_give_the_same_interval() -> None:
    numbers = np.random.default_rng(2).normal(size=40)
    assert interval_of_mean(numbers) == interval_of_mean(numbers.copy())
    assert interval_of_mean(numbers * 8) == pytest.approx(np.multiply(interval_of_mean(numbers), 8))
