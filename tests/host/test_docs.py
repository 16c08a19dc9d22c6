"""The documents' examples, run as they stand: every fence of Python or of commands in docs/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests import documents

DOCS = documents.ROOT / "docs"
LANGUAGES = {"python", "console"}
# A fence that looks as if it were run, and is not.
MISTAKES = {"", "py", "python3", "pycon", "sh", "shell", "shell-session", "output"}


def with_examples() -> list[ParameterSet]:
    """All pages with examples; those that take models from the zoo need a registry."""
    pages = []
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if LANGUAGES & {block.language for block in documents.blocks(text)}:
            marks = [pytest.mark.network] if "zoo.get(" in text else []
            pages.append(pytest.param(path, id=path.stem, marks=marks))
    return pages


@pytest.mark.parametrize("path", with_examples())
def test_examples_do_what_the_text_says(path: Path) -> None:
    run = subprocess.run(
        [sys.executable, documents.__file__, str(path)], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_what_looks_like_an_example_is_one() -> None:
    for path in DOCS.rglob("*.md"):
        for block in documents.blocks(path.read_text(encoding="utf-8")):
            assert block.language not in MISTAKES, f"{path.name}:{block.line}"


def test_a_wrong_example_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n\n```console\n$ echo a\nb\n```\n"
    )
    run = subprocess.run(
        [sys.executable, documents.__file__, str(page)], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 1
    assert "page.md:6" in run.stdout and "page.md:10" in run.stdout


@pytest.mark.parametrize(
    ("expected", "got", "good"),
    [("a ... c", "a b\nb c", True), ("a", "a \n", True), ("a", "b", False), ("(x)...", "x", False)],
)
def test_dots_stand_for_anything(expected: str, got: str, good: bool) -> None:
    assert documents.fits(expected, got) is good


@pytest.mark.parametrize(
    ("expected", "got", "good"),
    [
        ("conv2d_1  1.5 ms  12 %\n────", "conv2d_1   980 us    9.1 %\n───────", True),
        ("f32[1,4] 3 kernels", "f32[1,4] 12 kernels", True),
        ("conv2d_1  1.5 ms", "conv2d_2  1.5 ms", False),
        ("took 1.5 ms", "took it 1.5 ms", False),
        ("2.4 MB ... 31%", "656.2 kB and 0 B or 7%", True),
    ],
)
def test_measured_numbers_stand_for_any(expected: str, got: str, good: bool) -> None:
    assert documents.fits(expected, got, measured=True) is good
