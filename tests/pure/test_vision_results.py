"""Boxes, landmarks and masks in pixels and shares of the picture, and all that they convert to."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import numpy as np
import pytest

from brim.errors import InputError
from brim.vision.results import Box, Found, Landmarks, Results, Size, Skeleton, run_lengths

SIZE = Size(200, 100)
SKELETON = Skeleton(("tip", "middle", "end"), ((0, 1), (1, 2)))


def mask() -> np.ndarray:
    whole = np.zeros((100, 200), np.float32)
    whole[20:40, 10:60] = 0.9
    whole[40:60, 10:60] = 0.3
    return whole


def landmarks() -> Landmarks:
    points = np.array([[10, 20, -5], [30, 40, 0], [60, 60, 5]], np.float32)
    return Landmarks(points, SKELETON, SIZE, np.array([0.9, 0.4, 0.8], np.float32))


@dataclass(frozen=True, eq=False, kw_only=True)
class Fish(Found):
    speed: float


def results() -> Results[Fish]:
    box = Box(10.0, 20.0, 60.0, 60.0, SIZE)
    fish = Fish(
        label="cod", score=0.75, box=box, landmarks=landmarks(), mask=mask(), speed=1.23456789
    )
    return Results(SIZE, (fish,), ("pike", "cod"), SKELETON)


def test_a_box_in_pixels_and_in_shares_of_the_picture() -> None:
    box = Box(10.0, 20.0, 60.0, 80.0, SIZE)
    assert (box.width, box.height) == (50, 60)
    assert box.normalised == (0.05, 0.2, 0.3, 0.8)
    assert box.to_numpy().tolist() == [10, 20, 60, 80]


def test_landmarks_in_pixels_and_in_shares_of_the_picture() -> None:
    points = landmarks()
    assert len(points) == 3
    assert points["middle"].tolist() == [30, 40, 0]
    assert points.normalised[2].tolist() == pytest.approx([0.3, 0.6, 0.025])
    assert points.box == Box(10.0, 20.0, 60.0, 60.0, SIZE)
    with pytest.raises(KeyError):
        points["tail"]


def test_results_are_sequences_that_nobody_changes() -> None:
    found = results()
    assert len(found) == 1
    assert [fish.label for fish in found] == ["cod"]
    with pytest.raises(FrozenInstanceError):
        found[0].score = 1.0
    with pytest.raises(ValueError):
        found[0].landmarks.pixels[0] = 0
    with pytest.raises(ValueError):
        found[0].mask[0] = 1


def test_numpy() -> None:
    arrays = results().to_numpy()
    assert arrays["boxes"].tolist() == [[10, 20, 60, 60]]
    assert arrays["scores"].tolist() == [0.75]
    assert arrays["classes"].tolist() == [1]
    assert arrays["landmarks"].shape == (1, 3, 3)
    assert arrays["masks"].shape == (1, 100, 200)
    empty = Results(SIZE, (), ("cod",), SKELETON).to_numpy()
    assert empty["boxes"].shape == (0, 4)
    assert empty["landmarks"].shape == (0, 3, 3)
    assert "masks" not in empty


def unpacked(lengths: dict[str, Any]) -> np.ndarray:
    height, width = lengths["size"]
    values = np.arange(len(lengths["counts"])) % 2
    return np.repeat(values, lengths["counts"]).reshape(width, height).T.astype(bool)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_run_lengths_are_whole(share: float) -> None:
    chosen = np.random.default_rng(int(share * 100)).random((13, 7)) < share
    lengths = run_lengths(chosen)
    assert sum(lengths["counts"]) == chosen.size
    np.testing.assert_array_equal(unpacked(lengths), chosen)


def test_json_holds_everything() -> None:
    found = json.loads(results().to_json())
    assert found["picture"] == {"width": 200, "height": 100}
    (fish,) = found["found"]
    assert fish["box"] == {"left": 10, "top": 20, "right": 60, "bottom": 60}
    assert fish["landmarks"]["pixels"][0] == [10, 20, -5]
    assert fish["landmarks"]["visibility"] == [0.9, 0.4, 0.8]
    assert fish["speed"] == 1.2346
    np.testing.assert_array_equal(unpacked(fish["mask"]), mask() > 0.5)


def test_coco() -> None:
    data = json.loads(json.dumps(results().to_coco("fish.jpg", 7)))
    assert data["images"] == [{"id": 7, "file_name": "fish.jpg", "width": 200, "height": 100}]
    names = ["tip", "middle", "end"]
    edges = [[1, 2], [2, 3]]
    assert [(c["id"], c["name"]) for c in data["categories"]] == [(1, "pike"), (2, "cod")]
    assert all(c["keypoints"] == names and c["skeleton"] == edges for c in data["categories"])
    (annotation,) = data["annotations"]
    assert annotation["image_id"] == 7
    assert annotation["category_id"] == 2
    assert annotation["bbox"] == [10, 20, 50, 40]
    assert annotation["keypoints"] == [10, 20, 2, 30, 40, 1, 60, 60, 2]
    assert annotation["num_keypoints"] == 3
    assert annotation["area"] == 20 * 50
    np.testing.assert_array_equal(unpacked(annotation["segmentation"]), mask() > 0.5)


def test_supervision() -> None:
    pytest.importorskip("supervision")
    found = results().to_supervision()
    assert found.xyxy.tolist() == [[10, 20, 60, 60]]
    assert found.confidence.tolist() == [0.75]
    assert found.class_id.tolist() == [1]
    assert found["class_name"].tolist() == ["cod"]
    assert found.mask.sum() == 20 * 50
    assert len(Results(SIZE, (), ("cod",)).to_supervision()) == 0


# ---------------------------------------------------------------- drawings


def drawn(found: Results, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(found.draw(pixels)).astype(int)


def test_drawings_change_what_was_found_and_nothing_else() -> None:
    pytest.importorskip("PIL")
    grey = np.full((100, 200, 3), 120, np.uint8)
    picture = drawn(results(), grey)
    assert picture.shape == grey.shape
    changed = (picture != 120).any(axis=2)
    assert changed[21:39, 12:58].all()  # the mask
    assert not changed[70:, 100:].any()
    assert (grey == 120).all()
    assert (drawn(Results(SIZE, (), ("cod",)), grey) == 120).all()


def test_lines_have_no_steps() -> None:
    """A slanting line of one colour on another has pixels in between."""
    pytest.importorskip("PIL")
    ends = np.array([[20, 20, 0], [180, 70, 0]], np.float32)
    points = Landmarks(ends, Skeleton(("a", "b"), ((0, 1),)), SIZE)
    found = Found(label="line", score=1.0, box=points.box, landmarks=points)
    black = np.zeros((100, 200, 3), np.uint8)
    column = drawn(Results(SIZE, (found,), ("line",)), black)[:, 100].sum(axis=1)
    assert np.count_nonzero((column > 0) & (column < column.max())) > 0
    assert np.count_nonzero(column) < 8


def test_things_beyond_the_picture_can_be_drawn() -> None:
    pytest.importorskip("PIL")
    size = Size(1, 1)
    found = Found(label="cod", score=0.5, box=Box(-50.0, -9.0, 80.0, 7.0, size))
    assert drawn(Results(size, (found,), ("cod", "pike")), np.zeros((1, 1, 3), np.uint8)).size == 3


def test_a_drawing_needs_the_same_picture() -> None:
    pytest.importorskip("PIL")
    with pytest.raises(InputError, match="another picture"):
        results().draw(np.zeros((50, 50, 3), np.uint8))
