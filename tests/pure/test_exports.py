"""What was trained, written into the file it came from, and as safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file

from brim.errors import InputError
from brim.graph import evaluate
from brim.train import Network, export, network, save_weights
from tests import tflite_models as t
from tests.onnx_models import F32 as FLOAT
from tests.onnx_models import interpret, model, node

RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def onnx_file(folder: Path) -> Path:
    """Weights in initializers, halves among them, and in Constant nodes of both kinds."""
    nodes = [
        node("Conv", "x conv.weight", "a", pads=[1, 1, 1, 1]),
        node("Constant", "", "scale", value_floats=[1.0, 2.0, 3.0, 4.0]),
        node("Constant", "", "shift", value=numpy_helper.from_array(normal(4, 1, 1))),
        node("GlobalAveragePool", "a", "b"),
        node("Add", "b shift", "c"),
        node("Flatten", "c", "d"),
        node("Mul", "d scale", "e"),
        node("Cast", "half", "f", to=FLOAT),
        node("Gemm", "e f", "y", transB=1),
    ]
    weights = {"conv.weight": normal(4, 3, 3, 3), "half": normal(5, 4).astype(np.float16)}
    made = model(nodes, [("x", FLOAT, [2, 3, 4, 4])], [("y", FLOAT, None)], weights)
    path = folder / "model.onnx"
    onnx.save(made, path)
    return path


def lite_file(folder: Path) -> Path:
    tensors = [
        t.Tensor("x", shape=(1, 4, 4, 3)),
        t.constant("conv/kernel", normal(6, 3, 3, 3)),
        t.constant("conv/half", normal(6).astype(np.float16)),
        t.Tensor("conv/bias", shape=(6,)),
        t.Tensor("y", shape=(1, 2, 2, 6)),
    ]
    ops = [
        t.op("DEQUANTIZE", "conv/half", "conv/bias"),
        t.op(
            "CONV_2D", "x conv/kernel conv/bias", "y", padding="SAME", strideH=2, strideW=2,
            dilationHFactor=1, dilationWFactor=1,
        ),
    ]  # fmt: skip
    path = folder / "model.tflite"
    path.write_bytes(t.write(t.Graph(tensors, ops, "x", "y")))
    return path


def trained(net: Network) -> Network:
    """As if something had been learned; numbers that halves hold."""
    new = {n: normal(*a.shape).astype(np.float16) for n, a in net.weights.items()}
    return net.with_weights(new)


def test_into_an_onnx_file(tmp_path: Path) -> None:
    source = onnx_file(tmp_path)
    net = trained(network(source))
    assert set(net.weights) == {"conv.weight", "scale", "shift", "half"}
    x = normal(2, 3, 4, 4)
    (before,) = interpret(source.read_bytes(), x=x)
    export(net, source, tmp_path / "tuned.onnx")
    (found,) = interpret((tmp_path / "tuned.onnx").read_bytes(), x=x)
    wanted = evaluate(net.with_constants(), {"x": x})["y"]
    np.testing.assert_allclose(found, wanted, 1e-5, 1e-5)
    assert np.abs(found - before).max() > 0.1
    again = network(tmp_path / "tuned.onnx")
    for name, array in again.weights.items():
        np.testing.assert_array_equal(array, net.weights[name])


def test_into_a_tflite_file(tmp_path: Path) -> None:
    source = lite_file(tmp_path)
    net = trained(network(source, batch=3))
    assert set(net.weights) == {"conv/kernel", "conv/half"}
    export(net, source, tmp_path / "tuned.tflite")
    tuned = (tmp_path / "tuned.tflite").read_bytes()
    assert len(tuned) == source.stat().st_size
    x = normal(3, 4, 4, 3)
    wanted = evaluate(net.with_constants(), {"x": x})["y"]
    found = [t.run_litert(tuned, [{"x": one[None]}])[0]["y"] for one in x]
    np.testing.assert_allclose(np.concatenate(found), wanted, 1e-4, 1e-5)


def test_adapters_are_merged_before(tmp_path: Path) -> None:
    source = onnx_file(tmp_path)
    net = network(source).adapted("half", rank=2)
    net = net.with_weights({"half.lora_b": np.ones((2, 5))})
    export(net, source, tmp_path / "tuned.onnx")
    new = network(tmp_path / "tuned.onnx").weights["half"]
    np.testing.assert_allclose(new, net.merged().weights["half"], 1e-3, 1e-3)


def test_as_safetensors(tmp_path: Path) -> None:
    source = onnx_file(tmp_path)
    net = trained(network(source))
    save_weights(net, tmp_path / "weights.safetensors")
    found = load_file(tmp_path / "weights.safetensors")
    assert found["conv.weight"].shape == (4, 3, 3, 3)
    back = network(source).with_file_weights(found)
    for name, array in back.weights.items():
        np.testing.assert_array_equal(array, net.weights[name])


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_a_new_head_has_no_place_in_the_file(tmp_path: Path, kind: str) -> None:
    source = onnx_file(tmp_path) if kind == "onnx" else lite_file(tmp_path)
    net = network(source)
    label = "Flatten_d" if kind == "onnx" else "y"
    with pytest.raises(InputError, match=r"head\.weight") as caught:
        export(net.replace(3, at=label), source, tmp_path / "tuned")
    assert ".brim" in caught.value.hint
    assert not (tmp_path / "tuned").exists()


def test_weights_of_another_shape_or_name(tmp_path: Path) -> None:
    net = network(onnx_file(tmp_path))
    with pytest.raises(InputError, match="its file"):
        net.with_file_weights({"conv.weight": normal(3, 3, 3, 4)})
    with pytest.raises(InputError, match=r"'conv\.wait'"):
        net.with_file_weights({"conv.wait": normal(4)})
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        save_weights(net, folder)


def test_copies_of_an_initializer_are_weights_of_their_own(tmp_path: Path) -> None:
    """torch's exporter stores equal weights once, and copies them for the other layers."""
    nodes = [
        node("Identity", "scale", "other"),
        node("Identity", "other", "third"),
        node("Mul", "x scale", "a"),
        node("Add", "a other", "b"),
        node("Mul", "b third", "c"),
        node("Add", "c scale", "y"),  # tied to the first
    ]
    made = model(nodes, [("x", FLOAT, [2, 3])], [("y", FLOAT, None)], {"scale": normal(3)})
    net = network(made.SerializeToString())
    assert list(net.weights) == ["scale", "other", "third"]
    new = {name: normal(3) for name in net.weights}
    export(net.with_weights(new), made.SerializeToString(), tmp_path / "new.onnx")
    x, (scale, other, third) = normal(2, 3), new.values()
    (found,) = interpret(tmp_path / "new.onnx", x=x)
    np.testing.assert_allclose(found, (x * scale + other) * third + scale, rtol=1e-5)
    again = network(tmp_path / "new.onnx")
    assert all(np.array_equal(again.weights[name], array) for name, array in new.items())
