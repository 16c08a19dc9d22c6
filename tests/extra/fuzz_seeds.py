"""Small intact models for the loader fuzz: convolutions, control flow, an LSTM, packed tensors.

Each stands as ONNX, as an artifact, and as a graph's text. How they are damaged is in `fuzz_cases`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import brim
from brim.runtime.artifact import open_artifact
from brim.text import print_graph
from brim.types import as_carrier
from tests.host.test_variants import layer


@dataclass(frozen=True)
class Seed:
    """An intact model: its main file, files beside it, and for artifacts the digest of its code."""

    name: str
    main: bytes
    beside: dict[str, bytes] = field(default_factory=dict)
    code: str = ""

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix


port = helper.make_tensor_value_info


def initializer(name: str, array: np.ndarray) -> TensorProto:
    return numpy_helper.from_array(array, name)


def _model(nodes: list, inputs: list, outputs: list, weights: dict[str, np.ndarray]) -> Any:
    tensors = [initializer(name, array) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "seed", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def _convolutions() -> Any:
    random_ = np.random.default_rng(1)
    weights = {
        "w": random_.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "b": np.ones(8, np.float32),
        "scale": np.ones(8, np.float32),
        "mean": np.zeros(8, np.float32),
        "fc": random_.standard_normal((8, 5)).astype(np.float32),
        "shape": np.array([1, -1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c", "scale", "b", "mean", "scale"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["g"]),
        helper.make_node("Reshape", ["g", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc"], ["y"]),
        helper.make_node("Softmax", ["y"], ["z"], axis=1),
    ]
    return _model(nodes, [port("x", 1, ["N", 3, 8, 8])], [port("z", 1, ["N", 5])], weights)


def _control() -> Any:
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["s", "m"], ["t"]),
            helper.make_node("Add", ["t", "x"], ["u"]),
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("ReduceSum", ["u"], ["row"], keepdims=0),
        ],
        "body",
        [port("i", 7, []), port("go", 9, []), port("s", 1, [4, 4])],
        [port("on", 9, []), port("u", 1, [4, 4]), port("row", 1, [])],
    )
    then = helper.make_graph(
        [helper.make_node("Mul", ["last", "m"], ["a"])], "then", [], [port("a", 1, [4, 4])]
    )
    orelse = helper.make_graph(
        [helper.make_node("Neg", ["last"], ["a2"])], "else", [], [port("a2", 1, [4, 4])]
    )
    nodes = [
        helper.make_node("Loop", ["trips", "", "x"], ["last", "rows"], body=body),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=then, else_branch=orelse),
        helper.make_node("NonZero", ["x"], ["where"]),
    ]
    weights = {
        "m": np.eye(4, dtype=np.float32) / 2,
        "trips": np.array(3, np.int64),
        "zero": np.array(0, np.float32),
    }
    outputs = [port("y", 1, [4, 4]), port("rows", 1, [3]), port("where", 7, [2, "n"])]
    return _model(nodes, [port("x", 1, [4, 4])], outputs, weights)


def _sequence() -> Any:
    """An LSTM, a gather, a resize, a cast to text-free integers: shapes are computed from data."""
    random_ = np.random.default_rng(2)
    weights = {
        "table": random_.standard_normal((7, 4)).astype(np.float32),
        "W": random_.standard_normal((1, 12, 4)).astype(np.float32),
        "R": random_.standard_normal((1, 12, 3)).astype(np.float32),
        "start": np.array([0], np.int64),
        "end": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("LSTM", ["e", "W", "R"], ["h", "last"], hidden_size=3),
        helper.make_node("Slice", ["h", "start", "end", "start"], ["part"]),
        helper.make_node("Shape", ["part"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Add", ["part", "zeros"], ["y"]),
    ]
    return _model(nodes, [port("ids", 7, [3, 1])], [port("y", 1, None)], weights)


def _packed() -> Any:
    """Weights of 16, 8, 4 and 2 bits, of odd sizes; an input and an output of bfloat16."""
    weights = {
        "four": np.arange(-7, 8).reshape(3, 5).astype(ml_dtypes.int4),
        "two": np.resize(np.arange(4), (3, 5)).astype(ml_dtypes.uint2),
        "float": np.linspace(-6, 6, 15).reshape(3, 5).astype(ml_dtypes.float8_e4m3fn),
        "small": np.linspace(-6, 6, 15).reshape(3, 5).astype(ml_dtypes.float4_e2m1fn),
        "scale": np.full((3, 2), 0.5, ml_dtypes.bfloat16),
    }
    nodes = [
        helper.make_node("DequantizeLinear", [name, "scale"], [f"d_{name}"], axis=1, block_size=3)
        for name in ("four", "two", "float", "small")
    ]
    nodes += [
        helper.make_node("Sum", ["x", "d_four", "d_two", "d_float", "d_small"], ["y"]),
        helper.make_node("QuantizeLinear", ["y", "scale"], ["q"], axis=1, block_size=3,
                         output_dtype=TensorProto.INT4),
    ]  # fmt: skip
    kind = TensorProto.BFLOAT16
    outputs = [port("y", kind, [3, 5]), port("q", TensorProto.INT4, [3, 5])]
    model = _model(nodes, [port("x", kind, [3, 5])], outputs, weights)
    model.opset_import[0].version, model.ir_version = 25, 13
    return model


def seeds(folder: Path) -> list[Seed]:
    """All seeds; artifacts are compiled in `folder`."""
    models = {
        "conv": _convolutions(),
        "control": _control(),
        "sequence": _sequence(),
        "packed": _packed(),
    }
    found = [Seed(f"{name}.onnx", model.SerializeToString()) for name, model in models.items()]
    path = folder / "external.onnx"
    onnx.save(models["conv"], path, save_as_external_data=True, location="w.bin", size_threshold=0)
    found.append(Seed(path.name, path.read_bytes(), {"w.bin": (folder / "w.bin").read_bytes()}))
    given = {"conv": {"x": (1, 3, 8, 8)}}
    for name, shapes in ((name, given.get(name)) for name in models):
        source = models[name].SerializeToString() if name != "conv" else found[0].main
        model = brim.load(source, shapes=shapes)
        path = folder / f"{name}.brim"
        model.save(path)
        code = open_artifact(path).code_digest
        found.append(Seed(path.name, path.read_bytes(), {}, code))
        text, data = print_graph(model.graph)
        arrays = io.BytesIO()
        np.savez(arrays, **{key: as_carrier(array) for key, array in data.items()})
        found.append(Seed(f"{name}.graph", text.encode(), {f"{name}.npz": arrays.getvalue()}))
    path = folder / "derived.brim"
    brim.compile(layer(28, 32, 48)).save(path)  # its weights are made when it is loaded
    artifact = open_artifact(path)
    assert any(name.endswith("/derived.txt") for name in artifact._members)
    found.append(Seed(path.name, path.read_bytes(), {}, artifact.code_digest))
    return found
