"""Rotated regions and their affine maps, and what `samples` reads of a picture through them."""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np
import pytest

from brim.errors import ModelError
from brim.graph import Graph, evaluate, placeholder
from brim.types import F32, Type
from brim.vision.regions import Region, around, letterbox, overlap, turn, turned
from brim.vision.sampling import CAPACITY, Border, Sampling, Window, shrunk

RNG = np.random.default_rng(1)


def test_a_matrix_maps_corners_and_middle() -> None:
    region = Region(50, 40, 20, 10, pi / 2)  # its right is downwards on the screen
    matrix = region.matrix(64, 32)
    places = np.array([[0, 0, 1], [64, 0, 1], [64, 32, 1], [0, 32, 1], [32, 16, 1]])
    wanted = [[55, 30], [55, 50], [45, 50], [45, 30], [50, 40]]
    np.testing.assert_allclose(places @ matrix.T, wanted, atol=1e-4)
    np.testing.assert_allclose(region.corners(), wanted[:4], atol=1e-4)


def test_a_negative_width_mirrors() -> None:
    matrix = Region(50, 40, -20, 10).matrix(20, 10)
    np.testing.assert_allclose(np.array([0, 0, 1]) @ matrix.T, [60, 35])


@pytest.mark.parametrize("angle", [0.0, 0.4, -1.2, 3.0])
def test_moved_along_its_own_sides(angle: float) -> None:
    region = Region(50, 40, 20, 10, angle).moved(0.5, -1.0)
    right, down = 10, -10
    assert region.x == pytest.approx(50 + right * cos(angle) - down * sin(angle))
    assert region.y == pytest.approx(40 + right * sin(angle) + down * cos(angle))


def test_squares_and_letterboxes() -> None:
    square = Region(1, 2, 30, 40, 0.3).square(1.5)
    assert (square.x, square.y, square.width, square.height, square.angle) == (1, 2, 60, 60, 0.3)
    assert letterbox(1280, 720) == Region(640, 360, 1280, 1280)
    assert letterbox(1, 9) == Region(0.5, 4.5, 9, 9)


@pytest.mark.parametrize(
    ("start", "end", "upright", "angle"),
    [
        ((0, 0), (5, 0), 0.0, 0.0),  # eyes side by side
        ((0, 0), (5, 5), 0.0, pi / 4),  # the head is turned clockwise
        ((0, 0), (0, -5), pi / 2, 0.0),  # a body that stands
        ((0, 0), (5, 0), pi / 2, pi / 2),  # one that lies, head to the right
        ((0, 0), (0, 5), pi / 2, -pi),  # one that stands on its head
    ],
)
def test_turn(start: tuple, end: tuple, upright: float, angle: float) -> None:
    assert turn(np.array(start), np.array(end), upright) == pytest.approx(angle)


@pytest.mark.parametrize("angle", [0.0, 0.3, -2.0, pi / 2])
def test_around_is_the_smallest_rectangle_of_its_angle(angle: float) -> None:
    points = RNG.normal(size=(30, 3)).astype(np.float32) * (40, 10, 1) + (100, 50, 0)
    region = around(points, angle)
    assert region.angle == angle
    inverse = np.linalg.inv(np.vstack([region.matrix(1, 1), [0, 0, 1]]))
    own = np.c_[points[:, :2], np.ones(30)] @ inverse[:2].T
    np.testing.assert_allclose(own.min(0), 0, atol=1e-4)
    np.testing.assert_allclose(own.max(0), 1, atol=1e-4)


def test_turned_points_keep_their_depth() -> None:
    np.testing.assert_allclose(turned(np.array([[1.0, 0, 7]]), pi / 2), [[0, 1, 7]], atol=1e-6)


def test_overlap() -> None:
    a = Region(10, 10, 20, 20)
    assert overlap(a, a) == pytest.approx(1)
    assert overlap(a, Region(20, 10, 20, 20)) == pytest.approx(1 / 3)
    assert overlap(a, Region(40, 10, 20, 20)) == 0
    assert overlap(Region(5, 5, 0, 0), Region(5, 5, 0, 0)) == 0


# ---------------------------------------------------------------- sampling


def seen(picture: np.ndarray, region: Region, sampling: Sampling) -> np.ndarray:
    """What a network would be given of a region."""
    network = placeholder(Type((1, sampling.rows, sampling.columns, 3), F32))
    inputs, (outputs,) = sampling.join(Graph({"x": network}, {"y": network}))
    matrix = region.matrix(sampling.columns, sampling.rows)
    feeds = Window().feeds(picture, matrix, sampling)
    return evaluate(Graph(inputs, {"y": outputs}), feeds)["y"][0]


def wanted(picture: np.ndarray, region: Region, sampling: Sampling) -> np.ndarray:
    """The same, sample by sample, in double precision."""
    height, width = picture.shape[:2]

    def pixel(row: int, column: int) -> np.ndarray:
        inside = 0 <= row < height and 0 <= column < width
        if not inside and sampling.border == "zero":
            return np.zeros(3)
        row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
        return picture[row, column].astype(float)

    matrix = region.matrix(sampling.columns, sampling.rows).astype(float)
    found = np.empty((sampling.rows, sampling.columns, 3))
    for v in range(sampling.rows):
        for u in range(sampling.columns):
            x, y = matrix @ (u + 0.5, v + 0.5, 1) - 0.5
            column, row = int(np.floor(x)), int(np.floor(y))
            across, down = x - column, y - row
            upper = pixel(row, column) * (1 - across) + pixel(row, column + 1) * across
            lower = pixel(row + 1, column) * (1 - across) + pixel(row + 1, column + 1) * across
            found[v, u] = upper * (1 - down) + lower * down
    return found / 255 * (sampling.high - sampling.low) + sampling.low


REGIONS = {
    "all": Region(15, 10, 30, 20),
    "turned": Region(14, 9, 17, 12, 0.7),
    "mirrored": Region(14, 9, -17, 12, 0.7),
    "over the edge": Region(29, 1, 24, 24, -0.4),
    "far away": Region(-90, 300, 20, 20),
    "larger": letterbox(30, 20).square(1.7),
    "tiny": Region(12.3, 8.1, 0.5, 0.5),
}


@pytest.mark.parametrize("border", ["zero", "nearest"])
@pytest.mark.parametrize("name", REGIONS)
def test_samples_are_bilinear(name: str, border: Border) -> None:
    picture = RNG.integers(0, 256, (20, 30, 3), np.uint8)
    sampling = Sampling(9, 13, -1.0, 1.0, border)
    found = seen(picture, REGIONS[name], sampling)
    np.testing.assert_allclose(found, wanted(picture, REGIONS[name], sampling), atol=2e-4)


@pytest.mark.parametrize("border", ["zero", "nearest"])
@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (2, 3)])
def test_small_and_narrow_pictures(size: tuple[int, int], border: Border) -> None:
    picture = RNG.integers(0, 256, (*size, 3), np.uint8)
    sampling, region = Sampling(5, 4, 0.0, 1.0, border), letterbox(size[1], size[0])
    np.testing.assert_allclose(
        seen(picture, region, sampling), wanted(picture, region, sampling), atol=2e-4
    )


def test_pictures_beyond_the_capacity_are_averaged() -> None:
    """A plain slope stays one: what is averaged keeps its place."""
    width, height = 20_000, 300
    assert width * height > CAPACITY
    slope = np.linspace(0, 255, width)
    picture = np.repeat(np.rint(slope).astype(np.uint8)[None, :, None], height, axis=0)
    picture = np.repeat(picture, 3, axis=2)
    region = Region(width / 2, height / 2, width, height)
    found = seen(picture, region, Sampling(8, 50, 0.0, 255.0, "nearest"))
    middles = (np.arange(50) + 0.5) / 50 * 255
    assert np.abs(found - middles[None, :, None]).max() < 1


def test_a_part_of_a_large_picture_is_seen_sharp() -> None:
    picture = RNG.integers(0, 256, (2000, 3000, 3), np.uint8)
    sampling, region = Sampling(6, 6, 0.0, 255.0, "nearest"), Region(2500, 1900, 6, 6)
    np.testing.assert_allclose(
        seen(picture, region, sampling), picture[1897:1903, 2497:2503], atol=0.1
    )


@pytest.mark.parametrize("size", [(12, 18), (13, 17), (1, 5)])
@pytest.mark.parametrize("step", [2, 3, 7])
def test_shrunk_pixels_are_means(size: tuple[int, int], step: int) -> None:
    picture = RNG.integers(0, 256, (*size, 3), np.uint8)
    found = shrunk(picture, step)
    assert found.shape == (-(-size[0] // step), -(-size[1] // step), 3)
    for row in range(size[0] // step):
        for column in range(size[1] // step):
            block = picture[row * step : (row + 1) * step, column * step : (column + 1) * step]
            assert np.abs(found[row, column] - block.mean((0, 1))).max() <= 0.5


def test_a_network_of_another_input_is_refused() -> None:
    network = placeholder(Type((1, 6, 4, 3), F32))
    with pytest.raises(ModelError, match="takes"):
        Sampling(5, 4, 0.0, 1.0, "zero").join(Graph({"x": network}, {"y": network}))
