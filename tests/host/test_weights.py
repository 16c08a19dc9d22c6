"""The steps `weights` and `storage`: small files that compute nearly what the float graph does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import brim
from brim.compiler import optimise
from brim.compress.codes import Codes, nearest
from brim.compress.data import read_data
from brim.compress.gptq import errors_factor, gptq
from brim.compress.hqq import NORM, half_quadratic
from brim.compress.moments import Moments
from brim.compress.pipeline import quantize
from brim.compress.recipe import Recipe, Storage, Weights
from brim.compress.storage import storage
from brim.compress.weights import matrices, weights
from brim.compress.work import Work
from brim.errors import InputError, UnsupportedError
from brim.graph import Graph, const, evaluate, placeholder
from brim.ops import primitive as p
from brim.ops.registry import at
from brim.types import F32, I64, Type

RANDOM = np.random.default_rng(0)
MATRIX = RANDOM.standard_normal((96, 40)).astype(np.float32)


def mean_square(array: np.ndarray) -> float:
    return float(np.square(array.astype(np.float64)).mean())


def is_on_its_grid(codes: Codes) -> bool:
    low, high = codes.grid.limits
    return bool(codes.integers.min() >= low and codes.integers.max() <= high)


# ---------------------------------------------------------------------- codes


@given(
    groups=st.integers(1, 4), half=st.integers(1, 20), columns=st.integers(1, 5),
    bits=st.sampled_from([4, 8]), symmetric=st.booleans(), size=st.sampled_from([1e-6, 1.0, 1e6]),
)  # fmt: skip
def test_the_error_is_at_most_that_of_half_steps_over_the_full_range(
    groups: int, half: int, columns: int, bits: int, symmetric: bool, size: float
) -> None:
    random = np.random.default_rng(groups * 100 + half)
    matrix = (random.standard_normal((groups * 2 * half, columns)) * size).astype(np.float32)
    codes = nearest(matrix, 2 * half, bits, symmetric)
    assert is_on_its_grid(codes)
    parts = matrix.reshape(groups, 2 * half, columns)
    spread = 2 * np.abs(parts).max(1) if symmetric else parts.max(1) - parts.min(1)
    step = spread / (2**bits - 2)
    inexact = 1 / 64 + 2.0 ** (bits - 12)  # zero points and scales are rounded to f16, too
    error = np.square(codes.matrix.reshape(parts.shape) - parts).sum(1)
    room = np.square(np.spacing(np.abs(parts).max(1)))  # of f32, where the numbers are all equal
    assert np.all(error <= 2 * half * (np.square(step * (0.5 + inexact)) + room))


def test_half_quadratic_lowers_the_norm_that_it_is_about() -> None:
    heavy = (RANDOM.standard_t(2, (256, 16))).astype(np.float32)
    for symmetric in (True, False):
        before = nearest(heavy, 64, 4, symmetric).matrix
        after = half_quadratic(heavy, 64, 4, symmetric).matrix
        norms = [np.power(np.abs(found - heavy), NORM).sum() for found in (before, after)]
        assert norms[1] < 0.99 * norms[0]


@pytest.mark.parametrize("group", [32, 48])
@pytest.mark.parametrize("symmetric", [True, False])
def test_gptq_comes_nearer_to_the_results_of_the_layer(group: int, symmetric: bool) -> None:
    mixed = RANDOM.standard_normal((96, 96)) * np.geomspace(1, 0.02, 96)
    inputs = RANDOM.standard_normal((500, 96)) @ mixed
    zero = np.zeros(96)
    seen = Moments(inputs.T @ inputs / 500, zero, inputs.T @ inputs / 500, zero)
    codes = gptq(MATRIX, errors_factor(seen), group, 4, symmetric)
    assert is_on_its_grid(codes)
    plain = nearest(MATRIX, group, 4, symmetric)
    errors = [mean_square(inputs @ (found.matrix - MATRIX)) for found in (plain, codes)]
    assert errors[1] < 0.6 * errors[0]


# ---------------------------------------------------------------------- the steps


def network(depth: int = 96, rows: int = 1, wide: int = 48) -> Graph:
    """A table, of which rows are looked up, and two products with biases."""
    index = placeholder(Type((rows,), I64))
    random = np.random.default_rng(1)

    def drawn(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)

    with at("table"):
        x = p.gather(const(random.standard_normal((200, depth)).astype(np.float32)), index, axis=0)
    for name, inside, outside in (("first", depth, wide), ("second", wide, depth)):
        with at(name):
            x = p.contract(x, const(drawn(inside, outside)), spec="mk,kn->mn")
        x = p.add(p.maximum(x, 0.0), const(drawn(outside)))
    return optimise(Graph({"x": index}, {"y": x}))


def feeds(graph: Graph) -> list[dict[str, np.ndarray]]:
    shape = graph.inputs["x"].shape
    return [{"x": (7 * i + np.arange(shape[0])) % 200} for i in range(20)]


def work(graph: Graph) -> Work:
    inputs = {name: value.type for name, value in graph.inputs.items()}
    return Work(read_data(feeds(graph), inputs), lambda made: pytest.fail("not asked for"), 0.01)


def relative_error(graph: Graph, other: Graph) -> float:
    """Noise over signal, of the other graph compiled."""
    model = brim.compile(other)
    noise = signal = 0.0
    for feed in feeds(graph):
        wanted = evaluate(graph, feed)["y"]
        noise += mean_square(model.run(feed)["y"] - wanted)
        signal += mean_square(wanted)
    return noise / signal


def bytes_of(graph: Graph) -> int:
    return sum(v.data.nbytes for v in graph.values() if v.data is not None)


@pytest.mark.parametrize("method", ["nearest", "hqq", "gptq"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("depth", "rows"), [(96, 1), (97, 3), (90, 20)])
def test_four_bits(method: str, symmetric: bool, depth: int, rows: int) -> None:
    graph = network(depth, rows)
    step = Weights(4, 32, symmetric, method)  # type: ignore[arg-type]
    made = weights(graph, step, work(graph))
    assert relative_error(graph, made.graph) < 0.04
    assert bytes_of(optimise(made.graph)) < 0.23 * bytes_of(graph)  # 97 rows are 128
    assert "3 constants in 4 bits" in made.notes[0]
    feed = feeds(graph)[0]
    found = brim.compile(made.graph).run(feed)["y"]
    np.testing.assert_allclose(found, evaluate(made.graph, feed)["y"], 1e-4, 1e-4)


@pytest.mark.parametrize("symmetric", [True, False])
def test_eight_bits(symmetric: bool) -> None:
    graph = network()
    made = weights(graph, Weights(8, 128, symmetric), work(graph))
    assert relative_error(graph, made.graph) < 2e-4
    assert bytes_of(made.graph) < 0.3 * bytes_of(graph)


def test_patterns_choose_and_steps_stack() -> None:
    graph = network()
    first = weights(graph, Weights(8, layers=("first",)), work(graph))
    assert [m.value.where for m in matrices(first.graph)] == ["second", "table"]
    second = weights(first.graph, Weights(4), work(graph))
    assert matrices(second.graph) == []
    assert "2 constants" in second.notes[0]
    assert relative_error(graph, second.graph) < 0.04


def test_what_is_small_stays() -> None:
    graph = network(depth=16, wide=16)  # of 256 weights
    with pytest.raises(UnsupportedError, match="no weights"):
        weights(graph, Weights(layers=("first",)), work(graph))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_tables_are_finite(bad: float) -> None:
    index = placeholder(Type((1,), I64))
    table = const(np.full((100, 64), bad, np.float32))
    graph = Graph({"x": index}, {"y": p.gather(table, index, axis=0)})
    with pytest.raises(InputError, match="NaN"):
        weights(graph, Weights(), work(graph))


@pytest.mark.parametrize(("dtype", "limit"), [("f16", 1e-6), ("bf16", 2e-5)])
@pytest.mark.parametrize("rows", [1, 20])
def test_half_of_the_bytes(dtype: str, limit: float, rows: int) -> None:
    graph = network(rows=rows)
    made = storage(graph, Storage(dtype), work(graph))  # type: ignore[arg-type]
    assert relative_error(graph, made.graph) < limit
    assert bytes_of(optimise(made.graph)) < 0.51 * bytes_of(graph)


def test_numbers_beyond_f16_are_refused_and_bf16_has_room() -> None:
    x = placeholder(Type((1, 64), F32))
    large = const(np.full((64, 64), 1e5, np.float32), "dense")
    graph = Graph({"x": x}, {"y": p.contract(x, large, spec="mk,kn->mn")})
    made = storage(graph, Storage("bf16"), None)  # type: ignore[arg-type]
    assert bytes_of(made.graph) == 64 * 64 * 2
    with pytest.raises(UnsupportedError, match="too large for f16") as caught:
        storage(graph, Storage("f16"), None)  # type: ignore[arg-type]
    assert caught.value.where == "dense"


def test_nothing_to_store_in_halves() -> None:
    x = placeholder(Type((2,), F32))
    with pytest.raises(UnsupportedError, match="no f32 constant"):
        storage(Graph({"x": x}, {"y": p.add(x, 1.0)}), Storage(), None)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- from model to file


def samples() -> Iterator[np.ndarray]:
    random = np.random.default_rng(2)
    return iter(random.standard_normal((16, 1, 512)).astype(np.float32))


def test_a_recipe_gives_a_small_file_that_computes_the_same(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    x = placeholder(Type((1, 512), F32))
    y = x
    for name in ("first", "second"):
        with at(name):
            drawn = random.standard_normal((512, 512)).astype(np.float32) / 23
            y = p.contract(y, const(drawn), spec="mk,kn->mn")
    model = brim.compile(Graph({"x": x}, {"y": y}))
    recipe = Recipe((Weights(4, 64, method="gptq"),))
    found, report = quantize(model, samples, recipe, max_loss=0.05, force=True)
    assert report.accuracy.difference < 0.05
    sizes = []
    for name, each in (("float", model), ("small", found)):
        each.save(tmp_path / name)
        sizes.append((tmp_path / name).stat().st_size)
    assert sizes[1] < 0.15 * sizes[0]
    again = brim.load(tmp_path / "small")
    sample = {"x": next(samples())}
    np.testing.assert_array_equal(again.run(sample)["y"], found.run(sample)["y"])
