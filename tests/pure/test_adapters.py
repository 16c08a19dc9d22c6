"""Low-rank adapters: where they go, what they compute, how they get into the weights."""

from __future__ import annotations

import numpy as np
import pytest

from brim.errors import InputError
from brim.graph import evaluate, topo
from brim.ops import math as maths
from brim.ops import primitive as p
from brim.passes.autodiff import gradient
from brim.train import Network
from brim.train.layers import Layers, averaged

RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def attention() -> Network:
    """Pictures by a 1x1 and a 3x3 convolution, then one head of attention over their rows."""
    layers = Layers()
    x = layers.input("x", (2, 5, 5, 3))
    y = maths.relu(layers.conv(layers.conv(x, "point", 6, size=1), "spread", 6, size=3))
    y = p.reshape(y, shape=(2, 25, 6))
    q, k, v = (layers.dense(y, f"attention.{name}", 6) for name in "qkv")
    shares = maths.softmax(maths.matmul(q, p.transpose(k, perm=(0, 2, 1))), axis=2)
    return layers.network(layers.dense(averaged(maths.matmul(shares, v)), "last", 4))


def run(net: Network, x: np.ndarray) -> np.ndarray:
    return evaluate(net.graph, {"x": x, **net.weights})["y"]


def moved(net: Network) -> Network:
    """With adapters that change something."""
    return net.with_weights(
        {n: normal(*a.shape) for n, a in net.weights.items() if n.endswith(".lora_b")}
    )


def test_adapters_change_nothing_at_first_and_only_they_are_trained() -> None:
    net, x = attention(), normal(2, 5, 5, 3)
    new = net.adapted("attention.*", rank=2)
    matrices = {f"attention.{name}.weight" for name in "qkv"}
    assert new.trained == {f"{name}.lora_{side}" for name in matrices for side in "ab"}
    assert new.frozen == set(net.weights)
    np.testing.assert_array_equal(run(new, x), run(net, x))


def test_merging_keeps_what_is_computed() -> None:
    net, x = attention(), normal(2, 5, 5, 3)
    new = moved(net.adapted("*", rank=2, alpha=6))
    assert {n.removesuffix(".lora_a") for n in new.weights if n.endswith("lora_a")} == {
        "point.weight", "last.weight", *(f"attention.{name}.weight" for name in "qkv")
    }  # fmt: skip
    y = run(new, x)
    assert np.abs(y - run(net, x)).max() > 1
    whole = new.merged()
    assert whole.weights.keys() == net.weights.keys()
    assert whole.frozen == set(net.weights)
    np.testing.assert_allclose(run(whole, x), y, 1e-4, 1e-4)
    np.testing.assert_allclose(evaluate(new.with_constants(), {"x": x})["y"], y, 1e-4, 1e-4)
    name = "attention.q.weight"
    a, b = new.weights[f"{name}.lora_a"], new.weights[f"{name}.lora_b"]
    np.testing.assert_allclose(whole.weights[name], net.weights[name] + 3 * a @ b, 1e-5, 1e-5)
    assert net.merged() is net


def test_slopes_of_frozen_matrices_are_not_computed() -> None:
    net = attention().adapted("last.weight", rank=2)
    names = sorted(net.trained)
    slopes = gradient(net.graph.outputs["y"], [net.graph.inputs[name] for name in names])
    made = {value.shape for value in topo(slopes) if value.op is not None}
    assert made >= {net.weights[name].shape for name in names}
    assert net.weights["last.weight"].shape not in made


def test_what_cannot_be_adapted() -> None:
    net = attention()
    for name in ("spread.weight", "last.bias"):
        with pytest.raises(InputError, match="can be adapted"):
            net.adapted(name, rank=2)
    with pytest.raises(InputError, match="'atention"):
        net.adapted("atention*", rank=2)
    with pytest.raises(InputError, match="rank=0"):
        net.adapted("*", rank=0)


def test_a_matrix_that_two_products_read_is_left_alone() -> None:
    layers = Layers()
    x = layers.input("x", (2, 4))
    w = layers.weight("w", normal(4, 4))
    tied = layers.network(p.contract(p.contract(x, w, spec="mk,kn->mn"), w, spec="mk,nk->mn"))
    with pytest.raises(InputError, match="read once"):
        tied.adapted("w", rank=1)
