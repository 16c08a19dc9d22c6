"""`brim doctor` as a whole: it compiles and runs, and sees what goes wrong then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import brim
from brim.errors import CompileError
from brim.tools.doctor import compiler_findings, diagnose


def test_this_machine_is_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BRIM_CACHE", str(tmp_path / "cache"))
    found = diagnose()
    assert found.is_well, found.findings
    assert found.cache["kernels"][0] > 0  # the small model was compiled, and kept
    assert found.facts["cache"] == str(tmp_path / "cache")


def test_wrong_numbers_and_errors_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    compile = brim.compile

    class Wrong:
        def __init__(self, model: Any) -> None:
            self.model = model

        def run(self, feeds: Any) -> Any:
            return {name: array + 1 for name, array in self.model.run(feeds).items()}

    monkeypatch.setattr(brim, "compile", lambda graph, threads: Wrong(compile(graph)))
    assert "is wrong on 1 threads" in next(compiler_findings()).what

    def refuse(graph: Any, threads: int) -> Any:
        raise CompileError("no memory may be executed", "by a rule of the system")

    monkeypatch.setattr(brim, "compile", refuse)
    (found,) = compiler_findings()
    assert found.is_problem and "by a rule of the system" in found.what


def test_a_cache_of_others_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    monkeypatch.setenv("BRIM_CACHE", str(tmp_path / "cache"))
    found = diagnose()
    assert not found.is_well
    assert "others may write to the cache directory" in found.findings[0].what
    monkeypatch.setenv("BRIM_CACHE", "off")
    assert diagnose().cache == {}


def test_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("typer")
    from brim.cli import main

    monkeypatch.setenv("BRIM_CACHE", str(tmp_path / "cache"))
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "no problems" in shown and "llvmlite" in shown
    monkeypatch.setenv("BRIM_JOBS", "many")
    assert main(["doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["findings"][0]["is_problem"]
    assert {each["package"]["name"] for each in document["packages"]} >= {"numpy", "onnx"}
