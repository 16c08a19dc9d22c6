"""Winograd's convolution: exact as mathematics, nearly as exact as the direct sum in f32."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brim.errors import OpError
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.kernels.lower import lower
from brim.kernels.reference import run_lowered
from brim.kernels.steps import KernelStep
from brim.kernels.winograd import regions
from brim.ops import primitive as p
from brim.ops.nn import conv
from brim.ops.winograd import matrices, offered, point_counts, tile_of, winograd, winograd_input
from brim.passes.expand import expand
from brim.types import F32, F64, Type

# Every form that a variant of `conv` offers.
FORMS = [(m, window) for window in product((1, 2, 3, 4, 5, 7), repeat=2) for m in offered(window)]
ONE = {"stride": (1, 1), "dilation": (1, 1), "groups": 1}


def name(form: tuple[int, tuple[int, int]]) -> str:
    m, (height, width) = form
    return f"F({m},{height}x{width})"


@pytest.mark.parametrize("form", FORMS, ids=name)
def test_the_matrices_multiply_polynomials(form: tuple[int, tuple[int, int]]) -> None:
    """In one dimension: sliding sums, for any numbers."""
    for tile, window in zip(tile_of(*form), form[1]):
        found, random = matrices(tile, window), np.random.default_rng(0)
        x, w = random.standard_normal(tile + window - 1), random.standard_normal(window)
        y = found.output @ ((found.kernel @ w) * (found.input @ x))
        np.testing.assert_allclose(y, np.correlate(x, w), rtol=1e-11, atol=1e-11)


def bound(form: tuple[int, tuple[int, int]]) -> float:
    """Of the error, by the points along the axes."""
    points = [n for n in point_counts(tile_of(*form), form[1]) if n > 1]
    if len(points) == 1:
        return {4: 1e-6, 6: 1.5e-6, 8: 2e-6, 10: 3e-6, 12: 1e-5}[points[0]]
    return {4: 1e-6, 6: 3e-6, 8: 1e-5}[max(points)]


@pytest.mark.parametrize("form", FORMS, ids=name)
def test_f32_errs_little_more_than_the_direct_sum(form: tuple[int, tuple[int, int]]) -> None:
    """The tracked figure: the largest error over the largest result, of 128 channels."""
    (m, window), random = form, np.random.default_rng(1)
    pad = {"low": tuple(r // 2 for r in window), "high": tuple((r - 1) // 2 for r in window)}
    x = const(np.maximum(random.standard_normal((1, 24, 24, 128)), 0).astype(np.float32))
    w = const(random.standard_normal((*window, 128, 16)).astype(np.float32))
    exact = conv(p.cast(x, to=F64), p.cast(w, to=F64), **pad, **ONE).data
    a = placeholder(x.type)
    found = lower(expand(Graph({"x": a}, {"y": winograd(a, w, tile=tile_of(m, window), **pad)})))
    results = {"direct": conv(x, w, **pad, **ONE).data, **run_lowered(found, {"x": x.data})}
    errors = {n: np.abs(y - exact).max() / np.abs(exact).max() for n, y in results.items()}

    assert errors["y"] < bound(form), errors
    assert errors["direct"] < 1e-6


pads = st.tuples(st.integers(0, 2), st.integers(0, 2))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(FORMS), st.integers(1, 2), st.integers(7, 15), st.integers(7, 15), pads, pads
)
def test_kernels_equal_the_definition(
    form: tuple, images: int, height: int, width: int, low: tuple, high: tuple
) -> None:
    """Any size and padding: whole tiles, and tiles that reach beyond the edge."""
    (m, window), random = form, np.random.default_rng(2)
    x = random.standard_normal((images, height, width, 3)).astype(np.float32)
    size = 3 * np.prod(window)  # results are about 1, whatever the window
    w = const((random.standard_normal((*window, 3, 4)) / np.sqrt(size)).astype(np.float32))
    a = placeholder(Type(x.shape, F32))
    bias = const(random.standard_normal(4).astype(np.float32))
    y = winograd(a, w, tile=tile_of(m, window), low=low, high=high)
    outputs = {"y": p.maximum(p.add(y, bias), 0.0)}
    lowered = lower(expand(Graph({"x": a}, outputs)))
    direct = p.maximum(p.add(conv(a, w, low=low, high=high, **ONE), bias), 0.0)
    wanted = evaluate(Graph({"x": a}, {"y": direct}), {"x": x})["y"]
    np.testing.assert_allclose(run_lowered(lowered, {"x": x})["y"], wanted, rtol=1e-4, atol=1e-4)


def ops_of(y: Value, a: Value) -> list[tuple[str, ...]]:
    steps = lower(expand(Graph({"x": a}, {"y": y}))).steps
    return [step.ops for step in steps if isinstance(step, KernelStep)]


def test_what_follows_is_computed_with_the_tiles() -> None:
    """Bias, activation and a residual need no pass of their own; another layout does."""
    a = placeholder(Type((1, 8, 8, 16), F32))
    w = const(np.ones((3, 3, 16, 16), np.float32))
    y = winograd(a, w, tile=(4, 4), low=(1, 1), high=(1, 1))
    activated = p.mul(p.add(y, a), p.tanh(p.add(y, a)))
    assert [ops[0] for ops in ops_of(activated, a)] == [
        "winograd_input",
        "contract",
        "winograd_output",
    ]
    assert {"add", "tanh", "mul"} < set(ops_of(activated, a)[-1])
    assert len(ops_of(p.transpose(p.neg(y), perm=(0, 3, 1, 2)), a)) == 4
    assert len(ops_of(p.reduce(p.neg(y), op="add", axes=(1, 2)), a)) == 4
    assert len(ops_of(p.mul(p.neg(y), p.reduce(a, op="max", axes=(0, 1, 2, 3))), a)) == 4


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("shape", [(2, 8, 8, 4, 4), (2, 2, 4, 8, 16), (2, 64, 16), (16, 8, 16)])
def test_a_residual_of_another_shape(shape: tuple[int, ...], first: bool) -> None:
    """Its axes split the loops over images and channels, but not those over tiles."""
    random = np.random.default_rng(4)
    a, other = placeholder(Type((2, 8, 8, 16), F32)), placeholder(Type(shape, F32))
    w = const(random.standard_normal((3, 3, 16, 16)).astype(np.float32))
    y = winograd(a, w, tile=(4, 4), low=(1, 1), high=(1, 1))
    residual = p.reshape(p.tanh(other), shape=(2, 8, 8, 16))
    y = p.add(y, residual) if first else p.add(residual, y)
    graph = Graph({"a": a, "b": other}, {"y": y})
    feeds = {n: random.standard_normal(v.shape).astype(np.float32) for n, v in graph.inputs.items()}
    found = run_lowered(lower(expand(graph)), feeds)["y"]
    np.testing.assert_allclose(found, evaluate(graph, feeds)["y"], rtol=1e-4, atol=1e-4)


def test_regions_cover_every_result_once() -> None:
    for height, width in ((8, 8), (7, 9), (3, 1), (5, 4)):
        seen = np.zeros((height, width), int)
        for region in regions(height, width, (4, 2)):
            (top, rows, high), (left, columns, wide) = region.rows, region.columns
            for i in range(rows):
                for j in range(columns):
                    seen[4 * (top + i) :, 2 * (left + j) :][:high, :wide] += 1
        assert (seen == 1).all()


def test_what_is_refused() -> None:
    x = placeholder(Type((1, 8, 8, 4), F32))
    given = {"tile": (2, 2), "window": (3, 3), "low": (0, 0), "high": (0, 0)}
    with pytest.raises(OpError, match="4, 6, 8, 10, 12 inputs along an axis, not 5"):
        winograd_input(x, **given | {"tile": (2, 3)})
    with pytest.raises(OpError, match="two positive sizes"):
        winograd_input(x, **given | {"window": (3,)})
    with pytest.raises(OpError, match="padding"):
        winograd_input(x, **given | {"low": (-1, 0)})
    with pytest.raises(OpError, match="smaller than the window"):
        winograd_input(placeholder(Type((1, 1, 8, 4), F32)), **given)
    with pytest.raises(OpError, match="f32"):
        winograd_input(placeholder(Type((1, 8, 8, 4), F64)), **given)
