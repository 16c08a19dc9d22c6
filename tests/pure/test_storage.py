"""Storage types: exact conversions, moves without arithmetic, and their text. No code is generated.

ml_dtypes is the independent judge of conversions from f32 and f16; whole numbers and fractions are
the judge of those that must not round twice.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import ml_dtypes
import numpy as np
import pytest

from brim.errors import ModelError, OpError
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.kernels.lower import lower
from brim.kernels.reference import run_lowered
from brim.ops import primitive as p
from brim.ops.storage import convert, decode
from brim.passes.expand import expand
from brim.text import parse_graph, print_graph
from brim.types import (
    BF16,
    BOOL,
    F4E2M1,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    F8E8M0,
    F16,
    F32,
    F64,
    I4,
    I32,
    I64,
    STORAGE,
    U4,
    U64,
    DType,
    Type,
    as_numbers,
)
from tests.storage_numbers import FLOATS, WHOLE, codes, edges, plain

FLOAT8 = (F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ)


def run(x: np.ndarray, to: DType, saturate: bool = True, rounding: str = "up") -> np.ndarray:
    found = convert(const(x), to, saturate, rounding).data
    assert found is not None
    return found


def same(got: np.ndarray, wanted: np.ndarray, but: np.ndarray | None = None) -> None:
    """Equal bits, except where `but` holds."""
    differs = plain(got) != plain(wanted)
    differs &= ~(np.zeros(got.shape, bool) if but is None else but)
    assert got.dtype == wanted.dtype
    assert not differs.any(), (np.flatnonzero(differs)[:5], got[differs][:5], wanted[differs][:5])


# ------------------------------------------------------------------ from f32 and f16


def every_f16() -> np.ndarray:
    return np.arange(1 << 16).astype(np.uint16).view(np.float16)


def f32_around_bf16() -> np.ndarray:
    """Each upper half of an f32 with lower halves at, below and above the middle of two bf16."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    return (upper[:, None] | lower).reshape(-1).view(np.float32)


def test_bf16_from_every_upper_half() -> None:
    x = f32_around_bf16()
    with np.errstate(all="ignore"):
        same(run(x, BF16), x.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("dtype", [t for t in FLOATS if t != F8E8M0], ids=str)
@pytest.mark.parametrize("saturate", [True, False])
@pytest.mark.parametrize("source", ["f16", "edges", "bf16"])
def test_rounding_is_that_of_ml_dtypes(dtype: DType, saturate: bool, source: str) -> None:
    x = {"f16": every_f16, "edges": lambda: edges(dtype), "bf16": lambda: codes(BF16)}[source]()
    with np.errstate(all="ignore"):
        wide = x.astype(np.float32)
        if saturate and dtype in FLOAT8:  # ONNX's table: the largest number instead of infinity
            info = ml_dtypes.finfo(dtype.numpy)
            wide = np.clip(wide, np.float32(info.min), np.float32(info.max))
        if x.dtype == dtype.numpy:
            return
        same(run(x, dtype, saturate), wide.astype(dtype.numpy), np.isnan(wide) & (dtype == F4E2M1))


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
@pytest.mark.parametrize("wide", [F32, F64], ids=str)
def test_every_element_survives_a_wider_type(dtype: DType, wide: DType) -> None:
    x = codes(dtype)
    got = run(x, wide)
    with np.errstate(all="ignore"):
        wanted = x.astype(np.float32).astype(wide.numpy)
    np.testing.assert_array_equal(got, wanted)
    assert (np.signbit(got) == np.signbit(wanted))[~np.isnan(wanted)].all()
    same(run(got, dtype, saturate=False), x, np.isnan(got))


def test_nan_becomes_nan_or_minus_zero() -> None:
    x = np.array([np.nan, -np.nan], np.float32)
    for dtype in FLOATS:
        for saturate in (True, False):
            found = as_numbers(run(x, dtype, saturate))
            assert (found == 0).all() if dtype == F4E2M1 else np.isnan(found).all()


def test_tables_of_onnx_for_float8() -> None:
    """The two tables in the documentation of Cast."""
    x = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e9, -1e9], np.float32)
    for dtype in FLOAT8:
        top = float(ml_dtypes.finfo(dtype.numpy).max)
        unsigned_zero, infinite = dtype.name.endswith("uz"), dtype == F8E5M2
        y = as_numbers(run(x, dtype))
        np.testing.assert_array_equal(y, [0, 0, np.nan, top, -top, top, -top])
        assert np.signbit(y[1]) == (not unsigned_zero)
        beyond = np.inf if infinite else np.nan
        y = as_numbers(run(x, dtype, saturate=False))
        np.testing.assert_array_equal(y, [0, 0, np.nan, beyond, -beyond, beyond, -beyond])


# ------------------------------------------------------------------ f8e8m0


def power_of_two(x: float, rounding: str) -> int:
    """The code of f8e8m0 for a positive number in its range, by fractions."""
    number, code = Fraction(x), math.frexp(x)[1] + 126
    below = Fraction(2) ** (code - 127)
    rest = (number - below) / below
    up = {"up": rest > 0, "down": False, "nearest": rest >= Fraction(1, 2)}[rounding]
    return min(code + up, 254)


@pytest.mark.parametrize("rounding", ["up", "down", "nearest"])
def test_powers_of_two_are_rounded(rounding: str) -> None:
    rng = np.random.default_rng(0)
    x = np.float32(2.0) ** rng.integers(-126, 128, 200).astype(np.float32)
    x = np.concatenate([x * part for part in np.float32([1, 1.25, 1.5, 1.75])])
    x = np.concatenate([x, np.nextafter(x, 0), np.float32([2**-127, 1.5 * 2**-127, 3.3e38])])
    x = x[np.isfinite(x)].astype(np.float32)
    wanted = [power_of_two(float(v), rounding) for v in x]
    np.testing.assert_array_equal(run(x, F8E8M0, rounding=rounding).view(np.uint8), wanted)


def test_powers_of_two_at_the_ends() -> None:
    x = np.array([0, 1e-45, 3.4e38, np.inf, np.nan, -4.0], np.float32)
    assert run(x, F8E8M0).view(np.uint8).tolist() == [0, 0, 254, 254, 255, 129]
    loose = run(x, F8E8M0, saturate=False, rounding="nearest")
    assert loose.view(np.uint8).tolist() == [255, 255, 255, 255, 255, 129]


# ------------------------------------------------------------------ one rounding


@cache
def ordered(dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    """The finite elements of a type as f64, in order, and their codes."""
    with np.errstate(all="ignore"):
        values = as_numbers(codes(dtype)).astype(np.float64)
    order = np.argsort(values, kind="stable")
    order = order[np.isfinite(values[order])]
    return values[order], order


def nearest(x: int | float, dtype: DType) -> int:
    """The code of the nearest finite element, halves to the even one, by fractions."""
    values, code = ordered(dtype)
    at = int(np.clip(np.searchsorted(values, float(x)), 1, len(values) - 1))
    around = range(max(at - 2, 0), min(at + 2, len(values)))
    distance = {i: abs(Fraction(x) - Fraction(float(values[i]))) for i in around}
    return int(code[min(around, key=lambda i: (distance[i], code[i] & 1))])


def halves(dtype: DType) -> np.ndarray:
    """f64: what lies halfway between two neighbours, some 300 times."""
    known = np.unique(ordered(dtype)[0])
    return ((known[:-1] + known[1:]) / 2)[:: len(known) // 300 + 1]


@pytest.mark.parametrize("dtype", [BF16, F8E4M3FN, F8E5M2], ids=str)
def test_f64_is_rounded_once(dtype: DType) -> None:
    middle = halves(dtype)
    x = np.concatenate([middle, np.nextafter(middle, 0), np.nextafter(middle, 1e300)])
    got = run(x, dtype)
    values = as_numbers(got).astype(np.float64)
    wanted = codes(dtype)[[nearest(float(v), dtype) for v in x]]
    np.testing.assert_array_equal(values, as_numbers(wanted).astype(np.float64))


@pytest.mark.parametrize("dtype", [I64, U64, I32], ids=str)
def test_integers_are_rounded_once(dtype: DType) -> None:
    info = np.iinfo(dtype.numpy)
    middle = [int(v) for v in halves(BF16) if 1 << 24 < v < info.max / 2]
    numbers = [n + d for n in middle for d in (-1, 0, 1)]
    numbers += [info.max, info.min, info.max - 1, (1 << 30) + 1]
    if dtype == I64:
        numbers += [-n for n in numbers[:-4]]
    got = as_numbers(run(np.array(numbers, dtype.numpy), BF16)).astype(np.float64)
    wanted = as_numbers(codes(BF16)[[nearest(n, BF16) for n in numbers]]).astype(np.float64)
    np.testing.assert_array_equal(got, wanted)


def test_integers_keep_their_low_bits() -> None:
    x = np.arange(-300, 300)
    for dtype in WHOLE:
        same(run(x, dtype), x.astype(dtype.numpy))
        same(run(x.astype(np.float32), dtype), x.astype(dtype.numpy))
        assert run(np.array([True, False]), dtype).astype(np.int8).tolist() == [1, 0]


@pytest.mark.parametrize("dtype", WHOLE, ids=str)
def test_spare_bits_do_not_matter(dtype: DType) -> None:
    """A foreign array may have anything in the bits of a byte that the element does not use."""
    x = np.arange(256).astype(np.uint8)
    low = (x & ((1 << dtype.bits) - 1)).view(dtype.numpy)
    np.testing.assert_array_equal(run(x.view(dtype.numpy), I32), low.astype(np.int32))


def test_between_any_two_storage_types() -> None:
    for source in STORAGE:
        x = codes(source)
        x = x[np.isfinite(as_numbers(x)) & (np.abs(as_numbers(x)) < 2)]
        for to in STORAGE:
            if source != to and to != F8E8M0 and not to.is_whole:
                same(run(x, to), as_numbers(x).astype(np.float32).astype(to.numpy))


def test_truth() -> None:
    assert run(codes(F4E2M1), BOOL).tolist() == [False] + [True] * 7 + [False] + [True] * 7
    assert run(codes(U4), BOOL).tolist() == [False] + [True] * 15


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: p.add(x, x),
        lambda x: p.lt(x, x),
        lambda x: p.is_nan(x),
        lambda x: p.reduce(x, op="max", axes=(0,)),
        lambda x: p.argreduce(x, op="max", axis=0, last=False),
        lambda x: p.cumulate(x, op="add", axis=0, exclusive=False, reverse=False),
        lambda x: p.contract(x, x, spec="a,a->"),
        lambda x: p.cast(x, to=F32),
        lambda x: p.cast(p.iota(size=2, dtype=I64), to=x.dtype),
        lambda x: p.scatter(x, const(np.array([1])), x, axis=0, op="add"),
        lambda x: p.bitcast(x, to=F64),
        lambda x: decode(decode(x, to=F32), to=F32),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [BF16, I4], ids=str)
def test_nothing_is_computed_with_them(compute: object, dtype: DType) -> None:
    with pytest.raises(OpError):
        compute(placeholder(Type((2,), dtype)))  # type: ignore[operator]


# ------------------------------------------------------------------ moving


def moves(dtype: DType) -> Graph:
    """Every way of moving elements, and a conversion behind one."""
    x, index = placeholder(Type((4, 6), dtype)), placeholder(Type((3,), I64))
    table = const(np.resize(codes(dtype), (40, 6)))
    few = const(np.resize(codes(dtype), 2))
    picked = p.gather(table, index, axis=0)
    corner = {"starts": (7, 0), "sizes": (4, 6), "steps": (1, 1)}
    outputs: dict[str, Value] = {
        "concat": p.concat(x, table, axis=0),
        "pad": p.pad(p.transpose(x, perm=(1, 0)), low=(1, 0), high=(0, 2), value=1),
        "gather": picked,
        "scatter": p.scatter(table, index, picked, axis=0, op="set"),
        "select": p.select(const(np.eye(4, 6) > 0), x, p.slice(table, **corner)),
        "window": p.window(
            p.reshape(x, shape=(24,)), axes=(0,), size=(3,), stride=(2,), dilation=(1,)
        ),
        "slice": p.slice(x, starts=(3, 0), sizes=(2, 3), steps=(-1, 2)),
        "broadcast": p.broadcast(few, shape=(3, 2)),
        "decode": decode(p.transpose(picked, perm=(1, 0)), to=F32),
        "bits": p.bitcast(x, to=dtype.carrier),
        "same": x,
        "constant": few,
    }
    return Graph({"x": x, "index": index}, outputs)


def feeds(dtype: DType) -> dict[str, np.ndarray]:
    x = np.resize(codes(dtype)[::-1], (4, 6))
    return {"x": np.ascontiguousarray(x), "index": np.array([5, 0, 39])}


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
def test_kernels_move_carriers(dtype: DType) -> None:
    graph, fed = moves(dtype), feeds(dtype)
    wanted = evaluate(graph, fed)
    lowered = lower(expand(graph))
    kinds = {a.dtype.kind for s in lowered.steps if hasattr(s, "kernel") for a in s.kernel.args}
    assert "n" not in kinds
    got = run_lowered(lowered, fed)
    for name, value in graph.outputs.items():
        assert got[name].dtype == value.dtype.numpy
        np.testing.assert_array_equal(plain(got[name]), plain(wanted[name]), err_msg=name)
    assert plain(wanted["pad"])[0, 0] == plain(np.ones((), np.float32).astype(dtype.numpy))


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
def test_text_keeps_every_bit(dtype: DType) -> None:
    text, data = print_graph(moves(dtype))
    again, same_data = print_graph(parse_graph(text, data))
    assert again == text
    assert all(plain(data[n]).tobytes() == plain(same_data[n]).tobytes() for n in data)


def test_constants_in_text() -> None:
    def shown(array: np.ndarray) -> str:
        value = const(array)
        return print_graph(Graph({}, {"y": value}))[0].splitlines()[1].split(": ", 1)[1]

    assert shown(np.array([1.5, np.nan, -0.0], ml_dtypes.bfloat16)) == "bf16[3] [1.5, nan, -0.0]"
    assert shown(np.array([-8, 7], ml_dtypes.int4)) == "i4[2] [-8, 7]"
    payload = np.array([0x7FC1], np.uint16).view(ml_dtypes.bfloat16)
    assert shown(payload) == "bf16[1] @w0"


@pytest.mark.parametrize("text", ["i4[1] [8]", "u2[1] [-1]", "i4[1] [1.5]", "f8e4m3[1] [1]"])
def test_text_that_does_not_fit(text: str) -> None:
    with pytest.raises(ModelError):
        parse_graph(f'graph g\nconst %0: {text}\noutput %0 "y"\n', {})


def test_zero_and_minus_zero_are_two_constants() -> None:
    """A constant of one number is written into the kernel: -0 must not become 0 on the way."""
    x = placeholder(Type((2,), F32))
    y = p.div(x, const(np.array([0.0, -0.0], np.float32)))
    got = run_lowered(lower(Graph({"x": x}, {"y": y})), {"x": np.ones(2, np.float32)})["y"]
    assert got.tolist() == [np.inf, -np.inf]


def test_bitcast_of_halves_in_kernels() -> None:
    x = placeholder(Type((5,), F16))
    graph = Graph({"x": x}, {"y": p.bitcast(p.bitcast(x, to=BF16.carrier), to=F16)})
    half = np.array([1, -2, 65504, 6e-8, 0.1], np.float16)
    same_bits = run_lowered(lower(graph), {"x": half})["y"]
    np.testing.assert_array_equal(same_bits.view(np.uint16), half.view(np.uint16))
