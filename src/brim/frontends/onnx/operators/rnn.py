"""ONNX LSTM, GRU and RNN: directions, layouts, activations; the recurrences are `brim.ops.rnn`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import brim.ops.math as m
import brim.ops.primitive as p
import brim.ops.rnn as rnn
from brim.errors import ModelError
from brim.frontends.onnx.table import Call, operator
from brim.graph import Value
from brim.types import I64

# name -> (default alpha, default beta, function of x, alpha, beta); None: it takes no such number
ACTIVATIONS: dict[str, tuple[float | None, float | None, Callable]] = {
    "relu": (None, None, lambda x, a, b: m.relu(x)),
    "tanh": (None, None, lambda x, a, b: p.tanh(x)),
    "sigmoid": (None, None, lambda x, a, b: m.sigmoid(x)),
    "softsign": (None, None, lambda x, a, b: m.softsign(x)),
    "softplus": (None, None, lambda x, a, b: m.softplus(x)),
    "affine": (1.0, 0.0, lambda x, a, b: p.add(p.mul(x, a), b)),
    "leakyrelu": (0.01, None, lambda x, a, b: m.leaky_relu(x, alpha=a)),
    "thresholdedrelu": (1.0, None, lambda x, a, b: m.thresholded_relu(x, alpha=a)),
    "scaledtanh": (1.0, 1.0, lambda x, a, b: p.mul(p.tanh(p.mul(x, b)), a)),
    "hardsigmoid": (0.2, 0.5, lambda x, a, b: m.hard_sigmoid(x, alpha=a, beta=b)),
    "elu": (1.0, None, lambda x, a, b: m.elu(x, alpha=a)),
}


def _activations(call: Call, default: tuple[str, ...], directions: int) -> list[Callable]:
    """One function for each activation of each direction."""
    names = call.texts("activations", default * directions)
    alphas = list(call.floats("activation_alpha", ()))
    betas = list(call.floats("activation_beta", ()))
    if len(names) != len(default) * directions:
        raise ModelError(f"{len(names)} activations for {directions} directions")
    found = []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            raise call.unsupported(f"activation {name!r}", f"supported: {', '.join(ACTIVATIONS)}")
        alpha, beta, function = ACTIVATIONS[name.lower()]
        if alpha is not None and alphas:
            alpha = alphas.pop(0)
        if beta is not None and betas:
            beta = betas.pop(0)
        found.append(_bound(function, alpha, beta))
    return found


def _bound(function: Callable, alpha: float | None, beta: float | None) -> Callable:
    return lambda x: function(x, alpha, beta)


_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _input_product(x: Value, weights: Value) -> Value:
    return p.contract(x, weights, spec="sbi,gi->sbg")


@dataclass(frozen=True)
class Layers:
    """What is recurrent, its weights[directions, gates * size, ...], and how they are multiplied:
    for each direction the products with inputs and with states."""

    kind: str
    inputs: Value
    states: Value
    products: Callable[[int], tuple[rnn.Product, rnn.Product]] = lambda d: (
        _input_product,
        rnn.state_product,
    )


@operator("LSTM", "GRU", "RNN")
def recurrent(call: Call) -> tuple[Value, ...]:
    return recurrent_layers(call, Layers(call.node.op, call[1], call[2]))


def recurrent_layers(call: Call, layers: Layers) -> tuple[Value, ...]:
    """The outputs of a node that has all but its weights where LSTM, GRU and RNN have it."""
    kind, w, r = layers.kind, layers.inputs, layers.states
    x, b, lengths = call[0], call.get(3), call.get(4)
    direction = call.choice("direction", "forward", ("forward", "reverse", "bidirectional"))
    directions = 2 if direction == "bidirectional" else 1
    gates, size = _GATES[kind], call.int("hidden_size", r.shape[-1])
    batch_first = call.flag("layout")
    if batch_first:
        x = p.transpose(x, perm=(1, 0, 2))
    _, batch, features = x.shape
    expected: list[tuple[Value, tuple[int, ...]]] = [
        (w, (directions, gates * size, features)),
        (r, (directions, gates * size, size)),
    ]
    if b is not None:
        expected.append((b, (directions, 2 * gates * size)))
    if any(value.shape != shape for value, shape in expected):
        raise ModelError(f"weights {w.type} and {r.type} do not fit {x.type} and size {size}")
    functions = _activations(call, _DEFAULTS[kind], directions)
    lengths = None if lengths is None else p.cast(lengths, to=I64)
    rows, finals = [], []
    for d in range(directions):
        state = [_initial(call, i, d, batch, size, batch_first, x) for i in _states(kind)]
        bias = None if b is None else _row(b, d)
        count = len(_DEFAULTS[kind])
        project, product = layers.products(d)
        own = functions[d * count : (d + 1) * count]
        step, weights = _cell(call, layers, d, bias, own, size, product)
        inputs = project(x, _row(w, d))
        if bias is not None:
            inputs = p.add(inputs, _input_bias(kind, bias, gates, size))
        row, last = rnn.walk(
            step, inputs, state, weights, lengths, direction == "reverse" or d == 1
        )
        rows.append(row)
        finals.append(last)
    y = _joined(rows, 1)
    ends = [_joined([last[i] for last in finals], 0) for i in range(len(finals[0]))]
    if batch_first:
        y = p.transpose(y, perm=(2, 0, 1, 3))
        ends = [p.transpose(value, perm=(1, 0, 2)) for value in ends]
    return (y, *ends)


def _cell(
    call: Call,
    layers: Layers,
    d: int,
    bias: Value | None,
    functions: list[Callable],
    size: int,
    product: rnn.Product,
) -> tuple[rnn.Step, list[Value]]:
    """The step of direction d, and the weights that it takes."""
    clip, weights = call.float("clip", None), [_row(layers.states, d)]
    match layers.kind:
        case "LSTM":
            if call.given(7):
                weights.append(_row(call[7], d))
            return rnn.lstm_step(functions, clip, call.flag("input_forget"), product), weights
        case "GRU":
            zero = rnn.zeros((size,), call[0])
            weights.append(zero if bias is None else rnn.part(bias, 5, size))
            return rnn.gru_step(functions, clip, call.flag("linear_before_reset")), weights
    return rnn.rnn_step(functions, clip), weights


def _states(kind: str) -> tuple[int, ...]:
    """The inputs that hold the initial states."""
    return (5, 6) if kind == "LSTM" else (5,)


def _input_bias(kind: str, bias: Value, gates: int, size: int) -> Value:
    """Input and recurrent biases together; a GRU's last recurrent one belongs to its cell."""
    own, other = rnn.part(bias, 0, gates * size), rnn.part(bias, 1, gates * size)
    if kind == "GRU":
        early = p.slice(other, starts=(0,), sizes=(2 * size,), steps=(1,))
        other = p.pad(early, low=(0,), high=(size,), value=0)
    return p.add(own, other)


def _row(x: Value, d: int) -> Value:
    return p.reshape(rnn.part(x, d, 1, 0), shape=x.shape[1:])


def _initial(
    call: Call, index: int, d: int, batch: int, size: int, batch_first: bool, like: Value
) -> Value:
    value = call.get(index)
    if value is None:
        return rnn.zeros((batch, size), like)
    if batch_first:
        value = p.transpose(value, perm=(1, 0, 2))
    return _row(value, d)


def _joined(parts: list[Value], axis: int) -> Value:
    """The directions on a new axis."""
    spread = [p.reshape(v, shape=(*v.shape[:axis], 1, *v.shape[axis:])) for v in parts]
    return spread[0] if len(spread) == 1 else p.concat(*spread, axis=axis)
