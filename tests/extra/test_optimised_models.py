"""Models that onnxruntime has optimised or quantized dynamically import and equal the originals.

"Within one quantum" has no meaning where scales are found while the model runs: what onnxruntime
gives for the same file is the measure.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxruntime.quantization")

from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

import brim
from bench import nets
from bench.sketch import Sketch
from tests.extra.test_quantized_nets import small_mobilenet, small_resnet

pytestmark = pytest.mark.peer
LEVELS = onnxruntime.GraphOptimizationLevel
Arrays = list[np.ndarray]


def small_transformer() -> onnx.ModelProto:
    """Two post-norm encoder layers as in BERT."""
    net = Sketch("small_transformer")
    x = net.input("input", (1, 16, 48), 2)
    for _ in range(2):
        x = net.layer_norm(net.add(net.attention(x, 4, 1, 16), x))
        x = net.layer_norm(net.add(net.linear(net.gelu(net.linear(x, 96)), 48), x))
    return net.finish(x, (1, 16, 48))


def session(path: Path, level: Any, saved: Path | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = level
    if saved is not None:
        options.optimized_model_filepath = str(saved)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feeds(path: Path) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    ports = session(path, LEVELS.ORT_DISABLE_ALL).get_inputs()
    return {port.name: random.standard_normal(port.shape, np.float32) for port in ports}


def stored(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def optimised(path: Path, level: Any = LEVELS.ORT_ENABLE_EXTENDED) -> tuple[Path, set[str]]:
    """The file that onnxruntime makes of another, and the operators of its own that it holds."""
    target = path.with_name(f"optimised_{path.name}")
    session(path, level, target)
    domains = ("com.microsoft", "com.microsoft.nchwc")
    return target, {n.op_type for n in onnx.load(target).graph.node if n.domain in domains}


def difference(found: Any, wanted: Arrays) -> float:
    """The largest difference, in units of 1 or of the largest number of a result."""
    found = found if isinstance(found, tuple) else (found,)
    assert [a.shape for a in found] == [b.shape for b in wanted]
    return max(
        float(np.abs(a - b).max()) / max(1.0, float(np.abs(b).max())) for a, b in zip(found, wanted)
    )


def check_optimised(build: Callable[[], onnx.ModelProto], path: Path, fused: set[str]) -> None:
    stored(build(), path)
    target, found = optimised(path)
    assert fused <= found
    inputs = feeds(path)
    original = session(path, LEVELS.ORT_DISABLE_ALL).run(None, inputs)
    for file in (target, path):  # exact: so that nothing hides what a fused operator computes
        assert difference(brim.load(file, exact=True)(**inputs), original) < 1e-5


FUSED = {
    small_resnet: {"FusedConv"},
    small_mobilenet: {"FusedConv"},
    small_transformer: {"FusedMatMul", "SkipLayerNormalization", "Gelu"},
}


@pytest.mark.parametrize("build", FUSED, ids=lambda f: f.__name__)
def test_extended(build: Callable, tmp_path: Path) -> None:
    check_optimised(build, tmp_path / "model.onnx", FUSED[build])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v3_large", "transformer"])
def test_extended_network(name: str, tmp_path: Path) -> None:
    check_optimised(nets.NETS[name], tmp_path / "model.onnx", set())


def test_machine_layout_is_refused(tmp_path: Path) -> None:
    target, found = optimised(stored(small_resnet(), tmp_path / "m.onnx"), LEVELS.ORT_ENABLE_ALL)
    if "ReorderOutput" not in found:
        pytest.skip("onnxruntime has no blocked layout on this processor")
    with pytest.raises(brim.UnsupportedError, match="one machine.*ORT_ENABLE_EXTENDED"):
        brim.load(target).compile()


def test_attention_fusion(tmp_path: Path) -> None:
    """The optimiser of onnxruntime.transformers writes Attention; quantized it is QAttention."""
    optimizer = pytest.importorskip("onnxruntime.transformers.optimizer")
    path, target = stored(small_transformer(), tmp_path / "m.onnx"), tmp_path / "attention.onnx"
    sizes = {"model_type": "bert", "num_heads": 4, "hidden_size": 48, "opt_level": 0}
    optimizer.optimize_model(str(path), **sizes).save_model_to_file(str(target))
    assert {"Attention", "BiasGelu"} <= {n.op_type for n in onnx.load(target).graph.node}
    inputs = feeds(path)
    original = session(path, LEVELS.ORT_DISABLE_ALL).run(None, inputs)
    assert difference(brim.load(target)(**inputs), original) < 1e-5

    integer = tmp_path / "integer.onnx"
    known = {"DefaultTensorType": onnx.TensorProto.FLOAT}  # ONNX knows no types of Attention's
    quantize_dynamic(str(target), str(integer), weight_type=QuantType.QInt8, extra_options=known)
    assert "QAttention" in {n.op_type for n in onnx.load(integer).graph.node}
    wanted = session(integer, LEVELS.ORT_DISABLE_ALL).run(None, inputs)
    assert difference(brim.load(integer)(**inputs), wanted) < 1e-5
    assert difference(brim.load(integer)(**inputs), original) > 1e-3  # it is quantized, indeed


@pytest.mark.parametrize(
    ("kind", "per_channel"), [("QInt8", True), ("QUInt8", False)], ids=["channels", "tensor"]
)
def test_dynamic_transformer(kind: str, per_channel: bool, tmp_path: Path) -> None:
    path, target = stored(small_transformer(), tmp_path / "m.onnx"), tmp_path / "dynamic.onnx"
    quantize_dynamic(str(path), str(target), per_channel=per_channel, weight_type=QuantType[kind])
    inputs = feeds(path)
    wanted = session(target, LEVELS.ORT_DISABLE_ALL).run(None, inputs)
    assert difference(brim.load(target)(**inputs), wanted) < 1e-5
    fused, found = optimised(target)
    assert {"DynamicQuantizeMatMul", "MatMulIntegerToFloat"} <= found
    assert difference(brim.load(fused)(**inputs), wanted) < 1e-5


# ------------------------------------------------------------------ recurrent layers

STEPS, BATCH, FEATURES, SIZE = 6, 3, 10, 8


def lstm(
    steps: int = STEPS,
    direction: str = "forward",
    *,
    lengths: bool = False,
    state: bool = False,
    peepholes: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    random, directions = np.random.default_rng(3), 2 if direction == "bidirectional" else 1

    def weight(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    weights = {"W": weight(directions, 4 * SIZE, FEATURES), "R": weight(directions, 4 * SIZE, SIZE)}
    weights["B"] = weight(directions, 8 * SIZE)
    if lengths:
        weights["lengths"] = np.array([steps, 2, steps - 1], np.int32)
    if state:
        weights["h"], weights["c"] = (weight(directions, BATCH, SIZE) for _ in range(2))
    if peepholes:
        weights["P"] = weight(directions, 3 * SIZE)
    names = ["x", "W", "R", "B", "lengths", "h", "c", "P"]
    given = [name if name == "x" or name in weights else "" for name in names]
    outputs = {"y": (steps, directions, BATCH, SIZE)}
    outputs |= dict.fromkeys(("y_h", "y_c"), (directions, BATCH, SIZE))
    attributes |= {"hidden_size": SIZE, "direction": direction}
    node = helper.make_node("LSTM", given, list(outputs), **attributes)
    graph = helper.make_graph(
        [node],
        "lstm",
        [helper.make_tensor_value_info("x", 1, [steps, BATCH, FEATURES])],
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


LSTMS: dict[str, tuple[str, dict[str, Any]]] = {
    "forward": ("QUInt8", {}),
    "reverse": ("QInt8", {"direction": "reverse"}),
    "bidirectional": ("QInt8", {"direction": "bidirectional", "state": True}),
    "long": ("QUInt8", {"steps": 30}),
    "peepholes": ("QInt8", {"peepholes": True, "clip": 0.5}),
}


@pytest.mark.parametrize("name", LSTMS)
def test_dynamic_lstm(name: str, tmp_path: Path) -> None:
    kind, settings = LSTMS[name]
    path, target = stored(lstm(**settings), tmp_path / "m.onnx"), tmp_path / "dynamic.onnx"
    k = {"weight_type": QuantType[kind], "per_channel": name == "bidirectional"}
    quantize_dynamic(str(path), str(target), op_types_to_quantize=["LSTM"], **k)
    assert [n.op_type for n in onnx.load(target).graph.node] == ["DynamicQuantizeLSTM"]
    inputs = feeds(path)
    wanted = session(target, LEVELS.ORT_ENABLE_ALL).run(None, inputs)
    assert difference(brim.load(target)(**inputs), wanted) < 2e-6


def test_dynamic_lstm_of_unequal_lengths(tmp_path: Path) -> None:
    """onnxruntime leaves rows that have ended out of the range that it quantizes; brim, which has
    their last states there, may find another range: a difference below one quantum of a state."""
    path, target = stored(lstm(lengths=True), tmp_path / "m.onnx"), tmp_path / "dynamic.onnx"
    quantize_dynamic(str(path), str(target), op_types_to_quantize=["LSTM"])
    inputs = feeds(path)
    wanted = session(target, LEVELS.ORT_ENABLE_ALL).run(None, inputs)
    assert difference(brim.load(target)(**inputs), wanted) < 2 / 255
