"""Sparse products: which are made of dense ones, that they compute the same, and what they hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.kernels.lower import lower
from brim.kernels.reference import run_lowered
from brim.ops import primitive as p
from brim.ops.nn import conv
from brim.passes.expand import expand
from brim.passes.simplify import simplify
from brim.passes.sparse import WIDTHS, blocks_of, sparsify
from brim.types import F32, F64, Type


def mask(channels: int, columns: int, width: int, kept: float, seed: int = 0) -> np.ndarray:
    """Blocks of `width` columns at random rows, equally many in each group of columns."""
    random = np.random.default_rng(seed)
    groups, count = columns // width, max(1, round(channels * kept))
    found = np.zeros((channels, groups, width), np.float32)
    for group in range(groups):
        found[random.permutation(channels)[:count], group] = 1
    return found.reshape(channels, columns)


def weights(channels: int, columns: int, width: int, kept: float) -> np.ndarray:
    random = np.random.default_rng(1)
    return random.standard_normal((channels, columns)).astype(np.float32) * mask(
        channels, columns, width, kept
    )


def product(w: np.ndarray, rows: int = 5) -> Graph:
    x = placeholder(Type((rows, w.shape[0]), F32))
    return Graph({"x": x}, {"y": p.contract(x, const(w), spec="nc,co->no")})


def sparse(graph: Graph) -> list[Value]:
    return [v for v in sparsify(graph).values() if v.op and v.op.name == "sparse_matmul"]


def same(a: Graph, b: Graph) -> None:
    random = np.random.default_rng(2)
    feeds = {n: random.standard_normal(v.shape).astype(np.float32) for n, v in a.inputs.items()}
    for name, wanted in evaluate(a, feeds).items():
        np.testing.assert_allclose(evaluate(b, feeds)[name], wanted, 1e-5, 1e-5)


@pytest.mark.parametrize(("width", "kept"), [(4, 0.05), (8, 0.6), (16, 0.6), (8, 0.1)])
def test_products_with_few_blocks_become_sparse(width: int, kept: float) -> None:
    graph = product(weights(20, 32, width, kept))
    (value,) = sparse(graph)
    assert value.args[1].shape == (32 // width, round(20 * kept), width)
    assert value.args[2].dtype.bytes == 1  # 20 rows need no more
    same(graph, sparsify(graph))


@pytest.mark.parametrize(("width", "kept"), [(4, 0.6), (8, 0.9), (1, 0.3)])
def test_others_stay_dense(width: int, kept: float) -> None:
    assert not sparse(product(weights(20, 32, width, kept)))


def test_columns_that_no_block_divides_stay_dense() -> None:
    assert not sparse(product(np.zeros((8, 6), np.float32)))


def test_no_weights_at_all() -> None:
    graph = product(np.zeros((8, 16), np.float32))
    assert sparse(graph)
    same(graph, sparsify(graph))


def test_kept_numbers_are_stored_and_little_else() -> None:
    w = weights(64, 64, 8, 0.25)
    (value,) = sparse(product(w))
    stored = sum(arg.type.size * arg.dtype.bytes for arg in value.args[1:])
    assert np.count_nonzero(w) * 4 <= stored <= np.count_nonzero(w) * 4 * 1.05


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_of_single_pixels(stride: int) -> None:
    x, w = placeholder(Type((1, 5, 4, 20), F32)), weights(20, 16, 8, 0.5)
    y = conv(
        x, const(w.reshape(1, 1, 20, 16)), stride=(stride, stride), dilation=(1, 1),
        low=(0, 0), high=(0, 0), groups=1,
    )  # fmt: skip
    graph = simplify(expand(Graph({"x": x}, {"y": p.maximum(y, 0.0)})))
    (value,) = sparse(graph)
    assert (value.args[0] is x) == (stride == 1)  # nothing is copied
    same(graph, sparsify(graph))


@pytest.mark.parametrize(
    ("spec", "x", "w"),
    [
        ("mk,nk->mn", (3, 20), (16, 20)),
        ("mbk,kn->mbn", (3, 2, 20), (20, 16)),
        ("k,kn->n", (20,), (20, 16)),
    ],
)
def test_however_the_letters_stand(spec: str, x: tuple[int, ...], w: tuple[int, ...]) -> None:
    data, matrix = placeholder(Type(x, F32)), weights(20, 16, 8, 0.5)
    matrix = matrix if w == (20, 16) else matrix.T
    graph = Graph({"x": data}, {"y": p.contract(data, const(matrix), spec=spec)})
    assert sparse(graph)
    same(graph, sparsify(graph))


def test_what_is_no_plain_product_of_rows_stays() -> None:
    w = np.zeros((2, 20, 16), np.float32)
    x, wide = placeholder(Type((2, 3, 20), F32)), placeholder(Type((3, 20), F64))
    batched = p.contract(x, const(w), spec="bnc,bco->bno")
    turned = p.contract(x, const(w[0]), spec="bnc,co->bon")
    summed = p.contract(x, const(w), spec="bnc,bco->no")
    double = p.contract(wide, const(np.zeros((20, 16))), spec="nc,co->no")
    outputs = dict(zip("abcd", (batched, turned, summed, double)))
    assert not sparse(Graph({"x": x, "wide": wide}, outputs))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.sampled_from(WIDTHS), st.integers(0, 99))
def test_blocks_are_the_matrix(channels: int, groups: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    w = random.integers(0, 2, (channels, groups, 1)) * random.integers(1, 9, (1, groups, width))
    found = blocks_of(w.reshape(channels, -1).astype(np.float32), width)
    again = np.zeros((groups, channels, width))
    for group, rows in enumerate(found.index):
        np.add.at(again[group], rows, found.w[group])
    np.testing.assert_array_equal(again.swapaxes(0, 1), w)


def test_a_sparse_product_is_one_kernel() -> None:
    graph = product(weights(20, 32, 8, 0.5))
    graph = Graph(graph.inputs, {"y": p.maximum(p.add(graph.outputs["y"], 1.5), 0.0)})
    lowered = lower(simplify(expand(sparsify(graph))))
    assert len(lowered.steps) == 1
    x = np.random.default_rng(3).standard_normal((5, 20)).astype(np.float32)
    np.testing.assert_allclose(
        run_lowered(lowered, {"x": x})["y"], evaluate(graph, {"x": x})["y"], 1e-5, 1e-5
    )


def test_lookups_that_are_no_sparse_product_are_stored_first() -> None:
    """Along pixels each would be looked up again for every sum."""
    x, index = placeholder(Type((7, 20), F32)), const(np.array([3, 1, 1, 6]))
    y = p.contract(
        p.gather(x, index, axis=0), const(np.ones((20, 16), np.float32)), spec="nc,co->no"
    )
    assert len(lower(Graph({"x": x}, {"y": y})).steps) == 2
