"""Compiled products of weights of a few bits, on every processor that this one can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import brim
from brim.compiler import compile_graph, load_program, optimise
from brim.graph import Graph, const, evaluate, placeholder
from brim.ops import primitive as p
from brim.targets.target import Target
from brim.types import F16, F32, I64, Type
from tests.host.test_dots import ROWS
from tests.pure.test_packed_weights import inputs, packed, product


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    groups=st.integers(1, 4), half=st.integers(1, 20), columns=st.integers(1, 70),
    rows=st.sampled_from([1, 2, 7, 12, 13]), bits=st.sampled_from([4, 8]), whole=st.booleans(),
    target=st.sampled_from(ROWS),
)  # fmt: skip
def test_products_equal_the_interpreter(
    groups: int, half: int, columns: int, rows: int, bits: int, whole: bool, target: Target
) -> None:
    graph = product(rows, packed(groups, 2 * half, columns, bits, whole))
    program = load_program(compile_graph(graph, target.name))
    wanted = evaluate(graph, inputs(graph))["y"]
    np.testing.assert_allclose(program.run(inputs(graph))["y"], wanted, 1e-5, 2e-3)


@pytest.mark.parametrize("rows", [1, 64])
def test_halves_are_widened_as_they_are_loaded(rows: int) -> None:
    half = np.random.default_rng(0).standard_normal((96, 128)).astype(np.float16)
    graph = product(rows, p.cast(p.hold(const(half)), to=F32))
    compiled = compile_graph(graph)
    assert compiled.weights.nbytes == half.nbytes
    wanted = evaluate(graph, inputs(graph))["y"]
    np.testing.assert_allclose(load_program(compiled).run(inputs(graph))["y"], wanted, 1e-4, 1e-4)


def test_a_file_holds_the_small_constants_once(tmp_path: Path) -> None:
    graph = optimise(product(1, packed(8, 64, 512, 4)))
    path = tmp_path / "small.brim"
    model = brim.compile(graph)
    model.save(path)
    small = 8 * 64 * 512 // 2 + 8 * 512 * 4
    assert path.stat().st_size < small + 30_000  # code and texts
    again = brim.load(path)
    found, wanted = again.run(inputs(graph))["y"], model.run(inputs(graph))["y"]
    np.testing.assert_array_equal(found, wanted)


def test_halves_held_are_rows_of_a_table() -> None:
    table = np.random.default_rng(0).standard_normal((50, 24)).astype(np.float16)
    index = placeholder(Type((3,), I64))
    found = p.cast(p.gather(const(table), index, axis=0), to=F32)
    assert found.args[0].dtype == F16
    graph = Graph({"x": index}, {"y": found})
    given_rows = {"x": np.array([4, 0, 49])}
    program = load_program(compile_graph(graph))
    np.testing.assert_array_equal(
        program.run(given_rows)["y"], table[[4, 0, 49]].astype(np.float32)
    )
