"""Training form: norms by the batch and their running statistics, dropout, the bits it takes."""

from __future__ import annotations

import numpy as np
import pytest

from brim.errors import InputError
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.ops import nn
from brim.ops import primitive as p
from brim.ops.dropout import KEY, dropout, random_bits
from brim.passes.autodiff import gradient
from brim.passes.simplify import simplify
from brim.passes.training import statistics, training_form
from brim.types import F32, Type

SHAPE = (6, 3, 2, 4)
NAMES = ("scale", "shift", "mean", "variance")


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    found = {"x": random.normal(1, 3, SHAPE), **{n: random.uniform(0.5, 2, 4) for n in NAMES}}
    return {name: array.astype(np.float32) for name, array in found.items()}


def normed() -> Graph:
    inputs = {"x": placeholder(Type(SHAPE, F32))}
    inputs |= {name: placeholder(Type((4,), F32)) for name in NAMES}
    return Graph(inputs, {"y": nn.batch_norm(*inputs.values(), epsilon=1e-3)}, "normed")


def random_key(*words: int) -> np.ndarray:
    return np.array(words, np.uint32)


def test_norms_take_the_batchs_statistics_and_follow_them() -> None:
    graph, feeds = normed(), arrays()
    assert set(statistics(graph)) == {"mean", "variance"}
    changed, running = training_form(graph, placeholder(KEY))
    assert set(running) == {"mean", "variance"}
    found = evaluate(Graph(graph.inputs, {**changed.outputs, **running}), feeds)
    x = feeds["x"].astype(np.float64)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    y = (x - mean) / np.sqrt(variance + 1e-3) * feeds["scale"] + feeds["shift"]
    np.testing.assert_allclose(found["y"], y, 1e-5, 1e-5)
    np.testing.assert_allclose(found["mean"], 0.9 * feeds["mean"] + 0.1 * mean, 1e-5)
    unbiased = x.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(found["variance"], 0.9 * feeds["variance"] + 0.1 * unbiased, 1e-5)


def test_the_gradient_goes_through_the_statistics() -> None:
    """A constant added to a whole channel changes nothing, nor does a factor: slopes 0 there."""
    graph, feeds = normed(), arrays()
    changed, _ = training_form(graph, placeholder(KEY))
    weights = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    loss = p.mul(changed.outputs["y"], weights)
    (slope,) = gradient(loss, [graph.inputs["x"]])
    found = evaluate(Graph(graph.inputs, {"slope": slope}), feeds)["slope"].astype(np.float64)
    assert np.abs(found).max() > 0.1
    assert np.abs(found.sum((0, 1, 2))).max() < 1e-4
    centred = feeds["x"] - feeds["x"].mean((0, 1, 2))
    assert np.abs((found * centred).sum((0, 1, 2))).max() < 2e-2  # but for epsilon


def test_frozen_norms_and_such_of_constants_stay() -> None:
    graph = normed()
    for frozen in (["mean"], ["variance"], ["mean", "variance"]):
        changed, running = training_form(graph, placeholder(KEY), frozen)
        assert changed.outputs["y"] is graph.outputs["y"]
        assert running == {}
    x = graph.inputs["x"]
    fixed = [const(np.ones(4, np.float32)) for _ in NAMES]
    alone = Graph({"x": x}, {"y": nn.batch_norm(x, *fixed, epsilon=1e-3)})
    assert training_form(alone, placeholder(KEY))[1] == {}


def test_one_number_per_channel_has_no_variance() -> None:
    inputs = {"x": placeholder(Type((1, 1, 1, 4), F32))}
    inputs |= {name: placeholder(Type((4,), F32)) for name in NAMES}
    graph = Graph(inputs, {"y": nn.batch_norm(*inputs.values(), epsilon=1e-3)})
    with pytest.raises(InputError, match="1 numbers per channel"):
        training_form(graph, placeholder(KEY))


# ------------------------------------------------------------------ random bits and dropout


def threefry(key: np.ndarray, counters: np.ndarray, stream: int) -> np.ndarray:
    """Threefry-2x32-13 as Random123 writes it, in 64 bits: its first words."""
    mask = 0xFFFFFFFF
    a, b = (int(word) for word in key)
    keys = [a, b, a ^ b ^ 0x1BD11BDA]
    found = []
    for counter in counters:
        x, y = (int(counter) + a) & mask, (stream + b) & mask
        for turn in range(13):
            x = (x + y) & mask
            r = (13, 15, 26, 6, 17, 29, 16, 24)[turn % 8]
            y = ((y << r | y >> 32 - r) & mask) ^ x
            if turn % 4 == 3:
                block = turn // 4 + 1
                x = (x + keys[block % 3]) & mask
                y = (y + keys[(block + 1) % 3] + block) & mask
        found.append(x)
    return np.array(found, np.uint32)


def bits(key: np.ndarray, size: int, stream: int) -> np.ndarray:
    given = placeholder(KEY)
    return evaluate(
        Graph({"key": given}, {"y": random_bits(given, size=size, stream=stream)}), {"key": key}
    )["y"]


def test_random_bits_are_threefry() -> None:
    # the known answers of Random123's kat_vectors, of counters that a stream of one reaches
    assert bits(random_key(0, 0), 1, 0)[0] == 0x9D1C5EC6
    for key, stream in ((random_key(0, 0), 0), (random_key(7, 2**32 - 1), 3)):
        np.testing.assert_array_equal(bits(key, 50, stream), threefry(key, np.arange(50), stream))


def test_random_bits_are_even_and_differ_by_key_and_stream() -> None:
    first = bits(random_key(1, 2), 20_000, 1)
    for other in (bits(random_key(1, 3), 20_000, 1), bits(random_key(1, 2), 20_000, 2)):
        assert np.mean(first == other) < 0.001
        flipped = np.bitwise_count(first ^ other).mean()
        assert abs(flipped - 16) < 0.1
    assert abs(np.bitwise_count(first).mean() - 16) < 0.1


def dropping(rate: float) -> tuple[Graph, Value]:
    x = placeholder(Type((100, 30), F32))
    y = dropout(p.add(dropout(x, rate=rate), 1), rate=rate)
    return Graph({"x": x}, {"y": y}, "dropping"), x


def test_dropout_is_nothing_in_evaluation() -> None:
    graph, x = dropping(0.3)
    feed = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    np.testing.assert_array_equal(evaluate(graph, {"x": feed})["y"], feed + 1)


def test_dropout_drops_its_share_scales_the_rest_and_each_layer_its_own() -> None:
    graph, x = dropping(0.3)
    key = placeholder(KEY)
    changed, _ = training_form(graph, key)
    (slope,) = gradient(changed.outputs["y"], [x])
    whole = Graph({"x": x, "key": key}, {**changed.outputs, "slope": slope})
    feeds = {"x": np.ones(x.shape, np.float32), "key": random_key(5, 6)}
    found = evaluate(whole, feeds)
    y, scale = found["y"], np.float32(1 / 0.7)
    assert set(np.unique(y)) == {np.float32(0), scale, scale * (1 + scale)}
    assert abs((y == 0).mean() - 0.3) < 0.03
    assert abs((y == scale).mean() - 0.7 * 0.3) < 0.03  # kept by the second where the first dropped
    np.testing.assert_allclose(found["slope"], np.where(y > 2, scale * scale, 0), 1e-6)
    again = evaluate(simplify(whole), feeds)
    np.testing.assert_array_equal(again["y"], y)
    other = evaluate(whole, {**feeds, "key": random_key(5, 7)})
    assert (other["y"] != y).any()
