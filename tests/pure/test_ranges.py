"""Intervals of integer expressions: they hold for all data, and are known where it matters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brim.kernels.interpret import interpret
from brim.kernels.ir import Arg, At, Carried, Do, Expr, Gather, Kernel, Num, Ref, Repeat, Stage
from brim.kernels.ranges import carried_interval, interval, magnitude
from brim.types import BOOL, F32, I8, I16, I32, I64, U8, DType
from tests import kernels_library as lib

N = 24
TYPES = (I8, U8, I16, I32, I64)
KNOWN = Arg("k", U8, N, "const", 7)
ONE_MORE = lib.do("add", Carried(I32), lib.num(1, I32), dtype=I32)


def kernel_of(value: Expr, dtype: DType) -> Kernel:
    args = [Arg("a", U8, N), Arg("b", I16, N), KNOWN, Arg("c", I32, N, "const", 1000)]
    args += [Arg("f", F32, N), Arg("y", dtype, N, "out")]
    stage = Stage("s", (), value, out=lib.at("y", i=1))
    return lib.kernel("k", {"i": N}, "i", [stage], args)


@st.composite
def expressions(draw: st.DrawFn, dtype: DType, depth: int = 3, inside: bool = False) -> Expr:
    """An expression of an integer type; inside: of a repeat of that type."""
    kinds = ["num", "iota", "load"] + (["carried"] if inside else [])
    if depth:
        kinds += ["binary", "binary", "cast", "select", "compare"]
        kinds += [] if inside else ["repeat"]
    parts = expressions(dtype, depth - 1, inside)
    match draw(st.sampled_from(kinds)):
        case "iota":
            index = lib.index(draw(st.integers(-30, 30)), i=draw(st.integers(-3, 3)))
            return lib.Iota(index, dtype)
        case "load":
            name, of = draw(st.sampled_from([("a", U8), ("b", I16), ("k", U8), ("c", I32)]))
            load = lib.at(name, i=1)
            return load if of == dtype else lib.do("cast", load, dtype=dtype)
        case "carried":
            return Carried(dtype)
        case "binary":
            op = draw(st.sampled_from(["add", "sub", "mul", "maximum", "minimum"]))
            return Do(op, (draw(parts), draw(parts)), dtype)
        case "cast":
            other = draw(st.sampled_from(TYPES))
            if inside:  # the value so far has one type
                other = dtype
            return Do("cast", (draw(expressions(other, depth - 1, inside)),), dtype)
        case "select":
            choice = Do("lt", (lib.at("f", i=1), lib.num(0)), BOOL)
            return Do("select", (choice, draw(parts), draw(parts)), dtype)
        case "compare":
            return Do("cast", (Do("lt", (draw(parts), draw(parts)), BOOL),), dtype)
        case "repeat":
            step = draw(expressions(dtype, depth - 1, True))
            return Repeat(draw(parts), step, draw(st.integers(1, 4)))
    low = 0 if dtype.kind == "u" else -9
    return Num(draw(st.integers(low, 9)), dtype)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_values_lie_in_their_interval(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(TYPES))
    value = data.draw(expressions(dtype))
    kernel = kernel_of(value, dtype)
    buffers = lib.buffers_for(kernel, np.random.default_rng(0))
    interpret(kernel, buffers)
    found = interval(value, kernel)
    if found is not None:
        assert found[0] <= buffers["y"].min() and buffers["y"].max() <= found[1]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (lib.at("k", i=1), (0, 6)),
        (lib.at("a", i=1), (0, 255)),
        (lib.at("b", i=1), (-(1 << 15), (1 << 15) - 1)),
        (lib.at("f", i=1), None),
        (lib.Iota(lib.index(5, i=2), I32), (5, 5 + 2 * (N - 1))),
        (lib.do("add", lib.at("k", i=1), lib.num(250, U8), dtype=U8), (0, 255)),  # might wrap
        (lib.do("add", lib.at("k", i=1), lib.num(249, U8), dtype=U8), (249, 255)),
        (lib.do("cast", lib.at("f", i=1), dtype=I32), None),
        (Repeat(lib.num(0, I32), ONE_MORE, 9), (9, 9)),
        (Repeat(lib.num(0, I32), ONE_MORE, 99), None),  # nobody follows it so far
        (Repeat(lib.num(0, I32), lib.at("c", i=1), 99), (0, 999)),
    ],
)
def test_what_is_known(value: Expr, wanted: tuple[int, int] | None) -> None:
    assert interval(value, kernel_of(value, I32)) == wanted


def gathers(kernel: Kernel) -> list[tuple[Gather, Repeat]]:
    """The gathers in the step of each repeat."""
    parts = [p for s in kernel.stages for p in lib.subexpressions(s.value)]
    return [
        (gather, repeat)
        for repeat in parts
        if isinstance(repeat, Repeat)
        for part in lib.subexpressions(repeat.step)
        if isinstance(part, At)
        for gather in part.gathers
    ]


TREES = (lib.complete_trees(5, 9, 4, 6), lib.linked_trees(5, 9, 60, 14, 6))


@pytest.mark.parametrize("kernel", TREES, ids=lambda kernel: kernel.name)
def test_trees_need_no_checks(kernel: Kernel) -> None:
    found = gathers(kernel)
    assert found
    for gather, repeat in found:
        lies = interval(gather.index, kernel, carried_interval(repeat, kernel))
        assert lies is not None and lies[0] >= 0 and lies[1] < gather.size


@st.composite
def reals(draw: st.DrawFn, depth: int = 3) -> Expr:
    """An f32 expression of integers, constants of which something is known and one of which
    nothing is."""
    match draw(st.sampled_from(["num", "load", "cast"] + ["binary", "unary", "div"] * bool(depth))):
        case "num":
            return lib.num(draw(st.floats(width=32)))
        case "load":
            return lib.at(draw(st.sampled_from(["g", "h", "h", "f"])), i=1)
        case "cast":
            return lib.do("cast", draw(expressions(draw(st.sampled_from(TYPES)), 1)))
        case "unary":
            return lib.do(draw(st.sampled_from(["neg", "absolute"])), draw(reals(depth - 1)))
        case "div":
            return lib.do("div", draw(reals(depth - 1)), lib.num(draw(st.floats(width=32))))
    op = draw(st.sampled_from(["add", "sub", "mul", "mul", "maximum", "minimum"]))
    return lib.do(op, draw(reals(depth - 1)), draw(reals(depth - 1)))


@settings(deadline=None, max_examples=300)
@given(reals(), st.integers(0, 2**32 - 1))
def test_numbers_stay_below_their_bound(value: Expr, seed: int) -> None:
    kernel = kernel_of(value, F32)
    known = (Arg("g", F32, N, "const", 1), Arg("h", F32, N, "const", 1 << 61))
    kernel = replace(kernel, args=(*kernel.args, *known))
    size = magnitude(value, kernel)
    data = lib.buffers_for(kernel, np.random.default_rng(seed))
    data["g"][0], data["f"][0] = 1 - 2.0**-24, np.nan
    interpret(kernel, data)
    if size is not None:
        assert np.all(np.abs(data["y"]) <= size)


def test_sums_times_small_factors_are_bounded() -> None:
    scaled = lib.do("mul", lib.do("cast", Ref("s", I32)), lib.at("g", i=1))
    kernel = kernel_of(scaled, F32)
    for below, size in ((1, 2.0**31 - 128), (1 << 61, 2.0**92), (None, None)):
        known = (*kernel.args, Arg("g", F32, N, "const", below))
        found = magnitude(scaled, replace(kernel, args=known))
        assert found == size or (size == 2.0**92 and found is not None and found <= size)
