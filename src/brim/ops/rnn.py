"""Recurrent layers: cells over values, and the walk along time, a `loop`.

These are functions, not operators: what they build is made of primitives and `loop`. The part of a
cell that does not depend on the past is one matrix product for all time steps, done before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from brim.graph import Graph, Value, const, placeholder
from brim.ops.control import loop, results_of
from brim.ops.math import zero
from brim.ops.primitive import (
    add,
    broadcast,
    contract,
    gather,
    lt,
    maximum,
    minimum,
    mul,
    reshape,
    select,
    slice,
    sub,
)
from brim.types import BOOL, I64, Type

Step = Callable[[Value, list[Value], list[Value]], list[Value]]
Activation = Callable[[Value], Value]
Product = Callable[[Value, Value], Value]  # of values[.., I] and weights[G, I]: [.., G]


def part(x: Value, index: int, size: int, axis: int = -1) -> Value:
    """The `index`-th block of `size` elements along `axis`."""
    axis = axis % len(x.shape)
    starts = tuple(index * size if i == axis else 0 for i in range(len(x.shape)))
    sizes = tuple(size if i == axis else n for i, n in enumerate(x.shape))
    return slice(x, starts=starts, sizes=sizes, steps=(1,) * len(sizes))


def walk(
    step: Step,
    inputs: Value,
    states: Sequence[Value],
    weights: Sequence[Value],
    lengths: Value | None,
    reverse: bool,
) -> tuple[Value, list[Value]]:
    """Runs `step(input[B, G], states, weights) -> states` along the first axis of inputs[S, B, G].

    lengths: how many steps each of the B rows has (i64[B]); later steps change nothing and give 0.
    Result: the first state of every step [S, B, H], and the last states.
    """
    steps = inputs.shape[0]
    if steps == 1:
        first = reshape(inputs, shape=inputs.shape[1:])
        state, row = _masked(step, first, list(states), list(weights), const(np.int64(0)), lengths)
        return reshape(row, shape=(1, *row.shape)), state
    if reverse:
        inputs = _turned(inputs)
    rows, state = _walk_loop(step, inputs, list(states), list(weights), lengths, reverse)
    return _turned(rows) if reverse else rows, state


def _turned(x: Value) -> Value:
    """x with its rows in the opposite order."""
    starts = (x.shape[0] - 1, *(0,) * (len(x.shape) - 1))
    steps = (-1, *(1,) * (len(x.shape) - 1))
    return slice(x, starts=starts, sizes=x.shape, steps=steps)


def _masked(
    step: Step,
    x: Value,
    states: list[Value],
    weights: list[Value],
    time: Value,
    lengths: Value | None,
) -> tuple[list[Value], Value]:
    new = step(x, states, weights)
    if lengths is None:
        return new, new[0]
    inside = reshape(lt(time, lengths), shape=(lengths.shape[0], 1))
    kept = [select(inside, after, before) for after, before in zip(new, states)]
    return kept, select(inside, new[0], zero(new[0]))


def _walk_loop(
    step: Step,
    inputs: Value,
    states: list[Value],
    weights: list[Value],
    lengths: Value | None,
    reverse: bool,
) -> tuple[Value, list[Value]]:
    steps = inputs.shape[0]
    captured = [inputs, *weights] + ([] if lengths is None else [lengths])
    inner = [value if value.is_const else placeholder(value.type) for value in captured]
    index, alive = placeholder(Type((), I64)), placeholder(Type((), BOOL))
    carried = [placeholder(value.type) for value in states]
    x = gather(inner[0], index, axis=0)
    time = sub(const(np.int64(steps - 1)), index) if reverse else index
    inner_lengths = None if lengths is None else inner[-1]
    after, row = _masked(step, x, carried, inner[1 : 1 + len(weights)], time, inner_lengths)
    names = {"iteration": index, "condition": alive}
    names.update((f"state{i}", value) for i, value in enumerate(carried))
    outside = [(o, i) for o, i in zip(captured, inner) if not o.is_const]
    names.update((f"captured{i}", value) for i, (_, value) in enumerate(outside))
    results = {"again": const(np.bool_(True))}
    results.update((f"state{i}", value) for i, value in enumerate(after))
    found = results_of(
        loop(
            const(np.int64(steps)),
            const(np.bool_(True)),
            *states,
            *(value for value, _ in outside),
            body=Graph(names, {**results, "row": row}, "time"),
            carried=len(states),
            length=steps,
        )
    )
    return found[-1], found[:-1]


# ------------------------------------------------------------------ cells


def _limited(x: Value, clip: float | None) -> Value:
    return x if clip is None else maximum(minimum(x, clip), -clip)


def state_product(hidden: Value, weights: Value) -> Value:
    """hidden[B, H] times weights[G, H]."""
    return contract(hidden, weights, spec="bh,gh->bg")


def lstm_step(
    activations: Sequence[Activation],
    clip: float | None,
    coupled: bool,
    product: Product = state_product,
) -> Step:
    """Long short-term memory. States h[B, H], c[B, H]; inputs and weights hold gates i, o, f, c.

    weights: recurrent[4H, H], then, for peepholes, [3H] for i, o, f. coupled: forget = 1 - input.
    product: how the state is multiplied with the recurrent weights.
    """

    f, g, h = activations

    def step(x: Value, states: list[Value], weights: list[Value]) -> list[Value]:
        hidden, cell = states
        size = hidden.shape[-1]
        gates = add(x, product(hidden, weights[0]))
        i, o, forget, c = (part(gates, n, size) for n in range(4))
        peep = [part(weights[1], n, size) for n in range(3)] if len(weights) > 1 else None
        if peep:
            i, forget = add(i, mul(peep[0], cell)), add(forget, mul(peep[2], cell))
        i = f(_limited(i, clip))
        forget = sub(1, i) if coupled else f(_limited(forget, clip))
        cell = add(mul(forget, cell), mul(i, g(_limited(c, clip))))
        if peep:
            o = add(o, mul(peep[1], cell))
        return [mul(f(_limited(o, clip)), h(cell)), cell]

    return step


def gru_step(
    activations: Sequence[Activation], clip: float | None, linear_before_reset: bool
) -> Step:
    """Gated recurrent unit. State h[B, H]; inputs and weights hold gates z, r, h.

    weights: recurrent[3H, H] and the recurrent bias of gate h [H], which the reset gate scales
    when linear_before_reset.
    """

    f, g = activations

    def step(x: Value, states: list[Value], weights: list[Value]) -> list[Value]:
        (hidden,) = states
        size = hidden.shape[-1]
        recurrent, bias = weights
        early = contract(hidden, slice(
            recurrent, starts=(0, 0), sizes=(2 * size, size), steps=(1, 1)
        ), spec="bh,gh->bg")  # fmt: skip
        z = f(_limited(add(part(x, 0, size), part(early, 0, size)), clip))
        r = f(_limited(add(part(x, 1, size), part(early, 1, size)), clip))
        late = part(recurrent, 2, size, 0)
        if linear_before_reset:
            memory = mul(r, add(contract(hidden, late, spec="bh,gh->bg"), bias))
        else:
            memory = add(contract(mul(r, hidden), late, spec="bh,gh->bg"), bias)
        new = g(_limited(add(part(x, 2, size), memory), clip))
        return [add(mul(sub(1, z), new), mul(z, hidden))]

    return step


def rnn_step(activations: Sequence[Activation], clip: float | None) -> Step:
    """Elman's recurrent layer. State h[B, H]; weights: recurrent[H, H]."""

    (f,) = activations

    def step(x: Value, states: list[Value], weights: list[Value]) -> list[Value]:
        total = add(x, contract(states[0], weights[0], spec="bh,gh->bg"))
        return [f(_limited(total, clip))]

    return step


def zeros(shape: tuple[int, ...], like: Value) -> Value:
    """Zeros of `shape` in the element type of `like`."""
    return broadcast(const(np.zeros((), like.dtype.numpy)), shape=shape)
