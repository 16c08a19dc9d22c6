"""The attributes of ONNX's tree ensembles, read and checked, as a `Forest` with one kind of test.

ONNX has seven kinds. Here each becomes nodes that ask x <= t: x < t asks for the number before t,
x > t and x >= t swap the children, x == t and x != t take two nodes, a set a search among its
members. What the operators make of the leaves is in `ml/trees.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brim.errors import ModelError
from brim.frontends.onnx.table import Call
from brim.ops.forest import Forest, Weights

LEQ, LT, GTE, GT, EQ, NEQ, MEMBER, LEAF = range(8)
_MODES = {f"BRANCH_{name}": i for i, name in enumerate(("LEQ", "LT", "GTE", "GT", "EQ", "NEQ"))}
_MODES["LEAF"] = LEAF


@dataclass(frozen=True)
class Tests:
    """The nodes of a file, all arrays [M]; true and false are numbers of nodes.

    missing: whether a NaN goes to the true child. members: the sets of MEMBER nodes, in order.
    """

    mode: np.ndarray
    feature: np.ndarray
    value: np.ndarray
    missing: np.ndarray
    true: np.ndarray
    false: np.ndarray
    members: tuple[np.ndarray, ...] = ()


def read_nodes(call: Call, prefix: str, targets: int) -> tuple[Tests, np.ndarray, Weights]:
    """Tests, roots and weights of TreeEnsembleRegressor and -Classifier. Raises ModelError.

    prefix: of the attributes of leaves, "target" or "class".
    """
    trees = _integers(call, "nodes_treeids")
    size = len(trees)
    ids, feature, true, false = (
        _integers(call, f"nodes_{name}", size)
        for name in ("nodeids", "featureids", "truenodeids", "falsenodeids")
    )
    names = call.texts("nodes_modes", ())
    _same_length("nodes_modes", len(names), size)
    unknown = sorted(set(names) - set(_MODES))
    if unknown:
        raise ModelError(f"a node of mode {unknown[0]!r}", hint=f"modes are {', '.join(_MODES)}")
    mode = np.array([_MODES[name] for name in names], np.int64)
    value, leaf = numbers(call, "nodes_values"), mode == LEAF
    _same_length("nodes_values", len(value), size)
    missing = _integers(call, "nodes_missing_value_tracks_true")
    if len(missing):
        _same_length("nodes_missing_value_tracks_true", len(missing), size)
    call.ignore("nodes_hitrates", "nodes_hitrates_as_tensor")
    find = _Finder(trees, ids)
    here = np.arange(size)
    true, false = (
        np.where(leaf, here, find(trees, np.where(leaf, ids, child), "child"))
        for child in (true, false)
    )
    _, first = np.unique(trees, return_index=True)
    tests = Tests(mode, feature, value, _flags(missing, size), true, false)
    target = _integers(call, f"{prefix}_ids")
    at = [_integers(call, f"{prefix}_{name}", len(target)) for name in ("treeids", "nodeids")]
    worth = numbers(call, f"{prefix}_weights")
    _same_length(f"{prefix}_weights", len(worth), len(target))
    return tests, first, _weights(find(at[0], at[1], "leaf"), target, worth, targets)


def read_leaves(call: Call, targets: int) -> tuple[Tests, np.ndarray, Weights]:
    """Tests, roots and weights of TreeEnsemble; its leaves become the last nodes."""
    mode = call.tensor("nodes_modes").reshape(-1).astype(np.int64)
    inner = len(mode)
    if inner and not 0 <= mode.min() <= mode.max() <= MEMBER:
        raise ModelError("nodes_modes are not among 0 to 6")
    target = _integers(call, "leaf_targetids")
    leaves = len(target)
    worth = call.tensor("leaf_weights").reshape(-1)
    split = call.tensor("nodes_splits").reshape(-1)
    feature = _integers(call, "nodes_featureids", inner)
    missing = _integers(call, "nodes_missing_value_tracks_true")
    for name, array, size in (
        ("leaf_weights", worth, leaves),
        ("nodes_splits", split, inner),
        ("nodes_missing_value_tracks_true", missing, len(missing) and inner),
    ):
        _same_length(name, len(array), size)
    call.ignore("nodes_hitrates")
    none = np.zeros(leaves, np.int64)
    tests = Tests(
        np.append(mode, none + LEAF),
        np.append(feature, none),
        np.append(split, none.astype(split.dtype)),
        _flags(np.append(missing, none) if len(missing) else missing, inner + leaves),
        _children(call, "true", inner, leaves),
        _children(call, "false", inner, leaves),
        _sets(call, int((mode == MEMBER).sum())),
    )
    weights = _weights(inner + np.arange(leaves), target, worth, targets)
    return tests, np.array(call.ints("tree_roots"), np.int64), weights


def numbers(call: Call, name: str) -> np.ndarray:
    """An attribute of floats, or of doubles under NAME_as_tensor; none: f32[0]."""
    plain, exact = call.floats(name, ()), call.tensor(f"{name}_as_tensor", None)
    if exact is None:
        return np.array(plain, np.float32)
    if plain or exact.dtype.kind != "f":
        raise ModelError(f"{name} are given twice, or {name}_as_tensor holds {exact.dtype}")
    return exact.reshape(-1)


def build(tests: Tests, root: np.ndarray, dtype: np.dtype) -> Forest:
    """The forest whose nodes ask only x <= t, for x of `dtype`. Raises ModelError."""
    mode, value = tests.mode, tests.value.astype(dtype)
    here, leaf = np.arange(len(mode)), mode == LEAF
    if (((tests.true == here) | (tests.false == here)) & ~leaf).any():  # only leaves may
        raise ModelError("the nodes of a tree form a cycle")
    swapped = (mode == GTE) | (mode == GT)
    left, right = (
        np.where(leaf, here, np.where(swapped, *pair))
        for pair in ((tests.false, tests.true), (tests.true, tests.false))
    )
    strict = (mode == LT) | (mode == GTE)
    threshold = np.where(strict, _before(value), value)
    lost = np.where(tests.missing, tests.true, tests.false)  # where a NaN goes
    low = ~leaf & (tests.missing != swapped)
    # x <= NaN holds for no number: x <= inf, the other way round, says where a NaN goes
    never = ~leaf & np.isnan(threshold)
    numbers_go = np.where(swapped & np.isnan(value), left, right)
    left, right = np.where(never, numbers_go, left), np.where(never, lost, right)
    threshold = np.where(never, dtype.type(np.inf), np.where(leaf, dtype.type(0), threshold))
    forest = Forest(tests.feature, threshold, left, right, low & ~never, root)
    return _with_sets(_with_equalities(forest, tests, value), tests, dtype)


def _with_equalities(forest: Forest, tests: Tests, value: np.ndarray) -> Forest:
    """EQ and NEQ nodes as two: x <= t, and below it x <= the number before t.

    A NaN differs from every number: where it is not said to go to the true child it goes to that of
    "not equal" (so does onnxruntime; onnx.reference asks only nodes_missing_value_tracks_true).
    """
    (at,) = np.nonzero((tests.mode == EQ) | (tests.mode == NEQ))
    if not at.size:
        return forest
    is_equal = tests.mode[at] == EQ
    same = np.where(is_equal, tests.true[at], tests.false[at])
    other = np.where(is_equal, tests.false[at], tests.true[at])
    second = len(forest.feature) + np.arange(at.size)
    left, right, low = forest.left.copy(), forest.right.copy(), forest.low.copy()
    threshold, known = forest.threshold.copy(), ~np.isnan(value[at])
    missing = is_equal & tests.missing[at]
    # a NaN that goes to `same` passes both nodes: it counts as -inf in the first only
    low[at] = missing & known
    left[at] = np.where(known, second, other)
    right[at] = np.where(missing & ~known, same, other)
    threshold[at] = np.where(known, value[at], np.inf)
    return Forest(
        np.append(forest.feature, forest.feature[at]),
        np.append(threshold, _before(value[at])),
        np.append(left, other),
        np.append(right, same),
        np.append(low, np.zeros(at.size, bool)),
        forest.root,
    )


def _with_sets(forest: Forest, tests: Tests, dtype: np.dtype) -> Forest:
    """MEMBER nodes as a search: halves of the sorted members, then equality with the one left."""
    if not tests.members:
        return forest
    feature, threshold = forest.feature.tolist(), forest.threshold.tolist()
    left, right, low = forest.left.tolist(), forest.right.tolist(), forest.low.tolist()

    def node(at: int, limit: float, yes: int, no: int) -> None:
        """Makes node `at` ask x <= limit; a NaN says no."""
        threshold[at], left[at], right[at], low[at] = limit, yes, no, False

    def fresh(like: int) -> int:
        for column in (threshold, left, right, low):
            column.append(0)
        feature.append(feature[like])
        return len(feature) - 1

    for at, members in zip(np.flatnonzero(tests.mode == MEMBER).tolist(), tests.members):
        inside, outside = int(tests.true[at]), int(tests.false[at])
        found = np.unique(members.astype(dtype))
        if tests.missing[at]:  # only a NaN is not <= inf
            start = fresh(at)
            node(at, np.inf, start, inside)
            at = start
        if not found.size:
            node(at, np.inf, outside, outside)
            continue
        before, waiting = _before(found).tolist(), [(at, 0, found.size)]
        found = found.tolist()
        while waiting:
            here, first, end = waiting.pop()
            if end - first == 1:
                second = fresh(at)
                node(here, found[first], second, outside)
                node(second, before[first], outside, inside)
                continue
            middle = (first + end) // 2
            lower, upper = fresh(at), fresh(at)
            node(here, found[middle - 1], lower, upper)
            waiting += [(lower, first, middle), (upper, middle, end)]
    return Forest(
        np.array(feature, np.int64),
        np.array(threshold, dtype),
        np.array(left, np.int64),
        np.array(right, np.int64),
        np.array(low, bool),
        forest.root,
    )


def _before(value: np.ndarray) -> np.ndarray:
    """The largest number below each; NaN below -inf (and NaN)."""
    found = np.nextafter(value, value.dtype.type(-np.inf))
    return np.where(value == -np.inf, value.dtype.type(np.nan), found)


# ------------------------------------------------------------------ parts of attributes


class _Finder:
    """Finds nodes by tree and node id. Raises ModelError for ids that are twice there, or not."""

    def __init__(self, trees: np.ndarray, nodes: np.ndarray) -> None:
        self.trees, self.nodes = np.unique(trees), np.unique(nodes)
        keys = self._keys(trees, nodes, "node")
        self.order = np.argsort(keys)
        self.keys = keys[self.order]
        if (self.keys[1:] == self.keys[:-1]).any():
            raise ModelError("a tree has two nodes with one id")

    def __call__(self, trees: np.ndarray, nodes: np.ndarray, what: str) -> np.ndarray:
        return self.order[_place(self.keys, self._keys(trees, nodes, what), what)]

    def _keys(self, trees: np.ndarray, nodes: np.ndarray, what: str) -> np.ndarray:
        tree, node = _place(self.trees, trees, what), _place(self.nodes, nodes, what)
        return tree * len(self.nodes) + node


def _place(ordered: np.ndarray, wanted: np.ndarray, what: str) -> np.ndarray:
    """Where `wanted` are in ascending numbers."""
    place = np.searchsorted(ordered, wanted)
    if wanted.size and (
        not ordered.size or (ordered[np.minimum(place, ordered.size - 1)] != wanted).any()
    ):
        raise ModelError(f"the id of a {what} belongs to no node of its tree")
    return place


def _integers(call: Call, name: str, size: int | None = None) -> np.ndarray:
    found = np.array(call.ints(name, ()), np.int64)
    if size is not None:
        _same_length(name, len(found), size)
    return found


def _same_length(name: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise ModelError(f"{name} has {found} entries, not {wanted}")


def _flags(missing: np.ndarray, size: int) -> np.ndarray:
    return missing != 0 if len(missing) else np.zeros(size, bool)


def _weights(node: np.ndarray, target: np.ndarray, value: np.ndarray, targets: int) -> Weights:
    if target.size and not 0 <= target.min() <= target.max() < targets:
        raise ModelError(f"a leaf speaks of a target that is not among {targets}")
    return Weights(node, target, value, targets)


def _children(call: Call, side: str, inner: int, leaves: int) -> np.ndarray:
    """The numbers of the true or false children in TreeEnsemble; leaves are their own."""
    index = _integers(call, f"nodes_{side}nodeids", inner)
    at_leaf = _integers(call, f"nodes_{side}leafs", inner) != 0
    if ((index < 0) | (index >= np.where(at_leaf, leaves, inner))).any():
        raise ModelError(f"nodes_{side}nodeids point to no node and no leaf")
    return np.append(index + inner * at_leaf, inner + np.arange(leaves))


def _sets(call: Call, count: int) -> tuple[np.ndarray, ...]:
    """The sets of all MEMBER nodes, each but the last ended by a NaN."""
    values = call.tensor("membership_values", None)
    values = np.zeros(0, np.float32) if values is None else values.reshape(-1)
    ends = np.flatnonzero(np.isnan(values))
    parts = np.split(values, ends)
    sets = [part if i == 0 else part[1:] for i, part in enumerate(parts)]
    if not sets[-1].size and len(sets) > count:  # the NaN behind the last set
        sets.pop()
    if len(sets) != count:
        raise ModelError(f"{len(sets)} sets of members for {count} nodes that ask for one")
    return tuple(sets)
