"""Optimisers against their papers' formulas in f64, step by step; torch's are in tests/extra."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from brim.errors import InputError
from brim.graph import const, evaluate_values, placeholder
from brim.train.optimisers import SGD, Adam, AdamW, Lion, Optimiser
from brim.train.schedules import Cosine, rate_at
from brim.types import I64, Type, type_of

Definition = Callable[[np.ndarray, list[np.ndarray]], np.ndarray]
STEPS, RATE = 6, 0.05


def moved(optimiser: Optimiser, weight: np.ndarray, slopes: list[np.ndarray]) -> np.ndarray:
    """The weight after a step for each slope, in f64."""
    kind = type_of(weight)
    step, w, g = placeholder(Type((), I64)), placeholder(kind), placeholder(kind)
    contents = optimiser.slots(weight.astype(np.float32))
    assert all(array.dtype == np.float32 for array in contents.values())
    slots = {name: placeholder(kind) for name in contents}
    new, after = optimiser.update(w, g, slots, step, rate_at(optimiser.rate, step))
    assert new.type == kind
    assert list(after) == list(slots)
    for number, slope in enumerate(slopes):
        env = {id(w): weight, id(g): slope, id(step): np.int64(number)}
        env |= {id(slots[name]): array.astype(np.float64) for name, array in contents.items()}
        weight, *arrays = evaluate_values([new, *after.values()], env)
        contents = dict(zip(after, arrays))
    return weight


def sgd(momentum: float = 0, nesterov: bool = False, decay: float = 0) -> Definition:
    def run(w: np.ndarray, slopes: list[np.ndarray]) -> np.ndarray:
        v = np.zeros_like(w)
        for g in slopes:
            g = g + decay * w
            v = momentum * v + g
            w = w - RATE * (g + momentum * v if nesterov else v)
        return w

    return run


def adam(b1: float, b2: float, eps: float, decay: float = 0, apart: float = 0) -> Definition:
    def run(w: np.ndarray, slopes: list[np.ndarray]) -> np.ndarray:
        m = v = np.zeros_like(w)
        for t, g in enumerate(slopes, 1):
            g = g + decay * w
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g * g
            step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
            w = w - RATE * (step + apart * w)
        return w

    return run


def lion(b1: float, b2: float, decay: float = 0) -> Definition:
    def run(w: np.ndarray, slopes: list[np.ndarray]) -> np.ndarray:
        m = np.zeros_like(w)
        for g in slopes:
            w = w - RATE * (np.sign(b1 * m + (1 - b1) * g) + decay * w)
            m = b2 * m + (1 - b2) * g
        return w

    return run


ROWS: dict[str, tuple[Optimiser, Definition]] = {
    "sgd": (SGD(RATE), sgd()),
    "sgd, decay": (SGD(RATE, decay=0.1), sgd(decay=0.1)),
    "momentum": (SGD(RATE, momentum=0.9, decay=0.1), sgd(0.9, decay=0.1)),
    "nesterov": (SGD(RATE, momentum=0.8, nesterov=True), sgd(0.8, nesterov=True)),
    "adam": (Adam(RATE), adam(0.9, 0.999, 1e-8)),
    "adam, decay": (Adam(RATE, (0.8, 0.9), 1e-3, decay=0.2), adam(0.8, 0.9, 1e-3, decay=0.2)),
    "adamw": (AdamW(RATE), adam(0.9, 0.999, 1e-8, apart=1e-2)),
    "adamw, decay": (AdamW(RATE, (0.8, 0.9), 1e-3, 0.2), adam(0.8, 0.9, 1e-3, apart=0.2)),
    "lion": (Lion(RATE), lion(0.9, 0.99)),
    "lion, decay": (Lion(RATE, (0.8, 0.9), decay=0.2), lion(0.8, 0.9, 0.2)),
}


def numbers(*shape: int) -> list[np.ndarray]:
    return list(np.random.default_rng(5).normal(size=(STEPS, *shape)))


@pytest.mark.parametrize(("optimiser", "definition"), ROWS.values(), ids=ROWS)
def test_optimisers_are_their_definitions(optimiser: Optimiser, definition: Definition) -> None:
    start = np.linspace(-2, 2, 12).reshape(3, 4)
    slopes = numbers(3, 4)
    found = moved(optimiser, start, slopes)
    np.testing.assert_allclose(found, definition(start, slopes), rtol=1e-12)


def test_slopes_of_zero_and_of_huge_size() -> None:
    start, nothing = np.ones((1, 2)), [np.zeros((1, 2))] * 3
    for optimiser in (SGD(RATE, momentum=0.9), Adam(RATE), Lion(RATE), AdamW(RATE, decay=0)):
        assert moved(optimiser, start, nothing).tolist() == [[1, 1]]
    huge = [np.full((1, 2), 1e100)]
    np.testing.assert_allclose(moved(Adam(RATE), start, huge), 1 - RATE)
    np.testing.assert_allclose(moved(Lion(RATE), start, huge), 1 - RATE)


@pytest.mark.parametrize("make", [SGD, Adam, AdamW, Lion])
def test_biases_and_norms_may_be_kept_from_decay(make: Callable[..., Optimiser]) -> None:
    for shape, same in (((3,), True), ((), True), ((3, 1), False), ((1, 1, 2, 2), False)):
        start, slopes = np.full(shape, 2.0), numbers(*shape)
        plain = moved(make(RATE, decay=0), start, slopes)
        kept = moved(make(RATE, decay=0.5, decay_vectors=False), start, slopes)
        pulled = moved(make(RATE, decay=0.5), start, slopes)
        assert np.array_equal(kept, plain) == same
        assert np.array_equal(kept, pulled) != same


def test_a_rate_may_be_a_schedule() -> None:
    schedule, slopes = Cosine(0.1, 4), numbers(2, 2)
    found = moved(SGD(schedule), np.zeros((2, 2)), slopes)
    rates = [0.05 * (1 + np.cos(np.pi * min(i, 4) / 4)) for i in range(STEPS)]
    np.testing.assert_allclose(found, -sum(r * g for r, g in zip(rates, slopes)), rtol=1e-12)


def test_the_sum_of_decay_and_rate_keeps_its_digits_in_f32() -> None:
    """1 - rate * decay is rounded once, not computed in f32."""
    weight, step = const(np.ones((2, 2), np.float32)), const(np.int64(0))
    slots = {"mean": const(np.zeros((2, 2), np.float32))}
    zero = const(np.zeros((2, 2), np.float32))
    found, _ = Lion(1e-3, decay=1e-2).update(weight, zero, slots, step, const(np.float64(1e-3)))
    assert found.data is not None
    assert (found.data == np.float32(1 - 1e-5)).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(0),
        lambda: SGD(float("nan")),
        lambda: SGD(0.1, momentum=1.0),
        lambda: SGD(0.1, nesterov=True),
        lambda: SGD(0.1, decay=-1),
        lambda: Adam(0.1, betas=(0.9, 1.0)),
        lambda: AdamW(-0.1),
        lambda: Lion(0.1, betas=(-0.1, 0.9)),
    ],
)
def test_options_without_meaning_are_refused(make: Callable[[], Optimiser]) -> None:
    with pytest.raises(InputError):
        make()
