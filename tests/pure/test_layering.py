"""The shape of the code: who may import whom, what a file opens with, what it may not be called."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import brim

SOURCE = Path(brim.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# Rooms from the ground up; a file may import its own room and those below it. The longest matching
# name counts. Rooms on one line do not see each other.
STOREYS: tuple[tuple[str, ...], ...] = (
    ("errors", "figures", "where"),
    ("files", "settings", "types"),
    ("containers", "pages", "pictures"),
    ("graph", "seeds", "kernels.ir", "targets.target"),
    ("origins",),
    ("ops", "kernels.dots"),
    ("text", "kernels.parse", "kernels.interpret"),
    ("kernels.text",),
    ("frontends", "passes", "kernels"),
    ("targets",),
    ("runtime",),
    ("debug", "divergence", "objects"),
    ("search",),
    ("compiler",),
    ("sources",),
    ("state",),
    ("model",),
    ("compress", "reduce"),
    ("train",),
    ("brim",),
    ("zoo",),
    ("vision", "view"),
    ("tools",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: level for level, rooms in enumerate(STOREYS) for room in rooms}

# (importing file, imported module): why.
ALLOWED: dict[tuple[str, str], str] = {
    ("graph", "tools.notebook"): "notebooks show it, by tools that see the whole compiler",
    ("model", "tools.notebook"): "notebooks show it, by tools that see the whole compiler",
}

LONG = {"ops.primitive": "one table of primitives, which refer to each other in their gradients"}

# Heavy or optional packages: never imported where `import brim` would reach them.
LAZY = {
    "onnx",
    "onnxruntime",
    "typer",
    "rich",
    "PIL",
    "hypothesis",
    "pytest",
    "torch",
    "re2",
    "supervision",
    "tflite",
    "safetensors",
    "tensorboardX",
    "playwright",
}
NAMES_WITHOUT_MEANING = {"utils", "util", "base", "manager", "helpers", "common", "misc"}


def module_of(path: Path) -> str:
    """`kernels/ir.py` -> `kernels.ir`; the package itself is `brim`."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts) or "brim"


MODULES = {module_of(path) for path in FILES}


def room_of(module: str) -> str:
    """The declared room a module belongs to."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in FLOOR:
            return name
    raise AssertionError(f"{module} belongs to no room: add it to STOREYS")


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module of brim) for every import anywhere in the file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == "brim":
                inner = name.removeprefix("brim").removeprefix(".")
                while inner and inner not in MODULES:
                    inner = inner.rpartition(".")[0]
                yield getattr(node, "lineno", 0), inner or "brim"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_downwards(path: Path) -> None:
    mine = module_of(path)
    here = room_of(mine)
    wrong = []
    for line, module in imports_of(path):
        there = room_of(module)
        below = FLOOR[there] < FLOOR[here]
        if not (below or there == here or (mine, module) in ALLOWED):
            wrong.append(f"{path.name}:{line}: {here} imports {module}")
    assert wrong == []


def test_allowances_are_needed() -> None:
    used = {(module_of(path), module) for path in FILES for _, module in imports_of(path)}
    assert set(ALLOWED) <= used
    assert all(ALLOWED.values())


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_say_what_they_hold(path: Path) -> None:
    doc = ast.get_docstring(ast.parse(path.read_text()))
    assert doc, f"{path.name} opens without a docstring"
    assert len(doc.split()) >= 5
    assert path.stem not in NAMES_WITHOUT_MEANING


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_can_be_held_in_mind(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 650 or module_of(path) in LONG, "look for the second idea in it"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_dangerous_is_used(path: Path) -> None:
    """No pickle, no eval, no shell: models and artifacts are not trusted."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            assert not {"pickle", "marshal", "shelve"} & set(names)
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            called_bare = isinstance(node.func, ast.Name)
            assert not (called_bare and name in ("eval", "exec")), f"line {node.lineno}"
            for keyword in node.keywords:
                truth = getattr(keyword.value, "value", None)
                assert not (keyword.arg in ("shell", "allow_pickle") and truth is True)


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False,
        env={"PYTHONPATH": str(SOURCE.parent), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


@pytest.mark.parametrize("path", [f for f in FILES if "\n__all__" in f.read_text()], ids=module_of)
def test_what_a_room_offers_is_there(path: Path) -> None:
    room = importlib.import_module(f"brim.{module_of(path)}".replace("brim.brim", "brim"))
    assert [name for name in room.__all__ if not hasattr(room, name)] == []
    assert len(set(room.__all__)) == len(room.__all__)


def test_import_is_silent_and_pulls_in_nothing_optional() -> None:
    ran = _python("import sys, brim; print(*{m.partition('.')[0] for m in sys.modules})")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert not LAZY & set(ran.stdout.split())


def test_import_is_fast() -> None:
    """0.3 s on a quiet machine, numpy included; here the best of five and some slack."""
    code = "import time; t = time.perf_counter(); import brim; print(time.perf_counter() - t)"
    assert min(float(_python(code).stdout) for _ in range(5)) < 0.6
