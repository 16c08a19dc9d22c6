"""Compiled tree ensembles: as interpreted, split among threads, without a branch on data."""

from __future__ import annotations

import re

import numpy as np
import pytest

import brim
from brim.graph import evaluate
from brim.kernels.lower import lower
from brim.kernels.schedule import choose
from brim.passes.expand import expand
from brim.targets.llvm import emit
from brim.targets.target import host
from tests.pure.test_trees import graph_of
from tests.tree_models import Grower, attributes, leaf_attributes, model, regress


@pytest.mark.parametrize("rows", [1, 3, 70])
@pytest.mark.parametrize(
    ("trees", "depth", "targets", "per_tree"),
    [(19, 5, 1, True), (40, 6, 3, True), (9, 4, 3, False), (1, 0, 1, True)],
)
def test_regressors(rows: int, trees: int, depth: int, targets: int, per_tree: bool) -> None:
    grower = Grower(np.random.default_rng(rows), targets=targets, per_tree=per_tree)
    forest, x = grower.forest(trees, depth), grower.rows(rows)
    made = model("TreeEnsembleRegressor", x, attributes(forest) | {"n_targets": targets})
    found = brim.compile(graph_of(made))(x)
    np.testing.assert_allclose(found, regress(forest, x, targets, "SUM"), rtol=1e-6)


@pytest.mark.parametrize("how", ["MIN", "MAX", "AVERAGE"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_deep_trees_and_other_sums(how: str, dtype: str) -> None:
    grower = Grower(np.random.default_rng(1), targets=2, features=6)
    forest = [grower.chain(30), *grower.forest(6, 5), grower.chain(17)]
    x = grower.rows(37, dtype)
    given = attributes(forest, exact=dtype == "f8")
    given |= {"n_targets": 2, "aggregate_function": how}
    graph = graph_of(model("TreeEnsembleRegressor", x, given))
    found = brim.compile(graph)(x)
    np.testing.assert_array_equal(found, evaluate(graph, {"X": x})["Y"])
    np.testing.assert_allclose(found, regress(forest, x, 2, how), rtol=1e-6)


def test_sets_of_members() -> None:
    grower = Grower(np.random.default_rng(2), member=True)
    forest, x = grower.forest(12, 5), grower.rows(33)
    made = model("TreeEnsemble", x, leaf_attributes(forest) | {"n_targets": 1}, 5)
    np.testing.assert_allclose(brim.compile(graph_of(made))(x), regress(forest, x, 1, "SUM"))


@pytest.mark.parametrize("labels", [[3, 1, 2], ["a", "b", "c"]], ids=["i64", "text"])
def test_classifiers(labels: list) -> None:
    grower = Grower(np.random.default_rng(4), targets=3, votes=(1, 3))
    forest, x = grower.forest(15, 4), grower.rows(25)
    kind = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
    given = attributes(forest, "class") | {kind: labels, "post_transform": "SOFTMAX"}
    graph = graph_of(model("TreeEnsembleClassifier", x, given))
    compiled = brim.compile(graph)
    wanted, found = evaluate(graph, {"X": x}), compiled.run({"X": x})
    np.testing.assert_array_equal(found["Y"], wanted["Y"])
    np.testing.assert_allclose(found["Z"], wanted["Z"], rtol=1e-5)
    # text needs a step in Python, but only to look the labels up
    steps = compiled.report().host_steps
    assert len(steps) == isinstance(labels[0], str)


def test_rows_are_split_among_threads() -> None:
    grower = Grower(np.random.default_rng(5), features=8, modes=("LEQ", "GTE"))
    forest, x = grower.forest(120, 6), grower.rows(1003)
    made = model("TreeEnsembleRegressor", x, attributes(forest) | {"n_targets": 1})
    model_of = brim.compile(graph_of(made), threads=2)
    (row,) = [r for r in model_of.report().kernels if {"descend", "follow"} & set(r.ops)]
    assert row.predicted_seconds > 10e-6
    np.testing.assert_allclose(model_of(x), regress(forest, x, 1, "SUM"), rtol=1e-6)


@pytest.mark.parametrize("deep", [False, True])
def test_there_is_no_branch_on_data(deep: bool) -> None:
    """Only loops branch, and a deep walk where all lanes are at a leaf; no index is checked."""
    grower = Grower(np.random.default_rng(6))
    forest = [grower.chain(30)] * 9 if deep else [grower.tree(6) for _ in range(30)]
    x = np.abs(grower.rows(64))
    made = model("TreeEnsembleRegressor", x, attributes(forest) | {"n_targets": 1})
    kernels = [step.kernel for step in lower(expand(graph_of(made))).steps]
    text = emit(kernels[-1], choose(kernels[-1], host())[0], host())
    assert "%status" not in text.split("{", 1)[1]
    for condition in re.findall(r"br i1 (%\w+)", text):
        (line,) = (line for line in text.splitlines() if line.startswith(f"{condition} = "))
        looks = r"= icmp s[lg]t i64 | = select i1 %\w+, i1 false, i1 %\w+"
        assert re.search(looks, f" {line}"), line
