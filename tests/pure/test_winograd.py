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
from brim.ops.nn import conv, crop_or_pad
from brim.ops.winograd import (
    matrices,
    offered,
    point_counts,
    tile_of,
    winograd,
    winograd_2,
    winograd_4,
    winograd_input,
)
from brim.passes.expand import expand, variants
from brim.types import F32, F64, I8, U8, DType, Type

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


# ------------------------------------------------------------------ integers

WHOLE = [(m, window) for window in ((3, 3), (1, 3), (3, 1)) for m in offered(window, whole=True)]


def test_integers_fit_sixteen_bits() -> None:
    """Every tile of u8 or i8, and all weights of i8."""
    assert {(m, w) for m, w in WHOLE if w == (3, 3)} == {(2, (3, 3)), (4, (3, 3))}
    for m, _ in WHOLE:
        found = matrices(m, 3, True)
        for part, most in ((found.input, 255), (found.kernel, 128)):
            assert (part == np.rint(part)).all()
            assert np.abs(part).sum(1).max() ** 2 * most < 1 << 15


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(WHOLE), st.integers(3, 11), st.integers(3, 11), pads, pads, st.integers(0, 9),
    st.sampled_from([I8, U8]), st.booleans(),
)  # fmt: skip
def test_integers_are_exact(
    form: tuple, height: int, width: int, low: tuple, high: tuple, zero: int, dtype: DType,
    inside: bool,
) -> None:  # fmt: skip
    """The largest numbers, any padding, before the convolution or as part of it."""
    (m, window), random = form, np.random.default_rng(3)
    info = np.iinfo(dtype.numpy)
    ends = np.array([info.min, info.max], dtype.numpy)
    x = random.choice(ends, (2, height, width, 5))
    w = const(random.choice(np.array([-128, 127], np.int8), (*window, 5, 4)))
    a, none = placeholder(Type(x.shape, dtype)), (0, 0)
    given = {"low": low, "high": high} if inside else {"low": none, "high": none}
    padded = a if inside else crop_or_pad(a, low, high, zero)
    y = conv(padded, w, **given, **ONE, exact=True)
    wanted = evaluate(Graph({"x": a}, {"y": y}), {"x": x})["y"]
    tiled = {2: winograd_2, 4: winograd_4}[m]
    graph = expand(Graph({"x": a}, {"y": y}), choose=lambda value: tiled)
    lowered = lower(graph)
    assert lowered.steps[0].fused.ops == ("winograd_input",)  # which pads, too
    np.testing.assert_array_equal(evaluate(graph, {"x": x})["y"], wanted)
    np.testing.assert_array_equal(run_lowered(lowered, {"x": x})["y"], wanted)


@pytest.mark.parametrize("value", [-128, 127])
def test_integers_that_are_not_found_have_no_variant(value: int) -> None:
    """64 times the largest sum has to fit i32: of 9 * C weights, as they are."""
    most = ((1 << 31) - 1 >> 6) // (255 * 9 * abs(value))
    for channels, names in ((most, ["2", "4"]), (most + 1, ["2"])):
        w = const(np.full((3, 3, channels, 1), value, np.int8))
        w = const(np.concatenate([w.data, np.ones_like(w.data)], 3))
        a = placeholder(Type((1, 6, 6, channels), U8))
        y = conv(a, w, low=(1, 1), high=(1, 1), **ONE, exact=True)
        assert [op.name[-1] for op in variants(y)] == names
    unknown = conv(a, placeholder(w.type), low=(1, 1), high=(1, 1), **ONE)
    assert not variants(unknown)


def ops_of(y: Value, a: Value) -> list[tuple[str, ...]]:
    steps = lower(expand(Graph({"x": a}, {"y": y}))).steps
    return [step.fused.ops for step in steps if isinstance(step, KernelStep)]


def test_what_follows_is_computed_with_the_tiles() -> None:
    """Bias, activation and a residual need no pass of their own; another layout does."""
    a = placeholder(Type((1, 8, 8, 16), F32))
    w = const(np.ones((3, 3, 16, 16), np.float32))
    y = winograd(a, w, tile=(4, 4), low=(1, 1), high=(1, 1))
    activated = p.mul(p.add(y, a), p.tanh(p.add(y, a)))
    assert [ops[-1] for ops in ops_of(activated, a)] == [
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
