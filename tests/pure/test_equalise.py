"""Channels through whole graphs, and scaling them: results stay, weights come together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from brim.compiler import optimise
from brim.compress.channels import find_channels, letters, spread
from brim.compress.equalise import balanced, equalise, scaled
from brim.compress.points import find_layers
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.ops import nn
from brim.ops import primitive as ops
from brim.ops.math import matmul
from brim.types import F32, Type

RNG = np.random.default_rng(0)


def weights(*shape: int) -> Value:
    """Normal numbers whose ranges differ a hundredfold along the last axis."""
    uneven = np.exp(RNG.uniform(-2.3, 2.3, shape[-1]))
    return const((RNG.standard_normal(shape) * uneven).astype(np.float32))


def vector(n: int) -> Value:
    return const(RNG.standard_normal(n).astype(np.float32))


def conv(x: Value, channels: int, size: int = 3, groups: int = 1) -> Value:
    w = weights(size, size, x.shape[-1] // groups, channels)
    around = (size // 2,) * 2
    one = (1, 1)
    y = nn.conv(x, w, stride=one, dilation=one, low=around, high=around, groups=groups)
    return ops.add(y, vector(channels))


def relu(x: Value) -> Value:
    return ops.maximum(x, 0.0)


def relu6(x: Value) -> Value:
    return ops.minimum(relu(x), 6.0)


def prelu(x: Value) -> Value:
    return ops.select(ops.lt(x, 0.0), ops.mul(x, vector(x.shape[-1])), x)


def mean(x: Value) -> Value:
    return ops.mul(ops.reduce(x, op="add", axes=(1, 2)), 1 / (x.shape[1] * x.shape[2]))


def dense(x: Value, n: int) -> Value:
    x = ops.reshape(x, shape=(x.shape[0], int(np.prod(x.shape[1:]))))
    return ops.add(matmul(x, weights(x.shape[1], n)), vector(n))


def separable(x: Value, active: Callable[[Value], Value]) -> Value:
    y = active(conv(x, 12, size=1))
    return conv(active(conv(y, 12, groups=12)), x.shape[-1], size=1)


def chain(x: Value) -> Value:
    return dense(mean(relu(conv(relu(conv(x, 8)), 6))), 5)


def clipped(x: Value) -> Value:
    return dense(mean(relu6(separable(relu6(conv(x, 8)), relu6))), 5)


def residual(x: Value) -> Value:
    x = relu(conv(x, 8))
    for _ in range(2):
        x = ops.add(x, separable(x, prelu))
    return dense(x, 4)


def pooled(x: Value) -> Value:
    one, two, none = (1, 1), (2, 2), (0, 0)
    y = nn.max_pool(relu(conv(x, 8)), size=two, stride=two, dilation=one, low=none, high=none)
    y = ops.concat(y, relu(conv(y, 4)), axis=3)
    return conv(relu(conv(y, 6, groups=2)), 3)


def widened(x: Value) -> Value:
    """Channels of zeros are added, as in MediaPipe's residual blocks."""
    x = relu(conv(x, 8))
    wide = ops.pad(x, low=(0,) * 4, high=(0, 0, 0, 4), value=0)
    return conv(prelu(ops.add(wide, conv(x, 12))), 3)


def shuffled(x: Value) -> Value:
    y = relu(conv(x, 8))
    y = ops.reshape(y, shape=(*y.shape[:3], 2, 4))
    y = ops.transpose(y, perm=(0, 1, 2, 4, 3))
    return conv(ops.reshape(y, shape=(*y.shape[:3], 8)), 3)


def saturating(x: Value) -> Value:
    """Nothing may be scaled before tanh, and products of two values stay as they are."""
    y = ops.tanh(conv(x, 8))
    z = relu(conv(y, 8))
    return conv(ops.mul(z, y), 3)


NETWORKS = (chain, clipped, residual, pooled, widened, shuffled, saturating)
FREE = tuple(network for network in NETWORKS if network is not saturating)


def build(network: Callable[[Value], Value]) -> Graph:
    x = placeholder(Type((2, 8, 8, 3), F32))
    return optimise(Graph({"x": x}, {"y": network(x)}, network.__name__))


def run(graph: Graph) -> np.ndarray:
    x = np.random.default_rng(1).standard_normal((2, 8, 8, 3)).astype(np.float32)
    return evaluate(graph, {"x": x})["y"]


def check_same(found: Graph, graph: Graph) -> None:
    want = run(graph)
    np.testing.assert_allclose(run(found), want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("network", NETWORKS)
def test_results_stay_whatever_the_factors(network: Callable[[Value], Value]) -> None:
    graph = build(network)
    layers = find_layers(graph)
    channels = find_channels(graph, layers, homogeneous=True)
    count = 1 + max(int(numbers.max()) for numbers in channels.numbers.values())
    factors = np.exp(np.random.default_rng(2).uniform(-1, 1, count))
    factors[0] = 1
    found = scaled(graph, layers, channels, factors)
    check_same(found, graph)
    changed = sum(
        not np.array_equal(a.weights, b.weights) for a, b in zip(find_layers(found), layers)
    )
    assert changed == (0 if network is saturating else len(layers))


@pytest.mark.parametrize("network", NETWORKS)
def test_equalised_networks_compute_the_same(network: Callable[[Value], Value]) -> None:
    graph = build(network)
    check_same(equalise(graph), graph)


def spreads(graph: Graph) -> list[float]:
    """How far apart the ranges of a layer's output channels are, as log2, for each layer."""
    found = []
    for layer in find_layers(graph):
        _, own, out = letters(layer)
        ranges = np.abs(layer.weights).max(tuple(i for i, c in enumerate(own) if c not in out))
        found.append(float(np.log2(ranges.max() / ranges.min())))
    return found


@pytest.mark.parametrize("network", FREE)
def test_ranges_come_together(network: Callable[[Value], Value]) -> None:
    graph = build(network)
    before, after = spreads(graph), spreads(equalise(graph))
    assert sum(after) < 0.85 * sum(before)


def test_a_pair_is_balanced() -> None:
    """Written and read ranges become equal: eq. 11 of the paper, for one pair the exact answer."""
    x = placeholder(Type((1, 4), F32))
    a = np.array([[1, 10, 100]] * 4, np.float32)
    b = np.array([[8], [8], [0.5]], np.float32)
    y = matmul(relu(matmul(x, const(a))), const(b))
    graph = optimise(Graph({"x": x}, {"y": y}, "pair"))
    first, second = (layer.weights for layer in find_layers(equalise(graph)))
    want = np.sqrt(np.array([8, 80, 50], np.float32))
    np.testing.assert_allclose(np.abs(first).max(0), want, rtol=1e-4)
    np.testing.assert_allclose(np.abs(second).max(1), want, rtol=1e-4)


def test_dead_channels_stay() -> None:
    """Without weights on a side there is no range to match."""
    x = placeholder(Type((1, 4), F32))
    a = np.zeros((4, 3), np.float32)
    a[:, 1:] = 2
    y = matmul(relu(ops.add(matmul(x, const(a)), 1.0)), const(np.ones((3, 2), np.float32)))
    graph = optimise(Graph({"x": x}, {"y": y}, "dead"))
    layers = find_layers(graph)
    channels = find_channels(graph, layers, homogeneous=True)
    factors = balanced(layers, channels)[channels.of(layers[0].value)]
    np.testing.assert_allclose(factors.ravel(), [1, 2**-0.5, 2**-0.5], rtol=1e-4)


def test_channels_to_remove_are_tied_by_depthwise_products() -> None:
    graph = build(residual)
    layers = find_layers(graph)
    channels = find_channels(graph, layers, homogeneous=False)
    wide, depthwise, narrow = layers[1:4]
    numbers = channels.of(wide.value).ravel()
    assert np.unique(numbers).size == 12
    assert numbers.min() > 0
    np.testing.assert_array_equal(channels.of(depthwise.value).ravel(), numbers)
    # those of the residual stream are the stem's
    np.testing.assert_array_equal(channels.of(narrow.value), channels.of(layers[0].value))
    # the flattened stream is read 64 times by the dense layer
    data = channels.of(layers[-1].value.args[layers[-1].data])
    np.testing.assert_array_equal(data.reshape(64, 8), [channels.of(layers[0].value).ravel()] * 64)
    assert not channels.of(layers[-1].value).any()  # an output of the network


def test_channels_to_remove_pass_what_may_not_be_scaled() -> None:
    graph = build(saturating)
    layers = find_layers(graph)
    channels = find_channels(graph, layers, homogeneous=False)
    first = channels.of(layers[0].value).ravel()
    assert first.all()
    np.testing.assert_array_equal(channels.of(layers[1].value).ravel(), first)  # their product


def test_groups_are_not_thinned() -> None:
    graph = build(pooled)
    layers = find_layers(graph)
    channels = find_channels(graph, layers, homogeneous=False)
    assert not any(channels.of(layer.value).any() for layer in layers[2:])
    assert not channels.of(layers[0].value).any()  # what a grouped product reads


def test_spread_puts_axes_where_they_are_needed() -> None:
    array = np.arange(6).reshape(2, 1, 3)
    found = spread(array, "anb", "bka")
    np.testing.assert_array_equal(found, array[:, 0].T[:, None])
