"""Rules of arithmetic that docs/why/007-arithmetic.md gives: they must survive every schedule."""

from __future__ import annotations

import math

import numpy as np
import pytest

import brim
from brim.graph import Graph, const, evaluate, placeholder
from brim.ops import primitive as p
from brim.types import F16, F32, F64, DType, Type
from tests.networks import softmax


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_a_scaled_softmax_of_huge_equal_numbers_is_finite(size: int) -> None:
    """exp(x * c - max(x * c)): a fused product would differ from the rounded one in the maximum."""
    x = placeholder(Type((3, size), F32))
    model = brim.compile(Graph({"x": x}, {"y": softmax(p.mul(x, 0.0059171598))}))
    found = model(np.full((3, size), 1.1439764e12, np.float32))
    np.testing.assert_allclose(found, 1 / size, rtol=1e-6)


def test_half_precision_rounds_each_value() -> None:
    """(a + b) - a in f16 loses what f16 loses; computed in f32 throughout it would not."""
    a, b = placeholder(Type((1000,), F16)), placeholder(Type((1000,), F16))
    graph = Graph({"a": a, "b": b}, {"y": p.mul(p.sub(p.add(a, b), a), 3)})
    random = np.random.default_rng(0)
    feeds = {
        "a": (random.standard_normal(1000) * 100).astype(np.float16),
        "b": random.standard_normal(1000).astype(np.float16),
    }
    found, want = brim.compile(graph).run(feeds)["y"], evaluate(graph, feeds)["y"]
    np.testing.assert_array_equal(found, want)
    assert (want != feeds["b"] * np.float16(3)).any()


DIVISORS = (3.0, -7.0, 255.0, 1 / 3, 2**0.5, -(32**0.5), 1e-20, 6e23, 1e-42, 0.0, math.inf)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("divisor", DIVISORS)
def test_a_quotient_by_a_constant_is_that_of_the_division(divisor: float, dtype: DType) -> None:
    """It is two products inside; multiples of the divisor, zeros and infinities must be right."""
    random = np.random.default_rng(0)
    whole = np.arange(-2000, 2000) / 2 * (divisor if 0 < abs(divisor) < math.inf else 1)
    powers = 2.0 ** random.integers(-15, 60, 100_000)  # no subnormal quotients
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, np.finfo(dtype.numpy).max]
    feed = np.concatenate([random.standard_normal(100_000) * powers, whole, special])
    x = placeholder(Type(feed.shape, dtype))
    model = brim.compile(Graph({"x": x}, {"y": p.div(x, const(np.array(divisor, dtype.numpy)))}))
    feed = feed.astype(dtype.numpy)
    with np.errstate(all="ignore"):
        found, want = model(feed), feed / dtype.numpy.type(divisor)
    np.testing.assert_array_equal(found, want)
    np.testing.assert_array_equal(np.signbit(found[want == 0]), np.signbit(want[want == 0]))


@pytest.mark.parametrize("columns", [1000, 37, 129])
def test_equal_columns_have_equal_sums(columns: int) -> None:
    """The remainder of a tile adds in the same order as whole tiles do."""
    x = placeholder(Type((169, columns), F32))
    model = brim.compile(Graph({"x": x}, {"y": p.reduce(x, op="add", axes=(0,))}))
    column = np.random.default_rng(0).standard_normal((169, 1)).astype(np.float32) * 1e6
    found = model(np.repeat(column, columns, axis=1))
    assert len(np.unique(found)) == 1


@pytest.mark.parametrize("rows", [1, 5, 14, 29])
def test_equal_rows_have_equal_products(rows: int) -> None:
    x = placeholder(Type((rows, 300), F32))
    random = np.random.default_rng(0)
    w = const(np.repeat(random.standard_normal((300, 1)), 43, axis=1).astype(np.float32))
    model = brim.compile(Graph({"x": x}, {"y": p.contract(x, w, spec="nk,ko->no")}))
    row = random.standard_normal((1, 300)).astype(np.float32)
    assert len(np.unique(model(np.repeat(row, rows, axis=0)))) == 1
