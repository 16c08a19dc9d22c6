"""EfficientNet-Lite0 as a graph, from the weights that its PyTorch port names.

The architecture is EfficientNet-B0's (https://arxiv.org/abs/1905.11946) without squeeze-and-excite
and with ReLU6, as Google published it for mobile processors: inverted residual blocks
(https://arxiv.org/abs/1801.04381) with "same" padding, which puts the odd row below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from brim.errors import ModelError
from brim.graph import Graph, Value, const, placeholder
from brim.ops import math, nn
from brim.ops import primitive as p
from brim.types import F32, Type

SIDE = 224  # pixels of the input
EPSILON = 1e-3  # of the batch normalisations


@dataclass(frozen=True)
class Stage:
    """Blocks in a row; the first takes the step. expand: how much wider a block is inside."""

    blocks: int
    kernel: int
    step: int
    expand: int


STAGES = (
    Stage(1, 3, 1, 1),
    Stage(2, 3, 2, 6),
    Stage(2, 5, 2, 6),
    Stage(3, 3, 2, 6),
    Stage(3, 5, 1, 6),
    Stage(4, 5, 2, 6),
    Stage(1, 3, 1, 6),
)


def efficientnet_lite0(weights: Mapping[str, np.ndarray], batch: int = 1) -> Graph:
    """Input x: f32[batch,224,224,3], RGB, (value - 127) / 128. Outputs: logits f32[batch,1000],
    embedding f32[batch,1280], the means of the last layer's channels. Raises ModelError for other
    weights."""
    x = placeholder(Type((batch, SIDE, SIDE, 3), F32))
    layers = _Layers(weights)
    y = layers.unit(x, "_conv_stem", "_bn0", step=2)
    for name, kind, step in _blocks():
        y = layers.block(y, name, kind, step)
    y = layers.unit(y, "_conv_head", "_bn1")
    area = y.shape[1] * y.shape[2]
    embedding = p.mul(p.reduce(y, op="add", axes=(1, 2)), 1 / area)
    embedding = p.reshape(embedding, shape=(batch, y.shape[3]))
    matrix = layers.weight("_fc.weight", (1000, y.shape[3])).T
    logits = p.add(math.matmul(embedding, const(matrix)), layers.vector("_fc.bias", 1000))
    outputs = {"logits": logits, "embedding": embedding}
    return Graph({"x": x}, outputs, "efficientnet-lite0")


def _blocks() -> Iterator[tuple[str, Stage, int]]:
    number = 0
    for stage in STAGES:
        for block in range(stage.blocks):
            yield f"_blocks.{number}.", stage, stage.step if block == 0 else 1
            number += 1


class _Layers:
    """Layers from named weights, which are checked for their shapes."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self._weights = weights

    def weight(self, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        found = self._weights.get(name)
        if found is None or found.dtype != np.float32 or shape not in (None, found.shape):
            got = "there is none" if found is None else f"it is {found.dtype}{list(found.shape)}"
            raise ModelError(f"weight {name!r} of EfficientNet-Lite0 does not fit", why=got)
        return found

    def vector(self, name: str, length: int) -> Value:
        return const(self.weight(name, (length,)))

    def block(self, x: Value, name: str, kind: Stage, step: int) -> Value:
        """An inverted residual block: wide, filtered channel by channel, narrow again."""
        y = x
        if kind.expand > 1:
            y = self.unit(y, f"{name}_expand_conv", f"{name}_bn0")
        y = self.unit(y, f"{name}_depthwise_conv", f"{name}_bn1", step, each=True)
        y = self.unit(y, f"{name}_project_conv", f"{name}_bn2", active=False)
        return p.add(y, x) if step == 1 and y.shape == x.shape else y

    def unit(
        self, x: Value, conv: str, norm: str, step: int = 1, each: bool = False, active: bool = True
    ) -> Value:
        """A convolution, its normalisation and ReLU6. each: channel by channel."""
        w = self.weight(f"{conv}.weight").transpose(2, 3, 1, 0)  # O,I,H,W -> H,W,I,O
        size, channels = w.shape[0], w.shape[3]
        total = max((-(-x.shape[1] // step) - 1) * step + size - x.shape[1], 0)
        low, high = (total // 2,) * 2, (total - total // 2,) * 2
        groups = x.shape[3] if each else 1
        y = nn.conv(
            x, const(w), stride=(step, step), dilation=(1, 1), low=low, high=high, groups=groups
        )
        parts = ("weight", "bias", "running_mean", "running_var")
        y = nn.batch_norm(
            y, *(self.vector(f"{norm}.{n}", channels) for n in parts), epsilon=EPSILON
        )
        return p.minimum(p.maximum(y, 0.0), 6.0) if active else y
