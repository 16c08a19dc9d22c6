"""The list of ONNX operators: where it comes from, what it says of each, operators refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")

import onnx
from onnx import helper

from brim.errors import UnsupportedError
from brim.frontends.onnx import import_model
from brim.frontends.onnx.rows import TABLE
from brim.tools.describe import describe
from brim.tools.onnx_operators import Operator, onnx_operators, short_types

TRAINING = "ai.onnx.preview.training"


def by_name() -> dict[str, Operator]:
    return {operator.full_name: operator for operator in onnx_operators()}


def test_all_that_is_declared_or_in_the_standard_is_listed() -> None:
    standard = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas()}
    listed = [(operator.domain, operator.name) for operator in onnx_operators()]
    assert listed == sorted(standard | set(TABLE))


def test_what_is_said_of_an_operator() -> None:
    found = by_name()
    assert found["Softmax"].sets == (1, 11, 13)
    assert found["Softmax"].types == ("f32", "f16", "f64", "bf16")
    assert found["NonZero"].runs == "a host step"
    assert found["Softmax"].runs == "compiled"
    assert found["Reshape"].runs == "compiled, or a host step"
    assert found["Abs"].runs == "compiled"  # np.array in a helper asks for nothing
    assert found["com.microsoft.BiasGelu"].sets == (1,)  # the onnx package has no schema of it
    gradient = found[f"{TRAINING}.Gradient"]
    assert (gradient.runs, gradient.sets) == ("", (1,))
    assert "gradient inside a model file" in gradient.missing


def test_the_table_is_listed_without_the_onnx_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    found = by_name()
    assert len(found) == len(TABLE)
    assert found["Slice"].sets == (1, 10)  # the rows' own
    assert found["Slice"].types == ()


@pytest.mark.parametrize(
    ("types", "short"),
    [
        (("f32", "f16", "f64", "bf16"), ("f16-f64", "bf16")),
        (("f32", "f64"), ("f32", "f64")),
        ((), ()),
    ],
)
def test_families_of_types_in_one_word(types: tuple[str, ...], short: tuple[str, ...]) -> None:
    assert short_types(types) == short


def test_a_refused_operator_says_why_and_what_to_do(tmp_path: Path) -> None:
    node = helper.make_node("Gradient", ["x"], ["y"], domain=TRAINING, xs=["x"], y="x")
    port = helper.make_tensor_value_info("x", 1, (2,))
    result = helper.make_tensor_value_info("y", 1, (2,))
    model = helper.make_model(
        helper.make_graph([node], "g", [port], [result]),
        opset_imports=[helper.make_opsetid(TRAINING, 1)],
    )
    with pytest.raises(
        UnsupportedError, match="Gradient: a gradient inside .*brim.passes.autodiff"
    ):
        import_model(model)
    onnx.save(model, tmp_path / "g.onnx")
    assert describe(tmp_path / "g.onnx").unsupported == (f"{TRAINING}.Gradient",)
