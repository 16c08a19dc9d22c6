"""Fusion and lowering, without code generation: kernels equal the reference, and stay few."""

from __future__ import annotations

import numpy as np
import pytest

from brim.graph import Graph, evaluate, placeholder
from brim.kernels.lower import lower
from brim.kernels.reference import run_lowered
from brim.kernels.steps import KernelStep
from brim.ops import primitive as p
from brim.types import F32, I8, Type
from tests.networks import NETWORKS, network, normal


@pytest.mark.parametrize("name", NETWORKS)
def test_lowered_equals_reference(name: str) -> None:
    graph, feeds = network(name)
    expected, found = evaluate(graph, feeds), run_lowered(lower(graph), feeds)
    for output, want in expected.items():
        np.testing.assert_allclose(found[output], want, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_number_of_kernels(name: str) -> None:
    graph, _ = network(name)
    steps = [s for s in lower(graph).steps if isinstance(s, KernelStep)]
    assert (len(steps), sum(s.is_move for s in steps)) == NETWORKS[name][2:]


def test_chains_of_values_that_are_read_twice_are_one_kernel() -> None:
    """Written out for each reader, the last expression would have 2**20 terms."""
    given = x = y = placeholder(Type((9,), F32))
    feed = np.linspace(0.5, 1, 9, dtype=np.float32)
    for _ in range(20):
        x = p.sub(p.mul(x, 1.5), y)
        y = p.maximum(p.mul(y, x), x)
    graph = Graph({"x": given}, {"y": y})
    lowered = lower(graph)
    assert len(lowered.steps) == 1
    wanted = evaluate(graph, {"x": feed})["y"]
    np.testing.assert_allclose(run_lowered(lowered, {"x": feed})["y"], wanted, 1e-5)


def test_equal_layers_share_one_kernel() -> None:
    graph, _ = network("attention")
    steps = [s for s in lower(graph).steps if isinstance(s, KernelStep)]
    projections = [s.kernel for s in steps if s.fused.ops[:2] == ("transpose", "reshape")]
    assert len(projections) == 3
    assert len(set(projections)) == 2, "q and v share a kernel; k is stored transposed"


def test_quantized_layers_store_bytes() -> None:
    """What is narrowed at the end of a convolution is stored so, and read so by the next one."""
    graph, feeds = network("quantized")
    lowered = lower(graph)
    kernels = [s.kernel for s in lowered.steps if isinstance(s, KernelStep)]
    assert {a.dtype for k in kernels for a in k.args if a.role in ("in", "out")} == {I8}
    (want,), (found,) = evaluate(graph, feeds).values(), run_lowered(lowered, feeds).values()
    np.testing.assert_array_equal(found, want)


def test_nothing_is_computed_in_front_of_its_guard() -> None:
    """What two padded values read of a sum may lie outside of it: it has to stay behind guards."""
    x, y = (placeholder(Type((4, 8), F32)) for _ in range(2))
    total, one = p.add(x, y), (1, 1)
    left = p.slice(total, starts=(0, 0), sizes=(4, 6), steps=one)
    right = p.slice(total, starts=(0, 2), sizes=(4, 6), steps=one)
    padded = p.pad(left, low=(0, 2), high=(0, 0), value=0.0)
    result = p.add(padded, p.pad(right, low=(0, 0), high=(0, 2), value=0.0))
    (step,) = lower(Graph({"x": x, "y": y}, {"z": result})).steps
    assert isinstance(step, KernelStep)
    (stage,) = step.kernel.stages
    assert stage.out is not None


def test_what_is_cheap_is_computed_by_each_user() -> None:
    """A normalised layer, read by its activation and by the backward pass, is not stored beside the
    layer: both read that. What is dear, or follows from two layers, is stored."""
    x, y = (placeholder(Type((64, 96), F32)) for _ in range(2))
    layer, other = (p.cumulate(v, op="add", axis=0, reverse=False, exclusive=False) for v in (x, y))
    for made, kernels in (
        (p.mul(p.sub(layer, 0.5), 2.0), 3),
        (p.sin(p.exp(layer)), 4),
        (p.add(layer, other), 5),
    ):
        outputs = {"layer": layer, "a": p.neg(made), "b": p.absolute(made)}
        graph = Graph({"x": x, "y": y}, outputs, "users")
        lowered = lower(graph)
        assert len(lowered.steps) == kernels
        feeds = {"x": normal(64, 96), "y": normal(64, 96)}
        for name, want in evaluate(graph, feeds).items():
            np.testing.assert_allclose(run_lowered(lowered, feeds)[name], want, 1e-4, 1e-4)
