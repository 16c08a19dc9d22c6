"""Control flow and data-dependent shapes: decided at import if possible, else kept in the graph."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import ModelProto, TensorProto, helper

from brim.errors import ModelError
from brim.frontends.onnx import import_model
from brim.graph import Graph, evaluate
from tests.onnx_models import BOOL, F32, I64, graph, model, node

Y = ("y", F32, None)
ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5


def _ops(found: Graph) -> list[str]:
    return [value.op.name for value in found.values() if value.op]


def _result(found: Graph, **feeds: np.ndarray) -> np.ndarray:
    return next(iter(evaluate(found, feeds).values()))


# ------------------------------------------------------------------ If


def _branches(second: TensorProto | None = None) -> ModelProto:
    then = graph([node("Neg", "x", "t")], [], [("t", F32, None)])
    orelse = graph([second or node("Exp", "x", "e")], [], [("e", F32, None)])
    return model(
        [node("If", "c", "y", then_branch=then, else_branch=orelse)],
        [("c", BOOL, ()), ("x", F32, (2, 3))],
        [Y],
    )


def test_a_constant_condition_leaves_one_branch() -> None:
    found = import_model(_branches(), constants={"c": np.array(True)})
    assert _ops(found) == ["neg"]


@pytest.mark.parametrize("flag", [True, False])
def test_a_condition_at_run_time(flag: bool) -> None:
    found = import_model(_branches())
    assert _ops(found) == ["cond"]
    wanted = -ARRAY if flag else np.exp(ARRAY)
    np.testing.assert_allclose(_result(found, c=np.array(flag), x=ARRAY), wanted, rtol=1e-6)


def test_branches_of_different_shapes() -> None:
    found = import_model(_branches(node("Flatten", "x", "e", axis=0)))
    assert found.outputs["y"].type.shape is None
    assert _result(found, c=np.array(True), x=ARRAY).shape == (2, 3)
    assert _result(found, c=np.array(False), x=ARRAY).shape == (1, 6)


def test_a_branch_that_makes_no_sense_fails_only_if_taken() -> None:
    found = import_model(_branches(node("MatMul", "x x", "e")))
    np.testing.assert_array_equal(_result(found, c=np.array(True), x=ARRAY), -ARRAY)
    with pytest.raises(ModelError, match="does not fit"):
        _result(found, c=np.array(False), x=ARRAY)


# ------------------------------------------------------------------ Loop and Scan


def _doubling(trips: int | None) -> ModelProto:
    """y = x doubled `trips` times (None: as many as the input n says), rows = all on the way."""
    body = graph(
        [node("Add", "v v", "w"), node("Identity", "go", "again"), node("Identity", "w", "row")],
        [("i", I64, ()), ("go", BOOL, ()), ("v", F32, None)],
        [("again", BOOL, ()), ("w", F32, None), ("row", F32, None)],
    )
    ports = [("x", F32, (2,))] + ([("n", I64, ())] if trips is None else [])
    weights = {"yes": np.array(True)} | ({} if trips is None else {"n": np.array(trips)})
    return model(
        [node("Loop", "n yes x", "y rows", body=body)], ports, [Y, ("rows", F32, None)], weights
    )


X = np.array([1, 3], np.float32)


@pytest.mark.parametrize(("trips", "unrolled"), [(3, True), (40, False)])
def test_loops_of_known_length(trips: int, unrolled: bool) -> None:
    found = import_model(_doubling(trips))
    assert ("loop" in _ops(found)) is not unrolled
    y, rows = evaluate(found, {"x": X}).values()
    np.testing.assert_allclose(y, X * 2.0**trips)
    np.testing.assert_allclose(rows, X * 2.0 ** np.arange(1, trips + 1)[:, None])


@pytest.mark.parametrize("trips", [0, 4])
def test_loops_whose_length_is_an_input(trips: int) -> None:
    found = import_model(_doubling(None))
    y, rows = evaluate(found, {"x": X, "n": np.array(trips)}).values()
    np.testing.assert_allclose(y, X * 2.0**trips)
    assert rows.shape == (trips, 2)


def test_a_loop_that_grows_what_it_carries() -> None:
    body = graph(
        [node("Concat", "v x", "w", axis=0), node("Identity", "go", "again")],
        [("i", I64, ()), ("go", BOOL, ()), ("v", F32, None)],
        [("again", BOOL, ()), ("w", F32, None)],
    )
    found = import_model(
        model([node("Loop", "n _ x", "y", body=body)], [("x", F32, (2,)), ("n", I64, ())], [Y])
    )
    assert _result(found, x=X, n=np.array(3)).shape == (8,)


@pytest.mark.parametrize("steps", [5, 50])
def test_scan_equals_a_running_sum(steps: int) -> None:
    body = graph(
        [node("Add", "s v", "t"), node("Identity", "t", "row")],
        [("s", F32, None), ("v", F32, None)],
        [("t", F32, None), ("row", F32, None)],
    )
    scan = node("Scan", "start x", "last y", body=body, num_scan_inputs=1)
    found = import_model(
        model([scan], [("x", F32, (steps, 2))], [Y], {"start": np.zeros(2, np.float32)})
    )
    assert ("loop" in _ops(found)) == (steps > 32)
    x = np.random.default_rng(0).standard_normal((steps, 2)).astype(np.float32)
    np.testing.assert_allclose(_result(found, x=x), np.cumsum(x, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_long_lstm_equals_its_formulas(direction: str) -> None:
    """With sequences of two lengths, step by step in numpy."""
    rng = np.random.default_rng(0)
    steps, batch, size, directions = 20, 2, 3, 2 if direction == "bidirectional" else 1
    weights = {
        "w": rng.standard_normal((directions, 4 * size, 5)).astype(np.float32),
        "r": rng.standard_normal((directions, 4 * size, size)).astype(np.float32),
        "b": rng.standard_normal((directions, 8 * size)).astype(np.float32),
        "n": np.array([steps, 7], np.int32),
    }
    x = rng.standard_normal((steps, batch, 5)).astype(np.float32)
    lstm = node("LSTM", "x w r b n", "y h c", hidden_size=size, direction=direction)
    found = import_model(
        model([lstm], [("x", F32, x.shape)], [Y, ("h", F32, None), ("c", F32, None)], weights)
    )
    assert "loop" in _ops(found)
    long = evaluate(found, {"x": x})
    turns = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    for d, reverse in enumerate(turns):
        h, c = np.zeros((2, batch, size))
        bias = weights["b"][d, : 4 * size] + weights["b"][d, 4 * size :]
        for t in range(steps)[:: -1 if reverse else 1]:
            gates = x[t] @ weights["w"][d].T + h @ weights["r"][d].T + bias
            i, o, f, g = np.split(gates, 4, axis=1)
            i, o, f = (1 / (1 + np.exp(-gate)) for gate in (i, o, f))
            inside = (t < weights["n"])[:, None]
            c = np.where(inside, f * c + i * np.tanh(g), c)
            h = np.where(inside, o * np.tanh(c), h)
            np.testing.assert_allclose(long["y"][t, d], np.where(inside, h, 0), 1e-4, 1e-5)
        np.testing.assert_allclose(long["h"][d], h, 1e-4, 1e-5)
        np.testing.assert_allclose(long["c"][d], c, 1e-4, 1e-5)
    assert not long["y"][7:, :, 1].any()  # behind the end of the second sequence


# ------------------------------------------------------------------ host steps, sequences


def test_a_shape_that_depends_on_data_runs_on_the_host() -> None:
    nodes = [
        node("NonZero", "x", "where"),
        node("Transpose", "where", "rows", perm=[1, 0]),
        node("GatherND", "x rows", "y"),
    ]
    found = import_model(model(nodes, [("x", F32, (2, 3))], [Y]))
    assert set(_ops(found)) == {"foreign"}
    x = np.array([[0, 2, 0], [3, 0, 4]], np.float32)
    np.testing.assert_array_equal(_result(found, x=x), [2, 3, 4])


def test_a_host_step_of_known_shape_leads_back_into_the_graph() -> None:
    nodes = [node("TopK", "x k", "v i", axis=1), node("Relu", "v", "y")]
    found = import_model(model(nodes, [("x", F32, (2, 3))], [Y], {"k": np.array([2])}))
    assert found.outputs["y"].shape == (2, 2)
    np.testing.assert_array_equal(
        _result(found, x=ARRAY), np.maximum(-np.sort(-ARRAY, 1)[:, :2], 0)
    )


def test_sequences_are_known_at_import() -> None:
    nodes = [
        node("SplitToSequence", "x", "s", axis=1, keepdims=0),
        node("SequenceAt", "s one", "a"),
        node("SequenceLength", "s", "n"),
        helper.make_node("Cast", ["n"], ["f"], to=F32),
        node("Add", "a f", "y"),
    ]
    found = import_model(model(nodes, [("x", F32, (2, 3))], [Y], {"one": np.array(1)}))
    np.testing.assert_array_equal(_result(found, x=ARRAY), ARRAY[:, 1] + 3)
