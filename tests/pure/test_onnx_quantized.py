"""Quantized networks: which nodes of a QDQ graph are joined, and that integer sums are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from brim.frontends.onnx import import_model, read
from brim.frontends.onnx.operators.integer import sum_type
from brim.frontends.onnx.qdq import in_operator_form
from brim.graph import const, evaluate, placeholder
from brim.types import F32, I32, U8, Type
from tests.onnx_models import F32 as FLOAT
from tests.onnx_models import model, node

U8_NUMBER = 2
RNG = np.random.default_rng(0)
SCALES = {"x_s": 0.02, "w_s": 0.01, "b_s": 0.02 * 0.01, "y_s": 0.05}
ZEROS = {"x_z": np.uint8(128), "w_z": np.int8(0), "b_z": np.int32(0), "y_z": np.uint8(100)}


def qdq(op: str = "Conv", **changes: Any) -> Any:
    """dequantized x, weights and bias -> op -> QuantizeLinear; `changes` replace parameters."""
    square = op != "Conv"
    shape = (4, 3) if square else (4, 3, 2, 2)
    weights: dict[str, Any] = {
        **{name: np.float32(value) for name, value in SCALES.items()},
        **ZEROS,
        "w": RNG.integers(-127, 128, shape).astype(np.int8),
        "b": RNG.integers(-999, 999, 4).astype(np.int32),
    }
    attributes = {"transB": 1} if op == "Gemm" else {}
    weights.update({k: v for k, v in changes.items() if k in weights})
    nodes = [
        node("DequantizeLinear", "x x_s x_z", "x_r"),
        node("DequantizeLinear", "w w_s w_z", "w_r", axis=changes.get("axis", 0)),
        node("DequantizeLinear", "b b_s b_z", "b_r"),
        node(op, "x_r w_r b_r", "real", **attributes),
    ]
    last = "real"
    if changes.get("relu"):
        nodes.append(node("Relu", "real", "cut"))
        last = "cut"
    nodes.append(node("QuantizeLinear", f"{last} y_s y_z", "y"))
    source = (2, 3) if square else (1, 3, 5, 5)
    outputs = [("y", U8_NUMBER, None), *([("real", FLOAT, None)] if changes.get("seen") else [])]
    return model(nodes, [("x", U8_NUMBER, source)], outputs, weights)


def operators(found: Any) -> set[str]:
    return {part.op for part in in_operator_form(read(found)).graph.nodes}


@pytest.mark.parametrize(("op", "joined"), [("Conv", "QLinearConv"), ("Gemm", "QGemm")])
def test_sums_are_joined(op: str, joined: str) -> None:
    assert joined in operators(qdq(op))


def test_a_relu_that_the_type_implies_is_joined() -> None:
    assert "QLinearConv" in operators(qdq(relu=True, y_z=np.uint8(0)))
    assert "QLinearConv" not in operators(qdq(relu=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"b_s": np.float32(0.5)},  # the bias is of another unit
        {"b_z": np.int32(3)},
        {"axis": 1, "w_s": np.full(3, 0.01, np.float32), "w_z": np.zeros(3, np.int8)},
        {"x_s": np.full(3, 0.02, np.float32), "x_z": np.zeros(3, np.uint8)},
        {"y_z": np.uint16(9)},
        {"seen": True},  # somebody else wants the real numbers
    ],
    ids=["bias scale", "bias zero", "axis", "input by channels", "16 bits", "seen"],
)
def test_what_does_not_fit_stays(changes: dict[str, Any]) -> None:
    assert "QLinearConv" not in operators(qdq(**changes))


@pytest.mark.parametrize("op", ["Conv", "Gemm"])
def test_joined_nodes_mean_the_same(op: str) -> None:
    found = qdq(op)
    graph = import_model(found)
    x = RNG.integers(0, 256, graph.inputs["x"].shape).astype(np.uint8)
    weights = read(found).graph.initializers
    w, b = weights["w"].astype(np.int64), weights["b"].astype(np.int64)
    centred = x.astype(np.int64) - 128
    if op == "Conv":
        windows = np.lib.stride_tricks.sliding_window_view(centred, (2, 2), axis=(2, 3))
        total = np.einsum("nchwij,ocij->nohw", windows, w) + b[:, None, None]
    else:
        total = centred @ w.T + b
    exact = total * (0.02 * 0.01 / 0.05)
    wanted = np.clip(np.rint(exact) + 100, 0, 255)
    (y,) = evaluate(graph, {"x": x}).values()
    near_a_tie = np.abs(exact - np.floor(exact) - 0.5) < 1e-4
    assert (y == wanted)[~near_a_tie].all() and not near_a_tie.all()


def test_sums_are_in_f32_only_where_that_is_exact() -> None:
    x = placeholder(Type((1, 600), U8))
    small, large = (const(np.full((600, 2), n, np.int8)) for n in (100, 127))
    assert sum_type(x, small, None, (0,)) == F32  # 600 * 100 * 255 < 2**24
    assert sum_type(x, large, None, (0,)) == I32
    assert sum_type(x, large, const(np.int8(60)), (0,)) == F32
    assert sum_type(x, placeholder(small.type), None, (0,)) == I32


@pytest.mark.parametrize("fill", [100, 127])
def test_the_largest_sums_are_exact(fill: int) -> None:
    inputs = [("x", U8_NUMBER, (2, 600))]
    weights = {"w": np.full((600, 3), fill, np.int8)}
    found = model([node("MatMulInteger", "x w", "y")], inputs, [("y", 6, None)], weights)
    graph = import_model(found)
    x = np.full((2, 600), 255, np.uint8)
    x[1, ::2] = 254
    (y,) = evaluate(graph, {"x": x}).values()
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, x.astype(np.int64) @ weights["w"].astype(np.int64))
