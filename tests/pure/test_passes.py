"""Passes: before and after as text, and the meaning kept, on graphs by hand and at random.

Networks that must lose their transposes are in test_layout.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from brim.compiler import PIPELINE
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.ops import nn
from brim.ops import primitive as ops
from brim.ops.registry import VARIANTS, variant
from brim.passes.batchnorm import fold_batchnorm
from brim.passes.concat import nest_concats
from brim.passes.expand import expand, variants
from brim.passes.layout import layout, moved_elements
from brim.passes.simplify import lossless, simplify
from brim.passes.verify import verify
from brim.text import parse_graph, print_graph
from brim.types import COMPUTED, DTYPES, F32, Type, parse_type
from tests.random_graphs import RandomGraph, graphs

FAST = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def body(graph: Graph) -> list[str]:
    """The printed equations, without inputs, constants' names and outputs."""
    text, _ = print_graph(graph)
    return text.strip().split("\n")[1:]


def read(*lines: str) -> Graph:
    return parse_graph("graph g\n" + "\n".join(lines) + "\n", {})


def check_simplify(before: list[str], after: list[str]) -> None:
    graph = read(*before)
    found = simplify(graph)
    verify(found)
    assert body(found) == after
    rng = np.random.default_rng(0)
    feeds = {
        name: rng.integers(-5, 6, v.shape).astype(v.dtype.numpy) for name, v in graph.inputs.items()
    }
    for name, array in evaluate(graph, feeds).items():
        np.testing.assert_allclose(evaluate(found, feeds)[name], array, rtol=1e-6)


X = 'input %0: f32[2,3] "x"'
I = 'input %0: i32[2,3] "x"'  # noqa: E741
SAME = [X, 'output %0 "y"']


@pytest.mark.parametrize(
    ("equations", "after"),
    [
        (["const %1: f32[] [0.0]", "%2: f32[2,3] = add(%0, %1)"], SAME),
        (["const %1: f32[3] [0.0, 0.0, 0.0]", "%2: f32[2,3] = add(%1, %0)"], SAME),
        (["const %1: f32[] [0.0]", "%2: f32[2,3] = sub(%0, %1)"], SAME),
        (["const %1: f32[] [1.0]", "%2: f32[2,3] = mul(%1, %0)"], SAME),
        (["const %1: f32[] [1.0]", "%2: f32[2,3] = div(%0, %1)"], SAME),
        (["%1: f32[2,3] = neg(%0)", "%2: f32[2,3] = neg(%1)"], SAME),
        (["%2: f32[2,3] = maximum(%0, %0)"], SAME),
        (["%2: f32[2,3] = transpose(%0) perm=(0, 1)"], SAME),
        (
            ["%1: f32[3,2] = transpose(%0) perm=(1, 0)",
             "%2: f32[2,3] = transpose(%1) perm=(1, 0)"],
            SAME,
        ),
        (
            ["%1: f32[6] = reshape(%0) shape=(6,)", "%2: f32[2,3] = reshape(%1) shape=(2, 3)"],
            SAME,
        ),
        (["%2: f32[2,3] = broadcast(%0) shape=(2, 3)"], SAME),
        (["%2: f32[2,3] = slice(%0) starts=(0, 0) sizes=(2, 3) steps=(1, 1)"], SAME),
        (["%2: f32[2,3] = pad(%0) low=(0, 0) high=(0, 0) value=0"], SAME),
        (["%2: f32[2,3] = concat(%0) axis=0"], SAME),
        (["%2: f32[2,3] = cast(%0) to=f32"], SAME),
        (["%1: f64[2,3] = cast(%0) to=f64", "%2: f32[2,3] = cast(%1) to=f32"], SAME),
        (["%2: f32[2,3] = reduce(%0) op=\"add\" axes=()"], SAME),
        (
            ["const %1: bool[3] [True, True, True]", "%2: f32[2,3] = neg(%0)",
             "%3: f32[2,3] = select(%1, %0, %2)"],
            SAME,
        ),
    ],
)  # fmt: skip
def test_what_does_nothing_goes(equations: list[str], after: list[str]) -> None:
    last = equations[-1].split(":")[0]
    check_simplify([X, *equations, f'output {last} "y"'], after)


@pytest.mark.parametrize(
    ("equations", "after"),
    [
        (  # products of constants
            ["const %1: f32[] [3.0]", "const %2: f32[3] [0.5, 2.0, 4.0]",
             "%3: f32[2,3] = mul(%0, %1)", "%4: f32[2,3] = mul(%2, %3)"],
            ["const %1: f32[3] [1.5, 6.0, 12.0]", "%2: f32[2,3] = mul(%0, %1)"],
        ),
        (  # limits
            ["const %1: f32[] [3.0]", "const %2: f32[] [2.0]",
             "%3: f32[2,3] = minimum(%0, %1)", "%4: f32[2,3] = minimum(%3, %2)"],
            ["const %1: f32[] [2.0]", "%2: f32[2,3] = minimum(%0, %1)"],
        ),
        (  # division by a power of two
            ["const %1: f32[] [4.0]", "%2: f32[2,3] = div(%0, %1)"],
            ["const %1: f32[] [0.25]", "%2: f32[2,3] = mul(%0, %1)"],
        ),
        (  # transposes compose
            ["%1: f32[4,2,3] = broadcast(%0) shape=(4, 2, 3)",
             "%2: f32[3,4,2] = transpose(%1) perm=(2, 0, 1)",
             "%3: f32[3,2,4] = transpose(%2) perm=(0, 2, 1)"],
            ["%1: f32[4,2,3] = broadcast(%0) shape=(4, 2, 3)",
             "%2: f32[3,2,4] = transpose(%1) perm=(2, 1, 0)"],
        ),
        (  # a transpose that moves only axes of size 1 is a reshape
            ["%1: f32[1,2,3] = reshape(%0) shape=(1, 2, 3)",
             "%2: f32[2,3,1] = transpose(%1) perm=(1, 2, 0)"],
            ["%1: f32[2,3,1] = reshape(%0) shape=(2, 3, 1)"],
        ),
        (  # slices compose
            ["%1: f32[2,2] = slice(%0) starts=(0, 2) sizes=(2, 2) steps=(1, -2)",
             "%2: f32[1,1] = slice(%1) starts=(1, 1) sizes=(1, 1) steps=(1, 1)"],
            ["%1: f32[1,1] = slice(%0) starts=(1, 0) sizes=(1, 1) steps=(1, -2)"],
        ),
        (  # pads compose
            ["%1: f32[2,4] = pad(%0) low=(0, 1) high=(0, 0) value=0",
             "%2: f32[2,6] = pad(%1) low=(0, 0) high=(0, 2) value=0"],
            ["%1: f32[2,6] = pad(%0) low=(0, 1) high=(0, 2) value=0"],
        ),
        (  # a slice of one part reads the part
            ["%1: f32[2,3] = neg(%0)", "%2: f32[4,3] = concat(%0, %1) axis=0",
             "%3: f32[1,3] = slice(%2) starts=(3, 0) sizes=(1, 3) steps=(1, 1)"],
            ["%1: f32[2,3] = neg(%0)",
             "%2: f32[1,3] = slice(%1) starts=(1, 0) sizes=(1, 3) steps=(1, 1)"],
        ),
        (  # an elementwise op broadcasts by itself
            ["const %1: f32[3] [1.0, 2.0, 3.0]", "%2: f32[1,3] = reduce(%0) op=\"max\" axes=(0,)",
             "%3: f32[2,3] = broadcast(%2) shape=(2, 3)", "%4: f32[2,3] = add(%0, %3)"],
            ["%1: f32[1,3] = reduce(%0) op=\"max\" axes=(0,)", "%2: f32[2,3] = add(%0, %1)"],
        ),
        (  # constant indices at equal distances
            ["const %1: i64[2] [2, 1]", "%2: f32[2,2] = gather(%0, %1) axis=1"],
            ["%1: f32[2,2] = slice(%0) starts=(0, 2) sizes=(2, 2) steps=(1, -1)"],
        ),
        (
            ["const %1: i64[] [1]", "%2: f32[3] = gather(%0, %1) axis=0"],
            ["%1: f32[1,3] = slice(%0) starts=(1, 0) sizes=(1, 3) steps=(1, 1)",
             "%2: f32[3] = reshape(%1) shape=(3,)"],
        ),
        (  # small powers
            ["const %1: f32[] [2.0]", "%2: f32[2,3] = power(%0, %1)"],
            ["%1: f32[2,3] = mul(%0, %0)"],
        ),
        (  # maxima of maxima
            ["%1: f32[2,1] = reduce(%0) op=\"max\" axes=(1,)",
             "%2: f32[1,1] = reduce(%1) op=\"max\" axes=(0,)"],
            ["%1: f32[1,1] = reduce(%0) op=\"max\" axes=(0, 1)"],
        ),
        (  # common subexpressions
            ["%1: f32[2,3] = exp(%0)", "%2: f32[2,3] = exp(%0)", "%3: f32[2,3] = mul(%1, %2)"],
            ["%1: f32[2,3] = exp(%0)", "%2: f32[2,3] = mul(%1, %1)"],
        ),
        (  # constants fold through composites
            ["const %1: f32[2] [0.0, 0.0]", "%2: f32[2] = softmax(%1) axis=0",
             "%3: f32[2,1] = reshape(%2) shape=(2, 1)", "%4: f32[2,3] = add(%0, %3)"],
            ["const %1: f32[2,1] [0.5, 0.5]", "%2: f32[2,3] = add(%0, %1)"],
        ),
    ],
)  # fmt: skip
def test_algebra(equations: list[str], after: list[str]) -> None:
    last, final = equations[-1].split(":")[0], after[-1].split(":")[0]
    check_simplify([X, *equations, f'output {last} "y"'], [X, *after, f'output {final} "y"'])


@pytest.mark.parametrize(
    "equations",
    [
        # sums of floats are not reassociated
        ["const %1: f32[] [1e+20]", "%2: f32[2,3] = add(%0, %1)", "const %3: f32[] [-1e+20]",
         "%4: f32[2,3] = add(%2, %3)"],
        # not a power of two
        ["const %1: f32[] [3.0]", "%2: f32[2,3] = div(%0, %1)"],
        # rounding twice is not rounding once
        ["%1: f16[2,3] = cast(%0) to=f16", "%2: f64[2,3] = cast(%1) to=f64"],
        # products that could overflow on the way
        ["const %1: f32[] [1e+30]", "%2: f32[2,3] = mul(%0, %1)", "const %3: f32[] [1e-30]",
         "%4: f32[2,3] = mul(%2, %3)"],
        # 0 * x is not 0 for infinities
        ["const %1: f32[] [0.0]", "%2: f32[2,3] = mul(%0, %1)"],
        # pads of different values
        ["%1: f32[2,4] = pad(%0) low=(0, 1) high=(0, 0) value=0",
         "%2: f32[2,5] = pad(%1) low=(0, 0) high=(0, 1) value=1"],
        # sums of sums round in another order
        ["%1: f32[2,1] = reduce(%0) op=\"add\" axes=(1,)",
         "%2: f32[1,1] = reduce(%1) op=\"add\" axes=(0,)"],
        # indices at other distances, or twice the same
        ["const %1: i64[3] [0, 1, 0]", "%2: f32[2,3] = gather(%0, %1) axis=1"],
        ["const %1: i64[2] [1, 1]", "%2: f32[2,2] = gather(%0, %1) axis=1"],
        # adding zeros that broadcast is not nothing
        ["const %1: f32[2,1,1] [0.0, 0.0]", "%2: f32[2,2,3] = add(%0, %1)"],
    ],
)  # fmt: skip
def test_what_is_not_the_same_stays(equations: list[str]) -> None:
    last = equations[-1].split(":")[0]
    graph = read(X, *equations, f'output {last} "y"')
    assert sorted(v.op.name for v in simplify(graph).values() if v.op) == sorted(
        v.op.name for v in graph.values() if v.op
    )


def test_integer_sums_are_reassociated() -> None:
    check_simplify(
        [I, "const %1: i32[] [2147483647]", "%2: i32[2,3] = add(%0, %1)", "const %3: i32[] [1]",
         "%4: i32[2,3] = add(%2, %3)", 'output %4 "y"'],
        [I, "const %1: i32[] [-2147483648]", "%2: i32[2,3] = add(%0, %1)", 'output %2 "y"'],
    )  # fmt: skip


def test_casts_skip_what_loses_nothing() -> None:
    check_simplify(
        [I, "%1: i64[2,3] = cast(%0) to=i64", "%2: i8[2,3] = cast(%1) to=i8", 'output %2 "y"'],
        [I, "%1: i8[2,3] = cast(%0) to=i8", 'output %1 "y"'],
    )
    # by way of f64, -1 saturates to 0; straight to u8 it would wrap to 255
    steps = ("%1: f64[2,3] = cast(%0) to=f64", "%2: u8[2,3] = cast(%1) to=u8")
    graph = read(I, *steps, 'output %2 "y"')
    assert len(simplify(graph).values()) == 3


@pytest.mark.parametrize("a", sorted(t.name for t in COMPUTED))
@pytest.mark.parametrize("b", sorted(t.name for t in COMPUTED))
def test_lossless_is_true(a: str, b: str) -> None:
    """Against the extremes and their neighbours."""
    first, second = DTYPES[a], DTYPES[b]
    if first.is_float:
        info = np.finfo(first.numpy)
        values = np.array([info.max, info.tiny, 1 + info.eps, -0.5], first.numpy)
    elif first.kind == "b":
        values = np.array([False, True])
    else:
        top = np.iinfo(first.numpy)
        values = np.array([top.min, top.max, top.max - 1, top.max // 2 + 1], first.numpy)
    with np.errstate(all="ignore"):
        kept = ops.cast_array(ops.cast_array(values, second), first)
    exact = np.array_equal(kept, values)
    if first.is_integer and second.is_integer:  # wrapping there and back hides a loss
        low, high = np.iinfo(first.numpy), np.iinfo(second.numpy)
        exact = high.min <= low.min and low.max <= high.max
    if lossless(first, second):
        assert exact
    elif not (first.is_integer and second.is_float):  # 2**63 - 1 may survive by luck
        assert not exact


# ------------------------------------------------------------------ expand


def test_expand_reaches_the_primitives() -> None:
    graph = read('input %0: f32[2,8] "x"', "%1: f32[2,8] = softmax(%0) axis=1", 'output %1 "y"')
    assert body(expand(graph)) == [
        'input %0: f32[2,8] "x"',
        '%1: f32[2,1] = reduce(%0) op="max" axes=(1,)',
        "%2: f32[2,8] = sub(%0, %1)",
        "%3: f32[2,8] = exp(%2)",
        '%4: f32[2,1] = reduce(%3) op="add" axes=(1,)',
        "%5: f32[2,8] = div(%3, %4)",
        'output %5 "y"',
    ]


def test_expand_keeps_or_picks_by_name() -> None:
    graph = read(X, "%1: f32[2,3] = hard_swish(%0)", "%2: f32[2,3] = relu(%1)", 'output %2 "y"')
    names = [v.op.name for v in expand(graph, keep={"relu", "hard_sigmoid"}).values() if v.op]
    assert names == ["hard_sigmoid", "mul", "relu"]
    names = [v.op.name for v in expand(graph, only={"relu"}).values() if v.op]
    assert names == ["hard_swish", "maximum"]


def test_expand_takes_the_variant_it_is_told() -> None:
    from brim.ops import math as maths

    saved = {name: list(found) for name, found in VARIANTS.items()}
    try:

        @variant(maths.relu, when=lambda x: x.dtype == F32)
        def by_select(x: Value) -> Value:
            """The same by a comparison."""
            return ops.select(ops.gt(x, 0), x, ops.mul(x, 0))

        graph = read(X, "%1: f32[2,3] = relu(%0)", 'output %1 "y"')
        value = graph.outputs["y"]
        assert variants(value) == [by_select]
        found = expand(graph, choose=lambda v: next(iter(variants(v)), None))
        assert "select" in [v.op.name for v in found.values() if v.op]
        wide = placeholder(parse_type("f64[2]"))
        assert variants(maths.relu(wide)) == []
    finally:
        VARIANTS.clear()
        VARIANTS.update(saved)


# ------------------------------------------------------------------ batch norm


RNG = np.random.default_rng(0)
SAME_CONV = {"stride": (1, 1), "dilation": (1, 1), "low": (1, 1), "high": (1, 1)}


def weights(*shape: int) -> Value:
    return const(RNG.normal(size=shape).astype(np.float32))


def norm(x: Value) -> Value:
    n = x.shape[-1]
    variance = const(RNG.uniform(0.5, 2, n).astype(np.float32))
    return nn.batch_norm(x, weights(n), weights(n), weights(n), variance, epsilon=1e-5)


def check_fold(y: Value, x: Value, names: list[str]) -> Graph:
    graph = Graph({"x": x}, {"y": y})
    found = fold_batchnorm(graph)
    verify(found)
    assert [v.op.name for v in found.values() if v.op] == names
    feeds = {"x": RNG.normal(size=x.shape).astype(np.float32)}
    np.testing.assert_allclose(
        evaluate(found, feeds)["y"], evaluate(graph, feeds)["y"], rtol=1e-4, atol=1e-5
    )
    return found


def image(channels: int = 3) -> Value:
    return placeholder(Type((1, 6, 6, channels), F32))


def test_norms_vanish_into_convolutions() -> None:
    x = image()
    y = nn.conv(x, weights(3, 3, 3, 8), groups=1, **SAME_CONV)
    check_fold(norm(y), x, ["conv", "add"])
    check_fold(norm(ops.add(y, weights(8))), x, ["conv", "add"])
    check_fold(ops.mul(norm(ops.add(y, weights(1, 1, 1, 8))), 3.0), x, ["conv", "add"])
    x = image(4)
    check_fold(norm(nn.conv(x, weights(3, 3, 1, 4), groups=4, **SAME_CONV)), x, ["conv", "add"])
    y = nn.conv_transpose(
        x, weights(2, 2, 4, 6), stride=(2, 2), dilation=(1, 1), low=(0, 0), high=(0, 0), groups=1
    )
    check_fold(norm(y), x, ["conv_transpose", "add"])


def test_scales_vanish_into_contractions_along_any_axis() -> None:
    x = placeholder(Type((4, 5), F32))
    y = ops.contract(x, weights(5, 6), spec="nk,ko->on")
    check_fold(ops.sub(1.0, ops.div(y, weights(6, 1))), x, ["contract", "add"])
    y = ops.contract(weights(6, 5), x, spec="ok,nk->no")
    check_fold(ops.neg(ops.mul(y, weights(6))), x, ["contract"])


def test_what_cannot_be_folded_stays() -> None:
    x = image()
    y = nn.conv(x, weights(3, 3, 3, 8), groups=1, **SAME_CONV)
    check_fold(ops.add(norm(y), y), x, ["conv", "batch_norm", "add"])  # two users
    check_fold(ops.mul(y, weights(6, 1)), x, ["conv", "mul"])  # along another axis
    check_fold(ops.mul(y, y), x, ["conv", "mul"])  # not by a constant
    shared = weights(3, 3, 3, 3)
    y = nn.conv(x, shared, groups=1, **SAME_CONV)
    y = ops.mul(nn.conv(y, shared, groups=1, **SAME_CONV), 2.0)
    check_fold(y, x, ["conv", "conv", "mul"])  # weights that another one reads, too
    inf = const(np.full(8, np.inf, np.float32))
    z = ops.mul(nn.conv(x, weights(3, 3, 3, 8), groups=1, **SAME_CONV), inf)
    assert [v.op.name for v in fold_batchnorm(Graph({"x": x}, {"z": z})).values() if v.op] == [
        "conv",
        "mul",
    ]


def test_weights_are_rounded_once() -> None:
    """A chain of scales must not round the weights at every step."""
    x = placeholder(Type((1, 2), F32))
    y = ops.contract(x, const(np.array([[1 / 3], [1 / 7]], np.float32)), spec="nk,ko->no")
    for _ in range(20):
        y = ops.mul(ops.mul(y, 1.1), 1 / 1.1)
    found = fold_batchnorm(Graph({"x": x}, {"y": y})).outputs["y"].args[1]
    scale = (float(np.float32(1.1)) * float(np.float32(1 / 1.1))) ** 20
    wanted = np.array([[1 / 3], [1 / 7]], np.float32) * scale
    assert found.data is not None
    np.testing.assert_array_equal(found.data, wanted.astype(np.float32))


# ------------------------------------------------------------------ at random


@FAST
@given(graphs())
def test_passes_keep_the_meaning(case: RandomGraph) -> None:
    wanted = evaluate(case.graph, case.feeds)
    for change in (simplify, layout, fold_batchnorm, nest_concats, expand):
        found = change(case.graph)
        verify(found)
        case.check(evaluate(found, case.feeds), wanted)


@FAST
@given(graphs())
def test_the_pipeline_keeps_the_meaning(case: RandomGraph) -> None:
    wanted = evaluate(case.graph, case.feeds)
    graph = case.graph
    for change in (run for _, run in PIPELINE):
        before = moved_elements(graph)
        graph = change(graph)
        verify(graph)
        if change is layout:
            assert moved_elements(graph) <= before
    case.check(evaluate(graph, case.feeds), wanted)
    left = [v for v in graph.values() if v.op is not None and v.op.body is not None]
    assert all(variants(v) for v in left)  # which body is best, a target decides


@FAST
@given(graphs(most=6))
def test_simplify_is_done_when_it_says_so(case: RandomGraph) -> None:
    once = simplify(case.graph)
    assert print_graph(simplify(once))[0] == print_graph(once)[0]
    assert len(once.values()) <= len(case.graph.values())


def test_growing_concats_are_nested() -> None:
    graph = read(
        'input %0: f32[2,3] "x"',
        "%1: f32[2,3] = neg(%0)",
        "%2: f32[4,3] = concat(%0, %1) axis=0",
        "%3: f32[6,3] = concat(%0, %1, %0) axis=0",
        'output %2 "y"',
        'output %3 "z"',
    )
    found = nest_concats(graph)
    verify(found)
    assert body(found)[3] == "%3: f32[6,3] = concat(%2, %0) axis=0"
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    for name, want in evaluate(graph, feeds).items():
        np.testing.assert_array_equal(evaluate(found, feeds)[name], want)
