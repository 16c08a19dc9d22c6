"""Builds the documentation site: `python docs/site/build.py FOLDER`, without any network.

The pages are those of docs/, which stay plain Markdown that can be read where it lies. What is
added: the navigation, which follows from the links of index.md and of each folder's README.md; the
reference, from docstrings; the tour, a page with what its cells print; and the files of the
repository that pages link. Sphinx, with MyST for Markdown and the theme furo, makes HTML of it.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from commands import command_list, command_pages

import brim.tools

HERE = Path(__file__).parent
DOCS, ROOT = HERE.parent, HERE.parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")
FENCES = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)
# What users begin with, and files that they import from; all other rooms follow by themselves.
FIRST = ("brim", "brim.vision", "brim.compress", "brim.train", "brim.zoo")
FILES = (
    "brim.graph",
    "brim.types",
    "brim.text",
    "brim.passes.autodiff",
    "brim.pictures",
    "brim.vision.videos",
    "brim.runtime.artifact",
)
REFERENCE_HEAD = "# Python\n\nAll that can be imported, as its docstrings tell.\n"
API_HEAD = "## Reference\n\n"
API = (
    "- [Commands](commands/README.md): all that can be typed, as `--help` and the man pages tell\n"
    "- [Python](reference/README.md): all that can be imported, from its docstrings\n"
)
MEMBERS = "   :members:\n   :inherited-members: tuple, object, BaseException, dict"
ELSEWHERE = {"bench/README.md": "bench.md", "CHANGELOG.md": "changes.md", "docs/tour.py": "tour.md"}


def main(arguments: list[str]) -> int:
    """Writes the site into a folder and gives Sphinx's exit code: 1 where a page has a fault."""
    (folder,) = arguments
    with tempfile.TemporaryDirectory() as scratch:
        write_sources(Path(scratch))
        command = ["-b", "html", "-c", HERE, "-d", f"{scratch}/.doctrees", "-q", "-W"]
        options = ["--keep-going", "-E"]
        run = [sys.executable, "-m", "sphinx", *command, *options, scratch, folder]
        return subprocess.run(
            list(map(str, run)), env={**os.environ, "LC_ALL": "C.UTF-8"}
        ).returncode


def write_sources(folder: Path) -> None:
    """Writes all that Sphinx reads into a folder."""
    shutil.copytree(DOCS / "pictures", folder / "pictures")
    pages = {path.relative_to(DOCS).as_posix(): path.read_text() for path in DOCS.rglob("*.md")}
    places = {name: f"docs/{name}" for name in pages}
    for source, name in ELSEWHERE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        pages[name], places[name] = tour(text) if source.endswith(".py") else text, source
    linked: dict[str, str] = {}
    pages = {name: relinked(text, name, places, linked) for name, text in pages.items()}
    for source, name in linked.items():
        pages[name] = file_page(source)
    pages |= dict(reference())
    pages |= {f"commands/{name}.md": text for name, text in command_pages().items()}
    pages["commands/README.md"] = command_list()
    pages["index.md"] = pages["index.md"].replace(API_HEAD, API_HEAD + API)
    for name in [*pages]:
        if name == "index.md" or name.endswith("/README.md"):
            pages[name] += navigation(name, pages)
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def relinked(text: str, name: str, places: dict[str, str], linked: dict[str, str]) -> str:
    """A page with links to files of the repository led to the site's pages of them.

    places: page -> its file in the repository. linked: gets the files that become pages.
    """
    names = {place: page for page, place in places.items()}

    def lead(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        here = Path(places[name]).parent
        place = Path(os.path.normpath(here / target)).as_posix()
        if not (ROOT / place).is_file():
            raise SystemExit(f"{places[name]}: there is no {target}")
        if place in names:
            page = names[place]
        elif place == "README.md":
            page = "index.md"
        else:
            page = linked[place] = f"files/{place}.md"
        return f"[{words}]({os.path.relpath(page, Path(name).parent)}{anchor})"

    parts = FENCES.split(text)
    parts[::2] = [LINK.sub(lead, part) for part in parts[::2]]
    return "".join(parts)


def file_page(source: str) -> str:
    """A file of the repository as a page."""
    text = (ROOT / source).read_text(encoding="utf-8")
    language = {".py": "python", ".toml": "toml"}.get(Path(source).suffix, "text")
    return f"---\norphan: true\n---\n\n# {source}\n\n~~~~{language}\n{text}\n~~~~\n"


def navigation(name: str, pages: dict[str, str]) -> str:
    """The table of contents of a page that lists others: those it links, in their order, and all
    others of its folder. On the front page each section is a part of its own."""
    folder, text = Path(name).parent, pages[name]
    if name == "index.md":
        parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
        sections = zip(parts[1::2], (LINK.findall(part) for part in parts[2::2]))
        return "".join(
            toctree([f"{words} <{target}>" for words, target, _ in links], f":caption: {title}\n")
            for title, links in sections
        )
    rest = [os.path.relpath(page, folder) for page in pages if Path(page).parent == folder]
    links = [target for _, target, _ in LINK.findall(text) if target in rest]
    return toctree([page for page in dict.fromkeys([*links, *sorted(rest)]) if page != "README.md"])


def toctree(entries: list[str], options: str = "") -> str:
    """Sphinx's directive."""
    listed = "\n".join(entries)
    return f"\n```{{toctree}}\n:hidden:\n:titlesonly:\n{options}\n{listed}\n```\n"


def tour(text: str) -> str:
    """The tour as a page: its cells, and what each prints."""
    session: dict[str, Any] = {"__name__": "tour"}
    parts = ["# The tour\n"]
    for cell in re.split(r"^# %%", text, flags=re.MULTILINE):
        head, _, body = cell.partition("\n")
        if "[markdown]" in head:
            parts.append(re.sub(r"^# ?", "", body, flags=re.MULTILINE).strip() + "\n")
        elif body.strip():
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(body, "tour.py", "exec"), session)
            shown = re.sub(r"\n{3,}", "\n\n", body.strip())
            parts.append(f"```python\n{shown}\n```\n")
            if printed.getvalue().strip():
                parts.append(f"```text\n{printed.getvalue().strip()}\n```\n")
    return "\n".join(parts)


def reference() -> Iterator[tuple[str, str]]:
    """The pages of the reference, one for each room or file, and one that lists them."""
    parts = [REFERENCE_HEAD]
    for title, names in sections().items():
        parts.append(f"\n## {title}\n\n")
        for name in names:
            module = import_module(name)
            if page := module_page(module):
                yield f"reference/{name}.md", page
                about = " ".join((module.__doc__ or "").split("\n\n")[0].split())
                parts.append(f"- [`{name}`]({name}.md): {about}\n")
    yield "reference/README.md", "".join(parts)


def sections() -> dict[str, list[str]]:
    """The modules that the reference is about, by section: rooms, if they say what is public."""
    rooms = [f"brim.{found.name}" for found in iter_modules(brim.__path__) if found.ispkg]
    rooms = [name for name in rooms if hasattr(import_module(name), "__all__")]
    return {
        "What most programs need": [*FIRST],
        "What others are made of": [*FILES, *(name for name in rooms if name not in FIRST)],
        "What the commands call": [
            f"brim.tools.{f.name}" for f in iter_modules(brim.tools.__path__)
        ],
    }


def public(module: ModuleType) -> dict[str, Any]:
    """What a module offers: what __all__ says, else the functions and classes it defines."""
    if hasattr(module, "__all__"):
        return {name: getattr(module, name) for name in module.__all__}
    return {
        name: thing
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__
    }


def module_page(module: ModuleType) -> str:
    """The page of one module; empty if it offers neither functions nor classes."""
    groups: dict[str, list[str]] = {"Functions": [], "Classes": [], "Errors": []}
    for name, thing in public(module).items():
        if inspect.isfunction(thing):
            groups["Functions"].append(f".. autofunction:: {name}")
        elif inspect.isclass(thing):
            group = "Errors" if issubclass(thing, BaseException) else "Classes"
            groups[group].append(f".. autoclass:: {name}\n{MEMBERS}")
    if not any(groups.values()):
        return ""
    name = module.__name__
    parts = [f"# {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n"]
    for title, directives in groups.items():
        if directives:
            body = "\n\n".join([f".. currentmodule:: {name}", *directives])
            parts.append(f"\n## {title}\n\n```{{eval-rst}}\n{body}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
