"""The command line: exit codes, errors for people and for scripts, help, what is left behind."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("typer")

from typer.main import get_command

from brim import zoo
from brim.cli import main
from brim.cli.app import app
from brim.cli.console import show_json
from brim.errors import BrimError
from brim.figures import duration, operations, size
from brim.tools import describe

GROUPS = ("vision", "zoo", "cache")


def commands() -> list[tuple[str, ...]]:
    top = get_command(app).commands
    return [
        (name, *inner)
        for name in top
        for inner in ([(sub,) for sub in top[name].commands] if name in GROUPS else [()])
    ]


def test_the_commands_are_those_that_were_promised() -> None:
    named = {" ".join(words) for words in commands()}
    alone = {
        "run",
        "convert",
        "quantize",
        "train",
        "info",
        "view",
        "explain",
        "compare",
        "profile",
        "bench",
        "reduce",
        "ops",
        "tune",
        "calibrate",
        "doctor",
        "demo",
    }
    kits = {"face", "pose", "hands", "objects", "segment", "text", "classify"}
    inner = {"zoo list", "zoo show", "zoo get", "cache info", "cache clear"}
    assert named == alone | inner | {f"vision {kit}" for kit in kits}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_explains_and_gives_examples(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    examples = re.findall(rf"^ +brim (?:info \"\$\(brim )?{' '.join(words)}\b", text, re.MULTILINE)
    assert "Examples:" in text
    assert examples


def _examples() -> list[str]:
    """Every line of an examples block, and of the block at the top, as it is typed."""
    texts = [get_command(app).help]
    for words in commands():
        command = get_command(app)
        for word in words:
            command = command.commands[word]
        texts.append(command.help)
    blocks = "\n".join(part for text in texts for part in text.split("\b")[1:])
    blocks = re.sub(r"\n {8}(?= )", " ", blocks)  # lines that go on
    lines = [line.split("  ")[0].strip() for line in (t.strip() for t in blocks.split("\n"))]
    return [line for line in lines if re.match(r"([A-Z_]+=\S+ )*brim ", line)]


@pytest.mark.parametrize("line", _examples())
def test_every_example_is_a_command_line(line: str) -> None:
    """Options and arguments are those that the command has, and of the right types."""
    for part in re.findall(r"\$\((.*?)\)", line):
        _parse(part)
    _parse(re.sub(r"\$\(.*?\)", "FILE", line).partition(" > ")[0])


def _parse(line: str) -> None:
    words = [word for word in shlex.split(line) if not re.fullmatch(r"BRIM_[A-Z]+=\S*", word)]
    assert words[0] == "brim"
    command, rest, context = get_command(app), words[1:], None
    while True:
        context = command.make_context(command.name, list(rest), parent=context)
        if not hasattr(command, "commands"):
            return
        _, command, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )


def test_the_list_of_commands_fits_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], *([name] for name in GROUPS)):
        assert main([*words, "--help"]) == 0
        _, _, listed = capsys.readouterr().out.partition("Commands:")
        assert listed and "..." not in listed


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) in (0, 2)  # typer changed its mind about it
    shown = capsys.readouterr()
    assert "convert" in shown.out + shown.err


@pytest.mark.parametrize(
    "line", ["nonsense", "run", "run a b", "run net.onnx --threads x", "zoo get", "ops --what"]
)
def test_a_wrong_command_line_exits_with_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "--help" in shown.err


@pytest.mark.parametrize(
    "line",
    [
        "run nothing.onnx",
        "convert nothing.onnx out.brim",
        "quantize nothing.onnx out.brim --data .",
        "quantize nothing.onnx out.brim --data nothing",
        "quantize nothing.onnx out.tflite --data .",
        "quantize nothing.onnx away/out.brim --data .",
        "quantize nothing.onnx out.brim --data . --report away/page.html",
        "quantize nothing.onnx out.brim --data . --recipe nothing.toml",
        "quantize nothing.onnx out.brim --data . --recipe a.toml --effort high",
        "quantize nothing.onnx out.brim --data . --weights 5",
        "quantize nothing.onnx out.brim --data . --weights 4 --keep head",
        "quantize nothing.onnx out.brim --data . --effort best",
        "quantize nothing.onnx out.brim --data . --mean dark",
        "info nothing.onnx",
        "explain nothing.onnx",
        "bench nothing.onnx",
        "bench nothing.onnx --threads 1,x",
        "bench nothing.onnx --fail-above 1.1",
        "bench nothing.onnx --compare nothing.json",
        "bench nothing.onnx --open",
        "bench nothing.onnx -o away/page.html",
        "profile nothing.onnx",
        "profile nothing.onnx --open",
        "profile nothing.onnx --trace away/t.json",
        "ops --format caffe",
        "zoo get nothing",
        "zoo show nothing",
        "vision face nothing.jpg",
        "vision text nothing.png 0",
    ],
)
def test_errors_are_one_shape_of_json(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*line.split(), "--json"]) == 1
    error = json.loads(capsys.readouterr().out)
    assert set(error) == {"error", "what", "why", "where", "hint"}
    assert error["error"].endswith("Error")
    assert error["what"]

    assert main(line.split()) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: {error['what'].splitlines()[0]}")
    assert list(tmp_path.iterdir()) == []


def raising(error: BaseException) -> Callable[..., None]:
    def fail(*args: object) -> None:
        raise error

    return fail


def test_errors_say_what_because_at_try(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = BrimError(
        "f32[batch,3] is odd", "first\nsecond", "net.onnx:Conv_1", "pip install '.[x]'"
    )
    monkeypatch.setattr(describe, "describe", raising(error))
    assert main(["info", "net.onnx"]) == 1
    assert capsys.readouterr().err == (
        "error: f32[batch,3] is odd\n  because: first\n    second\n  at: net.onnx:Conv_1\n"
        "  try: pip install '.[x]'\n"
    )


def test_ctrl_c_is_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describe, "describe", raising(KeyboardInterrupt()))
    assert main(["info", "net.onnx"]) == 130
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_errors_of_the_system_name_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = PermissionError(13, "Permission denied", "/root/net.onnx")
    monkeypatch.setattr(describe, "describe", raising(denied))
    assert main(["info", "net.onnx"]) == 1
    assert capsys.readouterr().err == "error: /root/net.onnx: Permission denied\n"


def test_a_bug_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe, "describe", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["info", "net.onnx"])


def test_without_typer_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("brim.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "typer", None)
    assert main(["ops"]) == 1
    assert "pip install 'brim[cli]'" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    brim = importlib.import_module("brim")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"brim {brim.__version__}\n"


def test_ops(capsys: pytest.CaptureFixture[str]) -> None:
    brim = importlib.import_module("brim")
    assert main(["ops", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} == set(brim.OPS)
    assert main(["ops", "--search", "softmax"]) == 0
    text = capsys.readouterr().out
    assert "softmax" in text
    assert "conv" not in text
    assert main(["ops", "--search", "there is no such thing"]) == 1


def test_operators_of_onnx(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "--format", "onnx", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["Conv"]["runs"] == "compiled"
    assert rows["Reshape"]["runs"] == "compiled, or a host step"
    assert rows["Cosh"]["runs"] == "compiled"
    assert rows["NonZero"]["runs"] == "a host step"
    assert rows["ai.onnx.preview.training.Gradient"]["runs"].startswith("not supported: ")
    assert rows["Slice"]["operator sets"][-3:] == [10, 11, 13]
    assert rows["Conv"]["element types"] == ["f32", "f16", "f64", "bf16"]
    assert rows["SequenceAt"]["element types"][-1] == "u64"
    assert main(["ops", "--format", "onnx", "--search", "unpool"]) == 0
    text = capsys.readouterr().out
    assert "MaxUnpool" in text and "Conv" not in text and "1 operators" in text
    assert "f16-f64" in text and "f32" not in text


@pytest.mark.parametrize("line", ["ops --search sofmax", "ops --format onnx --search Sofmax"])
def test_a_search_that_finds_nothing_names_what_is_near(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 1
    shown = capsys.readouterr().err
    assert "no operator has" in shown
    assert "similar: softmax" in shown.lower()


def test_zoo_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == [
        entry.name for entry in zoo.list()
    ]
    assert main(["zoo", "list"]) == 0
    assert all(entry.name in capsys.readouterr().out for entry in zoo.list()[:1])


def test_zoo_cards(capsys: pytest.CaptureFixture[str]) -> None:
    """A card says all that is known of a file; a kit's name shows the cards of all its models."""
    entry = zoo.select("objects-detect")[0]
    assert main(["zoo", "show", entry.name]) == 0
    text = capsys.readouterr().out
    for fact in (entry.about, entry.requirement, entry.licence, entry.inputs, entry.seen):
        assert fact in text
    assert "bytes 184 to 9987912" in text and entry.sha256 in text
    assert main(["zoo", "show", "pose", "--json"]) == 0
    cards = json.loads(capsys.readouterr().out)
    assert [card["name"] for card in cards] == ["pose-detect", "pose-landmarks"]


@pytest.fixture
def full_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with two kernels, one of all else, and files that brim did not make."""
    parts = ("kernels", "models", "digests", "zoo")
    kernels, models, digests, downloads = (tmp_path / name for name in parts)
    for folder in (kernels, models, digests, downloads):
        folder.mkdir()
    for name in ("1" * 64, f"{'1' * 64}.intact"):
        (models / name).write_bytes(b"12345")
    (digests / ("2" * 64)).write_bytes(b"1")
    for name in ("0" * 64, ".new-1-abc", "mine.txt"):
        (kernels / name).write_bytes(b"12345")
    (downloads / zoo.list()[0].file_name).write_bytes(b"123")
    (downloads / "mine.onnx").write_bytes(b"1")
    (tmp_path / "mine.md").write_bytes(b"1")
    monkeypatch.setenv("BRIM_CACHE", str(tmp_path))
    return tmp_path


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.rglob("*") if file.is_file()}


def test_cache_info(full_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "folder": str(full_cache),
        "kernels": {"files": 2, "bytes": 10},
        "models": {"files": 2, "bytes": 10},
        "digests": {"files": 1, "bytes": 1},
        "zoo": {"files": 1, "bytes": 3},
        "tuned": {"files": 0, "bytes": 0},
    }


def test_cache_clear_removes_only_what_brim_made(full_cache: Path) -> None:
    model = zoo.list()[0].file_name
    assert main(["cache", "clear"]) == 0
    assert names(full_cache) == {"mine.txt", "mine.onnx", "mine.md", model}
    assert main(["cache", "clear", "--zoo"]) == 0
    assert names(full_cache) == {"mine.txt", "mine.onnx", "mine.md"}


def test_no_cache(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIM_CACHE", "off")
    assert main(["cache", "clear"]) == 1
    assert "BRIM_CACHE=off" in capsys.readouterr().err


def test_json_has_no_bare_nan(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"y": [1.5, float("nan"), (float("-inf"), float("inf"))]})
    strict = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert strict == {"y": [1.5, "nan", ["-inf", "inf"]]}


def test_figures_for_people() -> None:
    assert [size(n) for n in (0, 999, 1500, 2_500_000, 3 * 10**9)] == [
        "0 B", "999 B", "1.5 kB", "2.5 MB", "3.00 GB",
    ]  # fmt: skip
    assert [operations(n) for n in (0, 999, 4096, 11_471_000_000, 10**16)] == [
        "0 FLOP", "999 FLOP", "4.1 kFLOP", "11.5 GFLOP", "1e+04 TFLOP",
    ]  # fmt: skip
    assert [duration(s) for s in (2.0, 0.0123, 4.56e-5, 7e-8, 0.0)] == [
        "2 s", "12.3 ms", "45.6 us", "70 ns", "0 ns",
    ]  # fmt: skip


def test_a_closed_pipe_is_no_traceback() -> None:
    line = f"{sys.executable} -m brim zoo list --json | head -c 1"
    run = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert run.stdout == "["
    assert "Traceback" not in run.stderr
