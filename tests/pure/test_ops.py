"""Every operator against the conformance table: types, bodies, variants, gradients, documentation.

The rows are in `tests/conformance.py`; semantics that a table of random numbers cannot show (wrap,
division, shifts, casts at the limits) are spelt out below. Back ends are not run here.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from brim.errors import OpError
from brim.graph import Op, Value, const, evaluate, evaluate_values, placeholder
from brim.ops import OPS, VARIANTS
from brim.ops import primitive as ops
from brim.ops.registry import emit
from brim.passes.autodiff import gradient
from brim.passes.expand import expand
from brim.types import F16, F32, F64, I8, I32, I64, U8, DType, parse_type, type_of
from tests.conformance import CASES, EXEMPT, NO_GRADIENT, Case, graph_of, has_slope
from tests.storage_numbers import plain

ROWS = [
    pytest.param(name, case, id=f"{name}-{i}")
    for name, cases in CASES.items()
    for i, case in enumerate(cases)
]
COMPOSITE_ROWS = [p for p in ROWS if OPS[p.values[0]].body is not None]


def feeds(case: Case) -> dict[str, np.ndarray]:
    return {f"x{i}": array for i, array in enumerate(case.arrays())}


def close(a: np.ndarray, b: np.ndarray) -> None:
    """Equal, up to the rounding of a few operations of the narrower float."""
    assert a.shape == b.shape
    a, b = plain(a), plain(b)
    if a.dtype.kind != "f":
        np.testing.assert_array_equal(a, b)
        return
    tolerance = 4e-3 if a.dtype == np.float16 else 2e-5 if a.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_every_op_has_a_row_and_a_doc() -> None:
    wanted = {name for name, op in OPS.items() if op.kind != "host"}
    assert wanted == set(CASES) | set(EXEMPT)
    assert not set(CASES) & set(EXEMPT)
    assert all(CASES.values())
    for op in OPS.values():
        assert op.doc.strip().endswith((".", ":")) or len(op.doc.split()) > 3, op.name


@pytest.mark.parametrize(("name", "case"), ROWS)
def test_type_rule_is_numpys(name: str, case: Case) -> None:
    arrays = case.arrays()
    inferred = OPS[name].infer(*(type_of(a) for a in arrays), **case.attrs)
    with np.errstate(all="ignore"):
        found = np.asarray(OPS[name].numpy(*arrays, **case.attrs))
    assert type_of(found) == inferred
    if case.expect:
        with np.errstate(all="ignore"):
            wanted = np.asarray(case.expect(*arrays)).astype(found.dtype)
        close(found, wanted)


@pytest.mark.parametrize(("name", "case"), COMPOSITE_ROWS)
def test_expanded_is_whole(name: str, case: Case) -> None:
    graph, fed = graph_of(name, case), feeds(case)
    whole = evaluate(graph, fed)["y"]
    close(evaluate(graph, fed, expand=True)["y"], whole)
    primitives = expand(graph)
    assert all(v.op is None or v.op.body is None for v in primitives.values())
    close(evaluate(primitives, fed)["y"], whole)


@pytest.mark.parametrize(("name", "case"), [p for p in ROWS if p.values[0] in VARIANTS])
def test_variants_equal_their_base(name: str, case: Case) -> None:
    graph, fed = graph_of(name, case), feeds(case)
    whole = evaluate(graph, fed)["y"]
    scale = np.abs(whole).max().clip(1)  # a variant's results share their sums, and so their errors
    for when, op in VARIANTS[name]:
        if when(*case.types(), **case.attrs):
            found = evaluate(expand(graph, choose=lambda v, op=op: op), fed)["y"]
            close(found / scale, whole / scale)


def test_every_variant_has_a_row() -> None:
    for name, variants in VARIANTS.items():
        for when, op in variants:
            fits = [case for case in CASES[name] if when(*case.types(), **case.attrs)]
            assert fits, f"no row of {name} reaches {op.name}"


# ------------------------------------------------------------------ gradients


def _wide(case: Case) -> tuple[list[np.ndarray], dict]:
    """The row in f64, where finite differences are sharp."""
    arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in case.arrays()]
    attrs = {key: F64 if attr in (F16, F32) else attr for key, attr in case.attrs.items()}
    return arrays, attrs


GRADIENT_ROWS = [p for p in ROWS if has_slope(*p.values)]


def _weighted(value: Value, rng: np.random.Generator) -> Value:
    weights = const(rng.normal(size=value.shape))
    total = ops.reduce(ops.mul(value, weights), op="add", axes=tuple(range(len(value.shape))))
    return ops.reshape(total, shape=())


def _check_slopes(loss: Value, inputs: list[Value], arrays: list[np.ndarray]) -> list[Value]:
    """<gradient, direction> against the slope along random directions; the gradients."""
    rng, step = np.random.default_rng(1), 1e-6
    wrt = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    values = gradient(loss, [inputs[i] for i in wrt])
    known = {id(value): array for value, array in zip(inputs, arrays)}
    found = evaluate_values(values, dict(known))
    for i, g in zip(wrt, found):
        assert g.shape == arrays[i].shape
        assert g.dtype == np.float64
        for _ in range(2):
            direction = rng.normal(size=arrays[i].shape)
            slopes = []
            for sign in (1, -1):
                moved = dict(known)
                moved[id(inputs[i])] = arrays[i] + sign * step * direction
                slopes.append(sign * float(evaluate_values([loss], moved)[0]))
            slope = sum(slopes) / (2 * step)
            assert np.isclose(slope, np.sum(g * direction), rtol=1e-5, atol=1e-6), f"argument {i}"
    return values


def _check_gradient(op: Op, arrays: list[np.ndarray], attrs: dict, order: int = 1) -> None:
    """order 2: of the sine of the result the second derivatives, too."""
    rng = np.random.default_rng(1)
    inputs = [placeholder(type_of(a)) for a in arrays]
    result = emit(op, *inputs, **attrs)
    found = _check_slopes(_weighted(result, rng), inputs, arrays)
    if order == 2:
        found = _check_slopes(_weighted(ops.sin(result), rng), inputs, arrays)
        total = functools.reduce(ops.add, (_weighted(slope, rng) for slope in found))
        _check_slopes(total, inputs, arrays)


@pytest.mark.parametrize(("name", "case"), GRADIENT_ROWS)
def test_gradient_is_the_slope(name: str, case: Case) -> None:
    """And that of the gradient is its slope. (Not so where products are scattered: second
    derivatives by factors that are 0 are not all right.)"""
    arrays, attrs = _wide(case)
    order = 1 if name == "scatter" and attrs["op"] == "mul" else 2
    _check_gradient(OPS[name], arrays, attrs, order)


@pytest.mark.parametrize(
    ("name", "case"),
    [p for p in GRADIENT_ROWS if OPS[p.values[0]].body and OPS[p.values[0]].grad],
)
def test_gradient_of_the_body_is_the_slope(name: str, case: Case) -> None:
    arrays, attrs = _wide(case)
    _check_gradient(dataclasses.replace(OPS[name], grad=None), arrays, attrs)


def test_what_has_no_gradient_is_listed_with_a_reason() -> None:
    """A composite is differentiated through its body; a primitive has a rule, or an entry."""
    without = {n for n, op in OPS.items() if op.grad is None and op.body is None}
    assert without == set(NO_GRADIENT)
    assert all(len(reason.split()) > 2 for reason in NO_GRADIENT.values())


# ------------------------------------------------------------------ what a random row cannot show


def one(name: str, *arrays: np.ndarray, **attrs: object) -> np.ndarray:
    inputs = [placeholder(type_of(a)) for a in arrays]
    value = emit(OPS[name], *inputs, **attrs)
    return evaluate_values([value], {id(i): a for i, a in zip(inputs, arrays)})[0]


SIGNED = [np.int8, np.int16, np.int32, np.int64]
UNSIGNED = [np.uint8, np.uint16, np.uint32, np.uint64]


@pytest.mark.parametrize("dtype", SIGNED)
def test_signed_arithmetic_wraps(dtype: type) -> None:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    edge = np.array([low, high], dtype)
    ones = np.array([1, 1], dtype)
    assert one("add", edge, ones).tolist() == [low + 1, low]
    assert one("sub", edge, ones).tolist() == [high, high - 1]
    assert one("mul", edge, edge).tolist() == [0, 1]
    assert one("neg", edge).tolist() == [low, low + 1]
    assert one("absolute", edge).tolist() == [low, high]


@pytest.mark.parametrize("dtype", UNSIGNED)
def test_unsigned_arithmetic_wraps(dtype: type) -> None:
    high = np.iinfo(dtype).max
    assert one("add", np.array([high], dtype), np.array([1], dtype)).tolist() == [0]
    assert one("sub", np.array([0], dtype), np.array([1], dtype)).tolist() == [high]
    assert one("mul", np.array([high], dtype), np.array([high], dtype)).tolist() == [1]


@pytest.mark.parametrize("dtype", SIGNED)
def test_integer_division(dtype: type) -> None:
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    a = np.array([7, -7, 7, -7, 5, low, low, high, 0], dtype)
    b = np.array([2, 2, -2, -2, 0, -1, 0, -1, 3], dtype)
    assert one("div", a, b).tolist() == [3, -3, -3, 3, 0, low, 0, -high, 0]
    assert one("fmod", a, b).tolist() == [1, -1, 1, -1, 5, 0, low, 0, 0]
    assert one("mod", a, b).tolist() == [1, 1, -1, -1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [*SIGNED, *UNSIGNED])
def test_shifts_outside_the_width_give_zero(dtype: type) -> None:
    bits = np.iinfo(dtype).bits
    a = np.full(4, np.iinfo(dtype).max, dtype)
    amount = np.array([0, bits - 1, bits, 100], dtype)
    left, right = one("shift_left", a, amount), one("shift_right", a, amount)
    assert left[0] == right[0] == a[0]
    assert left[2:].tolist() == right[2:].tolist() == [0, 0]
    minus = np.array([-1], np.int8)
    assert one("shift_right", np.array([-128], np.int8), np.array([7], np.int8)).tolist() == [-1]
    assert one("shift_left", np.array([1], np.int8), minus).tolist() == [0]


@pytest.mark.parametrize("to", [I8, I32, I64, U8])
def test_float_to_integer_truncates_and_saturates(to: DType) -> None:
    info = np.iinfo(to.numpy)
    x = np.array([1.9, -1.9, 1e30, -1e30, np.inf, -np.inf, np.nan], np.float32)
    low, high = int(info.min), int(info.max)
    assert one("cast", x, to=to).tolist() == [1, max(-1, low), high, low, high, low, 0]
    near = np.array([np.nextafter(2.0**63, 0), 2.0**63, -(2.0**63)], np.float64)
    assert one("cast", near, to=I64).tolist() == [2**63 - 1024, 2**63 - 1, -(2**63)]


def test_integer_to_integer_wraps() -> None:
    x = np.array([300, -1, 128], np.int32)
    assert one("cast", x, to=U8).tolist() == [44, 255, 128]
    assert one("cast", x, to=I8).tolist() == [44, -1, -128]


def test_last_of_equal_extremes() -> None:
    x = np.array([[3, 1, 3]], np.int32)
    assert one("argreduce", x, op="max", axis=1, last=False).tolist() == [[0]]
    assert one("argreduce", x, op="max", axis=1, last=True).tolist() == [[2]]


def test_scatter_is_in_order() -> None:
    x, index = np.zeros(3, np.int32), np.array([1, 1])
    update = np.array([5, 7], np.int32)
    assert one("scatter", x, index, update, axis=0, op="set").tolist() == [0, 7, 0]
    assert one("scatter", x, index, update, axis=0, op="add").tolist() == [0, 12, 0]


def test_gather_outside_is_an_error() -> None:
    for index in (-1, 3):
        with pytest.raises(OpError, match="outside"):
            one("gather", np.zeros(3, np.float32), np.array([index]), axis=0)


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("name", "types", "attrs", "message"),
    [
        ("add", ("f32[3]", "f32[4]"), {}, "do not broadcast"),
        ("add", ("f32[3]", "i32[3]"), {}, "dtypes differ"),
        ("exp", ("i32[3]",), {}, "not among"),
        ("reshape", ("f32[2,3]",), {"shape": (4,)}, "cannot become"),
        ("transpose", ("f32[2,3]",), {"perm": (0, 0)}, "not a permutation"),
        ("reduce", ("f32[2,3]",), {"op": "add", "axes": (2,)}, "do not fit rank"),
        ("reduce", ("f32[2,3]",), {"op": "mean", "axes": (1,)}, "not one of"),
        ("reduce", ("f32[2,0]",), {"op": "max", "axes": (1,)}, "no elements"),
        ("contract", ("f32[2,3]", "f32[4,5]"), {"spec": "ij,jk->ik"}, "sizes 3 and 4"),
        ("slice", ("f32[4]",), {"starts": (2,), "sizes": (3,), "steps": (1,)}, "leave an axis"),
        ("window", ("f32[4]",), {"axes": (0,), "size": (5,), "stride": (1,), "dilation": (1,)},
         "does not fit"),
        ("gather", ("f32[4]", "f32[2]"), {"axis": 0}, "not integers"),
        ("exp", ("f32[3]",), {"fast": True}, "fast"),
        ("softmax", ("f32[3]",), {"axis": "x"}, "softmax"),
    ],
)  # fmt: skip
def test_wrong_use_is_refused_with_the_signature(
    name: str, types: tuple[str, ...], attrs: dict, message: str
) -> None:
    with pytest.raises(OpError, match=message) as caught:
        emit(OPS[name], *(placeholder(parse_type(t)) for t in types), **attrs)
    assert f"{name}({', '.join(types)})" in caught.value.what


def test_constants_fold_where_they_arise() -> None:
    found = ops.add(const(np.float32(1)), const(np.float32(2)))
    assert found.is_const
    assert found.data == 3
