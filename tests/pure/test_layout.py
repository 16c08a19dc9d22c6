"""Layout: channels-first networks lose every transpose but those at their edges.

Networks are written as a front end imports them: each convolution wrapped in two transposes,
everything else on x[N, C, H, W].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.ops import control, nn
from brim.ops import math as maths
from brim.ops import primitive as ops
from brim.passes.layout import layout, moved_elements
from brim.passes.simplify import simplify
from brim.passes.verify import verify
from brim.types import BOOL, F32, I64, Type

RNG = np.random.default_rng(0)
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def weights(*shape: int) -> Value:
    return const(RNG.normal(0, 0.3, shape).astype(np.float32))


def last(x: Value) -> Value:
    return ops.transpose(x, perm=TO_LAST)


def first(x: Value) -> Value:
    return ops.transpose(x, perm=TO_FIRST)


def conv(x: Value, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> Value:
    w, edge = weights(size, size, x.shape[1] // groups, outputs), (size // 2, size // 2)
    y = nn.conv(
        last(x), w, stride=(stride, stride), dilation=(1, 1), low=edge, high=edge, groups=groups
    )
    return ops.add(first(y), weights(outputs, 1, 1))


def norm(x: Value) -> Value:
    n = x.shape[1]
    variance = const(RNG.uniform(0.5, 2, n).astype(np.float32))
    y = nn.batch_norm(last(x), weights(n), weights(n), weights(n), variance, epsilon=1e-5)
    return first(y)


def pooled(x: Value) -> Value:
    """Global average, and x[N, C]."""
    return ops.reshape(maths.reduce_mean(x, axes=(2, 3)), shape=x.shape[:2])


def dense(x: Value, outputs: int) -> Value:
    return ops.add(maths.matmul(x, weights(x.shape[1], outputs)), weights(outputs))


def flat(x: Value) -> Value:
    return ops.reshape(x, shape=(x.shape[0], x.type.size // x.shape[0]))


# ------------------------------------------------------------------ networks


def resnet(x: Value) -> Value:
    x = maths.relu(norm(conv(x, 8)))
    for stride in (1, 2):
        short = norm(conv(x, 8, 1, stride))
        y = maths.relu(norm(conv(x, 8, 3, stride)))
        x = maths.relu(ops.add(norm(conv(y, 8)), short))
    return dense(pooled(x), 5)


def squeeze_and_excite(x: Value) -> Value:
    x = conv(x, 8)
    s = maths.reduce_mean(x, axes=(2, 3))
    s = maths.hard_sigmoid(conv(maths.relu(conv(s, 4, 1)), 8, 1), alpha=1 / 6, beta=0.5)
    x = ops.mul(x, s)
    t = maths.sigmoid(dense(maths.relu(dense(pooled(x), 4)), 8))
    x = ops.mul(x, ops.reshape(t, shape=(*t.shape, 1, 1)))
    return dense(pooled(conv(x, 4)), 5)


def mobilenet_v3(x: Value) -> Value:
    x = maths.hard_swish(norm(conv(x, 8, 3, 2)))
    y = maths.hard_swish(norm(conv(x, 16, 1)))
    y = maths.hard_swish(norm(conv(y, 16, 3, 1, groups=16)))
    # hard swish as some exporters write it
    y = ops.mul(y, ops.div(ops.minimum(ops.maximum(ops.add(y, 3.0), 0.0), 6.0), 6.0))
    x = ops.add(x, norm(conv(y, 8, 1)))
    return dense(maths.hard_swish(dense(pooled(x), 6)), 5)


def inception(x: Value) -> Value:
    x = conv(x, 8)
    pool = {"size": (3, 3), "stride": (1, 1), "dilation": (1, 1), "low": (1, 1), "high": (1, 1)}
    branches = [conv(x, 4, 1), conv(conv(x, 3, 1), 6), conv(first(nn.max_pool(last(x), **pool)), 2)]
    return dense(pooled(conv(ops.concat(*branches, axis=1), 5)), 5)


def densenet(x: Value) -> Value:
    x = conv(x, 4)
    for _ in range(4):
        x = ops.concat(x, conv(maths.relu(norm(x)), 3), axis=1)
    return dense(pooled(maths.relu(norm(x))), 5)


def flatten(x: Value) -> Value:
    x = maths.relu(conv(x, 8))
    return dense(maths.relu(dense(flat(x), 16)), 5)


def flatten_one_pixel(x: Value) -> Value:
    x = maths.reduce_mean(conv(x, 8), axes=(2, 3))
    return dense(flat(x), 5)


def split_and_concat(x: Value) -> Value:
    x = conv(x, 8)
    halves = [
        ops.slice(x, starts=(0, at, 0, 0), sizes=(x.shape[0], 4, *x.shape[2:]), steps=(1,) * 4)
        for at in (0, 4)
    ]
    x = ops.concat(halves[1], conv(halves[0], 4), axis=1)
    x = ops.pad(x, low=(0, 1, 0, 2), high=(0, 0, 1, 0), value=0)
    return dense(pooled(conv(x, 4)), 5)


def softmax_of_channels(x: Value) -> Value:
    x = conv(maths.softmax(conv(x, 4), axis=1), 4)
    x = conv(ops.mul(x, ops.reduce(x, op="max", axes=(1,))), 3)
    scale = weights(3)
    return dense(pooled(conv(ops.mul(x, ops.reshape(scale, shape=(1, 3, 1, 1))), 4)), 5)


def resize(x: Value, factor: int) -> Value:
    """Nearest neighbour on x[N, C, H, W], axis by axis."""
    for axis in (2, 3):
        index = np.arange(x.shape[axis] * factor)[:, None] // factor
        ones = const(np.ones(index.shape, np.float32))
        x = nn.resample(x, const(index), ones, axis=axis)
    return x


def unet(x: Value) -> Value:
    a = maths.relu(conv(x, 4))
    b = maths.relu(conv(a, 8, stride=2))
    c = maths.relu(conv(b, 8, stride=2))
    y = ops.concat(resize(c, 2), b, axis=1)
    y = maths.leaky_relu(conv(y, 8), alpha=0.1)
    up = nn.conv_transpose(
        last(y), weights(2, 2, 8, 4), stride=(2, 2), dilation=(1, 1), low=(0, 0), high=(0, 0),
        groups=1,
    )  # fmt: skip
    return dense(pooled(conv(ops.concat(first(up), a, axis=1), 2)), 5)


def vision_transformer(x: Value) -> Value:
    x = conv(x, 16, 2, 2)
    n, c, h, w = x.shape
    x = ops.transpose(ops.reshape(x, shape=(n, c, h * w)), perm=(0, 2, 1))
    for _ in range(2):
        y = nn.layer_norm(x, weights(c), weights(c), axes=(2,), epsilon=1e-5)
        q, k, v = (
            ops.transpose(
                ops.reshape(maths.matmul(y, weights(c, c)), shape=(n, h * w, 4, 4)),
                perm=(0, 2, 1, 3),
            )
            for _ in range(3)
        )
        y = ops.transpose(nn.attention(q, k, v, scale=0.5), perm=(0, 2, 1, 3))
        y = maths.matmul(ops.reshape(y, shape=(n, h * w, c)), weights(c, c))
        x = ops.add(x, y)
    return dense(ops.reshape(maths.reduce_mean(x, axes=(1,)), shape=(n, c)), 5)


def transformer_by_primitives(x: Value) -> Value:
    """Attention as most exporters write it: transposes, products, softmax."""
    n, _, h, w = x.shape
    x = dense(ops.reshape(x, shape=(n * h, 3 * w)), 16)
    x = ops.reshape(x, shape=(n, h, 16))
    for _ in range(2):
        heads = [
            ops.reshape(maths.matmul(x, weights(16, 16)), shape=(n, h, 2, 8)) for _ in range(3)
        ]
        q, v = (ops.transpose(t, perm=(0, 2, 1, 3)) for t in (heads[0], heads[2]))
        k = ops.transpose(heads[1], perm=(0, 2, 3, 1))
        y = maths.matmul(maths.softmax(ops.div(maths.matmul(q, k), 3.0), axis=3), v)
        y = ops.reshape(ops.transpose(y, perm=(0, 2, 1, 3)), shape=(n, h, 16))
        y = ops.add(x, maths.matmul(y, weights(16, 16)))
        x = nn.layer_norm(y, weights(16), weights(16), axes=(2,), epsilon=1e-5)
    return flat(x)


def lookup(x: Value) -> Value:
    """Gather, window, cumulate, argmax, broadcast and scatter in channels-first terms."""
    x = conv(x, 6)
    x = ops.gather(x, const(np.array([4, 0, 2])), axis=1)
    x = ops.mul(x, ops.broadcast(ops.reduce(x, op="max", axes=(1, 2, 3)), shape=x.shape))
    x = ops.cumulate(x, op="add", axis=1, exclusive=False, reverse=True)
    x = ops.scatter(x, const(np.array([1])), weights(x.shape[0], 1, *x.shape[2:]), axis=1, op="add")
    best = ops.argreduce(x, op="max", axis=1, last=False)
    x = ops.mul(x, ops.cast(best, to=F32))
    tiles = ops.window(x, axes=(2, 3), size=(2, 2), stride=(2, 2), dilation=(1, 1))
    x = ops.reshape(ops.reduce(tiles, op="max", axes=(4, 5)), shape=tiles.shape[:4])
    return dense(pooled(conv(x, 4)), 5)


EDGE = 1  # the picture itself arrives channels-first
NETWORKS: list[tuple[Callable[[Value], Value], int]] = [
    (resnet, EDGE),
    (squeeze_and_excite, EDGE),
    (mobilenet_v3, EDGE),
    (inception, EDGE),
    (densenet, EDGE),
    (flatten, EDGE),
    (flatten_one_pixel, EDGE),
    (split_and_concat, EDGE),
    (softmax_of_channels, EDGE),
    (unet, EDGE),
    (vision_transformer, EDGE),
    (transformer_by_primitives, 0),
    (lookup, EDGE),
]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("network", "left"), NETWORKS, ids=lambda p: getattr(p, "__name__", ""))
def test_only_the_edges_keep_transposes(
    network: Callable[[Value], Value], left: int, batch: int
) -> None:
    shape = (batch, 3, 8, 8)
    x = placeholder(Type(shape, F32))
    graph = Graph({"x": x}, {"y": network(x)})
    found = layout(simplify(graph))
    verify(found)
    size = x.type.size * left
    assert moved_elements(found) == (size, left)
    assert moved_elements(simplify(found)) == (size, left)
    feeds = {"x": RNG.normal(size=shape).astype(np.float32)}
    wanted = evaluate(graph, feeds)["y"]
    for candidate in (found, simplify(found)):
        np.testing.assert_allclose(evaluate(candidate, feeds)["y"], wanted, rtol=2e-3, atol=1e-4)


def test_composites_stay_whole() -> None:
    x = placeholder(Type((2, 3, 8, 8), F32))
    graph = Graph({"x": x}, {"y": mobilenet_v3(x)})
    names = {v.op.name for v in layout(simplify(graph)).values() if v.op}
    assert {"conv", "hard_swish", "batch_norm"} <= names


def test_a_channels_first_result_is_moved_once() -> None:
    x = placeholder(Type((1, 3, 8, 8), F32))
    y = maths.sigmoid(conv(maths.relu(conv(x, 4)), 1, 1))
    graph = Graph({"x": x}, {"y": y})
    assert moved_elements(layout(graph)) == (192, 1)  # one channel: the way back is a reshape
    y = maths.sigmoid(conv(maths.relu(conv(x, 4)), 2, 1))
    assert moved_elements(layout(Graph({"x": x}, {"y": y}))) == (192 + 128, 2)


def test_two_readers_share_one_transpose() -> None:
    x = placeholder(Type((1, 3, 8, 8), F32))
    graph = Graph({"x": x}, {"y": ops.add(conv(x, 4), conv(x, 4))})
    found = layout(graph)
    assert moved_elements(found)[1] == 2  # in and out, where there were four


def test_a_shuffle_of_channels_moves_once() -> None:
    """The only transposes left are the shuffles themselves: one each, not three."""
    x = placeholder(Type((1, 3, 8, 8), F32))
    y = conv(x, 8)
    for _ in range(3):
        y = ops.reshape(y, shape=(1, 2, 4, 8, 8))
        y = ops.reshape(ops.transpose(y, perm=(0, 2, 1, 3, 4)), shape=(1, 8, 8, 8))
        y = conv(y, 8, groups=2)
    graph = Graph({"x": x}, {"y": pooled(y)})
    found = layout(graph)
    assert moved_elements(found) == (192 + 3 * 512, 4)
    feeds = {"x": RNG.normal(size=x.shape).astype(np.float32)}
    wanted = evaluate(graph, feeds)["y"]
    np.testing.assert_allclose(evaluate(found, feeds)["y"], wanted, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_helped_is_left_alone() -> None:
    x = placeholder(Type((4, 5), F32))
    graph = Graph({"x": x}, {"y": ops.transpose(x, perm=(1, 0))})
    assert layout(graph) is graph
    i = placeholder(Type((3,), I64))
    y = ops.gather(ops.transpose(x, perm=(1, 0)), i, axis=0)
    found = layout(Graph({"x": x, "i": i}, {"y": y}))
    assert moved_elements(found)[0] <= 12


def test_weights_beyond_the_folding_limit_are_still_permuted() -> None:
    """Flatten -> dense must not leave a transpose of its weights to run time."""
    from brim.ops import registry

    saved, registry.FOLD_LIMIT = registry.FOLD_LIMIT, 10
    try:
        x = placeholder(Type((1, 3, 4, 4), F32))
        found = layout(Graph({"x": x}, {"y": dense(flat(conv(x, 8)), 5)}))
        assert moved_elements(found) == (48, 1)
    finally:
        registry.FOLD_LIMIT = saved


def test_branches_are_laid_out_too() -> None:
    x = placeholder(Type((1, 3, 8, 8), F32))
    inner = Graph({"x": x}, {"y": maths.relu(conv(conv(x, 4), 3))})
    outer = placeholder(Type((1, 3, 8, 8), F32))
    p = placeholder(Type((), BOOL))
    y = control.cond(p, outer, then=inner, orelse=inner)
    found = layout(Graph({"p": p, "x": outer}, {"y": y})).outputs["y"]
    assert moved_elements(inner)[1] == 4
    assert moved_elements(found.attrs["then"])[1] == 2
