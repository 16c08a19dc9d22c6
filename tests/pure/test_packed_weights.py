"""Weights of a few bits: what they mean, that they stay small, and where they are unpacked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brim.compiler import optimise
from brim.errors import OpError
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.kernels.factors import factored
from brim.kernels.lower import lower
from brim.kernels.reference import run_lowered
from brim.kernels.steps import Lowered
from brim.ops import primitive as p
from brim.ops.packed_weights import unpack
from brim.passes.expand import expand
from brim.passes.simplify import simplify
from brim.types import F32, Type


def packed(groups: int, size: int, columns: int, bits: int, whole: bool = False) -> Value:
    """Held weights f32[groups * size, columns]; whole: with zero points."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 256, (groups * size * bits // 8, columns)).astype(np.uint8)
    scale = random.uniform(0.5, 2, (groups, columns)).astype(np.float32)
    zero = random.integers(-8, 8, (groups, columns) if whole else (1, 1)).astype(np.float32)
    held = p.hold(const(codes if bits == 4 else codes.view(np.int8)))
    return unpack(held, const(scale), const(zero), axis=0, bits=bits)


def product(rows: int, weights: Value) -> Graph:
    x = placeholder(Type((rows, weights.shape[0]), F32))
    return Graph({"x": x}, {"y": p.contract(x, weights, spec="mk,kn->mn")})


def inputs(graph: Graph) -> dict[str, np.ndarray]:
    shape = graph.inputs["x"].shape
    return {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}


def constants(lowered: Lowered) -> int:
    """Bytes of all constants that kernels read."""
    return sum(b.size * b.dtype.bytes for b in lowered.buffers.values() if b.kind == "const")


def stored(lowered: Lowered) -> int:
    """Bytes of what is stored in between."""
    return sum(b.size * b.dtype.bytes for b in lowered.buffers.values() if b.kind == "temp")


def test_nothing_is_computed_from_what_is_held() -> None:
    held = p.hold(const(np.arange(4, dtype=np.float32)))
    assert not held.is_const
    assert p.add(const(np.ones(4, np.float32)), 1.0).is_const  # as it is without
    graph = simplify(Graph({}, {"y": p.add(held, 1.0)}))
    assert graph.outputs["y"].op is p.OPS["add"]
    np.testing.assert_array_equal(evaluate(graph, {})["y"], [1, 2, 3, 4])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [1, 3, 12])
def test_few_rows_unpack_as_they_load(bits: int, rows: int) -> None:
    graph = optimise(product(rows, packed(4, 32, 48, bits)))
    lowered = lower(graph)
    small = 4 * 32 * 48 * bits // 8 + 4 * 48 * 4
    assert constants(lowered) <= small + 8  # and a zero point
    assert stored(lowered) == 0
    assert len(lowered.steps) == 1


@pytest.mark.parametrize("bits", [4, 8])
def test_many_rows_share_what_is_unpacked_once(bits: int) -> None:
    lowered = lower(optimise(product(64, packed(4, 32, 48, bits))))
    assert constants(lowered) <= 4 * 32 * 48 * bits // 8 + 4 * 48 * 4 + 8
    assert stored(lowered) == 4 * 32 * 48 * 4
    assert len(lowered.steps) == 2


@given(
    groups=st.integers(1, 4), half=st.integers(1, 9), columns=st.integers(1, 20),
    rows=st.sampled_from([1, 2, 5, 12, 13, 20]), bits=st.sampled_from([4, 8]),
    whole=st.booleans(),
)  # fmt: skip
def test_kernels_mean_what_the_graph_does(
    groups: int, half: int, columns: int, rows: int, bits: int, whole: bool
) -> None:
    graph = product(rows, packed(groups, 2 * half, columns, bits, whole))
    wanted = evaluate(graph, inputs(graph), expand=True)["y"]
    found = run_lowered(lower(optimise(graph)), inputs(graph))["y"]
    np.testing.assert_allclose(found, wanted, 1e-5, 1e-3)


def test_a_factor_of_the_groups_is_taken_out() -> None:
    (step,) = lower(optimise(product(1, packed(4, 32, 48, 4)))).steps
    (stage,) = step.kernel.stages
    found = factored(step.kernel, stage, stage.axes)
    assert found is not None
    sizes = step.kernel.sizes
    assert [sizes[axis] for axis in found.inner] == [16, 2]
    assert factored(step.kernel, stage, tuple(reversed(stage.axes))) is None


@pytest.mark.parametrize(
    ("codes", "scale", "attrs"),
    [
        ((4, 3), (3, 3), {"axis": 0, "bits": 8}),  # 3 groups of 4
        ((4, 3), (2, 3), {"axis": 2, "bits": 8}),
        ((4, 3), (2, 3), {"axis": 0, "bits": 5}),
        ((4, 3), (2,), {"axis": 0, "bits": 8}),
        ((4, 3), (0, 3), {"axis": 0, "bits": 8}),
    ],
)
def test_what_does_not_fit_is_refused(codes: tuple, scale: tuple, attrs: dict) -> None:
    data = const(np.zeros(codes, np.uint8))
    with pytest.raises(OpError):
        unpack(data, const(np.ones(scale, np.float32)), const(np.float32(0)), **attrs)


def test_two_codes_in_a_byte_are_bytes_without_sign() -> None:
    one = const(np.ones((1, 1), np.float32))
    with pytest.raises(OpError, match="u8"):
        unpack(const(np.zeros((4, 3), np.int8)), one, one, axis=0, bits=4)


def test_other_operators_read_it_too() -> None:
    weights = packed(2, 4, 3, 4)
    graph = expand(Graph({}, {"y": p.reduce(weights, op="max", axes=(0,))}))
    wanted = evaluate(graph, {})["y"]
    np.testing.assert_allclose(run_lowered(lower(graph), {})["y"], wanted)
