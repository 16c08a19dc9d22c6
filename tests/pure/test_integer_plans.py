"""No ping-pong: what kernels of a quantized network hand on is bytes, on every kind of processor.

Only the structure decides, so scales are made up and nothing is run or compiled.
"""

from __future__ import annotations

from functools import cache

import pytest

pytest.importorskip("onnx")

from bench import nets
from brim.compiler import optimise
from brim.compress.calibrate import quants
from brim.compress.integers import integers
from brim.compress.points import find_points
from brim.compress.scheme import Scheme, nearest_weights
from brim.frontends import onnx as frontend
from brim.graph import Graph
from brim.kernels.lower import lower
from brim.kernels.steps import Buffer
from brim.search.choice import by_price
from brim.search.variants import settle
from brim.targets.target import TARGETS

SIZE = 64
GATED = ("mobilenet_v3_large",)  # with squeeze-and-excite
PLAIN = ("mobilenet_v1", "mobilenet_v2", "efficientnet_lite0", "squeezenet_1_1", "resnet18")


@cache
def quantized(name: str) -> Graph:
    """Network `name` of the benchmark with all of its layers in integers."""
    model = nets.NETS[name](size=SIZE)
    graph = optimise(frontend.import_model(frontend.read(model), {}))
    points = find_points(graph)
    ranges = {id(value): (-1.0, 1.0) for value in points.stored}
    weights = {id(each.value): nearest_weights(each.weights, each.summed) for each in points.layers}
    return integers(graph, points.layers, Scheme(quants(points, ranges), weights))


def between(name: str, target: str, exact: bool = False) -> list[Buffer]:
    """What the kernels of its plan store for one another. exact: without Winograd's tiles."""
    graph = settle(optimise(quantized(name)), by_price(TARGETS[target]), exact)
    return [buffer for buffer in lower(graph).buffers.values() if buffer.kind == "temp"]


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4", "cortex-a76"])
@pytest.mark.parametrize("name", PLAIN)
def test_kernels_hand_on_bytes(name: str, target: str) -> None:
    assert {buffer.dtype.name for buffer in between(name, target, exact=True)} == {"u8"}
    tiles = {"i16", "i32"}
    assert {buffer.dtype.name for buffer in between(name, target)} - tiles == {"u8"}


@pytest.mark.parametrize("name", GATED)
def test_gates_are_all_that_stays_in_floats(name: str) -> None:
    channels = 960  # of the widest layer
    floats = [buffer for buffer in between(name, "x86-64-v3") if buffer.dtype.is_float]
    assert 0 < len(floats) <= 8  # one for each block that has gates
    assert max(buffer.size for buffer in floats) <= channels
