"""The list of TFLite operators: where it comes from, and what it says of each."""

from __future__ import annotations

import sys

import pytest

from brim.frontends.tflite.table import QUANTIZED, TABLE
from brim.tools.tflite_operators import Operator, tflite_operators


def by_name() -> dict[str, Operator]:
    return {operator.name: operator for operator in tflite_operators()}


def test_all_that_is_declared_or_in_the_schema_is_listed() -> None:
    schema = pytest.importorskip("tflite").BuiltinOperator
    builtin = {name for name, number in vars(schema).items() if isinstance(number, int)}
    listed = [operator.name for operator in tflite_operators()]
    assert sorted(listed) == sorted((builtin | set(TABLE)) - {"CUSTOM"})


def test_builtin_operators_come_first() -> None:
    customs = [operator.custom for operator in tflite_operators()]
    assert customs == sorted(customs)
    assert by_name()["aeq.hadamard_rotation"].custom
    assert not by_name()["L2_POOL_2D"].custom


@pytest.mark.parametrize(
    ("name", "quantized", "runs"),
    [
        ("SIN", "in floats", "compiled"),
        ("CONV_2D", "in integers", "compiled"),
        ("RESHAPE", "as they are", "compiled, or a host step"),
        ("CAST", "as they are", "compiled"),
        ("DEPTH_TO_SPACE", "as they are", "compiled"),  # its p.reshape is not the row RESHAPE
        ("TOPK_V2", "as they are", "a host step"),
        ("RANDOM_UNIFORM", "in floats", "compiled, or a host step"),
    ],
)
def test_what_is_said_of_an_operator(name: str, quantized: str, runs: str) -> None:
    found = by_name()[name]
    assert (found.quantized, found.runs, found.missing) == (quantized, runs, "")


def test_what_is_missing_has_a_reason() -> None:
    pytest.importorskip("tflite")
    missing = {
        operator.name: operator.missing for operator in tflite_operators() if not operator.runs
    }
    assert missing.keys().isdisjoint(TABLE)
    assert "LiteRT has no kernel" in missing["STABLEHLO_SORT"]
    assert all(missing.values())


def test_the_table_is_listed_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    assert set(by_name()) == set(TABLE)


def test_what_is_quantized_is_a_row() -> None:
    assert set(QUANTIZED) <= set(TABLE)
