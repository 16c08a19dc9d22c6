"""Text reading around the networks: spots, rectangles, order, crops and decoding, all synthetic."""

from __future__ import annotations

from math import cos, degrees, pi, radians, sin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from brim.errors import ModelError
from brim.vision.text.boxes import find_boxes, smallest_rectangle, spots
from brim.vision.text.characters import decode
from brim.vision.text.lines import crop_box, in_reading_order, upright
from brim.vision.text.reading import Engine, read_text
from brim.vision.text.tensors import (
    TEXT_WIDTHS,
    detection_input,
    orientation_input,
    recognition_input,
)

CHARACTERS = ["", "a", "b", "c", " "]


def flood(mask: np.ndarray) -> set[frozenset[tuple[int, int]]]:
    """The 8-connected spots as sets of (x, y), by the plainest method."""
    left = {(int(x), int(y)) for y, x in np.argwhere(mask)}
    found = set()
    while left:
        spot, front = set(), [left.pop()]
        while front:
            x, y = front.pop()
            spot.add((x, y))
            near = {(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            front += near
        found.add(frozenset(spot))
    return found


def bounds(points) -> tuple[int, ...]:
    x, y = zip(*points, strict=True)
    return min(x), min(y), max(x), max(y)


@given(npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_spots_are_those_of_a_flood_fill(mask: np.ndarray) -> None:
    expected = flood(mask)
    found = spots(mask)
    assert sorted(map(bounds, found)) == sorted(map(bounds, expected))
    for points in found:
        (spot,) = (s for s in expected if tuple(points[0]) in s)
        assert {tuple(p) for p in points.tolist()} <= spot


def test_a_spiral_is_one_spot() -> None:
    mask = np.zeros((81, 81), bool)
    for i in range(0, 40, 2):
        mask[i, i : 81 - i] = mask[i : 81 - i, 80 - i] = mask[80 - i, i : 81 - i] = True
        mask[i + 2 : 81 - i, i] = True
        mask[i + 2, i : i + 3] = True
    assert len(spots(mask)) == len(flood(mask)) == 1


@pytest.mark.parametrize("angle", [-40, -12, 0, 5, 30, 44])
def test_the_smallest_rectangle_finds_a_turned_one(angle: float) -> None:
    along = np.array([cos(radians(angle)), sin(radians(angle))])
    down = np.array([-along[1], along[0]])
    u, v = np.meshgrid(np.linspace(-60, 60, 200), np.linspace(-10, 10, 60))
    points = np.round(200 + u[..., None] * along + v[..., None] * down).astype(int).reshape(-1, 2)
    found = smallest_rectangle(points)
    assert degrees(found.angle) == pytest.approx(angle, abs=1)
    assert found.centre == pytest.approx((200, 200), abs=1)
    assert found.half == pytest.approx((60, 10), abs=1.5)


@given(
    npst.arrays(np.int64, st.tuples(st.integers(1, 20), st.just(2)), elements=st.integers(0, 50))
)
def test_the_smallest_rectangle_holds_its_points(points: np.ndarray) -> None:
    found = smallest_rectangle(points)
    assert -pi / 4 - 1e-9 <= found.angle <= pi / 4 + 1e-9
    apart = points - np.array(found.centre)
    along = apart @ np.array([cos(found.angle), sin(found.angle)])
    down = apart @ np.array([-sin(found.angle), cos(found.angle)])
    assert np.abs(along).max() <= found.half[0] + 1e-6
    assert np.abs(down).max() <= found.half[1] + 1e-6
    upright = np.ptp(points, axis=0).prod()
    assert 4 * found.half[0] * found.half[1] <= upright + 1e-6


def test_boxes_grow_and_faint_or_tiny_spots_are_dropped() -> None:
    probability = np.zeros((100, 200), np.float32)
    probability[20:31, 30:131] = 0.9
    probability[60:71, 30:131] = 0.4  # likely pixels, an unlikely box
    probability[90:91, 10:11] = 0.9
    (box,) = find_boxes(probability)
    # The dilation adds a row and a column; then, by the paper's rule, all sides move out by
    # area * 1.6 / circumference.
    assert box.centre == pytest.approx((80.5, 25.5))
    grow = 101 * 11 * 1.6 / (2 * (101 + 11))
    assert box.half == pytest.approx((50.5 + grow, 5.5 + grow))


def test_an_empty_map_has_no_boxes() -> None:
    assert find_boxes(np.zeros((32, 32), np.float32)) == []
    assert len(find_boxes(np.ones((32, 32), np.float32))) == 1


@pytest.mark.parametrize("turn", [0, 7, -7, 90, 180, -90])
def test_reading_order_follows_the_page(turn: float) -> None:
    rows = [(10, 60), (80, 160), (5, 100), (110, 170)]
    boxes = [
        np.array([(a, y), (b, y), (b, y + 12), (a, y + 12)], float)
        for (a, b), y in zip(rows, (10, 12, 30, 29), strict=True)
    ]
    c, s = cos(radians(turn)), sin(radians(turn))
    turned = [box @ np.array([[c, s], [-s, c]]) for box in boxes]
    found = in_reading_order([turned[i] for i in (3, 1, 2, 0)])
    assert [next(i for i, t in enumerate(turned) if t is box) for box in found] == [0, 1, 2, 3]


def test_crops_are_set_upright() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    image[10:20, 5:45] = 50
    image[10:20, 5:25, 0] = 200  # the left half is red
    box = np.array([(5, 10), (45, 10), (45, 20), (5, 20)], float)
    crop = crop_box(image, box)
    assert crop.shape == (10, 40, 3)
    np.testing.assert_array_equal(crop, image[10:20, 5:45])
    for turns in (1, 2, 3):
        turned = np.ascontiguousarray(np.rot90(image, turns))
        corners = box
        width = image.shape[1]
        for _ in range(turns):  # anticlockwise: (x, y) -> (y, width - x)
            corners = np.stack([corners[:, 1], width - corners[:, 0]], 1)
            width = image.shape[0] + image.shape[1] - width
        np.testing.assert_array_equal(crop_box(turned, corners), crop)


def test_high_boxes_hold_text_from_the_bottom_up() -> None:
    high = np.array([(5, 10), (15, 10), (15, 50), (5, 50)], float)
    assert upright(high).tolist() == [[5, 50], [5, 10], [15, 10], [15, 50]]
    square = high * (4, 1)
    assert upright(square) is square


def scores(*classes: int, probability: float = 0.75) -> np.ndarray:
    found = np.full((1, len(classes), len(CHARACTERS)), 0.01, np.float32)
    found[0, range(len(classes)), classes] = probability
    return found


def test_decoding_merges_repeats_and_drops_blanks() -> None:
    assert decode(scores(0, 1, 1, 0, 1, 4, 4, 3, 2, 0), CHARACTERS) == ("aa cb", 0.75)
    assert decode(scores(0, 0), CHARACTERS) == ("", 0.0)
    with pytest.raises(ModelError, match="does not fit its characters"):
        decode(scores(1), CHARACTERS[:-1])


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((191, 384), (576, 1152)),
        ((1000, 700), (992, 704)),
        ((5000, 100), (2048, 32)),
        ((1, 1), (576, 576)),
    ],
)
def test_the_detectors_input_is_bounded(size: tuple[int, int], expected: tuple[int, int]) -> None:
    tensor = detection_input(np.full((*size, 3), 255, np.uint8))
    assert tensor.shape == (1, 3, *expected)
    assert tensor.dtype == np.float32
    assert (tensor == 1).all()


def test_lines_get_few_widths_and_blue_comes_first() -> None:
    line = np.zeros((10, 50, 3), np.uint8)
    line[..., 0] = 255
    tensor = recognition_input(line)
    assert tensor.shape == (1, 3, 48, 320)
    assert (tensor[0, 2, :, :240] == 1).all(), "red is the last channel"
    assert (tensor[0, :2, :, :240] == -1).all()
    assert (tensor[..., 240:] == 0).all()
    widths = {recognition_input(np.zeros((10, w, 3), np.uint8)).shape[3] for w in range(1, 900, 7)}
    assert widths == set(TEXT_WIDTHS)
    assert orientation_input(line).shape == (1, 3, 48, 192)


def page() -> tuple[np.ndarray, Engine]:
    """A picture with two "lines", and a detector that marks them."""
    image = np.full((320, 640, 3), 255, np.uint8)
    image[40:60, 50:250], image[100:120, 50:350] = 40, 80

    def detect(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"map": (feed["x"][:, :1] < 0).astype(np.float32)}

    return image, detect


def test_reading_joins_the_parts() -> None:
    image, detect = page()

    def recognise(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        dark = float(feed["x"].min())
        return {"text": scores(1, 2) if dark < -0.6 else scores(3, 0, 3)}

    lines = read_text(image, detect, recognise, CHARACTERS, shortest_side=320)
    assert [line.text for line in lines] == ["ab", "cc"]
    left, top = lines[0].corners[0]
    right, bottom = lines[0].corners[2]
    assert left < 50 < 250 < right
    assert top < 40 < 60 < bottom
    assert lines[0].box.to_numpy().tolist() == [left, top, right, bottom]


def test_an_upside_down_page_is_turned() -> None:
    image, detect = page()
    image[100:120, 50:100] = 0  # the second line is dark at its left
    seen = []

    def recognise(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        half = feed["x"][0, 0, 24]
        used = half[half != 0]
        seen.append(used[: len(used) // 4].mean() < used[-len(used) // 4 :].mean())
        return {"text": scores(len(seen))}

    def orient(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"turned": np.array([[0.02, 0.98]], np.float32)}

    turned = np.ascontiguousarray(image[::-1, ::-1])
    lines = read_text(turned, detect, recognise, CHARACTERS, orient, shortest_side=320)
    assert [line.text for line in lines] == ["a", "b"], "the page's first line is read first"
    assert seen[1], "the second line's left is dark again"
    assert lines[0].corners[0, 0] > lines[0].corners[1, 0], "the text begins at the right"


def test_networks_that_do_not_fit_are_refused() -> None:
    image, detect = page()
    small = {"map": np.zeros((1, 1, 8, 8), np.float32)}
    with pytest.raises(ModelError, match="detector's output"):
        read_text(image, lambda feed: small, detect, CHARACTERS)
    with pytest.raises(ModelError, match="one output"):
        read_text(image, lambda feed: small | {"more": small["map"]}, detect, CHARACTERS)
    with pytest.raises(ModelError, match="orientation"):
        read_text(image, detect, detect, CHARACTERS, lambda feed: small, shortest_side=320)
