"""Anchors, decoded boxes, and weighted non-maximum suppression."""

from __future__ import annotations

import numpy as np
import pytest

from brim.graph import Graph, evaluate, placeholder
from brim.types import F32, Type
from brim.vision.detector import Anchors, overlaps, places, probability, without_overlaps

RNG = np.random.default_rng(2)


@pytest.mark.parametrize(
    ("anchors", "count"),
    [
        (Anchors(128, ((8, 2), (16, 6))), 896),
        (Anchors(192, ((4, 1),)), 2304),
        (Anchors(192, ((8, 2), (16, 6))), 2016),
        (Anchors(224, ((8, 2), (16, 2), (32, 6))), 2254),
    ],
    ids=["face", "face far", "palm", "pose"],
)
def test_anchors_are_the_middles_of_cells(anchors: Anchors, count: int) -> None:
    """The counts are those of the networks' outputs."""
    centres = anchors.centres()
    assert centres.shape == (count, 2)
    stride, many = anchors.layers[0]
    assert centres[0].tolist() == [stride / 2, stride / 2]
    assert centres[many - 1].tolist() == centres[0].tolist()
    assert centres[many].tolist() == [stride * 1.5, stride / 2]  # row by row
    last = anchors.layers[-1][0]
    assert centres[-1].tolist() == [anchors.side - last / 2] * 2
    np.testing.assert_allclose(centres.mean(0), anchors.side / 2)


def test_boxes_and_key_points_are_relative_to_anchors() -> None:
    centres = Anchors(32, ((16, 1),)).centres()
    raw = placeholder(Type((1, 4, 8), F32))
    scores = placeholder(Type((1, 4, 1), F32))
    graph = Graph({"raw": raw, "s": scores}, {"p": places(raw, centres), "s": probability(scores)})
    given = RNG.normal(size=(1, 4, 8)).astype(np.float32) * 10
    logits = np.array([-1000, 0, 2, 1000], np.float32).reshape(1, 4, 1)
    found = evaluate(graph, {"raw": given, "s": logits})
    assert found["p"].shape == (4, 4, 2)
    for anchor, row, (upper, lower, *points) in zip(centres, given[0], found["p"]):
        np.testing.assert_allclose((upper + lower) / 2, anchor + row[:2], atol=1e-5)
        np.testing.assert_allclose(lower - upper, row[2:4], atol=1e-5)
        np.testing.assert_allclose(points, anchor + row[4:].reshape(2, 2), atol=1e-5)
    np.testing.assert_allclose(found["s"], [0, 0.5, 0.880797, 1], atol=1e-6)


def corners(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 2, 2)


def test_overlaps() -> None:
    one = corners((0, 0, 10, 10))[0]
    many = corners((0, 0, 10, 10), (5, 0, 15, 10), (10, 0, 20, 10), (2, 2, 4, 4), (3, 3, 3, 3))
    assert overlaps(one, many).tolist() == pytest.approx([1, 1 / 3, 0, 0.04, 0])
    assert overlaps(many[4], many[4:]).tolist() == [0]


def test_what_overlaps_becomes_one_weighted_mean() -> None:
    boxes = corners((0, 0, 10, 10), (100, 0, 110, 10), (2, 0, 12, 10))
    found = without_overlaps(boxes, np.array([0.6, 0.8, 0.9], np.float32))
    assert [score for _, score in found] == pytest.approx([0.9, 0.8])
    merged = (boxes[0] * 0.6 + boxes[2] * 0.9) / 1.5
    np.testing.assert_allclose(found[0][0], merged, atol=1e-5)
    np.testing.assert_array_equal(found[1][0], boxes[1])


def test_a_chain_of_boxes_is_not_one_thing() -> None:
    """The third overlaps the second only, and that one goes to the first."""
    boxes = corners((0, 0, 10, 10), (5, 0, 15, 10), (10, 0, 20, 10))
    found = without_overlaps(boxes, np.array([0.9, 0.8, 0.7], np.float32))
    assert [score for _, score in found] == pytest.approx([0.9, 0.7])


def test_suppression_ends_for_any_boxes() -> None:
    assert without_overlaps(corners(), np.zeros(0, np.float32)) == []
    empty = without_overlaps(corners((3, 3, 3, 3), (3, 3, 3, 3)), np.array([0.7, 0.7], np.float32))
    assert len(empty) == 2
    boxes = RNG.normal(size=(300, 4, 2)).astype(np.float32)
    scores = RNG.random(300).astype(np.float32)
    found = without_overlaps(boxes, scores)
    order = [score for _, score in found]
    assert order == sorted(order, reverse=True)
    again = without_overlaps(boxes, scores)
    assert all((a[0] == b[0]).all() for a, b in zip(found, again))
