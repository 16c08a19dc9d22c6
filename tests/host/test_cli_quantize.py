"""`brim quantize` on a real, small network: what it writes, what it refuses, what it leaves."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper

import brim
from brim.cli import main
from brim.compress import pipeline as compression
from brim.compress.measure import Speed
from brim.errors import BrimError
from brim.tools import quantize as files
from tests.interrupts import interrupted

Captured = pytest.CaptureFixture[str]
SHAPE = (1, 3, 16, 16)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x: f32[1,3,16,16] -> two convolutions with ReLU, the mean of each channel, ten scores y."""
    random = np.random.default_rng(0)
    arrays = {
        "w1": random.standard_normal((16, 3, 3, 3)) * 0.3,
        "b1": random.standard_normal(16) * 0.1,
        "w2": random.standard_normal((24, 16, 3, 3)) * 0.15,
        "w3": random.standard_normal((24, 10)) * 0.3,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "first", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "second", strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "w3"], ["y"], "scores"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()],
    )
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.fixture(scope="module")
def data(net: Path) -> Path:
    """Forty samples, labelled with what the float network makes of them."""
    x = np.random.default_rng(1).uniform(0, 1, (40, *SHAPE[1:])).astype(np.float32)
    model = brim.load(net)
    labels = [int(model(sample[None]).argmax()) for sample in x]
    np.savez(net.parent / "labelled.npz", x=x, labels=np.array(labels))
    np.savez(net.parent / "plain.npz", x=x)
    return net.parent / "plain.npz"


@pytest.fixture(autouse=True)
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speed is measured shortly, and whatever it was, the compressed model takes half of it: the
    machine that runs a test may be busy."""
    real = compression.compare_speed

    def halved(*args: object, **named: object) -> Speed:
        found = real(*args, **{**named, "seconds": 0.05})  # type: ignore[arg-type]
        return replace(found, ratio=0.5, low=0.4, high=0.6)

    monkeypatch.setattr(compression, "compare_speed", halved)


def test_it_writes_an_artifact_that_computes_the_same(
    net: Path, data: Path, tmp_path: Path, capsys: Captured
) -> None:
    small, page = tmp_path / "small.brim", tmp_path / "page.html"
    line = ["quantize", str(net), str(small), "--data", str(data), "--report", str(page)]
    assert main([*line, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == {"accepted": True, "reasons": [], "blame": []}
    assert report["destination"] == str(small)
    assert report["sizes"]["after"] == small.stat().st_size
    assert report["accuracy"]["name"] == "relative squared error of y"
    assert {layer["name"]: layer["form"] for layer in report["layers"]} == {
        "first": "int8", "second": "int8", "scores": "int8",
    }  # fmt: skip
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")

    x = np.load(data)["x"]
    float_model, int_model = brim.load(net), brim.load(small)
    wanted = np.concatenate([float_model(sample[None]) for sample in x])
    got = np.concatenate([int_model(sample[None]) for sample in x])
    error = np.square(got - wanted).sum() / np.square(wanted).sum()
    assert 0 < error < 0.01
    assert error == pytest.approx(report["accuracy"]["after"], rel=0.5)

    assert main(line) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("net.onnx: accepted\n  size  ")
    assert f"wrote {small}" in shown.err


def test_labels_are_found_and_judged_by(
    net: Path, data: Path, tmp_path: Path, capsys: Captured
) -> None:
    labelled = data.with_name("labelled.npz")
    line = ["quantize", str(net), str(tmp_path / "small.brim"), "--data", str(labelled), "--json"]
    assert main([*line, "--max-loss", "0.2"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"]
    assert accuracy["name"] == "top-1 accuracy"
    assert accuracy["before"] == 1.0


def test_what_misses_the_contract_is_not_written_unless_forced(
    net: Path, data: Path, tmp_path: Path, capsys: Captured
) -> None:
    page, small = tmp_path / "page.html", tmp_path / "small.brim"
    line = ["quantize", str(net), str(small), "--data", str(data), "--max-loss", "1e-9"]
    assert main([*line, "--report", str(page)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "is allowed" in shown.err and "to blame are" in shown.err and "dB" in shown.err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["page.html"]
    assert ">refused</span>" in page.read_text(encoding="utf-8")

    assert main([*line, "--force"]) == 0
    assert capsys.readouterr().out.startswith("net.onnx: refused\n")
    assert brim.load(small)(np.zeros(SHAPE, np.float32)).shape == (1, 10)


def test_slower_than_float_is_not_written(
    net: Path, data: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Speed(1e-3, 2e-3, 2.0, 1.9, 2.1, 9, 1, "")
    monkeypatch.setattr(compression, "compare_speed", lambda *args, **named: slow)
    assert main(["quantize", str(net), str(tmp_path / "s.brim"), "--data", str(data)]) == 1
    assert "it takes 2.00 times as long as in float" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_options_are_steps_of_a_recipe(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('[[step]]\nkind = "prune"\n\n[[step]]\nkind = "int8"\nkeep = ["first"]\n')
    given: list[str] = []

    def noted(*arguments: Any, **named: Any) -> None:
        given.append(arguments[3].to_toml())
        raise BrimError("enough")

    monkeypatch.setattr(files, "quantize_file", noted)
    for options, recipe in (
        ([], '[[step]]\nkind = "int8"\n'),
        (["--recipe", str(file)], file.read_text()),
        (["--keep", "first", "--keep", "s*"], '[[step]]\nkind = "int8"\nkeep = ["first", "s*"]\n'),
        (["--effort", "high"], '[[step]]\nkind = "int8"\neffort = "high"\n'),
        (["--weights", "4"], '[[step]]\nkind = "weights"\n'),
        (["--weights", "8"], '[[step]]\nkind = "weights"\nbits = 8\n'),
    ):
        assert main(["quantize", "net.onnx", "s.brim", "--data", "d", "--json", *options]) == 1
        assert json.loads(capsys.readouterr().out)["what"] == "enough"
        assert given.pop() == recipe


def test_layers_are_kept_by_name(net: Path, data: Path, tmp_path: Path, capsys: Captured) -> None:
    line = ["quantize", str(net), str(tmp_path / "s.brim"), "--data", str(data), "--json"]
    assert main([*line, "--keep", "first", "--keep", "sc*"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [layer["form"] for layer in report["layers"]] == ["float", "int8", "float"]


def test_steps_without_integers_are_reported_on(
    net: Path, data: Path, tmp_path: Path, capsys: Captured
) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('[[step]]\nkind = "prune"\nsparsity = 0.3\n')
    line = ["quantize", str(net), str(tmp_path / "s.brim"), "--data", str(data), "--json"]
    assert main([*line, "--recipe", str(file), "--force"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in report["layers"]] == ["first", "second", "scores"]
    assert {layer["form"] for layer in report["layers"]} == {"float"}
    assert [stage["step"] for stage in report["stages"]] == ["", "prune sparsity=0.3"]
    assert report["stages"][1]["loss"] == report["accuracy"]["difference"] > 0


def test_pictures_are_data(net: Path, tmp_path: Path, capsys: Captured) -> None:
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(2)
    for i in range(20):
        pixels = random.integers(0, 256, (20, 20, 3)).astype(np.uint8)
        image.fromarray(pixels).save(folder / f"{i}.png")
    line = ["quantize", str(net), str(tmp_path / "s.brim"), "--data", str(folder), "--json"]
    assert main([*line, "--mean", "0.5", "--std", "0.25,0.25,0.25"]) == 0
    report = json.loads(capsys.readouterr().out)
    first = report["layers"][0]["activations"]
    assert first["low"] < -1.5 and first["high"] > 1.5
    assert main([*line, "--samples", "8"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"]["samples"] == 8


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupt_leaves_nothing(net: Path, data: Path, tmp_path: Path) -> None:
    line = ["quantize", str(net), "small.brim", "--data", str(data), "--report", "page.html"]
    # at the last moment before something is written
    ended = interrupted(line, "brim.compress.pipeline", "compare_speed", tmp_path)
    assert ended == (130, "")
    assert list(tmp_path.iterdir()) == []
