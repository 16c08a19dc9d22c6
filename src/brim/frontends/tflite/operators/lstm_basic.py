"""LSTM, one step: with all options, or by its old kernel, of one matrix and no options."""

from __future__ import annotations

import brim.ops.math as m
import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.frontends.tflite.arithmetic import linear
from brim.frontends.tflite.operators.fixed_point import sigmoid, tanh
from brim.frontends.tflite.operators.gates import (
    FRACTION,
    GATE,
    GATE_BITS,
    added,
    integer_bits,
    multiplied,
    rounded,
)
from brim.frontends.tflite.operators.lstm import full_lstm
from brim.frontends.tflite.table import Call, operator, quantized
from brim.graph import Value
from brim.ops.rnn import part
from brim.types import I16, I32, U8

KERNELS = ("full", "basic")


@quantized("LSTM")
def quantized_lstm(call: Call) -> Value | list[Value]:
    return lstm(call)  # which multiplies integers where it finds some


@operator("LSTM")
def lstm(call: Call) -> Value | list[Value]:
    if call.choice("kernel_type", KERNELS, 0) == "full":
        return full_lstm(call)
    call.ignore("fused_activation_function", "cell_clip", "proj_clip")
    call.ignore("asymmetric_quantize_inputs")
    return _basic(call) if call[0].dtype.is_float else _basic_integers(call)


def _basic(call: Call) -> list[Value]:
    """Gates i, c, f, o of x[B, I] beside the last output. Gives the output, the cell, what was
    multiplied, and the sums."""
    seen = p.concat(call[0], call.state(1), axis=1)
    sums = p.add(p.contract(seen, call[2], spec="bi,gi->bg"), call[3])
    size = call[4].shape[-1]
    i, c, f, o = (part(sums, k, size) for k in range(4))
    cell = p.add(p.mul(m.sigmoid(i), p.tanh(c)), p.mul(m.sigmoid(f), call.state(4)))
    hidden = p.mul(m.sigmoid(o), p.tanh(cell))
    call.remember(1, hidden)
    call.remember(4, cell)
    return [hidden, cell, seen, sums]


def _basic_integers(call: Call) -> list[Value]:
    """The same of u8: sums and cells have 16 bits."""
    (scale, zero), (weight, weight_zero) = linear(call.tensors[0]), linear(call.tensors[2])
    seen = p.concat(call[0], call.state(1), axis=1)
    weights = p.sub(p.cast(call[2], to=I16), weight_zero)
    total = q.matmul_i32(seen, p.transpose(weights, perm=(1, 0)), zero=zero)
    sums = rounded(p.add(total, call[3]), float(scale) * float(weight) / GATE)
    size, unit = call[4].shape[-1], float(linear(call.tensors[4])[0])
    gates = [p.cast(part(sums, k, size), to=I32) for k in range(4)]
    i, f, o = (sigmoid(gates[k], GATE_BITS) for k in (0, 2, 3))
    new = rounded(p.mul(i, tanh(gates[1], GATE_BITS)), FRACTION**2 / unit)
    cell = added(new, rounded(multiplied(f, call.state(4)), FRACTION))
    made = p.mul(o, tanh(p.cast(cell, to=I32), integer_bits(unit)))
    hidden = rounded(made, FRACTION**2 / float(scale), zero, U8)
    call.remember(1, hidden)
    call.remember(4, cell)
    return [hidden, cell, seen, sums]
