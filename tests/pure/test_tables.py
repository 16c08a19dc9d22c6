"""Functions of one byte as tables: no number differs, and nothing else becomes one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import brim.ops.math as m
import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.passes.expand import expand
from brim.passes.simplify import simplify
from brim.passes.tables import tabulate
from brim.targets.target import TARGETS
from brim.types import F32, I8, I32, U8, DType, Type

QUICK, SLOW = TARGETS["cortex-a76"], TARGETS["riscv64"]
Function = Callable[[Value], Value]


def real(x: Value) -> Value:
    return q.dequantize(x, const(np.float32(0.05)), const(np.asarray(9, x.dtype.numpy)))


def stored(x: Value, dtype: DType = I8) -> Value:
    return q.quantize(
        x, const(np.full((1, 1), 0.01, np.float32)), const(np.asarray(3, dtype.numpy))
    )


CHAINS: dict[str, tuple[Function, bool, bool]] = {  # with its tables of both targets
    "sigmoid": (lambda x: stored(m.sigmoid(real(x))), True, True),
    "to u8": (lambda x: stored(m.sigmoid(real(x)), U8), True, True),
    "swish": (lambda x: stored(p.mul(real(x), m.sigmoid(real(x)))), True, True),
    "scale": (lambda x: stored(real(x)), True, False),
    "whole": (lambda x: p.cast(p.shift_right(p.mul(p.cast(x, to=I32), 3), 2), to=I8), True, False),
    "narrow": (lambda x: p.maximum(x, 5), False, False),
    "bits": (lambda x: p.cast(x, to=U8 if x.dtype == I8 else I8), False, False),
    "sums": (lambda x: stored(p.reduce(real(x), op="add", axes=(0,))), False, False),
    "channels": (
        lambda x: stored(p.mul(real(x), const(np.arange(7, dtype=np.float32)))),
        False,
        False,
    ),
    "real": (lambda x: m.sigmoid(real(x)), False, False),
}


def tabulated(function: Function, dtype: DType, target: str) -> tuple[Graph, Graph]:
    x = placeholder(Type((40, 7), dtype))
    graph = simplify(expand(Graph({"x": x}, {"y": function(x)})))
    return graph, tabulate(graph, TARGETS[target])


@pytest.mark.parametrize("dtype", [I8, U8], ids=str)
@pytest.mark.parametrize("name", CHAINS)
def test_chains(name: str, dtype: DType) -> None:
    function, *expected = CHAINS[name]
    feeds = {"x": np.resize(np.arange(256), (40, 7)).astype(dtype.numpy)}
    for target, wanted in zip((QUICK, SLOW), expected):
        graph, found = tabulated(function, dtype, target.name)
        kinds = [v.op.kind for v in found.values() if v.op is not None]
        assert ("index" in kinds) == wanted, (name, target.name)
        if wanted:
            assert set(kinds) == {"index", "elementwise"} - (
                {"elementwise"} if dtype == U8 else set()
            )
        np.testing.assert_array_equal(evaluate(found, feeds)["y"], evaluate(graph, feeds)["y"])


def test_two_bytes_are_no_index() -> None:
    x, y = (placeholder(Type((4,), I8)) for _ in range(2))
    graph = simplify(expand(Graph({"x": x, "y": y}, {"z": stored(p.add(real(x), real(y)))})))
    assert tabulate(graph, QUICK).values() == graph.values()


def test_one_after_another() -> None:
    """Each byte on the way is the end of one table and the index of the next."""
    graph, found = tabulated(lambda x: stored(m.sigmoid(real(stored(real(x))))), I8, QUICK.name)
    assert sum(v.op is not None and v.op.kind == "index" for v in found.values()) == 2
    assert not any(v.dtype == F32 for v in found.values())
    feeds = {"x": np.resize(np.arange(256), (40, 7)).astype(np.int8)}
    np.testing.assert_array_equal(evaluate(found, feeds)["y"], evaluate(graph, feeds)["y"])
