"""Kernels and schedules as text: round trips, stability, and errors for everything malformed."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brim.errors import ModelError
from brim.kernels.interpret import interpret
from brim.kernels.ir import (
    Arg,
    At,
    Bound,
    Carried,
    Do,
    Gather,
    Guard,
    Index,
    Iota,
    Kernel,
    Num,
    Reduce,
    Ref,
    Repeat,
    Schedule,
    Stage,
    Term,
)
from brim.kernels.text import parse_kernel, parse_schedule, print_kernel, print_schedule
from brim.types import BOOL, COMPUTED, F32, F64, I64
from tests import kernels_library as lib

LIBRARY = dict(lib.library())

GOLDEN = """\
kernel layer {
  axes r=3 j=8
  outer r
  in x f32[24]
  const g f32[8]
  out y f32[24]
  stage s(j) = reduce add(j) x[r*8 + j]
  let %0 = sub(x[r*8 + j], mul(@s:f32, 0.125:f32))
  stage d(j) = select(lt(%0, 0.0:f32):bool, mul(%0, g[j]), guard(j - 1 in 8; %0; -inf:f32))
    out y[r*8 + j]
}
"""


def test_golden() -> None:
    kernel = parse_kernel(GOLDEN)
    assert print_kernel(kernel) == GOLDEN
    centred = lib.do("sub", lib.at("x", r=8, j=1), lib.do("mul", Ref("s", F32), lib.num(0.125)))
    assert kernel.stages[1].value.args[1].args[0] == centred


@pytest.mark.parametrize("name", LIBRARY)
def test_library_round_trip(name: str) -> None:
    kernel = LIBRARY[name]
    text = print_kernel(kernel)
    again = parse_kernel(text)
    assert again == kernel
    assert print_kernel(again) == text
    buffers = lib.buffers_for(kernel, np.random.default_rng(0))
    copies = {key: value.copy() for key, value in buffers.items()}
    interpret(kernel, buffers)
    interpret(again, copies)
    for key, value in buffers.items():
        np.testing.assert_array_equal(copies[key], value)


# ------------------------------------------------------------------ drawn kernels

NAMES = ["h", "w", "in", "out", "guard", "gather", "inf", "reduce", "a.b", "_c"]
SIGNED = st.integers(-(2**40), 2**40)
SIZE = st.integers(0, 2**40)
NUMBERS = list(COMPUTED)


def indices(axes: list[str]) -> st.SearchStrategy[Index]:
    block = st.one_of(
        st.builds(lambda a, s: (a, s, 0, 0), st.sampled_from(axes), SIGNED),
        st.tuples(st.sampled_from(axes), SIGNED, st.integers(1, 64), SIGNED),
    )
    unique = st.lists(block, max_size=3, unique_by=lambda term: term[0])
    return st.builds(lambda terms, o: Index(tuple(Term(*t) for t in terms), o), unique, SIGNED)


def numbers(dtype) -> st.SearchStrategy[Num]:
    if dtype.is_float:
        return st.builds(Num, st.floats(allow_nan=False), st.just(dtype))
    if dtype == BOOL:
        return st.builds(Num, st.integers(0, 1), st.just(dtype))
    info = np.iinfo(dtype.numpy)
    return st.builds(Num, st.integers(int(info.min), int(info.max)), st.just(dtype))


@st.composite
def kernels(draw: st.DrawFn) -> Kernel:
    axes = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    outer = axes[: draw(st.integers(0, len(axes)))]
    inner = axes[len(outer) :]
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    roles = st.sampled_from(["in", "out", "const"])
    args = [Arg(n, draw(st.sampled_from(NUMBERS)), draw(SIZE), draw(roles)) for n in names]
    knowable = [a.role == "const" and (a.dtype.is_integer or a.dtype == F32) for a in args]
    belows = [draw(st.none() | SIZE) if yes else None for yes in knowable]
    args = [replace(a, below=below) for a, below in zip(args, belows)]
    index = indices(axes)
    stages: list[Stage] = []

    def expr(depth: int, dtype):
        """Of the dtype, or (None) of any."""
        kinds = ["num"] + (["at"] if any(dtype in (None, a.dtype) for a in args) else [])
        if depth < 3:
            kinds += ["do", "do", "guard", "repeat", "carried"]
        kinds += ["ref"] if stages and dtype is None else []
        kinds += ["iota"] if dtype is None or dtype.is_integer else []
        match draw(st.sampled_from(kinds)):
            case "num":
                return draw(numbers(dtype or draw(st.sampled_from(NUMBERS))))
            case "at":
                arg = draw(st.sampled_from([a for a in args if dtype in (None, a.dtype)]))
                return place(arg.name, depth)
            case "ref":
                return Ref(draw(st.sampled_from(stages)).name, draw(st.sampled_from(NUMBERS)))
            case "iota":
                return Iota(draw(index), dtype or I64)
            case "carried":
                return Carried(dtype or draw(st.sampled_from(NUMBERS)))
            case "repeat":
                dtype = dtype or F32
                parts = expr(depth + 1, dtype), expr(depth + 1, dtype)
                return Repeat(*parts, draw(st.integers(1, 99)))
            case "guard":
                dtype = dtype or F32
                bounds = tuple(draw(st.lists(st.builds(Bound, index, SIZE), max_size=3)))
                return Guard(bounds, expr(depth + 1, dtype), expr(depth + 1, dtype))
        op = draw(st.sampled_from(["add", "select", "cast", "lt", "exp"]))
        count = {"add": 2, "select": 3, "lt": 2}.get(op, 1)
        parts = [expr(depth + 1, None) for _ in range(count)]
        return Do(op, tuple(parts), dtype or draw(st.sampled_from(NUMBERS)))

    def place(buf: str, depth: int) -> At:
        gathers = []
        while depth < 3 and draw(st.booleans()):
            gathers.append(Gather(expr(depth + 1, I64), draw(SIGNED), draw(SIZE)))
        return At(buf, draw(index), tuple(gathers))

    for number in range(draw(st.integers(0, 3))):
        own = tuple(inner[: draw(st.integers(0, len(inner)))])
        reduce = None
        if own and draw(st.booleans()):
            reduce = Reduce(draw(st.sampled_from(["add", "max", "argmin_last"])), own[:1])
        keep = place(names[0], 2) if draw(st.booleans()) else None
        out = place(names[-1], 2) if draw(st.booleans()) else None
        stages.append(Stage(f"s{number}", own, expr(0, None), reduce, keep, out))
    extent = tuple((axis, draw(SIZE)) for axis in axes)
    ordered = tuple(a for a in axes if draw(st.booleans()))
    return Kernel("k", extent, tuple(outer), tuple(stages), tuple(args), ordered)


@settings(max_examples=80, deadline=None)
@given(kernels())
def test_round_trip(kernel: Kernel) -> None:
    text = print_kernel(kernel)
    again = parse_kernel(text)
    assert again == kernel
    assert print_kernel(again) == text


AXES = st.lists(st.sampled_from(NAMES), max_size=4, unique=True)


@given(AXES, st.sampled_from([None, *NAMES]), st.integers(1, 64), AXES, AXES)
def test_schedule_round_trip(order, vector, lanes, tiled, unroll) -> None:
    tile = tuple((axis, 1 + i) for i, axis in enumerate(tiled))
    schedule = Schedule(tuple(order), vector, lanes, tile, tuple(unroll))
    text = print_schedule(schedule)
    assert text.count("\n") == 1
    assert parse_schedule(text) == schedule


# ------------------------------------------------------------------ what the text must be


def of_value(value) -> Kernel:
    args = [Arg("x", F32, 4), Arg("y", F32, 4, "out")]
    return lib.kernel("k", {"i": 4}, "i", [Stage("s", (), value, out=lib.at("y", i=1))], args)


def test_sharing_in_python_does_not_show() -> None:
    def half():
        return lib.do("mul", lib.at("x", i=1), lib.num(0.5))

    one = half()
    shared = print_kernel(of_value(lib.do("add", one, lib.do("exp", one))))
    apart = print_kernel(of_value(lib.do("add", half(), lib.do("exp", half()))))
    assert shared == apart
    assert shared.count("mul") == 1


def test_numbers_keep_their_meaning() -> None:
    for value in (-0.0, 1e-45, 3.4028234663852886e38, math.inf, -math.inf, 0.1, math.nan):
        (stage,) = parse_kernel(print_kernel(of_value(lib.num(value)))).stages
        assert math.copysign(1, stage.value.value) == math.copysign(1, value)
        assert stage.value.value == value or math.isnan(value)
    assert print_kernel(of_value(lib.num(1))) == print_kernel(of_value(lib.num(np.float32(1))))
    assert print_kernel(of_value(lib.num(1, F64))) != print_kernel(of_value(lib.num(1)))


def test_chains_and_diamonds_stay_small() -> None:
    chain = diamond = lib.at("x", i=1)
    for _ in range(200):
        chain = lib.do("exp", chain)
    for _ in range(14):
        diamond = lib.do("add", diamond, diamond)
    for value in (chain, diamond):
        text = print_kernel(of_value(value))
        assert len(text) < 5000
        assert print_kernel(parse_kernel(text)) == text


def test_printing_is_fast() -> None:
    kernel = LIBRARY["conv 3x3 packed"]
    print_kernel(kernel)
    best = math.inf
    for _ in range(20):
        start = time.perf_counter()
        print_kernel(kernel)
        best = min(best, time.perf_counter() - start)
    assert best < 0.5e-3


# ------------------------------------------------------------------ malformed text


@pytest.mark.parametrize(
    ("old", "new", "message", "line"),
    [
        ("kernel", "colonel", "expected 'kernel'", 1),
        ("outer r", "outer q", "'q' is not the name of an axis", 3),
        ("r=3 j=8", "r=3 r=8", "occurs twice", 2),
        ("g f32[8]", "g f33[8]", "not a dtype", 5),
        ("g f32[8]", "x f32[8]", "declared twice", 5),
        ("x f32[24]", "x f32[24] < 4", "only of constant integers and f32 a bound", 4),
        ("f32[24]\n  const", "f32[-1]\n  const", "-1 is not a size", 4),
        ("stage d(j)", "stage s(j)", "declared twice", 10),
        ("stage d(j)", "stage d(r)", "an outer axis among its own", 9),
        ("add(j) x", "add(r) x", "cannot reduce", 7),
        ("add(j) x", "argmax() x", "cannot reduce", 7),
        ("@s:f32", "@d:f32", "'d' is not the name of an earlier stage", 8),
        ("%0 = sub", "%0 = item", "'item' is not an elementwise operation", 8),
        ("%0 = sub", "%0 = sub(%1, %1)\n  let %0 = sub", "%1 has no value", 8),
        ("0.125:f32", "0.125:i32", "'0.125' is not a number", 8),
        ("0.125:f32", "300:u8", "300 is out of the range of u8", 8),
        ("-inf:f32", "-inf:f64", "a guard chooses between f32 and f64", 9),
        ("g[j]", "h[j]", "'h' is not the name of a buffer", 9),
        ("g[j]", "g[j + j]", "occurs twice", 9),
        ("g[j]", "g[j", "expected ']'", 9),
        ("g[j]", "g[j//0*1 + j%0*1]", "do not fit", 9),
        ("g[j]", "g[j//4*1 + j%5*1]", "do not fit", 9),
        ("g[j]", "repeat(g[j]; 1:i32; 2)", "a repeat makes i32 of f32", 9),
        ("g[j]", "repeat(g[j]; g[j]; 0)", "without a single step", 9),
        ("g[j]", "repeat(g[j]; g[j]; j)", "expected a whole number", 9),
        ("g[j]", "g[gather(@s:f32 < 8)*1]", "a gather by f32", 9),
        ("g[j]", "g[j*99999999999999999999999]", "a number of 23 digits", 9),
        ("}\n", "} }", "after the closing brace", 11),
        ("}\n", "", "expected", 10),
        ("x[r*8 + j]\n", "x[r*8 + j] ?\n", "unexpected character '?'", 7),
        ("out y[", "out é[", "unexpected character", 10),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str, line: int) -> None:
    assert old in GOLDEN
    with pytest.raises(ModelError) as caught:
        parse_kernel(GOLDEN.replace(old, new, 1))
    assert message in caught.value.what
    assert caught.value.where == f"line {line}"


def test_hostile_depth_and_size() -> None:
    def text(lets: str, value: str) -> str:
        return f"kernel k {{ axes i=1\n outer\n in x f32[1]\n {lets} stage s() = {value} }}"

    deep = "exp(" * 100_000 + "x[0]" + ")" * 100_000
    with pytest.raises(ModelError, match="nested deeper"):
        parse_kernel(text("", deep))
    lets = "let %0 = x[0] " + "".join(f"let %{i} = add(%{i - 1}, %{i - 1}) " for i in range(1, 60))
    with pytest.raises(ModelError, match="parts"):
        parse_kernel(text(lets, "%59"))
    lets = "let %0 = x[0] " + "".join(f"let %{i} = exp(%{i - 1}) " for i in range(1, 2000))
    with pytest.raises(ModelError, match="deep"):
        parse_kernel(text(lets, "%1999"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_text_gives_typed_errors(data: st.DataObject) -> None:
    text = print_kernel(LIBRARY[data.draw(st.sampled_from(sorted(LIBRARY)))])
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 6))
    text = text[:at] + data.draw(st.text(max_size=4)) + text[at + cut :]
    try:
        kernel = parse_kernel(text)
    except ModelError:
        return
    assert parse_kernel(print_kernel(kernel)) == kernel


@given(st.text(max_size=60))
def test_noise_gives_typed_errors(text: str) -> None:
    for parse in (parse_kernel, parse_schedule):
        with pytest.raises(ModelError):
            parse(text)
