"""A reduced model as a test: pytest runs the command on it and wants it to succeed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from brim.graph import Graph
from brim.reduce.command import PLACE
from brim.text import print_graph
from brim.types import as_carrier

SPELLED = 64  # elements of an array that a test spells out


def graph_test(graph: Graph, file: Path, command: str, what: str) -> str:
    """The test for a graph; what: one line about it. file: where the graph lies, for those whose
    constants are too large for a text."""
    text, data = print_graph(graph)
    arrays = {name: _expression(as_carrier(array)) for name, array in data.items()}
    if any(not expression for expression in arrays.values()):
        return _by_file(file, command, what)
    lines = ['model = tmp_path / "model.graph"', f'model.write_text("""\\\n{_quoted(text)}""")']
    if arrays:
        lines += ['arrays = model.with_suffix(".npz")', "np.savez(", "    arrays,"]
        lines += [*(f"    {name}={array}," for name, array in arrays.items()), ")"]
    return _test(["import numpy as np"] if arrays else [], lines, command, what)


def onnx_test(model: Any, file: Path, command: str, what: str) -> str:
    """The test for an ONNX model; what: one line about it. file: where the model lies, for those
    whose text would be long, or is not read back as it was."""
    text = _onnx_text(model)
    if not text:
        return _by_file(file, command, what)
    lines = [
        'model = tmp_path / "model.onnx"',
        f'text = """\\\n{_quoted(text)}"""',
        "onnx.save(onnx.parser.parse_model(text), model)",
    ]
    return _test(["import onnx", "import onnx.parser"], lines, command, what)


def _onnx_text(model: Any) -> str:
    """What `onnx.parser` reads as this model; '' where it is long, or read otherwise."""
    from onnx import parser, printer

    if sum(int(np.prod(t.dims)) for t in model.graph.initializer) > SPELLED * 4:
        return ""
    text = printer.to_text(model)
    try:
        again = parser.parse_model(text)
    except parser.ParseError:  # names such as /layers.0/MatMul have no spelling
        return ""
    return text if printer.to_text(again) == text else ""


def _by_file(file: Path, command: str, what: str) -> str:
    return _test([], [f"model = Path(__file__).with_name({json.dumps(file.name)})"], command, what)


def _test(imports: list[str], lines: list[str], command: str, what: str) -> str:
    parts = [part.replace("{", "{{").replace("}", "}}") for part in command.split(PLACE)]
    line = "{model}".join(parts).replace("\\", "\\\\").replace('"', '\\"')
    lines = [*lines, f'assert subprocess.run(f"{line}", shell=True).returncode == 0']
    body = [f"    {line}" for line in lines]
    heads = ["import subprocess", "from pathlib import Path", "", *imports, *[""] * bool(imports)]
    opening = ["", "def test_reduced(tmp_path: Path) -> None:", f'    """{what}"""']
    return "\n".join([*heads, *opening, *body, ""])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"""', '\\"""')


def _expression(array: np.ndarray) -> str:
    """Python that makes this array; '' for one that is too large to be spelled out."""
    if array.dtype == object:
        return ""
    kind = f'"{array.dtype}"'
    flat = array.reshape(-1)
    if flat.size and (flat == flat[0]).all():
        return f"np.full({array.shape}, {flat[0].item()!r}, {kind})"
    if array.size <= SPELLED and np.isfinite(flat).all():
        return f"np.array({array.tolist()!r}, {kind}).reshape({array.shape})"
    return ""
