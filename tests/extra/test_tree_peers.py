"""Tree ensembles against onnxruntime: many random ones, all operators, and trees of real sizes.

Where it and the specification part ways is named here, and left out of the comparison.
"""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

import brim
from bench.trees import FEATURES, ensembles
from bench.trees import main as measure
from brim.graph import evaluate
from tests.pure.test_trees import graph_of
from tests.tree_models import MODES, Grower, attributes, leaf_attributes, model, regress

pytestmark = pytest.mark.peer("onnxruntime")


def theirs(made: ModelProto | bytes, rows: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    data = made if isinstance(made, bytes) else made.SerializeToString()
    return onnxruntime.InferenceSession(data, options).run(None, {"X": rows})


def ours(made: ModelProto, rows: np.ndarray, compiled: bool) -> list[np.ndarray]:
    graph = graph_of(made)
    run = brim.compile(graph).run if compiled else lambda feeds: evaluate(graph, feeds)
    return list(run({"X": rows}).values())


def grower(seed: int, **more) -> Grower:
    random = np.random.default_rng(seed)
    return Grower(random, modes=tuple(random.choice(MODES, random.integers(1, 7))), **more)


@pytest.mark.parametrize("seed", range(48))
def test_regressors(seed: int) -> None:
    targets, how = 1 + seed % 3, ("SUM", "AVERAGE", "MIN", "MAX")[seed // 3 % 4]
    # it takes the first of several votes of a leaf where there is one target
    votes = (1, 1) if targets == 1 else (0, 3)
    draw = grower(seed, targets=targets, votes=votes, per_tree=seed % 2 == 0)
    trees, rows = draw.forest(1 + seed % 9, 4), draw.rows(1 + seed % 23)
    given = attributes(trees) | {"n_targets": targets, "aggregate_function": how}
    # it forgets the base value of a target without votes
    has_base = targets == 1 and seed % 5 == 0
    made = model("TreeEnsembleRegressor", rows, given | {"base_values": [0.5] * has_base})
    (found,) = ours(made, rows, seed % 6 == 0)
    np.testing.assert_allclose(found, theirs(made, rows)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("exact", [False, True])
def test_doubles(exact: bool) -> None:
    draw = grower(7)
    trees, rows = draw.forest(6, 5), draw.rows(30, "f8")
    made = model("TreeEnsembleRegressor", rows, attributes(trees, exact=exact) | {"n_targets": 1})
    np.testing.assert_allclose(ours(made, rows, True)[0], theirs(made, rows)[0], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["i4", "i8"])
def test_integers(dtype: str) -> None:
    """onnxruntime has them for classifiers only."""
    draw = grower(8, targets=3)
    trees, rows = draw.forest(6, 5), draw.rows(30, dtype)
    given = attributes(trees, "class") | {"classlabels_int64s": [3, 2, 1]}
    made = model("TreeEnsembleClassifier", rows, given)
    for found, wanted in zip(ours(made, rows, True), theirs(made, rows)):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("seed", range(30))
def test_leaves_apart(seed: int) -> None:
    targets, dtype = 1 + seed % 3, ("f4", "f8")[seed % 2]
    draw = grower(seed, targets=targets)
    trees, rows = draw.forest(1 + seed % 9, 4), draw.rows(1 + seed % 23, dtype)
    given = leaf_attributes(trees, dtype) | {"n_targets": targets}
    made = model("TreeEnsemble", rows, given | {"aggregate_function": seed % 4}, 5)
    np.testing.assert_allclose(ours(made, rows, False)[0], theirs(made, rows)[0], rtol=1e-5)


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("name", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
def test_several_classes(seed: int, name: str) -> None:
    classes = 3 + seed % 3
    draw = grower(seed, targets=classes, votes=(1, 3), per_tree=seed % 2 == 0)
    trees, rows = draw.forest(1 + seed % 9, 4), draw.rows(1 + seed % 9)
    given = attributes(trees, "class") | {"classlabels_int64s": list(range(5, 5 + classes))}
    base = [0.25 * i for i in range(classes)] if seed % 3 == 0 else []
    made = model("TreeEnsembleClassifier", rows, given | {"post_transform": name} | {
        "base_values": base
    })  # fmt: skip
    (label, scores), (wanted, other) = ours(made, rows, seed % 8 == 0), theirs(made, rows)
    np.testing.assert_array_equal(label, wanted)
    if name == "SOFTMAX_ZERO":  # of a row of zeros it makes NaN, onnx.reference 1/2
        scores, other = (part[~np.isnan(other).any(1)] for part in (scores, other))
    np.testing.assert_allclose(scores, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("name", ["NONE", "LOGISTIC"])
def test_votes_for_one_of_two(seed: int, name: str) -> None:
    draw = grower(seed, per_tree=True)
    trees, rows = draw.forest(1 + seed % 9, 4), draw.rows(1 + seed % 9)
    given = attributes(trees, "class") | {"classlabels_int64s": [7, 3], "post_transform": name}
    base = [0.25] if seed % 3 == 0 else []
    made = model("TreeEnsembleClassifier", rows, given | {"base_values": base})
    (label, scores), (wanted, other) = ours(made, rows, seed % 8 == 0), theirs(made, rows)
    # of votes none of which is negative, it labels what has the lower probability
    if min(given["class_weights"]) < 0 or name == "NONE":
        np.testing.assert_array_equal(label, wanted)
    np.testing.assert_allclose(scores, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("number", [0, 1], ids=["complete", "grown"])
def test_trees_of_real_sizes(number: int) -> None:
    _, data = list(ensembles(120, 8))[number]
    rows = np.random.default_rng(0).standard_normal((300, FEATURES)).astype(np.float32)
    (wanted,) = theirs(data, rows)
    for threads in (1, 2):
        (found,) = brim.load(data, threads=threads).run({"X": rows}).values()
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_measuring_command(capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--trees", "5", "--depth", "3", "--threads", "1", "--batches", "1", "7", "--rounds", "1"]
    assert measure(few) == 0
    lines = capsys.readouterr().out.splitlines()
    figures = [line.split()[:2] for line in lines if line[:8].strip() == "1"]
    assert figures == [["1", "1"], ["1", "7"]] * 2


def test_what_onnxruntime_does_otherwise() -> None:
    """The differences that are left out above are still there."""
    draw = Grower(np.random.default_rng(3), votes=(2, 2))
    trees, rows = draw.forest(5, 3), draw.rows(20)
    made = model("TreeEnsembleRegressor", rows, attributes(trees) | {"n_targets": 1})
    right = regress(trees, rows, 1, "SUM")
    np.testing.assert_allclose(ours(made, rows, False)[0], right, rtol=1e-6)
    assert not np.allclose(theirs(made, rows)[0], right)
