"""Checkpointing: the same bits, made of fewer values; and values kept in 16 bits."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from brim.compiler import optimise
from brim.graph import Graph, Value, evaluate, placeholder
from brim.ops import math as maths
from brim.ops import nn
from brim.ops import primitive as p
from brim.passes.autodiff import gradient
from brim.passes.recompute import choices, crossing, recompute
from brim.passes.simplify import simplify
from brim.passes.verify import verify
from brim.types import BF16, F16, F32, DType, Type
from tests.networks import normal

LOSS = ("loss",)
DEPTH, ROWS, WIDTH = 8, 96, 32


@cache
def step() -> Graph:
    """Gradient descent on a residual network of normalised dense layers: state w0, w1, ..."""
    x = placeholder(Type((ROWS, WIDTH), F32))
    weights = {f"w{i}": placeholder(Type((WIDTH, WIDTH), F32)) for i in range(DEPTH)}
    ones = np.ones(WIDTH, np.float32)
    y: Value = x
    for w in weights.values():
        normed = nn.layer_norm(y, ones, axes=(1,), epsilon=1e-5)
        y = p.add(y, p.tanh(p.contract(normed, w, spec="bi,io->bo")))
    loss = p.reshape(maths.reduce_mean(p.mul(y, y), axes=(0, 1)), shape=())
    slopes = gradient(loss, [*weights.values()])
    new = {n: p.sub(w, p.mul(g, 0.1)) for (n, w), g in zip(weights.items(), slopes)}
    state = {n: normal(WIDTH, WIDTH) / 6 for n in weights}
    return optimise(Graph({"x": x, **weights}, {"loss": loss, **new}, "residual", state))


FEEDS = {"x": normal(ROWS, WIDTH)}


def test_all_choices_give_the_same_bits() -> None:
    graph = step()
    want = evaluate(graph, FEEDS)
    tried = list(choices(graph, LOSS))
    assert len(tried) > 5
    for kept in tried:
        made = recompute(graph, LOSS, kept)
        verify(made)
        found = evaluate(optimise(made), FEEDS)
        assert all(found[n].tobytes() == want[n].tobytes() for n in want)


def test_only_what_is_kept_is_read_later() -> None:
    graph = step()
    for kept in choices(graph, LOSS):
        made = recompute(graph, LOSS, kept)
        assert {id(v) for v in crossing(made, LOSS)} <= kept


def test_simplify_leaves_the_copies() -> None:
    graph = step()
    for kept in [*choices(graph, LOSS)][1:]:
        made = recompute(graph, LOSS, kept)
        assert len(simplify(made).values()) == len(made.values()) > len(graph.values())


@pytest.mark.parametrize(("dtype", "most"), [(BF16, 1e-2), (F16, 1e-3)])
def test_16_bits_for_the_backward_pass(dtype: DType, most: float) -> None:
    """The loss does not change, and gradients hardly do."""
    graph = step()
    kept = next(choices(graph, LOSS))
    made = optimise(recompute(graph, LOSS, kept, dtype))
    verify(made)
    want, found = evaluate(graph, FEEDS), evaluate(made, FEEDS)
    assert found["loss"].tobytes() == want["loss"].tobytes()
    for name, before in graph.state.items():
        moved = np.linalg.norm(want[name] - before)
        assert 0 < np.linalg.norm(found[name] - want[name]) < most * moved
