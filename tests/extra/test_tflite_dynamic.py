"""TFLite models whose shapes depend on data: host steps where needed, compiled code elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("tflite")

import brim
from brim.frontends.tflite import import_model
from tests.tflite_models import Feed, Graph, Tensor, constant, op, run_litert, write

pytestmark = pytest.mark.peer("ai_edge_litert")
X = np.random.default_rng(5).standard_normal((4, 5)).astype(np.float32)
TABLE = np.random.default_rng(6).standard_normal((5, 3)).astype(np.float32)


def f32(name: str, *shape: int) -> Tensor:
    """A tensor; -1 stands for a size that only a run tells."""
    return Tensor(name, "float32", [abs(n) for n in shape], dims=shape)


def i32(name: str, *shape: int) -> Tensor:
    return Tensor(name, "int32", [abs(n) for n in shape], dims=shape)


POSITIVE = Graph(
    [f32("x", 4, 5), constant("zero", np.float32(0)), Tensor("m", "bool", (4, 5)),
     Tensor("w", "int64", (1, 2), dims=(-1, 2)), f32("y", -1), f32("z", -1)],
    [op("GREATER", "x zero", "m"), op("WHERE", "m", "w"), op("GATHER_ND", "x w", "y"),
     op("EXP", "y", "z")],
    "x", "z",
)  # fmt: skip
RESHAPED = Graph(
    [f32("x", 4, 5), i32("n", 2), f32("r", -1, -1), f32("e", -1, -1), i32("s", 2)],
    [op("RESHAPE", "x n", "r"), op("EXP", "r", "e"), op("SHAPE", "e", "s", outType="int32")],
    "x n", "e s",
)  # fmt: skip
DISTINCT = Graph(
    [i32("x", 8), i32("u", -1), i32("i", 8), f32("c", -1), f32("d", 8)],
    [op("UNIQUE", "x", "u i", idxOutType="int32"), op("CAST", "u", "c"), op("CAST", "i", "d")],
    "x", "c d",
)  # fmt: skip
BEST = Graph(
    [f32("x", 4, 5), constant("k", np.int32(2)), f32("v", 4, 2), i32("i", 4, 2),
     constant("t", TABLE), f32("g", 4, 2, 3), f32("h", 4, 2, 3)],
    [op("TOPK_V2", "x k", "v i"), op("GATHER", "t i", "g"), op("EXP", "g", "h")],
    "x", "v h",
)  # fmt: skip
SEGMENTS = Graph(
    [f32("x", 4, 5), i32("s", 4), f32("y", -1, 5), f32("z", -1, 5)],
    [op("SEGMENT_SUM", "x s", "y"), op("NEG", "y", "z")],
    "x s", "z",
)  # fmt: skip

# name -> graph, feeds of runs one after another, how many steps run on the host
MODELS: dict[str, tuple[Graph, list[Feed], int]] = {
    "what is positive": (POSITIVE, [{"x": X}, {"x": -X}, {"x": -abs(X)}], 3),
    "a fed shape": (
        RESHAPED,
        [{"x": X, "n": np.array(n, np.int32)} for n in ((2, 10), (-1, 4))],
        3,
    ),
    "distinct numbers": (DISTINCT, [{"x": np.array([3, 1, 3, 2, 1, 9, 9, 0], np.int32)}], 2),
    "the best of rows": (BEST, [{"x": X}], 1),
    "segments": (
        SEGMENTS,
        [{"x": X, "s": np.array(s, np.int32)} for s in ((0, 0, 1, 2), (0, 0, 0, 0))],
        2,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_shapes_that_depend_on_data(name: str) -> None:
    graph, feeds, steps = MODELS[name]
    content = write(graph)
    model = brim.load(content)
    for feed, expected in zip(feeds, run_litert(content, feeds), strict=True):
        for found, (port, theirs) in zip(model.run(feed).values(), expected.items(), strict=True):
            assert (found.shape, found.dtype) == (theirs.shape, theirs.dtype), port
            np.testing.assert_allclose(found, theirs, rtol=1e-5)
    values = import_model(content).values()
    assert sum(value.op is not None and value.op.kind == "host" for value in values) == steps


@pytest.mark.parametrize("size", [1, 4, 5, 13, 29, 61, 65, 124, 125, 300])
def test_hashes_of_long_keys(size: int) -> None:
    """LSH_PROJECTION hashes keys of any length; each range of lengths has its own way."""
    rng = np.random.default_rng(size)
    seeds = constant("seeds", rng.standard_normal((3, 8)).astype(np.float32))
    items = rng.integers(0, 200, (6, size)).astype(np.uint8)
    tensors = [seeds, Tensor("x", "uint8", items.shape), i32("y", 24)]
    content = write(Graph(tensors, [op("LSH_PROJECTION", "seeds x", "y", type="DENSE")], "x", "y"))
    (expected,) = run_litert(content, [{"x": items}])
    np.testing.assert_array_equal(brim.load(content).run({"x": items})["y"], expected["y"])


def test_a_region_whose_shapes_depend_on_data_is_refused() -> None:
    """A sub-graph is known at import only: such an operator cannot become a host step."""
    body = Graph(
        [f32("a"), f32("b"), f32("c")], [op("STABLEHLO_ADD", "a b", "c")], "a b", "c", "body"
    )
    options = {
        "updateWindowDims": [1], "insertedWindowDims": [0], "scatterDimsToOperandDims": [0],
        "indexVectorDim": 1, "updateComputationSubgraphIndex": 1,
    }  # fmt: skip
    graph = Graph(
        [f32("x", 4, 5), i32("n", 2), f32("r", -1, -1), i32("i", 2, 1), f32("u", 2, 5),
         f32("y", -1, -1)],
        [op("RESHAPE", "x n", "r"), op("STABLEHLO_SCATTER", "r i u", "y", **options)],
        "x n i u", "y",
    )  # fmt: skip
    with pytest.raises(brim.UnsupportedError, match="STABLEHLO_SCATTER when shapes depend on data"):
        import_model(write(graph, body))
