"""Networks that are written in Python, and new heads for those that are imported."""

from __future__ import annotations

import numpy as np
import pytest

from brim.errors import InputError
from brim.graph import Graph, Value, evaluate, placeholder
from brim.ops.math import relu, softmax
from brim.train import Network, network
from brim.train.layers import Layers, averaged, flat
from brim.types import F32, I64, Type
from tests.layer_networks import resnet18
from tests.onnx_models import F32 as FLOAT
from tests.onnx_models import model, node

RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def small(seed: int = 0) -> Network:
    layers = Layers(seed)
    x = layers.input("x", (2, 8, 8, 3))
    y = relu(layers.batch_norm(layers.conv(x, "a", 16, size=3, stride=2, bias=False), "n"))
    y = relu(layers.conv(y, "b", 16, size=5, groups=16))
    y = layers.dense(flat(y), "c", 10)
    return layers.network(y, "small")


def run(net: Network, **feeds: np.ndarray) -> np.ndarray:
    return evaluate(net.graph, {**feeds, **net.weights})["y"]


def test_a_network_of_layers() -> None:
    net = small()
    assert list(net.data) == ["x"]
    assert net.statistics == {"n.running_mean", "n.running_var"}
    assert net.trained == {
        "a.weight",
        "n.weight",
        "n.bias",
        "b.weight",
        "b.bias",
        "c.weight",
        "c.bias",
    }
    assert run(net, x=normal(2, 8, 8, 3)).shape == (2, 10)


def test_files_hold_weights_as_pytorch_does() -> None:
    shapes = {name: array.shape for name, array in small().file_weights.items()}
    assert shapes["a.weight"] == (16, 3, 3, 3)
    assert shapes["b.weight"] == (16, 1, 5, 5)
    assert shapes["c.weight"] == (10, 16 * 16)


def test_first_contents_follow_from_seed_and_name() -> None:
    one, same, other = small(0), small(0), small(1)
    for name, array in one.weights.items():
        np.testing.assert_array_equal(array, same.weights[name])
    assert (one.weights["a.weight"] != other.weights["a.weight"]).all()
    layers = Layers(0)
    layers.conv(layers.input("x", (1, 4, 4, 3)), "a", 16, size=3)
    np.testing.assert_array_equal(layers.contents["a.weight"], one.weights["a.weight"])


def test_layers_keep_the_size_of_what_passes_through() -> None:
    """He's variance: after a ReLU, squares are as large as before, whatever the width."""
    layers = Layers(3)
    x = layers.input("x", (64, 300))
    y = x
    for i in range(5):
        y = relu(layers.dense(y, f"d{i}", 300))
    found = run(layers.network(y), x=normal(64, 300))
    assert 0.7 < np.mean(found**2) < 1.4


def test_norms_along_the_last_axis_and_tables() -> None:
    layers = Layers()
    index = layers.inputs["i"] = placeholder(Type((2, 5), I64))
    net = layers.network(layers.layer_norm(layers.embedding(index, "words", 7, 6), "norm"))
    found = run(net, i=RANDOM.integers(0, 7, (2, 5)))
    np.testing.assert_allclose(found.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(-1), 1, 1e-3)


def test_two_weights_of_one_name_are_refused() -> None:
    layers = Layers()
    x = layers.input("x", (2, 3))
    with pytest.raises(InputError, match=r"'d\.weight'"):
        layers.dense(layers.dense(x, "d", 3), "d", 3)


# ------------------------------------------------------------------ heads


def pretrained() -> bytes:
    nodes = [
        node("Conv", "x conv.weight conv.bias", "features", pads=[1, 1, 1, 1]),
        node("Relu", "features", "active"),
        node("GlobalAveragePool", "active", "pooled"),
        node("Flatten", "pooled", "flat"),
        node("Gemm", "flat fc.weight fc.bias", "logits", transB=1),
        node("Softmax", "logits", "y"),
    ]
    weights = {
        "conv.weight": normal(6, 3, 3, 3),
        "conv.bias": normal(6),
        "fc.weight": normal(9, 6),
        "fc.bias": normal(9),
    }
    made = model(nodes, [("x", FLOAT, [2, 3, 4, 4])], [("y", FLOAT, None)], weights)
    return made.SerializeToString()


def test_the_last_layer_is_replaced_and_what_came_behind_is_gone() -> None:
    x, net = normal(2, 3, 4, 4), network(pretrained())
    new = net.replace(5)
    assert list(new.weights) == ["conv.weight", "conv.bias", "head.weight", "head.bias"]
    w = net.weights
    y = run(new, x=x)
    assert y.shape == (2, 5)
    old = evaluate(net.graph, {"x": x, **w})["y"]
    # with the old layer's weights the head gives the old logits
    like = net.replace(9).with_weights({"head.weight": w["fc.weight"].T, "head.bias": w["fc.bias"]})
    logits = run(like, x=x).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, old, 1e-5)


def test_a_head_of_several_layers_at_a_named_place() -> None:
    net = network(pretrained())

    def head(layers: Layers, x: Value) -> Value:
        assert x.shape == (2, 4, 4, 6)  # channels last
        hidden = relu(layers.dense(averaged(x), "head.0", 7))
        return layers.dense(hidden, "head.1", 3)

    new = net.freeze("conv.*").replace(head, at="Relu_active", seed=4)
    assert new.trained == {"head.0.weight", "head.0.bias", "head.1.weight", "head.1.bias"}
    assert new.frozen == {"conv.weight", "conv.bias"}
    assert new.graph.outputs["y"].shape == (2, 3)
    assert net.replace(5, at="Relu_active").weights["head.weight"].shape == (6, 5)


def test_a_head_where_there_is_no_place_for_it() -> None:
    net = network(pretrained())
    with pytest.raises(InputError, match="'Relu_activ'") as caught:
        net.replace(5, at="Relu_activ")
    assert "Relu_active" in caught.value.hint
    x = placeholder(Type((2, 3), F32))
    with pytest.raises(InputError, match="fully connected") as caught:
        network(Graph({"x": x}, {"y": softmax(x, axis=1)})).replace(5)
    assert "at=" in caught.value.hint
    with pytest.raises(InputError, match=r"'fc\.weight'"):
        net.replace(lambda layers, x: layers.dense(x, "fc", 3))


def test_a_known_network_has_the_known_number_of_parameters() -> None:
    net = resnet18(1)
    assert sum(net.weights[name].size for name in net.trained) == 11_689_512
