"""Every operator set in which an operator changed means to brim what it means to onnxruntime.

The models are those of `onnx_versions`. Where onnxruntime has no kernel, ONNX's own reference
evaluator is asked; what neither runs, brim has to refuse. And, without any model: every operator of
the standard has a row or a reason, and rows read every attribute that a schema has.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from typing import Any

import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from brim.errors import BrimError
from brim.frontends.onnx.rows import TABLE, find
from brim.tools.onnx_operators import NO_ROW, onnx_operators
from brim.tools.row_functions import functions_of
from tests.extra.onnx_nodes import Engine, difference, interpret, run_compiled
from tests.extra.onnx_variations import theirs
from tests.extra.onnx_versions import ROWS, Row

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore::RuntimeWarning")]
onnxruntime.set_default_logger_severity(4)

OPERATORS: dict[str, list[Row]] = defaultdict(list)
for each in ROWS:
    OPERATORS[each.op].append(each)
# Operators whose rows make up the names of attributes: keys_floats is "keys" and a type.
NAMED_BY_PARTS = {
    "LabelEncoder", "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor",
}  # fmt: skip
OLD = 6  # rows for the sets up to here hand their attributes on to later rows, unseen


def faults(row: Row, engine: Engine, constant: bool) -> list[str]:
    """Where an engine of brim differs from the peer, in any operator set of a row."""
    found = []
    for version in row.sets:
        model, feeds = row.model(version, constant), row.feeds(constant)
        expected = theirs(model, feeds)
        try:
            got = list(engine(model.SerializeToString(), feeds).values())
        except BrimError as error:
            if expected is not None:
                found.append(f"set {version}, {row.label}: {error}")
            continue
        if expected is None:
            found.append(f"set {version}, {row.label}: no peer runs this, brim does")
        elif text := difference(got, expected, 1e-5, 1e-6):
            found.append(f"set {version}, {row.label}: {text}")
    return found


@pytest.mark.parametrize("op", OPERATORS)
def test_each_set_agrees_with_a_peer(op: str) -> None:
    assert [fault for row in OPERATORS[op] for fault in faults(row, interpret, True)] == []


@pytest.mark.slow
@pytest.mark.parametrize("op", OPERATORS)
def test_inputs_of_the_caller_decide_as_constants_do(op: str) -> None:
    """Shapes, axes and counts that are known only when the model runs."""
    assert [fault for row in OPERATORS[op] for fault in faults(row, interpret, False)] == []


@pytest.mark.slow
@pytest.mark.parametrize("op", OPERATORS)
def test_each_set_agrees_when_compiled(op: str) -> None:
    assert [fault for row in OPERATORS[op] for fault in faults(row, run_compiled, True)] == []


def test_the_comparison_finds_another_meaning() -> None:
    """The tests above can fail: an old Softmax is not a new one."""
    old = next(row for row in OPERATORS["Softmax"] if row.sets[0] < 13 and not row.attributes)

    def as_if_new(model: bytes, feeds: Any) -> Any:
        changed = onnx.ModelProto.FromString(model)
        changed.opset_import[0].version = 13
        return interpret(changed.SerializeToString(), feeds)

    assert faults(old, as_if_new, True)


# ------------------------------------------------------------------ the standard, without models


def schemas() -> list[Any]:
    return [s for s in onnx.defs.get_all_schemas_with_history() if not s.deprecated]


def test_every_operator_of_the_standard_has_a_row_or_a_reason() -> None:
    assert [operator.full_name for operator in onnx_operators() if operator.missing == NO_ROW] == []


def test_every_version_of_an_operator_has_a_row() -> None:
    missing = [
        f"{schema.domain} {schema.name} {schema.since_version}"
        for schema in schemas()
        if (schema.domain, schema.name) in TABLE
        and find(schema.name, schema.domain, schema.since_version) is None
    ]
    assert missing == []


def test_rows_read_every_attribute_of_the_standard() -> None:
    unread = {
        f"{schema.name} {schema.since_version}: {name}"
        for schema in schemas()
        if (row := find(schema.name, schema.domain, schema.since_version)) is not None
        if (schema.since_version > OLD or schema.domain) and not row.refused
        if schema.name not in NAMED_BY_PARTS
        for name in unread_attributes(row, schema)
    }
    assert unread == set()


def unread_attributes(row: Any, schema: Any) -> set[str]:
    """Attributes whose names stand nowhere in the source of a row's function and its helpers."""
    source = "".join(map(inspect.getsource, functions_of(row.function)))
    return set(schema.attributes) - set(re.findall(r"\"(\w+)\"", source))


def test_an_attribute_that_nobody_reads_is_found() -> None:
    softmax, gemm = find("Softmax", "", 13), onnx.defs.get_schema("Gemm", 13)
    assert unread_attributes(softmax, gemm) == {"alpha", "beta", "transA", "transB"}
