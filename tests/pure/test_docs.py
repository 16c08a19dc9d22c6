"""The documents fit the code: generated pages are current, links lead somewhere, names exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from brim.compiler import PIPELINE
from brim.ops import OPS
from brim.settings import SETTINGS
from tests.pure.test_layering import STOREYS

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
# `graph.py`, `kernels/fuse.py`, `docs/tour.py`, `src/brim/ops/`: paths in backquotes.
PATHS = re.compile(r"`((?:[a-z_]+/)*(?:[a-z_]+\.(?:py|md|toml)|[a-z_]+/))`")


def build() -> ModuleType:
    found = importlib.util.spec_from_file_location("build_docs", ROOT / "docs" / "build.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_generated_pages_are_current() -> None:
    for path, text in build().pages().items():
        assert path.read_text(encoding="utf-8") == text, f"run `python docs/build.py`: {path.name}"


def test_stale_pages_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = build()
    install = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    (tmp_path / "install.md").write_text(install.replace("| `BRIM_DUMP`", "| `BRIM_DMP`"))
    compression = (ROOT / "docs" / "compression.md").read_text(encoding="utf-8")
    (tmp_path / "compression.md").write_text(compression.replace("| `int8`", "| `int9`"))
    monkeypatch.setattr(module, "DOCS", tmp_path)
    assert module.main(["--check"]) == 1
    assert module.main([]) == 0
    assert module.main(["--check"]) == 0
    assert (tmp_path / "install.md").read_text() == install
    assert (tmp_path / "compression.md").read_text() == compression


def test_every_operator_and_setting_is_there() -> None:
    operators = (ROOT / "docs" / "ops.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)\(", operators, re.MULTILINE)
    assert sorted(listed) == sorted(OPS)
    settings = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `BRIM_(\w+)`", settings, re.MULTILINE) == [n.upper() for n in SETTINGS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
        assert (page.parent / target).exists(), target
    for name in PATHS.findall(prose):
        roots = (ROOT, ROOT / "src" / "brim", ROOT / "src", ROOT / "docs", page.parent)
        exists = any((root / name).exists() for root in roots)
        assert exists or (name.endswith(".py") and _somewhere(name)), name


def _somewhere(name: str) -> bool:
    """Whether a bare file name such as `fuse.py` is that of one of brim's files."""
    return any((ROOT / "src" / "brim").rglob(name))


def test_every_why_has_a_line_in_the_list() -> None:
    folder = ROOT / "docs" / "why"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    notes = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert re.findall(r"\]\((\d+[^)]*)\)", listed) == notes
    assert [name[:3] for name in notes] == [f"{n:03d}" for n in range(1, len(notes) + 1)]


def test_the_map_is_that_of_the_code() -> None:
    """docs/architecture.md lists the rooms that the layering test enforces, and the passes."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = page.partition("## The rooms\n\n")[2].partition("\n\n")[0]
    drawn = [tuple(line.split()) for line in block.splitlines()]
    assert drawn == [rooms for rooms in STOREYS if rooms not in (("brim",), ("__main__",))]
    words = page.partition("passes/          ")[2].partition("\n")[0]
    drawn_passes = [name.strip() for name in words.split(",")]
    for drawn_pass, (name, _) in zip(drawn_passes, PIPELINE, strict=True):
        assert drawn_pass in name
