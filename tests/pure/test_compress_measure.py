"""Speed side by side: turns are taken, limits are kept, and intervals hold what they promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brim.compress import measure
from brim.compress.measure import (
    CONFIDENCE,
    FEWEST_ROUNDS,
    MOST_ROUNDS,
    ROUND_SECONDS,
    Speed,
    median_interval,
    take_turns,
)


class Clock:
    """Time that passes only when somebody works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.log = 0.0, []
        monkeypatch.setattr(measure.time, "perf_counter", lambda: self.now)

    def worker(self, name: str, seconds: Callable[[], float]) -> Callable[[], None]:
        def work() -> None:
            self.log.append(name)
            self.now += seconds()

        return work


def test_models_take_turns_and_each_begins_half_of_the_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, took = Clock(monkeypatch), 1.25 * ROUND_SECONDS
    rounds = take_turns(clock.worker("a", lambda: took), clock.worker("b", lambda: took), 1.0)
    assert rounds == pytest.approx(np.full((len(rounds), 2), took))
    turns = "".join(clock.log[8:])  # after the trial: one run each to warm up, three to see
    assert turns == ("abba" * len(rounds))[: len(turns)]
    assert len(turns) == 2 * len(rounds)


@pytest.mark.parametrize(
    ("first", "second", "limit"), [(1e-5, 3e-5, 0.5), (1e-3, 2e-3, 2.0), (0.03, 0.01, 2.0)]
)
def test_the_limit_is_kept(
    first: float, second: float, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    rounds = take_turns(clock.worker("a", lambda: first), clock.worker("b", lambda: second), limit)
    assert FEWEST_ROUNDS <= len(rounds) <= MOST_ROUNDS
    assert limit * 0.8 < clock.now < limit * 1.2
    assert rounds == pytest.approx(np.tile((first, second), (len(rounds), 1)))


def test_a_slow_model_is_run_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    take_turns(clock.worker("a", lambda: 10.0), clock.worker("b", lambda: 9.0), 1.0)
    assert clock.log.count("a") == clock.log.count("b") == FEWEST_ROUNDS + 4


def test_what_slows_the_machine_for_a_while_slows_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a machine that becomes slower all the time, the ratio is still that of the models."""
    clock = Clock(monkeypatch)
    rounds = take_turns(
        clock.worker("a", lambda: 0.010 * (1 + clock.now)),
        clock.worker("b", lambda: 0.008 * (1 + clock.now)),
        4.0,
    )
    assert rounds[-1][0] > 2 * rounds[0][0]
    ratio, low, high = median_interval([b / a for a, b in rounds])
    assert low <= 0.8 <= high
    assert ratio == pytest.approx(0.8, rel=0.05)


def test_one_run_out_of_many_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    random = np.random.default_rng(0)
    rounds = take_turns(
        clock.worker("a", lambda: 0.002 + 0.1 * (random.random() < 0.05)),
        clock.worker("b", lambda: 0.001 + 0.1 * (random.random() < 0.05)),
        4.0,
    )
    ratio, low, high = median_interval([b / a for a, b in rounds])
    assert (ratio, low, high) == pytest.approx((0.5, 0.5, 0.5))


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=60))
def test_an_interval_holds_the_median_and_no_order_matters(values: list[float]) -> None:
    middle, low, high = median_interval(values)
    assert low <= middle <= high
    assert median_interval(values[::-1]) == (middle, low, high)
    assert math.isinf(low) == math.isinf(high) == (len(values) < FEWEST_ROUNDS)


@given(st.lists(st.floats(0.1, 10), min_size=FEWEST_ROUNDS, max_size=40))
def test_an_interval_turns_with_the_ratio(values: list[float]) -> None:
    """What b over a shows, a over b shows as well, upside down (of an odd number, exactly)."""
    odd = values[: len(values) - 1 + len(values) % 2]
    if len(odd) >= FEWEST_ROUNDS:
        middle, low, high = median_interval(odd)
        assert median_interval([1 / v for v in odd]) == pytest.approx(
            (1 / middle, 1 / high, 1 / low)
        )


@pytest.mark.parametrize("count", [6, 9, 17, 40, 100])
@pytest.mark.parametrize("draw", ["standard_normal", "standard_exponential", "standard_cauchy"])
def test_intervals_hold_the_true_median_as_often_as_promised(count: int, draw: str) -> None:
    """Whatever the distribution; 4000 trials tell 95 % from 93.5 %."""
    trials = getattr(np.random.default_rng(count), draw)((4000, count))
    true = {"standard_exponential": math.log(2)}.get(draw, 0.0)
    found = [median_interval(list(values)) for values in trials]
    held = np.mean([low <= true <= high for _, low, high in found])
    assert held > CONFIDENCE - 0.015


def test_more_rounds_make_it_narrower() -> None:
    draws = np.random.default_rng(0).standard_normal(100)
    widths = [high - low for n in (6, 25, 100) for _, low, high in [median_interval(draws[:n])]]
    assert all(a > b for a, b in pairwise(widths))


def test_slower_is_said_only_beyond_doubt() -> None:
    def speed(ratio: float, low: float, high: float) -> Speed:
        return Speed(1.0, ratio, ratio, low, high, 40, 1, "")

    assert speed(1.3, 1.2, 1.4).is_slower
    assert not speed(1.3, 0.9, 1.7).is_slower
    assert not speed(1.005, 1.004, 1.006).is_slower  # where in memory a model lies does as much
    assert not speed(1.0, -math.inf, math.inf).is_slower
