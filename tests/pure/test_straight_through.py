"""Files that round their numbers: training passes through, or says that it cannot."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np
import pytest

from brim.errors import InputError, UnsupportedError
from brim.graph import Graph, Value, evaluate, evaluate_values, placeholder
from brim.ops import control
from brim.ops import primitive as p
from brim.ops.math import matmul
from brim.ops.quantized import dequantize, quantize
from brim.ops.registry import at
from brim.passes.autodiff import gradient
from brim.train import SGD, AdamW, MeanSquared, Network, network, training_step
from brim.types import F32, I32, Type, type_of
from tests import tflite_models as t
from tests.onnx_models import F32 as FLOAT
from tests.onnx_models import interpret, model, node

RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


LEARNS = {"w": normal(6, 3, 3, 3) / 4, "b": normal(6), "fc": normal(5, 24) / 4}
SCALES = {
    "xs": np.float32(0.03), "ws": np.full(6, 0.01, np.float32),
    "rs": np.array([0.02], np.float32), "fs": np.float32(0.01),
}  # fmt: skip
ZEROS = {
    "xz": np.uint8(128), "wz": np.zeros(6, np.int8), "rz": np.array([3], np.uint8),
    "fz": np.int8(0),
}  # fmt: skip


def rounding_file(rounds: bool = True) -> bytes:
    """What quantization-aware training leaves: float weights, and quantizers around everything."""

    def both(x: str, q: str, **axis: int) -> list:
        names = f"{q}s {q}z"
        return [
            node("QuantizeLinear", f"{x} {names}", f"{x}_q", **axis),
            node("DequantizeLinear", f"{x}_q {names}", f"{x}_d", **axis),
        ]

    nodes = [
        *both("x", "x"), *both("w", "w", axis=0),
        node("Conv", "x_d w_d b", "a", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", "a", "r"), *both("r", "r"),
        node("Flatten", "r_d", "f"), *both("fc", "f"),
        node("Gemm", "f fc_d", "y", transB=1),
    ]  # fmt: skip
    if not rounds:
        nodes = [n for n in nodes if "Linear" not in n.op_type]
        for each in nodes:
            each.input[:] = [name.removesuffix("_d") for name in each.input]
    inputs, outputs = [("x", FLOAT, ["n", 3, 4, 4])], [("y", FLOAT, None)]
    weights = {**LEARNS, **SCALES, **ZEROS} if rounds else LEARNS
    return model(nodes, inputs, outputs, weights).SerializeToString()


def slopes(net: Network, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of the sum of squares of the first output, by weight, in the layouts of the file."""
    y = next(iter(net.graph.outputs.values()))
    loss = p.reduce(p.mul(y, y), op="add", axes=tuple(range(y.type.rank)))
    wrt = [net.graph.inputs[name] for name in net.weights]
    known = {id(v): {**feeds, **net.weights}[name] for name, v in net.graph.inputs.items()}
    found = zip(net.weights, evaluate_values(gradient(loss, wrt), known))
    return {name: net.sources[name].outward(slope) for name, slope in found}


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """The cosine of the angle between two slopes."""
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


def test_weights_of_a_file_that_rounds_learn_and_its_scales_stay() -> None:
    net = network(rounding_file(), batch=4)
    assert net.trained == LEARNS.keys()
    names = {value.op.name for value in net.graph.values() if value.op is not None}
    assert "fake_quant" in names
    assert not names & {"quantize", "dequantize"}


def test_it_computes_what_the_file_does() -> None:
    x = normal(4, 3, 4, 4)
    net = network(rounding_file(), batch=4)
    found = evaluate(net.graph, {"x": x, **net.weights})["y"]
    (wanted,) = interpret(rounding_file(), x=x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    (smooth,) = interpret(rounding_file(rounds=False), x=x)
    assert np.abs(wanted - smooth).max() > 0.02  # the file does round


def test_slopes_pass_straight_through() -> None:
    """Nearly the slopes of the network without quantizers: none is 0, none points elsewhere."""
    x = {"x": normal(64, 3, 4, 4)}
    found = slopes(network(rounding_file(), batch=64), x)
    wanted = slopes(network(rounding_file(rounds=False), batch=64), x)
    assert found.keys() == wanted.keys()
    assert min(alike(found[name], wanted[name]) for name in found) > 0.98


def lite(rounds: bool) -> bytes:
    tensors = [
        t.Tensor("x", shape=(1, 8)),
        t.constant("w", LEARNS["fc"][:, :8]),
        t.Tensor("a", shape=(1, 5)),
        t.Tensor("y", shape=(1, 5)),
    ]
    middle = [t.op("FAKE_QUANT", "a", "y", min=-3.0, max=4.0, numBits=8)]
    ops = [t.op("FULLY_CONNECTED", "x w _", "a" if rounds else "y"), *(middle if rounds else [])]
    return t.write(t.Graph(tensors, ops, "x", "y"))


def test_simulated_quantization_of_tflite_learns_too() -> None:
    x = {"x": normal(64, 8)}
    net = network(lite(rounds=True), batch=64)
    found, wanted = slopes(net, x)["w"], slopes(network(lite(rounds=False), batch=64), x)["w"]
    assert alike(found, wanted) > 0.98
    one = {"x": x["x"][:1]}
    (given,) = t.run_litert(lite(rounds=True), [one])
    computed = evaluate(network(lite(rounds=True)).graph, {**one, **net.weights})["y"]
    np.testing.assert_allclose(computed, given["y"], atol=1e-5)


# ------------------------------------------------------------------ what cannot learn is told


def layers(middle: Callable[[Value], Value]) -> Network:
    """x[4, 3] -> a layer "first", `middle`, a layer "last"."""
    weights = {"first": normal(3, 3), "last": normal(3, 2)}
    x = placeholder(Type((4, 3), F32))
    v = {name: placeholder(type_of(array)) for name, array in weights.items()}
    with at("model.onnx: middle (Round)"):
        y = middle(matmul(x, v["first"]))
    graph = Graph({"x": x, **v}, {"y": matmul(y, v["last"])}, "layers")
    return Network(graph, MappingProxyType(weights), MappingProxyType({}))


def other_scale(x: Value) -> Value:
    zero = np.int8(0)
    return dequantize(quantize(x, np.float32(0.1), zero), np.float32(0.2), zero)


def as_integers(x: Value) -> Value:
    return p.cast(p.add(p.cast(p.rint(x), to=I32), 1), to=F32)


def in_a_branch(x: Value) -> Value:
    inner = placeholder(x.type)
    then, orelse = (Graph({"a": inner}, {"b": made(inner)}) for made in (other_scale, p.neg))
    predicate = p.gt(p.reshape(p.reduce(x, op="add", axes=(0, 1)), shape=()), 0)
    return control.cond(predicate, x, then=then, orelse=orelse)


BLOCKED = [
    other_scale,
    as_integers,
    in_a_branch,
    lambda x: p.add(x, other_scale(x)),  # a slope there is, but not all of it
]


@pytest.mark.parametrize("middle", BLOCKED)
def test_integers_on_the_way_are_refused_by_name(middle: Callable[[Value], Value]) -> None:
    net = layers(middle)
    with pytest.raises(UnsupportedError, match="integers") as caught:
        training_step(net, MeanSquared(), SGD(0.1))
    assert "middle" in caught.value.where
    training_step(net.freeze("first"), MeanSquared(), SGD(0.1))  # as the hint says


def test_weights_that_only_roundings_see_are_refused_by_name() -> None:
    net = layers(p.rint)
    with pytest.raises(UnsupportedError, match="'first'"):
        training_step(net, MeanSquared(), SGD(0.1))
    training_step(net.freeze("first"), MeanSquared(), SGD(0.1))
    training_step(layers(lambda x: p.sub(x, p.rint(x))), MeanSquared(), SGD(0.1))


def test_indices_are_no_numbers() -> None:
    """Which row is taken has no slope in any case; what is in the row has."""

    def rows(x: Value) -> Value:
        index = p.cast(p.rint(p.minimum(p.maximum(x, 0), 2)), to=I32)
        picked = p.slice(index, starts=(0, 0), sizes=(4, 1), steps=(1, 1))
        return p.gather(x, p.reshape(picked, shape=(4,)), axis=0)

    training_step(layers(rows), MeanSquared(), SGD(0.1))


# ------------------------------------------------------------------ what the loss does not see


def test_weights_that_the_loss_does_not_see_stay_as_they_are() -> None:
    """Weight decay, above all, leaves them alone, as torch does."""
    net = layers(lambda x: x)
    other = placeholder(Type((3, 3), F32))
    outputs = {**net.graph.outputs, "z": matmul(net.data["x"], other)}
    graph = Graph({**net.graph.inputs, "other": other}, outputs, "two")
    weights = MappingProxyType({**net.weights, "other": normal(3, 3)})
    two = Network(graph, weights, MappingProxyType({}))
    step = training_step(two, MeanSquared(), AdamW(0.1))
    assert not [name for name in step.state if name.startswith("other")]
    with pytest.raises(InputError, match="loss sees no weight"):
        training_step(two.freeze("first", "last"), MeanSquared(), AdamW(0.1))
