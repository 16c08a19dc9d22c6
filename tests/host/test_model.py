"""Compiled models through the public API: numbers, shapes, errors, threads, owned results."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import brim
from brim.errors import InputError
from brim.graph import Graph, evaluate, placeholder
from brim.ops import primitive as p
from brim.types import F32, F64, I64, Type
from tests.networks import NETWORKS, network, normal


@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_equals_reference(name: str) -> None:
    graph, feeds = network(name)
    found = brim.compile(graph).run(feeds)
    for output, want in evaluate(graph, feeds).items():
        assert found[output].dtype == want.dtype
        np.testing.assert_allclose(found[output], want, rtol=2e-4, atol=2e-5)


def test_two_threads_give_the_same_bits() -> None:
    graph, feeds = network("attention")
    one, two = brim.compile(graph, threads=1), brim.compile(graph, threads=2)
    np.testing.assert_array_equal(one.run(feeds)["y0"], two.run(feeds)["y0"])


def test_a_model_may_be_called_from_several_threads() -> None:
    graph, _ = network("residual")
    model = brim.compile(graph, threads=2)
    inputs = [normal(1, 6, 6, 8) for _ in range(4)]
    expected = [model(x) for x in inputs]
    wrong: list[int] = []

    def call(number: int) -> None:
        for _ in range(50):
            if not np.array_equal(model(inputs[number]), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_results_own_their_memory() -> None:
    graph, feeds = network("convolution")
    model = brim.compile(graph)
    first = model.run(feeds)["y0"]
    kept = first.copy()
    model.run({name: array * 2 for name, array in feeds.items()})
    del model
    np.testing.assert_array_equal(first, kept)
    assert first.flags.owndata and first.flags.writeable


@pytest.mark.parametrize("rows", [3, 9000])  # copied to where kernels look, or read where they are
def test_neither_size_nor_strides_of_an_input_matter(rows: int) -> None:
    x = placeholder(Type((rows, 4), F32))
    model = brim.compile(Graph({"x": x}, {"y": p.mul(x, 2.0)}))
    wide = normal(4, rows)
    for given in (normal(rows, 4), wide.T, np.repeat(wide.T, 2, axis=1)[:, ::2], normal(rows, 4)):
        before = given.copy()
        given.flags.writeable = False
        first = model(given)
        model(np.zeros((rows, 4), np.float32))
        np.testing.assert_array_equal(first, 2 * before)
        np.testing.assert_array_equal(given, before)
        assert first.flags.owndata and first.flags.writeable


def test_the_shortest_way_checks_as_the_long_one_does() -> None:
    """After a call, another of the same shapes skips the search for a program, but no check."""
    x = placeholder(Type((2, 3), F32))
    model = brim.compile(Graph({"x": x}, {"y": p.mul(x, 2.0)}))
    good = normal(2, 3)
    for _ in range(2):
        np.testing.assert_array_equal(model.run({"x": good})["y"], 2 * good)
        for bad in ({"x": good.astype(np.float64)}, {"x": good.T}, {"z": good}, {}):
            with pytest.raises(InputError):
                model.run(bad)
        np.testing.assert_array_equal(model.run({"x": good.tolist()})["y"], 2 * good)


def test_an_output_that_is_an_input_is_copied() -> None:
    x = placeholder(Type((3,), F32))
    array = np.array([1, 2, 3], np.float32)
    found = brim.compile(Graph({"x": x}, {"a": x, "b": x})).run({"x": array})
    assert not np.shares_memory(found["a"], array) and not np.shares_memory(found["a"], found["b"])
    np.testing.assert_array_equal(found["a"], array)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "missing"),
        ({"x0": normal(2, 3, 4), "z": normal(1)}, "unknown"),
        ({"x0": normal(2, 3, 5)}, "shape"),
        ({"x0": normal(2, 3, 4).astype(np.float64)}, "float64"),
    ],
)
def test_wrong_inputs_are_typed_errors(feeds: dict[str, np.ndarray], message: str) -> None:
    model = brim.compile(network("elementwise")[0])
    with pytest.raises(brim.InputError, match=message):
        model.run(feeds)


def test_an_index_out_of_range_is_an_error_not_a_wild_read() -> None:
    model = brim.compile(network("gather")[0])
    table = normal(6, 4)
    for bad in (6, -1, 2**40):
        with pytest.raises(brim.InputError, match="out of range"):
            model(table, np.array([[1, 2], [bad, 0]], np.int64))
    assert model(table, np.array([[1, 2], [5, 0]], np.int64)).shape == (2, 2, 4)


def test_non_contiguous_and_unaligned_inputs() -> None:
    model = brim.compile(network("elementwise")[0])
    raw = np.zeros(24 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(2, 3, 4)
    strided = np.asfortranarray(normal(2, 3, 4))
    for x in (raw, strided):
        np.testing.assert_allclose(model(x), np.maximum(x + 1, 0), rtol=1e-6)


def test_empty_tensors() -> None:
    x = placeholder(Type((0, 3), F32))
    model = brim.compile(Graph({"x": x}, {"y": p.add(x, 1), "s": p.reduce(x, op="add", axes=(0,))}))
    found = model.run({"x": np.zeros((0, 3), np.float32)})
    assert found["y"].shape == (0, 3)
    np.testing.assert_array_equal(found["s"], np.zeros((1, 3), np.float32))


def test_report_counts_kernels_and_memory() -> None:
    report = brim.compile(network("attention")[0]).report()
    assert len(report.kernels) == 11 and not report.host_steps
    assert 0 < report.arena_bytes < report.tensor_bytes
    assert report.flops > 6 * 16 * 16 * 2 and report.predicted_seconds > 0


def test_integer_division_never_traps() -> None:
    a, b = (placeholder(Type((4,), I64)) for _ in range(2))
    model = brim.compile(Graph({"a": a, "b": b}, {"q": p.div(a, b), "r": p.mod(a, b)}))
    low = np.iinfo(np.int64).min
    found = model.run({"a": np.array([7, low, low, -7]), "b": np.array([0, -1, 0, 2])})
    np.testing.assert_array_equal(found["q"], [0, low, 0, -3])
    np.testing.assert_array_equal(found["r"], [0, 0, 0, 1])


def test_what_runs_in_order_is_never_split_among_threads() -> None:
    """Running sums and scatters whose only loop is the ordered one."""
    size, rows = 300_000, 50
    x, u = (placeholder(Type((size,), F64)) for _ in range(2))
    i = placeholder(Type((size,), I64))
    outputs = {
        "sum": p.cumulate(x, op="add", axis=0, exclusive=False, reverse=False),
        "scattered": p.scatter(x, i, u, axis=0, op="add"),
    }
    graph = Graph({"x": x, "u": u, "i": i}, outputs)
    random = np.random.default_rng(0)
    feeds = {name: random.integers(0, 9, size).astype(np.float64) for name in "xu"}
    feeds["i"] = random.integers(0, rows, size)
    found, want = brim.compile(graph, threads=2).run(feeds), evaluate(graph, feeds)
    for name in outputs:
        np.testing.assert_array_equal(found[name], want[name])
