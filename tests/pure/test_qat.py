"""What quantization-aware training is made of: norms folded into weights, pairs of weights kept in
their limits, constants found in a graph whose weights are inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brim.compress.scheme import PAIR
from brim.graph import Graph, Value, evaluate, evaluate_values, placeholder
from brim.ops import nn
from brim.ops import primitive as p
from brim.passes.autodiff import gradient
from brim.train.folding import fold_scales
from brim.train.qat import within_pairs
from brim.types import F32, F64, Type
from tests import networks as n

SHAPE = (2, 6, 6, 4)


class Weights:
    """Weights as inputs, as they are asked for."""

    def __init__(self) -> None:
        self.inputs: dict[str, Value] = {}
        self.arrays: dict[str, np.ndarray] = {}

    def __call__(self, *shape: int, positive: bool = False) -> Value:
        name = f"w{len(self.inputs)}"
        array = n.normal(*shape)
        self.arrays[name] = np.abs(array) + 0.1 if positive else array
        self.inputs[name] = placeholder(Type(shape, F32), name)
        return self.inputs[name]

    def norm(self, x: Value) -> Value:
        c = x.shape[-1]
        stats = (self(c), self(c), self(c), self(c, positive=True))
        return nn.batch_norm(x, *stats, epsilon=1e-3)


def convolved(x: Value, w: Weights) -> Value:
    options = {"stride": (1, 1), "dilation": (1, 1), "low": (1, 1), "high": (1, 1), "groups": 1}
    return w.norm(p.add(nn.conv(x, w(3, 3, 4, 8), **options), w(8)))


def depthwise(x: Value, w: Weights) -> Value:
    wide = p.window(x, axes=(1, 2), size=(3, 3), stride=(1, 1), dilation=(1, 1))
    return w.norm(p.contract(wide, w(3, 3, 4), spec="nhwcij,ijc->nhwc"))


def scaled(x: Value, w: Weights) -> Value:
    y = p.div(p.sub(p.contract(x, w(4, 5), spec="nhwk,kc->nhwc"), w(5)), w(5, positive=True))
    return p.mul(p.add(y, w(1)), w(5))


def two_readers(x: Value, w: Weights) -> Value:
    y = p.contract(x, w(4, 4), spec="nhwk,kc->nhwc")
    return p.add(w.norm(y), y)


@pytest.mark.parametrize("build", [convolved, depthwise, scaled, two_readers])
def test_folded_norms_compute_the_same(build: Callable[[Value, Weights], Value]) -> None:
    x, w = placeholder(Type(SHAPE, F32)), Weights()
    y = build(x, w)
    graph = Graph({"x": x, **w.inputs}, {"y": y})
    feeds = {"x": n.normal(*SHAPE), **w.arrays}
    folded = fold_scales(graph, w.inputs)
    found, wanted = evaluate(folded, feeds)["y"], evaluate(graph, feeds)["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    after = [v.op.name for v in folded.values() if v.op and v.shape == folded.outputs["y"].shape]
    if build is not two_readers:  # what is read as it was has to be scaled by itself
        assert after[-2:] in (["conv", "add"], ["contract", "add"])


def test_gradients_reach_all_weights_of_a_folded_norm() -> None:
    x, w = placeholder(Type(SHAPE, F32)), Weights()
    y = convolved(x, w)
    graph = fold_scales(Graph({"x": x, **w.inputs}, {"y": y}), w.inputs)
    y = graph.outputs["y"]
    loss = p.reduce(p.mul(y, y), op="add", axes=(0, 1, 2, 3))
    known = {id(x): n.normal(*SHAPE)}
    known |= {id(w.inputs[name]): array for name, array in w.arrays.items()}
    slopes = evaluate_values(gradient(loss, list(w.inputs.values())), known)
    assert all(np.abs(slope).max() > 1e-3 for slope in slopes)


@given(
    st.lists(st.floats(-300, 300), min_size=1, max_size=9),
    st.sampled_from([1.0, 0.37]),
)
def test_pairs_of_rounded_weights_stay_within_their_limit(
    numbers: list[float], scale: float
) -> None:
    units = np.clip(np.array([numbers]).T, -127, 127)  # [n, 1]: along axis 0
    w, limit = placeholder(Type(units.shape, F64)), placeholder(Type((1, 1), F64))
    known = {id(w): units * scale, id(limit): np.full((1, 1), (PAIR - 1) * scale)}
    (found,) = evaluate_values([within_pairs(w, limit, 0)], known)
    whole = np.rint(found / scale)[:, 0]
    for i in range(0, len(numbers), 2):
        pair, before = found[i : i + 2, 0] / scale, units[i : i + 2, 0]
        assert abs(whole[i : i + 2].sum()) <= PAIR
        assert np.abs(pair).max() <= 127 + 1e-9
        if abs(before.sum()) <= PAIR - 1:
            np.testing.assert_allclose(pair, before, atol=1e-9)
        else:
            assert np.ptp(before - pair) < 1e-9  # half of the excess each
