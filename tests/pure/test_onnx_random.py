"""Random operators: distributions, seeds, runs; and that no number is drawn before a model runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brim.errors import BrimError, InputError
from brim.frontends.onnx import import_model
from brim.graph import Graph, evaluate
from brim.passes.simplify import simplify
from brim.seeds import one_run
from brim.text import parse_graph, print_graph
from tests.onnx_models import BOOL, F32, I64, graph, model, node

MANY = 40_000


def made(op: str, shape: tuple[int, ...] = (MANY,), **attributes: Any) -> Graph:
    """A node of one input x: f32[shape]."""
    ports = [("x", F32, shape)]
    outputs = [("y", attributes.get("dtype", F32), None)]
    proto = model([node(op, "x", "y", **attributes)], ports, outputs, opset=22)
    return import_model(proto)


def draw(found: Graph, **feeds: np.ndarray) -> np.ndarray:
    return evaluate(found, feeds)["y"]


# ------------------------------------------------------------------ distributions


def test_normal_numbers() -> None:
    shaped = node("RandomNormal", "", "y", shape=[MANY], mean=3.0, scale=2.0, dtype=11)
    y = draw(import_model(model([shaped], [], [("y", 11, None)], opset=22)))
    assert y.dtype == np.float64
    assert abs(y.mean() - 3) < 0.05
    assert abs(y.std() - 2) < 0.05
    assert abs(((y - 3) ** 3).mean()) < 0.5


def test_uniform_numbers_like_another_tensor() -> None:
    x = np.zeros(MANY, np.float32)
    y = draw(made("RandomUniformLike", low=-1.0, high=3.0), x=x)
    assert y.dtype == np.float32
    assert -1 <= y.min() < -0.99
    assert 2.99 < y.max() <= 3
    assert abs(y.mean() - 1) < 0.05


def test_bernoulli_has_the_chances_of_its_input() -> None:
    x = np.repeat(np.float32([0, 0.25, 1]), MANY)
    y = draw(made("Bernoulli", (3 * MANY,), dtype=I64), x=x).reshape(3, -1)
    assert y.dtype == np.int64
    assert (y[0] == 0).all()
    assert abs(y[1].mean() - 0.25) < 0.02
    assert (y[2] == 1).all()


def test_multinomial_has_the_chances_of_its_input() -> None:
    chances = np.array([[0.1, 0.2, 0.0, 0.7], [0.0, 0.0, 1.0, 0.0]])
    with np.errstate(divide="ignore"):
        x = (np.log(chances) + 5).astype(np.float32)  # not normalised
    y = draw(made("Multinomial", (2, 4), sample_size=MANY, dtype=6), x=x)
    assert y.dtype == np.int32
    assert y.shape == (2, MANY)
    for row, wanted in zip(y, chances):
        np.testing.assert_allclose(np.bincount(row, minlength=4) / MANY, wanted, atol=0.01)
        assert not np.any(wanted[row] == 0)


def test_dropout_in_training() -> None:
    """The numbers of numpy's legacy generator, as in the official cases."""
    proto = model(
        [node("Dropout", "x r t", "y m", seed=7)],
        [("x", F32, (4, 5)), ("r", F32, ()), ("t", BOOL, ())],
        [("y", F32, None), ("m", BOOL, None)], opset=22,
    )  # fmt: skip
    found, x = import_model(proto), np.full((4, 5), 3, np.float32)
    for ratio in (0.25, 0.5):
        feeds = {"x": x, "r": np.float32(ratio), "t": np.True_}
        kept = np.random.RandomState(7).uniform(0, 1, (4, 5)) >= ratio
        results = evaluate(found, feeds)
        np.testing.assert_array_equal(results["m"], kept)
        np.testing.assert_allclose(results["y"], np.where(kept, 3 / (1 - ratio), 0), 1e-6)
    results = evaluate(found, {"x": x, "r": np.float32(0.5), "t": np.False_})
    np.testing.assert_array_equal(results["y"], x)
    assert results["m"].all()


# ------------------------------------------------------------------ seeds and runs


def test_a_seed_in_the_model_fixes_its_numbers() -> None:
    wanted = np.random.RandomState(3).random_sample(5).astype(np.float32)
    first = made("RandomUniformLike", (5,), seed=3.0)
    for found in (first, made("RandomUniformLike", (5,), seed=3.0)):
        np.testing.assert_array_equal(draw(found, x=np.zeros(5)), wanted)
    for seed in (0.5, -1.0, 1e20, 4.0):
        other = draw(made("RandomUniformLike", (5,), seed=seed), x=np.zeros(5))
        assert not np.array_equal(other, wanted)
    with pytest.raises(BrimError, match="seed inf"):
        made("RandomUniformLike", (5,), seed=np.inf)


def test_without_a_seed_every_run_draws_anew() -> None:
    found = made("RandomNormalLike", (5,))
    results = [draw(found, x=np.zeros(5)).tobytes() for _ in range(5)]
    assert len(set(results)) == 5


def test_the_setting_fixes_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = made("RandomNormalLike", (5,))

    def run() -> bytes:
        with one_run():
            return draw(found, x=np.zeros(5)).tobytes()

    monkeypatch.setenv("BRIM_SEED", "11")
    assert run() == run()
    first = run()
    monkeypatch.setenv("BRIM_SEED", "12")
    assert run() != first
    monkeypatch.setenv("BRIM_SEED", "many")
    with pytest.raises(InputError, match="BRIM_SEED"):
        run()


def _two_draws() -> Graph:
    nodes = [node("RandomUniform", "", name, shape=[9]) for name in ("a", "b")]
    return import_model(model(nodes, [], [("a", F32, None), ("b", F32, None)], opset=22))


def test_two_nodes_draw_different_numbers_even_with_one_seed() -> None:
    with one_run(seed=1):
        a, b = evaluate(_two_draws(), {}).values()
    assert not np.array_equal(a, b)


def test_no_pass_merges_or_computes_draws() -> None:
    found = simplify(_two_draws())
    assert sum(value.op is not None and value.op.name == "random" for value in found.values()) == 2
    first, second = (evaluate(found, {}) for _ in range(2))
    assert not np.array_equal(first["a"], second["a"])


def _loop(trips: int) -> Graph:
    nodes = [node("RandomUniform", "", "u", shape=[2]), node("Identity", "c", "again")]
    body = graph(
        nodes,
        [("i", I64, []), ("c", BOOL, [])],
        [("again", BOOL, []), ("u", F32, [2])],
        name="body",
    )
    weights = {"n": np.int64(trips)}
    proto = model([node("Loop", "n _", "y", body=body)], [], [("y", F32, None)], weights, opset=22)
    return import_model(proto)


@pytest.mark.parametrize("trips", [3, 60], ids=["unrolled", "looping"])
def test_every_iteration_draws_its_own(trips: int) -> None:
    found = _loop(trips)
    with one_run(seed=5):
        first = evaluate(found, {})["y"]
    with one_run(seed=5):
        second = evaluate(found, {})["y"]
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first)) == 2 * trips


def test_draws_of_a_shape_that_depends_on_data() -> None:
    nodes = [node("NonZero", "x", "n"), node("Cast", "n", "f", to=F32), node("Bernoulli", "f", "y")]
    proto = model(nodes, [("x", F32, (4,))], [("y", F32, None)], opset=22)
    y = draw(import_model(proto), x=np.float32([0, 1, 0, 1]))
    np.testing.assert_array_equal(y, [[1, 1]])  # chances 1 and 3


def test_the_text_of_a_graph_that_draws() -> None:
    found = made("RandomNormalLike", (5,), seed=3.0)
    again = parse_graph(print_graph(found)[0], print_graph(found)[1])
    feeds = {"x": np.zeros(5, np.float32)}
    np.testing.assert_array_equal(draw(again, **feeds), draw(found, **feeds))


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [
        ("RandomNormalLike", {"dtype": I64}, "its numbers are floats"),
        ("Multinomial", {"dtype": F32}, "Multinomial"),
        ("Multinomial", {"sample_size": 0}, "Multinomial"),
        ("RandomUniform", {"shape": [1 << 20, 1 << 20]}, "refused"),
        ("RandomUniform", {"shape": [1 << 15, 1 << 14]}, "refused"),
        ("RandomUniform", {}, "shape"),
    ],
)
def test_refused(op: str, attributes: dict[str, Any], message: str) -> None:
    inputs = "" if op == "RandomUniform" else "x"
    proto = model(
        [node(op, inputs, "y", **attributes)], [("x", F32, (2, 2))], [("y", F32, None)], opset=22
    )
    with pytest.raises(BrimError, match=message):
        import_model(proto)
