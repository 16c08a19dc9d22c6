"""Rounding with gradients: what it rounds to, and that its slopes are those of the papers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brim.graph import Value, evaluate_values, placeholder
from brim.ops import primitive as p
from brim.ops.fake_quant import fake_quant, scaled_gradient
from brim.ops.quantized import dequantize, quantize
from brim.passes.autodiff import gradient
from brim.types import F64, I8, U8, Type, type_of

SCALE, ZERO = np.array([[0.1], [0.3]]), np.array([[3.0], [0.0]])


def total(x: Value) -> Value:
    return p.reduce(x, op="add", axes=tuple(range(x.type.rank)))


def slopes(x: np.ndarray, g: np.ndarray, low: int = 0, high: int = 255) -> list[np.ndarray]:
    """Of sum(g * fake_quant(x)) with respect to x, SCALE and ZERO."""
    args = [placeholder(type_of(a)) for a in (x, SCALE, ZERO)]
    weight = placeholder(type_of(g))
    loss = total(p.mul(fake_quant(*args, low=low, high=high), weight))
    known = dict(zip(map(id, (*args, weight)), (x, SCALE, ZERO, g)))
    return evaluate_values(gradient(loss, args), known)


@given(
    st.floats(1e-3, 10),
    st.integers(0, 255),
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20),
)
def test_it_is_quantize_and_back(scale: float, zero: int, numbers: list[float]) -> None:
    x, s = np.float32(numbers), np.asarray(scale, np.float32)
    for dtype, low, high in ((U8, 0, 255), (I8, -128, 127)):
        z = np.asarray(zero + low, dtype.numpy)
        fake = fake_quant(x, s, z.astype(np.float32), low=low, high=high)
        np.testing.assert_array_equal(fake.data, dequantize(quantize(x, s, z), s, z).data)


def test_gradients_are_straight_through_and_lsq() -> None:
    """Esser 2020, equations 3 and 5, element by element, summed over what shares a scale."""
    random = np.random.default_rng(0)
    x, g = random.uniform(-3, 12, (2, 40)), random.standard_normal((2, 40))
    units = x / SCALE
    low, high = 0 - ZERO, 15 - ZERO
    below, above = units <= low, units >= high
    inside = ~below & ~above
    assert min(below.sum(), above.sum(), inside.sum()) > 5
    to_scale = np.where(inside, np.rint(units) - units, np.where(below, low, high))
    wanted = (
        g * inside,
        (g * to_scale).sum(1, keepdims=True),
        (g * np.where(inside, 0, -SCALE)).sum(1, keepdims=True),
    )
    for found, want in zip(slopes(x, g, high=15), wanted):
        np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("x", [np.full((2, 3), 90.0), np.full((2, 3), -90.0)])
def test_where_it_is_clipped_the_slope_of_scale_is_that_of_finite_differences(
    x: np.ndarray,
) -> None:
    g, step = np.random.default_rng(1).standard_normal((2, 3)), 1e-6
    found = slopes(x, g)[1]

    def value(scale: np.ndarray) -> np.ndarray:
        return (g * fake_quant(x, scale, ZERO, low=0, high=255).data).sum(1, keepdims=True)

    wanted = (value(SCALE + step) - value(SCALE - step)) / (2 * step)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_the_mean_slope_over_rounding_is_that_of_the_identity() -> None:
    """Over many numbers, rounding is noise: moving all of them moves the mean by as much."""
    x = np.random.default_rng(2).uniform(0, 5, (1, 100_000))
    one, zero, step = np.array(0.37), np.array(0.0), 0.5

    def mean(shift: float) -> float:
        return float(fake_quant(x + shift, one, zero, low=-99, high=99).data.mean())

    assert (mean(step) - mean(-step)) / (2 * step) == pytest.approx(1, abs=2e-3)


def test_gradients_are_taken_times_a_factor() -> None:
    x = placeholder(Type((3,), F64))
    for factor in (0.0, 0.25):
        loss = total(p.mul(x, scaled_gradient(x, factor)))
        found = evaluate_values(gradient(loss, [x]), {id(x): np.arange(3.0)})[0]
        np.testing.assert_array_equal(found, (1 + factor) * np.arange(3.0))
