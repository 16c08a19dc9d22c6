"""What recurrent layers share: matrices of float numbers or integers, state, the axis of time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.errors import ModelError
from brim.frontends.tflite.operators import hybrid
from brim.frontends.tflite.table import Call
from brim.graph import Value, const
from brim.types import F32


@dataclass(frozen=True, eq=False)
class Matrix:
    """Weights [G, I], those of several gates behind each other; of a diagonal only that, [G].

    scale: of integer weights, f32[G]; float numbers become integers before they are multiplied,
    even: over the range of each row. None: the weights are float numbers.
    """

    values: Value
    scale: np.ndarray | None = None
    even: bool = False

    def product(self, x: Value, values: Value | None = None) -> Value:
        """x[.., I] times the weights, f32[.., G]. values: a stand-in for them within a loop."""
        w = self.values if values is None else values
        if len(w.shape) == 1:
            return p.mul(p.concat(*[x] * (w.shape[0] // x.shape[1]), axis=1), w)
        turned = p.transpose(w, perm=(1, 0))
        rows = p.reshape(x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))
        if self.scale is None:
            y = p.contract(rows, w, spec="bi,gi->bg")
        else:
            product = lambda a, b, zero: q.matmul_i32(a, b, zero=zero)  # noqa: E731
            spread = hybrid.Spread(self.even, axes=(1,), taps=(0,))
            y = hybrid.real_sums(rows, turned, self.scale, product, spread)
        return p.reshape(y, shape=(*x.shape[:-1], w.shape[0]))


def matrix(call: Call, indices: Sequence[int], even: bool = False) -> Matrix:
    """The weights that are inputs of these numbers, one behind the other."""
    found = [call[i] for i in indices]
    if found[0].dtype == F32:
        return Matrix(joined(found))
    scales, values = [], []
    for i, w in zip(indices, found):
        quantization = call.quantization(i)
        if quantization is None or not quantization.per_tensor or len(w.shape) != 2:
            raise call.unsupported(f"integer weights of type {w.type} for float numbers")
        values.append(hybrid.signed(w, quantization.zero))
        scales.append(np.full(w.shape[0], quantization.scale[0], np.float32))
    return Matrix(joined(values), np.concatenate(scales), even)


def joined(parts: Sequence[Value]) -> Value:
    """Values behind each other along the first axis; a constant of constants."""
    arrays = [part.data for part in parts if part.data is not None]
    if len(arrays) == len(parts):
        return const(np.concatenate(arrays))
    return p.concat(*parts, axis=0)


def vector(call: Call, index: int) -> Value:
    """Input `index` as float numbers: a bias, or weights of single cells."""
    found, x = call.quantization(index), call[index]
    if x.dtype == F32:
        return x
    if found is None:
        raise ModelError(f"input {index} of {call.name} is {x.dtype} without a scale")
    return p.mul(p.cast(hybrid.signed(x, found.zero), to=F32), const(found.scale[:1]))


def vectors(call: Call, indices: Sequence[int]) -> Value | None:
    """Inputs of these numbers, one behind the other; None if all are left out."""
    if all(call.operand(i) is None for i in indices):
        return None
    return joined([vector(call, i) for i in indices])


def steps_first(x: Value, time_major: bool) -> Value:
    """x[B, S, I], or x[S, B, I] if the time is its first axis, as [S, B, I]; and back."""
    if len(x.shape) != 3:
        raise ModelError(f"a sequence of {x.type} has no axes for batch, time and numbers")
    return x if time_major else p.transpose(x, perm=(1, 0, 2))
