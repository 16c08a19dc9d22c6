"""How far two engines' outputs lie apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from brim.tools.judge import differences, is_amplified_rounding

INF, NAN = math.inf, math.nan


def apart(a: object, b: object, dtype: object = np.float32) -> float:
    return differences({"y": np.array(a, dtype)}, {"y": np.array(b, dtype)})["y"]


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([NAN, INF, -INF, 1], [NAN, INF, -INF, 1], 0.0),
        ([NAN, 1], [1, 1], INF),
        ([1, 1], [NAN, 1], INF),
        ([INF], [-INF], INF),
        ([INF, 1], [1, 1], INF),
        ([1, NAN, 3], [1, NAN, 4], 0.25),
        ([], [], 0.0),
    ],
)
def test_relative_to_the_largest_value(a: list, b: list, wanted: float) -> None:
    assert apart(a, b) == wanted


def test_against_zero_any_difference_is_huge() -> None:
    assert apart([1e-9], [0.0]) > 1


def test_integers() -> None:
    assert apart([2**62], [2**62], np.int64) == 0.0
    assert apart([2**62], [2**62 + 1], np.int64) == INF
    assert apart([254], [255], np.uint8) == INF


def test_text() -> None:
    assert apart(["a", "b"], ["a", "b"], object) == 0.0
    assert apart(["a", "b"], ["a", "c"], object) == INF


def test_another_shape_dtype_or_name_is_infinitely_far() -> None:
    y = np.zeros((2, 1), np.float32)
    assert differences({"y": y[:, 0]}, {"y": y}) == {"y": INF}
    assert differences({"y": y.astype(np.float64)}, {"y": y}) == {"y": INF}
    assert differences({"z": y}, {"y": y}) == {"y": INF}


@pytest.mark.parametrize(
    ("ours", "theirs", "accepted"),
    [
        (3e-3, 5e-3, True),
        (5e-3, 3e-3, True),
        (9e-3, 3e-3, False),  # less exact than the other
        (1e-7, 3e-3, False),  # exact where the other is not: it computes something else
        (3e-3, 1e-7, False),
        (1e-5, 1e-7, True),  # both right
        (0.9, 0.8, False),  # no rounding
        (math.nan, 3e-3, False),
    ],
)
def test_amplified_rounding(ours: float, theirs: float, accepted: bool) -> None:
    exact = {"y": np.array([0.0, 1.0])}
    sides = ({"y": np.array([error, 1.0], np.float32)} for error in (ours, theirs))
    assert is_amplified_rounding(*sides, exact) is accepted
