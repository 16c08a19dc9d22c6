"""Rates of learning at the steps that matter, and as formulas; torch's are in tests/extra."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from brim.errors import InputError
from brim.graph import evaluate_values, placeholder
from brim.train.schedules import (
    Cosine,
    OneCycle,
    Polynomial,
    Rate,
    Steps,
    Warmup,
    rate_at,
    rate_of,
)
from brim.types import F64, I64, Type


def rates(rate: Rate, *steps: int) -> list[float]:
    return [rate_of(rate, step) for step in steps]


def test_rates_in_a_graph_are_the_numbers() -> None:
    step = placeholder(Type((), I64))
    for rate in (0.1, Cosine(0.1, 9), Warmup(3, Steps(0.5, (2, 4))), OneCycle(0.1, 10)):
        value = rate_at(rate, step)
        assert value.type == Type((), F64)
        for number in range(12):
            found = evaluate_values([value], {id(step): np.int64(number)})[0]
            assert found == rate_of(rate, number)


def test_numbers_are_constant() -> None:
    assert rates(0.1, 0, 1, 10**9) == [0.1] * 3
    assert rates(1, 5) == [1.0]


def test_warmup_ends_where_the_other_begins() -> None:
    found = rates(Warmup(4, Steps(0.8, (3,))), *range(9))
    np.testing.assert_allclose(found, [0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.08, 0.08])
    assert rates(Warmup(1, 0.1), 0, 1) == [0.1, 0.1]


def test_cosine() -> None:
    found = rates(Cosine(1.0, 8, end=0.2), *range(10))
    steps = np.minimum(np.arange(10), 8)
    np.testing.assert_allclose(found, 0.2 + 0.8 * (1 + np.cos(np.pi * steps / 8)) / 2)
    np.testing.assert_allclose(found[-2:], 0.2)


def test_steps() -> None:
    found = rates(Steps(1.0, (2, 5), factor=0.5), *range(7))
    np.testing.assert_allclose(found, [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25])


def test_polynomial() -> None:
    found = rates(Polynomial(1.0, 4, power=2, end=0.2), *range(6))
    np.testing.assert_allclose(found, 0.2 + 0.8 * np.array([1, 0.75, 0.5, 0.25, 0, 0]) ** 2)
    np.testing.assert_allclose(rates(Polynomial(1.0, 4), *range(5)), [1, 0.75, 0.5, 0.25, 0])


def test_one_cycle_rises_and_falls() -> None:
    found = rates(OneCycle(1.0, 11, rise=0.3, start=10, end=100), *range(13))
    assert np.argmax(found) in (2, 3)
    np.testing.assert_allclose([found[0], found[10], found[12]], [0.1, 1e-3, 1e-3])
    assert (np.diff(found[:3]) > 0).all()
    assert (np.diff(found[3:11]) < 0).all()
    assert rate_of(OneCycle(1.0, 20, rise=0.25), 4) == 1.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: Warmup(0, 0.1),
        lambda: Cosine(0.1, 0),
        lambda: Polynomial(0.1, -1),
        lambda: Steps(0.1, ()),
        lambda: Steps(0.1, (0, 3)),
        lambda: OneCycle(0.1, 10, rise=0.05),
        lambda: OneCycle(0.1, 10, rise=1.0),
    ],
)
def test_options_without_meaning_are_refused(make: Callable[[], Rate]) -> None:
    with pytest.raises(InputError):
        make()
