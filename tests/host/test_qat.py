"""Quantization-aware training end to end: what training sees is what integers compute."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import brim
from brim import train
from brim.compress import ContractError, Int8, Recipe
from brim.compress.integers import integers
from brim.compress.scheme import PAIR
from brim.errors import UnsupportedError
from brim.graph import Graph, Value, const, placeholder
from brim.ops import math as maths
from brim.ops import nn
from brim.ops import primitive as p
from brim.ops.math import softmax
from brim.train.compressed import made_of
from brim.types import F32, I8, U8, Type
from tests import networks as n
from tests.onnx_models import F32 as FLOAT
from tests.onnx_models import model as onnx_model
from tests.onnx_models import node

SHAPE = (4, 8, 8, 3)
PLAIN = Int8("min_max", equalise=False, correct_bias=False)
PER_TENSOR = Int8("min_max", per_channel=False, equalise=False, correct_bias=False)


def norm(x: Value) -> Value:
    c = x.shape[-1]
    spread = const(np.abs(n.normal(c)) + 0.5)
    return nn.batch_norm(x, n.weight(c), n.weight(c), n.weight(c), spread, epsilon=1e-3)


def classifier(x: Value, outputs: int = 10) -> Value:
    images, *sides, channels = x.shape
    y = p.mul(p.reduce(x, op="add", axes=(1, 2)), 1 / float(np.prod(sides)))
    y = p.reshape(y, shape=(images, channels))
    return p.add(p.contract(y, n.weight(channels, outputs), spec="mk,kn->mn"), n.weight(outputs))


def plain(x: Value) -> Value:
    y = p.minimum(n.relu(norm(n.convolution(x, n.weight(3, 3, 3, 8)))), 6)
    wide = p.window(y, axes=(1, 2), size=(3, 3), stride=(2, 2), dilation=(1, 1))
    y = n.relu(norm(p.contract(wide, n.weight(3, 3, 8), spec="nhwcij,ijc->nhwc")))
    return classifier(norm(n.convolution(y, n.weight(1, 1, 8, 12), border=0)))


def residual(x: Value) -> Value:
    y = n.relu(norm(n.convolution(x, n.weight(3, 3, 3, 8))))
    z = p.add(norm(n.convolution(y, n.weight(3, 3, 8, 8))), y)
    side = norm(n.convolution(z, n.weight(1, 1, 8, 6), border=0))
    return classifier(n.relu(p.add(side, n.convolution(z, n.weight(3, 3, 8, 6)))))


def joined(x: Value) -> Value:
    y = n.relu(p.add(n.convolution(x, n.weight(3, 3, 3, 7)), n.weight(7)))
    y = p.window(y, axes=(1, 2), size=(3, 3), stride=(2, 2), dilation=(1, 1))
    y = p.reshape(p.reduce(y, op="max", axes=(4, 5)), shape=(4, 3, 3, 7))
    y = p.concat(y, n.convolution(y, n.weight(1, 1, 7, 5), border=0), axis=3)
    return classifier(n.relu(norm(n.convolution(y, n.weight(3, 3, 12, 6)))))


def network(build: Callable[[Value], Value]) -> train.Network:
    x = placeholder(Type(SHAPE, F32))
    return train.network(Graph({"x": x}, {"y": build(x)}, build.__name__))


def samples(count: int = 32) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, *SHAPE[1:])).astype(np.float32)


def moved(net: train.Network, amount: float = 0.1) -> train.Network:
    """As after some training: all trained weights are others, scales, too."""
    random = np.random.default_rng(2)
    new = {}
    for name in net.trained:
        w = net.weights[name]
        size = 0.1 if name.endswith("log_scale") else np.abs(w)
        new[name] = w + np.float32(amount) * size * random.standard_normal(w.shape)
    return net.with_weights(new)


def stored_bytes(net: train.Network) -> list[tuple[np.ndarray, np.ndarray]]:
    """For every stored value, its integers in training and in the graph of integers."""
    made = made_of(net)
    known = {id(v) for v in made.source.values() if id(v) in made.scheme.activations}
    stored = [v for v in made.source.values() if id(v) in known]
    outputs = {f"v{i}": value for i, value in enumerate(stored)}
    source = made.source
    whole = integers(Graph(source.inputs, outputs), made.points.layers, made.scheme)
    fakes = [
        v for v in net.graph.values()
        if v.op and v.op.name == "fake_quant" and v.attrs["high"] == 255
    ]  # fmt: skip
    assert len(fakes) == len(stored)
    simulated = Graph(net.graph.inputs, {f"v{i}": v.args[0] for i, v in enumerate(fakes)})
    feeds = {"x": samples()[: SHAPE[0]]}
    ours = brim.compile(simulated).run({**feeds, **net.weights})
    theirs = brim.compile(whole).run(feeds)
    found = []
    for i, value in enumerate(stored):
        quant = made.scheme.activations[id(value)]
        a, b = (np.rint(each[f"v{i}"] / quant.scale) + quant.zero for each in (ours, theirs))
        found.append((a.clip(0, 255), b.clip(0, 255)))
    return found


@pytest.mark.parametrize(
    ("build", "recipe"),
    [(plain, PER_TENSOR), (residual, PLAIN), (joined, PER_TENSOR)],
)
def test_integers_compute_what_training_saw(build: Callable, recipe: Int8) -> None:
    """Every byte that is stored, up to one quantum; nearly all of them are the same."""
    net = moved(train.quantized(network(build), samples(), recipe))
    pairs = stored_bytes(net)
    assert len(pairs) > 3
    for ours, theirs in pairs:
        assert len(np.unique(ours)) > 8
        assert np.abs(ours - theirs).max() <= 1
        assert (ours != theirs).mean() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("build", [plain, residual, joined])
def test_before_training_it_is_what_quantize_makes(build: Callable) -> None:
    net = network(build)
    found = brim.compile(made_of(train.quantized(net, samples(), PLAIN)).graph)
    wanted, _ = brim.quantize(net.model(), samples(), Recipe((PLAIN,)), force=True)
    x = {"x": samples()[: SHAPE[0]]}
    a, b = found.run(x)["y"], wanted.run(x)["y"]
    assert np.square(a - b).sum() / np.square(b).sum() < 1e-4  # calibration is the same data


def test_products_are_of_bytes_and_pairs_are_limited() -> None:
    net = moved(train.quantized(network(plain), samples(), PER_TENSOR), 0.5)
    made = made_of(net)
    products = [v for v in made.graph.values() if v.op and v.op.name in ("conv", "contract")]
    assert {arg.dtype for v in products for arg in v.args} == {U8, I8}
    for layer in made.points.layers:
        whole = made.scheme.weights[id(layer.value)].integers.astype(int)
        assert np.abs(whole).max() <= 127
        if layer.pairs is not None:
            sums = np.add.reduceat(whole, np.arange(0, whole.shape[layer.pairs], 2), layer.pairs)
            assert np.abs(sums).max() <= PAIR


def test_what_losses_look_for_stays_whole() -> None:
    """A cross entropy takes the logits of a network that ends in softmax."""
    x = placeholder(Type(SHAPE, F32))
    y = p.reshape(
        softmax(classifier(n.convolution(x, n.weight(3, 3, 3, 4))), axis=1), shape=(2, 20)
    )
    net = train.quantized(train.network(Graph({"x": x}, {"y": y}, "ends")), samples(), PLAIN)
    (end,) = net.graph.outputs.values()
    assert (end.op.name, end.args[0].op.name) == ("reshape", "softmax")  # type: ignore[union-attr]
    feeds = samples()[: SHAPE[0]]
    found = brim.compile(made_of(net).graph)(feeds)
    np.testing.assert_allclose(found.reshape(4, 10).sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(found, net.model()(feeds), atol=1e-4)


def test_layers_that_are_kept_stay_in_float() -> None:
    net = network(plain)
    first = made_of(train.quantized(net, samples(), PLAIN)).points.layers
    keep = Int8("min_max", keep=(first[1].name,))
    layers = made_of(train.quantized(net, samples(), keep)).points.layers
    assert [layer.name for layer in layers] == [x.name for x in first if x is not first[1]]
    with pytest.raises(UnsupportedError, match="keeps all"):
        train.quantized(net, samples(), Int8(keep=("*",)))
    with pytest.raises(UnsupportedError, match="nothing of plain is rounded or pruned"):
        made_of(net)


def test_frozen_weights_and_statistics_stay_frozen() -> None:
    net = network(plain)
    frozen = next(iter(net.trained))
    quantized = train.quantized(net.freeze(frozen), samples(), PLAIN)
    assert quantized.trained - net.trained == {x for x in quantized.weights if "log_scale" in x}
    assert net.trained - quantized.trained == {frozen}
    assert all(name.endswith(".zero") for name in quantized.frozen - net.statistics - {frozen})


def test_scales_do_not_decay() -> None:
    """Their logarithms would be pulled to 0, and the scales to 1."""
    quantized = train.quantized(network(plain), samples(), PLAIN)
    outputs = next(iter(quantized.graph.outputs.values())).shape
    feeds = {"x": samples(SHAPE[0]), "target": np.zeros(outputs, np.float32)}

    def after(optimiser: train.AdamW) -> dict[str, np.ndarray]:
        model = brim.compile(train.training_step(quantized, train.MeanSquared(), optimiser))
        model.run(feeds)
        return {name: np.array(model.state[name]) for name in quantized.trained}

    decayed, plainly = after(train.AdamW(1e-2, decay=0.5)), after(train.AdamW(1e-2, decay=0.0))
    for name in quantized.trained:
        same = np.array_equal(decayed[name], plainly[name])
        assert same == name.endswith("log_scale"), name


def test_training_brings_back_what_one_scale_for_all_loses() -> None:
    """One channel with weights 100 times as large as the others', which the output hardly reads."""
    random = np.random.default_rng(3)
    x = placeholder(Type((32, 12), F32))
    w = random.standard_normal((12, 16)).astype(np.float32)
    w[:, 0] *= 100
    v = random.standard_normal((16, 4)).astype(np.float32)
    v[0] *= 1e-4
    y = n.relu(p.contract(x, const(w), spec="mk,kn->mn"))
    net = train.network(Graph({"x": x}, {"y": p.contract(y, const(v), spec="mk,kn->mn")}))
    data = random.standard_normal((320, 12)).astype(np.float32)
    wanted = np.concatenate([net.model()(part) for part in np.split(data, 10)])
    quantized = train.quantized(net, data, PER_TENSOR)

    def error(tuned: train.Network) -> float:
        model = brim.compile(made_of(tuned).graph)
        found = np.concatenate([model(part) for part in np.split(data, 10)])
        return float(np.square(found - wanted).sum() / np.square(wanted).sum())

    step = train.training_step(quantized, train.MeanSquared(), train.Adam(3e-3))
    model, number = brim.compile(step), random.integers(0, 10, 600)
    for i in number:
        model.run({"x": data[32 * i : 32 * i + 32], "target": wanted[32 * i : 32 * i + 32]})
    tuned = quantized.with_weights({name: model.state[name] for name in quantized.trained})
    assert error(tuned) < error(quantized) / 10


@pytest.mark.slow
def test_a_trained_network_becomes_a_model_with_a_report() -> None:
    net = network(plain)
    quantized = train.quantized(net, samples(), PLAIN)
    model, report = train.compressed(quantized, net.model(), samples(), force=True)
    assert [layer.form for layer in report.layers] == ["int8"] * 4
    assert report.accuracy.difference < 0.01
    assert report.stages[-1].step == "int8, trained"
    with pytest.raises(ContractError, match="misses its contract"):
        train.compressed(quantized, net.model(), samples(), max_loss=1e-9)
    x = samples()[: SHAPE[0]]
    np.testing.assert_array_equal(model(x), brim.compile(made_of(quantized).graph)(x))


# ------------------------------------------------------------------ transformers, LSTMs


def transformer() -> train.Network:
    """x: f32[16,12,32] -> a block of an encoder, four heads; the mean; y: f32[16,5]."""
    layers = train.Layers()
    x = layers.input("x", (16, 12, 32))

    def heads(name: str) -> Value:
        y = p.reshape(layers.dense(x, name, 32), shape=(16, 12, 4, 8))
        return p.transpose(y, perm=(0, 2, 1, 3))

    scores = p.contract(heads("query"), heads("key"), spec="bhsd,bhtd->bhst")
    shares = softmax(p.mul(scores, 8**-0.5), axis=3)
    mixed = p.contract(shares, heads("value"), spec="bhst,bhtd->bhsd")
    mixed = p.reshape(p.transpose(mixed, perm=(0, 2, 1, 3)), shape=x.shape)
    y = layers.layer_norm(p.add(layers.dense(mixed, "out", 32), x), "first")
    h = layers.dense(maths.gelu(layers.dense(y, "up", 64), approximate=False), "down", 32)
    y = layers.layer_norm(p.add(h, y), "second")
    mean = p.reshape(p.mul(p.reduce(y, op="add", axes=(1,)), 1 / 12), shape=(16, 32))
    return layers.network(layers.dense(mean, "last", 5))


def recurrent() -> train.Network:
    """x: f32[12,16,32] -> "value", an LSTM that reads it by "out", a layer; y: f32[16,5]."""

    def spread(*shape: int) -> np.ndarray:
        return n.normal(*shape) / np.float32(shape[-1] ** 0.5)

    nodes = [
        node("MatMul", "x value.weight", "v"),
        node("LSTM", "v out.weight back bias", "all last state", hidden_size=32),
        node("Squeeze", "last axes", "h"),
        node("MatMul", "h fc", "y"),
    ]
    weights = {
        "value.weight": spread(32, 32), "out.weight": 2 * spread(1, 128, 32),
        "back": 2 * spread(1, 128, 32), "bias": n.normal(1, 256) / 5, "fc": n.normal(32, 5),
        "axes": np.array([0]),
    }  # fmt: skip
    inputs, outputs = [("x", FLOAT, [12, 16, 32])], [("y", FLOAT, None)]
    return train.network(onnx_model(nodes, inputs, outputs, weights).SerializeToString())


def with_a_large_channel(net: train.Network) -> train.Network:
    """Which computes the same: "value" makes a channel 100 times as large, "out" reads a 100th."""
    value, out = (net.weights[name].copy() for name in ("value.weight", "out.weight"))
    value[:, 0] *= 100
    read = out if out.shape == (32, 32) else out.T  # rows are what is read
    read[0] /= 100
    return net.with_weights({"value.weight": value, "out.weight": out})


@pytest.mark.parametrize("build", [pytest.param(transformer, marks=pytest.mark.slow), recurrent])
def test_what_is_no_convolution_learns_to_live_with_integers(
    build: Callable[[], train.Network],
) -> None:
    """Attention and recurrent products stay in floats; all other products are of bytes."""
    plainly = build()
    net = with_a_large_channel(plainly)
    (shape,) = (value.shape for value in net.data.values())
    random = np.random.default_rng(1)
    data = random.standard_normal((10, *shape)).astype(np.float32)
    float_model, same = net.model(), plainly.model()
    wanted = [float_model(x) for x in data]
    np.testing.assert_allclose(wanted[0], same(data[0]), atol=1e-5)
    quantized = train.quantized(net, [{"x": x} for x in data], PER_TENSOR)
    rounded = {
        name.partition(".weight_log")[0] for name in quantized.weights if "weight_log" in name
    }
    assert len(rounded) == (7 if build is transformer else 3)

    def apart(found: list[np.ndarray], from_: list[np.ndarray]) -> float:
        return float(np.square(np.subtract(found, from_)).sum() / np.square(wanted).sum())

    def integers_of(tuned: train.Network) -> list[np.ndarray]:
        model = brim.compile(made_of(tuned).graph)
        return [model(x) for x in data]

    rate = train.Cosine(3e-3, steps=300)
    step = brim.compile(train.training_step(quantized, train.MeanSquared(), train.Adam(rate)))
    for i in random.integers(0, 10, 300):
        step.run({"x": data[i], "target": wanted[i]})
    tuned = quantized.with_weights({name: step.state[name] for name in quantized.trained})
    assert apart(integers_of(tuned), wanted) < apart(integers_of(quantized), wanted) / 10
    seen = tuned.model()
    assert apart(integers_of(tuned), [seen(x) for x in data]) < 1e-6
