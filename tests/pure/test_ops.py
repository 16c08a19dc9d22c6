"""Every operator against the conformance table: types, bodies, variants, gradients, documentation.

The rows are in `tests/conformance.py`; semantics that a table of random numbers cannot show (wrap,
division, shifts, casts at the limits) are spelt out below. Back ends are not run here.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from brim.errors import BrimError, OpError, UnsupportedError
from brim.graph import Graph, Op, Value, const, evaluate, evaluate_values, placeholder, substitute
from brim.ops import OPS, VARIANTS
from brim.ops import primitive as ops
from brim.ops.registry import emit
from brim.passes.autodiff import gradient
from brim.passes.expand import expand
from brim.types import BOOL, F16, F32, F64, I8, I32, I64, U8, Type, type_of
from tests.conformance import CASES, EXEMPT, NOT_DIFFERENTIABLE, Case, graph_of

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
    for when, op in VARIANTS[name]:
        if when(*case.types(), **case.attrs):
            close(evaluate(expand(graph, choose=lambda v, op=op: op), fed)["y"], whole)


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


def _differentiable(name: str, case: Case) -> bool:
    floats = any(t.dtype.is_float for t in case.types())
    result = OPS[name].infer(*case.types(), **case.attrs)
    known = all(np.isfinite(a).all() for a in case.arrays() if a.dtype.kind == "f")
    return floats and result.dtype.is_float and result.size > 0 and known


GRADIENT_ROWS = [
    p for p in ROWS if _differentiable(*p.values) and p.values[0] not in NOT_DIFFERENTIABLE
]


def _check_gradient(op: Op, arrays: list[np.ndarray], attrs: dict) -> None:
    """<gradient, direction> against the slope along random directions."""
    rng = np.random.default_rng(1)
    inputs = [placeholder(type_of(a)) for a in arrays]
    result = emit(op, *inputs, **attrs)
    weights = const(rng.normal(size=result.shape))
    rank = len(result.shape)
    loss = ops.reduce(ops.mul(result, weights), op="add", axes=tuple(range(rank)))
    wrt = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    values = gradient(loss, [inputs[i] for i in wrt])
    known = {id(value): array for value, array in zip(inputs, arrays)}
    found = evaluate_values(values, dict(known))
    for i, g in zip(wrt, found):
        assert g.shape == arrays[i].shape
        assert g.dtype == np.float64
        for _ in range(2):
            direction = rng.normal(size=arrays[i].shape)
            step, slopes = 1e-6, []
            for sign in (1, -1):
                moved = dict(known)
                moved[id(inputs[i])] = arrays[i] + sign * step * direction
                slopes.append(sign * float(evaluate_values([loss], moved)[0].sum()))
            slope = sum(slopes) / (2 * step)
            assert np.isclose(slope, np.sum(g * direction), rtol=1e-5, atol=1e-6), f"argument {i}"


@pytest.mark.parametrize(("name", "case"), GRADIENT_ROWS)
def test_gradient_is_the_slope(name: str, case: Case) -> None:
    arrays, attrs = _wide(case)
    _check_gradient(OPS[name], arrays, attrs)


@pytest.mark.parametrize(
    ("name", "case"),
    [p for p in GRADIENT_ROWS if OPS[p.values[0]].body and OPS[p.values[0]].grad],
)
def test_gradient_of_the_body_is_the_slope(name: str, case: Case) -> None:
    arrays, attrs = _wide(case)
    _check_gradient(dataclasses.replace(OPS[name], grad=None), arrays, attrs)
