"""What `bench.fidelity` measures with: networks written as ONNX are the same, scores are right."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")

import brim
import brim.ops.math as maths
import brim.ops.primitive as p
from bench import fidelity
from bench.twin import twin
from brim.graph import Graph, Value, const, placeholder
from brim.ops import nn
from brim.types import F32, Type
from brim.vision.detector import Anchors
from brim.vision.regions import Region

pytestmark = pytest.mark.peer
RNG = np.random.default_rng(0)


def weights(*shape: int) -> Value:
    return const(RNG.normal(0, 0.3, shape).astype(np.float32))


def conv(x: Value, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> Value:
    w, high = weights(size, size, x.shape[-1] // groups, outputs), (size // 2,) * 2
    low = high if stride == 1 else (0, 0)  # the odd row below, as TensorFlow does
    y = nn.conv(x, w, stride=(stride,) * 2, dilation=(1, 1), low=low, high=high, groups=groups)
    return p.add(y, weights(outputs))


def doubled(x: Value) -> Value:
    """Twice as large, between half pixels in proportion."""
    for axis in (1, 2):
        n = x.shape[axis]
        at = np.clip((np.arange(2 * n) + 0.5) / 2 - 0.5, 0, n - 1)
        first = at.astype(np.int64)
        index = np.stack([first, np.minimum(first + 1, n - 1)], 1)
        share = np.stack([1 - (at - first), at - first], 1).astype(np.float32)
        x = nn.resample(x, const(index), const(share), axis=axis)
    return x


def network() -> Graph:
    """Every operator that twins are written with."""
    windows = {"size": (2, 2), "stride": (2, 2), "dilation": (1, 1), "low": (0, 0), "high": (0, 0)}
    x = placeholder(Type((1, 12, 16, 3), F32))
    y = p.minimum(p.maximum(conv(x, 8, stride=2), 0.0), 6.0)
    norm = [weights(8), weights(8), weights(8), const(np.full(8, 0.7, np.float32))]
    y = maths.relu(nn.batch_norm(conv(y, 8, groups=8), *norm, epsilon=1e-3))
    y = p.concat(maths.prelu(y, weights(1, 1, 8)), maths.hard_swish(y), axis=3)
    y = p.add(y, doubled(nn.max_pool(y, **windows)))
    gate = nn.average_pool(
        y, **{**windows, "size": (6, 8), "stride": (6, 8)}, counted_low=(0, 0), counted_high=(0, 0)
    )
    y = p.mul(y, maths.sigmoid(conv(gate, 16, 1)))
    y = p.pad(y, low=(0, 0, 0, 0), high=(0, 0, 0, 2), value=0.0)
    up = nn.conv_transpose(
        y, weights(2, 2, 18, 1), stride=(2, 2), dilation=(1, 1), low=(0, 0), high=(0, 0), groups=1
    )
    parts = p.reshape(y, shape=(1, 3, 2, 4, 2, 18))
    turned = p.reshape(p.transpose(parts, perm=(0, 1, 3, 2, 4, 5)), shape=(1, 48, 18))
    mean = p.reshape(p.div(p.reduce(y, op="add", axes=(1, 2)), 48.0), shape=(1, 18))
    points = p.contract(mean, weights(18, 5), spec="mk,kn->mn")
    return Graph({"x": x}, {"up": up, "turned": turned, "points": points})


def test_twin_is_the_same_network() -> None:
    graph = network()
    model = twin(graph)
    onnx.checker.check_model(model, full_check=True)
    feeds = {"x": RNG.standard_normal((1, 12, 16, 3), np.float32)}
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, feeds)))
    want = brim.compile(graph).run(feeds)
    assert found.keys() == want.keys()
    for name, y in want.items():
        np.testing.assert_allclose(found[name], y, rtol=1e-4, atol=1e-4 * np.abs(y).max())


def test_twin_names_what_it_does_not_know() -> None:
    x = placeholder(Type((1, 4, 4, 3), F32))
    with pytest.raises(NotImplementedError, match="tanh"):
        twin(Graph({"x": x}, {"y": maths.tanh(x)}))


def test_scores() -> None:
    mask = fidelity.mask_overlap("m", 0.5)
    half, all_, none = (np.array([v, 1.0]) * s for v, s in ((0, 1), (1, 1), (0, 0)))
    assert mask({"m": all_}, {"m": half}) == 0.5
    assert mask({"m": none}, {"m": none}) == 1
    drift = fidelity.drift("p", 2, 3)
    a, b = np.zeros((1, 6)), np.array([[3.0, 4.0, 9.0, 0.0, 0.0, 9.0]])
    assert drift({"p": a}, {"p": b}) == 2.5


def test_boxes_overlap_where_both_are_sure() -> None:
    score = fidelity.box_overlap("b", "s", Anchors(8, ((4, 1),)))  # 4 anchors
    boxes = np.zeros((1, 4, 6), np.float32)
    boxes[0, :, 2:4] = 4
    shifted = boxes.copy()
    shifted[0, :, 0] = 2
    sure, unsure = (np.full((1, 4, 1), v, np.float32) for v in (1, -1))
    assert score({"b": boxes, "s": sure}, {"b": boxes, "s": sure}) == 1
    assert score({"b": boxes, "s": sure}, {"b": shifted, "s": sure}) == pytest.approx(1 / 3)
    assert score({"b": boxes, "s": sure}, {"b": boxes, "s": unsure}) == 0
    assert score({"b": boxes, "s": unsure}, {"b": boxes, "s": unsure}) == 1


def test_views_are_seeded_and_in_range() -> None:
    task = fidelity.TASKS[0]
    picture = RNG.integers(0, 256, (60, 80, 3), np.uint8)
    subjects = [(picture, Region(40, 30, 40, 40)), (picture[::-1].copy(), Region(30, 30, 50, 50))]
    first, again = (fidelity.views(subjects, task, 5, seed=3) for _ in range(2))
    for x, y in zip(first, again, strict=True):
        assert x.shape == (1, 224, 224, 3) and x.dtype == np.float32
        assert np.array_equal(x, y)
        assert task.low <= x.min() < x.max() <= task.high
    assert not np.array_equal(first[0], first[2])  # the same photo


def test_error_is_that_of_all_views() -> None:
    noise = fidelity.Error()
    noise.see({"y": np.array([3.0])}, {"y": np.array([3.0])})
    noise.see({"y": np.array([4.0])}, {"y": np.array([5.0])})
    assert noise.mean() == pytest.approx(1 / 25)
