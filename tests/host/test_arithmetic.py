"""Rules of arithmetic that docs/why/007-arithmetic.md gives: they must survive every schedule."""

from __future__ import annotations

import numpy as np
import pytest

import brim
from brim.graph import Graph, const, evaluate, placeholder
from brim.ops import primitive as p
from brim.types import F16, F32, Type
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
