"""Weight packing: lossless, and never applied to what is not a plain operand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import brim
from brim.graph import Graph, const, evaluate, placeholder
from brim.kernels.pack import Packing
from brim.ops import primitive as p
from brim.ops.nn import conv
from brim.types import F32, Type

sizes = st.integers(1, 7)


@given(sizes, sizes, st.integers(1, 40), st.integers(1, 16))
def test_packed_blocks_hold_every_element(rows: int, depth: int, columns: int, block: int) -> None:
    source = np.arange(rows * depth * columns, dtype=np.float32)
    packing = Packing(((rows, depth * columns), (depth, columns)), 1, columns, 1, block, 0)
    packed = packing.pack(source)
    assert packed.size == packing.size
    blocks = packed.reshape(rows, -1, depth, block)
    whole = np.moveaxis(blocks, 2, 1).reshape(rows, depth, -1)[:, :, :columns]
    np.testing.assert_array_equal(whole.reshape(-1), source)


@pytest.mark.parametrize("columns", [1, 5, 16, 23, 64])
def test_a_table_of_indices_under_a_reduction_is_not_packed(columns: int) -> None:
    random = np.random.default_rng(0)
    table = const(random.integers(0, 50, (columns, 2)))
    x = placeholder(Type((50,), F32))
    graph = Graph({"x": x}, {"y": p.reduce(p.gather(x, table, axis=0), op="max", axes=(1,))})
    feeds = {"x": random.standard_normal(50).astype(np.float32)}
    found = brim.compile(graph).run(feeds)["y"]
    np.testing.assert_array_equal(found, evaluate(graph, feeds)["y"])


@pytest.mark.parametrize("low", [0, 1, 2])
@pytest.mark.parametrize("high", [0, 1, 2])
def test_a_constant_inside_padding_is_read_in_bounds(low: int, high: int) -> None:
    """Addresses of guarded reads may lie before or behind the constant."""
    random = np.random.default_rng(0)
    image = const(random.standard_normal((1, 4, 10, 1)).astype(np.float32))
    zero, w = placeholder(Type((), F32)), placeholder(Type((1, 3, 1, 1), F32))
    y = conv(
        p.sub(image, zero),
        w,
        stride=(2, 2),
        dilation=(1, 1),
        low=(0, low),
        high=(0, high),
        groups=1,
    )
    graph = Graph({"zero": zero, "w": w}, {"y": y})
    feeds = {
        "zero": np.float32(0.5).reshape(()),
        "w": random.standard_normal((1, 3, 1, 1)).astype(np.float32),
    }
    found = brim.compile(graph).run(feeds)["y"]
    np.testing.assert_allclose(found, evaluate(graph, feeds)["y"], rtol=1e-5, atol=1e-6)
