"""A region's mask on the whole picture: the right value at the right place, nothing elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("PIL")

from brim.vision.masks import on_picture
from brim.vision.regions import Region

ROWS, COLUMNS = 32, 48
U, V = np.meshgrid(np.arange(COLUMNS) + 0.5, np.arange(ROWS) + 0.5)
SLOPE = (U / COLUMNS * 0.6 + V / ROWS * 0.4).astype(np.float32)


@pytest.mark.parametrize(
    "region",
    [
        Region(60, 50, 48, 32), Region(60, 50, 90, 40, 0.6), Region(60, 50, -90, 40, 2.0),
        Region(5, 95, 100, 100, -0.4), Region(60, 50, 400, 300, 0.2), Region(60, 50, 9, 5, 0.1),
    ],
    ids=["plain", "turned", "mirrored", "over the edge", "larger", "small"],
)  # fmt: skip
def test_a_slope_keeps_its_place(region: Region) -> None:
    found = on_picture(SLOPE, region, 120, 100)
    assert found.shape == (100, 120)
    back = np.linalg.inv(np.vstack([region.matrix(1, 1).astype(float), [0, 0, 1]]))
    x, y = np.meshgrid(np.arange(120) + 0.5, np.arange(100) + 0.5)
    u, v = (back[n, 0] * x + back[n, 1] * y + back[n, 2] for n in range(2))
    within = (u > 0.03) & (u < 0.97) & (v > 0.03) & (v < 0.97)  # beyond are half samples
    assert within.any()
    np.testing.assert_allclose(found[within], (u * 0.6 + v * 0.4)[within], atol=2e-3)
    outside = (u < -0.01) | (u > 1.01) | (v < -0.01) | (v > 1.01)
    assert (found[outside] == 0).all()


@pytest.mark.parametrize("region", [Region(-500, 40, 50, 50), Region(60, 900, 80, 80, 1.0)])
def test_a_region_beyond_the_picture_leaves_nothing(region: Region) -> None:
    assert (on_picture(SLOPE, region, 120, 100) == 0).all()
