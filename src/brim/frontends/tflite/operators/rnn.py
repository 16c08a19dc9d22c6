"""Elman's recurrent layers, h' = activation(W x + R h + b), with float or integer weights."""

from __future__ import annotations

import brim.ops.primitive as p
from brim.frontends.tflite.operators.activation import ACTIVATIONS, activation
from brim.frontends.tflite.operators.recurrent import matrix, steps_first, vector
from brim.frontends.tflite.table import Call, operator, quantized
from brim.graph import Value
from brim.ops.rnn import walk


@quantized("RNN")
def quantized_rnn(call: Call) -> Value:
    return rnn(call)  # which multiplies integers where it finds some


@operator("RNN")
def rnn(call: Call) -> Value:
    """One step, of x[B, I]."""
    x = call[0]
    rows = _layer(call, p.reshape(x, shape=(1, *x.shape)), 1, 4)
    return p.reshape(rows, shape=rows.shape[1:])


@quantized("UNIDIRECTIONAL_SEQUENCE_RNN")
def quantized_unidirectional_sequence_rnn(call: Call) -> Value:
    return unidirectional_sequence_rnn(call)  # which multiplies integers where it finds some


@operator("UNIDIRECTIONAL_SEQUENCE_RNN")
def unidirectional_sequence_rnn(call: Call) -> Value:
    time_major = call.flag("time_major")
    return steps_first(_layer(call, steps_first(call[0], time_major), 1, 4), time_major)


@quantized("BIDIRECTIONAL_SEQUENCE_RNN")
def quantized_bidirectional_sequence_rnn(call: Call) -> list[Value]:
    return bidirectional_sequence_rnn(call)  # which multiplies integers where it finds some


@operator("BIDIRECTIONAL_SEQUENCE_RNN")
def bidirectional_sequence_rnn(call: Call) -> list[Value]:
    """Two layers, one from the end; with a second input that has no weights, the other takes it."""
    time_major = call.flag("time_major")
    x = steps_first(call[0], time_major)
    extra, linked = call.get(9), call.get(10) is not None
    second = x if extra is None else steps_first(extra, time_major)
    rows = [
        _layer(call, x, 1, 4, second if linked else None, 10),
        _layer(call, x if linked else second, 5, 8, second if linked else None, 11, reverse=True),
    ]
    found = [steps_first(row, time_major) for row in rows]
    return [p.concat(*found, axis=2)] if call.flag("merge_outputs") else found


def _layer(
    call: Call,
    x: Value,
    weights: int,
    hidden: int,
    extra: Value | None = None,
    extra_weights: int = 0,
    reverse: bool = False,
) -> Value:
    """The outputs [S, B, H] for x[S, B, I]; leaves the state.

    weights: the number of the first of three inputs: for x, for the state, the bias.
    """
    even = call.flag("asymmetric_quantize_inputs")
    wide = p.add(matrix(call, [weights], even).product(x), vector(call, weights + 2))
    if extra is not None:
        wide = p.add(wide, matrix(call, [extra_weights], even).product(extra))
    recurrent = matrix(call, [weights + 1], even)
    name = call.choice("fused_activation_function", ACTIVATIONS, 0)

    def step(row: Value, states: list[Value], given: list[Value]) -> list[Value]:
        return [activation(p.add(row, recurrent.product(states[0], given[0])), name)]

    state = [call.state(hidden)]
    rows, (last,) = walk(step, wide, state, [recurrent.values], None, reverse)
    call.remember(hidden, last)
    return rows
