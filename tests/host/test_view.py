"""`brim view` on this machine: pages, measured kernels, artifacts, errors against another model."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("onnx")

import brim
from brim.cli import main
from brim.tools.view import view
from tests.onnx_models import F32, model, node
from tests.pure.test_view import check

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, np.ndarray], Path]:
    """Writes y = relu(conv(x)) + conv(relu(conv(x))) with these weights for the second one."""

    def written(name: str, second: np.ndarray) -> Path:
        random = np.random.default_rng(0)
        first = random.standard_normal((4, 3, 3, 3)).astype(np.float32)
        nodes = [
            node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
            node("Relu", "c", "r"),
            node("Conv", "r v", "d", pads=[1, 1, 1, 1]),
            node("Add", "r d", "y"),
        ]
        given = {"w": first, "v": second}
        made = model(nodes, [("x", F32, [1, 3, 8, 8])], [("y", F32, [1, 4, 8, 8])], given)
        path = tmp_path / name
        path.write_bytes(made.SerializeToString())
        return path

    return written


SECOND = np.random.default_rng(1).standard_normal((4, 4, 3, 3)).astype(np.float32)


def test_a_page_is_written_and_opened(
    write: Callable[[str, np.ndarray], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: not opened.append(url))
    page = tmp_path / "page.html"
    assert main(["view", str(write("net.onnx", SECOND)), "-o", str(page), "--open"]) == 0
    assert opened == [page.as_uri()]
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_page_is_named_after_the_model(
    write: Callable[[str, np.ndarray], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["view", str(write("net.onnx", SECOND))]) == 0
    assert (tmp_path / "net.html").is_file()


def test_json_is_the_document(
    write: Callable[[str, np.ndarray], Path], tmp_path: Path, capsys: Captured
) -> None:
    path = write("net.onnx", SECOND)
    assert main(["view", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(view(path).plain()))
    assert not list(tmp_path.glob("*.html"))


@pytest.mark.parametrize(
    "wrong", [["--json", "--open"], ["--input", "x=1"], ["-o", "nowhere/page.html"]]
)
def test_what_makes_no_sense_is_refused(
    write: Callable[[str, np.ndarray], Path], wrong: list[str], capsys: Captured
) -> None:
    assert main(["view", str(write("net.onnx", SECOND)), *wrong]) == 1


def test_kernels_are_measured(write: Callable[[str, np.ndarray], Path]) -> None:
    found = view(write("net.onnx", SECOND), measure=True)
    check(found)
    assert [overlay.name for overlay in found.overlays] == ["measured", "predicted"]
    assert all(kernel.measured and kernel.measured > 0 for kernel in found.kernels)
    assert len(found.overlays[0].values) == len(found.kernels)


def test_kernels_are_those_of_the_compiled_model(
    write: Callable[[str, np.ndarray], Path],
) -> None:
    path = write("net.onnx", SECOND)
    rows = brim.load(path).compile().kernels
    kernels = view(path).kernels
    assert [kernel.ops for kernel in kernels] == [row.ops for row in rows]
    assert [kernel.flops for kernel in kernels] == [row.flops for row in rows]


def test_an_artifact_is_shown_from_its_graph_on(
    write: Callable[[str, np.ndarray], Path], tmp_path: Path
) -> None:
    loaded = brim.load(write("net.onnx", SECOND))
    loaded.compile()
    loaded.save(tmp_path / "net.brim")
    found = view(tmp_path / "net.brim")
    check(found)
    assert [stage.name for stage in found.stages] == ["graph", "settle", "kernels"]
    assert {"Conv_c", "Conv_d", "Add_y"} <= set(found.sources)


def test_layers_that_differ_are_told_from_those_that_do_not(
    write: Callable[[str, np.ndarray], Path], capsys: Captured
) -> None:
    """The second convolution's weights are a little off: what is before it stays right."""
    right = write("right.onnx", SECOND)
    wrong = write("wrong.onnx", (SECOND * np.float32(1.01)).astype(np.float32))
    assert main(["view", str(wrong), "--against", str(right), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (errors,) = [each for each in found["overlays"] if each["name"] == "error"]
    named = {found["sources"][number]: value for number, value in errors["values"]}
    assert named["Relu_r"] > 100
    assert named["Conv_d"] == pytest.approx(40, abs=0.5)  # 1 % of noise
    assert 30 < named["Add_y"] < 60
