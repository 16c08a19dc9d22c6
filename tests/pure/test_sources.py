"""What the cache of models takes into account: every file of brim."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import brim
from brim.sources import states_of

SOURCE = Path(brim.__file__).parent
FILES = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    skipped = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(SOURCE, tmp_path / "brim", ignore=skipped))


def test_every_file_of_brim_counts(copy: Path) -> None:
    assert "frontends/onnx/operators/microsoft/data.py" in FILES
    before = set(states_of(str(copy)))
    for number, name in enumerate(FILES):  # an edit that leaves the size as it was
        os.utime(copy / name, ns=(0, number))
    after = set(states_of(str(copy)))
    assert len(before) == len(after) == len(FILES)
    assert not before & after


def test_new_and_removed_files_count(copy: Path) -> None:
    before = sorted(states_of(str(copy)))
    (copy / "new" / "deeper").mkdir(parents=True)
    assert sorted(states_of(str(copy))) == before
    (copy / "new" / "deeper" / "pass.py").write_text("")
    assert len(states_of(str(copy))) == len(before) + 1
    (copy / "ops" / "nn.py").unlink()
    assert len(states_of(str(copy))) == len(before)
