"""Layers as batches of matrix products, whatever their axes are.

Every product with constant weights is y[g, o] = sum over k of x[g, k] w[g, k, o] at many positions;
there is more than one g in depthwise and grouped products only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from brim.compress.points import Layer
from brim.graph import Value
from brim.ops import nn
from brim.ops.primitive import parse_spec
from brim.passes.expand import expand_value


@dataclass(frozen=True)
class Matrices:
    """How a layer is a batch of matrix products: the letters of what it contracts.

    sizes: of the weights' letters.
    """

    data: str
    weights: str
    out: str
    sizes: Mapping[str, int]

    @property
    def groups(self) -> str:
        return "".join(c for c in self.weights if c in self.data and c in self.out)

    @property
    def summed(self) -> str:
        return "".join(c for c in self.weights if c not in self.out)

    @property
    def outputs(self) -> str:
        return "".join(c for c in self.weights if c not in self.data)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The extents of g, k and o."""
        g, k, o = (
            int(np.prod([self.sizes[c] for c in names]))
            for names in (self.groups, self.summed, self.outputs)
        )
        return g, k, o

    def pack(self, weights: np.ndarray) -> np.ndarray:
        """[g, k, o] of an array with the weights' axes."""
        order = self.groups + self.summed + self.outputs
        return weights.transpose([self.weights.index(c) for c in order]).reshape(self.shape)

    def unpack(self, matrices: np.ndarray) -> np.ndarray:
        """An array with the weights' axes of one of [g, k, o], of which k may be 1."""
        order = self.groups + self.summed + self.outputs
        one = self.summed if matrices.shape[1] == 1 else ""
        sizes = [1 if c in one else self.sizes[c] for c in order]
        return matrices.reshape(sizes).transpose([order.index(c) for c in self.weights])


def matrices(layer: Layer, data: Value | None = None) -> tuple[Value, Matrices]:
    """What a layer contracts with its weights when it reads `data` (None: what it does read)."""
    value = layer.value
    x = value.args[layer.data] if data is None else data
    if value.op.name == "conv":  # type: ignore[union-attr]
        value = expand_value(nn.conv(x, value.args[layer.side], **value.attrs))
        x, specs = value.args[0], parse_spec(value.attrs["spec"])
        own = specs[0], specs[1]
    else:
        specs = parse_spec(value.attrs["spec"])
        own = specs[layer.data], specs[layer.side]
    return x, Matrices(*own, specs[2], dict(zip(own[1], layer.weights.shape)))
