"""Observers: what they see in which order, and what ranges they find for known distributions."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from brim.compress.histogram import BINS, FINEST, Histogram
from brim.compress.observers import OBSERVERS, Entropy, MeanSquare, MovingAverage, Percentile
from brim.errors import InputError

FLOATS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
ARRAYS = arrays(np.float32, st.integers(1, 60), elements=FLOATS)
STREAMS = st.lists(ARRAYS, min_size=1, max_size=6)
ORDERLESS = sorted(set(OBSERVERS) - {"moving_average"})


def range_of(name: str, *stream: np.ndarray) -> tuple[float, float]:
    observer = OBSERVERS[name]()
    for array in stream:
        observer.see(array)
    return observer.range()


def noise(numbers: np.ndarray, low: float, high: float) -> float:
    """Mean square error of 256 levels from low to high, 0 among them."""
    step = (high - low) / 255
    zero = round(-low / step)
    levels = np.clip(np.rint(numbers / step) + zero, 0, 255) - zero
    return float(np.mean((levels * step - numbers) ** 2))


@given(STREAMS)
def test_bins_hold_the_numbers_between_their_edges(stream: list[np.ndarray]) -> None:
    histogram = Histogram()
    for array in stream:
        histogram.see(array)
    numbers = np.concatenate(stream).astype(float)
    edges = histogram.edges
    assert len(histogram.counts) == len(edges) - 1 <= BINS
    assert 0 in edges
    # Bins are half open; numpy closes its last one.
    wanted = np.histogram(numbers, np.append(edges, np.inf))[0][:-1]
    np.testing.assert_array_equal(histogram.counts, wanted)
    assert histogram.total == numbers.size
    width = edges[1] - edges[0]
    assert math.frexp(width)[0] == 0.5
    spread = histogram.high - histogram.low
    assert width == 2.0**FINEST or spread >= width * (BINS // 2 - 2)


@given(STREAMS, st.randoms(use_true_random=False))
def test_order_does_not_matter(stream: list[np.ndarray], random) -> None:  # type: ignore[no-untyped-def]
    other = list(np.concatenate(stream))
    random.shuffle(other)
    for name in ORDERLESS:
        assert range_of(name, *stream) == range_of(name, np.array(other[::-1], np.float32))


@given(STREAMS)
def test_ranges_hold_0_and_lie_within_what_was_seen(stream: list[np.ndarray]) -> None:
    low, high = range_of("min_max", *stream)
    numbers = np.concatenate(stream)
    assert (low, high) == (min(0, numbers.min()), max(0, numbers.max()))
    for name in OBSERVERS:
        found = range_of(name, *stream)
        assert low <= found[0] <= 0 <= found[1] <= high


@settings(max_examples=30)
@given(st.sampled_from(sorted(OBSERVERS)), ARRAYS, st.integers(-20, 20))
def test_ranges_scale_with_the_numbers(name: str, array: np.ndarray, power: int) -> None:
    scale = np.float32(2.0**power)
    low, high = range_of(name, array)
    assert range_of(name, array * scale) == (low * scale, high * scale)


def test_the_moving_average_follows_later_arrays() -> None:
    observer = MovingAverage(momentum=0.75)
    for high in (1, 3, 5, 7):
        observer.see(np.array([-high, high], np.float32))
    assert observer.range() == (-4, 4)
    observer.see(np.array([-8, 16], np.float32))
    assert observer.range() == (-5, 7)


def test_percentiles_of_known_distributions() -> None:
    uniform = np.linspace(-1, 3, 1_000_001, dtype=np.float32)
    observer = Percentile(99)
    observer.see(uniform)
    np.testing.assert_allclose(observer.range(), (-0.98, 2.98), atol=1e-3)
    normal = np.random.default_rng(1).standard_normal(1_000_000).astype(np.float32)
    np.testing.assert_allclose(range_of("percentile", normal), (-3.89, 3.89), atol=0.15)


@pytest.mark.parametrize("name", ["normal", "laplace", "relu", "hard_swish", "outlier"])
def test_no_range_has_less_noise_than_that_of_mean_squares(name: str) -> None:
    random = np.random.default_rng(2)
    normal = random.standard_normal(100_000)
    numbers = {
        "normal": normal,
        "laplace": random.laplace(size=100_000),
        "relu": np.maximum(normal, 0),
        "hard_swish": normal * np.clip(normal + 3, 0, 6) / 6,
        "outlier": np.append(normal, 60),
    }[name].astype(np.float32)
    found = noise(numbers, *range_of("mse", numbers))
    others = {each: noise(numbers, *range_of(each, numbers)) for each in ("min_max", "entropy")}
    assert all(found <= other for other in others.values()), others
    low, high = min(numbers.min(), 0), numbers.max()
    parts = np.linspace(0.05, 1, 60)
    tried = [noise(numbers, low * a, high * b) for a in parts for b in parts]
    assert found <= 1.02 * min(tried)


def test_mean_squares_of_few_levels_agree_with_theory() -> None:
    """16 levels for a normal distribution: clipping at 2.55 sigma (Banner et al. 2019, table 1,
    2.55; levels that include 0 lie a little apart)."""
    observer = MeanSquare(levels=16)
    observer.see(np.random.default_rng(3).standard_normal(1_000_000).astype(np.float32))
    low, high = observer.range()
    assert (high - low) / 2 == pytest.approx(2.55, abs=0.15)


def test_entropy_clips_what_is_rare_and_keeps_what_is_not() -> None:
    random = np.random.default_rng(4)
    normal = random.standard_normal(100_000).astype(np.float32)
    assert range_of("entropy", np.append(normal, np.float32(200)))[1] < 60
    uniform = random.uniform(-1, 1, 100_000).astype(np.float32)
    assert range_of("entropy", uniform) == range_of("min_max", uniform)
    low, high = range_of("entropy", np.maximum(normal, 0))
    assert low == 0 and high > 3  # half of the numbers are 0, and do not decide


def test_entropy_of_a_range_is_that_of_its_levels() -> None:
    """Four bins in two levels, by hand: 1, 3, 2, 2 become 2, 2, 2, 2."""
    counts = np.array([1.0, 3, 2, 2])
    wanted = sum(p * math.log(p / 0.25) for p in counts / 8)
    assert Entropy(levels=2)._divergence(counts, 0, 4) == pytest.approx(wanted)


@pytest.mark.parametrize("name", sorted(OBSERVERS))
def test_zeros_alone_are_a_range_of_nothing(name: str) -> None:
    assert range_of(name, np.zeros(10, np.float32)) == (0, 0)


@pytest.mark.parametrize("name", sorted(OBSERVERS))
def test_what_is_no_number_is_refused(name: str) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(InputError, match="infinite or NaN"):
            range_of(name, np.array([0, bad, 1], np.float32))
    with pytest.raises(InputError, match="before it saw"):
        range_of(name)
    with pytest.raises(InputError, match="before it saw"):
        range_of(name, np.zeros(0, np.float32))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_all_floats_are_counted(dtype: str) -> None:
    numbers = np.array([-2.5, 0, 0.25, 7], dtype)
    histogram = Histogram()
    histogram.see(numbers[None, :, None])
    assert (histogram.low, histogram.high, histogram.total) == (-2.5, 7, 4)
    assert histogram.counts.sum() == 4


def test_the_widest_and_the_narrowest_numbers_fit() -> None:
    for number in (3e38, 1e-20):
        histogram = Histogram()
        histogram.see(np.zeros(2, np.float32))
        histogram.see(np.array([-number, number], np.float32))
        assert histogram.counts.sum() == 4 and len(histogram.counts) > BINS // 2


def test_a_million_numbers_take_milliseconds() -> None:
    """2.5 ms on a quiet machine; the best of five, and much slack for a busy one."""
    numbers = np.random.default_rng(5).standard_normal(1_000_000).astype(np.float32)
    histogram, times = Histogram(), []
    for _ in range(5):
        start = time.perf_counter()
        histogram.see(numbers)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.02
