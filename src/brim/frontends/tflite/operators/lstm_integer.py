"""Long short-term memory in integers: activations and weights of 8 bits, gates and cells of 16.

Gates are multiples of 2**-12 before their activation (of the scales that the file gives, where they
are normed) and of 2**-15 after it; cells have a power of two as their scale. Sums are exact; each
step from one unit to another is rounded, where LiteRT rounds it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.frontends.tflite.arithmetic import linear
from brim.frontends.tflite.operators.fixed_point import MOST, sigmoid, tanh
from brim.frontends.tflite.operators.gates import (
    FRACTION,
    GATE,
    GATE_BITS,
    added,
    integer_bits,
    multiplied,
    rounded,
)
from brim.frontends.tflite.operators.recurrent import joined
from brim.frontends.tflite.table import Call
from brim.graph import Value, const
from brim.ops.rnn import part, walk
from brim.types import F32, I8, I32

HIDDEN, CELL, NORM = 18, 19, 20  # numbers of inputs


def integer_layer(call: Call, x: Value) -> Value:
    """The outputs i8[S, B, H] for x i8[S, B, I]; leaves the state. Inputs are those of LSTM."""
    call.ignore("asymmetric_quantize_inputs", "fused_activation_function")
    call.ignore("diagonal_recurrent_tensors", "proj_clip")
    between = [call.scope.graph.tensors[n] for n in call.operator.intermediates]
    if len(between) != 5:
        raise call.unsupported(f"{len(between)} intermediate tensors", "with 16-bit cells it has 5")
    gates = (1, 2, 3) if call.get(1) is None else (0, 1, 2, 3)
    normed = call.get(NORM + 1) is not None
    units = [float(linear(between[g])[0]) if normed else GATE for g in gates]
    scale, zero = linear(call.tensors[0])
    steps, batch, size = x.shape
    weights = joined([call[1 + g] for g in gates])
    rows = p.reshape(x, shape=(steps * batch, size))
    total = q.matmul_i32(rows, p.transpose(weights, perm=(1, 0)), zero=zero)
    if not normed:
        total = p.add(total, joined([call[12 + g] for g in gates]))
    wide = rounded(total, _scales(call, 1, gates, float(scale), units))
    wide = p.reshape(wide, shape=(steps, batch, weights.shape[0]))
    cell = _Cell(call, gates, units, normed, linear(between[4]))
    states = [call.state(HIDDEN), call.state(CELL)]
    outputs, (hidden, last) = walk(cell.step, wide, states, [], None, False)
    call.remember(HIDDEN, hidden)
    call.remember(CELL, last)
    return outputs


def _scales(
    call: Call, first: int, gates: tuple[int, ...], unit: float, units: list[float]
) -> np.ndarray:
    """For each row of the gates' weights, what a product counts in the unit of its gate."""
    found = [
        np.full(call[first + g].shape[0], float(linear(call.tensors[first + g])[0]) * unit / wanted)
        for g, wanted in zip(gates, units)
    ]
    return np.concatenate(found).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Cell:
    """One step. units: what 1 stands for in the sums of each gate; made: scale and zero point of
    the outputs before they are projected."""

    call: Call
    gates: tuple[int, ...]
    units: list[float]
    normed: bool
    made: tuple[np.float32, int]

    def step(self, x: Value, states: list[Value], weights: list[Value]) -> list[Value]:
        """x i16[B, G]: the input's share of the gates; states i8[B, H], i16[B, C]."""
        call, (hidden, cell) = self.call, states
        scale, zero = linear(call.tensors[HIDDEN])
        recurrent = joined([call[5 + g] for g in self.gates])
        total = q.matmul_i32(hidden, p.transpose(recurrent, perm=(1, 0)), zero=zero)
        scales = _scales(call, 5, self.gates, float(scale), self.units)
        total = added(x, rounded(total, scales))
        size = cell.shape[1]
        sums = {g: part(total, k, size) for k, g in enumerate(self.gates)}
        unit = float(linear(call.tensors[CELL])[0])
        forget, new = self._gate(sums, 1, cell), self._gate(sums, 2, cell)
        into = self._gate(sums, 0, cell) if 0 in self.gates else p.sub(MOST, forget)
        kept = rounded(multiplied(forget, cell), FRACTION)
        cell = added(kept, rounded(p.mul(into, new), FRACTION**2 / unit))
        cell = _clipped(cell, call.float("cell_clip", 0.0) / unit)
        seen = tanh(p.cast(cell, to=I32), integer_bits(unit))
        out = p.mul(self._gate(sums, 3, cell), seen)
        step, middle = self.made
        hidden = rounded(out, FRACTION**2 / float(step), middle, I8)
        if call.get(16) is not None:
            total = q.matmul_i32(hidden, p.transpose(call[16], perm=(1, 0)), zero=middle)
            total = total if call.get(17) is None else p.add(total, call[17])
            weight = float(linear(call.tensors[16])[0])
            hidden = rounded(total, weight * float(step) / float(scale), zero, I8)
            hidden = _clipped(hidden, call.float("proj_clip", 0.0) / float(scale))
        return [hidden, cell]

    def _gate(self, sums: dict[int, Value], g: int, cell: Value) -> Value:
        call, y, unit = self.call, sums[g], self.units[self.gates.index(g)]
        seen = {0: 9, 1: 10, 3: 11}.get(g, -1)
        if seen > 0 and call.get(seen) is not None:
            look = float(linear(call.tensors[seen])[0]) * float(linear(call.tensors[CELL])[0])
            y = added(y, rounded(multiplied(cell, call[seen]), look / unit))
        if self.normed:
            y = self._normed(y, g)
        y = p.cast(y, to=I32)
        return tanh(y, GATE_BITS) if g == 2 else sigmoid(y, GATE_BITS)

    def _normed(self, y: Value, g: int) -> Value:
        """Sums with mean 0 and deviation 1 in multiples of 2**-10, times weights, plus the bias."""
        scale = float(linear(self.call.tensors[NORM + g])[0])
        each, x = 1 / y.shape[1], p.cast(y, to=F32)
        centred = p.sub(x, p.mul(p.reduce(x, op="add", axes=(1,)), each))
        variance = p.mul(p.reduce(p.mul(centred, centred), op="add", axes=(1,)), each)
        guard = const(np.float32(max(1, int(10000 * scale))))
        variance = p.select(p.lt(variance, 1), guard, variance)
        normed = p.cast(p.rint(p.mul(p.div(centred, p.sqrt(variance)), 1024)), to=I32)
        total = p.mul(normed, p.cast(self.call[NORM + g], to=I32))
        total = p.add(total, self.call[12 + g])
        return rounded(total, scale / 1024 / GATE)


def _clipped(x: Value, clip: float) -> Value:
    if clip <= 0:
        return x
    bound = min(int(clip), q.limits(x.dtype)[1])
    return q.limited(x, (-bound, bound))
