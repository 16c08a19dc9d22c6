"""brim compare beside the models' own runtimes: values inside of onnxruntime and LiteRT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from brim.tools.compare import compare
from brim.tools.peers import run_onnxruntime, with_outputs
from brim.types import Type
from tests.onnx_models import F32, model, node

X = np.random.default_rng(0).standard_normal((1, 6, 8, 8)).astype(np.float32)


def feeds(types: Mapping[str, Type], usual: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    made = {}
    for name, type in types.items():
        shape = usual.get(name, type.shape)
        assert shape is not None
        made[name] = random.standard_normal(shape).astype(np.float32).astype(type.dtype.numpy)
    return made


@pytest.fixture
def net(tmp_path: Path) -> Path:
    w = np.random.default_rng(2).standard_normal((6, 2, 3, 3)).astype(np.float32)
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1], group=3),
        node("Split", "c", "left right", axis=1),
        node("MaxPool", "left", "pooled where", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", "right", "mean"),
        node("Mul", "pooled mean", "y"),
    ]
    made = model(nodes, [("x", F32, [1, 6, 8, 8])], [("y", F32, None)], {"w": w})
    onnx.save(made, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_onnxruntime_tells_every_layer(net: Path) -> None:
    pytest.importorskip("onnxruntime")
    result = compare(f"{net}@interpreter", "@onnxruntime", feeds)
    assert result.agrees and result.left_only == result.right_only == ()
    split = [each for each in result.layers if each.layer.endswith("(Split)")]
    assert len(split) == 2  # both of its results
    assert all(each.agrees for each in result.layers)
    assert compare(str(net), "@onnxruntime", feeds).agrees


def test_a_file_with_more_outputs_is_still_the_same_file(net: Path) -> None:
    pytest.importorskip("onnxruntime")
    longer = onnx.load_from_string(with_outputs(net.read_bytes(), ["c", "mean"]))
    assert [port.name for port in longer.graph.output] == ["y", "c", "mean"]
    assert longer.graph.node == onnx.load(net).graph.node
    outputs, (c,) = run_onnxruntime(net, {"x": X}, inside=["c"])
    assert list(outputs) == ["y"] and c.shape == (1, 6, 8, 8)
    np.testing.assert_array_equal(outputs["y"], run_onnxruntime(net, {"x": X})[0]["y"])


def test_external_data_is_found(net: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    beside = tmp_path / "beside.onnx"
    onnx.save(
        onnx.load(net), beside, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    assert compare(f"{beside}@interpreter", "@onnxruntime", feeds).left_only == ()


def tflite(folder: Path, name: str, **changes: np.ndarray) -> Path:
    """Two layers and their sum; changes: other weights."""
    pytest.importorskip("ai_edge_litert")
    from tests.tflite_models import Graph, Tensor, constant, op, write

    random = np.random.default_rng(3)
    shapes = {"w": (4, 3, 3, 2), "b": (4,), "v": (4, 1, 1, 4)}
    weights = {n: random.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}
    shape = (1, 8, 8, 4)
    graph = Graph(
        [
            Tensor("x", shape=(1, 8, 8, 2)),
            *(constant(name, array) for name, array in (weights | changes).items()),
            *(Tensor(name, shape=shape) for name in ("first", "second", "y")),
        ],
        [
            op("CONV_2D", "x w b", "first", padding="SAME", strideH=1, strideW=1),
            op("CONV_2D", "first v b", "second", padding="SAME", strideH=1, strideW=1),
            op("ADD", "first second", "y", fusedActivationFunction="RELU"),
        ],
        "x",
        "y",
    )
    path = folder / f"{name}.tflite"
    path.write_bytes(write(graph))
    return path


def test_litert_tells_every_layer(tmp_path: Path) -> None:
    net = tflite(tmp_path, "net")
    result = compare(f"{net}@interpreter", "@litert", feeds)
    assert result.agrees and result.left_only == result.right_only == ()
    assert [each.layer for each in result.layers] == [
        "first (CONV_2D)", "second (CONV_2D)", "y (ADD)",
    ]  # fmt: skip
    assert compare(str(net), "@litert", feeds).agrees


def test_a_changed_weight_beside_litert(tmp_path: Path) -> None:
    net = tflite(tmp_path, "net")
    bad = tflite(tmp_path, "bad", v=np.ones((4, 1, 1, 4), np.float32))
    result = compare(str(bad), f"{net}@litert", feeds)
    assert result.first is not None and result.first.layer == "second (CONV_2D)"
    assert result.first.after == ("first (CONV_2D)",)
