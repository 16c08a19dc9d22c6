"""Man pages: one for each command, with what its help says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer")
pytest.importorskip("sphinx")
pytest.importorskip("myst_parser")

from brim.settings import SETTINGS
from tests.pure.test_cli import GROUPS, commands

SCRIPT = Path(__file__).parents[2] / "docs" / "site" / "commands.py"


def test_every_command_has_a_page(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
    assert run.returncode == 0 and not run.stderr, run.stderr
    names = {"-".join(("brim", *words)) for words in (*commands(), (), *((g,) for g in GROUPS))}
    assert {path.stem for path in tmp_path.glob("*.1")} == names
    for name in names:
        text = (tmp_path / f"{name}.1").read_text()
        assert "{MODEL}" not in text and "[OPTIONS]" in text and ".SH OPTIONS" in text
        assert (".SH COMMANDS" if name[5:] in ("", *GROUPS) else ".SH EXAMPLES") in text
    assert all(setting.env in (tmp_path / "brim.1").read_text() for setting in SETTINGS.values())
