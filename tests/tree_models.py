"""Random ensembles of decision trees: as Python objects that say what is right, and as ONNX nodes.

`walk` and `regress` are the straightforward definition of ai.onnx.ml's tree ensembles. They are
written for being read, one row and one tree at a time, and share nothing with brim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

MODES = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ")
_TYPES = {"f4": TensorProto.FLOAT, "f8": TensorProto.DOUBLE, "f2": TensorProto.FLOAT16}
_TYPES |= {"i4": TensorProto.INT32, "i8": TensorProto.INT64}


@dataclass(frozen=True)
class Leaf:
    """Votes: (target, weight)."""

    votes: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Branch:
    """members: the set of a MEMBER branch, whose value is not looked at."""

    mode: str
    feature: int
    value: float
    missing: bool
    true: Tree
    false: Tree
    members: tuple[float, ...] = ()


Tree = Leaf | Branch


def walk(tree: Tree, row: Sequence[float]) -> Leaf:
    """The leaf that a row reaches."""
    while isinstance(tree, Branch):
        x = float(row[tree.feature])
        holds = {
            "LEQ": x <= tree.value,
            "LT": x < tree.value,
            "GTE": x >= tree.value,
            "GT": x > tree.value,
            "EQ": x == tree.value,
            "NEQ": x != tree.value,
            "MEMBER": x in tree.members,
        }[tree.mode]
        tree = tree.true if holds or (tree.missing and np.isnan(x)) else tree.false
    return tree


def regress(
    trees: Sequence[Tree], rows: np.ndarray, targets: int, how: str, base: Sequence[float] = ()
) -> np.ndarray:
    """f64[N, targets]; minima and maxima of nothing are 0."""
    result = np.zeros((len(rows), targets))
    for at, row in enumerate(rows):
        votes: list[list[float]] = [[] for _ in range(targets)]
        for tree in trees:
            for target, weight in walk(tree, row).votes:
                votes[target].append(weight)
        for target, found in enumerate(votes):
            if how in ("SUM", "AVERAGE"):
                result[at, target] = sum(found) / (len(trees) if how == "AVERAGE" else 1)
            elif found:
                result[at, target] = min(found) if how == "MIN" else max(found)
    return result + np.array(base) if len(base) else result


# ------------------------------------------------------------------ drawing


@dataclass
class Grower:
    """Draws trees. Values are multiples of 1/8, so that sums are exact and equality happens."""

    random: np.random.Generator
    features: int = 4
    targets: int = 1
    modes: tuple[str, ...] = MODES
    per_tree: bool = False  # all leaves of a tree vote for one target
    votes: tuple[int, int] = (1, 1)  # the fewest and the most of a leaf
    member: bool = False

    def number(self) -> float:
        special = self.random.random()
        if special < 0.04:
            return float(self.random.choice([np.inf, -np.inf]))
        return float(self.random.integers(-16, 17)) / 8

    def tree(self, depth: int, target: int = 0) -> Tree:
        if depth == 0 or self.random.random() < 0.2:
            return self.leaf(target)
        mode = str(self.random.choice(self.modes + (("MEMBER",) if self.member else ())))
        members = tuple(self.number() for _ in range(self.random.integers(0, 9)))
        return Branch(
            mode,
            int(self.random.integers(self.features)),
            self.number(),
            bool(self.random.random() < 0.5),
            self.tree(depth - 1, target),
            self.tree(depth - 1, target),
            members if mode == "MEMBER" else (),
        )

    def leaf(self, target: int) -> Leaf:
        count = int(self.random.integers(self.votes[0], self.votes[1] + 1))
        chosen = [target if self.per_tree else int(self.random.integers(self.targets))] * count
        if not self.per_tree and count > 1:
            chosen = [int(t) for t in self.random.integers(0, self.targets, count)]
        return Leaf(tuple((t, float(self.random.integers(-16, 17)) / 8) for t in chosen))

    def chain(self, length: int) -> Tree:
        """A tree that is as deep as it can be."""
        tree: Tree = self.leaf(0)
        for _ in range(length):
            pair = (self.leaf(0), tree) if self.random.random() < 0.8 else (tree, self.leaf(0))
            feature = int(self.random.integers(self.features))
            tree = Branch("LEQ", feature, self.number() - 1.5, False, *pair)
        return tree

    def forest(self, trees: int, depth: int) -> list[Tree]:
        return [
            self.tree(int(self.random.integers(0, depth + 1)), number % self.targets)
            for number in range(trees)
        ]

    def rows(self, count: int, dtype: str = "f4") -> np.ndarray:
        """Rows of numbers among which the thresholds are, infinities and NaNs."""
        if dtype[0] == "i":
            return self.random.integers(-3, 4, (count, self.features)).astype(dtype)
        rows = self.random.integers(-16, 17, (count, self.features)) / 8
        kind = self.random.random(rows.shape)
        rows = np.where(kind < 0.1, np.nan, np.where(kind > 0.96, np.inf, rows))
        return np.where((kind > 0.92) & (kind <= 0.96), -np.inf, rows).astype(dtype)


# ------------------------------------------------------------------ ONNX


@dataclass
class _Nodes:
    """The attributes of nodes in the old form, filled tree by tree."""

    columns: dict[str, list] = field(default_factory=dict)

    def add(self, prefix: str, **values: Any) -> None:
        for name, value in values.items():
            self.columns.setdefault(f"{prefix}_{name}", []).append(value)


def attributes(trees: Sequence[Tree], prefix: str = "target", exact: bool = False) -> dict:
    """Of TreeEnsembleRegressor and (prefix "class") -Classifier. exact: doubles, as tensors."""
    nodes = _Nodes()
    for number, tree in enumerate(trees):
        waiting: list[tuple[int, Tree]] = [(0, tree)]
        count = 1
        while waiting:
            at, found = waiting.pop()
            here = {"treeids": number, "nodeids": at}
            if isinstance(found, Leaf):
                row = {"featureids": 0, "values": 0.0, "modes": "LEAF"}
                row |= {"truenodeids": 0, "falsenodeids": 0, "missing_value_tracks_true": 0}
                for target, weight in found.votes:
                    nodes.add(prefix, **here, ids=target, weights=weight)
            else:
                row = {"featureids": found.feature, "values": found.value}
                row |= {"modes": f"BRANCH_{found.mode}", "truenodeids": count}
                row |= {"falsenodeids": count + 1, "missing_value_tracks_true": int(found.missing)}
                waiting += [(count, found.true), (count + 1, found.false)]
                count += 2
            nodes.add("nodes", **here, **row)
    columns = nodes.columns
    if not exact:
        return columns
    for name in ("nodes_values", f"{prefix}_weights"):
        columns[f"{name}_as_tensor"] = tensor(columns.pop(name, []), np.float64)
    return columns


def leaf_attributes(trees: Sequence[Tree], dtype: Any = np.float32) -> dict:
    """Of TreeEnsemble, for trees whose leaves have one vote each."""
    names = ("modes", "featureids", "splits", "missing_value_tracks_true")
    names += ("truenodeids", "trueleafs", "falsenodeids", "falseleafs")
    columns: dict[str, list] = {f"nodes_{name}": [] for name in names}
    targets: list[int] = []
    weights: list[float] = []
    members: list[float] = []
    numbers = {mode: i for i, mode in enumerate((*MODES, "MEMBER"))}

    def add(tree: Branch) -> int:
        at = len(columns["nodes_modes"])
        values = (numbers[tree.mode], tree.feature, tree.value, int(tree.missing), 0, 0, 0, 0)
        for column, value in zip(columns.values(), values):
            column.append(value)
        members.extend((*tree.members, np.nan) if tree.mode == "MEMBER" else ())
        for side, child in (("true", tree.true), ("false", tree.false)):
            is_leaf = isinstance(child, Leaf)
            columns[f"nodes_{side}leafs"][at] = int(is_leaf)
            columns[f"nodes_{side}nodeids"][at] = leaf(child) if is_leaf else add(child)
        return at

    def leaf(tree: Leaf) -> int:
        ((target, weight),) = tree.votes
        targets.append(target)
        weights.append(weight)
        return len(targets) - 1

    def root(tree: Tree) -> int:
        if isinstance(tree, Branch):
            return add(tree)
        at = add(Branch("LEQ", 0, 0.0, False, tree, tree))
        columns["nodes_falsenodeids"][at] = columns["nodes_truenodeids"][at]
        return at

    roots = [root(tree) for tree in trees]
    found: dict[str, Any] = {**columns, "tree_roots": roots, "leaf_targetids": targets}
    found["nodes_modes"] = tensor(columns["nodes_modes"], np.uint8)
    found["nodes_splits"] = tensor(columns["nodes_splits"], dtype)
    found["leaf_weights"] = tensor(weights, dtype)
    if members:
        found["membership_values"] = tensor(members, dtype)
    return found


def tensor(values: Sequence[float], dtype: Any) -> TensorProto:
    return numpy_helper.from_array(np.array(values, dtype))


def model(op: str, rows: np.ndarray, attributes: dict, version: int = 3) -> ModelProto:
    """One node with inputs like `rows`. Outputs: "Y", and of a classifier "Z"."""
    kind = _TYPES[rows.dtype.str[1:]]
    labels = TensorProto.STRING if attributes.get("classlabels_strings") else TensorProto.INT64
    outputs = [("Y", kind if op == "TreeEnsemble" else TensorProto.FLOAT)]
    if op == "TreeEnsembleClassifier":
        outputs = [("Y", labels), ("Z", TensorProto.FLOAT)]
    given = {name: value for name, value in attributes.items() if not _is_empty(value)}
    names = [name for name, _ in outputs]
    node = helper.make_node(op, ["X"], names, domain="ai.onnx.ml", **given)
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("X", kind, list(rows.shape))],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _is_empty(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and not value
