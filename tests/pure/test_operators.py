"""What `brim ops NAME` tells of one operator."""

from __future__ import annotations

import json

import pytest

from brim.errors import InputError
from brim.ops import OPS, VARIANTS
from brim.tools.operators import operator


@pytest.mark.parametrize("name", sorted(name for name in OPS if name != "onnx_node"))
def test_every_operator_is_found_where_it_is_declared(name: str) -> None:
    found = operator(name)
    assert found.signature.startswith(f"{name}(") and found.module.startswith("brim.ops.")
    assert found.doc and found.kind == OPS[name].kind
    assert len(found.variants) == len(VARIANTS.get(name, []))


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    from brim.cli import main

    assert main(["ops", "conv"]) == 0
    shown = capsys.readouterr().out
    assert "low, high: zeros before and after" in shown and "conv.winograd_4" in shown
    assert main(["ops", "conv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["module"] == "brim.ops.nn"
    assert main(["ops", "convv"]) == 1
    with pytest.raises(InputError, match="no operator 'convv'"):
        operator("convv")


def test_one_operator_of_a_format(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    pytest.importorskip("onnx")
    from brim.cli import main

    assert main(["ops", "gelu", "--format", "onnx"]) == 0
    shown = capsys.readouterr().out
    assert "Gelu" in shown and "operator sets" in shown
    assert main(["ops", "Gel", "--format", "onnx"]) == 1
    assert "Gelu" in capsys.readouterr().err
