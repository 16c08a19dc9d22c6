"""Layers with named weights, for new heads and for networks that are written in Python.

    layers = Layers(seed=0)
    x = layers.input("x", (32, 28, 28, 1))
    y = relu(layers.batch_norm(layers.conv(x, "first", 16, size=3), "norm"))
    y = layers.dense(flat(y), "last", 10)
    net = layers.network(y)

What has no weights are the functions of `brim.ops`. Pictures are channels-last. Names and layouts
in files are PyTorch's: "first.weight" is [O, I, H, W] there.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from brim.errors import InputError
from brim.graph import Graph, Value, placeholder, topo
from brim.ops import primitive as p
from brim.ops.math import matmul, reduce_mean
from brim.ops.nn import batch_norm, conv, layer_norm
from brim.train.network import Network
from brim.train.weights import Source
from brim.types import F32, Type


@dataclass(eq=False)
class Layers:
    """The weights of layers while a network is written. seed: of their first contents.

    A weight's content follows from seed, name and shape, whatever else the network has.
    """

    seed: int = 0
    inputs: dict[str, Value] = field(default_factory=dict)
    weights: dict[str, Value] = field(default_factory=dict)
    contents: dict[str, np.ndarray] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)

    def input(self, name: str, shape: tuple[int, ...]) -> Value:
        """An input for data, f32, samples first."""
        self.inputs[name] = placeholder(Type(shape, F32), name)
        return self.inputs[name]

    def weight(self, name: str, content: np.ndarray, source: Source | None = None) -> Value:
        """A weight that begins as `content`. source: how files hold it; None: just so.

        Raises InputError for a name that is taken.
        """
        if name in self.weights:
            raise InputError(f"two weights are named {name!r}", hint="name each layer once")
        array = np.array(content, np.float32)
        array.flags.writeable = False
        self.weights[name] = placeholder(Type(array.shape, F32), name)
        self.contents[name], self.sources[name] = array, source or Source(array.shape)
        return self.weights[name]

    def normal(self, name: str, shape: tuple[int, ...], inputs: int) -> np.ndarray:
        """Normal numbers for a layer whose sums have so many terms, before a ReLU: variance
        2 / inputs (He 2015, arXiv:1502.01852)."""
        # the legacy generator: its numbers never change
        random = np.random.RandomState([self.seed, zlib.crc32(name.encode())])
        return random.standard_normal(shape) * math.sqrt(2 / inputs)

    def dense(self, x: Value, name: str, outputs: int, *, bias: bool = True) -> Value:
        """A fully connected layer along the last axis of x[..., C]; result [..., outputs]."""
        inputs = x.shape[-1]
        content = self.normal(f"{name}.weight", (inputs, outputs), inputs)
        source = Source((outputs, inputs), (("transpose", (1, 0)),))
        y = matmul(x, self.weight(f"{name}.weight", content, source))
        return self._biased(y, name) if bias else y

    def conv(
        self,
        x: Value,
        name: str,
        outputs: int,
        *,
        size: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> Value:
        """A convolution of x[N, H, W, C] with zeros around, so that stride 1 keeps the size."""
        shape = (size, size, x.shape[-1] // groups, outputs)
        content = self.normal(f"{name}.weight", shape, math.prod(shape[:3]))
        source = Source((outputs, shape[2], size, size), (("transpose", (2, 3, 1, 0)),))
        w, low, high = self.weight(f"{name}.weight", content, source), (size - 1) // 2, size // 2
        y = conv(
            x, w, stride=(stride, stride), dilation=(1, 1), low=(low, low), high=(high, high),
            groups=groups,
        )  # fmt: skip
        return self._biased(y, name) if bias else y

    def _biased(self, y: Value, name: str) -> Value:
        return p.add(y, self.weight(f"{name}.bias", np.zeros(y.shape[-1])))

    def batch_norm(self, x: Value, name: str, *, epsilon: float = 1e-5) -> Value:
        """A norm of each channel of x[..., C]: by running statistics, in training the batch's."""
        ones, zeros = np.ones(x.shape[-1]), np.zeros(x.shape[-1])
        parts = {"weight": ones, "bias": zeros, "running_mean": zeros, "running_var": ones}
        made = [self.weight(f"{name}.{part}", array) for part, array in parts.items()]
        return batch_norm(x, *made, epsilon=epsilon)

    def layer_norm(self, x: Value, name: str, *, epsilon: float = 1e-5) -> Value:
        """A norm along the last axis of x[..., C]."""
        scale = self.weight(f"{name}.weight", np.ones(x.shape[-1]))
        shift = self.weight(f"{name}.bias", np.zeros(x.shape[-1]))
        return layer_norm(x, scale, shift, axes=(x.type.rank - 1,), epsilon=epsilon)

    def embedding(self, index: Value, name: str, count: int, width: int) -> Value:
        """Row index[...] of a table of `count` rows; result [..., width]."""
        content = self.normal(f"{name}.weight", (count, width), 2)  # of variance 1, as PyTorch's
        return p.gather(self.weight(f"{name}.weight", content), index, axis=0)

    def network(self, outputs: Value | Mapping[str, Value], name: str = "network") -> Network:
        """The network of what was written. outputs: one, named "y", or several by name."""
        results = {"y": outputs} if isinstance(outputs, Value) else dict(outputs)
        read = {id(value) for value in topo(results.values())}
        used = {n: value for n, value in self.weights.items() if id(value) in read}
        graph = Graph({**self.inputs, **used}, results, name)
        contents = {n: self.contents[n] for n in used}
        sources = {n: self.sources[n] for n in used}
        return Network(graph, MappingProxyType(contents), MappingProxyType(sources))


def flat(x: Value) -> Value:
    """x[N, ...] as [N, C], in the order that the graph has: of pictures, channels last."""
    return p.reshape(x, shape=(x.shape[0], math.prod(x.shape[1:])))


def averaged(x: Value) -> Value:
    """The mean of each channel of x[N, ..., C], as [N, C]."""
    mean = reduce_mean(x, axes=tuple(range(1, x.type.rank - 1)))
    return p.reshape(mean, shape=(x.shape[0], x.shape[-1]))
