"""How much a model computes, told before it is compiled: by the definition of its operators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brim.debug import write_graph
from brim.errors import BrimError
from brim.graph import Graph, const, placeholder
from brim.ops import math, nn
from brim.tools.work import work_of
from brim.types import F32, Type


def test_products_count_their_definition(tmp_path: Path) -> None:
    x = placeholder(Type((1, 32, 32, 16), F32))
    w = const(np.ones((3, 3, 16, 24), np.float32))
    same = {"low": (1, 1), "high": (1, 1), "stride": (1, 1), "dilation": (1, 1), "groups": 1}
    conv = nn.conv(x, w, **same)  # which Winograd's variant would do with fewer operations
    write_graph(tmp_path / "conv.graph", Graph({"x": x}, {"y": math.relu(conv)}, "conv"))
    found = work_of(tmp_path / "conv.graph")
    assert found is not None
    products = 2 * 32 * 32 * 9 * 16 * 24
    assert products <= found.flops <= products * 1.01  # and the relu
    assert found.shapes == {"x": (1, 32, 32, 16)} and found.host == ()


def test_temporaries_are_those_of_the_plan(tmp_path: Path) -> None:
    x = placeholder(Type((100, 100), F32))
    w = const(np.ones((100, 100), np.float32))
    y = math.matmul(math.matmul(math.matmul(x, w), w), w)
    write_graph(tmp_path / "three.graph", Graph({"x": x}, {"y": y}, "three"))
    found = work_of(tmp_path / "three.graph")
    assert found is not None
    assert 2 * 40_000 <= found.memory <= 2 * 40_000 + 200  # input and output are the caller's


def test_open_shapes_have_no_figures(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[N,64] x) => (float[N,8] y)'
    text += "<float[64,8] w> { y = MatMul(x, w) }"
    model = onnx.parser.parse_model(text)
    onnx.helper.set_model_props(model, {"made by": "a test"})
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((64, 8), np.float32), "w"))
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    assert work_of(path) is None
    once, twice = work_of(path, {"x": (1, 64)}), work_of(path, {"x": (2, 64)})
    assert once is not None and twice is not None
    assert once.flops == 2 * 64 * 8 and twice.flops == 2 * once.flops
    with pytest.raises(BrimError):
        work_of(path, {"x": (1, 65)})


def test_info_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    import json

    from brim.cli import main

    x = placeholder(Type((4, 64), F32))
    y = math.matmul(x, const(np.ones((64, 8), np.float32)))
    path = tmp_path / "net.graph"
    write_graph(path, Graph({"x": x}, {"y": y}, "net"))
    assert main(["info", str(path)]) == 0
    assert "one run, with x: 4x64: 4.1 kFLOP" in capsys.readouterr().out
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["work"]["flops"] == 2 * 4 * 64 * 8
