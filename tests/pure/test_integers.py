"""Integer graphs from float ones: what is stored as bytes, and that little is lost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brim.compiler import optimise
from brim.compress.integers import integers
from brim.compress.points import find_points, roots
from brim.compress.scheme import Scheme, nearest_weights, quant_of
from brim.graph import Graph, Value, const, evaluate, evaluate_values, placeholder
from brim.kernels.dots import is_paired
from brim.ops import nn
from brim.ops import primitive as p
from brim.passes.simplify import simplify
from brim.types import F32, I8, I32, U8, Type
from tests import networks as n


def image(channels: int = 4) -> Value:
    return placeholder(Type((1, 9, 9, channels), F32))


def graph_of(x: Value, y: Value) -> Graph:
    return simplify(Graph({"x": x}, {"y": y}))


def quantized(graph: Graph, feeds: dict[str, np.ndarray]) -> Graph:
    """With the ranges of one input."""
    points = find_points(graph)
    seen = evaluate_values(points.stored, {id(graph.inputs[k]): v for k, v in feeds.items()})
    ranges = dict(zip(map(id, points.stored), seen))
    quants = {}
    for group in points.groups:
        low = min(float(ranges[id(v)].min()) for v in group)
        high = max(float(ranges[id(v)].max()) for v in group)
        quants.update({id(v): quant_of(low, high) for v in group})
    weights = {id(x.value): nearest_weights(x.weights, x.summed) for x in points.layers}
    return simplify(integers(graph, points.layers, Scheme(quants, weights)))


def residual(x: Value) -> Value:
    y = n.relu(p.add(n.convolution(x, n.weight(3, 3, 4, 4)), n.weight(4)))
    z = p.add(n.convolution(y, n.weight(1, 1, 4, 4), border=0), y)
    side = n.convolution(z, n.weight(1, 1, 4, 8), border=0)
    return n.relu(p.add(side, n.convolution(z, n.weight(3, 3, 4, 8))))


def depthwise(x: Value) -> Value:
    w = n.weight(3, 3, 4)
    wide = p.pad(x, low=(0, 1, 1, 0), high=(0, 1, 1, 0), value=0)
    wide = p.window(wide, axes=(1, 2), size=(3, 3), stride=(2, 2), dilation=(1, 1))
    y = p.minimum(n.relu(p.contract(wide, w, spec="nhwcij,ijc->nhwc")), 6)
    return n.convolution(y, n.weight(1, 1, 4, 8), border=0)


def pooled(x: Value) -> Value:
    y = n.relu(n.convolution(x, n.weight(3, 3, 4, 8)))
    y = p.window(y, axes=(1, 2), size=(3, 3), stride=(2, 2), dilation=(1, 1))
    y = p.reshape(p.reduce(y, op="max", axes=(4, 5)), shape=(1, 4, 4, 8))
    y = p.concat(y, n.convolution(y, n.weight(1, 1, 8, 8), border=0), axis=3)
    y = p.reshape(p.div(p.reduce(y, op="add", axes=(1, 2)), 16.0), shape=(1, 16))
    return p.contract(y, n.weight(16, 5), spec="mk,kn->mn")


def excited(x: Value) -> Value:
    y = n.convolution(x, n.weight(3, 3, 4, 8))
    y = p.mul(y, p.minimum(p.maximum(p.add(p.mul(y, 1 / 6), 0.5), 0), 1))
    gate = p.reshape(p.div(p.reduce(y, op="add", axes=(1, 2)), 81.0), shape=(1, 8))
    gate = n.relu(p.contract(gate, n.weight(8, 8), spec="mk,kn->mn"))
    return n.convolution(p.mul(y, p.reshape(gate, shape=(1, 1, 1, 8))), n.weight(1, 1, 8, 4), 1, 0)


NETWORKS = (residual, depthwise, pooled, excited)


@pytest.mark.parametrize("build", NETWORKS)
def test_little_is_lost(build: Callable[[Value], Value]) -> None:
    x = image()
    graph = graph_of(x, build(x))
    feeds = {"x": n.normal(1, 9, 9, 4)}
    wanted = evaluate(graph, feeds)["y"]
    found = evaluate(quantized(graph, feeds), feeds)["y"]
    noise = np.square(found - wanted).sum() / np.square(wanted).sum()
    assert noise < 10**-3.2  # 32 dB: a byte has about 40


@pytest.mark.parametrize("build", NETWORKS)
def test_products_are_of_bytes_and_nothing_is_scaled_twice(build: Callable[[Value], Value]) -> None:
    x = image()
    graph = graph_of(x, build(x))
    found = quantized(graph, {"x": n.normal(1, 9, 9, 4)})
    products = [v for v in found.values() if v.op and v.op.name == "contract"]
    assert products
    assert all({arg.dtype for arg in v.args} == {U8, I8} and v.dtype == I32 for v in products)
    moves = [v for v in found.values() if v.op and v.op.name in ("window", "pad", "concat")]
    assert all(v.dtype == U8 for v in moves)


def test_layer_norms_and_softmax_stay_in_floats() -> None:
    x = placeholder(Type((2, 6, 16), F32))
    y = n.layer_norm(p.contract(x, n.weight(16, 16), spec="bmk,kn->bmn"))
    z = n.softmax(p.contract(y, n.weight(16, 8), spec="bmk,kn->bmn"))
    points = find_points(graph_of(x, z))
    assert len(points.layers) == 2
    assert len(points.stored) == 2  # what the two products read


def test_a_concat_and_its_parts_share_one_scale() -> None:
    x = image()
    graph = graph_of(x, pooled(x))
    groups = find_points(graph).groups
    assert sorted(map(len, groups)) == [1, 1, 2]  # input; mean; both parts of the concat


@pytest.mark.parametrize("build", NETWORKS)
def test_layers_in_float_read_and_leave_what_is_not_rounded(
    build: Callable[[Value], Value],
) -> None:
    x = image()
    graph = graph_of(x, build(x))
    *_, last = find_points(graph).layers
    points = find_points(graph, wanted=lambda layer: layer.value is last.value)
    assert set(points.stored) == set(roots(last.value.args[last.data]))
    feeds = {"x": n.normal(1, 9, 9, 4)}
    seen = evaluate_values(points.stored, {id(graph.inputs["x"]): feeds["x"]})
    quants = {id(v): quant_of(a.min(), a.max()) for v, a in zip(points.stored, seen)}
    nothing_whole = integers(graph, (), Scheme(quants))
    wanted, found = (evaluate(g, feeds)["y"] for g in (graph, nothing_whole))
    assert np.array_equal(found, wanted)


def test_resampled_pixels_are_stored_before_their_weights() -> None:
    x = image()
    y = n.relu(n.convolution(x, n.weight(3, 3, 4, 4)))
    index = np.repeat(np.arange(9), 2).reshape(9, 2)
    z = nn.resample(y, const(index), const(np.full((9, 2), 0.5, np.float32)), axis=1)
    graph = optimise(graph_of(x, n.convolution(z, n.weight(1, 1, 4, 8), border=0)))
    ops = [value.op and value.op.name for value in find_points(graph).stored]
    assert ops == [None, "maximum", "reduce"]


def test_beside_layers_in_floats_nothing_is_stored() -> None:
    x = image()
    y = n.relu(n.convolution(x, n.weight(3, 3, 4, 4)))
    z = p.add(n.convolution(y, n.weight(3, 3, 4, 4)), y)  # a fork and a meeting
    mean = p.reduce(n.relu(z), op="add", axes=(1, 2))
    last = p.contract(p.reshape(mean, shape=(1, 4)), n.weight(4, 5), spec="mk,kn->mn")
    graph = graph_of(x, last)
    layers = find_points(graph).layers
    assert len(layers) == 3 and len(find_points(graph).stored) > 3
    for layer in layers:
        (only,) = find_points(graph, lambda other, wanted=layer.name: other.name == wanted).stored
        assert only in roots(layer.value.args[layer.data])


def test_layers_that_are_not_wanted_stay_as_they_are() -> None:
    x = image()
    graph = graph_of(x, residual(x))
    points = find_points(graph, wanted=lambda layer: False)
    assert points.layers == ()
    assert points.stored == ()
    same = integers(graph, points.layers, Scheme())
    assert same.outputs["y"] is graph.outputs["y"]


@given(st.integers(1, 4), st.integers(2, 40), st.integers(1, 9), st.integers(0, 2**31))
def test_one_layer_is_what_its_integers_say(rows: int, terms: int, columns: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = placeholder(Type((rows, terms), F32))
    w = random.standard_normal((terms, columns)).astype(np.float32)
    graph = Graph({"x": x}, {"y": p.contract(x, const(w), spec="mk,kn->mn")})
    array = random.standard_normal((rows, terms)).astype(np.float32)
    quant, weights = quant_of(-2, 3), nearest_weights(w, (0,))
    layers = find_points(graph).layers
    scheme = Scheme({id(x): quant}, {id(layers[0].value): weights})
    found = evaluate(integers(graph, layers, scheme), {"x": array})["y"]
    bytes_ = np.clip(np.rint(array * np.float32(1 / quant.scale)) + quant.zero, 0, 255)
    total = (bytes_.astype(np.int64) - quant.zero) @ weights.integers.astype(np.int64)
    factor = (weights.scale.astype(np.float64) * quant.scale).astype(np.float32)
    assert np.array_equal(found, total.astype(np.float32) * factor)


@given(st.integers(2, 40), st.integers(1, 9), st.integers(0, 2**31))
def test_pairs_of_weights_never_saturate(terms: int, columns: int, seed: int) -> None:
    w = np.random.default_rng(seed).standard_normal((terms, columns)).astype(np.float32)
    found = nearest_weights(w, (0,), pairs=0)
    assert is_paired(found.integers.T)
    assert np.abs(found.real - w).max() <= found.scale.max() / 2 * 1.001


@pytest.mark.parametrize(
    ("window", "stride", "paired"),
    [
        ((3, 3), 1, False),
        ((3, 3), 2, True),
        ((5, 5), 1, True),
        ((1, 7), 1, True),
        ((1, 1), 1, True),
    ],
)
def test_layers_are_paired_but_those_by_winograd(
    window: tuple[int, int], stride: int, paired: bool
) -> None:
    x = image(8)
    w = n.weight(*window, 8, 16)
    border = tuple(size // 2 for size in window)
    y = nn.conv(x, w, stride=(stride,) * 2, dilation=(1, 1), low=border, high=border, groups=1)
    (layer,) = find_points(optimise(graph_of(x, y))).layers
    found = nearest_weights(layer.weights, layer.summed, layer.pairs).integers
    assert is_paired(np.moveaxis(found, -2, -1)) == paired


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_zero_is_an_integer_and_the_ends_are_near_one(a: float, b: float) -> None:
    low, high = sorted((a, b))
    quant = quant_of(low, high)
    assert 0 <= quant.zero <= 255
    assert quant.integer(0.0) == quant.zero
    for end in (min(low, 0.0), max(high, 0.0)):
        real = (quant.integer(end) - quant.zero) * quant.scale
        assert abs(real - end) <= quant.scale * 0.501


@pytest.mark.parametrize("spec", ["mk,kn->mn", "mk,nk->nm", "bhwc,co->bohw", "gmk,gkn->mgn"])
def test_scales_lie_along_the_result(spec: str) -> None:
    sizes = dict(zip("mknbhwcog", (3, 4, 5, 2, 3, 4, 6, 7, 2)))
    left, right, _ = p.parse_spec(spec)
    x = placeholder(Type(tuple(sizes[letter] for letter in left), F32))
    w = n.normal(*(sizes[letter] for letter in right))
    (layer,) = find_points(Graph({"x": x}, {"y": p.contract(x, const(w), spec=spec)})).layers
    weights = nearest_weights(w, layer.summed)
    array = n.normal(*x.shape)
    scaled = np.einsum(spec, array, weights.real)
    plain = np.einsum(spec, array, weights.integers.astype(np.float32))
    assert np.allclose(scaled, plain * layer.along_result(weights.scale), rtol=1e-4, atol=1e-4)
