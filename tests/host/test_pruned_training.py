"""Pruning during training: masks that grow as they should, and zeros that stay."""

from __future__ import annotations

import numpy as np
import pytest

import brim
from brim import train
from brim.compress import Prune
from brim.errors import InputError, UnsupportedError
from brim.graph import Graph, const, evaluate, placeholder
from brim.ops import primitive as p
from brim.ops import pruned as op
from brim.train.compressed import made_of
from brim.types import F32, Type
from tests import networks as n

ROWS, INPUTS, HIDDEN = 16, 12, 24


def network() -> train.Network:
    random = np.random.default_rng(0)
    first, last = (random.standard_normal(shape) for shape in ((INPUTS, HIDDEN), (8, HIDDEN)))
    x = placeholder(Type((ROWS, INPUTS), F32))
    y = n.relu(p.contract(x, const(first.astype(np.float32), "first"), spec="mk,kn->mn"))
    y = p.contract(y, const(last.astype(np.float32), "last"), spec="mk,nk->mn")
    return train.network(Graph({"x": x}, {"y": y}, "net"))


def batch(number: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(number)
    x = random.standard_normal((ROWS, INPUTS)).astype(np.float32)
    return {"x": x, "target": np.tanh(x[:, :8] * 2)}


def trained(net: train.Network, steps: int, rate: float = 3e-3) -> train.Network:
    """The rate falls to 0: so weights stand still while the last masks are found."""
    adam = train.Adam(train.Cosine(rate, steps))
    model = brim.compile(train.training_step(net, train.MeanSquared(), adam))
    for number in range(steps):
        model.run(batch(number))
    return net.with_weights({k: a for k, a in model.state.items() if k in net.weights})


def kept(net: train.Network) -> list[np.ndarray]:
    """What is not 0 of the weights of the first and of the last product, as training sees them."""
    products = [v for v in net.graph.values() if v.op and v.op.name == "contract"]
    outputs = {f"w{i}": value.args[1] for i, value in enumerate(products)}
    found = evaluate(Graph(net.graph.inputs, outputs), {**net.weights, "x": batch(0)["x"]})
    return [array != 0 for array in found.values()]


def zeros(net: train.Network) -> list[float]:
    return [1 - float(mask.mean()) for mask in kept(net)]


@pytest.mark.parametrize("width", [1, 2])
def test_the_threshold_follows_the_cubic_schedule(width: int) -> None:
    """Of scores that stay: after each window as many lie below it as the schedule says."""
    random, share, begin, steps = np.random.default_rng(0), 0.8, 10, 90
    score = np.square(random.standard_normal((50, 6))).astype(np.float32)
    w, z = placeholder(Type(score.shape, F32)), placeholder(Type(score.shape, F32))
    mask, state = op.start(50, 6 // width, width > 1)
    m, old = placeholder(Type(mask.shape, F32)), placeholder(Type(state.shape, F32))
    graph = Graph(
        {"w": w, "m": m, "s": old, "z": z},
        dict(zip("ms", op.advanced(w, m, old, z, share=share, begin=begin, steps=steps))),
    )
    found = {"m": mask, "s": state}
    for step in range(1, 141):
        found = evaluate(graph, {"w": score, "z": score, **found})
        assert np.all(found["s"][2] == step)
        if step % op.HALVINGS == 0:
            done = np.clip((step - begin) / steps, 0, 1)
            wanted = share * (1 - (1 - done) ** 3)
            zeros = 1 - found["m"].mean(0 if width > 1 else None)
            one = 1 / (50 if width > 1 else mask.size)
            assert np.all(zeros <= wanted + 1e-6)
            assert np.all(zeros > wanted - one - 1e-3)
            blocks = score.reshape(*mask.shape, width).sum(2)
            assert blocks[found["m"] == 0].max(initial=0) < blocks[found["m"] == 1].max()


@pytest.mark.parametrize("method", ["magnitude", "movement"])
@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_training_ends_with_the_zeros_asked_for(method: str, pattern: str) -> None:
    recipe = Prune(method, pattern, 0.75, scope="layer")
    net = train.pruned(network(), recipe, steps=100)
    assert zeros(net) == [0, 0]
    tuned = trained(net, 300)
    for share in zeros(tuned):
        blocks = 12 if pattern == "1x4" else INPUTS * HIDDEN  # that share a threshold
        assert share == pytest.approx(0.75, abs=0.01 + 0.5 / blocks)
    if pattern == "1x4":
        blocks = kept(tuned)[0].reshape(INPUTS, HIDDEN // 4, 4)
        assert np.all(blocks.all(2) == blocks.any(2))


def test_it_learns_to_do_without() -> None:
    """Masks that grow lose less than the same share taken at the end."""
    net = network()

    def error(found: train.Network) -> float:
        model = found.model()
        parts = [(model(batch(i)["x"]), batch(i)["target"]) for i in range(900, 910)]
        return float(np.mean([np.square(a - b).mean() for a, b in parts]))

    dense = trained(net, 300)
    recipe = Prune(sparsity=0.7, scope="layer")
    at_once = train.pruned(dense, recipe, steps=1)
    at_once = trained(at_once, op.HALVINGS, rate=1e-9)
    gradual = trained(train.pruned(dense, recipe, steps=150), 300)
    assert zeros(gradual) == pytest.approx(zeros(at_once), abs=0.01)
    assert error(gradual) < 0.5 * error(at_once)


def test_a_pruned_network_can_be_quantized() -> None:
    data = np.concatenate([batch(i)["x"] for i in range(8)])
    net = train.pruned(network(), Prune(sparsity=0.5, scope="layer"), steps=40)
    tuned = trained(train.quantized(net, data), 80)
    made = made_of(tuned)
    shares = [(w.integers == 0).mean() for w in made.scheme.weights.values()]
    assert min(shares) > 0.4
    found, wanted = brim.compile(made.graph), tuned.model()
    np.testing.assert_allclose(found(batch(0)["x"]), wanted(batch(0)["x"]), rtol=1e-3, atol=1e-3)


def test_what_cannot_be_pruned_is_refused() -> None:
    net = network()
    with pytest.raises(UnsupportedError, match="channels"):
        train.pruned(net, Prune(pattern="channels"), steps=10)
    with pytest.raises(UnsupportedError, match="no trained weights"):
        train.pruned(net, Prune(layers=("nothing",)), steps=10)
    with pytest.raises(UnsupportedError, match="no trained weights"):
        train.pruned(net.freeze("*"), Prune(), steps=10)
    with pytest.raises(InputError, match="0 steps"):
        train.pruned(net, Prune(), steps=0)
