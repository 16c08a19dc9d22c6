"""Writes ONNX graphs layer by layer with seeded weights: the vocabulary that `bench.nets` speaks.

Operators are written the way torch exports them (opset 17, batch norm as its own node). No topology
is decided here and nothing is optimised: folding and fusing are the engines' work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8  # the one of opset 17: older peers still load the file

# Variance of f(z) for z ~ N(0, 1). Filters are centred and drawn with variance 1 / (fan_in *
# variance of the input), He's rule: every layer's output stays near unit variance at any depth.
SPREAD = {"Relu": 0.34, "Clip": 0.34, "HardSwish": 0.3, "Gelu": 0.35, "Swish": 0.31}


Kernel = int | tuple[int, int]
Stride = int | tuple[int, int]
Pad = int | tuple[int, int, int, int]


@dataclass(frozen=True)
class Tensor:
    """A value of the graph: its name, its channel count and the variance expected of it.

    `lifted`: its mean is positive, as behind a relu; its mean square is then about 1.5 variances.
    """

    name: str
    channels: int
    spread: float = 1.0
    lifted: bool = False


class Sketch:
    """A graph under construction; each method appends one layer and returns its output."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self._name = name
        self._random = np.random.default_rng(seed)
        self._nodes: list[NodeProto] = []
        self._weights: list[TensorProto] = []
        self._inputs: dict[str, Sequence[int]] = {}

    def input(self, name: str, shape: Sequence[int], channel_axis: int) -> Tensor:
        """Declares a float32 input; it is expected to be drawn from N(0, 1)."""
        self._inputs[name] = shape
        return Tensor(name, shape[channel_axis])

    def finish(self, output: Tensor, shape: Sequence[int]) -> ModelProto:
        """The model whose only output, called "output", is `output` of `shape`, float32."""
        return self.finish_all({"output": (output, shape)})

    def finish_all(self, outputs: Mapping[str, tuple[Tensor, Sequence[int]]]) -> ModelProto:
        """The model of the named float32 `outputs` with their shapes; nothing else reads them."""
        for name, (output, _) in outputs.items():
            (producer,) = (node for node in self._nodes if output.name in node.output)
            producer.output[:] = [name]
        real = TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info(n, real, s) for n, s in self._inputs.items()],
            [helper.make_tensor_value_info(n, real, s) for n, (_, s) in outputs.items()],
            self._weights,
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="brim.bench"
        )

    # --- pieces -------------------------------------------------------------------------------

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Appends one node and returns the name of its output."""
        name = f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name + "_out"], name, **attributes))
        return name + "_out"

    def constant(self, role: str, data: ArrayLike) -> str:
        name = f"{role}_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(data), name))
        return name

    def normal(self, role: str, shape: Sequence[int], deviation: float) -> str:
        data = self._random.standard_normal(shape, np.float32)
        return self.constant(role, data * np.float32(deviation))

    def filters(self, shape: Sequence[int], x: Tensor, terms: tuple[int, ...]) -> str:
        """Weights applied to `x`, centred over the axes `terms` that are summed (none: depthwise).

        The mean of positive activations is much the same for every input and would drown what
        depends on it: engines that compute the middle of a net wrongly would agree at its end.
        """
        data = self._random.standard_normal(shape, np.float32)
        if terms:
            data -= data.mean(axis=terms, keepdims=True)
            variance = math.prod(shape[axis] for axis in terms) * x.spread
        else:
            # Not centred, so the mean passes.
            variance = math.prod(shape[1:]) * x.spread * (1.5 if x.lifted else 1.0)
        return self.constant("weight", data * np.float32(1 / math.sqrt(variance)))

    def uniform(self, role: str, size: int) -> str:
        return self.constant(role, self._random.uniform(0.8, 1.2, size).astype(np.float32))

    def _activated(self, op: str, name: str, x: Tensor) -> Tensor:
        """Result `name` of activation `op` on `x`."""
        return Tensor(name, x.channels, SPREAD[op] * x.spread, lifted=True)

    # --- convolutional layers -----------------------------------------------------------------

    def conv(
        self,
        x: Tensor,
        channels: int,
        kernel: Kernel,
        stride: Stride = 1,
        pad: Pad | None = None,
        groups: int = 1,
        bias: bool = False,
    ) -> Tensor:
        """Convolution of NCHW; `pad` on all four sides, by default what keeps the size."""
        rows, columns = _pair(kernel)
        same = ((rows - 1) // 2, (columns - 1) // 2)
        shape = (channels, x.channels // groups, rows, columns)
        inputs = [self.filters(shape, x, (1, 2, 3) if shape[1] > 1 else ())]
        if bias:
            inputs.append(self.normal("bias", (channels,), 0.05))
        out = self.node(
            "Conv",
            x.name,
            *inputs,
            kernel_shape=(rows, columns),
            strides=_pair(stride),
            pads=same * 2 if pad is None else _sides(pad),
            dilations=(1, 1),
            group=groups,
        )
        return Tensor(out, channels)

    def conv_transpose(
        self, x: Tensor, channels: int, kernel: int, stride: int, pad: int = 0
    ) -> Tensor:
        weight = self.filters((x.channels, channels, kernel, kernel), x, (0,))
        out = self.node(
            "ConvTranspose",
            x.name,
            weight,
            self.normal("bias", (channels,), 0.05),
            kernel_shape=(kernel, kernel),
            strides=(stride, stride),
            pads=(pad,) * 4,
            dilations=(1, 1),
            group=1,
        )
        return Tensor(out, channels)

    def batch_norm(self, x: Tensor) -> Tensor:
        scale, shift = self.uniform("scale", x.channels), self.normal("shift", (x.channels,), 0.1)
        mean = self.normal("running_mean", (x.channels,), 0.1)
        variance = self.uniform("running_var", x.channels)
        out = self.node("BatchNormalization", x.name, scale, shift, mean, variance, epsilon=1e-5)
        return Tensor(out, x.channels)

    def relu(self, x: Tensor) -> Tensor:
        return self._activated("Relu", self.node("Relu", x.name), x)

    def relu6(self, x: Tensor) -> Tensor:
        low = self.constant("low", np.float32(0))
        high = self.constant("high", np.float32(6))
        return self._activated("Clip", self.node("Clip", x.name, low, high), x)

    def hard_swish(self, x: Tensor) -> Tensor:
        return self._activated("HardSwish", self.node("HardSwish", x.name), x)

    def sigmoid(self, x: Tensor) -> Tensor:
        return Tensor(self.node("Sigmoid", x.name), x.channels, 0.04 * x.spread)

    def swish(self, x: Tensor) -> Tensor:
        gate = self.sigmoid(x)
        return self._activated("Swish", self.node("Mul", x.name, gate.name), x)

    def squeeze_excite(self, x: Tensor, squeezed: int, slope: float = 1 / 6) -> Tensor:
        """Channel attention: global mean, two 1x1 convolutions, hard sigmoid, product."""
        small = self.conv(self.global_average(x), squeezed, 1, bias=True)
        gate = self.conv(self.relu(small), x.channels, 1, bias=True)
        gate_name = self.node("HardSigmoid", gate.name, alpha=slope, beta=0.5)
        return replace(x, name=self.node("Mul", gate_name, x.name), spread=0.25 * x.spread)

    def max_pool(
        self, x: Tensor, kernel: int, stride: int, pad: Pad = 0, ceil: bool = False
    ) -> Tensor:
        out = self.node(
            "MaxPool",
            x.name,
            kernel_shape=(kernel, kernel),
            strides=(stride, stride),
            pads=_sides(pad),
            ceil_mode=int(ceil),
        )
        return replace(x, name=out)

    def average_pool(self, x: Tensor, kernel: Kernel, stride: Stride, pad: int) -> Tensor:
        """Mean of windows that counts the zeros of the padding, as torch does."""
        out = self.node(
            "AveragePool",
            x.name,
            kernel_shape=_pair(kernel),
            strides=_pair(stride),
            pads=_sides(pad),
            count_include_pad=1,
        )
        return Tensor(out, x.channels, 0.5 * x.spread)

    def global_average(self, x: Tensor) -> Tensor:
        return Tensor(self.node("GlobalAveragePool", x.name), x.channels, 0.5 * x.spread)

    def resize(self, x: Tensor, factor: int) -> Tensor:
        """Each pixel of NCHW repeated `factor` times in both directions."""
        factors = self.constant("factors", np.array([1, 1, factor, factor], np.float32))
        where = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return replace(x, name=self.node("Resize", x.name, "", factors, mode="nearest", **where))

    def pad_channels(self, x: Tensor, channels: int) -> Tensor:
        """Zeros behind the channels of NCHW, up to `channels`."""
        ends = np.array([0, 0, 0, 0, 0, channels - x.channels, 0, 0], np.int64)
        zero = self.constant("zero", np.float32(0))
        out = self.node("Pad", x.name, self.constant("pads", ends), zero, mode="constant")
        return replace(x, name=out, channels=channels)

    def concat(self, *parts: Tensor) -> Tensor:
        """Joins along the channels of NCHW."""
        channels = sum(part.channels for part in parts)
        spread = sum(part.spread * part.channels for part in parts) / channels
        return Tensor(self.node("Concat", *(p.name for p in parts), axis=1), channels, spread)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return Tensor(self.node("Add", x.name, y.name), x.channels, x.spread + y.spread)

    def add_relu(self, x: Tensor, y: Tensor) -> Tensor:
        """Relu of a sum with a positive shortcut; it cuts off less than of a centred value."""
        both = self.add(x, y)
        return Tensor(self.node("Relu", both.name), both.channels, 0.5 * both.spread, lifted=True)

    def flatten(self, x: Tensor) -> Tensor:
        return Tensor(self.node("Flatten", x.name, axis=1), x.channels, x.spread)

    def gemm(self, x: Tensor, channels: int) -> Tensor:
        """Fully connected layer of a matrix: x[n, c] -> [n, channels]."""
        weight = self.filters((channels, x.channels), x, (1,))
        bias = self.normal("bias", (channels,), 0.05)
        return Tensor(self.node("Gemm", x.name, weight, bias, transB=1), channels)

    # --- sequence layers (batch x position x channel) -----------------------------------------

    def linear(self, x: Tensor, channels: int) -> Tensor:
        """Fully connected layer of a rank-3 tensor: torch writes it MatMul, then Add."""
        weight = self.filters((x.channels, channels), x, (0,))
        bias = self.normal("bias", (channels,), 0.05)
        out = self.node("Add", bias, self.node("MatMul", x.name, weight))
        return Tensor(out, channels)

    def layer_norm(self, x: Tensor) -> Tensor:
        scale, shift = self.uniform("scale", x.channels), self.normal("shift", (x.channels,), 0.1)
        out = self.node("LayerNormalization", x.name, scale, shift, axis=-1, epsilon=1e-5)
        return Tensor(out, x.channels)

    def gelu(self, x: Tensor) -> Tensor:
        """x (1 + erf(x / sqrt 2)) / 2, the five nodes that torch exports."""
        scaled = self.node("Div", x.name, self.constant("root2", np.float32(math.sqrt(2))))
        erf = self.node("Erf", scaled)
        gate = self.node("Add", erf, self.constant("one", np.float32(1)))
        product = self.node("Mul", x.name, gate)
        out = self.node("Mul", product, self.constant("half", np.float32(0.5)))
        return self._activated("Gelu", out, x)

    def transpose(self, x: Tensor, order: Sequence[int]) -> Tensor:
        return replace(x, name=self.node("Transpose", x.name, perm=order))

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """`x` of another shape and the same number of channels."""
        constant = self.constant("shape", np.array(shape, np.int64))
        return replace(x, name=self.node("Reshape", x.name, constant))

    def softmax(self, x: Tensor) -> Tensor:
        return Tensor(self.node("Softmax", x.name, axis=-1), x.channels)

    def attention(self, x: Tensor, heads: int, batch: int, positions: int) -> Tensor:
        """Self-attention with its output projection, written out node by node as torch does."""
        width = x.channels // heads

        def split(role: Tensor, order: tuple[int, ...]) -> str:
            return self.transpose(self.reshape(role, (batch, positions, heads, width)), order).name

        query = split(self.linear(x, x.channels), (0, 2, 1, 3))
        key = split(self.linear(x, x.channels), (0, 2, 3, 1))
        value = split(self.linear(x, x.channels), (0, 2, 1, 3))
        root = self.constant("root_width", np.float32(math.sqrt(width)))
        scores = self.node("Div", self.node("MatMul", query, key), root)
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), value)
        merged = self.transpose(Tensor(mixed, x.channels), (0, 2, 1, 3))
        # The mixture of unrelated tokens is small. It is not scaled up: being alike at every
        # position, it would drown what tells the positions apart.
        return self.linear(self.reshape(merged, (batch, positions, x.channels)), x.channels)


def _pair(extent: int | tuple[int, int]) -> tuple[int, int]:
    return (extent, extent) if isinstance(extent, int) else extent


def _sides(pad: Pad) -> tuple[int, int, int, int]:
    return (pad,) * 4 if isinstance(pad, int) else pad
