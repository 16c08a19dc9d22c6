"""Fourier transforms as products of matrices equal numpy's, short and long ones."""

from __future__ import annotations

import numpy as np
import pytest

from brim.errors import OpError
from brim.graph import const, evaluate_values, placeholder
from brim.ops.fourier import DIRECT, LONGEST, fourier
from brim.types import F32, F64, Type


def transformed(x: np.ndarray, axis: int, count: int, inverse: bool = False) -> np.ndarray:
    """By `brim.ops.fourier`, as complex numbers."""
    parts = (x.real, x.imag) if np.iscomplexobj(x) else (x, None)
    real, imaginary = (None if p is None else const(np.ascontiguousarray(p)) for p in parts)
    assert real is not None
    a, b = evaluate_values(fourier(real, imaginary, axis=axis, count=count, inverse=inverse), {})
    return a + 1j * b


@pytest.mark.parametrize("n", [1, 2, 7, 100, DIRECT, 2 * DIRECT, 4096, 6144])
@pytest.mark.parametrize("inverse", [False, True])
def test_it_is_the_transform(n: int, inverse: bool) -> None:
    rng = np.random.default_rng(n)
    x = rng.standard_normal((2, n, 3)) + 1j * rng.standard_normal((2, n, 3))
    expected = np.fft.ifft(x, axis=1) * n if inverse else np.fft.fft(x, axis=1)
    np.testing.assert_allclose(transformed(x, 1, n, inverse), expected, atol=1e-9 * n)


@pytest.mark.parametrize("n", [8, 2048])
def test_the_first_half_of_a_real_signals(n: int) -> None:
    x = np.random.default_rng(n).standard_normal((3, n))
    found = transformed(x, 1, n // 2 + 1)
    np.testing.assert_allclose(found, np.fft.rfft(x), atol=1e-10 * n)


def test_single_precision_errs_as_little_as_rounding() -> None:
    x = np.random.default_rng(1).standard_normal((4, 4096)).astype(np.float32)
    expected = np.fft.rfft(x.astype(np.float64))
    found = transformed(x, 1, 2049)
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


def test_long_ones_are_two_steps_of_short_products() -> None:
    """Never a matrix of n * n numbers."""
    real, _ = fourier(placeholder(Type((1, LONGEST), F32)), None, axis=1, count=LONGEST)
    sizes, stack = [], [real]
    while stack:
        value = stack.pop()
        sizes.append(value.type.size)
        stack += value.args
    assert max(sizes) == LONGEST


@pytest.mark.parametrize(("n", "count"), [(2 * LONGEST, 1), (10007, 10007), (8, 9)])
def test_what_is_too_long_is_refused(n: int, count: int) -> None:
    with pytest.raises(OpError):
        fourier(placeholder(Type((1, n), F64)), None, axis=1, count=count)
