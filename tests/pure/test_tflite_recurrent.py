"""TFLite's recurrent layers: state, time, and what LiteRT is not needed to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from brim.compiler import optimise
from brim.errors import ModelError
from brim.frontends.tflite.model import Operator, Subgraph
from brim.graph import Graph, evaluate
from brim.kernels.loops import is_compiled
from tests.pure.test_tflite_control import imported, sub

BATCH, STEPS, IN, CELLS = 2, 6, 3, 4
RNG = np.random.default_rng(5)
TANH = {"fused_activation_function": 4}


def weights(*shape: int) -> np.ndarray:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def layer(op: str, x: Sequence[int], inputs: Sequence[Any], **options: Any) -> Graph:
    """A model of one layer of x and these inputs; those that are texts are state of that type."""
    tensors: dict[str, Any] = {"x": f"f32[{','.join(map(str, x))}]"}
    tensors |= {f"w{i}": w for i, w in enumerate(inputs) if w is not None}
    tensors["y"] = f"f32[{','.join(map(str, (*x[:-1], CELLS)))}]"
    names = list(tensors)
    main = sub("main", tensors, "x", "y")
    made = [
        replace(t, is_variable=t.name[0] == "w" and t.data is None)  # what is no constant is state
        for t in main.tensors
    ]
    taken = [0, *(names.index(f"w{i}") if w is not None else -1 for i, w in enumerate(inputs))]
    step = Operator(op, 1, tuple(taken), (len(names) - 1,), (), MappingProxyType(options))
    return imported(Subgraph("main", tuple(made), main.inputs, main.outputs, (step,)))


STATE = f"f32[{BATCH},{CELLS}]"
LSTM: list[Any] = [weights(CELLS, IN) for _ in range(4)]
LSTM += [weights(CELLS, CELLS) for _ in range(4)] + [None] * 3
LSTM += [weights(CELLS) for _ in range(4)] + [None, None, STATE, STATE]
RNN = [weights(CELLS, IN), weights(CELLS, CELLS), weights(CELLS), STATE]
SEQUENCES = {"UNIDIRECTIONAL_SEQUENCE_LSTM": LSTM, "UNIDIRECTIONAL_SEQUENCE_RNN": RNN}
X = weights(BATCH, STEPS, IN)


def run(graph: Graph, *xs: np.ndarray) -> list[np.ndarray]:
    state: dict[str, np.ndarray] = {}
    found = []
    for x in xs:
        results = evaluate(graph, {"x": x, **state})
        found.append(results["y"])
        state = {name: results[name] for name in graph.state}
    return found


@pytest.mark.parametrize("op", SEQUENCES)
def test_two_halves_of_a_sequence_are_the_whole(op: str) -> None:
    (whole,) = run(layer(op, X.shape, SEQUENCES[op], **TANH), X)
    half = layer(op, (BATCH, STEPS // 2, IN), SEQUENCES[op], **TANH)
    parts = run(half, X[:, : STEPS // 2], X[:, STEPS // 2 :])
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", SEQUENCES)
def test_time_may_be_the_first_axis(op: str) -> None:
    (batches,) = run(layer(op, X.shape, SEQUENCES[op], **TANH), X)
    turned = layer(op, (STEPS, BATCH, IN), SEQUENCES[op], time_major=True, **TANH)
    (times,) = run(turned, X.transpose(1, 0, 2))
    np.testing.assert_allclose(times, batches.transpose(1, 0, 2), rtol=1e-6)


@pytest.mark.parametrize("op", SEQUENCES)
def test_the_walk_along_time_is_compiled(op: str) -> None:
    graph = optimise(layer(op, X.shape, SEQUENCES[op], **TANH))
    (loop,) = (v for v in graph.values() if v.op is not None and v.op.name == "loop")
    assert loop.attrs["length"] == STEPS and is_compiled(loop)


def test_an_lstm_is_what_its_paper_says() -> None:
    i, f, c, o = ([LSTM[k + g] for k in (0, 4, 11)] for g in range(4))
    hidden = cell = np.zeros((BATCH, CELLS))
    want = []
    for t in range(STEPS):
        gates = [X[:, t] @ w.T + hidden @ r.T + b for w, r, b in (i, f, c, o)]
        into, forget, out = (1 / (1 + np.exp(-gates[g])) for g in (0, 1, 3))
        cell = forget * cell + into * np.tanh(gates[2])
        hidden = out * np.tanh(cell)
        want.append(hidden)
    (found,) = run(layer("UNIDIRECTIONAL_SEQUENCE_LSTM", X.shape, LSTM, **TANH), X)
    np.testing.assert_allclose(found, np.stack(want, axis=1), rtol=1e-5, atol=1e-6)


def test_state_that_is_no_variable_is_refused() -> None:
    inputs = [*RNN[:3], np.zeros((BATCH, CELLS), np.float32)]
    with pytest.raises(ModelError, match="input 4 of RNN is not what it remembers"):
        layer("RNN", (BATCH, IN), inputs, **TANH)
