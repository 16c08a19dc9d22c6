"""Long short-term memory in float numbers, with float or integer weights.

Gates i, f, c, o: peepholes look at the cell, norms make mean 0 and deviation 1 of a gate's sums, a
projection makes fewer outputs of the cells; without weights of its own gate i is 1 - f. The kernel
of integers is `lstm_integer.py`; the old one without options is `lstm_basic.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

import brim.ops.math as m
import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.tflite.operators.activation import ACTIVATIONS, activation, clamp
from brim.frontends.tflite.operators.lstm_integer import integer_layer
from brim.frontends.tflite.operators.recurrent import Matrix, matrix, steps_first, vector, vectors
from brim.frontends.tflite.table import Call, operator, quantized
from brim.graph import Value, const
from brim.ops.rnn import part, walk

EPSILON = 1e-8  # added to the variance that a norm divides by


@dataclass(frozen=True)
class Inputs:
    """The numbers of a layer's inputs."""

    x: int
    weights: int  # of the first of 17: for the input, the state, the cell; biases; the projection
    hidden: int
    cell: int
    norm: int | None = None  # of the first of 4
    extra: int | None = None  # a second input, if it has weights, and the first of those 4
    extra_weights: int = 0


@quantized("UNIDIRECTIONAL_SEQUENCE_LSTM")
def quantized_unidirectional_sequence_lstm(call: Call) -> Value:
    if call[0].dtype.is_float:
        return unidirectional_sequence_lstm(call)
    time_major = call.flag("time_major")
    return steps_first(integer_layer(call, steps_first(call[0], time_major)), time_major)


@operator("UNIDIRECTIONAL_SEQUENCE_LSTM")
def unidirectional_sequence_lstm(call: Call) -> Value:
    time_major = call.flag("time_major")
    x = steps_first(call[0], time_major)
    diagonal = call.flag("diagonal_recurrent_tensors")
    rows = _layer(call, Inputs(0, 1, 18, 19, 20), x, diagonal=diagonal)
    return steps_first(rows, time_major)


def full_lstm(call: Call) -> Value:
    """LSTM with all options: one step, of x[B, I]."""
    x = p.reshape(call[0], shape=(1, *call[0].shape))
    if call[0].dtype.is_float:
        rows = _layer(call, Inputs(0, 1, 18, 19, 20), x)
    else:
        rows = integer_layer(call, x)
    return p.reshape(rows, shape=rows.shape[1:])


@quantized("BIDIRECTIONAL_SEQUENCE_LSTM")
def quantized_bidirectional_sequence_lstm(call: Call) -> list[Value]:
    return bidirectional_sequence_lstm(call)  # which multiplies integers where it finds some


@operator("BIDIRECTIONAL_SEQUENCE_LSTM")
def bidirectional_sequence_lstm(call: Call) -> list[Value]:
    """Two layers, one from the end; with a second input that has no weights, the other takes it."""
    time_major = call.flag("time_major", True)
    x = steps_first(call[0], time_major)
    extra, linked = call.get(39), call.get(41) is not None
    second = x if extra is None else steps_first(extra, time_major)
    forward, backward = Inputs(0, 1, 35, 36), Inputs(0, 18, 37, 38)
    if linked:
        forward = Inputs(0, 1, 35, 36, extra=39, extra_weights=40)
        backward = Inputs(0, 18, 37, 38, extra=39, extra_weights=44)
    rows = [
        _layer(call, forward, x, second if linked else None),
        _layer(call, backward, x if linked else second, second if linked else None, reverse=True),
    ]
    found = [steps_first(row, time_major) for row in rows]
    return [p.concat(*found, axis=2)] if call.flag("merge_outputs") else found


def _layer(
    call: Call,
    at: Inputs,
    x: Value,
    extra: Value | None = None,
    reverse: bool = False,
    diagonal: bool = False,
) -> Value:
    """The outputs [S, B, H] for x[S, B, I]; leaves the state."""
    even = call.flag("asymmetric_quantize_inputs")
    coupled = call.get(at.weights) is None
    gates = (1, 2, 3) if coupled else (0, 1, 2, 3)
    first = at.weights
    wide = matrix(call, [first + g for g in gates], even).product(x)
    if extra is not None:
        more = matrix(call, [at.extra_weights + g for g in gates], even)
        wide = p.add(wide, more.product(extra))
    recurrent = matrix(call, [first + 4 + g for g in gates], even and not diagonal)
    if diagonal != (len(recurrent.values.shape) == 1):
        raise ModelError("recurrent weights are no diagonal, or are one")
    bias = vectors(call, [first + 11 + g for g in gates])
    norm = None if at.norm is None else vectors(call, [at.norm + g for g in gates])
    if norm is None and bias is not None:
        wide, bias = p.add(wide, bias), None
    projects = call.get(first + 15) is not None
    projection = matrix(call, [first + 15], even) if projects else None
    peepholes = {
        g: vector(call, first + 8 + k)
        for k, g in enumerate((0, 1, 3))
        if call.get(first + 8 + k) is not None
    }
    cell = Cell(
        gates,
        recurrent,
        projection,
        frozenset(peepholes),
        norm is not None,
        call.choice("fused_activation_function", ACTIVATIONS, 0),
        call.float("cell_clip", 0.0),
        call.float("proj_clip", 0.0),
    )
    weights = {"recurrent": recurrent.values}
    weights |= {f"peephole {g}": value for g, value in peepholes.items()}
    if norm is not None:
        weights["norm"] = norm
    if bias is not None:
        weights["bias"] = bias
    if projection is not None:
        weights["projection"] = projection.values
        if call.get(first + 16) is not None:
            weights["projection bias"] = vector(call, first + 16)

    def step(row: Value, states: list[Value], given: list[Value]) -> list[Value]:
        hidden, before = states
        return cell.step(row, hidden, before, dict(zip(weights, given)))

    states = [call.state(at.hidden), call.state(at.cell)]
    rows, (hidden, last) = walk(step, wide, states, list(weights.values()), None, reverse)
    call.remember(at.hidden, hidden)
    call.remember(at.cell, last)
    return rows


@dataclass(frozen=True)
class Cell:
    """One step. clip: of the cell, and of what is projected; 0: none."""

    gates: tuple[int, ...]
    recurrent: Matrix
    projection: Matrix | None
    peepholes: frozenset[int]
    norm: bool
    activation: str
    cell_clip: float
    projection_clip: float

    def step(
        self, x: Value, hidden: Value, cell: Value, weights: Mapping[str, Value]
    ) -> list[Value]:
        """x[B, G]: the input's share of the gates. Gives hidden[B, H] and cell[B, C]."""
        total = p.add(x, self.recurrent.product(hidden, weights["recurrent"]))
        size = cell.shape[-1]
        sums = {g: part(total, k, size) for k, g in enumerate(self.gates)}

        def gate(g: int, seen: Value) -> Value:
            y = sums[g]
            if g in self.peepholes:
                y = p.add(y, p.mul(seen, weights[f"peephole {g}"]))
            if self.norm:
                y = p.mul(_normed(y), part(weights["norm"], self.gates.index(g), size))
            if "bias" in weights:
                y = p.add(y, part(weights["bias"], self.gates.index(g), size))
            return activation(y, self.activation) if g == 2 else m.sigmoid(y)

        forget, new = gate(1, cell), gate(2, cell)
        into = gate(0, cell) if 0 in self.gates else p.sub(1, forget)
        cell = _clipped(p.add(p.mul(forget, cell), p.mul(into, new)), self.cell_clip)
        hidden = p.mul(gate(3, cell), activation(cell, self.activation))
        if self.projection is not None:
            hidden = self.projection.product(hidden, weights["projection"])
            if "projection bias" in weights:
                hidden = p.add(hidden, weights["projection bias"])
            hidden = _clipped(hidden, self.projection_clip)
        return [hidden, cell]


def _normed(x: Value) -> Value:
    """x[B, C] with mean 0 and deviation 1 in each row."""
    each = 1 / x.shape[1]
    centred = p.sub(x, p.mul(p.reduce(x, op="add", axes=(1,)), each))
    variance = p.mul(p.reduce(p.mul(centred, centred), op="add", axes=(1,)), each)
    return p.div(centred, p.sqrt(p.add(variance, const(np.float32(EPSILON)))))


def _clipped(x: Value, clip: float) -> Value:
    return clamp(x, -clip, clip) if clip > 0 else x
