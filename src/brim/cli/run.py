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
    Threads,
    duration,
    note,
    progress,
    show_json,
    show_table,
)
from brim.cli.values import Arrays, parse_inputs, parse_shapes, save_arrays
from brim.types import type_of

BEGINNING = 5  # values shown of each output


def run(
    model: ModelFile,
    inputs: Inputs = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write each output as DIR/NAME.npy")
    ] = None,
    threads: Threads = None,
    shapes: Shapes = None,
    as_json: Json = False,
) -> None:
    """Run a model once and show its outputs.

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
        loaded = brim.load(model, threads=threads, shapes=fixed or None, progress=report)
        feeds = parse_inputs(inputs or [], loaded.inputs, fixed)
        loaded.compile({name: array.shape for name, array in feeds.items()})
        start = time.perf_counter()
        results = loaded.run(feeds)
        seconds = time.perf_counter() - start
    files = save_arrays(results, output) if output else {}
    if as_json:
        show_json({"seconds": seconds, "outputs": _document(results, files)})
        return
    show_table(
        ("output", "type", "min", "max", "mean", "begins with"),
        [_row(name, array) for name, array in results.items()],
        right=("min", "max", "mean"),
    )
    for file in files.values():
        note(f"wrote {file}")
    note(f"the first run took {duration(seconds)}; `brim bench` measures")


def _document(results: Arrays, files: dict[str, Path]) -> dict[str, Any]:
    """Outputs that were written to files are named, others are given in full."""
    return {
        name: {
            "type": str(type_of(array)),
            **({"file": str(files[name])} if name in files else {"data": array.tolist()}),
        }
        for name, array in results.items()
    }


def _row(name: str, array: np.ndarray) -> tuple[str, ...]:
    begins = "  ".join(_number(value) for value in array.ravel()[:BEGINNING])
    if array.size == 0 or array.dtype == object:
        return name, str(type_of(array)), "", "", "", begins
    plain = array.astype(np.float64)
    spread = (_number(plain.min()), _number(plain.max()), _number(plain.mean()))
    return name, str(type_of(array)), *spread, begins


def _number(value: Any) -> str:
    return str(value) if isinstance(value, str) else f"{value:.5g}"
