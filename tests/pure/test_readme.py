"""The documents that users paste from: their Python runs, their tables match the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from brim.settings import SETTINGS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALL = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.network
@pytest.mark.parametrize("block", BLOCKS, ids=[f"block{i}" for i in range(len(BLOCKS))])
def test_blocks_print_what_their_comments_say(block: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    run = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    expected = re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)
    assert expected
    assert run.stdout.splitlines() == expected


def test_the_readme_has_an_example() -> None:
    assert BLOCKS


def test_links_lead_somewhere() -> None:
    for text, folder in ((README, ROOT), (INSTALL, ROOT / "docs")):
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (folder / target).exists(), target


def test_every_command_of_the_readme_exists() -> None:
    pytest.importorskip("typer")
    from typer.main import get_command

    from brim.cli.app import app

    shown = re.findall(r"^    brim ([a-z, ]+?)(?:  | --| net)", README, re.MULTILINE)
    named = {name.strip() for line in shown for name in line.split(",")}
    assert named == set(get_command(app).commands)


def test_settings_are_documented() -> None:
    for setting in SETTINGS.values():
        assert f"| `{setting.env}` | {setting.doc} |" in INSTALL
