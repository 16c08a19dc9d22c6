"""The command line on a real, small model: run, convert, explain, bench, info, and Ctrl-C."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper

import brim
from brim.cli import main
from brim.tools import convert
from tests.interrupts import interrupted

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = relu(conv(x) + 1), x: f32[1,3,8,8], and the sum of x times an i64 scalar n."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "b": np.ones(4, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"]),
        helper.make_node("Cast", ["n"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Mul", ["s", "m"], ["total"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "height", 8]),
            helper.make_tensor_value_info("n", TensorProto.INT64, []),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, []),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    onnx.save(model, path)
    return path


ONES = ["--shape", "x=1x3x8x8", "--input", "x=1", "--input", "n=2"]


def test_run_gives_the_outputs_as_json(net: Path, capsys: Captured) -> None:
    assert main(["run", str(net), *ONES, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["outputs"]["total"] == {"type": "f32[]", "data": 2.0 * 3 * 64}
    y = brim.load(net)(np.ones((1, 3, 8, 8), np.float32), np.array(2))[0]
    np.testing.assert_allclose(np.array(found["outputs"]["y"]["data"]), y, rtol=1e-6)


def test_run_writes_files(net: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["run", str(net), *ONES, "--output", str(tmp_path / "out")]) == 0
    assert np.load(tmp_path / "out" / "total.npy") == 384
    assert np.load(tmp_path / "out" / "y.npy").shape == (1, 4, 8, 8)
    assert "total" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "no value for inputs x: f32[1,3,height,8], n: i64[]"),
        (["--input", "x=random", "--input", "n=1"], "no shape for input x: f32[1,3,height,8]"),
        (["--input", "z=1"], "names no input"),
        (["--shape", "z=1"], "a shape is given for 'z'"),
        (["--input", "x=1", "--input", "n=1"], "takes f32[1,3,height,8], the shape given is of a"),
        (["--shape", "x=1x4x8x8", "--input", "x=1", "--input", "n=1"], ""),
    ],
)
def test_run_says_what_is_wrong(net: Path, capsys: Captured, more: list[str], message: str) -> None:
    assert main(["run", str(net), *more]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err


def test_info(net: Path, capsys: Captured) -> None:
    assert main(["info", str(net), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["inputs"] == {"x": "f32[1,3,height,8]", "n": "i64[]"}
    assert found["outputs"] == {"y": "f32[?]", "total": "f32[]"}
    assert found["operators"] == {"Conv": 1, "Relu": 1, "Cast": 1, "ReduceSum": 1, "Mul": 1}
    assert (found["bytes"], found["weight_bytes"]) == (net.stat().st_size, 4 * (4 * 27 + 4))
    assert main(["info", str(net)]) == 0
    assert "f32[1,3,height,8]" in capsys.readouterr().out


def test_info_names_operators_that_brim_lacks(tmp_path: Path, capsys: Captured) -> None:
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["x"], ["y"], domain="my.ops")],
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "odd.onnx")
    assert main(["info", str(tmp_path / "odd.onnx"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unsupported"] == ["my.ops.Frobnicate"]


def test_explain(net: Path, tmp_path: Path, capsys: Captured) -> None:
    line = ["explain", str(net), "--shape", "x=1x3x8x8"]
    assert main([*line, "--measure", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(kernel["measured"] > 0 for kernel in found["kernels"])
    assert any("contract" in kernel["operators"] for kernel in found["kernels"])
    assert found["target"]["ghz"] > 0
    for kernel in found["kernels"]:
        assert kernel["candidates"][0]["schedule"] == kernel["schedule"]
    (variants,) = found["variants"]
    assert (variants["op"], len(variants["where"])) == ("conv", 1)
    assert {"conv", "conv.winograd_4"} <= {name for name, _ in variants["prices"]}
    assert main(line) == 0
    text = capsys.readouterr().out
    assert "Relu" in text and "of roof" in text
    assert "ways to compute" not in text
    assert main([*line, "--layer", "relu"]) == 0
    text = capsys.readouterr().out
    assert "ways to compute conv" in text and "kernel kernel {" in text and "schedules" in text
    page = tmp_path / "page.html"
    assert main([*line, "-o", str(page)]) == 0
    assert "the roof is" in page.read_text()
    capsys.readouterr()


def test_explain_refuses(net: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["explain", str(net)]) == 1
    assert "--shape x=1x3x224x8" in capsys.readouterr().err
    line = ["explain", str(net), "--shape", "x=1x3x8x8"]
    assert main([*line, "--layer", "nowhere"]) == 1
    assert "no kernel has 'nowhere'" in capsys.readouterr().err
    assert main([*line, "--open"]) == 1
    assert "-o page.html" in capsys.readouterr().err
    assert main([*line, "-o", str(tmp_path / "gone" / "page.html")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_bench(net: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    from brim.tools import bench

    monkeypatch.setattr(bench, "ROUND_SECONDS", 0.01)
    line = ["bench", str(net), "--shape", "x=1x3x8x8", "--vs", "onnxruntime"]
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [engine["engine"] for engine in found["engines"]] == ["brim", "onnxruntime"]
    assert all(0 < e["fastest"] <= e["median"] < e["load"] for e in found["engines"])
    assert found["versus"]["agrees"]
    assert found["versus"]["ratio"] > 0

    monkeypatch.setattr(bench, "TOLERANCE", -1.0)
    assert main(line) == 1
    shown = capsys.readouterr()
    assert "onnxruntime's time" in shown.out
    assert "differ" in shown.err


def test_bench_predicts(net: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    from brim.tools import bench

    monkeypatch.setattr(bench, "ROUND_SECONDS", 0.01)
    line = ["bench", str(net), "--shape", "x=1x3x8x8", "--predict"]
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["prediction"]
    for seconds in ("predicted_seconds", "measured_seconds"):
        every = [kernel[seconds] for kernel in found["kernels"]]
        assert all(each > 0 for each in every)
        assert found[seconds] == pytest.approx(sum(every))
    off = [abs(k["predicted_seconds"] / k["measured_seconds"] - 1) for k in found["kernels"]]
    assert min(off) <= found["median_error"] <= max(off)

    assert main(line) == 0
    assert "the median kernel is off by" in capsys.readouterr().out


def test_bench_sweeps_and_compares_with_times_that_were_kept(
    net: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brim.tools import bench

    monkeypatch.setattr(bench, "ROUND_SECONDS", 0.01)
    before, page = tmp_path / "before.json", tmp_path / "page.html"
    shapes = ["--shape", "x=1x3x8x8,1x3x12x8"]
    line = ["bench", str(net), *shapes, "--save", str(before), "-o", str(page)]
    assert main(line) == 0
    assert "1 thread, x=1x3x12x8" in capsys.readouterr().out
    assert page.read_text().startswith("<!doctype html>")
    saved = json.loads(before.read_text())
    assert [each["shapes"]["x"] for each in saved["settings"]] == [[1, 3, 8, 8], [1, 3, 12, 8]]

    again = ["bench", str(net), "--shape", "x=1x3x8x8", "--compare", str(before)]
    assert main([*again, "--fail-above", "1000"]) == 0
    shown = capsys.readouterr()
    assert "above 1 is slower" in shown.out and "only on one side" in shown.err

    for setting in saved["settings"]:
        setting["rounds_seconds"] = [seconds / 1000 for seconds in setting["rounds_seconds"]]
    before.write_text(json.dumps(saved))
    assert main([*again, "--json", "--fail-above", "2"]) == 1
    shown = capsys.readouterr()
    (change,) = json.loads(shown.out)["since"]["changes"]
    assert change["low"] <= change["ratio"] <= change["high"] and change["ratio"] > 10
    assert "times as long as kept" in shown.err


def test_bench_refuses_unknown_engines(net: Path, capsys: Captured) -> None:
    assert main(["bench", str(net), "--shape", "x=1x3x8x8", "--vs", "abacus"]) == 1
    assert "--vs onnxruntime" in capsys.readouterr().err


def test_bench_passes_on_what_an_engine_says(net: Path, capsys: Captured) -> None:
    assert main(["bench", str(net), "--shape", "x=1x9x8x8"]) == 1
    assert "brim cannot load the model" in capsys.readouterr().err


def test_calibrate_shows_what_it_measured(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from brim.search import calibrate
    from brim.targets.target import Target

    def measured(target: Target, progress: object) -> Target:
        return replace(target, ghz=1.25)

    monkeypatch.setattr(calibrate, "calibrate", measured)
    monkeypatch.setenv("BRIM_CACHE", str(tmp_path))
    assert main(["calibrate"]) == 0
    shown = capsys.readouterr()
    assert "1.25" in shown.out
    assert str(tmp_path) in shown.err
    assert main(["calibrate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ghz"] == 1.25


SHAPE = ["--shape", "x=1x3x8x8"]


def test_convert_makes_an_artifact_that_runs(net: Path, tmp_path: Path, capsys: Captured) -> None:
    artifact = tmp_path / "net.brim"
    assert main(["convert", str(net), str(artifact), *SHAPE, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["differences"]) == {"y", "total"}
    assert max(found["differences"].values()) < 1e-4
    assert found["bytes"] == artifact.stat().st_size
    assert list(tmp_path.iterdir()) == [artifact]
    assert main(["run", str(artifact), *ONES, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"]["total"]["data"] == 384.0


def test_convert_without_onnxruntime_asks_the_interpreter(
    net: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "has_onnxruntime", lambda: False)
    assert main(["convert", str(net), str(tmp_path / "net.brim"), *SHAPE]) == 0
    assert "interpreter" in capsys.readouterr().err


def test_a_conversion_that_differs_is_refused_and_leaves_nothing(
    net: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(path: Path, feeds: object) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        return {"y": np.zeros((1, 4, 8, 8), np.float32), "total": np.zeros((), np.float32)}, []

    monkeypatch.setattr(convert, "has_onnxruntime", lambda: True)
    monkeypatch.setattr(convert, "run_onnxruntime", other)
    (tmp_path / "net.brim").write_bytes(b"what was there before")
    assert main(["convert", str(net), str(tmp_path / "net.brim"), *SHAPE]) == 1
    assert "differ" in capsys.readouterr().err
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"what was there before"]


def test_convert_wants_the_suffix(net: Path, tmp_path: Path) -> None:
    assert main(["convert", str(net), str(tmp_path / "net.onnx"), *SHAPE]) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupted_conversion_leaves_nothing(net: Path, tmp_path: Path) -> None:
    line = ["convert", str(net), "net.brim", *SHAPE]
    assert interrupted(line, "brim.tools.convert", "differences", tmp_path) == (130, "")
    assert list(tmp_path.iterdir()) == []
