"""Networks for training, compiled: as their files at first, fine-tuned, saved, exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import brim
from brim import train
from brim.errors import InputError
from brim.graph import Graph, evaluate, placeholder
from brim.ops.dropout import KEY, dropped, random_bits
from brim.types import F32, Type
from tests import tflite_models as t
from tests.onnx_models import F32 as FLOAT
from tests.onnx_models import model, node

RANDOM = np.random.default_rng(0)
CLASSES = 5


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def onnx_file(folder: Path) -> Path:
    nodes = [
        node("Conv", "x conv.weight", "a", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", "a bn.weight bn.bias bn.mean bn.var", "b"),
        node("Relu", "b", "c"),
        node("MaxPool", "c", "d", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "d", "e"),
        node("Gemm", "e fc.weight fc.bias", "y", transB=1),
    ]
    weights = {
        "conv.weight": normal(8, 3, 3, 3),
        **{f"bn.{part}": normal(8) for part in ("weight", "bias", "mean")},
        "bn.var": np.abs(normal(8)) + 0.5,
        "fc.weight": normal(CLASSES, 32) * 0.2,
        "fc.bias": normal(CLASSES),
    }
    path = folder / "model.onnx"
    made = model(nodes, [("x", FLOAT, ["n", 3, 8, 8])], [("y", FLOAT, None)], weights)
    path.write_bytes(made.SerializeToString())
    return path


def lite_file(folder: Path) -> Path:
    """A classifier of one picture, as converters write it: norms folded, a batch of one."""
    tensors = [
        t.Tensor("x", shape=(1, 8, 8, 3)),
        t.constant("conv/kernel", normal(8, 3, 3, 3)),
        t.constant("conv/bias", normal(8)),
        t.Tensor("a", shape=(1, 4, 4, 8)),
        t.constant("shape", np.array([1, 128], np.int32)),
        t.Tensor("b", shape=(1, 128)),
        t.constant("dense/kernel", normal(CLASSES, 128) * np.float32(0.1)),
        t.constant("dense/bias", normal(CLASSES)),
        t.Tensor("y", shape=(1, CLASSES)),
    ]
    ops = [
        t.op(
            "CONV_2D", "x conv/kernel conv/bias", "a", padding="SAME", strideH=2, strideW=2,
            dilationHFactor=1, dilationWFactor=1, fusedActivationFunction="RELU",
        ),
        t.op("RESHAPE", "a shape", "b"),
        t.op("FULLY_CONNECTED", "b dense/kernel dense/bias", "y"),
    ]  # fmt: skip
    path = folder / "model.tflite"
    path.write_bytes(t.write(t.Graph(tensors, ops, "x", "y")))
    return path


def learned(net: train.Network, x: np.ndarray, labels: np.ndarray, steps: int) -> train.Network:
    """After so many steps on one batch, which must make its loss much smaller."""
    made = brim.compile(train.training_step(net, train.CrossEntropy(), train.Adam(1e-2)))
    losses = [float(made.run({"x": x, "target": labels})["loss"]) for _ in range(steps)]
    assert losses[-1] < 0.3 * losses[0]
    names = net.trained | net.statistics
    return net.with_weights({name: made.state[name] for name in names})


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_an_untrained_network_is_its_files_model_bit_by_bit(tmp_path: Path, kind: str) -> None:
    source = onnx_file(tmp_path) if kind == "onnx" else lite_file(tmp_path)
    x = normal(1, 3, 8, 8) if kind == "onnx" else normal(1, 8, 8, 3)
    wanted = brim.load(source, shapes={"x": x.shape})(x)
    loaded = brim.load(source, shapes={"x": x.shape})
    for given in (source, source.read_bytes(), loaded):
        net = train.network(given, shapes={"x": x.shape})
        np.testing.assert_array_equal(net.model()(x), wanted)


def test_an_artifact_is_a_network_of_its_graph(tmp_path: Path) -> None:
    x = normal(2, 3, 8, 8)
    model = brim.load(onnx_file(tmp_path), shapes={"x": x.shape})
    model.save(tmp_path / "model.brim")
    for source in (tmp_path / "model.brim", (tmp_path / "model.brim").read_bytes()):
        for given in (source, brim.load(source, trust=True)):
            net = train.network(given)
            assert len(net.trained) == 4  # two layers; the norm is folded
            np.testing.assert_allclose(net.model()(x), model(x), 1e-5, 1e-5)
    with pytest.raises(InputError, match="built for"):
        train.network(tmp_path / "model.brim", batch=4)
    model.compile({"x": (1, 3, 8, 8)})
    model.save(tmp_path / "two.brim")
    with pytest.raises(InputError, match="2 shapes"):
        train.network(tmp_path / "two.brim")


def test_a_tflite_file_is_fine_tuned_and_exported(tmp_path: Path) -> None:
    source = lite_file(tmp_path)
    x, labels = normal(20, 8, 8, 3), RANDOM.integers(0, CLASSES, 20)
    net = learned(train.network(source, batch=20), x, labels, 40)
    y = net.model()(x)
    assert (y.argmax(1) == labels).mean() > 0.9
    train.export(net, source, tmp_path / "tuned.tflite")
    tuned = (tmp_path / "tuned.tflite").read_bytes()
    one_by_one = [t.run_litert(tuned, [{"x": one[None]}])[0]["y"][0] for one in x]
    np.testing.assert_allclose(one_by_one, y, 1e-4, 1e-4)


def test_an_onnx_file_is_fine_tuned_saved_and_exported(tmp_path: Path) -> None:
    source = onnx_file(tmp_path)
    x, labels = normal(20, 3, 8, 8), RANDOM.integers(0, CLASSES, 20)
    net = train.network(source, batch=20)
    tuned = learned(net, x, labels, 40)
    assert all((tuned.weights[n] != array).any() for n, array in net.weights.items())
    made = tuned.model()
    made.save(tmp_path / "tuned.brim")
    np.testing.assert_array_equal(brim.load(tmp_path / "tuned.brim", trust=True)(x), made(x))
    train.export(tuned, source, tmp_path / "tuned.onnx")
    np.testing.assert_array_equal(brim.load(tmp_path / "tuned.onnx")(x), made(x))


def test_a_new_head_learns_and_the_rest_stays(tmp_path: Path) -> None:
    x, labels = normal(20, 3, 8, 8), RANDOM.integers(0, 3, 20)
    net = train.network(onnx_file(tmp_path), batch=20).freeze("*").replace(3)
    tuned = learned(net, x, labels, 60)
    for name, array in net.weights.items():
        same = (tuned.weights[name] == array).all()
        assert same == (not name.startswith("head."))


def test_adapters_learn_and_are_merged(tmp_path: Path) -> None:
    x, labels = normal(20, 3, 8, 8), RANDOM.integers(0, CLASSES, 20)
    net = train.network(onnx_file(tmp_path), batch=20).adapted("fc.weight", rank=4)
    tuned = learned(net, x, labels, 80)
    whole = tuned.merged()
    changed = {n for n, array in net.merged().weights.items() if (array != whole.weights[n]).any()}
    assert changed == {"fc.weight"}
    np.testing.assert_allclose(
        tuned.model()(x), evaluate(tuned.graph, {"x": x, **tuned.weights})["y"], 1e-4, 1e-4
    )


def test_random_bits_and_dropout_are_those_of_the_interpreter() -> None:
    key, x = placeholder(KEY), placeholder(Type((33, 7), F32))
    outputs = {
        "bits": random_bits(key, size=1001, stream=2),
        "y": dropped(x, key, rate=0.4, stream=1),
    }
    graph = Graph({"key": key, "x": x}, outputs, "random")
    feeds = {"key": np.array([9, 2**32 - 5], np.uint32), "x": normal(33, 7)}
    found, wanted = brim.compile(graph).run(feeds), evaluate(graph, feeds)
    for name in outputs:
        np.testing.assert_array_equal(found[name], wanted[name])
