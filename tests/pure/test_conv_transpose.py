"""Transposed convolution, by phases and otherwise, against its definition as a scatter."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brim.graph import Graph, evaluate, placeholder
from brim.ops.nn import conv_transpose
from brim.passes.expand import expand_value
from brim.types import type_of

AXIS = st.fixed_dictionaries(
    {
        "size": st.integers(1, 5),
        "kernel": st.integers(1, 5),
        "stride": st.integers(1, 4),
        "dilation": st.sampled_from([1, 1, 1, 2]),
        "low": st.integers(-2, 3),
        "high": st.integers(-2, 3),
    }
)


def scattered(
    x: np.ndarray, w: np.ndarray, axes: list[dict[str, int]], groups: int
) -> np.ndarray | None:
    """Every input pixel adds its multiple of the kernel; then the sides are cut off."""
    sizes = [(a["size"] - 1) * a["stride"] + (a["kernel"] - 1) * a["dilation"] + 1 for a in axes]
    whole = np.zeros((x.shape[0], *sizes, w.shape[-1]), x.dtype)
    inputs, outputs = w.shape[-2], w.shape[-1] // groups
    ranges = [range(a["size"]) for a in axes], [range(a["kernel"]) for a in axes]
    for pixel in itertools.product(*ranges[0]):
        for tap in itertools.product(*ranges[1]):
            place = tuple(i * a["stride"] + k * a["dilation"] for i, k, a in zip(pixel, tap, axes))
            for g in range(groups):
                channels = slice(g * inputs, (g + 1) * inputs)
                made = slice(g * outputs, (g + 1) * outputs)
                part = x[(slice(None), *pixel, channels)] @ w[(*tap, slice(None), made)]
                whole[(slice(None), *place, made)] += part
    for axis, a in enumerate(axes, 1):
        length = whole.shape[axis] - a["low"] - a["high"]
        if length <= 0:
            return None
        side = [(0, 0)] * whole.ndim
        side[axis] = (max(-a["low"], 0), max(-a["high"], 0))
        whole = np.pad(whole, side)
        start = max(a["low"], 0)
        whole = whole[(slice(None),) * axis + (slice(start, start + length),)]
    return whole


MORE_IS_CUT_OFF = {"size": 1, "kernel": 1, "stride": 1, "dilation": 1, "low": 2, "high": -2}


@example([MORE_IS_CUT_OFF], 1, 0)
@settings(max_examples=300, deadline=None)
@given(st.lists(AXIS, min_size=1, max_size=2), st.sampled_from([1, 1, 2]), st.integers(0, 9))
def test_it_is_the_scatter(axes: list[dict[str, int]], groups: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((2, *(a["size"] for a in axes), 2 * groups))
    w = random.standard_normal((*(a["kernel"] for a in axes), 2, 3 * groups))
    wanted = scattered(x, w, axes, groups)
    if wanted is None:
        return
    names = ("stride", "dilation", "low", "high")
    attributes = {name: tuple(a[name] for a in axes) for name in names}
    inputs = {"x": placeholder(type_of(x)), "w": placeholder(type_of(w))}
    y = conv_transpose(*inputs.values(), **attributes, groups=groups)
    assert y.shape == wanted.shape
    for value in (y, expand_value(y)):
        found = evaluate(Graph(inputs, {"y": value}), {"x": x, "w": w})["y"]
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_no_product_with_zero_is_left() -> None:
    """A 4x4 kernel at stride 2 has four taps for each result, not sixteen."""
    x, w = np.zeros((1, 8, 8, 4), np.float32), np.zeros((4, 4, 4, 6), np.float32)
    attributes = {"stride": (2, 2), "dilation": (1, 1), "low": (1, 1), "high": (1, 1)}
    y = conv_transpose(placeholder(type_of(x)), placeholder(type_of(w)), **attributes, groups=1)
    body, windows = [expand_value(y)], []
    while body:
        value = body.pop()
        if value.op and value.op.name == "conv":
            windows.append(value.args[1].shape[:2])
        body.extend(value.args)
    assert windows == [(2, 2)] * 4
