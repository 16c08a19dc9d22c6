"""Operator sets 1 to 6: every node that meant something else then is what the text of then says."""

from __future__ import annotations

import numpy as np
import pytest

from brim.errors import BrimError
from brim.frontends.onnx import import_model
from brim.frontends.onnx.rows import TABLE, find
from brim.frontends.onnx.table import NEVER
from brim.graph import evaluate
from tests.onnx_models import F32, model, node
from tests.onnx_old import CASES, Old


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_old_node(case: Old) -> None:
    found = evaluate(import_model(case.model()), case.feeds())
    for got, want in zip(found.values(), case.wanted(), strict=True):
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, 1e-5, 1e-6)


def test_every_old_row_has_a_case() -> None:
    rows = {(n, row.since, row.until) for (_, n), rows in TABLE.items() for row in rows}
    old = {row for row in rows if row[2] != NEVER}
    covered = {
        (name, since, until)
        for name, since, until in old
        if any(case.op == name and since <= case.opset <= until for case in CASES)
    }
    recurrent = {row for row in old if row[0] in ("GRU", "LSTM", "RNN", "LpPool")}
    assert old - covered == recurrent  # they only lose an attribute that says nothing


def test_a_recurrence_of_set_1_is_that_of_set_7() -> None:
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(1, 15, 4)).astype(np.float32),
        "r": random.normal(size=(1, 15, 5)).astype(np.float32),
    }
    x = random.normal(size=(3, 2, 4)).astype(np.float32)
    ports = [("x", F32, (3, 2, 4))], [("y", F32, (3, 1, 2, 5))]
    new = model([node("GRU", "x w r", "y", hidden_size=5)], *ports, weights, opset=7)
    old = model(
        [node("GRU", "x w r", "y", hidden_size=5, output_sequence=1, direction="foward")],
        *ports, weights, opset=1,
    )  # fmt: skip
    results = [evaluate(import_model(proto), {"x": x})["y"] for proto in (old, new)]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "message"),
    [
        ("Add", ((2, 3), (3,)), {}, "without broadcast=1"),
        ("Add", ((2, 3), (2,)), {"broadcast": 1}, "no part of"),
        ("Add", ((2, 3), (4, 2, 3)), {"broadcast": 1}, "no part of"),
        ("Add", ((2, 3), (3,)), {"broadcast": 1, "axis": 5}, "no part of"),
        ("Cast", ((2, 3),), {"to": "QUATERNION"}, "to='QUATERNION'"),
        ("LpPool", ((1, 1, 4, 4),), {"kernel_shape": [2, 2], "p": 2.5}, "p=2.5"),
        ("BatchNormalization", ((1, 2, 3, 3), (2,), (2,), (2,), (2,)), {}, "is_test=0"),
        ("Split", ((2, 3),), {}, "axis"),
        ("Relu", ((2, 3),), {"slope": 1}, "slope"),
    ],
)  # fmt: skip
def test_old_nodes_that_are_refused(op: str, shapes: tuple, attributes: dict, message: str) -> None:
    names = [f"x{i}" for i in range(len(shapes))]
    proto = model(
        [node(op, " ".join(names), "y", **attributes)],
        [(name, F32, shape) for name, shape in zip(names, shapes)], [("y", F32, None)], opset=1,
    )  # fmt: skip
    with pytest.raises(BrimError, match=message):
        import_model(proto)


def test_dropout_of_set_6_trains_unless_it_tests() -> None:
    proto = model([node("Dropout", "x", "y")], [("x", F32, (1000,))], [("y", F32, None)], opset=6)
    x = np.ones(1000, np.float32)
    y = evaluate(import_model(proto), {"x": x})["y"]
    assert set(y.tolist()) == {0.0, 2.0}
    assert 400 < (y > 0).sum() < 600


def test_old_rows_end_where_they_say() -> None:
    for op, last in (("Add", 6), ("Reshape", 4), ("Concat", 3), ("Pad", 1)):
        old, new = find(op, "", last), find(op, "", last + 1)
        assert old is not None
        assert new is not None
        assert old.until == last
        assert new.until == NEVER
