"""What shells offer for words of `brim ...` that are not finished."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("typer")

from brim import zoo
from brim.cli import main
from brim.targets.target import TARGETS

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("net.onnx", "net.tflite", "NET.BRIM", "notes.txt", ".hidden.onnx", "recipe.toml"):
        (tmp_path / name).touch()
    (tmp_path / "nets" / "deep").mkdir(parents=True)
    (tmp_path / "nets" / "deep" / "a.graph").touch()
    (tmp_path / "nets" / "deep" / "b.graph").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    shell: str = "bash",
) -> list[str]:
    """What is offered for the last word of a line."""
    monkeypatch.setenv("_BRIM_COMPLETE", f"complete_{shell}")
    if shell == "bash":
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    else:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    assert main([]) == 0
    shown = capsys.readouterr().out
    if shell == "zsh":
        return [
            part.strip('"') for part in shown.partition("((")[2].rpartition("))")[0].split("\n")
        ]
    return shown.split()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("shell", SHELLS)
def test_model_files_in_every_shell(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = offered("brim info ne", monkeypatch, capsys, shell)
    assert found == ["net.onnx", "net.tflite", "nets/"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("brim info N", ["NET.BRIM"]),
        ("brim info .h", [".hidden.onnx"]),
        ("brim info nets", ["nets/deep/a.graph", "nets/deep/b.graph"]),
        ("brim info nets/deep/b", ["nets/deep/b.graph"]),
        ("brim quantize net.t", ["net.tflite"]),
        ("brim quantize --recipe re", ["recipe.toml"]),
        ("brim quantize --weights ", ["4", "8"]),
        ("brim train --schedule c", ["constant", "cosine"]),
        ("brim ops --format t", ["tflite"]),
        ("brim vis", ["vision"]),
        ("brim vision po", ["pose"]),
        ("brim convert --targ", ["--target"]),
    ],
)
def test_files_folders_and_words(
    line: str,
    wanted: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert offered(line, monkeypatch, capsys) == wanted


def test_names_are_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {entry.name for entry in zoo.list()} | {entry.kit for entry in zoo.list() if entry.kit}
    assert set(offered("brim zoo get ", monkeypatch, capsys)) == names
    assert offered("brim convert --target ", monkeypatch, capsys) == ["host", *TARGETS]


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_for_shells_are_shown(
    shell: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    # typer asks which shell it was started from; so it takes the name of one instead
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    assert main(["--show-completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_BRIM_COMPLETE" in script
    if program := shutil.which(shell):
        (tmp_path / "script").write_text(script)
        assert subprocess.run([program, "-n", tmp_path / "script"]).returncode == 0
