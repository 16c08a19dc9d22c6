"""Nodes of ONNX operator sets 1 to 7 with what they give, written down from the text of those sets.

Data only: `tests/pure/test_onnx_old.py` holds brim against it, `tests/extra/test_onnx_old.py`
holds it against ONNX's converter of versions and onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from tests.onnx_models import model, node


@dataclass(frozen=True)
class Old:
    """One node. weights: inputs whose contents are in the model."""

    op: str
    opset: int
    inputs: tuple[np.ndarray, ...]
    expect: Callable[..., np.ndarray]
    attributes: dict[str, Any] = field(default_factory=dict)
    weights: tuple[np.ndarray, ...] = ()
    outputs: int = 1

    @property
    def name(self) -> str:
        given = "-".join(f"{k}={v}" for k, v in self.attributes.items() if k != "consumed_inputs")
        shapes = "-".join("x".join(map(str, a.shape)) for a in (*self.inputs, *self.weights))
        return f"{self.op}{self.opset}-{shapes}-{given}".replace(" ", "")

    def model(self) -> ModelProto:
        named = [f"x{i}" for i in range(len(self.inputs))]
        weights = {f"w{i}": w for i, w in enumerate(self.weights)}
        results = [f"y{i}" for i in range(self.outputs)]
        made = node(self.op, " ".join((*named, *weights)), " ".join(results), **self.attributes)
        wanted = self.wanted()
        kind = helper.np_dtype_to_tensor_dtype
        proto = model(
            [made],
            [(n, kind(a.dtype), a.shape) for n, a in zip(named, self.inputs)],
            [(n, kind(a.dtype), a.shape) for n, a in zip(results, wanted)],
            opset=self.opset,
        )
        for name, weight in weights.items():  # before IR version 4 each is an input, too
            info = helper.make_tensor_value_info(name, kind(weight.dtype), weight.shape)
            proto.graph.input.append(info)
            proto.graph.initializer.append(numpy_helper.from_array(weight, name))
        proto.ir_version = 3
        return proto

    def feeds(self) -> dict[str, np.ndarray]:
        return {f"x{i}": np.asarray(x) for i, x in enumerate(self.inputs)}

    def wanted(self) -> list[np.ndarray]:
        found = self.expect(*self.inputs, *self.weights)
        return list(found) if isinstance(found, tuple) else [found]


def _numbers(*shape: int, low: float = -2, high: float = 2) -> np.ndarray:
    random = np.random.default_rng(len(shape) * 31 + sum(shape))
    return random.uniform(low, high, shape).astype(np.float32)


A, B = _numbers(2, 3, 4, 5), _numbers(3, 4)
POSITIVE = _numbers(2, 3, low=0.5)
PICTURE = _numbers(1, 3, 4, 6)
USED: dict[str, Any] = {"consumed_inputs": [0]}


def _simple() -> list[Old]:
    functions: dict[str, Callable[..., np.ndarray]] = {
        "Abs": np.abs, "Ceil": np.ceil, "Exp": np.exp, "Floor": np.floor, "Neg": np.negative,
        "Relu": lambda x: np.maximum(x, 0), "Tanh": np.tanh, "Sqrt": np.sqrt, "Log": np.log,
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Reciprocal": lambda x: 1 / x,
        "Elu": lambda x: np.where(x < 0, np.expm1(x), x),
        "LeakyRelu": lambda x: np.where(x < 0, np.float32(0.01) * x, x),
        "HardSigmoid": lambda x: np.clip(np.float32(0.2) * x + np.float32(0.5), 0, 1),
        "Selu": lambda x: np.float32(1.0507) * np.where(x < 0, np.float32(1.6732) * np.expm1(x), x),
    }  # fmt: skip
    positive = ("Sqrt", "Log", "Reciprocal")
    rows = [
        Old(op, 1, (POSITIVE if op in positive else _numbers(3, 7),), function, USED)
        for op, function in functions.items()
    ]
    several: dict[str, Callable[..., np.ndarray]] = {
        "Sum": lambda *x: np.sum(x, 0), "Mean": lambda *x: np.mean(x, 0),
        "Max": lambda *x: np.max(x, 0), "Min": lambda *x: np.min(x, 0),
    }  # fmt: skip
    for op, function in several.items():
        rows.append(Old(op, 1, (B, B[::-1].copy(), -B), function, {"consumed_inputs": [0, 0, 0]}))
    return rows


def _broadcasts() -> list[Old]:
    numbers: dict[str, Callable[..., np.ndarray]] = {
        "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide,
    }  # fmt: skip
    rows = []
    for op, function in numbers.items():
        for opset in (1, 6):
            used = {"consumed_inputs": [0, 0]} if opset == 1 else {}
            rows.append(Old(op, opset, (B, B + 3), function, dict(used)))
            middle = {"broadcast": 1, "axis": 1, **used}
            rows.append(
                Old(op, opset, (A, B + 3), lambda a, b, f=function: f(a, b[..., None]), middle)
            )
    last = {"broadcast": 1}
    rows += [
        Old("Add", 6, (A, _numbers(4, 5)), np.add, last),
        Old("Add", 6, (A, _numbers(2)), lambda a, b: a + b.reshape(2, 1, 1, 1), last | {"axis": 0}),
        Old("Add", 6, (A, _numbers(1, 1)), lambda a, b: a + b.reshape(()), last),
        Old("Add", 6, (A, np.float32(3)), np.add, last),
        Old("Mul", 6, (A, _numbers(3)), lambda a, b: a * b.reshape(3, 1, 1), last | {"axis": -3}),
        Old("Pow", 1, (POSITIVE, _numbers(3)), np.power, last),
        Old("Pow", 1, (POSITIVE, np.float32([2])), lambda a, b: a ** b[0], last),
    ]
    compare: dict[str, Callable[..., np.ndarray]] = {"Greater": np.greater, "Less": np.less}
    for op, function in compare.items():
        part = A[0, :, :, 0].copy()
        axis = last | {"axis": 1}
        rows.append(Old(op, 1, (A, part), lambda a, b, f=function: f(a, b[..., None]), axis))
    bits = A > 0
    logical: dict[str, Callable[..., np.ndarray]] = {
        "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
    }  # fmt: skip
    for op, function in logical.items():
        rows.append(Old(op, 1, (bits, bits[1, 2].copy()), function, dict(last)))
    whole = A.astype(np.int32)
    rows.append(Old("Equal", 1, (whole, whole[0, 0].copy()), np.equal, dict(last)))
    return rows


def _norm(x: np.ndarray, s: np.ndarray, b: np.ndarray, m: np.ndarray, v: np.ndarray) -> np.ndarray:
    s, b, m, v = (part.reshape(-1, 1, 1) for part in (s, b, m, v))
    return (x - m) / np.sqrt(v + np.float32(1e-5)) * s + b


def _every_element(
    x: np.ndarray, s: np.ndarray, b: np.ndarray, m: np.ndarray, v: np.ndarray
) -> np.ndarray:
    return (x - m) / np.sqrt(v + np.float32(1e-5)) * s + b


def _instances(x: np.ndarray, s: np.ndarray, b: np.ndarray) -> np.ndarray:
    mean, var = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    return (x - mean) / np.sqrt(var + np.float32(1e-5)) * s.reshape(-1, 1, 1) + b.reshape(-1, 1, 1)


_CHANNELS = tuple(_numbers(n, low=0.5)[:3].copy() for n in (3, 4, 5, 6))
_CORNERS = ((0, 0), (0, 0), (1, 0), (2, 1))

CASES: tuple[Old, ...] = (
    *_simple(),
    *_broadcasts(),
    Old("Clip", 1, (B,), lambda x: np.clip(x, -1, 0.5), {"min": -1.0, "max": 0.5} | USED),
    Old("Clip", 1, (B,), lambda x: np.maximum(x, 0), {"min": 0.0}),
    Old("Clip", 6, (B,), lambda x: np.minimum(x, 0.5), {"max": 0.5}),
    Old("PRelu", 1, (PICTURE,), lambda x, s: np.where(x < 0, s.reshape(3, 1, 1) * x, x), USED,
        (_numbers(3),)),
    Old("PRelu", 6, (PICTURE,), lambda x, s: np.where(x < 0, s * x, x), {}, (_numbers(1),)),
    Old("Gemm", 1, (_numbers(2, 3),), lambda x, w, c: 2 * x @ w.T + np.float32(0.5) * c,
        {"broadcast": 1, "transB": 1, "alpha": 2.0, "beta": 0.5}, (_numbers(5, 3), _numbers(5))),
    Old("Gemm", 6, (_numbers(2, 3),), lambda x, w, c: x @ w + c, {},
        (_numbers(3, 5), _numbers(2, 5))),
    Old("BatchNormalization", 1, (PICTURE,), _norm, {"is_test": 1, "consumed_inputs": [0] * 5},
        _CHANNELS),
    Old("BatchNormalization", 6, (PICTURE,), _norm, {"is_test": 1}, _CHANNELS),
    *(
        Old("BatchNormalization", opset, (PICTURE,), _every_element,
            {"spatial": 0} | ({"is_test": 1} if opset == 6 else {}),
            tuple(_numbers(3, 4, 6, low=low) for low in (-1, -2, -0.5, 0.25)))
        for opset in (6, 7)
    ),
    Old("InstanceNormalization", 1, (PICTURE,), _instances, {"consumed_inputs": [0, 0, 0]},
        _CHANNELS[:2]),
    Old("Dropout", 1, (B,), lambda x: x, {"is_test": 1, "ratio": 0.7} | USED),
    Old("Dropout", 6, (B,), lambda x: x, {"is_test": 1}),
    Old("Cast", 1, (B,), lambda x: x.astype(np.int64), {"to": "INT64"}),
    Old("Cast", 1, (B,), lambda x: x.astype(np.float64), {"to": "DOUBLE"}),
    Old("Cast", 6, (B,), lambda x: x.astype(np.int32), {"to": 6}),
    Old("Concat", 1, (B, B), lambda *x: np.concatenate(x, 1)),
    Old("Concat", 3, (B, B), lambda *x: np.concatenate(x, 0), {"axis": 0}),
    Old("Pad", 1, (PICTURE,), lambda x: np.pad(x, _CORNERS, constant_values=1.5),
        {"paddings": [0, 0, 1, 2, 0, 0, 0, 1], "value": 1.5}),
    Old("Pad", 1, (PICTURE,), lambda x: np.pad(x, _CORNERS, "reflect"),
        {"paddings": [0, 0, 1, 2, 0, 0, 0, 1], "mode": "reflect"}),
    Old("Pad", 2, (PICTURE,), lambda x: np.pad(x, _CORNERS, "edge"),
        {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "mode": "edge"}),
    Old("Reshape", 1, (A,), lambda x: x.reshape(2, 12, 5), {"shape": [0, -1, 5]} | USED),
    Old("Reshape", 5, (A,), lambda x, s: x.reshape(2, 60), {}, (np.array([0, -1]),)),
    Old("Split", 1, (A,), lambda x: (x[..., :2], x[..., 2:]), {"axis": 3, "split": [2, 3]}, (), 2),
    Old("Split", 2, (A,), lambda x: (x[:1], x[1:]), {}, (), 2),
    Old("Tile", 1, (B,), lambda x, n, axis: np.tile(x, (1, 3)), {},
        (np.float32([3]), np.float32([1]))),
    Old("Tile", 6, (B,), lambda x, n: np.tile(x, (2, 3)), {}, (np.array([2, 3]),)),
    Old("Upsample", 1, (PICTURE,), lambda x: x.repeat(2, 2).repeat(3, 3),
        {"height_scale": 2.0, "width_scale": 3.0, "mode": "nearest"}),
    Old("GlobalLpPool", 1, (PICTURE,),
        lambda x: (np.abs(x) ** 3).sum((2, 3), keepdims=True) ** (1 / 3), {"p": 3.0}),
    Old("AveragePool", 1, (PICTURE,),
        lambda x: x.reshape(1, 3, 2, 2, 3, 2).mean((3, 5)),
        {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Old("Softmax", 1, (A,), lambda x: np.exp(x) / np.exp(x).sum((1, 2, 3), keepdims=True)),
)  # fmt: skip
