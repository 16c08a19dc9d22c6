"""Networks for training: weights of files as inputs, their names and layouts, and back again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, numpy_helper

from brim.errors import InputError, UnsupportedError
from brim.graph import Graph, const, evaluate, placeholder
from brim.ops import primitive as p
from brim.train import SGD, CrossEntropy, Network, Source, network, training_step
from brim.types import F32, Type
from tests import tflite_models as t
from tests.onnx_models import F32 as FLOAT
from tests.onnx_models import I64, interpret, model, node

HALF = TensorProto.FLOAT16
RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


WEIGHTS = {
    "conv.weight": normal(6, 3, 3, 3),
    "bn.weight": normal(6),
    "bn.bias": normal(6),
    "bn.running_mean": normal(6),
    "bn.running_var": np.abs(normal(6)) + 0.5,
    "fc.weight": normal(5, 6 * 16),
    "fc.bias": normal(5),
}


def classifier(training: bool = False) -> bytes:
    """Convolution, norm, upsampling by a constant, a layer; a batch that is open."""
    nodes = [
        node("Conv", "x conv.weight", "a", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", "a bn.weight bn.bias bn.running_mean bn.running_var", "b"),
        node("Relu", "b", "c"),
        node("Constant", "", "scales", value_floats=[1.0, 1.0, 2.0, 2.0]),
        node("Resize", "c _ scales", "d", mode="nearest"),
        node("Flatten", "d", "e"),
        node("Dropout", "e ratio training", "f"),
        node("Gemm", "f fc.weight fc.bias", "y", transB=1),
    ]
    settings = {"ratio": np.float32(0.25), "training": np.array(training)}
    made = model(
        nodes, [("x", FLOAT, ["n", 3, 4, 4])], [("y", FLOAT, None)], {**WEIGHTS, **settings}
    )
    return made.SerializeToString()


def lite() -> bytes:
    """A convolution and a layer for one picture, as TFLite writes them."""
    tensors = [
        t.Tensor("x", shape=(1, 4, 4, 3)),
        t.constant("conv/kernel", normal(6, 3, 3, 3)),
        t.constant("conv/bias", normal(6)),
        t.Tensor("a", shape=(1, 2, 2, 6)),
        t.constant("shape", np.array([1, -1], np.int32)),
        t.Tensor("b", shape=(1, 24)),
        t.constant("dense/kernel", normal(5, 24)),
        t.Tensor("y", shape=(1, 5)),
    ]
    ops = [
        t.op(
            "CONV_2D", "x conv/kernel conv/bias", "a", padding="SAME", strideH=2, strideW=2,
            dilationHFactor=1, dilationWFactor=1, fusedActivationFunction="RELU",
        ),
        t.op("RESHAPE", "a shape", "b"),
        t.op("FULLY_CONNECTED", "b dense/kernel _", "y"),
    ]  # fmt: skip
    return t.write(t.Graph(tensors, ops, "x", "y"))


def test_weights_of_an_onnx_file_are_inputs_by_its_names() -> None:
    net = network(classifier(), shapes={"x": (2, 3, 4, 4)})
    assert list(net.graph.inputs) == ["x", *WEIGHTS]
    assert list(net.data) == ["x"]
    assert net.statistics == {"bn.running_mean", "bn.running_var"}
    assert net.trained == WEIGHTS.keys() - net.statistics
    for name, array in net.file_weights.items():
        np.testing.assert_array_equal(array, WEIGHTS[name])


def test_weights_are_read_in_the_graphs_layout_without_moves() -> None:
    net = network(classifier(), shapes={"x": (2, 3, 4, 4)})
    assert net.graph.inputs["conv.weight"].shape == (3, 3, 3, 6)
    np.testing.assert_array_equal(
        net.weights["conv.weight"], WEIGHTS["conv.weight"].transpose(2, 3, 1, 0)
    )
    weights = {id(net.graph.inputs[name]) for name in net.weights}
    moves = [v for v in net.graph.values() if v.op is not None and v.op.kind == "move"]
    assert not [v for v in moves if id(v.args[0]) in weights]
    turned = [v for v in moves if v.op is not None and v.op.name == "transpose"]
    assert [v.args[0] for v in turned] == [net.graph.inputs["x"]]  # none to flatten, either


@pytest.mark.parametrize("training", [False, True])
def test_norms_and_dropout_survive(training: bool) -> None:
    net = network(classifier(training), shapes={"x": (2, 3, 4, 4)})
    names = [v.op.name for v in net.graph.values() if v.op is not None]
    assert names.count("batch_norm") == 1
    assert names.count("dropout") == 1


def test_an_untrained_network_computes_what_its_file_does() -> None:
    x = normal(2, 3, 4, 4)
    net = network(classifier(), shapes={"x": x.shape})
    (wanted,) = interpret(classifier(), x=x)
    found = evaluate(net.graph, {"x": x, **net.weights})["y"]
    np.testing.assert_allclose(found, wanted, 1e-5, 1e-5)
    np.testing.assert_array_equal(evaluate(net.with_constants(), {"x": x})["y"], found)


def test_weights_of_a_tflite_file() -> None:
    x = normal(1, 4, 4, 3)
    made = lite()
    net = network(made)
    assert list(net.graph.inputs) == ["x", "conv/kernel", "conv/bias", "dense/kernel"]
    assert net.trained == set(net.weights)
    found = evaluate(net.graph, {"x": x, **net.weights})["y"]
    np.testing.assert_allclose(found, t.run_litert(made, [{"x": x}])[0]["y"], 1e-4, 1e-5)


def test_contents_that_the_import_needs_stay_constants() -> None:
    """A shape that follows from a float array, and a weight that is read as contents elsewhere."""
    nodes = [
        node("Cast", "sizes", "shape", to=I64),
        node("Reshape", "x shape", "a"),
        node("Mul", "a sizes", "b"),
        node("Mul", "b w", "y"),
    ]
    weights = {"sizes": np.array([3, 2], np.float32), "w": normal(2)}
    net = network(
        model(nodes, [("x", FLOAT, [2, 3])], [("y", FLOAT, None)], weights).SerializeToString()
    )
    assert list(net.weights) == ["w"]
    x = normal(2, 3)
    found = evaluate(net.graph, {"x": x, "w": weights["w"]})["y"]
    np.testing.assert_allclose(found, x.reshape(3, 2) * weights["sizes"] * weights["w"])


def test_weights_of_constant_nodes_scalars_and_masks() -> None:
    nodes = [
        node("Constant", "", "table", value_floats=[1.0, 2.0]),
        node("Constant", "", "half", value_float=0.5),
        node("Mul", "x table", "a"),
        node("Mul", "a half", "b"),
        node("Add", "b mask", "y"),
    ]
    mask = {"mask": np.array([0, -np.inf], np.float32)}
    net = network(model(nodes, [("x", FLOAT, [3, 2])], [("y", FLOAT, None)], mask))
    assert set(net.weights) == {"table", "mask"}
    assert net.frozen == {"table", "mask"}  # a literal beside an initializer, and a mask
    assert net.unfreeze("table").trained == {"table"}


def test_a_file_may_write_all_its_weights_as_nodes() -> None:
    nodes = [node("Constant", "", "w", value_floats=[1.0, 2.0]), node("Mul", "x w", "y")]
    net = network(model(nodes, [("x", FLOAT, [3, 2])], [("y", FLOAT, None)]))
    assert net.trained == {"w"}


def test_weights_of_a_graph_have_the_names_of_their_places() -> None:
    x = placeholder(Type((2, 3), F32))
    w = const(normal(3, 3), "dense")
    y = p.contract(
        p.contract(x, w, spec="mk,kn->mn"), const(normal(3, 3), "dense"), spec="mk,kn->mn"
    )
    net = network(Graph({"x": x}, {"y": p.add(y, const(normal(3)))}, "g"))
    assert set(net.weights) == {"dense", "dense.2", "weight"}
    np.testing.assert_array_equal(net.weights["dense"], w.data)


def test_weights_with_the_name_of_an_input() -> None:
    x = placeholder(Type((2, 3), F32))
    net = network(Graph({"x": x}, {"y": p.mul(x, const(normal(3), "x"))}))
    assert list(net.graph.inputs) == ["x", "x.2"]


def scaled(w: np.ndarray, kind: int) -> Any:
    """x * w, computed in `kind`."""
    nodes = [
        node("Cast", "x", "a", to=kind),
        node("Cast", "w", "b", to=kind),
        node("Mul", "a b", "c"),
        node("Cast", "c", "y", to=FLOAT),
    ]
    return model(nodes, [("x", FLOAT, [2, 3])], [("y", FLOAT, None)], {"w": w})


@pytest.mark.parametrize(("dtype", "kind"), [(np.int8, FLOAT), (np.float16, HALF)])
def test_integers_and_half_floats_are_refused(dtype: type, kind: int) -> None:
    with pytest.raises(UnsupportedError, match="'w'") as caught:
        network(scaled(np.arange(3).astype(dtype), kind))
    assert "float model" in caught.value.hint


def test_weights_that_are_only_stored_as_halves() -> None:
    stored = normal(3).astype(np.float16)
    net = network(scaled(stored, FLOAT))
    assert net.graph.inputs["w"].dtype == F32
    np.testing.assert_array_equal(net.weights["w"], stored.astype(np.float32))
    fine = np.array([1 + 1e-5, 2, 3], np.float32)
    x = normal(2, 3)
    found = evaluate(net.with_weights({"w": fine}).with_constants(), {"x": x})["y"]
    np.testing.assert_array_equal(found, x * fine)


# ------------------------------------------------------------------ another batch


def each(net: Network, x: np.ndarray, alone: Network) -> None:
    """What a network gives for samples together is what it gives for one after the other."""
    together = evaluate(net.with_constants(), {"x": x})["y"]
    one = [evaluate(alone.with_constants(), {"x": sample[None]})["y"] for sample in x]
    np.testing.assert_allclose(together, np.concatenate(one), 1e-5, 1e-5)


def test_a_file_for_one_sample_takes_more() -> None:
    made = lite()
    each(network(made, batch=3), normal(3, 4, 4, 3), network(made))
    shaped = network(made, shapes={"x": (2, 4, 4, 3)})
    assert shaped.graph.outputs["y"].shape == (2, 5)


def fixed(shapes: list[list[int]], middle: Sequence[NodeProto] = ()) -> Any:
    """x[1, 4, 6] reshaped to `shapes` in turn, with ReLUs between; then `middle`, a -> y."""
    nodes, name = [], "x"
    for i in range(len(shapes)):
        nodes += [node("Reshape", f"{name} shape{i}", f"r{i}"), node("Relu", f"r{i}", f"v{i}")]
        name = f"v{i}"
    nodes += [node("Identity", name, "a"), *(middle or [node("Identity", "a", "y")])]
    weights = {f"shape{i}": np.array(shape) for i, shape in enumerate(shapes)}
    weights["table"] = normal(3, 24)
    return model(nodes, [("x", FLOAT, [1, 4, 6])], [("y", FLOAT, None)], weights)


@pytest.mark.parametrize(
    "shapes",
    [
        [[1, -1]],
        [[1, 24]],
        [[-1, 24]],
        [[0, 0, 2, 3]],
        [[2, 2, 6], [1, 2, 2, 6]],  # two windows of each sample
        [[1, 2, 12], [1, 24]],
    ],
    ids=str,
)
def test_reshapes_that_count_one_sample(shapes: list[list[int]]) -> None:
    made = fixed(shapes)
    each(network(made, batch=5), normal(5, 4, 6), network(made))


MIXING = {
    "sum": [node("ReduceSum", "a axis", "y", keepdims=1)],
    "softmax": [node("Softmax", "a", "y", axis=0)],
    "matrix": [node("Transpose", "a", "b", perm=[1, 0]), node("MatMul", "b a", "y")],
    "beside a table": [node("Mul", "a table", "y")],
}


@pytest.mark.parametrize("name", MIXING)
def test_samples_that_see_each_other_are_refused(name: str) -> None:
    made = fixed([[1, 24]], MIXING[name])
    made.graph.initializer.append(numpy_helper.from_array(np.array([0]), "axis"))
    with pytest.raises(InputError) as caught:
        network(made, batch=3)
    assert "open batch" in caught.value.hint
    assert caught.value.where


def test_a_batch_that_is_open_or_built_in() -> None:
    net = network(classifier(), batch=7)
    assert net.data["x"].shape == (7, 3, 4, 4)
    x = placeholder(Type((2, 3), F32))
    with pytest.raises(InputError, match="built"):
        network(Graph({"x": x}, {"y": p.mul(x, const(normal(3)))}, "g"), batch=3)


def test_freezing_by_pattern() -> None:
    net = network(classifier(), shapes={"x": (2, 3, 4, 4)})
    frozen = net.freeze("conv.*", "bn.*")
    assert frozen.trained == {"fc.weight", "fc.bias"}
    assert frozen.frozen >= {"bn.running_mean", "bn.running_var"}
    assert net.trained > frozen.trained  # what it was made of is as before
    back = frozen.unfreeze("bn.*")
    assert back.trained == {"bn.weight", "bn.bias", "fc.weight", "fc.bias"}
    with pytest.raises(InputError, match="'conv.wieght'") as caught:
        net.freeze("conv.wieght")
    assert "conv.weight" in caught.value.hint


def test_patterns_fit_names_of_nodes_too() -> None:
    net = network(classifier(), shapes={"x": (2, 3, 4, 4)})
    assert net.named("Conv_*") == {"conv.weight"}
    assert net.named("BatchNormalization_b") == {n for n in WEIGHTS if n.startswith("bn.")}
    assert net.named("Gemm_*", "bn.weight") == {"fc.weight", "fc.bias", "bn.weight"}


def test_a_step_has_no_work_for_the_slopes_of_what_is_frozen() -> None:
    """Only the product of the last layer has a second one, for the slope of its weights."""
    net = network(classifier(), batch=2)
    step = training_step(net.freeze("*").unfreeze("fc.*"), CrossEntropy(), SGD(0.1))
    made = [value for value in step.values() if value.op is not None and value.where != "norm"]
    ops = Counter(value.op.name for value in made if value.op is not None)
    assert (ops["conv"], ops["contract"]) == (1, 2)
    whole = training_step(net, CrossEntropy(), SGD(0.1))
    ops = Counter(value.op.name for value in whole.values() if value.op is not None)
    assert ops["conv"] + ops["contract"] > 4


def test_other_contents() -> None:
    net = network(classifier(), shapes={"x": (2, 3, 4, 4)})
    given = np.zeros(5)
    changed = net.with_weights({"fc.bias": given})
    given += 1
    assert changed.weights["fc.bias"].tolist() == [0] * 5
    assert changed.weights["fc.bias"].dtype == np.float32
    assert net.weights["fc.bias"] is not changed.weights["fc.bias"]
    with pytest.raises(InputError, match="f32"):
        net.with_weights({"fc.bias": np.zeros(4)})
    with pytest.raises(InputError, match="fc.bais"):
        net.with_weights({"fc.bais": np.zeros(5)})


def test_sources_lead_in_and_out() -> None:
    source = Source(
        (4, 6, 5), (("transpose", (2, 0, 1)), ("reshape", (20, 6)), ("transpose", (1, 0)))
    )
    array = normal(4, 6, 5)
    inside = source.inward(array)
    assert inside.shape == (6, 20)
    np.testing.assert_array_equal(source.outward(inside), array)
