"""What makes integers accurate: corrected biases, sensitivities, learned rounding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from brim.compiler import optimise
from brim.compress.adaround import rounded as learn_rounding
from brim.compress.calibrate import observed, quants
from brim.compress.correct import corrected
from brim.compress.level import levelled
from brim.compress.observers import MinMax
from brim.compress.points import Layer, Points, find_points
from brim.compress.scheme import Scheme, nearest_weights
from brim.compress.sensitivity import felt_at_outputs, output_error, sensitivities
from brim.compress.simulate import passed, rounded, rounded_data, simulated
from brim.compress.work import Work
from brim.errors import UnsupportedError
from brim.graph import Graph, Value, const, evaluate, evaluate_values, placeholder, substitute
from brim.ops import nn
from brim.ops import primitive as ops
from brim.ops.math import matmul
from brim.ops.registry import emit
from brim.types import F32, Type

SHAPE = (2, 8, 8, 3)


def network() -> Graph:
    """Two convolutions, a depthwise one, a residual sum and a dense layer, with seeded weights."""
    rng = np.random.default_rng(0)

    def conv(x: Value, channels: int, size: int, groups: int = 1) -> Value:
        w = rng.standard_normal((size, size, x.shape[-1] // groups, channels))
        w = w * np.exp(rng.uniform(-1.5, 1.5, channels)) / size
        around, one = (size // 2,) * 2, (1, 1)
        y = nn.conv(
            x, const(w.astype(np.float32)),
            stride=one, dilation=one, low=around, high=around, groups=groups,
        )  # fmt: skip
        return ops.add(y, const(rng.standard_normal(channels).astype(np.float32)))

    x = placeholder(Type(SHAPE, F32))
    y = ops.maximum(conv(x, 8, 3), 0.0)
    y = ops.add(y, conv(ops.minimum(ops.maximum(conv(y, 8, 3, 8), 0.0), 6.0), 8, 1))
    y = ops.reshape(ops.reduce(y, op="add", axes=(1, 2)), shape=(2, 8))
    y = matmul(y, const(rng.standard_normal((8, 5)).astype(np.float32)))
    return optimise(Graph({"x": x}, {"y": y}, "network"))


class Batches:
    """Seeded pictures with a constant background, like those of real ones."""

    total = None

    def __init__(self, count: int = 16, seed: int = 1, shape: tuple[int, ...] = SHAPE) -> None:
        self.count, self.seed, self.shape = count, seed, shape

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        rng = np.random.default_rng(self.seed)
        for _ in range(self.count):
            x = rng.standard_normal(self.shape)
            x[:, :3] = -0.7
            yield {"x": x.astype(np.float32)}


WORK = Work(Batches(), judge=lambda graph: None, max_loss=0.01)


def scheme_of(graph: Graph, points: Points, per_channel: bool) -> Scheme:
    ranges = observed(graph, points.stored, Batches(), MinMax)
    weights = {
        id(layer.value): nearest_weights(
            layer.weights,
            layer.summed if per_channel else tuple(range(layer.weights.ndim)),
            layer.pairs,
        )
        for layer in points.layers
    }
    return Scheme(quants(points, ranges), weights)


def error(graph: Graph, points: Points, scheme: Scheme) -> float:
    """Relative squared error of the outputs for other pictures than those of calibration."""
    new = simulated(graph, points.layers, scheme)
    outputs = {"want": graph.outputs["y"], "found": new[id(graph.outputs["y"])]}
    noise = signal = 0.0
    for feeds in Batches(seed=2):
        y = evaluate(Graph(graph.inputs, outputs), feeds)
        noise += float(((y["found"] - y["want"]) ** 2).sum())
        signal += float((y["want"] ** 2).sum())
    return noise / signal


@pytest.fixture(scope="module")
def graph() -> Graph:
    return network()


@pytest.fixture(scope="module")
def points(graph: Graph) -> Points:
    return find_points(graph)


@pytest.fixture(scope="module")
def scheme(graph: Graph, points: Points) -> Scheme:
    return scheme_of(graph, points, per_channel=False)


def test_rounded_is_what_bytes_can_stand_for(scheme: Scheme) -> None:
    quant = next(iter(scheme.activations.values()))
    x = np.linspace(-100, 100, 999).astype(np.float32)
    found = evaluate_values([rounded(const(x), quant)], {})[0]
    units = np.clip(np.rint(x / quant.scale) + quant.zero, 0, 255)
    np.testing.assert_allclose(found, (units - quant.zero) * quant.scale, rtol=1e-6)


def rounded_layer(layer: Layer, scheme: Scheme) -> Value:
    """The layer with its weights and its data rounded, all before it as it was."""
    args = list(layer.value.args)
    args[layer.data] = rounded_data(layer, scheme)
    args[layer.side] = const(scheme.weights[id(layer.value)].real)
    return emit(layer.value.op, *args, **layer.value.attrs)


def energies(graph: Graph, value: Value, found: Value) -> tuple[float, float]:
    """Of the difference and of the value, over calibration pictures."""
    noise = signal = 0.0
    for feeds in Batches():
        y = evaluate(Graph(graph.inputs, {"want": value, "found": found}), feeds)
        noise += float(((y["found"] - y["want"]) ** 2).sum())
        signal += float((y["want"] ** 2).sum())
    return noise, signal


def test_sensitivities_are_energies_of_differences(
    graph: Graph, points: Points, scheme: Scheme
) -> None:
    found = sensitivities(graph, points, scheme, Batches())
    assert list(found) == [id(layer.value) for layer in points.layers]
    for layer in points.layers:
        noise, signal = energies(graph, layer.value, rounded_layer(layer, scheme))
        np.testing.assert_allclose(found[id(layer.value)], noise / signal, rtol=1e-3)


def test_what_outputs_feel_of_a_layer_is_foretold(
    graph: Graph, points: Points, scheme: Scheme
) -> None:
    """One backward pass says what rounding each layer by itself does at the end."""
    found = felt_at_outputs(graph, points, scheme, Batches(count=400))
    for layer in points.layers:
        changed = {id(layer.value): rounded_layer(layer, scheme)}
        (y,) = substitute(graph.outputs.values(), changed)
        noise, signal = energies(graph, graph.outputs["y"], y)
        assert 0.7 < found[id(layer.value)] / (noise / signal) < 1.4


def test_output_error_is_that_of_the_rounded_network(
    graph: Graph, points: Points, scheme: Scheme
) -> None:
    new = simulated(graph, points.layers, scheme)
    noise, signal = energies(graph, graph.outputs["y"], new[id(graph.outputs["y"])])
    found = output_error(graph, points, scheme, Batches())
    np.testing.assert_allclose(found, noise / signal, rtol=1e-3)


def spread(graph: Graph) -> float:
    """How far apart the ranges of a stored value's channels are, as log2, over all such values."""
    stored = find_points(graph).stored[1:]
    outputs = {str(i): value for i, value in enumerate(stored)}
    found = [evaluate(Graph(graph.inputs, outputs), feeds) for feeds in Batches()]
    total = 0.0
    for name in outputs:
        arrays = np.concatenate([np.abs(each[name]) for each in found])
        ranges = arrays.max(tuple(range(arrays.ndim - 1)))
        total += float(np.ptp(np.log2(ranges[ranges > 0])))
    return total


def test_levelled_networks_compute_the_same_with_more_even_channels(graph: Graph) -> None:
    found = levelled(graph, Batches())
    feeds = next(iter(Batches(seed=3)))
    want = evaluate(graph, feeds)["y"]
    got = evaluate(found, feeds)["y"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    assert spread(found) < 0.7 * spread(graph)
    before, after = (
        output_error(each, points, scheme_of(each, points, per_channel=True), Batches(seed=2))
        for each, points in ((each, find_points(each)) for each in (graph, found))
    )
    assert after < before


def test_operators_without_gradient_are_named() -> None:
    x = placeholder(Type((2, 4), F32))
    w = const(np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32))
    pixels = ops.reshape(matmul(x, w), shape=(1, 2, 3, 1))
    sides = {"low": (1, 1), "high": (1, 1)}
    y = ops.apply("winograd_input", pixels, tile=(2, 2), window=(3, 3), **sides)
    graph = optimise(Graph({"x": x}, {"y": y}, "odd"))
    points = find_points(graph)
    batches = Batches(shape=(2, 4))
    ranges = observed(graph, points.stored, batches, MinMax)
    layer = points.layers[0]
    weights = {id(layer.value): nearest_weights(layer.weights, layer.summed)}
    with pytest.raises(UnsupportedError, match="winograd_input"):
        felt_at_outputs(graph, points, Scheme(quants(points, ranges), weights), batches)


def test_derivatives_without_end_are_told_and_not_felt() -> None:
    """sqrt is infinitely steep at 0, which a column of zeros gives."""
    x = placeholder(Type((2, 4), F32))
    w = const(
        np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32) * np.float32([1, 0, 1])
    )
    v = const(np.random.default_rng(1).standard_normal((3, 2)).astype(np.float32))
    y = matmul(ops.sqrt(ops.absolute(matmul(x, w))), v)
    graph = optimise(Graph({"x": x}, {"y": y}, "steep"))
    points = find_points(graph)
    batches = Batches(shape=(2, 4))
    scheme = Scheme(quants(points, observed(graph, points.stored, batches, MinMax)))
    scheme = Scheme(
        scheme.activations,
        {id(lay.value): nearest_weights(lay.weights, lay.summed) for lay in points.layers},
    )
    with pytest.raises(UnsupportedError, match="no finite derivatives"):
        felt_at_outputs(graph, points, scheme, batches)
    better = corrected(graph, points, scheme, batches)
    assert all(np.isfinite(each.shift).all() for each in better.weights.values())


def test_slopes_say_where_activations_are_open(
    graph: Graph, points: Points, scheme: Scheme
) -> None:
    first, depthwise, *_, dense = points.layers
    bias = {id(v.args[0]): v.args[1] for v in graph.values() if v.op and v.op.name == "add"}
    outputs = {
        "y": first.value,
        "felt": passed(graph, first, scheme),
        "z": depthwise.value,
        "felt_z": passed(graph, depthwise, scheme),
        "last": passed(graph, dense, scheme),
    }
    found = evaluate(Graph(graph.inputs, outputs), next(iter(Batches())))
    open_ = found["y"] + bias[id(first.value)].data > 0
    np.testing.assert_array_equal(found["felt"], open_)
    z = found["z"] + bias[id(depthwise.value)].data
    np.testing.assert_array_equal(found["felt_z"], (z > 0) & (z < 6))
    np.testing.assert_array_equal(found["last"], np.ones((2, 5)))


def test_corrected_layers_are_right_in_the_mean(
    graph: Graph, points: Points, scheme: Scheme
) -> None:
    """Where their differences are felt, and if all before them is in floats."""
    better = corrected(graph, points, scheme, Batches())
    for layer in points.layers:
        shift = better.weights[id(layer.value)].shift
        assert shift is not None
        wrong = ops.sub(layer.value, rounded_layer(layer, scheme))
        felt = passed(graph, layer, scheme)
        outputs = {"wrong": wrong, "felt": felt}
        total = count = np.float64(0)
        axes = tuple(range(len(layer.value.shape) - 1))
        for feeds in Batches():
            found = evaluate(Graph(graph.inputs, outputs), feeds)
            total = total + (found["wrong"] * found["felt"]).sum(axes, dtype=np.float64)
            count = count + found["felt"].sum(axes)
        want = total / np.maximum(count, 1)
        np.testing.assert_allclose(shift.ravel(), want, rtol=2e-3, atol=1e-5)


def test_corrected_networks_are_nearer(graph: Graph, points: Points, scheme: Scheme) -> None:
    better = corrected(graph, points, scheme, Batches())
    assert error(graph, points, better) < 0.8 * error(graph, points, scheme)
    assert all(w.shift is None for w in scheme.weights.values())


def layer_error(graph: Graph, layer: Layer, scheme: Scheme) -> float:
    """Energy of what a layer lacks where it is felt, for other pictures than those of calibration,
    if all before it is in floats."""
    weights = scheme.weights[id(layer.value)]
    found = rounded_layer(layer, scheme)
    if weights.shift is not None:
        found = ops.add(found, const(weights.shift))
    outputs = {"wrong": ops.sub(layer.value, found), "felt": passed(graph, layer, scheme)}
    total = 0.0
    for feeds in Batches(seed=2):
        y = evaluate(Graph(graph.inputs, outputs), feeds)
        total += float((y["wrong"] ** 2 * y["felt"]).sum())
    return total


@pytest.mark.parametrize("per_channel", [False, True])
def test_learned_rounding_beats_the_nearest(
    graph: Graph, points: Points, per_channel: bool
) -> None:
    """In each layer, for pictures that were not learned from. The last one has 32 positions to
    learn from, and must not be learned by heart."""
    scheme = corrected(graph, points, scheme_of(graph, points, per_channel), Batches())
    told: list[tuple] = []
    work = Work(Batches(), lambda graph: None, 0.01, None, lambda *what: told.append(what))
    better = learn_rounding(graph, points, scheme, work)
    ratios = [
        layer_error(graph, layer, better) / layer_error(graph, layer, scheme)
        for layer in points.layers
    ]
    assert max(ratios) < 1.02
    assert np.prod(ratios) < 0.6
    count = len(points.layers)
    assert told == [("learn rounding", i + 1, count) for i in range(count)]


def test_learned_integers_are_neighbours(graph: Graph, points: Points, scheme: Scheme) -> None:
    better = learn_rounding(graph, points, scheme, WORK)
    turned = 0
    for layer in points.layers:
        found = better.weights[id(layer.value)]
        assert found.integers.dtype == np.int8
        assert found.integers.shape == layer.weights.shape
        assert found.scale.shape == scheme.weights[id(layer.value)].scale.shape
        wanted = np.clip(layer.weights / found.scale, -127, 127)
        near = np.abs(found.integers - wanted) < 1
        if layer.pairs is None:
            assert near.all()
        else:  # some pairs may have to give way to the limit of their sum
            assert near.mean() > 0.9
            pairs = np.moveaxis(found.integers.astype(int), layer.pairs, 0)
            assert np.abs(pairs[0::2] + pairs[1::2]).max() <= 128
        turned += int((found.integers != np.rint(wanted)).sum())
    assert turned > 0.02 * sum(layer.weights.size for layer in points.layers)


def test_channels_that_calibration_shows_closed_keep_their_weights() -> None:
    """Other data may open them: their scales and roundings may not be whatever costs nothing."""
    x = placeholder(Type(SHAPE, F32))
    w = np.random.default_rng(4).standard_normal((3, 3, SHAPE[-1], 6)).astype(np.float32)
    bias = np.array([0, 0, 0, -1e3, 0, -1e3], np.float32)
    inside = {"stride": (1, 1), "dilation": (1, 1), "low": (0, 0), "high": (0, 0), "groups": 1}
    y = ops.maximum(ops.add(nn.conv(x, const(w), **inside), const(bias)), 0.0)
    size = y.type.size // SHAPE[0]
    head = const(np.eye(size, 3, dtype=np.float32))
    y = matmul(ops.reshape(y, shape=(SHAPE[0], size)), head)
    graph = optimise(Graph({"x": x}, {"y": y}, "closed"))
    points = find_points(graph)
    first = points.layers[0]
    found = learn_rounding(graph, points, scheme_of(graph, points, True), WORK)
    wrong = np.abs(found.weights[id(first.value)].real - first.weights)
    assert wrong[..., bias < 0].max() < 0.02 * np.abs(w).max()
