"""Ensembles of decision trees as data, and what their leaves add up to for each row.

A `Forest` has one kind of test, and its nodes may be shared; `scores` chooses how its tables are
laid out. How a file's tests become such nodes is the front end's work; walking is in `ops.trees`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from brim.errors import ModelError, UnsupportedError
from brim.graph import Value, const
from brim.ops import primitive as p
from brim.ops.trees import LONGEST, descend, follow

# Complete trees may be so many times larger than the nodes they hold (3 times larger was a fifth
# faster than looked-up children, 8 times half as fast); small ones are never too large.
_SPARSE, _SMALL = 4, 1 << 12
_DEEP = 12  # levels: deeper trees are not made complete
_LARGEST = 1 << 25  # elements of a table

_UNITS = {"add": 0.0, "max": -np.inf, "min": np.inf}
_UPDATES = {"add": np.add, "max": np.maximum, "min": np.minimum}


@dataclass(frozen=True)
class Forest:
    """M nodes of all trees. A leaf is its own left and right.

    feature, left, right: i64[M]; threshold: f32[M] or f64[M]; low: bool[M]; root: i64[T]. A row
    goes to the left where x[feature] <= threshold, else to the right, and a NaN to the right, too,
    unless the node is low: then a NaN counts as -inf.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    low: np.ndarray
    root: np.ndarray

    @property
    def is_leaf(self) -> np.ndarray:
        return self.left == np.arange(len(self.left))


@dataclass(frozen=True)
class Weights:
    """What leaves are worth: value[W] for a target[W] at a node[W]. Values at one place combine."""

    node: np.ndarray
    target: np.ndarray
    value: np.ndarray
    targets: int


@dataclass(frozen=True)
class Planted:
    """A forest with the rows that walk through it.

    x: the rows, with further columns for low nodes; the last node of the forest is a leaf worth
    nothing, the root of trees that only fill a table. tree: the number of each node's tree, -1 for
    those of none, or None if trees share nodes. level: the most steps that lead to a node.
    """

    x: Value
    forest: Forest
    tree: np.ndarray | None
    level: np.ndarray

    @property
    def depth(self) -> int:
        """Steps to the farthest leaf."""
        return int(self.level.max())


def plant(x: Value, forest: Forest) -> Planted:
    """Rows x[N, F] in front of a forest.

    Raises ModelError for a forest that is none (cycles, indices out of range), UnsupportedError for
    one that is too deep.
    """
    _check(forest, x.shape[1])
    forest = _with_idle_leaf(forest)
    x, forest = _with_low_columns(x, forest)
    level = _levels(forest)
    return Planted(x, forest, _tree_of(forest), level)


def scores(planted: Planted, weights: Weights, how: str) -> Value:
    """The weights of the leaves that rows reach, combined: [N, targets] of the rows' dtype.

    how: add, mean (over all trees), max or min; the latter give 0 for a target of which no leaf
    that was reached says anything. Raises UnsupportedError for tables that are too large.
    """
    total = _combined(planted, weights, "add" if how == "mean" else how)
    if how == "mean":
        return p.div(total, max(len(planted.forest.root), 1))
    heard = None if how == "add" else said(planted, weights)
    zero = const(np.zeros((), total.dtype.numpy))
    return total if heard is None else p.select(heard, total, zero)


def said(planted: Planted, weights: Weights) -> Value | None:
    """bool[N, targets]: whether any leaf that a row reaches speaks of a target; None: always."""
    weights = _at_leaves(planted.forest, weights)
    if _always(planted, weights):
        return None
    ones = replace(weights, value=np.ones_like(weights.value))
    return p.gt(_combined(planted, ones, "add"), 0)


def _check(forest: Forest, features: int) -> None:
    size, inner = len(forest.feature), ~forest.is_leaf
    for what, index, top in (
        ("a feature", forest.feature[inner], features),
        ("a node's child", np.concatenate([forest.left, forest.right]), size),
        ("a root", forest.root, size),
    ):
        if index.size and (index.min() < 0 or index.max() >= top):
            raise ModelError(f"{what} of a tree is not among the {top} that there are")


def _levels(forest: Forest) -> np.ndarray:
    """The most steps that lead to each node: each is visited after all of its parents."""
    inner = ~forest.is_leaf
    level = np.zeros(len(inner), np.int64)
    waiting = np.zeros(len(inner), np.int64)  # edges from parents that were not yet visited
    for child in (forest.left, forest.right):
        waiting += np.bincount(child[inner], minlength=len(inner))
    front, seen, steps = np.flatnonzero(waiting == 0), 0, 0
    while front.size:
        seen, steps = seen + front.size, steps + 1
        here = front[inner[front]]
        below = np.concatenate([forest.left[here], forest.right[here]])
        np.subtract.at(waiting, below, 1)
        below = np.unique(below)
        level[below] = steps
        if steps > LONGEST:
            raise UnsupportedError(f"a tree of over {LONGEST} levels", why="it is no shape to walk")
        front = below[waiting[below] == 0]
    if seen < len(inner):
        raise ModelError("the nodes of a tree form a cycle")
    return level


def _with_idle_leaf(forest: Forest) -> Forest:
    size, leaf = len(forest.feature), forest.is_leaf
    return replace(
        forest,
        feature=np.append(np.where(leaf, 0, forest.feature), 0),
        threshold=np.append(forest.threshold, forest.threshold.dtype.type(0)),
        left=np.append(forest.left, size),
        right=np.append(forest.right, size),
        low=np.append(forest.low & ~leaf, False),
        root=forest.root if forest.root.size else np.array([size]),
    )


def _at_leaves(forest: Forest, weights: Weights) -> Weights:
    """Without what stands at other nodes, which says nothing."""
    at_leaf = forest.is_leaf[weights.node]
    return replace(
        weights,
        node=weights.node[at_leaf],
        target=weights.target[at_leaf],
        value=weights.value[at_leaf],
    )


def _with_low_columns(x: Value, forest: Forest) -> tuple[Value, Forest]:
    """x with further columns, in which -inf stands for NaN, for the nodes that are low."""
    if not forest.low.any():
        return x, forest
    lowest = const(np.array(-np.inf, x.dtype.numpy))
    lowered = p.select(p.is_nan(x), lowest, x)
    if (forest.low | forest.is_leaf).all():
        return lowered, forest
    feature = forest.feature + x.shape[1] * forest.low
    return p.concat(x, lowered, axis=1), replace(forest, feature=feature)


def _tree_of(forest: Forest) -> np.ndarray | None:
    """See `Planted.tree`: from the roots down, each node once."""
    tree = np.full(len(forest.feature), -1)
    front, label = forest.root, np.arange(len(forest.root))
    while front.size:
        front, first, place = np.unique(front, return_index=True, return_inverse=True)
        label, all_labels = label[first], label
        seen = tree[front]
        if (label[place] != all_labels).any() or ((seen != -1) & (seen != label)).any():
            return None
        front, label = front[seen == -1], label[seen == -1]
        tree[front] = label
        inner = ~forest.is_leaf[front]
        front, label = front[inner], np.concatenate([label[inner], label[inner]])
        front = np.concatenate([forest.left[front], forest.right[front]])
    return tree


def _combined(planted: Planted, weights: Weights, op: str) -> Value:
    """Weights combined by `op`; its unit where no leaf says anything."""
    x, forest = planted.x, planted.forest
    rows, targets, unit = x.shape[0], weights.targets, _UNITS[op]
    weights = _at_leaves(forest, weights)
    by_target = _by_target(planted, weights)
    if by_target is None:
        leaf, nodes = _walk(planted)
        table = np.full(_sized(len(forest.feature), targets), unit, x.dtype.numpy)
        _UPDATES[op].at(table, (weights.node, weights.target), weights.value)
        _sized(len(nodes), targets)
        found = p.gather(const(table[nodes]), leaf, axis=0)
        return p.reshape(p.reduce(found, op=op, axes=(1,)), shape=(rows, targets))
    leaf, nodes = _walk(replace(planted, forest=replace(forest, root=by_target.reshape(-1))))
    values = np.full(len(forest.feature), unit, x.dtype.numpy)
    _UPDATES[op].at(values, weights.node, weights.value)
    found = p.gather(const(values[nodes]), leaf, axis=0)
    found = p.reshape(found, shape=(rows, *by_target.shape))
    return p.reshape(p.reduce(found, op=op, axes=(2,)), shape=(rows, targets))


def _by_target(planted: Planted, weights: Weights) -> np.ndarray | None:
    """Roots[targets, most trees of one], the idle leaf where a target has fewer.

    None where a tree speaks of several targets, or where that would be mostly idle.
    """
    forest, tree, targets = planted.forest, planted.tree, weights.targets
    idle = len(forest.feature) - 1
    if targets == 1:
        return forest.root.reshape(1, -1)
    if tree is None or targets > 4 * len(forest.root) + 64:
        return None
    speaker = tree[weights.node]
    speaker, target = speaker[speaker >= 0], weights.target[speaker >= 0]
    lowest, highest = np.full(len(forest.root), targets), np.full(len(forest.root), -1)
    np.minimum.at(lowest, speaker, target)
    np.maximum.at(highest, speaker, target)
    speaks = highest >= 0
    if (lowest != highest)[speaks].any() or not speaks.any():
        return None
    order = np.argsort(highest[speaks], kind="stable")
    counts = np.bincount(highest[speaks], minlength=targets)
    if counts.max() * targets > 4 * len(forest.root) + 64:
        return None
    grid = np.full((targets, counts.max()), idle)
    grid[np.arange(counts.max()) < counts[:, None]] = forest.root[speaks][order]
    return grid


def _always(planted: Planted, weights: Weights) -> bool:
    """Whether every target has a tree all of whose leaves say something of it."""
    forest, tree = planted.forest, planted.tree
    if tree is None:
        return False
    leaves = np.bincount(tree[forest.is_leaf & (tree >= 0)], minlength=len(forest.root))
    said = np.unique(np.stack([weights.target, weights.node]), axis=1)
    target, speaker = said[0], tree[said[1]]
    target, speaker = target[speaker >= 0], speaker[speaker >= 0]
    pairs, counts = np.unique(np.stack([target, speaker]), axis=1, return_counts=True)
    full = pairs[0][counts == leaves[pairs[1]]]
    return len(np.unique(full)) == weights.targets


def _walk(planted: Planted) -> tuple[Value, np.ndarray]:
    """The number of the leaf that each row reaches in each tree, and the node of each number."""
    x, forest, depth = planted.x, planted.forest, max(planted.depth, 1)
    size = len(forest.feature)
    if depth <= _DEEP and len(forest.root) << depth <= max(_SPARSE * size, _SMALL):
        feature, threshold, nodes = _complete(forest, depth)
        return descend(x, const(feature), const(threshold), depth=depth), nodes
    feature, threshold, child, nodes = _linked(planted)
    root = np.arange(1, 1 + len(forest.root), dtype=np.int32)
    tables = map(const, (feature, threshold, child, root))
    return follow(x, *tables, steps=depth), nodes


def _complete(forest: Forest, depth: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features and thresholds [T, 2**depth - 1] of complete trees, and the nodes below them.

    A leaf further up is repeated: whatever its tests say, they end at the same leaf.
    """
    trees, inner = len(forest.root), (1 << depth) - 1
    nodes = np.empty(_sized(trees, inner), np.int64)
    level = forest.root.reshape(-1, 1)
    for number in range(depth):
        start = (1 << number) - 1
        nodes[:, start : 2 * start + 1] = level
        level = np.stack([forest.left[level], forest.right[level]], axis=2).reshape(trees, -1)
    return _narrow(forest.feature)[nodes], forest.threshold[nodes], level.reshape(-1)


def _linked(planted: Planted) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features, thresholds and children for `follow`, and the node that each place stands for.

    Place 0 is no node, the roots come next, then the two children of each inner node, by tree and
    level. A node with several parents has several places, all with the same children.
    """
    forest = planted.forest
    roots, inner = len(forest.root), np.flatnonzero(~forest.is_leaf)
    tree = np.zeros_like(planted.level) if planted.tree is None else planted.tree
    inner = inner[np.lexsort((planted.level[inner], tree[inner]))]
    nodes = np.zeros(_sized(1 + roots + 2 * len(inner)), np.int64)
    nodes[1 : 1 + roots] = forest.root
    nodes[1 + roots :: 2], nodes[2 + roots :: 2] = forest.left[inner], forest.right[inner]
    below = np.zeros(len(forest.feature), np.int64)
    below[inner] = 1 + roots + 2 * np.arange(len(inner))
    ends = forest.is_leaf[nodes]
    child = np.where(ends, np.maximum(np.arange(len(nodes)) - 1, 0), below[nodes])
    threshold = np.where(ends, forest.threshold.dtype.type(np.nan), forest.threshold[nodes])
    return _narrow(forest.feature)[nodes], threshold, child.astype(np.int32), nodes


def _narrow(index: np.ndarray) -> np.ndarray:
    """Indices in the smallest type that holds them: less memory is read at each node."""
    top = index.max(initial=0)
    return index.astype(np.uint8 if top < 1 << 8 else np.uint16 if top < 1 << 16 else np.int32)


def _sized(*shape: int) -> tuple[int, ...]:
    """The shape of a table that may be made. Raises UnsupportedError if it is huge."""
    if np.prod(shape, dtype=np.float64) > _LARGEST:
        raise UnsupportedError(f"trees need a table of {shape}", why=f"over {_LARGEST} elements")
    return shape
