"""`brim train` on small networks: what it learns and writes, how it goes on, what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("safetensors")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper

import brim
from brim.cli import main
from brim.errors import BrimError
from brim.tools import train as files
from brim.train import SGD, AdamW, Augment, Cosine, Warmup
from brim.types import parse_type

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x: f32[n,3,8,8] -> a convolution, a batch norm and ReLU, the mean of each channel, 4 scores.

    What it has learned is nothing of use here.
    """
    random = np.random.default_rng(0)
    arrays = {
        "body.conv": random.standard_normal((8, 3, 3, 3)) * 0.3,
        "body.scale": 1 + random.standard_normal(8) * 0.1,
        "body.shift": random.standard_normal(8) * 0.1,
        "body.mean": random.standard_normal(8) * 0.1,
        "body.variance": random.uniform(0.5, 1, 8),
        "last.weight": random.standard_normal((8, 4)) * 0.3,
    }
    nodes = [
        helper.make_node("Conv", ["x", "body.conv"], ["c"], "conv", pads=[1] * 4),
        helper.make_node(
            "BatchNormalization",
            ["c", "body.scale", "body.shift", "body.mean", "body.variance"],
            ["b"],
            "norm",
        ),
        helper.make_node("Relu", ["b"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "last.weight"], ["y"], "scores"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()],
    )
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """u8[count,8,8,3] noise that is redder in class 0, greener in class 1, bluer in class 2."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    noise = random.integers(0, 180, (count, 8, 8, 3))
    noise[np.arange(count), :, :, labels] += 60
    return noise.astype(np.uint8), labels


@pytest.fixture(scope="module")
def data(net: Path) -> Path:
    """data.npz, 96 samples; held.npz, 30 others; a folder of pictures with three classes."""
    for name, count, seed in (("data", 96, 1), ("held", 30, 2)):
        pixels, labels = pictures(count, seed)
        x = (pixels / np.float32(255)).transpose(0, 3, 1, 2)
        np.savez(net.parent / f"{name}.npz", x=x, labels=labels)
    image = pytest.importorskip("PIL.Image")
    for i, (pixels, label) in enumerate(zip(*pictures(60, 3))):
        folder = net.parent / "pictures" / ("red", "green", "blue")[label]
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(pixels).save(folder / f"{i}.png")
    return net.parent / "data.npz"


def accuracy(model: Path, held: Path) -> float:
    found, arrays = brim.load(model), np.load(held)
    named = [int(found(sample[None]).argmax()) for sample in arrays["x"]]
    return float((np.array(named) == arrays["labels"]).mean())


def test_it_learns_and_writes_an_artifact(
    net: Path, data: Path, tmp_path: Path, capsys: Captured
) -> None:
    held, out = data.with_name("held.npz"), tmp_path / "tuned.brim"
    line = ["train", str(net), "--data", str(data), "--out", str(out), "--epochs", "12"]
    line += ["--validate", str(held), "--batch", "16", "--rate", "0.05", "--log", str(tmp_path)]
    assert main([*line, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ending"] == "finished" and told["written"] == str(out) and told["steps"] == 72
    last = told["epochs"][-1]
    assert last["number"] == 12 and last["validation"]["samples"] == 30
    found = accuracy(out, held)
    assert found == pytest.approx(last["validation"]["metrics"]["accuracy"])
    assert found > 0.9 > 0.6 > accuracy(net, held)
    assert [file.name[:19] for file in tmp_path.glob("events*")] == ["events.out.tfevents"]

    assert main(line) == 0
    shown = capsys.readouterr()
    assert shown.out.count("epoch ") == 12 and "epoch 12: loss " in shown.out
    assert f"finished; wrote {out}, " in shown.err


def test_a_new_head_for_the_classes_of_a_folder(
    net: Path, data: Path, tmp_path: Path, capsys: Captured
) -> None:
    """All else is frozen, and stays."""
    folder, out = data.with_name("pictures"), tmp_path / "tuned.brim"
    line = ["train", str(net), "--data", str(folder), "--out", str(out), "--epochs", "25"]
    line += ["--head", "auto", "--freeze", "*", "--rate", "0.1", "--batch", "12", "--json"]
    assert main([*line, "--validate", "0.2", "--mean", "0.5", "--std", "0.25"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["classes"] == ["blue", "green", "red"]
    assert told["epochs"][-1]["validation"]["samples"] == 12
    assert told["epochs"][-1]["metrics"]["accuracy"] > 0.9
    model = brim.load(out)
    assert model.outputs["y"] == parse_type("f32[1,3]")
    for file in sorted(folder.glob("red/*"))[:4]:
        pixels = np.asarray(pytest.importorskip("PIL.Image").open(file), np.float32)
        x = ((pixels / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None]
        assert model(np.ascontiguousarray(x)).argmax() == 2


def test_integers_come_out_that_give_what_training_saw(
    net: Path, data: Path, tmp_path: Path, capsys: Captured
) -> None:
    held, out = data.with_name("held.npz"), tmp_path / "tuned.brim"
    line = ["train", str(net), "--data", str(data), "--epochs", "12", "--qat", "--json"]
    line += ["--validate", str(held), "--batch", "16", "--rate", "0.05"]
    assert main([*line, "--out", str(out)]) == 0
    last = json.loads(capsys.readouterr().out)["epochs"][-1]
    assert accuracy(out, held) == pytest.approx(last["validation"]["metrics"]["accuracy"])
    assert accuracy(out, held) > 0.9
    model = brim.load(out)
    model(np.load(held)["x"][:1])
    products = [v for v in model.graph.values() if v.op and v.op.name in ("conv", "contract")]
    assert {arg.dtype.name for v in products for arg in v.args} == {"u8", "i8"}
    assert main([*line, "--out", str(tmp_path / "tuned.onnx")]) == 1
    assert "integers have no place" in capsys.readouterr().out


def test_the_file_itself_and_its_weights_are_written(
    net: Path, data: Path, tmp_path: Path, capsys: Captured
) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    line = ["train", str(net), "--data", str(data), "--epochs", "1", "--threads", "1"]
    for name in ("t.brim", "t.onnx", "t.safetensors"):
        assert main([*line, "--out", str(tmp_path / name)]) == 0
    x = np.load(data)["x"][:1]
    tuned, whole = brim.load(tmp_path / "t.onnx"), brim.load(tmp_path / "t.brim")
    np.testing.assert_allclose(tuned(x), whole(x), rtol=1e-5)
    arrays = safetensors.load_file(tmp_path / "t.safetensors")
    written = {w.name: numpy_helper.to_array(w)
               for w in onnx.load(tmp_path / "t.onnx").graph.initializer}  # fmt: skip
    assert arrays.keys() == written.keys()
    assert all(np.array_equal(arrays[name], written[name]) for name in arrays)

    capsys.readouterr()
    assert main(["info", str(net), "--weights", "--json"]) == 0
    told = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert told.keys() == arrays.keys()
    assert told["body.conv"] == {
        "name": "body.conv", "shape": [8, 3, 3, 3], "learned_by": "gradients"
    }  # fmt: skip
    assert told["body.variance"]["learned_by"] == "statistics"
    assert main(["info", str(net), "--weights"]) == 0
    assert "8x3x3x3" in capsys.readouterr().out


def test_options_become_what_they_name(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    given: list[files.Course] = []

    def noted(*arguments: Any, **named: Any) -> None:
        given.append(arguments[3])
        raise BrimError("enough")

    monkeypatch.setattr(files, "train_file", noted)
    line = ["train", "net.onnx", "--data", "d", "--out", "t.brim", "--epochs", "3"]
    assert main(line) == 1
    assert given.pop() == files.Course(3)
    assert main([*line, "--freeze", "a.*", "--freeze", "b", "--head", "7", "--flip",
                 "--crop", "0.8", "--validate", "0.1", "--optimiser", "sgd"]) == 1  # fmt: skip
    assert given.pop() == files.Course(
        3, freeze=("a.*", "b"), head=7, augment=Augment(True, 0.8), validate=0.1, optimiser="sgd"
    )
    assert main([*line, "--validate", "held.npz"]) == 1
    assert given.pop().validate == Path("held.npz")
    capsys.readouterr()
    for options, said in (
        (["--head", "many"], "no number of classes"),
        (["--optimiser", "adadelta"], "one of sgd, adam, adamw, lion"),
        (["--schedule", "wild"], "there is no schedule 'wild'"),
        (["--loss", "none"], "there is no loss 'none'"),
        (["--mean", "a"], "is not numbers"),
    ):
        assert main([*line, *options]) == 1
        assert said in capsys.readouterr().err


def test_names_become_optimisers_and_schedules() -> None:
    assert files.Course(3, rate=0.5).made_optimiser(90) == AdamW(Cosine(0.5, 90))
    course = files.Course(3, optimiser="sgd", rate=0.5, schedule="constant", decay=0.1, warmup=9)
    assert course.made_optimiser(90) == SGD(Warmup(9, 0.5), momentum=0.9, decay=0.1)


def test_what_is_wrong_is_told_and_nothing_is_written(
    net: Path, data: Path, tmp_path: Path, capsys: Captured
) -> None:
    line = ["train", str(net), "--epochs", "1", "--out", str(tmp_path / "t.brim")]
    for options, said in (
        (["--data", str(tmp_path / "no")], "there is no data"),
        (["--data", str(data), "--validate", "no.npz"], "there is no data at no.npz"),
        (["--data", str(data), "--batch", "97"], "96 samples do not fill a batch of 97"),
        (["--data", str(data), "--freeze", "backbone.*"], "no weight is named 'backbone.*'"),
        (["--data", str(data), "--freeze", "*"], "all weights are frozen"),
        (["--data", str(data), "--head", "auto"], "--head 10"),
        (["--data", str(data), "--head", "2"], "the label 2 is none of the network's 2 classes"),
        (["--data", str(data), "--resume"], "--checkpoints DIR"),
        (["--data", str(data), "--loss", "squared"], "do not fit the loss"),
        (["--data", str(data), "--out", "t.tflite"], "does not end in .brim or .onnx or"),
        (["--data", str(data), "--out", "t.onnx", "--head", "3"], "has no place in the .onnx file"),
        (["--data", str(data), "--rate", "1e30", "--optimiser", "sgd"], "comes from"),
    ):
        assert main([*line, *options]) == 1, options
        assert said in capsys.readouterr().err, options
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_training_goes_on(net: Path, data: Path, tmp_path: Path) -> None:
    """Ctrl-C after some steps: exit code 130, a checkpoint, no artifact; then to the same bits."""
    line = ["train", str(net), "--data", str(data), "--epochs", "3", "--batch", "16"]
    kept = ["--checkpoints", "kept", "--resume", "--threads", "1"]
    code = (
        "import sys\n"
        "from brim.cli import main, train\n"
        "import contextlib, os, signal\n"
        "def hit(stage, done, total):\n"
        "    if (stage, done) == ('epoch 2 of 3', 3):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "train.progress = lambda quiet: contextlib.nullcontext(hit)\n"
        f"sys.exit(main({[*line, *kept, '--out', 'part.brim']!r}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 130, process.stderr
    assert "interrupted after 9 steps: go on with --resume" in process.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    part, whole = tmp_path / "part.brim", tmp_path / "whole.brim"
    where = ["--checkpoints", str(tmp_path / "kept"), "--resume", "--threads", "1"]
    assert main([*line, *where, "--out", str(part)]) == 0
    assert main([*line, "--threads", "1", "--out", str(whole)]) == 0
    x = np.load(data)["x"][:1]
    assert brim.load(part)(x).tobytes() == brim.load(whole)(x).tobytes()
