"""Casts and quantizations of all types, with the values that onnxruntime gives for them.

What onnxruntime has no kernel for is left out; how much it has is asserted. It takes -0 of float8
as True, which ONNX forbids.
"""

from __future__ import annotations

import numpy as np
import pytest

onnxruntime = pytest.importorskip("onnxruntime")

from onnx import ModelProto, numpy_helper

from brim.frontends.onnx import import_model
from brim.frontends.onnx.tensors import NUMBERS
from brim.graph import evaluate
from brim.types import BOOL, as_numbers, dtype_of
from tests import quantized_cases as cases
from tests.storage_numbers import plain

pytestmark = pytest.mark.peer("onnxruntime")
Parts = list[tuple[str, ModelProto, cases.Feeds]]


def peer(proto: ModelProto, feeds: cases.Feeds) -> np.ndarray | None:
    """The result, None where there is no kernel. Storage types are given as initializers."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    copy.ir_version = 10
    kept = [port for port in copy.graph.input if dtype_of(feeds[port.name]).kind != "n"]
    stored = {name: x for name, x in feeds.items() if dtype_of(x).kind == "n"}
    copy.graph.initializer.extend(numpy_helper.from_array(x, n) for n, x in stored.items())
    del copy.graph.input[:]
    copy.graph.input.extend(kept)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        binding = session.io_binding()
        for name in (port.name for port in kept):
            binding.bind_cpu_input(name, np.ascontiguousarray(feeds[name]))
        binding.bind_output("y")
        session.run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()
    except Exception:
        return None


def compare(parts: Parts) -> int:
    """How many of the cases onnxruntime could run; all of those must agree."""
    seen = 0
    for name, proto, feeds in parts:
        wanted = peer(proto, feeds)
        got = evaluate(import_model(proto.SerializeToString()), feeds)["y"]
        if wanted is None or wanted.itemsize != got.itemsize:
            continue
        wanted = wanted.view(got.dtype)
        known = ~(np.isnan(as_numbers(got)) & np.isnan(as_numbers(wanted)))
        np.testing.assert_array_equal(plain(got)[known], plain(wanted)[known], err_msg=name)
        seen += 1
    return seen


def casts() -> Parts:
    parts = []
    for name, source, to, x in cases.casts():
        if to == BOOL and source.kind == "n":
            x = x[plain(x) != 1 << (source.bits - 1)]  # -0
        proto = cases.single("Cast", {"x": (source, x.shape)}, to, 23, to=NUMBERS[to])
        parts.append((name, proto, {"x": x}))
    return parts


def test_casts() -> None:
    assert compare(casts()[::4]) > 50


def test_quantizations() -> None:
    assert compare(list(cases.quantizations())[::5]) > 10
    assert compare(list(cases.dequantizations())[::5]) > 10


@pytest.mark.slow
def test_all() -> None:
    assert compare(casts()) > 200
    assert compare([*cases.quantizations(), *cases.dequantizations()]) > 100
