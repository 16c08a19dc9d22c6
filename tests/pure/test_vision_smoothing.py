"""The One-Euro filter: what it must do to noise, to steps and to time."""

from __future__ import annotations

import numpy as np
import pytest

from brim.vision.smoothing import OneEuro, Strength

STRENGTH = Strength(cutoff=0.5, gain=10.0)


def filtered(
    points: np.ndarray, strength: Strength, size: float = 100, rate: float = 30
) -> np.ndarray:
    one_euro = OneEuro(strength)
    return np.stack([one_euro(frame, n / rate, size) for n, frame in enumerate(points)])


def test_the_first_frame_is_taken_as_it_is() -> None:
    points = np.ones((4, 3), np.float32)
    assert (OneEuro(STRENGTH)(points, 5.0, 1.0) == points).all()


def test_by_hand() -> None:
    """Algorithm 1 of the paper, for one number: x = 0 at 0 s, then 1 at 0.1 s, for size 1."""
    one_euro = OneEuro(Strength(cutoff=2.0, gain=3.0, speed_cutoff=1.0))
    one_euro(np.zeros((1, 1)), 0.0, 1.0)
    speed = 10 / (1 + 1 / (2 * np.pi * 1.0 * 0.1))
    cutoff = 2.0 + 3.0 * speed
    wanted = 1 / (1 + 1 / (2 * np.pi * cutoff * 0.1))
    assert one_euro(np.ones((1, 1)), 0.1, 1.0)[0, 0] == pytest.approx(wanted)


def test_still_points_stop_trembling() -> None:
    noise = np.random.default_rng(3).normal(size=(300, 5, 2)).astype(np.float32) * 0.3
    still = filtered(noise + 50, STRENGTH)
    assert still[30:].std(0).mean() < 0.5 * noise[30:].std(0).mean()
    np.testing.assert_allclose(still[30:].mean(0), 50, atol=0.1)


def test_fast_points_are_not_held_back() -> None:
    """A point that crosses its thing's size each second lags by less than a frame."""
    moving = (np.arange(90, dtype=np.float32) * 100 / 30)[:, None, None]
    assert np.abs(filtered(moving, STRENGTH) - moving)[30:].max() < 100 / 30
    slow = filtered(moving, Strength(cutoff=0.5, gain=0.0))
    assert np.abs(slow - moving)[60:].max() > 10


def test_what_is_seen_smaller_is_smoothed_as_much() -> None:
    points = np.random.default_rng(4).normal(size=(40, 3, 2)).astype(np.float32)
    near, far = filtered(points, STRENGTH, 100), filtered(points / 10, STRENGTH, 10)
    np.testing.assert_allclose(far * 10, near, atol=1e-5)


def test_directions_are_alike() -> None:
    points = np.random.default_rng(5).normal(size=(40, 3, 2)).astype(np.float32)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]], np.float32)
    np.testing.assert_allclose(
        filtered(points @ turn.T, STRENGTH), filtered(points, STRENGTH) @ turn.T, atol=1e-5
    )


def test_longer_ago_counts_less() -> None:
    one_euro, later = OneEuro(STRENGTH), OneEuro(STRENGTH)
    for each, seconds in ((one_euro, 0.03), (later, 3.0)):
        each(np.zeros((1, 2)), 0.0, 1e6)
        each.found = each(np.ones((1, 2)), seconds, 1e6)
    assert one_euro.found.max() < 0.2
    assert later.found.min() > 0.8


def test_a_frame_that_is_not_later_is_taken_as_it_is() -> None:
    one_euro = OneEuro(STRENGTH)
    one_euro(np.zeros((1, 2)), 1.0, 1.0)
    assert (one_euro(np.ones((1, 2)), 1.0, 1.0) == 1).all()
