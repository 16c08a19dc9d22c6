"""The choice among variants: by price, only where weights are known, never when exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import brim
from brim.compiler import compile_graph
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.ops import primitive as p
from brim.ops.nn import conv
from brim.passes.expand import expand, variants
from brim.runtime.artifact import open_artifact
from brim.search.choice import by_price
from brim.search.variants import kind, price, settle
from brim.targets.target import TARGETS, find_target, host
from brim.types import F32, F64, U8, Type

SAME = {"stride": (1, 1), "dilation": (1, 1), "low": (1, 1), "high": (1, 1), "groups": 1}


def layer(
    size: int,
    channels: int,
    outputs: int,
    known: bool = True,
    window: tuple[int, int] = (3, 3),
) -> Graph:
    """One convolution of stride 1 with results as large as x. known: its weights are a constant."""
    random = np.random.default_rng(0)
    w = random.standard_normal((*window, channels, outputs)).astype(np.float32) / channels
    x, weights = placeholder(Type((1, size, size, channels), F32)), placeholder(Type(w.shape, F32))
    around = tuple(r // 2 for r in window)
    same = {"stride": (1, 1), "dilation": (1, 1), "low": around, "high": around, "groups": 1}
    if known:
        return Graph({"x": x}, {"y": conv(x, const(w), **same)})
    return Graph({"x": x, "w": weights}, {"y": conv(x, weights, **same)})


def names(graph: Graph) -> list[str]:
    return [value.op.name for value in graph.values() if value.op]


@pytest.mark.parametrize(
    ("size", "channels", "outputs"), [(56, 64, 64), (14, 128, 128), (12, 3, 8)]
)
def test_the_cheapest_is_taken(size: int, channels: int, outputs: int) -> None:
    graph, target = layer(size, channels, outputs), host()
    value: Value = graph.outputs["y"]
    bodies = [None, *variants(value)]
    prices = [price(value, body, by_price(target)) for body in bodies]
    best = bodies[int(np.argmin(prices))]
    assert names(settle(graph, by_price(target))) == names(expand(graph, choose=lambda _: best))


def test_many_channels_go_to_winograd_and_few_do_not() -> None:
    assert "winograd_output" in names(settle(layer(56, 64, 64), by_price(host())))
    assert "winograd_output" not in names(settle(layer(56, 2, 4), by_price(host())))


@pytest.mark.parametrize("window", [(1, 7), (7, 1), (1, 3), (5, 5)])
def test_other_windows_go_to_winograd_too(window: tuple[int, int]) -> None:
    assert "winograd_output" in names(settle(layer(17, 128, 128, window=window), by_price(host())))


@pytest.mark.parametrize(
    ("size", "window", "wanted"),
    [
        (28, (3, 3), "46"),
        (7, (3, 3), "4"),
        (14, (3, 3), "246"),
        (28, (5, 5), "4"),
        (28, (7, 7), "2"),
        (17, (1, 7), "46"),
        (28, (4, 4), ""),
        (28, (9, 1), "4"),
        (28, (1, 1), ""),
    ],
)
def test_few_forms_are_priced(size: int, window: tuple[int, int], wanted: str) -> None:
    """Each costs time at every first load: none that err much, or compute far more than another."""
    found = {op.name for op in variants(layer(size, 64, 64, window=window).outputs["y"])}
    assert found == {f"conv.winograd_{m}" for m in wanted}


def test_a_target_decides() -> None:
    """Where memory is slow, tiles that are written and read again do not pay."""
    slow = replace(host(), bandwidth=(64.0, 48.0, 0.05, 0.02))
    assert "winograd_output" not in names(settle(layer(56, 64, 64), by_price(slow)))


def test_variants_that_need_much_memory_are_not_taken() -> None:
    value = layer(1100, 32, 32).outputs["y"]  # 155 MB; tiles of it, and of the results, 350 MB each
    assert all(price(value, body, by_price(host())) == np.inf for body in variants(value))
    assert price(value, None, by_price(host())) < 1


def test_weights_that_are_inputs_are_transformed_at_a_price() -> None:
    known, unknown = (layer(7, 256, 256, known=k).outputs["y"] for k in (True, False))
    for body in variants(known):
        assert price(unknown, body, by_price(host())) > 1.5 * price(known, body, by_price(host()))
    assert "winograd_output" not in names(settle(layer(7, 256, 256, known=False), by_price(host())))


def integer_layer(size: int, weights: np.ndarray) -> Graph:
    x, none = placeholder(Type((1, size, size, weights.shape[2]), U8)), (0, 0)
    given = {"stride": (1, 1), "dilation": (1, 1), "low": none, "high": none, "groups": 1}
    y = conv(p.pad(x, low=(0, 1, 1, 0), high=(0, 1, 1, 0), value=3), const(weights), **given)
    return Graph({"x": x}, {"y": y})


@pytest.mark.parametrize("row", ["host", "x86-64-v3"])
def test_integers_go_to_winograd_where_it_is_exact(row: str) -> None:
    """255 * 9 * 64 * 127 * 64 is below 2**31, as are sums of ordinary weights of 512 channels; with
    the largest of 128 channels it may not be."""
    random, target = np.random.default_rng(0), by_price(find_target(row))
    usual = np.rint(random.standard_normal((3, 3, 512, 64)) * 30).clip(-127, 127).astype(np.int8)
    few, many = (np.full((3, 3, channels, 64), 127, np.int8) for channels in (64, 128))
    for weights, wanted in ((few, True), (many, False), (usual, True)):
        weights[..., 0] = 1
        graph = integer_layer(28, weights)
        forms = {op.name[-1] for op in variants(graph.outputs["y"])}
        assert forms == ({"4"} if wanted else set())
        settled = settle(graph, target)
        tiles = [v.attrs["tile"] for v in settled.values() if v.op and v.op.name[:8] == "winograd"]
        assert ((4, 4) in tiles) == wanted
        assert all(v.op.name != "pad" for v in settled.values() if v.op) == bool(tiles)


def test_prices_depend_on_weights_that_are_paired() -> None:
    small, large = (np.full((1, 1, 64, 64), n, np.int8) for n in (64, 65))
    small[..., 0] = large[..., 0] = 1
    target = by_price(TARGETS["x86-64-v3"])
    values = [integer_layer(28, weights).outputs["y"] for weights in (small, large)]
    fast, slow = (price(value, None, target) for value in values)
    assert 1.2 * fast < slow and kind(values[0]) != kind(values[1])


def test_sums_that_must_be_exact_have_no_variant() -> None:
    """Those of quantized networks: whole numbers in f32, each of which counts."""
    random = np.random.default_rng(3)
    x = placeholder(Type((1, 28, 28, 32), F32))
    w = const(random.integers(-128, 128, (3, 3, 32, 48)).astype(np.float32))
    graph = Graph({"x": x}, {"y": conv(x, w, exact=True, **SAME)})
    assert not variants(graph.outputs["y"])
    pixels = random.integers(0, 256, x.shape).astype(np.float32)
    exact = evaluate(graph, {"x": pixels})["y"]
    np.testing.assert_array_equal(brim.compile(graph)(pixels), exact)


def test_exact_graphs_are_left_alone() -> None:
    assert "winograd_output" not in names(settle(layer(56, 64, 64), by_price(host()), exact=True))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("window", [(3, 3), (7, 1), (5, 5)])
@pytest.mark.parametrize("size", [17, 28])
def test_compiled_it_equals_the_definition(
    size: int, window: tuple[int, int], threads: int
) -> None:
    graph = layer(size, 32, 48, window=window)
    x = np.random.default_rng(1).standard_normal((1, size, size, 32)).astype(np.float32)
    value = graph.outputs["y"]
    wanted = conv(*(p.cast(v, to=F64) for v in (const(x), value.args[1])), **value.attrs).data
    assert wanted is not None
    scale = np.abs(wanted).max()
    quick = brim.compile(graph, threads=threads)
    plain = brim.compile(graph, threads=threads, exact=True)
    used = {op for kernel in quick.report().kernels for op in kernel.ops}
    assert "winograd_output" in used
    assert np.abs(quick(x) - wanted).max() < 1e-5 * scale
    assert np.abs(plain(x) - wanted).max() < 1e-6 * scale


def test_transformed_weights_are_kept_in_one_place() -> None:
    """Beside the block that kernels read, a compiled model refers to the graph's constants only."""
    graph = layer(56, 64, 64)
    assert "conv" not in names(settle(graph, by_price(host())))  # its weights are transformed
    compiled = compile_graph(graph)
    own = {v.data.ctypes.data for v in compiled.graph.values() if v.data is not None}
    assert {item.data.ctypes.data for item in compiled.stored} <= own
    assert compiled.weights.nbytes > 1.5 * sum(item.data.nbytes for item in compiled.stored)


def test_an_exact_artifact_stays_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = layer(28, 32, 48)
    x = np.random.default_rng(1).standard_normal((1, 28, 28, 32)).astype(np.float32)
    exact = brim.compile(graph, exact=True)
    exact.save(tmp_path / "exact.brim")
    kept = open_artifact(tmp_path / "exact.brim").programs[0].graph
    assert not [value for value in kept.values() if value.op and value.op.body]
    np.testing.assert_array_equal(brim.compile(kept)(x), exact(x))
    monkeypatch.setenv("BRIM_EXACT", "1")
    np.testing.assert_array_equal(brim.compile(graph)(x), exact(x))
