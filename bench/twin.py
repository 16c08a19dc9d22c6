"""Networks of brim as ONNX files, for quantizers that read nothing else.

`twin` takes the graph that a front end or a builder makes, before any pass, and writes the
operators of picture networks as an exporter would: images are [N, C, H, W], activations and biases
are nodes of their own. Only what the networks of `bench.fidelity` hold is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from brim.graph import Graph, Value

OPSET = 17
IR_VERSION = 8
TO_IMAGE, FROM_IMAGE = (0, 3, 1, 2), (0, 2, 3, 1)


def twin(graph: Graph) -> ModelProto:
    """The same network in ONNX: inputs and outputs have the shapes and names that they have here.

    Raises NotImplementedError for an operator that is not known.
    """
    return _Writer(graph).model()


class _Writer:
    """One file: its nodes, and the name of each value that is written. Images lie channels-first;
    `plain` names those that are there as brim has them, too."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Any] = []
        self.weights: list[TensorProto] = []
        self.names: dict[int, str] = {}
        self.plain: dict[int, str] = {}
        self.skipped = _joined(graph)

    def model(self) -> ModelProto:
        for name, value in self.graph.inputs.items():
            self._lay(value, name)
        for value in self.graph.values():
            if value.op is not None and id(value) not in self.skipped:
                writer = _WRITERS.get(value.op.name)
                if writer is None:
                    raise NotImplementedError(f"{value.op.name} of {value.where}")
                writer(self, value)
        for name, value in self.graph.outputs.items():
            self.nodes.append(helper.make_node("Identity", [self.laid(value)], [name]))
        ports = [
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in group.items()]
            for group in (self.graph.inputs, self.graph.outputs)
        ]
        made = helper.make_graph(self.nodes, self.graph.name, *ports, self.weights)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION)

    # ---------------------------------------------------------- names

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name + "_out"], name, **attributes))
        return name + "_out"

    def constant(self, data: np.ndarray) -> str:
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(data), name))
        return name

    def write(self, value: Value, op: str, *inputs: str, **attributes: Any) -> None:
        self.names[id(value)] = self.node(op, *inputs, **attributes)

    def image(self, value: Value, like: Value | None = None) -> str:
        """The name of `value`, an image channels-first; of a constant, one that broadcasts to
        `like`."""
        if value.data is not None:
            data = value.data
            if like is not None and like.type.rank == 4 and data.ndim:
                data = data.reshape((1,) * (4 - data.ndim) + data.shape).transpose(TO_IMAGE)
            return self.constant(data)
        return self.names[id(value)]

    def laid(self, value: Value) -> str:
        """The name of `value` as brim has it."""
        if value.type.rank != 4:
            return self.names[id(value)]
        if id(value) not in self.plain:
            name = self.node("Transpose", self.names[id(value)], perm=FROM_IMAGE)
            self.plain[id(value)] = name
        return self.plain[id(value)]

    def _lay(self, value: Value, name: str) -> None:
        """Makes `name`, as brim has it, the content of `value`."""
        if value.type.rank == 4:
            self.plain[id(value)] = name
            name = self.node("Transpose", name, perm=TO_IMAGE)
        self.names[id(value)] = name

    # ---------------------------------------------------------- operators

    def elementwise(self, op: str) -> Callable[[Value], None]:
        def write(value: Value) -> None:
            self.write(value, op, *(self.image(arg, value) for arg in value.args))

        return write

    def conv(self, value: Value, op: str = "Conv") -> None:
        x, w = value.args
        order = (3, 2, 0, 1) if op == "Conv" else (2, 3, 0, 1)
        if op == "ConvTranspose" and value.attrs["groups"] != 1:
            raise NotImplementedError("grouped transposed convolution")
        assert w.data is not None
        self.write(
            value,
            op,
            self.names[id(x)],
            self.constant(w.data.transpose(order)),
            kernel_shape=w.shape[:2],
            group=value.attrs["groups"],
            **_windows(value),
        )

    def pool(self, value: Value, op: str) -> None:
        x = self.names[id(value.args[0])]
        if op == "AveragePool" and value.attrs["size"] == value.args[0].shape[1:3]:
            self.write(value, "GlobalAveragePool", x)
        else:
            self.write(value, op, x, kernel_shape=value.attrs["size"], **_windows(value))

    def clip(self, value: Value) -> None:
        """min(max(x, low), high), either of them, or relu."""
        x, bounds = _bounds(value)
        low, high = bounds
        name = self.image(x)
        if bounds == (0.0, np.inf):
            self.write(value, "Relu", name)
        else:
            ends = [self.constant(np.float32(n)) if np.isfinite(n) else "" for n in (low, high)]
            self.write(value, "Clip", name, *ends)

    def resize(self, value: Value) -> None:
        """A bilinear resampling of rows, then columns, by half pixels."""
        rows = value.args[0]
        x = rows.args[0]
        for part in (rows, value):
            index, weight = (arg.data for arg in part.args[1:])
            axis = part.attrs["axis"]
            wanted = _half_pixels(part.args[0].shape[axis], part.shape[axis])
            found = np.zeros_like(wanted)
            np.add.at(found, (np.arange(len(index))[:, None], index), weight)
            if not np.allclose(found, wanted, atol=1e-6):
                raise NotImplementedError("resampling that is not bilinear by half pixels")
        sizes = (1, x.shape[3], *value.shape[1:3])
        ends = "", "", self.constant(np.array(sizes, np.int64))
        self.write(value, "Resize", self.names[id(x)], *ends, mode="linear")

    def batch_norm(self, value: Value) -> None:
        x, *parts = value.args
        names = (self.constant(part.data) for part in parts)  # type: ignore[arg-type]
        epsilon = value.attrs["epsilon"]
        self.write(value, "BatchNormalization", self.names[id(x)], *names, epsilon=epsilon)

    def pad(self, value: Value) -> None:
        ends = [(*(value.attrs[side][i] for i in TO_IMAGE),) for side in ("low", "high")]
        pads = self.constant(np.array([*ends[0], *ends[1]], np.int64))
        fill = self.constant(np.float32(value.attrs["value"]))
        self.write(value, "Pad", self.names[id(value.args[0])], pads, fill)

    def reshape(self, value: Value) -> None:
        x, shape = self.laid(value.args[0]), self.constant(np.array(value.shape, np.int64))
        self._lay(value, self.node("Reshape", x, shape))

    def transpose(self, value: Value) -> None:
        self._lay(value, self.node("Transpose", self.laid(value.args[0]), perm=value.attrs["perm"]))

    def concat(self, value: Value) -> None:
        axis = value.attrs["axis"]
        axis = TO_IMAGE.index(axis) if value.type.rank == 4 else axis
        self.write(value, "Concat", *(self.names[id(arg)] for arg in value.args), axis=axis)

    def total(self, value: Value) -> None:
        """Sums over pixels."""
        if value.attrs != {"op": "add", "axes": (1, 2)} or value.type.rank != 4:
            raise NotImplementedError(f"reduce {dict(value.attrs)}")
        axes = self.constant(np.array([2, 3], np.int64))
        self.write(value, "ReduceSum", self.names[id(value.args[0])], axes)

    def matmul(self, value: Value) -> None:
        if value.attrs["spec"] != "mk,kn->mn":
            raise NotImplementedError(f"contract {value.attrs['spec']}")
        self.write(value, "MatMul", *(self.image(arg) for arg in value.args))


def _windows(value: Value) -> dict[str, Any]:
    """Attributes that windows have in common."""
    attrs = value.attrs
    return {
        "strides": attrs["stride"],
        "dilations": attrs["dilation"],
        "pads": (*attrs["low"], *attrs["high"]),
    }


def _bounds(value: Value) -> tuple[Value, tuple[float, float]]:
    """What is limited, and to what."""
    low, high = -np.inf, np.inf
    x = value
    if x.op.name == "minimum":  # type: ignore[union-attr]
        high, x = float(x.args[1].data), x.args[0]  # type: ignore[arg-type]
        if x.op is None or x.op.name != "maximum":
            return x, (low, high)
    if x.op.name == "relu":  # type: ignore[union-attr]
        return x.args[0], (0.0, high)
    return x.args[0], (float(x.args[1].data), high)  # type: ignore[arg-type]


def _joined(graph: Graph) -> set[int]:
    """ids of values that are written with what follows: lower bounds, and rows of a resize."""
    found = set()
    for value in graph.values():
        if value.op is None or not value.args:
            continue
        first = value.args[0]
        pair = (first.op.name if first.op else "", value.op.name)
        if pair in (("maximum", "minimum"), ("resample", "resample")):
            found.add(id(first))
    return found


def _half_pixels(size: int, wanted: int) -> np.ndarray:
    """f32[wanted, size]: the weights of a bilinear resampling, as if pixels were squares."""
    at = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    first = np.minimum(at.astype(int), size - 1)
    weights = np.zeros((wanted, size), np.float32)
    rows = np.arange(wanted)
    weights[rows, first] += 1 - (at - first)
    weights[rows, np.minimum(first + 1, size - 1)] += at - first
    return weights


_WRITERS: dict[str, Callable[[_Writer, Value], None]] = {
    "add": lambda w, v: w.elementwise("Add")(v),
    "mul": lambda w, v: w.elementwise("Mul")(v),
    "div": lambda w, v: w.elementwise("Div")(v),
    "prelu": lambda w, v: w.elementwise("PRelu")(v),
    "hard_swish": lambda w, v: w.elementwise("HardSwish")(v),
    "sigmoid": lambda w, v: w.elementwise("Sigmoid")(v),
    "conv": _Writer.conv,
    "conv_transpose": lambda w, v: w.conv(v, "ConvTranspose"),
    "max_pool": lambda w, v: w.pool(v, "MaxPool"),
    "average_pool": lambda w, v: w.pool(v, "AveragePool"),
    "relu": _Writer.clip,
    "maximum": _Writer.clip,
    "minimum": _Writer.clip,
    "resample": _Writer.resize,
    "batch_norm": _Writer.batch_norm,
    "pad": _Writer.pad,
    "reshape": _Writer.reshape,
    "transpose": _Writer.transpose,
    "concat": _Writer.concat,
    "reduce": _Writer.total,
    "contract": _Writer.matmul,
}
