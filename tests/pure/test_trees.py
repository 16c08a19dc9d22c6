"""Tree ensembles against the straightforward definition, through the front end, interpreted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from brim.errors import ModelError, UnsupportedError
from brim.frontends.onnx.importer import import_model
from brim.frontends.onnx.reader import read
from brim.graph import Graph, Value, evaluate
from tests.tree_models import (
    Branch,
    Grower,
    Leaf,
    Tree,
    attributes,
    leaf_attributes,
    model,
    regress,
    tensor,
    walk,
)

HOW = ("SUM", "AVERAGE", "MIN", "MAX")
seeds = st.integers(0, 2**32 - 1)


def graph_of(made: ModelProto) -> Graph:
    return import_model(read(made.SerializeToString()), {})


def outputs(made: ModelProto, rows: np.ndarray) -> list[np.ndarray]:
    return list(evaluate(graph_of(made), {"X": rows}).values())


def operators(made: ModelProto) -> set[str]:
    return {v.op.name for v in graph_of(made).values() if isinstance(v, Value) and v.op}


@settings(max_examples=120, deadline=None)
@given(seeds, st.integers(1, 3), st.sampled_from(HOW), st.booleans(), st.booleans())
def test_regressors(seed: int, targets: int, how: str, per_tree: bool, based: bool) -> None:
    random = np.random.default_rng(seed)
    modes = tuple(random.choice(["LEQ", "LT", "GTE", "GT", "EQ", "NEQ"], random.integers(1, 7)))
    grower = Grower(random, targets=targets, modes=modes, per_tree=per_tree, votes=(0, 3))
    trees, rows = grower.forest(int(random.integers(1, 7)), 4), grower.rows(7)
    base = [0.5, -1.0, 2.0][:targets] if based else []
    given = attributes(trees) | {"n_targets": targets, "aggregate_function": how}
    (found,) = outputs(model("TreeEnsembleRegressor", rows, given | {"base_values": base}), rows)
    np.testing.assert_allclose(found, regress(trees, rows, targets, how, base), rtol=1e-6)


@settings(max_examples=80, deadline=None)
@given(seeds, st.integers(1, 3), st.integers(0, 3), st.sampled_from(["f2", "f4", "f8"]))
def test_sets_of_members_and_leaves_apart(seed: int, targets: int, how: int, dtype: str) -> None:
    grower = Grower(np.random.default_rng(seed), targets=targets, member=True)
    trees, rows = grower.forest(4, 4), grower.rows(9, dtype)
    given = leaf_attributes(trees, dtype) | {"n_targets": targets, "aggregate_function": how}
    (found,) = outputs(model("TreeEnsemble", rows, given, 5), rows)
    assert found.dtype == rows.dtype
    wanted = regress(trees, rows, targets, ("AVERAGE", "SUM", "MIN", "MAX")[how])
    np.testing.assert_allclose(found, wanted, rtol=1e-3 if dtype == "f2" else 1e-6)


@pytest.mark.parametrize("dtype", ["i4", "i8", "f8"])
def test_other_inputs(dtype: str) -> None:
    grower = Grower(np.random.default_rng(3))
    trees, rows = grower.forest(5, 4), grower.rows(20, dtype)
    for exact in (False, True):
        given = attributes(trees, exact=exact) | {"n_targets": 1}
        (found,) = outputs(model("TreeEnsembleRegressor", rows, given), rows)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, regress(trees, rows, 1, "SUM"), rtol=1e-6)


def test_doubles_are_compared_as_doubles() -> None:
    tree = Branch("LEQ", 0, 0.1, False, Leaf(((0, 1.0),)), Leaf(((0, 2.0),)))
    rows = np.array([[0.1], [np.nextafter(0.1, 1)], [np.float32(0.1)]])
    given = attributes([tree], exact=True) | {"n_targets": 1}
    (found,) = outputs(model("TreeEnsembleRegressor", rows, given), rows)
    np.testing.assert_array_equal(found[:, 0], [1, 2, 2])


@pytest.mark.parametrize("mode", ["LEQ", "LT", "GTE", "GT", "EQ", "NEQ"])
@pytest.mark.parametrize("value", [-np.inf, -1.0, -0.0, 0.0, 1e-45, 3e38, np.inf, np.nan])
def test_numbers_next_to_a_threshold(mode: str, value: float) -> None:
    value = float(np.float32(value))
    near = [np.nextafter(np.float32(value), np.float32(side)) for side in (-np.inf, np.inf)]
    rows = np.array([value, *near, -0.0, 0.0, np.nan, np.inf, -np.inf], np.float32)[:, None]
    for missing in (False, True):
        tree = Branch(mode, 0, value, missing, Leaf(((0, 1.0),)), Leaf(((0, 2.0),)))
        given = attributes([tree]) | {"n_targets": 1}
        (found,) = outputs(model("TreeEnsembleRegressor", rows, given), rows)
        np.testing.assert_array_equal(found[:, 0], [walk(tree, row).votes[0][1] for row in rows])


def test_deep_trees_are_linked_and_flat_ones_complete() -> None:
    grower = Grower(np.random.default_rng(5), modes=("LEQ", "GT"))
    for trees, name in (
        ([grower.chain(40), grower.tree(3)], "follow"),
        ([grower.tree(5) for _ in range(9)], "descend"),
    ):
        rows = grower.rows(30)
        made = model("TreeEnsembleRegressor", rows, attributes(trees) | {"n_targets": 1})
        assert {"follow", "descend"} & operators(made) == {name}
        np.testing.assert_allclose(outputs(made, rows)[0], regress(trees, rows, 1, "SUM"))


def test_shared_nodes() -> None:
    """TreeEnsemble's nodes may have several parents, also in several trees."""
    given = {
        "nodes_modes": tensor([0, 0, 0], np.uint8),
        "nodes_featureids": [0, 1, 1],
        "nodes_splits": tensor([0, 0, 1], np.float32),
        "nodes_truenodeids": [1, 0, 1],
        "nodes_trueleafs": [0, 1, 1],
        "nodes_falsenodeids": [1, 1, 2],
        "nodes_falseleafs": [0, 1, 1],
        "tree_roots": [0, 1, 2, 1],
        "leaf_targetids": [0, 1, 0],
        "leaf_weights": tensor([1, 10, 100], np.float32),
        "n_targets": 2,
    }
    rows = np.array([[0, 0], [5, 0.5], [0, 2]], np.float32)
    (found,) = outputs(model("TreeEnsemble", rows, given, 5), rows)
    np.testing.assert_array_equal(found, [[3, 10], [0, 40], [100, 30]])


@pytest.mark.parametrize("targets", [1, 2])
def test_no_trees_and_no_rows(targets: int) -> None:
    base = [0.5, 2.0][:targets]
    for rows in (ROWS, ROWS[:0]):
        made = model("TreeEnsembleRegressor", rows, {"n_targets": targets, "base_values": base})
        wanted = np.broadcast_to(np.array(base, np.float32), (len(rows), targets))
        np.testing.assert_array_equal(outputs(made, rows)[0], wanted)
    (found,) = outputs(model("TreeEnsembleRegressor", ROWS[:0], NODE), ROWS[:0])
    assert found.shape == (0, 1)


# ------------------------------------------------------------------ classifiers


def classify(trees: list[Tree], rows: np.ndarray, labels: list, **more) -> list[np.ndarray]:
    kind = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
    given = attributes(trees, "class") | {kind: labels} | more
    return outputs(model("TreeEnsembleClassifier", rows, given), rows)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(3, 5), st.booleans())
def test_several_classes(seed: int, classes: int, per_tree: bool) -> None:
    grower = Grower(np.random.default_rng(seed), targets=classes, per_tree=per_tree)
    trees, rows = grower.forest(classes + 2, 3), grower.rows(6)
    labels = [10 * i - 7 for i in range(classes)]
    base = [0.5 * i for i in range(classes)]
    label, scores = classify(trees, rows, labels, base_values=base)
    wanted = regress(trees, rows, classes, "SUM", base)
    np.testing.assert_allclose(scores, wanted, rtol=1e-6)
    np.testing.assert_array_equal(label, np.array(labels)[wanted.argmax(1)])


def stump(low: float, high: float, target: int = 0) -> Tree:
    return Branch("LEQ", 0, 0.0, False, Leaf(((target, low),)), Leaf(((target, high),)))


ROWS = np.array([[-1.0], [1.0]], np.float32)


def test_a_class_without_votes_does_not_win() -> None:
    label, scores = classify([stump(-2, -3, 0), stump(-1, -4, 2)], ROWS, [5, 6, 7])
    np.testing.assert_array_equal(scores, [[-2, 0, -1], [-3, 0, -4]])
    np.testing.assert_array_equal(label, [7, 5])


def sigmoid(x: list) -> np.ndarray:
    return 1 / (1 + np.exp(-np.array(x)))


@pytest.mark.parametrize(
    ("low", "high", "name", "base", "labels", "scores"),
    [
        (0.25, 0.75, "NONE", [], [4, 9], [[0.75, 0.25], [0.25, 0.75]]),
        (0.25, 0.75, "NONE", [0.5], [9, 9], [[0.25, 0.75], [-0.25, 1.25]]),
        (0.25, 0.75, "SOFTMAX", [], [4, 9], [[0.75, 0.25], [0.25, 0.75]]),
        (-0.25, 0.75, "NONE", [], [4, 9], [[0.25, -0.25], [-0.75, 0.75]]),
        (-0.25, 0.75, "LOGISTIC", [], [4, 9], sigmoid([[0.25, -0.25], [-0.75, 0.75]])),
        (0.25, 0.75, "LOGISTIC", [], [9, 9], sigmoid([[-0.25, 0.25], [-0.75, 0.75]])),
        (-0.25, 0.5, "SOFTMAX", [], [4, 9], sigmoid([[0.5, -0.5], [-1, 1]])),
    ],
)
def test_votes_for_one_of_two(low, high, name, base, labels, scores) -> None:
    label, found = classify([stump(low, high)], ROWS, [4, 9], post_transform=name, base_values=base)
    np.testing.assert_array_equal(label, labels)
    np.testing.assert_allclose(found, scores, rtol=1e-6)


def test_votes_for_the_second_of_two() -> None:
    label, scores = classify([stump(0.25, 0.75, 1)], ROWS, [4, 9])
    np.testing.assert_array_equal(scores, [[0, 0.25], [0, 0.75]])
    np.testing.assert_array_equal(label, [4, 9])


def test_labels_of_text_are_a_step_behind_compiled_scores() -> None:
    trees = [stump(1, 0, 0), stump(0, 2, 1), stump(0.5, 0.5, 2)]
    label, _ = classify(trees, ROWS, ["no", "yes", "perhaps"])
    assert label.tolist() == ["no", "yes"]


# ------------------------------------------------------------------ damaged attributes

NODE = attributes([stump(1, 2), stump(3, 4)]) | {"n_targets": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes_truenodeids": [0, 0, 0, 1, 0, 0]}, "cycle"),
        ({"nodes_truenodeids": [7, 0, 0, 1, 0, 0]}, "the id of a child belongs to no node"),
        ({"nodes_falsenodeids": [-1, 0, 0, 2, 0, 0]}, "the id of a child"),
        ({"nodes_nodeids": [0, 1, 1, 0, 1, 2]}, "two nodes with one id"),
        ({"nodes_modes": ["BRANCH_LEQ", "LEAF"]}, "nodes_modes has 2 entries, not 6"),
        ({"nodes_modes": ["BRANCH_ODD"] + ["LEAF"] * 5}, "a node of mode 'BRANCH_ODD'"),
        ({"nodes_values": [0.0]}, "nodes_values has 1 entries, not 6"),
        ({"nodes_featureids": [0, 0, 0, 9, 0, 0]}, "a feature of a tree is not among the 1"),
        ({"nodes_featureids": [0, 0, 0, -1, 0, 0]}, "a feature of a tree"),
        ({"nodes_treeids": [0]}, "has 6 entries, not 1"),
        ({"nodes_missing_value_tracks_true": [1]}, "tracks_true has 1 entries, not 6"),
        ({"target_ids": [0, 0, 0, 1]}, "a target that is not among 1"),
        ({"target_ids": [0, 0]}, "has 4 entries, not 2"),
        ({"target_nodeids": [1, 2, 1, 9]}, "the id of a leaf belongs to no node"),
        ({"target_weights": [1.0]}, "target_weights has 1 entries, not 4"),
        ({"n_targets": 0}, "n_targets is 0"),
        ({"n_targets": 1 << 40}, "is refused"),
        ({"base_values": [1.0, 2.0]}, "2 base values for 1 targets"),
        ({"nodes_values_as_tensor": tensor([0.0] * 6, np.float64)}, "given twice"),
    ],
)
def test_damaged_nodes(change: dict, message: str) -> None:
    graph_of(model("TreeEnsembleRegressor", ROWS, NODE))
    with pytest.raises(ModelError, match=message):
        graph_of(model("TreeEnsembleRegressor", ROWS, NODE | change))


LEAVES = leaf_attributes(
    [Branch("MEMBER", 0, 0.0, False, Leaf(((0, 1.0),)), Leaf(((0, 2.0),)), (1.0, 2.0))]
) | {"n_targets": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes_truenodeids": [2]}, "point to no node and no leaf"),
        ({"nodes_falseleafs": [0], "nodes_falsenodeids": [0]}, "cycle"),
        ({"tree_roots": [9]}, "a root of a tree"),
        ({"tree_roots": [-1]}, "a root of a tree"),
        ({"nodes_modes": tensor([7], np.uint8)}, "not among 0 to 6"),
        ({"membership_values": tensor([1, np.nan, 2, np.nan], np.float32)}, "2 sets of members"),
        ({"leaf_weights": tensor([1], np.float32)}, "leaf_weights has 1 entries, not 2"),
        ({"nodes_splits": tensor([], np.float32)}, "nodes_splits has 0 entries, not 1"),
        ({"aggregate_function": 4}, "does not exist"),
        ({"post_transform": -1}, "does not exist"),
    ],
)
def test_damaged_leaves(change: dict, message: str) -> None:
    graph_of(model("TreeEnsemble", ROWS, LEAVES, 5))
    with pytest.raises(ModelError, match=message):
        graph_of(model("TreeEnsemble", ROWS, LEAVES | change, 5))


def test_too_deep_and_too_large() -> None:
    grower = Grower(np.random.default_rng(0), features=1)
    chain = attributes([grower.chain(5000)]) | {"n_targets": 1}
    with pytest.raises(UnsupportedError, match="a tree of over 4096 levels"):
        graph_of(model("TreeEnsembleRegressor", ROWS, chain))
    # two votes make every leaf speak of many targets
    votes = Leaf(((0, 1.0), ((1 << 25) - 1, 1.0)))
    wide = attributes([Branch("LEQ", 0, 0.0, False, votes, votes)]) | {"n_targets": 1 << 25}
    with pytest.raises(UnsupportedError, match="trees need a table"):
        graph_of(model("TreeEnsembleRegressor", ROWS, wide))


def test_one_class_is_refused() -> None:
    given = attributes([stump(1, 2)], "class") | {"classlabels_int64s": [1]}
    with pytest.raises(UnsupportedError, match="1 class labels"):
        graph_of(model("TreeEnsembleClassifier", ROWS, given))
