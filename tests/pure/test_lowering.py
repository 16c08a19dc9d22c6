"""Fusion and lowering, without code generation: kernels equal the reference, and stay few."""

from __future__ import annotations

import numpy as np
import pytest

from brim.graph import evaluate
from brim.kernels.lower import lower
from brim.kernels.reference import run_lowered
from brim.kernels.steps import KernelStep
from brim.types import I8
from tests.networks import NETWORKS, network


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


def test_equal_layers_share_one_kernel() -> None:
    graph, _ = network("attention")
    steps = [s for s in lower(graph).steps if isinstance(s, KernelStep)]
    projections = [s.kernel for s in steps if s.ops[:2] == ("transpose", "reshape")]
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
