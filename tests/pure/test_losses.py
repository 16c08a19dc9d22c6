"""Losses against their definitions in f64, their slopes against differences, and extreme outputs.

Peers are compared in tests/extra/test_train_torch.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from brim.errors import InputError, OpError
from brim.graph import Value, evaluate_values, placeholder
from brim.ops import math as maths
from brim.ops import primitive as p
from brim.passes.autodiff import gradient
from brim.train import losses
from brim.train.losses import Loss
from brim.types import F16, F32, F64, I64, Type, type_of

RNG = np.random.default_rng(3)


def run(loss: Loss, output: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The loss of each sample, and the slope of their sum."""
    x, y = placeholder(type_of(output)), placeholder(type_of(target))
    each = loss(x, y)
    assert each.type == Type(output.shape[:1], F64 if output.dtype == np.float64 else F32)
    found = evaluate_values([each, *gradient(each, [x])], {id(x): output, id(y): target})
    return found[0], found[1]


def slope(loss: Loss, output: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Central differences."""
    found = np.zeros(output.shape)
    for place in np.ndindex(*output.shape):
        ends = []
        for sign in (1, -1):
            moved = output.copy()
            moved[place] += sign * 1e-6
            ends.append(run(loss, moved, target)[0].sum())
        found[place] = (ends[0] - ends[1]) / 2e-6
    return found


# ------------------------------------------------------------------ definitions


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes)[labels]


def of_samples(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).mean(1)


def entropy(x: np.ndarray, share: np.ndarray, axis: int = -1) -> np.ndarray:
    return of_samples(-(share * np.log(softmax(x, axis))).sum(axis))


def binary(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    q = 1 / (1 + np.exp(-x))
    return of_samples(-(y * np.log(q) + (1 - y) * np.log(1 - q)))


def divergence(x: np.ndarray, y: np.ndarray, t: float) -> np.ndarray:
    mine, theirs = softmax(x / t), softmax(y / t)
    return of_samples(t * t * (theirs * np.log(theirs / mine)).sum(-1))


def huber(x: np.ndarray, y: np.ndarray, delta: float) -> np.ndarray:
    off = np.abs(x - y)
    return of_samples(np.where(off <= delta, off**2 / 2, delta * (off - delta / 2)))


def triplet(x: np.ndarray, labels: np.ndarray, margin: float) -> np.ndarray:
    found = []
    for i, anchor in enumerate(x):
        far = np.linalg.norm(x - anchor, axis=1)
        ours = [d for j, d in enumerate(far) if labels[j] == labels[i] and j != i]
        others = [d for j, d in enumerate(far) if labels[j] != labels[i]]
        found.append(max(0, margin + max(ours) - min(others)) if ours and others else 0)
    return np.array(found)


def contrastive(x: np.ndarray, labels: np.ndarray, t: float) -> np.ndarray:
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = []
    for i, anchor in enumerate(x):
        e = np.exp(x @ anchor / t)
        rest = e.sum() - e[i]
        ours = [-np.log(e[j] / rest) for j in range(len(x)) if labels[j] == labels[i] and j != i]
        found.append(np.mean(ours) if ours else 0)
    return np.array(found)


def logits(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape) * 2


def labels(classes: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, classes, shape)


def probabilities(*shape: int) -> np.ndarray:
    return softmax(logits(*shape))


KINDS = np.array([0, 1, 0, 2, 1, 0, 3])  # 2 and 3 are alone
Row = tuple[Loss, np.ndarray, np.ndarray, Callable[[np.ndarray, np.ndarray], np.ndarray]]
ROWS: dict[str, Row] = {
    "classes": (
        losses.CrossEntropy(),
        logits(4, 5), labels(5, 4),
        lambda x, y: entropy(x, one_hot(y, 5)),
    ),
    "smoothed": (
        losses.CrossEntropy(smoothing=0.1),
        logits(4, 5), labels(5, 4),
        lambda x, y: entropy(x, one_hot(y, 5) * 0.9 + 0.02),
    ),
    "words": (
        losses.CrossEntropy(),
        logits(2, 3, 5), labels(5, 2, 3),
        lambda x, y: entropy(x, one_hot(y, 5)),
    ),
    "pixels, classes second": (
        losses.CrossEntropy(smoothing=0.2, axis=1),
        logits(2, 5, 2, 3), labels(5, 2, 2, 3),
        lambda x, y: entropy(np.moveaxis(x, 1, -1), one_hot(y, 5) * 0.8 + 0.04),
    ),
    "soft": (
        losses.CrossEntropy(soft=True),
        logits(4, 5), probabilities(4, 5),
        entropy,
    ),
    "soft, smoothed pixels": (
        losses.CrossEntropy(soft=True, smoothing=0.1, axis=1),
        logits(2, 5, 3), np.moveaxis(probabilities(2, 3, 5), -1, 1),
        lambda x, y: entropy(x, y * 0.9 + 0.02, 1),
    ),
    "binary": (losses.BinaryCrossEntropy(), logits(4, 3), RNG.uniform(size=(4, 3)), binary),
    "binary, one each": (losses.BinaryCrossEntropy(), logits(4), np.array([0, 1, 1, 0.0]), binary),
    "divergence": (
        losses.KullbackLeibler(),
        logits(4, 5), logits(4, 5),
        lambda x, y: divergence(x, y, 1),
    ),
    "divergence, warm": (
        losses.KullbackLeibler(temperature=4),
        logits(2, 3, 5), logits(2, 3, 5),
        lambda x, y: divergence(x, y, 4),
    ),
    "squared": (losses.MeanSquared(), logits(4, 3, 2), logits(4, 3, 2),
                lambda x, y: of_samples((x - y) ** 2)),
    "absolute": (losses.MeanAbsolute(), logits(4, 3), logits(4, 3),
                 lambda x, y: of_samples(np.abs(x - y))),
    "huber": (losses.Huber(), logits(4, 3), logits(4, 3), lambda x, y: huber(x, y, 1)),
    "huber, narrow": (losses.Huber(0.3), logits(4, 3), logits(4, 3),
                      lambda x, y: huber(x, y, 0.3)),
    "triplet": (losses.Triplet(0.5), logits(7, 3), KINDS, lambda x, y: triplet(x, y, 0.5)),
    "contrastive": (losses.Contrastive(0.5), logits(7, 3), KINDS,
                    lambda x, y: contrastive(x, y, 0.5)),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_losses_are_their_definitions(row: Row) -> None:
    loss, output, target, definition = row
    assert loss.target(type_of(output)) == type_of(target)
    np.testing.assert_allclose(run(loss, output, target)[0], definition(output, target), rtol=1e-9)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_slopes_are_those_of_the_loss(row: Row) -> None:
    loss, output, target, _ = row
    found = run(loss, output, target)[1]
    np.testing.assert_allclose(found, slope(loss, output, target), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_losses_of_narrow_outputs_are_computed_in_f32(row: Row) -> None:
    loss, output, target, definition = row
    output = output.astype(np.float16)
    target = target.astype(np.float32) if target.dtype.kind == "f" else target
    found, slopes = run(loss, output, target)
    wanted = definition(output.astype(np.float64), target)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    assert slopes.dtype == np.float16


# ------------------------------------------------------------------ extremes


def test_cross_entropy_of_extreme_logits() -> None:
    x = np.array([[1e30, 0, -1e30], [1e30, 0, -1e30], [-np.inf, 3, 3]], np.float32)
    found, slopes = run(losses.CrossEntropy(), x, np.array([0, 2, 1]))
    np.testing.assert_allclose(found, [0, 2e30, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(slopes, [[0, 0, 0], [1, 0, -1], [0, -0.5, 0.5]], atol=1e-6)


def test_a_class_without_a_share_may_be_impossible() -> None:
    x, share = np.array([[-np.inf, 1, 1]], np.float32), np.array([[0, 0.5, 0.5]], np.float32)
    for loss, target in (
        (losses.CrossEntropy(soft=True), share),
        (losses.KullbackLeibler(), x),
    ):
        found, slopes = run(loss, x, target)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(slopes, 0, atol=1e-6)


@pytest.mark.parametrize("label", [-1, 3, 2**40])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_number_that_is_no_class_gives_nan(label: int, smoothing: float) -> None:
    found, _ = run(losses.CrossEntropy(smoothing), logits(2, 3), np.array([label, 1]))
    assert np.isnan(found).tolist() == [True, False]


def test_binary_cross_entropy_keeps_its_digits() -> None:
    x = np.array([[0], [0], [20], [-20], [1e30], [-1e30], [1e30]], np.float32)
    y = np.array([[0], [1], [1], [0], [1], [0], [0]], np.float32)
    found, slopes = run(losses.BinaryCrossEntropy(), x, y)
    tiny = np.log1p(np.exp(-20))
    np.testing.assert_allclose(found, [np.log(2), np.log(2), tiny, tiny, 0, 0, 1e30], rtol=1e-6)
    wanted = np.array([[0.5], [-0.5], [-np.exp(-20)], [np.exp(-20)], [0], [0], [1]])
    np.testing.assert_allclose(slopes, wanted, rtol=1e-4, atol=1e-7)


def test_errors_at_the_edge_and_far_out() -> None:
    off = np.array([[0], [1e-9], [1], [-1], [1e30], [-1e30]], np.float32)
    zero = np.zeros_like(off)
    found, slopes = run(losses.Huber(), off, zero)
    np.testing.assert_allclose(found, [0, 5e-19, 0.5, 0.5, 1e30, 1e30], rtol=1e-6)
    np.testing.assert_allclose(slopes.ravel(), [0, 1e-9, 1, -1, 1, -1], rtol=1e-6)
    assert run(losses.MeanAbsolute(), off, zero)[1].ravel().tolist() == [0, 1, 1, -1, 1, -1]


def test_equal_points_have_finite_slopes() -> None:
    points = np.ones((4, 3), np.float32)
    for loss in (losses.Triplet(), losses.Contrastive()):
        for kinds in ([0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 2, 3]):
            found, slopes = run(loss, points, np.array(kinds))
            assert np.isfinite(found).all(), (loss, kinds)
            np.testing.assert_allclose(slopes, 0, atol=1e-6)
    found, slopes = run(losses.Contrastive(), np.zeros((4, 3), np.float32), np.array([0, 0, 1, 1]))
    assert np.isfinite(found).all()
    assert np.isfinite(slopes).all()


@pytest.mark.parametrize("loss", [losses.Triplet(0.5), losses.Contrastive()])
def test_numbers_below_0_are_no_class(loss: losses.Loss) -> None:
    kinds = np.array([0, 0, -1, 1, -1, 1])
    found, _ = run(loss, logits(6, 3), kinds)
    assert np.isnan(found).tolist() == (kinds < 0).tolist()


def test_triplets_far_from_the_origin_are_the_hardest() -> None:
    points = (1000 + logits(7, 3)).astype(np.float32)
    found, _ = run(losses.Triplet(0.5), points, KINDS)
    np.testing.assert_allclose(found, triplet(points.astype(np.float64), KINDS, 0.5), rtol=1e-5)


# ------------------------------------------------------------------ networks that end in them

ENDS: dict[str, tuple[Loss, Callable[[Value], Value], np.ndarray]] = {
    "classes": (
        losses.CrossEntropy(), lambda x: maths.softmax(x, axis=1), labels(5, 4),
    ),
    "pixels, reshaped": (
        losses.CrossEntropy(smoothing=0.1, axis=1),
        lambda x: p.reshape(
            maths.softmax(p.reshape(x, shape=(1, 2, 5, 2)), axis=2), shape=(2, 5, 2, 1)
        ),
        labels(5, 2, 2, 1),
    ),
    "binary": (losses.BinaryCrossEntropy(), maths.sigmoid, RNG.uniform(size=(4, 5))),
    "divergence": (
        losses.KullbackLeibler(2.0), lambda x: maths.softmax(x, axis=1), logits(4, 5),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("loss", "end", "target"), ENDS.values(), ids=ENDS)
def test_outputs_that_end_in_probabilities_are_no_logits(
    loss: Loss, end: Callable[[Value], Value], target: np.ndarray
) -> None:
    start = np.array(logits(4, 5)) * 40  # the slopes of a softmax would be 0 mostly
    x, y = placeholder(type_of(start)), placeholder(type_of(target))
    made = end(x)
    wanted = loss(p.reshape(x, shape=made.shape), y)
    found = loss(made, y)
    pairs = [found, gradient(found, [x])[0], *loss.metrics(made, y).values()]
    peers = [wanted, gradient(wanted, [x])[0]]
    peers += loss.metrics(p.reshape(x, shape=made.shape), y).values()
    arrays = evaluate_values([*pairs, *peers], {id(x): start, id(y): target})
    for a, b in zip(arrays[: len(pairs)], arrays[len(pairs) :]):
        assert np.array_equal(a, b)


def test_softmax_along_another_axis_is_part_of_the_network() -> None:
    start, target = logits(3, 3), labels(3, 3)
    x, y = placeholder(type_of(start)), placeholder(type_of(target))
    each = losses.CrossEntropy()(maths.softmax(x, axis=0), y)
    found = evaluate_values([each], {id(x): start, id(y): target})[0]
    np.testing.assert_allclose(found, entropy(softmax(start, 0), one_hot(target, 3)))


def test_divergence_of_two_softmaxes_is_that_of_their_logits() -> None:
    a, b = (placeholder(Type((4, 5), F64)) for _ in range(2))
    loss = losses.KullbackLeibler(3.0)
    both = [loss(*(maths.softmax(v, axis=1) for v in (a, b))), loss(a, b)]
    found, wanted = evaluate_values(both, {id(a): logits(4, 5), id(b): logits(4, 5)})
    assert np.array_equal(found, wanted)


# ------------------------------------------------------------------ metrics and errors


def measured(loss: Loss, output: np.ndarray, target: np.ndarray) -> dict[str, list[float]]:
    x, y = placeholder(type_of(output)), placeholder(type_of(target))
    found = loss.metrics(x, y)
    arrays = evaluate_values(found.values(), {id(x): output, id(y): target})
    return {name: array.tolist() for name, array in zip(found, arrays)}


def test_metrics() -> None:
    x = np.array([[[1, 2, 0], [3, 0, 0]], [[0, 0, 1], [0, 1, 0]]], np.float32)
    y = np.array([[1, 2], [2, 1]])
    assert measured(losses.CrossEntropy(), x, y) == {"accuracy": [0.5, 1.0]}
    soft = one_hot(y, 3).astype(np.float32)
    assert measured(losses.CrossEntropy(soft=True), x, soft) == {"accuracy": [0.5, 1.0]}
    moved = np.moveaxis(x, -1, 1)
    assert measured(losses.CrossEntropy(axis=1), moved, y) == {"accuracy": [0.5, 1.0]}
    assert measured(losses.KullbackLeibler(), x, soft) == {"agreement": [0.5, 1.0]}
    side = np.array([[2, -1], [1, 1]], np.float32)
    target = np.array([[1, 0], [0, 1]], np.float32)
    assert measured(losses.BinaryCrossEntropy(), side, target) == {"accuracy": [1.0, 0.5]}
    assert measured(losses.MeanSquared(), side, target) == {}


def test_targets_of_other_types_are_refused() -> None:
    def value(*shape: int, dtype=F32) -> Value:
        return placeholder(Type(shape, dtype))

    with pytest.raises(OpError, match="takes targets i64"):
        losses.CrossEntropy()(value(2, 3), value(2, 3))
    with pytest.raises(OpError, match="no classes along axis"):
        losses.CrossEntropy(axis=2).target(Type((2, 3), F32))
    with pytest.raises(OpError, match="no classes along axis"):
        losses.CrossEntropy().target(Type((2,), F32))
    with pytest.raises(OpError, match="takes targets f32"):
        losses.MeanSquared()(value(2, 3), value(3))
    with pytest.raises(OpError, match="no loss of outputs"):
        losses.MeanSquared().target(Type((2, 3), I64))
    with pytest.raises(OpError, match="are no points"):
        losses.Triplet().target(Type((2, 3, 3), F32))
    assert losses.MeanSquared().target(Type((2,), F16)) == Type((2,), F32)


@pytest.mark.parametrize(
    "make",
    [
        lambda: losses.CrossEntropy(smoothing=1.0),
        lambda: losses.CrossEntropy(smoothing=-0.1),
        lambda: losses.KullbackLeibler(temperature=0),
        lambda: losses.Huber(delta=float("nan")),
        lambda: losses.Triplet(margin=0),
        lambda: losses.Contrastive(temperature=-1),
    ],
)
def test_options_without_meaning_are_refused(make: Callable[[], Loss]) -> None:
    with pytest.raises(InputError):
        make()
