"""Decision trees as primitives: which leaf each row reaches. What leaves are worth is a gather.

A node sends a row to the left where x[feature] <= threshold, else (so a NaN, too) to the right;
other tests, and NaNs that go left, are brought into that form by `brim.ops.forest`. There are two
layouts: `descend` computes the numbers of a complete tree's children, `follow` looks them up.
"""

from __future__ import annotations

import numpy as np

from brim.errors import OpError
from brim.ops.registry import primitive
from brim.types import I32, Type

DEEPEST = 16  # levels of a complete tree
LONGEST = 1 << 12  # levels of a tree whose children are looked up


def _check(x: Type, feature: Type, threshold: Type, *numbers: Type) -> None:
    if x.rank != 2 or not x.dtype.is_float or x.dtype.bits < 32 or threshold.dtype != x.dtype:
        raise OpError(f"rows {x} and thresholds {threshold} must be f32 or f64")
    if feature.dims != threshold.dims or 0 in feature.dims:
        raise OpError(f"features {feature} do not fit thresholds {threshold}")
    if not all(n.dtype.is_integer for n in (feature, *numbers)):
        raise OpError("features, children and roots are integers")


def _reject(what: str, index: np.ndarray, size: int) -> None:
    if index.size and (index.min() < 0 or index.max() >= size):
        raise OpError(f"a {what} is outside [0, {size})")


def _descend(x: Type, feature: Type, threshold: Type, *, depth: int) -> Type:
    _check(x, feature, threshold)
    if not 1 <= depth <= DEEPEST or feature.rank != 2 or feature.dims[1] != 2**depth - 1:
        raise OpError(f"trees of depth {depth} have {2**depth - 1} nodes, not {feature.dims}")
    return Type((x.dims[0], feature.dims[0]), I32)


def _descend_numpy(
    x: np.ndarray, feature: np.ndarray, threshold: np.ndarray, *, depth: int
) -> np.ndarray:
    _reject("feature", feature, x.shape[1])
    rows, trees = np.ogrid[: len(x), : len(feature)]
    node = np.zeros((len(x), len(feature)), np.int32)
    for _ in range(depth):
        left = x[rows, feature[trees, node]] <= threshold[trees, node]
        node = 2 * node + 1 + ~left
    return (node - (2**depth - 1) + trees * 2**depth).astype(np.int32)


@primitive("walk", _descend, _descend_numpy)
def descend(x, feature, threshold, *, depth):
    """The leaf, i32[N, T], that each row of x[N, F] reaches in each of T complete trees.

    feature, threshold: [T, 2**depth - 1]; the children of node i are 2 i + 1 (where
    x[feature] <= threshold) and 2 i + 2. Leaves are numbered 0 to T * 2**depth - 1, by tree.
    """


def _follow(
    x: Type, feature: Type, threshold: Type, child: Type, root: Type, *, steps: int
) -> Type:
    _check(x, feature, threshold, child, root)
    if feature.rank != 1 or root.rank != 1 or child.dims != feature.dims:
        raise OpError(f"nodes {feature}, children {child} and roots {root} need one axis each")
    if not 1 <= steps <= LONGEST:
        raise OpError(f"{steps} steps are not among 1 to {LONGEST}")
    return Type((x.dims[0], root.dims[0]), I32)


def _follow_numpy(
    x: np.ndarray,
    feature: np.ndarray,
    threshold: np.ndarray,
    child: np.ndarray,
    root: np.ndarray,
    *,
    steps: int,
) -> np.ndarray:
    _reject("feature", feature, x.shape[1])
    _reject("child", child, len(feature) - 1)
    _reject("root", root, len(feature))
    rows = np.arange(len(x))[:, None]
    node = np.broadcast_to(root, (len(x), len(root)))
    for _ in range(steps):
        node = child[node] + ~(x[rows, feature[node]] <= threshold[node])
    return node.astype(np.int32)


@primitive("walk", _follow, _follow_numpy)
def follow(x, feature, threshold, child, root, *, steps):
    """The node, i32[N, T], at which each row of x[N, F] is after `steps` steps from each root[T].

    feature, threshold, child: [M], for all nodes of all trees; the children of node i are child[i]
    (where x[feature] <= threshold) and child[i] + 1. A leaf i is its own right child, and as its
    threshold is NaN, that is where all rows go.
    """
