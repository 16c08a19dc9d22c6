"""Planes of bytes are interleaved where one product reads them: sums stay, all else does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.passes.expand import expand
from brim.passes.planes import interleave
from brim.passes.simplify import simplify
from brim.passes.verify import verify
from brim.types import F32, Type

RNG = np.random.default_rng(0)
ZERO = 124
Bytes = Callable[[Value], Value]


def stored(x: Value) -> Value:
    return q.nearest(p.mul(x, 27.5), const(np.uint8(ZERO)))


def product(x: Value, size: int, stride: int, pad: int = 0) -> Value:
    """Sums over windows of planes x[N, C, H, W]: i32[N, H', W', 8]."""
    around = (0, 0, pad, pad)
    x = p.pad(x, low=around, high=around, value=ZERO) if pad else x
    w = const(RNG.integers(-127, 128, (size, size, x.shape[1], 8)).astype(np.int8))
    x = p.window(x, axes=(2, 3), size=(size,) * 2, stride=(stride,) * 2, dilation=(1, 1))
    return p.contract(x, w, spec="nchwij,ijco->nhwo")


def network(channels: int, last: Callable[[Value], Value], bytes: Bytes = stored) -> Graph:
    x = placeholder(Type((2, channels, 9, 11), F32))
    return simplify(expand(Graph({"x": x}, {"y": last(bytes(x))})))


def read_last(graph: Graph) -> list[int]:
    """Of each product: how many bytes lie together in what it reads."""
    found = []
    for value in graph.values():
        if value.op is not None and value.op.name == "contract":
            data = value.args[0]
            found.append(data.args[0].shape[-1])
    return found


def same(graph: Graph, other: Graph) -> bool:
    feeds = {"x": RNG.standard_normal((*graph.inputs["x"].shape,)).astype(np.float32)}
    return np.array_equal(evaluate(graph, feeds)["y"], evaluate(other, feeds)["y"])


@pytest.mark.parametrize("channels", [2, 3, 4, 5])
@pytest.mark.parametrize(("size", "stride", "pad"), [(3, 2, 1), (2, 1, 0), (1, 1, 0)])
def test_same_sums_of_interleaved_bytes(channels: int, size: int, stride: int, pad: int) -> None:
    graph = network(channels, lambda x: product(x, size, stride, pad))
    found = interleave(graph)
    verify(found)
    assert read_last(graph) == [11 + 2 * pad]
    assert read_last(found) == [max(channels, 4)]
    assert same(found, graph)
    assert interleave(found).outputs["y"] is found.outputs["y"]


UNTOUCHED: dict[str, tuple[int, Callable[[Value], Value], Bytes]] = {
    "one channel": (1, lambda x: product(x, 3, 1), stored),
    "read twice": (3, lambda x: p.add(product(x, 3, 1), product(x, 3, 1)), stored),
    "of other numbers": (
        3,
        lambda x: product(x, 3, 1),
        lambda x: stored(p.add(x, const(np.ones((3, 1, 1), np.float32)))),
    ),
    "of neighbours": (
        3,
        lambda x: product(x, 3, 1),
        lambda x: stored(p.reshape(x, shape=(2, 3, 11, 9))),
    ),
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_others_stay(name: str) -> None:
    graph = network(*UNTOUCHED[name])
    assert interleave(graph).outputs["y"] is graph.outputs["y"]


def test_floats_stay() -> None:
    x = placeholder(Type((1, 3, 9, 9), F32))
    windows = p.window(x, axes=(2, 3), size=(3, 3), stride=(1, 1), dilation=(1, 1))
    w = const(np.ones((3, 3, 3, 8), np.float32))
    graph = Graph({"x": x}, {"y": p.contract(windows, w, spec="nchwij,ijco->nhwo")})
    assert interleave(graph).outputs["y"] is graph.outputs["y"]
