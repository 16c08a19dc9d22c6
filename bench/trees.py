"""`python -m bench.trees`: brim against onnxruntime on ensembles of decision trees.

Both run in this process, in turns; a figure is the median over rounds of the ratio within a round.
Two ensembles: complete trees, and trees grown by random splits until few rows are left (as extra
trees and leaf-wise boosting grow them: some branches three times as long as others).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

FEATURES = 30
BATCHES = (1, 100, 10_000)
TOLERANCE = 1e-4  # largest difference of the sums, over the largest sum

Run = Callable[[np.ndarray], np.ndarray]
Node = tuple[int, float, int, int]  # feature, threshold, the true and the false child; -1: a leaf


def complete(depth: int, random: np.random.Generator) -> list[Node]:
    """A tree all of whose leaves are `depth` steps away."""
    inner = (1 << depth) - 1
    feature, value = random.integers(0, FEATURES, inner), random.standard_normal(inner) * 0.7
    tests = enumerate(zip(feature.tolist(), value.tolist()))
    nodes = [(f, t, 2 * i + 1, 2 * i + 2) for i, (f, t) in tests]
    return nodes + [(0, 0.0, -1, -1)] * (inner + 1)


def grown(rows: np.ndarray, few: int, random: np.random.Generator) -> list[Node]:
    """A tree whose leaves hold at most `few` of the rows, split by random features at random."""
    nodes: list[Node] = [(0, 0.0, -1, -1)]
    waiting = [(0, rows)]
    while waiting:
        at, here = waiting.pop()
        feature = int(random.integers(FEATURES))
        low, high = here[:, feature].min(), here[:, feature].max()
        if len(here) <= few or low == high:
            continue
        limit = float(np.float32(random.uniform(low, high)))
        goes = here[:, feature] <= limit
        if goes.all():
            continue
        left = len(nodes)
        nodes[at] = (feature, limit, left, left + 1)
        nodes += [(0, 0.0, -1, -1)] * 2
        waiting += [(left, here[goes]), (left + 1, here[~goes])]
    return nodes


def model(trees: Sequence[list[Node]], seed: int = 0) -> bytes:
    """A TreeEnsembleRegressor of these trees as an ONNX file; its input "X" is float[N, 30]."""
    size = [len(tree) for tree in trees]
    feature, value, true, false = map(np.array, zip(*(node for tree in trees for node in tree)))
    tree, leaf = np.repeat(np.arange(len(trees)), size), true < 0
    number = np.concatenate([np.arange(n) for n in size])
    weight = np.random.default_rng(seed).standard_normal(int(leaf.sum())) * 0.05
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["X"],
        ["Y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=tree.tolist(),
        nodes_nodeids=number.tolist(),
        nodes_featureids=feature.tolist(),
        nodes_values=value.astype(np.float32).tolist(),
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_truenodeids=np.maximum(true, 0).tolist(),
        nodes_falsenodeids=np.maximum(false, 0).tolist(),
        target_treeids=tree[leaf].tolist(),
        target_nodeids=number[leaf].tolist(),
        target_ids=[0] * len(weight),
        target_weights=weight.tolist(),
    )
    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", FEATURES])
    y = helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["N", 1])
    graph = helper.make_graph([node], "trees", [x], [y])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return made.SerializeToString()


def ensembles(trees: int, depth: int) -> Iterator[tuple[str, bytes]]:
    """Names and files of what is measured."""
    random = np.random.default_rng(0)
    balanced = [complete(depth, random) for _ in range(trees)]
    yield f"{trees} complete trees of depth {depth}", model(balanced)
    rows = random.standard_normal((1 << depth, FEATURES)).astype(np.float32)
    uneven = [grown(rows, 2, random) for _ in range(trees)]
    nodes = sum(map(len, uneven)) // trees
    yield f"{trees} grown trees of {nodes} nodes, depth {max(map(height, uneven))}", model(uneven)


def height(tree: list[Node]) -> int:
    """Steps to the farthest leaf (children follow their parents)."""
    steps = [0] * len(tree)
    for at, (_, _, true, false) in enumerate(tree):
        for child in (true, false):
            if child >= 0:
                steps[child] = steps[at] + 1
    return max(steps)


def contestants(data: bytes, threads: int) -> tuple[Run, Run]:
    """brim and onnxruntime, each allowed so many threads."""
    import onnxruntime

    import brim

    ours = brim.load(data, threads=threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    theirs = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda x: ours.run({"X": x})["Y"], lambda x: theirs.run(None, {"X": x})[0]


def measure(run: Run, batches: Sequence[np.ndarray]) -> float:
    """Median seconds of a call, each batch once."""
    taken = []
    for x in batches:
        start = time.perf_counter()
        run(x)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def compare(ours: Run, theirs: Run, batch: int, rounds: int) -> tuple[float, float, float, float]:
    """Seconds of both, the ratio (below 1 brim is faster), and how far the results differ."""
    random = np.random.default_rng(batch)
    # other rows in each call: a branch predictor learns the way of a row that comes again
    count = max(3, min(300, 3000 // batch))
    data = [random.standard_normal((batch, FEATURES)).astype(np.float32) for _ in range(count)]
    a, b = ours(data[0]), theirs(data[0])
    times = []
    for number in range(rounds):
        pair = (ours, theirs) if number % 2 else (theirs, ours)
        found = [measure(run, data) for run in pair]
        times.append(found if number % 2 else found[::-1])
    mine, other = (statistics.median(column) for column in zip(*times))
    ratio = statistics.median(x / y for x, y in times)
    return mine, other, ratio, float(np.abs(a - b).max() / np.abs(b).max())


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 if both agreed everywhere, else 1."""
    parser = argparse.ArgumentParser(prog="python -m bench.trees", description=__doc__)
    parser.add_argument("--trees", type=int, default=500)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--batches", type=int, nargs="*", default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    agreed = True
    for name, data in ensembles(options.trees, options.depth):
        print(
            f"{name}\n{'threads':>8}{'batch':>8}{'brim us/row':>13}{'ort us/row':>12}{'ratio':>8}"
        )
        for threads in options.threads:
            ours, theirs = contestants(data, threads)
            for batch in options.batches:
                mine, other, ratio, difference = compare(ours, theirs, batch, options.rounds)
                agreed = agreed and difference <= TOLERANCE
                each = f"{mine / batch * 1e6:13.2f}{other / batch * 1e6:12.2f}{ratio:8.2f}"
                wrong = "" if difference <= TOLERANCE else f"  differs by {difference:.1e}"
                print(f"{threads:8}{batch:8}{each}{wrong}", flush=True)
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
