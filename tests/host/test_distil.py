"""Distillation: the loss is its definition, the teacher stays as it is, the student follows it."""

from __future__ import annotations

import numpy as np
import pytest

import brim
from brim import train
from brim.errors import InputError
from brim.graph import evaluate, evaluate_values, placeholder
from brim.ops.math import relu, softmax
from brim.train import CrossEntropy, Distillation, Layers, Network
from brim.types import F32, I64, Type

BATCH, INPUTS, CLASSES = 16, 6, 5


def net(width: int, seed: int, *, ends: bool = False, classes: int = CLASSES) -> Network:
    layers = Layers(seed=seed)
    x = layers.input("x", (BATCH, INPUTS))
    y = layers.dense(relu(layers.dense(x, "first", width)), "last", classes)
    return layers.network(softmax(y, axis=1) if ends else y)


def pictures(number: int) -> np.ndarray:
    return np.random.default_rng(number).standard_normal((BATCH, INPUTS)).astype(np.float32)


def test_the_loss_is_its_definition() -> None:
    random = np.random.default_rng(0)
    outputs = random.standard_normal((BATCH, 2, CLASSES)).astype(np.float32) * 3
    labels = random.integers(0, CLASSES, BATCH)
    loss, t, a = Distillation(temperature=3.0, share=0.7), 3.0, 0.7
    x, y = placeholder(Type(outputs.shape, F32)), placeholder(Type((BATCH,), I64))
    assert loss.target(x.type) == y.type
    (found,) = evaluate_values([loss(x, y)], {id(x): outputs, id(y): labels})

    def logs(z: np.ndarray) -> np.ndarray:
        z = z.astype(np.float64)
        return z - np.log(np.exp(z).sum(1, keepdims=True))

    student, teacher = logs(outputs[:, 0] / t), logs(outputs[:, 1] / t)
    divergence = (np.exp(teacher) * (teacher - student)).sum(1) * t * t
    right = -logs(outputs[:, 0])[np.arange(BATCH), labels]
    np.testing.assert_allclose(found, a * divergence + (1 - a) * right, rtol=1e-4)
    named = loss.metrics(x, y)["accuracy"]
    (named,) = evaluate_values([named], {id(x): outputs, id(y): labels})
    np.testing.assert_array_equal(named, outputs[:, 0].argmax(1) == labels)


@pytest.mark.parametrize("ends", [False, True])
def test_both_are_computed_from_the_same_data(ends: bool) -> None:
    student, teacher = net(4, 1), net(9, 2, ends=ends)
    if ends:
        student = net(4, 1, ends=True)
    both = train.distilling(student, teacher)
    assert both.trained == student.trained
    found = evaluate(both.graph, {"x": pictures(0), **both.weights})
    (stacked,) = found.values()
    plain = net(4, 1).model()(pictures(0)), net(9, 2).model()(pictures(0))
    for index in range(2):
        np.testing.assert_allclose(stacked[:, index], plain[index], rtol=1e-4, atol=1e-5)


def test_a_student_follows_its_teacher() -> None:
    student, teacher = net(8, 3), net(8, 4)
    both = train.distilling(student, teacher)
    step = train.training_step(both, Distillation(share=1.0), train.Adam(2e-2))
    model, labels = brim.compile(step), np.zeros(BATCH, np.int64)
    assert set(step.state) >= student.trained
    for number in range(400):
        model.run({"x": pictures(number), "target": labels})
    tuned = student.with_weights({name: model.state[name] for name in student.trained})

    def agreement(found: Network) -> float:
        a, b = found.model(), teacher.model()
        parts = [(a(x).argmax(1), b(x).argmax(1)) for x in map(pictures, range(900, 920))]
        return float(np.mean([p == q for p, q in parts]))

    assert agreement(student) < 0.75
    assert agreement(tuned) > 0.9


def test_what_does_not_fit_is_refused() -> None:
    student = net(4, 1)
    with pytest.raises(InputError, match="the student f32"):
        train.distilling(student, net(4, 2, classes=7))
    layers = Layers()
    other = layers.network(layers.dense(layers.input("x", (BATCH, 9)), "last", CLASSES))
    with pytest.raises(InputError, match="same data"):
        train.distilling(student, other)
    with pytest.raises(InputError, match="share"):
        Distillation(share=0)
    with pytest.raises(InputError, match="temperature"):
        Distillation(CrossEntropy(), temperature=0)
