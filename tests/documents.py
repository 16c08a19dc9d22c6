"""Runs the examples of a Markdown document in order: `python tests/documents.py FILE.md`.

What the fences mean:

    python            run in the document's one session; what it prints is compared with a `text`
                      fence that follows
    python NAME.py    (any language and a name with a dot) written to that file in the
                      document's own folder
    console           lines that start with `$ ` are run by the shell there, the others are what
                      they print (both streams); `brim` is that of this tree

In expected output `...` stands for anything. `console measured` and `text measured` are real output
of some machine: any number, with its unit, stands for any other. Other fences are not looked at.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
UNITS = r"(?:[num]?s|[kMGT]?B|GFLOP/s|x)"
NUMBER = re.compile(rf"(?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?: ?{UNITS}\b| ?%)?")
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fence: the words after the backticks, its text, its first line in the document."""

    words: tuple[str, ...]
    text: str
    line: int

    @property
    def language(self) -> str:
        return self.words[0] if self.words else ""


def blocks(document: str) -> list[Block]:
    """The fences of a document."""
    return [
        Block(tuple(found[1].split()), found[2], document.count("\n", 0, found.start(2)) + 1)
        for found in FENCE.finditer(document)
    ]


def fits(expected: str, got: str, measured: bool = False) -> bool:
    """Whether `got` is what `expected` says, up to white space at the ends of lines.

    measured: up to all white space, the lengths of rules, and numbers with their units, too.
    """
    if measured:
        expected, got = unmeasured(expected), unmeasured(got)
    want, got = (
        "\n".join(line.rstrip() for line in text.strip().splitlines()) for text in (expected, got)
    )
    pattern = ".*?".join(re.escape(part) for part in want.split("..."))
    return re.fullmatch(pattern, got, re.DOTALL) is not None


def unmeasured(text: str) -> str:
    """A text without what depends on the machine: a 0 for each number, no widths of columns."""
    lines = (NUMBER.sub("0", re.sub(r"[─━]+", "─", line)) for line in text.splitlines())
    return "\n".join(" ".join(line.split()) for line in lines)


def faults(path: Path) -> Iterator[str]:
    """Runs a document in the current folder; says what does not do what the document says."""
    session: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for block in blocks(path.read_text(encoding="utf-8")):
        where = f"{path.name}:{block.line}"
        match block.words:
            case ("python",):
                try:
                    printed = run_python(block, where, session)
                except Exception:
                    yield f"{where}: {traceback.format_exc()}"
                    return
            case (_, name) if "." in name:
                Path(name).write_text(block.text, encoding="utf-8")
            case ("text", *_):
                if not fits(block.text, printed, "measured" in block.words):
                    yield f"{where}: expected\n{block.text}\nbut it printed\n{printed}"
            case ("console", *_):
                yield from console_faults(block, where)


def run_python(block: Block, where: str, session: dict[str, Any]) -> str:
    """Runs one fence; returns what it printed."""
    stream = io.StringIO()
    code = compile("\n" * (block.line - 1) + block.text, where.partition(":")[0], "exec")
    with contextlib.redirect_stdout(stream):
        exec(code, session)
    return stream.getvalue()


def console_faults(block: Block, where: str) -> Iterator[str]:
    """Runs the commands of one fence."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        run = subprocess.run(
            command, shell=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if not fits(expected, run.stdout, "measured" in block.words):
            yield f"{where}: $ {command}\nexpected\n{expected}\nbut it printed\n{run.stdout}"


def main(path: Path) -> int:
    """Runs a document in a folder of its own; prints the faults and returns how many there are."""
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as commands,
        contextlib.chdir(folder),
    ):
        for name, arguments in (("python", ""), ("brim", "-m brim")):
            command = Path(commands, name)
            command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
            command.chmod(0o755)
        os.environ["PATH"] = os.pathsep.join([commands, os.environ.get("PATH", "")])
        found = list(faults(path))
    print("\n".join(found))
    return len(found)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
    sys.exit(min(main(Path(sys.argv[1]).resolve()), 1))
