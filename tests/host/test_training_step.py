"""Compiled training steps, losses and schedules equal what the interpreter makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import brim
from brim.graph import Graph, evaluate, placeholder
from brim.ops import primitive as p
from brim.passes.autodiff import gradient
from brim.train import (
    SGD,
    Adam,
    AdamW,
    Cosine,
    CrossEntropy,
    Lion,
    OneCycle,
    Optimiser,
    Polynomial,
    Rate,
    Steps,
    Warmup,
    training_step,
)
from brim.train.schedules import rate_at, rate_of
from brim.types import F64, I64, Type, type_of
from tests.pure.test_losses import ROWS
from tests.pure.test_training_step import batches, deep, run

OPTIONS: dict[str, tuple[Optimiser, dict[str, Any]]] = {
    "sgd, nesterov": (SGD(0.1, momentum=0.9, nesterov=True, decay=0.01), {}),
    "adam, clipped": (Adam(Warmup(2, Cosine(0.02, 6))), {"clip": 0.5}),
    "adamw, averaged": (AdamW(0.02, decay_vectors=False), {"ema": 0.9, "clip_value": 0.1}),
    "lion, accumulated": (Lion(0.01), {"accumulate": 2}),
}


@pytest.mark.parametrize(("optimiser", "options"), OPTIONS.values(), ids=OPTIONS)
def test_compiled_steps_are_the_interpreters(optimiser: Optimiser, options: dict) -> None:
    step = training_step(deep(8, share=0.25), CrossEntropy(), optimiser, **options)
    model = brim.compile(step, threads=1)
    given = batches(4, 8, 5)
    given.insert(2, {**given[2], "x": np.full_like(given[2]["x"], np.nan)})
    wanted, state = run(step, given)
    for batch, want in zip(given, wanted):
        found = model.run(batch)
        assert found.keys() == want.keys()
        for name, array in want.items():
            np.testing.assert_allclose(found[name], array, rtol=2e-5, atol=2e-6, err_msg=name)
    assert [bool(want["finite"]) for want in wanted] == [True, True, False, True, True]
    for name, array in state.items():
        np.testing.assert_allclose(model.state[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_no_kernels_are_run_for_frozen_weights() -> None:
    net = deep(8)
    free, head, plain = (
        brim.compile(graph, threads=1).report()
        for graph in (
            training_step(net, CrossEntropy(), SGD(0.1)),
            training_step(net.freeze("first/*", "second/*"), CrossEntropy(), SGD(0.1)),
            net.with_constants(),
        )
    )
    steps = [row for row in head.kernels if row.where in ("first", "second")]
    assert len(steps) == sum(row.where in ("first", "second") for row in plain.kernels)
    assert sum(row.where in ("first", "second") for row in free.kernels) > 2 * len(steps)


@pytest.mark.parametrize("name", ROWS)
def test_compiled_losses_are_the_interpreters(name: str) -> None:
    loss, output, target, _ = ROWS[name]
    output = output.astype(np.float32)
    target = target.astype(np.float32) if target.dtype.kind == "f" else target
    x, y = placeholder(type_of(output)), placeholder(type_of(target))
    each = loss(x, y)
    outputs = {"each": each, "slope": gradient(each, [x])[0], **loss.metrics(x, y)}
    graph = Graph({"x": x, "y": y}, outputs)
    model = brim.compile(graph, threads=1)
    for scale in (1, 1e4, 1e18):  # with f32's squares up to 1e36
        feeds = {"x": output * np.float32(scale), "y": target}
        found = model.run(feeds)
        for key, want in evaluate(graph, feeds).items():
            size = max(1.0, float(np.abs(want).max()))
            np.testing.assert_allclose(found[key] / size, want / size, atol=2e-6, err_msg=key)
            assert np.isfinite(found[key]).all(), key


RATES: dict[str, Rate] = {
    "cosine": Cosine(0.1, 1000),
    "one cycle": OneCycle(0.1, 1000),
    "polynomial": Polynomial(0.1, 1000, 0.9),
    "steps": Warmup(10, Steps(0.1, (300, 600, 900))),
}


def test_compiled_schedules_and_powers_keep_the_digits_of_f64() -> None:
    step = placeholder(Type((), I64))
    count = p.cast(step, to=F64)
    powers = {f"{b}": p.power(brim.graph.const(np.float64(b)), count) for b in (0.9, 0.999)}
    outputs = {name: rate_at(rate, step) for name, rate in RATES.items()}
    model = brim.compile(Graph({"step": step}, {**outputs, **powers}), threads=1)
    for number in (0, 1, 5, 29, 300, 301, 777, 999, 1000, 5000):
        found = model.run({"step": np.int64(number)})
        for name, rate in RATES.items():
            assert float(found[name]) == pytest.approx(rate_of(rate, number), rel=1e-12, abs=1e-15)
        for name in powers:
            assert float(found[name]) == pytest.approx(float(name) ** number, rel=1e-11)
