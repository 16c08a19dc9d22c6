"""Layers of odd extents equal onnxruntime's: those that are timed, and any others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

import brim
from bench.shapes import KINDS, Layer, build, pairs

pytestmark = pytest.mark.peer

ODD = st.sampled_from([1, 1, 2, 3, 5, 7, 13, 17, 31, 61])


def check(layer: Layer) -> None:
    """Both results, to what rounding sums of any order explains."""
    model = build(*layer)
    random = np.random.default_rng(0)
    feeds = {
        port.name: random.standard_normal(
            [d.dim_value for d in port.type.tensor_type.shape.dim], np.float32
        )
        for port in model.graph.input
    }
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (wanted,) = session.run(None, feeds)
    found = brim.load(model, threads=1).run(feeds)["output"]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("layer", [odd for odd, _ in pairs()], ids=str)
def test_timed_layers(layer: Layer) -> None:
    check(layer)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.tuples(ODD, ODD, ODD, ODD))
def test_any_extents(kind: str, extents: tuple[int, int, int, int]) -> None:
    count = 3 if kind.startswith("depthwise") or kind == "dense" else 4
    check((kind, extents[:count]))


def test_neighbours_do_about_the_same_work() -> None:
    from bench.nets import multiply_accumulates

    for odd, near in pairs():
        ratio = multiply_accumulates(build(*odd)) / multiply_accumulates(build(*near))
        assert 0.4 < ratio < 2.5, (odd, near)
