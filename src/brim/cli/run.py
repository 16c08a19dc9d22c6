"""`brim run`: one inference from the command line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from brim.cli.console import (
    Inputs,
    Json,
    ModelFile,
    Shapes,
    Signature,
    Threads,
    note,
    progress,
    show_json,
    show_table,
)
from brim.cli.values import parse_inputs, parse_shapes, save_arrays
from brim.figures import duration
from brim.types import Type, as_numbers, type_of

BEGINNING = 5  # values shown of each output


def run(
    model: ModelFile,
    inputs: Inputs = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write each output as DIR/NAME.npy")
    ] = None,
    threads: Threads = None,
    shapes: Shapes = None,
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Run a model once and show its outputs.

    What a model remembers is as before its first run.

    A picture becomes RGB in 0..1 (0..255 for u8 inputs), resized to the input. A network that
    expects other numbers gets them as a .npy file.

    \b
    Examples:
        brim run net.onnx --input image=cat.png
        brim run net.onnx --input ids=1,7,42 --input mask=1,1,1 --json
        brim run net.onnx --input x=random --shape x=1x3x224x224 --output results
    """
    import brim

    fixed = parse_shapes(shapes or [])
    with progress(quiet=as_json) as report:
        loaded = brim.load(
            model, threads=threads, shapes=fixed or None, progress=report, signature=signature
        )
        feeds = parse_inputs(inputs or [], loaded.inputs, fixed, usual=loaded.usual_shapes)
        loaded.compile({name: array.shape for name, array in feeds.items()})
        start = time.perf_counter()
        results = loaded.run(feeds)
        seconds = time.perf_counter() - start
    files = save_arrays(results, output) if output else {}
    if as_json:
        outputs = {name: _document(loaded.outputs[name], x) for name, x in results.items()}
        for name, file in files.items():
            outputs[name] = {"type": outputs[name]["type"], "file": str(file)}
        show_json({"seconds": seconds, "outputs": outputs})
        return
    show_table(
        ("output", "type", "min", "max", "mean", "begins with"),
        [_row(name, loaded.outputs[name], found) for name, found in results.items()],
        right=("min", "max", "mean"),
    )
    for file in files.values():
        note(f"wrote {file}")
    note(f"the first run took {duration(seconds)}; `brim bench` measures")


def _document(type: Type, found: Any) -> dict[str, Any]:
    """An output in full."""
    shown = type_of(found) if type.dtype.kind != "o" else type
    return {"type": str(shown), "data": _plain(found)}


def _plain(found: Any) -> Any:
    """Arrays as lists, and so what a container holds."""
    match found:
        case np.ndarray():
            return as_numbers(found).tolist()
        case list():
            return [_plain(part) for part in found]
        case dict():
            return {str(key): _plain(value) for key, value in found.items()}
    return found


def _row(name: str, type: Type, found: Any) -> tuple[str, ...]:
    if type.dtype.kind == "o":
        return name, str(type), "", "", "", _beginning(found)
    numbers = as_numbers(found)
    begins = "  ".join(_number(value) for value in numbers.ravel()[:BEGINNING])
    if found.size == 0 or found.dtype == object:
        return name, str(type_of(found)), "", "", "", begins
    wide = numbers.astype(np.float64)
    spread = (_number(wide.min()), _number(wide.max()), _number(wide.mean()))
    return name, str(type_of(found)), *spread, begins


def _beginning(found: Any) -> str:
    """What a container holds, in short: its size, the types of its first arrays."""
    match found:
        case np.ndarray():
            return str(type_of(found))
        case list():
            shown = "  ".join(map(_beginning, found[:BEGINNING]))
            return f"{len(found)} parts: {shown}" if found else "no parts"
        case dict():
            pairs = list(found.items())[:BEGINNING]
            return "  ".join(f"{key}: {_beginning(value)}" for key, value in pairs)
    return _number(found) if isinstance(found, (int, float, str)) else "empty"


def _number(value: Any) -> str:
    return str(value) if isinstance(value, str) else f"{value:.5g}"
