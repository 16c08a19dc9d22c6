"""Losses, optimisers and schedules against torch's of the same meaning.

Whole networks are trained beside torch in test_train_networks.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F
from torch.optim import lr_scheduler as schedulers

from brim.graph import evaluate_values, placeholder
from brim.passes.autodiff import gradient
from brim.train import (
    SGD,
    Adam,
    AdamW,
    BinaryCrossEntropy,
    Contrastive,
    Cosine,
    CrossEntropy,
    Huber,
    KullbackLeibler,
    Loss,
    MeanAbsolute,
    MeanSquared,
    OneCycle,
    Optimiser,
    Polynomial,
    Rate,
    Steps,
    Triplet,
    Warmup,
)
from brim.train.schedules import rate_at, rate_of
from brim.types import I64, Type, type_of

RNG = np.random.default_rng(7)
KINDS = np.array([0, 1, 0, 2, 1, 0, 2, 2])


def logits(*shape: int) -> np.ndarray:
    return (RNG.normal(size=shape) * 3).astype(np.float32)


def shares(*shape: int) -> np.ndarray:
    x = RNG.uniform(size=shape).astype(np.float32)
    return x / x.sum(1, keepdims=True)


def distillation(x: torch.Tensor, y: torch.Tensor, t: float) -> torch.Tensor:
    mine, theirs = (F.log_softmax(v / t, 1) for v in (x, y))
    return F.kl_div(mine, theirs, reduction="none", log_target=True).sum(1) * t * t


def hardest(x: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
    """torch's triplet loss of the triplets with the hardest of each anchor."""
    far = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").detach()
    same = kinds[:, None] == kinds[None, :]
    ours = (far - (~same) * 1e9).argmax(1)
    others = (far + same * 1e9).argmin(1)
    return F.triplet_margin_loss(x, x[ours], x[others], 0.3, eps=0, reduction="none")


LOSSES: dict[str, tuple[Loss, np.ndarray, np.ndarray, Callable]] = {
    "classes": (CrossEntropy(), logits(8, 10), RNG.integers(0, 10, 8), F.cross_entropy),
    "smoothed": (
        CrossEntropy(0.1), logits(8, 10), RNG.integers(0, 10, 8),
        lambda x, y, reduction: F.cross_entropy(x, y, reduction=reduction, label_smoothing=0.1),
    ),
    "soft": (CrossEntropy(soft=True), logits(8, 10), shares(8, 10), F.cross_entropy),
    "soft, smoothed": (
        CrossEntropy(0.2, soft=True), logits(8, 10), shares(8, 10),
        lambda x, y, reduction: F.cross_entropy(x, y, reduction=reduction, label_smoothing=0.2),
    ),
    "pixels": (
        CrossEntropy(axis=1), logits(3, 5, 4, 6), RNG.integers(0, 5, (3, 4, 6)), F.cross_entropy,
    ),
    "soft pixels": (CrossEntropy(soft=True, axis=1), logits(3, 5, 4), shares(3, 5, 4),
                    F.cross_entropy),
    "binary": (
        BinaryCrossEntropy(), logits(8, 3), RNG.uniform(size=(8, 3)).astype(np.float32),
        F.binary_cross_entropy_with_logits,
    ),
    "squared": (MeanSquared(), logits(8, 3), logits(8, 3), F.mse_loss),
    "absolute": (MeanAbsolute(), logits(8, 3), logits(8, 3), F.l1_loss),
    "huber": (Huber(), logits(8, 3), logits(8, 3), F.huber_loss),
    "huber, wide": (
        Huber(2.5), logits(8, 3), logits(8, 3),
        lambda x, y, reduction: F.huber_loss(x, y, reduction=reduction, delta=2.5),
    ),
    "distillation": (KullbackLeibler(3.0), logits(8, 10), logits(8, 10),
                     lambda x, y, reduction: distillation(x, y, 3.0)),
    "triplet": (Triplet(0.3), logits(8, 4), KINDS, lambda x, y, reduction: hardest(x, y)),
}  # fmt: skip


@pytest.mark.peer("torch")
@pytest.mark.parametrize("row", LOSSES.values(), ids=LOSSES)
def test_losses_and_their_slopes_are_torchs(row: tuple) -> None:
    loss, output, target, peer = row
    x, y = placeholder(type_of(output)), placeholder(type_of(target))
    each = loss(x, y)
    found, slope = evaluate_values([each, *gradient(each, [x])], {id(x): output, id(y): target})
    theirs = torch.tensor(output, requires_grad=True)
    wanted = peer(theirs, torch.tensor(target), reduction="none")
    wanted = wanted.reshape(len(output), -1).mean(1)
    wanted.sum().backward()
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=2e-6, atol=2e-6)
    assert theirs.grad is not None
    np.testing.assert_allclose(slope, theirs.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.peer("torch")
def test_contrastive_loss_of_two_views_is_cross_entropy() -> None:
    """SimCLR's: each view has to find the other among all but itself."""
    output, kinds = logits(8, 4), np.array([0, 1, 2, 3, 0, 1, 2, 3])
    x, y = placeholder(type_of(output)), placeholder(type_of(kinds))
    each = Contrastive(0.5)(x, y)
    found, slope = evaluate_values([each, *gradient(each, [x])], {id(x): output, id(y): kinds})
    theirs = torch.tensor(output, requires_grad=True)
    unit = F.normalize(theirs)
    cosines = (unit @ unit.T / 0.5).masked_fill(torch.eye(8, dtype=torch.bool), -1e9)
    wanted = F.cross_entropy(cosines, torch.arange(8).roll(4), reduction="none")
    wanted.sum().backward()
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=2e-6)
    assert theirs.grad is not None
    np.testing.assert_allclose(slope, theirs.grad.numpy(), rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------ optimisers

OPTIMISERS: dict[str, tuple[Optimiser, Callable]] = {
    "sgd": (SGD(0.1), lambda w: torch.optim.SGD(w, 0.1)),
    "momentum": (
        SGD(0.1, momentum=0.9, decay=0.01),
        lambda w: torch.optim.SGD(w, 0.1, momentum=0.9, weight_decay=0.01),
    ),
    "nesterov": (
        SGD(0.1, momentum=0.9, nesterov=True, decay=0.01),
        lambda w: torch.optim.SGD(w, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    ),
    "adam": (Adam(0.01), lambda w: torch.optim.Adam(w, 0.01)),
    "adam, decay": (
        Adam(0.01, (0.8, 0.99), 1e-4, decay=0.1),
        lambda w: torch.optim.Adam(w, 0.01, (0.8, 0.99), 1e-4, weight_decay=0.1),
    ),
    "adamw": (AdamW(0.01), lambda w: torch.optim.AdamW(w, 0.01)),
    "adamw, decay": (
        AdamW(0.01, (0.8, 0.99), 1e-4, decay=0.1),
        lambda w: torch.optim.AdamW(w, 0.01, (0.8, 0.99), 1e-4, weight_decay=0.1),
    ),
}


@pytest.mark.peer("torch")
@pytest.mark.parametrize(("optimiser", "peer"), OPTIMISERS.values(), ids=OPTIMISERS)
def test_optimisers_move_weights_as_torchs_do(optimiser: Optimiser, peer: Callable) -> None:
    start = logits(4, 6)
    theirs = torch.tensor(start, requires_grad=True)
    other = peer([theirs])
    step, w, g = (placeholder(t) for t in (Type((), I64), type_of(start), type_of(start)))
    contents = optimiser.slots(start)
    slots = {name: placeholder(type_of(array)) for name, array in contents.items()}
    new, after = optimiser.update(w, g, slots, step, rate_at(optimiser.rate, step))
    weight = start
    for number in range(20):
        slope = logits(4, 6)
        theirs.grad = torch.tensor(slope)
        other.step()
        env = {id(w): weight, id(g): slope, id(step): np.int64(number)}
        env |= {id(slots[name]): array for name, array in contents.items()}
        weight, *arrays = evaluate_values([new, *after.values()], env)
        contents = dict(zip(after, arrays))
        np.testing.assert_allclose(weight, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------ schedules


def linear_then_cosine(o: torch.optim.Optimizer) -> schedulers.LRScheduler:
    rise = schedulers.LinearLR(o, start_factor=0.2, total_iters=4)
    fall = schedulers.CosineAnnealingLR(o, 10)
    return schedulers.SequentialLR(o, [rise, fall], milestones=[5])


SCHEDULES: dict[str, tuple[Rate, Callable]] = {
    "constant": (0.3, lambda o: schedulers.ConstantLR(o, factor=1.0)),
    "cosine": (Cosine(0.3, 12, end=0.01), lambda o: schedulers.CosineAnnealingLR(o, 12, 0.01)),
    "steps": (Steps(0.3, (3, 7)), lambda o: schedulers.MultiStepLR(o, [3, 7])),
    "polynomial": (Polynomial(0.3, 12, 2.0), lambda o: schedulers.PolynomialLR(o, 12, 2.0)),
    "line": (
        Polynomial(0.3, 12, end=0.03),
        lambda o: schedulers.LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=12),
    ),
    "one cycle": (OneCycle(0.3, 13), lambda o: schedulers.OneCycleLR(o, 0.3, total_steps=13)),
    "one cycle, early": (
        OneCycle(0.3, 13, rise=0.1, start=5, end=100),
        lambda o: schedulers.OneCycleLR(
            o, 0.3, total_steps=13, pct_start=0.1, div_factor=5, final_div_factor=100
        ),
    ),
    "warm-up": (Warmup(5, Cosine(0.3, 10)), linear_then_cosine),
}


@pytest.mark.peer("torch")
@pytest.mark.parametrize(("rate", "peer"), SCHEDULES.values(), ids=SCHEDULES)
def test_schedules_are_torchs(rate: Rate, peer: Callable) -> None:
    other = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    schedule = peer(other)
    for step in range(13):
        assert rate_of(rate, step) == pytest.approx(other.param_groups[0]["lr"], rel=1e-9), step
        other.step()
        if step < 12:
            schedule.step()
