"""Pages of the commands, from what `--help` says: Markdown for the site, man pages for terminals.

    python docs/site/commands.py FOLDER     writes brim.1, brim-run.1, ... there

Sphinx makes the man pages of the same Markdown.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

import brim
from brim.cli.app import app
from brim.settings import SETTINGS

HEAD = "# Commands\n\nAll that can be typed, as `--help` and the man pages (`make man`) tell.\n\n"
CONFIGURATION = """
extensions, project, version, release = ["myst_parser"], "brim", {version!r}, {version!r}
myst_enable_extensions, root_doc, man_make_section_directory = ["deflist"], "index", False
smartquotes = False
"""


def command_pages() -> dict[str, str]:
    """Name -> Markdown: `brim` itself, and each command, `brim vision face` as brim-vision-face."""
    return {name: _page(name, command, context) for name, command, context in _all()}


def command_list() -> str:
    """The page that lists them."""
    rows = (
        f"- [{name.replace('-', ' ')}]({name}.md): {text}\n" for name, text in summaries().items()
    )
    return HEAD + "".join(rows)


def summaries() -> dict[str, str]:
    """Name -> the first sentence of a command's help."""
    return {name: _paragraphs(command)[0].rstrip(".") for name, command, _ in _all()}


def _all() -> Iterator[tuple[str, Any, Any]]:
    def walk(name: str, command: Any, parent: Any) -> Iterator[tuple[str, Any, Any]]:
        spoken = name.replace("-", " ")
        context = command.context_class(command, parent=parent, info_name=spoken.split()[-1])
        yield name, command, context
        for each, inner in getattr(command, "commands", {}).items():
            yield from walk(f"{name}-{each}", inner, context)

    yield from walk("brim", get_command(app), None)


def _paragraphs(command: Any) -> list[str]:
    return [part.strip() for part in (command.help or "").split("\n\n")]


def _page(name: str, command: Any, context: Any) -> str:
    first, *rest = _paragraphs(command)
    usage = _plain(" ".join(command.collect_usage_pieces(context)))
    parts = [
        f"# {name.replace('-', ' ')}",
        first,
        "## Synopsis",
        _code(f"{context.command_path} {usage}"),
    ]
    told, blocks = [], []
    for paragraph in rest:
        (blocks if paragraph.startswith("\b") else told).append(paragraph)
    if told:
        parts += ["## Description", *(_escaped(" ".join(p.split())) for p in told)]
    for block in blocks:
        title, _, lines = block.removeprefix("\b").strip().partition("\n")
        parts += [f"## {title.rstrip(':')}", _code(_flush(lines))]
    rows = [param.get_help_record(context) for param in command.get_params(context)]
    options = [(_plain(row[0]), row[1]) for row in rows if row]
    if options:
        parts += ["## Options", _definitions(options)]
    if inner := getattr(command, "commands", {}):
        listed = [
            (f"{name}-{each}".replace("-", " "), c.get_short_help_str(200))
            for each, c in inner.items()
        ]
        parts += ["## Commands", _definitions(listed)]
    if context.parent is None:
        told = [(setting.env, setting.doc) for setting in SETTINGS.values()]
        parts += ["## Environment", _definitions(told)]
    return "\n\n".join(parts) + "\n"


def _plain(usage: str) -> str:
    """Names of arguments without what typer puts around them."""
    return re.sub(r"\{([A-Z.]+)\}", r"\1", re.sub(r" <[a-z ]+>", "", usage))


def _flush(lines: str) -> str:
    """A block without the indentation that its lines have in common."""
    found = lines.split("\n")
    least = min((len(line) - len(line.lstrip()) for line in found if line.strip()), default=0)
    return "\n".join(line[least:].rstrip() for line in found)


def _code(text: str) -> str:
    return f"```text\n{text}\n```"


def _definitions(rows: list[tuple[str, str]]) -> str:
    return "\n\n".join(f"`{term}`\n: {_escaped(' '.join(text.split()))}" for term, text in rows)


def _escaped(text: str) -> str:
    """Plain text as Markdown; what stands between backticks stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"([\\*_<>\[\]{}#|])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def main(arguments: list[str]) -> int:
    """Writes the man pages into a folder and gives Sphinx's exit code."""
    (folder,) = arguments
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        known = summaries()
        for name, text in command_pages().items():
            (root / f"{name}.md").write_text(f"---\norphan: true\n---\n\n{text}", encoding="utf-8")
        (root / "index.md").write_text("# brim\n", encoding="utf-8")
        pages = [(name, name, summary, [], 1) for name, summary in known.items()]
        conf = f"{CONFIGURATION.format(version=brim.__version__)}man_pages = {pages!r}\n"
        (root / "conf.py").write_text(conf, encoding="utf-8")
        run = [
            sys.executable,
            "-m",
            "sphinx",
            "-b",
            "man",
            "-q",
            "-W",
            "-E",
            "-d",
            f"{scratch}/.trees",
        ]
        return subprocess.run([*run, scratch, folder]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
