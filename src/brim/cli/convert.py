"""`brim convert`: a model becomes a .brim artifact, if it computes what its source computes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from brim.cli.completion import names, target_names
from brim.cli.console import (
    MODELS,
    Inputs,
    Json,
    Shapes,
    Signature,
    Threads,
    note,
    progress,
    show_json,
    show_table,
)
from brim.cli.values import parse_inputs, parse_shapes
from brim.figures import size


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="an .onnx, .tflite, .brim or .graph file", autocompletion=MODELS
        ),
    ],
    destination: Annotated[Path, typer.Argument(metavar="DST.brim", help="the artifact")],
    inputs: Inputs = None,
    shapes: Shapes = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="processor to compile for; default: this one",
            autocompletion=names(target_names),
        ),
    ] = None,
    threads: Threads = None,
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Compile a model once, check it, and keep it as one file.

    The artifact is loaded again and compared with the source's own runtime (onnxruntime for ONNX,
    LiteRT for TFLite in floats, where they are installed) or else with brim's interpreter, on the
    inputs given and seeded random ones for the rest. Where they differ by more than 1e-4 nothing
    is written, unless both are equally far from the same model computed in f64.

    \b
    Examples:
        brim convert net.onnx net.brim
        brim convert net.onnx net.brim --shape x=1x3x224x224 --input x=cat.png
        brim convert net.onnx net.brim --target cortex-a76
    """
    from brim.tools.convert import convert_file

    fixed = parse_shapes(shapes or [])
    with progress(quiet=as_json) as report:
        result = convert_file(
            Path(source),
            destination,
            lambda model: parse_inputs(
                inputs or [], model.inputs, fixed, fill=True, usual=model.usual_shapes
            ),
            shapes=fixed or None,
            target=target,
            threads=threads,
            progress=report,
            signature=signature,
        )
    if as_json:
        show_json({**asdict(result), "destination": str(destination)})
        return
    show_table(
        ("output", "largest relative difference"),
        [(name, f"{value:.1e}") for name, value in result.differences.items()],
        right=("largest relative difference",),
    )
    if result.unproven:
        note(f"its native code was not run here, its graph was: {result.unproven}")
    if result.amplified:
        note(
            f"these inputs amplify rounding: {result.reference} and brim are equally far from the "
            "model in f64; better compare on real inputs with --input"
        )
    note(f"equal to {result.reference}; wrote {destination}, {size(result.bytes)}")
