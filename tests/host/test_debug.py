"""BRIM_DEBUG, BRIM_DUMP and BRIM_CHECK: what each shows, and that none of them changes a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import brim
from brim import compiler
from brim.debug import open_window
from brim.graph import Graph, Value, const, placeholder, rewrite
from brim.kernels.text import parse_kernel, parse_schedule
from brim.ops import math
from brim.ops.registry import at
from brim.settings import SETTINGS
from brim.types import F32, Type

X = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)


def network() -> Graph:
    x = placeholder(Type((4, 64), F32))
    w = const(np.random.default_rng(1).standard_normal((64, 16)).astype(np.float32))
    return Graph({"x": x}, {"y": math.softmax(math.matmul(x, w), axis=1)}, "small")


# level -> what it shows and the level below does not
SHOWN = {
    1: "target host: ",
    2: "GFLOP/s  operators",
    3: "<- chosen",
    4: "stage s0(x2) = reduce add(x2)",
    5: "= softmax(%2) axis=1",
    6: "define void @kernel(",
    7: ".text",
}


@pytest.mark.parametrize("level", range(8))
def test_each_level_adds_its_part(
    level: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert str(max(SHOWN)) in SETTINGS["debug"].doc
    monkeypatch.setenv("BRIM_DEBUG", str(level))
    brim.compile(network())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [n for n, text in SHOWN.items() if text in captured.err] == list(range(1, level + 1))


def test_a_dump_compiles_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = brim.compile(network())(X)
    monkeypatch.setenv("BRIM_DUMP", str(tmp_path / "dump"))
    brim.compile(network())
    monkeypatch.delenv("BRIM_DUMP")
    (folder,) = (tmp_path / "dump").iterdir()
    graphs = sorted(folder.glob("*.graph"))
    assert len(graphs) == len(compiler.PIPELINE) + 2  # the imported, and the settled one
    for path in graphs:
        np.testing.assert_allclose(brim.load(path)(X), expected, rtol=1e-5)
    kernels = sorted(folder.glob("*.kernel"))
    assert len(kernels) == len(brim.compile(network()).report().kernels)
    for path in kernels:
        parse_kernel(path.read_text())
        parse_schedule(path.with_suffix(".schedule").read_text())
        assert "define void @kernel(" in path.with_suffix(".ll").read_text()
        assert path.with_suffix(".s").stat().st_size > 100


def test_names_of_models_do_not_lead_out_of_the_dump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRIM_DUMP", str(tmp_path / "dump"))
    names = ["../../up", "/etc/x", "..", "", "a" * 500, "same", "same"]
    folders = [open_window(name).folder for name in names]
    assert len(set(folders)) == len(names)
    for folder in folders:
        assert folder is not None and folder.is_dir()
        assert folder.resolve().parent == (tmp_path / "dump").resolve()


def drop_division(graph: Graph) -> Graph:
    def rule(value: Value) -> Value | None:
        return value.args[0] if value.op and value.op.name == "div" else None

    return rewrite(graph, rule)


def test_check_names_the_pass_that_breaks_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "PIPELINE", (*compiler.PIPELINE, ("careless", drop_division)))
    brim.compile(network())  # nothing looks
    monkeypatch.setenv("BRIM_CHECK", "1")
    with pytest.raises(brim.CompileError, match="pass 'careless' changed output 'y'"):
        brim.compile(network())


def test_check_lets_good_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = brim.compile(network())(X)
    monkeypatch.setenv("BRIM_CHECK", "1")
    np.testing.assert_array_equal(brim.compile(network())(X), expected)


def test_check_names_lowering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIM_CHECK", "1")
    right = compiler.lower
    monkeypatch.setattr(compiler, "lower", lambda graph: right(drop_division(graph)))
    with pytest.raises(brim.CompileError, match="lowering changed output 'y'"):
        brim.compile(network())


def layers() -> Graph:
    """Three layers of a file, each a product and a softmax."""
    random = np.random.default_rng(2)
    x = y = placeholder(Type((4, 16), F32), "x")
    for number in range(3):
        with at(f"net.onnx: product{number} (MatMul)"):
            y = math.matmul(y, const(random.standard_normal((16, 16)).astype(np.float32)))
        with at(f"net.onnx: soft{number} (Softmax)"):
            y = math.softmax(y, axis=1)
    return Graph({"x": x}, {"y": y}, "net")


def without_second_division(graph: Graph) -> Graph:
    def rule(value: Value) -> Value | None:
        mine = value.op and value.op.name == "div" and "soft1" in value.where
        return value.args[0] if mine else None

    return rewrite(graph, rule)


def test_check_names_the_layer_that_a_pass_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIM_CHECK", "1")
    broken = ("careless", without_second_division)
    monkeypatch.setattr(compiler, "PIPELINE", (*compiler.PIPELINE, broken))
    with pytest.raises(brim.CompileError, match="pass 'careless' changed output 'y'") as error:
        brim.compile(layers())
    assert "net, first in 'soft1 (Softmax)'" in error.value.where
    assert "product1 (MatMul)" in error.value.where  # as far as this all agrees


def test_check_names_the_layer_that_lowering_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIM_CHECK", "1")
    right = compiler.lower
    monkeypatch.setattr(compiler, "lower", lambda graph: right(without_second_division(graph)))
    with pytest.raises(brim.CompileError, match="lowering changed output 'y'") as error:
        brim.compile(layers())
    assert "net, first in 'soft1 (Softmax)'" in error.value.where
