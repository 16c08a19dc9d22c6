"""Sampling compiled behind a picture: one program for pictures of all sizes, equal to numpy's."""

from __future__ import annotations

import numpy as np
import pytest

import brim
from brim.graph import Graph, evaluate, placeholder
from brim.types import F32, Type
from brim.vision.regions import Region, letterbox
from brim.vision.sampling import Border, Sampling, Window

SIZES = [(1, 1), (20, 30), (480, 640), (1080, 1920), (300, 20_000)]


def around_nothing(sampling: Sampling) -> Graph:
    network = placeholder(Type((1, sampling.rows, sampling.columns, 3), F32))
    inputs, (seen,) = sampling.join(Graph({"x": network}, {"y": network}))
    return Graph(inputs, {"seen": seen})


@pytest.mark.parametrize("border", ["zero", "nearest"])
def test_compiled_samples_equal_those_of_numpy(border: Border) -> None:
    sampling = Sampling(12, 9, -1.0, 1.0, border)
    graph, window = around_nothing(sampling), Window()
    model = brim.compile(graph)
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        picture = rng.integers(0, 256, (height, width, 3), np.uint8)
        whole = letterbox(width, height)
        part = Region(width * 0.7, height * 0.2, width * 0.4, -height * 0.3, 0.6)
        for region in (whole, part, Region(-3.0 * width, 9.0 * height, 5, 5)):
            feeds = window.feeds(picture, region.matrix(9, 12), sampling)
            found, wanted = model.run(feeds)["seen"], evaluate(graph, feeds)["seen"]
            # A sample at a row of 20,000 may fall between its pixels a thousandth further.
            np.testing.assert_allclose(found, wanted, atol=1e-4 if width < 10_000 else 0.02)
            assert np.abs(found).max() <= 1 + 1e-6


def test_what_lies_beyond_the_window_is_never_read() -> None:
    """Pixels that another picture left in the window's memory change nothing."""
    sampling = Sampling(16, 16, 0.0, 255.0, "nearest")
    model, window = brim.compile(around_nothing(sampling)), Window()
    picture = np.random.default_rng(1).integers(0, 256, (90, 70, 3), np.uint8)
    region = letterbox(70, 90)
    fresh = model.run(window.feeds(picture, region.matrix(16, 16), sampling))["seen"]
    window.feeds(
        np.full((900, 900, 3), 255, np.uint8), letterbox(900, 900).matrix(16, 16), sampling
    )
    again = model.run(window.feeds(picture, region.matrix(16, 16), sampling))["seen"]
    np.testing.assert_array_equal(fresh, again)
