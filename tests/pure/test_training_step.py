"""The training step by the interpreter: what it computes, what it remembers, what it refuses.

Compiled steps are checked in tests/host/test_training.py, against torch in tests/extra.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from brim.errors import InputError
from brim.graph import Graph, const, evaluate, placeholder
from brim.ops import math as maths
from brim.ops import nn
from brim.ops import primitive as p
from brim.ops.dropout import dropout
from brim.ops.registry import at
from brim.train import (
    SGD,
    Adam,
    CrossEntropy,
    MeanSquared,
    Network,
    Source,
    Steps,
    training_step,
    where_not_finite,
)
from brim.types import F32, Type, type_of

Arrays = dict[str, np.ndarray]


def source(seed: int = 11) -> Callable[..., np.ndarray]:
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.normal(size=shape).astype(np.float32)


def made(graph: Graph, weights: Arrays) -> Network:
    sources = {name: Source(array.shape) for name, array in weights.items()}
    return Network(graph, weights, sources)


def linear(batch: int = 6) -> Network:
    """x[batch, 4] -> logits[batch, 3]."""
    numbers = source()
    weights = {"w": numbers(4, 3), "b": numbers(3)}
    x = placeholder(Type((batch, 4), F32))
    inputs = {name: placeholder(type_of(array)) for name, array in weights.items()}
    y = p.add(maths.matmul(x, inputs["w"]), inputs["b"])
    return made(Graph({"x": x, **inputs}, {"y": y}, "linear"), weights)


def deep(batch: int = 4, norm: bool = True, share: float = 0.0) -> Network:
    """x[batch, 5] -> three layers of which the first has a batch norm, the second dropout."""
    numbers = source()
    weights = {
        "first/w": numbers(5, 6), "first/scale": numbers(6), "first/shift": numbers(6),
        "first/mean": numbers(6), "first/variance": np.abs(numbers(6)) + 1,
        "second/w": numbers(6, 6), "last/w": numbers(6, 3), "last/b": numbers(3),
    }  # fmt: skip
    if not norm:
        weights = {k: v for k, v in weights.items() if k not in ("first/mean", "first/variance")}
    x = placeholder(Type((batch, 5), F32))
    v = {name: placeholder(type_of(array)) for name, array in weights.items()}
    with at("first"):
        y = maths.matmul(x, v["first/w"])
        if norm:
            stats = v["first/mean"], v["first/variance"]
            y = nn.batch_norm(y, v["first/scale"], v["first/shift"], *stats, epsilon=1e-5)
        else:
            y = p.add(p.mul(y, v["first/scale"]), v["first/shift"])
        y = maths.relu(y)
    with at("second"):
        y = dropout(maths.relu(maths.matmul(y, v["second/w"])), rate=share)
    with at("last"):
        y = p.add(maths.matmul(y, v["last/w"]), v["last/b"])
    return made(Graph({"x": x, **v}, {"y": y}, "deep"), weights)


def run(step: Graph, batches: list[Arrays], state: Arrays | None = None) -> tuple[list, Arrays]:
    """The visible results of one step after another, and the state after the last."""
    state = dict(step.state) if state is None else state
    seen = []
    for batch in batches:
        results = evaluate(step, {**batch, **state})
        state = {name: results.pop(name) for name in step.state}
        seen.append(results)
    return seen, state


def batches(count: int, size: int, width: int, classes: int = 3) -> list[Arrays]:
    rng = np.random.default_rng(count)
    return [
        {
            "x": rng.normal(size=(size, width)).astype(np.float32),
            "target": rng.integers(0, classes, size),
        }
        for _ in range(count)
    ]


def slopes_of(net: Network, batch: Arrays) -> tuple[float, Arrays]:
    """Loss and slopes of `linear`, by hand in f64."""
    w, b, x = (a.astype(np.float64) for a in (net.weights["w"], net.weights["b"], batch["x"]))
    z = x @ w + b
    e = np.exp(z - z.max(1, keepdims=True))
    share = e / e.sum(1, keepdims=True)
    right = np.eye(3)[batch["target"]]
    off = (share - right) / len(x)
    return float(-(right * np.log(share)).sum(1).mean()), {"w": x.T @ off, "b": off.sum(0)}


def norm_of(slopes: Arrays) -> float:
    return float(np.sqrt(sum((a**2).sum() for a in slopes.values())))


# ------------------------------------------------------------------ what it computes


def test_a_step_moves_weights_along_the_slopes_of_the_mean_loss() -> None:
    net = linear()
    step = training_step(net, CrossEntropy(), SGD(0.5))
    (batch,) = batches(1, 6, 4)
    (seen,), state = run(step, [batch])
    loss, slopes = slopes_of(net, batch)
    assert seen["loss"] == pytest.approx(loss, rel=1e-5)
    assert seen["norm"] == pytest.approx(norm_of(slopes), rel=1e-5)
    assert seen["finite"]
    assert seen["rate"] == 0.5
    named = (batch["x"] @ net.weights["w"] + net.weights["b"]).argmax(1)
    assert seen["accuracy"] == pytest.approx((named == batch["target"]).mean())
    assert state.keys() == {"w", "b", "step"}
    assert state["step"] == 1
    for name, slope in slopes.items():
        wanted = net.weights[name] - 0.5 * slope
        np.testing.assert_allclose(state[name], wanted, rtol=1e-5, atol=1e-6)


def test_the_rate_follows_the_steps() -> None:
    step = training_step(linear(), CrossEntropy(), SGD(Steps(0.4, (2, 3), 0.5)))
    seen, state = run(step, batches(4, 6, 4))
    np.testing.assert_allclose([s["rate"] for s in seen], [0.4, 0.4, 0.2, 0.1])
    assert state["step"] == 4


@pytest.mark.parametrize("clip", [1e-3, 0.1, 100.0])
def test_slopes_are_clipped_by_the_norm_of_all(clip: float) -> None:
    net, (batch,) = linear(), batches(1, 6, 4)
    (seen,), state = run(training_step(net, CrossEntropy(), SGD(1.0), clip=clip), [batch])
    _, slopes = slopes_of(net, batch)
    norm = norm_of(slopes)
    assert seen["norm"] == pytest.approx(norm, rel=1e-5)
    moved = {name: net.weights[name] - state[name] for name in slopes}
    assert norm_of(moved) == pytest.approx(min(clip, norm), rel=1e-4)
    for name, slope in slopes.items():
        np.testing.assert_allclose(moved[name], slope * min(1, clip / norm), rtol=1e-2, atol=1e-6)


def test_slopes_are_clipped_one_by_one() -> None:
    net, (batch,) = linear(), batches(1, 6, 4)
    (seen,), state = run(training_step(net, CrossEntropy(), SGD(1.0), clip_value=0.05), [batch])
    _, slopes = slopes_of(net, batch)
    assert seen["norm"] == pytest.approx(norm_of(slopes), rel=1e-5)
    for name, slope in slopes.items():
        moved = net.weights[name] - state[name]
        np.testing.assert_allclose(moved, slope.clip(-0.05, 0.05), rtol=1e-2, atol=1e-6)
        assert (np.abs(slope) > 0.05).any()


def test_moving_averages_follow_the_weights() -> None:
    net = linear()
    step = training_step(net, CrossEntropy(), SGD(0.5), ema=0.9)
    wanted, state = {k: v.astype(np.float64) for k, v in net.weights.items()}, dict(step.state)
    for batch in batches(5, 6, 4):
        _, state = run(step, [batch], state)
        wanted = {name: 0.9 * a + 0.1 * state[name] for name, a in wanted.items()}
    for name, average in wanted.items():
        np.testing.assert_allclose(state[f"{name}/average"], average, rtol=1e-5, atol=1e-6)
        assert np.abs(average - state[name]).max() > 1e-3


@pytest.mark.parametrize("options", [{}, {"clip": 0.2}, {"clip_value": 0.05}, {"ema": 0.5}])
def test_batches_that_make_one_update_are_one_large_batch(options: dict[str, Any]) -> None:
    weights = deep(4, norm=False)
    large = replace(deep(12, norm=False), weights=weights.weights)
    parts = batches(6, 4, 5)
    wholes = [
        {k: np.concatenate([b[k] for b in parts[i : i + 3]]) for k in parts[0]} for i in (0, 3)
    ]
    one, many = (
        training_step(net, CrossEntropy(), SGD(0.5, momentum=0.9), accumulate=k, **options)
        for net, k in ((large, 1), (weights, 3))
    )
    seen_one, wanted = run(one, wholes)
    seen, state = run(many, parts)
    assert [int(s) for s in (state["step"], state["micro"])] == [2, 0]
    for name, array in wanted.items():
        np.testing.assert_allclose(state[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
    assert not state["last/w/sum"].any()
    np.testing.assert_allclose(seen[2]["norm"], seen_one[0]["norm"], rtol=1e-4)
    losses = [float(s["loss"]) for s in seen]
    wanted_losses = [float(s["loss"]) for s in seen_one]
    np.testing.assert_allclose(np.mean(np.reshape(losses, (2, 3)), 1), wanted_losses, rtol=1e-4)


def test_nothing_moves_between_updates_but_sums_and_statistics() -> None:
    net = deep(4)
    step = training_step(net, CrossEntropy(), Adam(0.05), accumulate=3, ema=0.9)
    _, state = run(step, batches(2, 4, 5))
    assert [int(state["step"]), int(state["micro"])] == [0, 2]
    for name, array in state.items():
        if name in net.statistics or name.endswith("/sum"):
            assert not np.array_equal(array, step.state[name]), name
        elif name != "micro":
            assert np.array_equal(array, step.state[name]), name


def test_running_statistics_follow_the_batches() -> None:
    net, (batch,) = deep(4), batches(1, 4, 5)
    _, state = run(training_step(net, CrossEntropy(), SGD(0.1)), [batch])
    y = batch["x"] @ net.weights["first/w"]
    for name, own in (("first/mean", y.mean(0)), ("first/variance", y.var(0, ddof=1))):
        wanted = 0.9 * net.weights[name] + 0.1 * own
        np.testing.assert_allclose(state[name], wanted, rtol=1e-5, atol=1e-6)


def test_what_drops_is_another_part_in_each_step_and_the_same_for_one_seed() -> None:
    net = deep(4, share=0.5)
    same = batches(1, 4, 5) * 4

    def losses(seed: int, rate: float = 1e-12, accumulate: int = 1) -> list[float]:
        step = training_step(net, CrossEntropy(), SGD(rate), seed=seed, accumulate=accumulate)
        return [float(s["loss"]) for s in run(step, same)[0]]

    found = losses(0)
    assert len(set(found)) > 1
    assert found == losses(0)
    assert found != losses(1)
    np.testing.assert_allclose(found, losses(0, accumulate=2), rtol=1e-5)


# ------------------------------------------------------------------ frozen weights


def contracts(graph: Graph) -> int:
    named = [v for v in graph.values() if v.op is not None and v.op.name == "contract"]
    return sum(value.where != "norm" for value in named)


def test_nothing_is_computed_for_frozen_weights() -> None:
    net = deep(4)
    free = training_step(net, CrossEntropy(), SGD(0.1))
    head = training_step(net.freeze("first/*", "second/*"), CrossEntropy(), SGD(0.1))
    assert contracts(free) == 3 + 3 + 2  # the forward pass, weights, what layers read
    assert contracts(head) == 3 + 1
    assert head.state.keys() == {"last/w", "last/b", "step"}
    assert not any("first" in name for name in head.inputs)


def test_frozen_norms_use_their_running_statistics() -> None:
    net, parts = deep(4).freeze("first/*"), batches(3, 4, 5)
    step = training_step(net, CrossEntropy(), SGD(1e-12))
    seen, _ = run(step, parts)
    for batch, found in zip(parts, seen):
        logits = evaluate(net.with_constants(), {"x": batch["x"]})["y"]
        e = np.exp(logits - logits.max(1, keepdims=True))
        chosen = (e / e.sum(1, keepdims=True))[np.arange(4), batch["target"]]
        assert found["loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-5)


# ------------------------------------------------------------------ numbers that are not finite


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_not_finite_leaves_all_state_as_it_was(accumulate: int) -> None:
    options: dict[str, Any] = {"clip": 1.0, "ema": 0.9, "accumulate": accumulate}
    step = training_step(deep(4), CrossEntropy(), Adam(0.1), **options)
    good = batches(3, 4, 5)
    bad = {**good[1], "x": good[1]["x"].copy()}
    bad["x"][2, 1] = np.nan
    worse = {**good[1], "target": np.array([0, 1, 3, 1])}
    _, wanted = run(step, good)
    seen, state = run(step, [good[0], bad, good[1], worse, good[2]])
    assert [bool(s["finite"]) for s in seen] == [True, False, True, False, True]
    for name, array in wanted.items():
        assert np.array_equal(state[name], array), name


def test_a_slope_that_is_not_finite_counts_as_well() -> None:
    """The slope of a root at 0, with a loss that is finite."""
    w = np.zeros((2,), np.float32)
    x, v = placeholder(Type((3, 2), F32)), placeholder(type_of(w))
    with at("roots"):
        y = p.sqrt(p.mul(x, v))
    step = training_step(made(Graph({"x": x, "w": v}, {"y": y}), {"w": w}), MeanSquared(), SGD(1.0))
    batch = {"x": np.ones((3, 2), np.float32), "target": np.ones((3, 2), np.float32)}
    (seen,), state = run(step, [batch])
    assert np.isfinite(seen["loss"])
    assert not seen["finite"]
    assert state["w"].tolist() == [0, 0]
    assert where_not_finite(step, step.state, batch) == "slope of roots (div)"


def test_the_layer_that_made_the_first_bad_number_is_named() -> None:
    net = deep(4)
    step = training_step(net, CrossEntropy(), SGD(0.1))
    (batch,) = batches(1, 4, 5)
    state = dict(step.state)
    assert where_not_finite(step, state, batch) is None

    bad = batch["x"].copy()
    bad[0, 0] = np.inf
    assert where_not_finite(step, state, {**batch, "x": bad}) == "input 'x'"
    weight = state["second/w"].copy()
    weight[0, 0] = np.nan
    assert where_not_finite(step, {**state, "second/w": weight}, batch) == "weight 'second/w'"
    huge = np.full_like(weight, 3e38)
    found = where_not_finite(step, {**state, "second/w": huge}, batch)
    assert found == "second (contract)"
    assert where_not_finite(step, state, {**batch, "target": np.array([0, 9, 0, 0])}) == (
        "loss (select)"
    )


def test_infinite_masks_are_not_blamed() -> None:
    """Attention hides what is masked behind -inf; the fault is elsewhere."""
    numbers = source()
    w = {"w": numbers(3)}
    x, v = placeholder(Type((2, 3), F32)), placeholder(type_of(w["w"]))
    mask = const(np.array([0, -np.inf, 0], np.float32))
    with at("attention"):
        y = maths.softmax(p.add(p.mul(x, v), mask), axis=1)
    with at("logarithm"):
        y = p.log(p.sub(y, 1.0))
    step = training_step(made(Graph({"x": x, "w": v}, {"y": y}), w), MeanSquared(), SGD(0.1))
    batch = {"x": numbers(2, 3), "target": numbers(2, 3)}
    assert where_not_finite(step, step.state, batch) == "logarithm (log)"


# ------------------------------------------------------------------ order, errors


def test_state_stands_from_the_last_layer_to_the_first() -> None:
    step = training_step(deep(4), CrossEntropy(), SGD(0.1, momentum=0.9))
    weights = [name for name in step.outputs if name in deep(4).trained]
    assert [name.split("/")[0] for name in weights] == ["last"] * 2 + ["second"] + ["first"] * 3
    assert step.outputs.keys() - step.state.keys() == {"loss", "norm", "finite", "rate", "accuracy"}
    assert step.inputs.keys() - step.state.keys() == {"x", "target"}


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"clip": 0.0}, "clip is"),
        ({"clip_value": -1.0}, "clip_value is"),
        ({"clip": 1.0, "clip_value": 1.0}, "by norm or by value"),
        ({"accumulate": 0}, "accumulate is"),
        ({"ema": 1.0}, "ema is"),
    ],
)
def test_options_without_meaning_are_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        training_step(linear(), CrossEntropy(), SGD(0.1), **options)


def test_networks_without_anything_to_train_are_refused() -> None:
    with pytest.raises(InputError, match="all weights are frozen"):
        training_step(linear().freeze("*"), CrossEntropy(), SGD(0.1))


@pytest.mark.parametrize(
    ("name", "what"),
    [("step", "two parts of the state"), ("loss", "name two things"), ("target", "two things")],
)
def test_names_that_clash_are_refused(name: str, what: str) -> None:
    net = linear()
    inputs = {(name if n == "w" else n): v for n, v in net.graph.inputs.items()}
    weights = {name: net.weights["w"], "b": net.weights["b"]}
    with pytest.raises(InputError, match=what):
        training_step(made(replace(net.graph, inputs=inputs), weights), CrossEntropy(), SGD(0.1))
