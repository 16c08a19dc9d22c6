"""Sparse products as compiled code: right, taken where they are cheaper, and stored small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brim.compiler import compile_graph, load_program
from brim.graph import Graph, evaluate
from brim.kernels.lower import lower
from brim.passes.expand import expand
from brim.passes.sparse import sparsify
from brim.runtime.artifact import open_artifact
from brim.runtime.artifact_save import Card, Function, save
from brim.search.choice import by_price
from brim.search.timing import is_timeable
from brim.search.variants import bodies, kernels_of, price, settle
from brim.targets.target import host
from tests.pure.test_sparse import product, sparse, weights


def names(graph: Graph) -> list[str]:
    return [value.op.name for value in graph.values() if value.op]


@pytest.mark.parametrize("rows", [1, 5, 33])
@pytest.mark.parametrize(("width", "kept"), [(4, 0.05), (8, 0.5), (16, 0.3)])
@pytest.mark.parametrize("target", ["host", "x86-64-v3"])
def test_compiled_equals_dense(rows: int, width: int, kept: float, target: str) -> None:
    if host().architecture != "x86_64" and target != "host":
        pytest.skip("not this processor's code")
    graph = product(weights(48, 64, width, kept), rows)
    x = np.random.default_rng(0).standard_normal((rows, 48)).astype(np.float32)
    wanted = evaluate(graph, {"x": x})["y"]
    for exact in (True, False):  # exact: the sparse form whatever it costs
        program = load_program(compile_graph(sparsify(graph), target, exact=exact))
        np.testing.assert_allclose(program.run({"x": x})["y"], wanted, 1e-5, 1e-5)


def test_the_cheaper_form_is_taken() -> None:
    search = by_price(host())
    for kept, form in ((0.1, "gather"), (0.3, "gather"), (0.74, "contract")):
        graph = sparsify(product(weights(512, 64, 8, kept), 2))
        (value,) = sparse(graph)
        prices = [price(value, body, search) for body in bodies(value)]
        cheaper = "gather" if prices[0] <= prices[1] else "contract"
        assert cheaper in names(settle(graph, search))
        if form == "gather":
            assert cheaper == form


def test_prices_are_those_of_the_kernel_that_runs() -> None:
    """Or measured times would be looked up in vain."""
    (value,) = sparse(product(weights(48, 64, 8, 0.3)))
    (priced,) = kernels_of(value, None) or ()
    lowered = lower(expand(Graph({"x": value.args[0]}, {"y": value})))
    assert [step.kernel for step, _ in lowered.kernel_steps()] == [priced]
    assert is_timeable(priced)


def test_an_artifact_holds_no_zeros(tmp_path: Path) -> None:
    def size(graph: Graph) -> int:
        compiled = compile_graph(graph)
        card = Card("net", {"x": graph.inputs["x"].type}, {"y": graph.outputs["y"].type})
        save(Function(card, [compiled]), tmp_path / "net.brim")
        return (tmp_path / "net.brim").stat().st_size

    dense, full = weights(512, 512, 8, 0.25), weights(512, 512, 8, 1.0)
    whole, small = size(product(full, 64)), size(product(dense, 64))
    assert whole - small > 0.7 * dense.nbytes
    assert open_artifact(tmp_path / "net.brim").programs
