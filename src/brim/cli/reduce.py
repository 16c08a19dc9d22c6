"""`brim reduce`: a failing model made small, and told as a test."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from brim.cli.console import (
    Json,
    ModelFile,
    Shapes,
    Signature,
    note,
    progress,
    show_json,
)
from brim.cli.values import parse_shapes
from brim.figures import duration


def reduce(
    model: ModelFile,
    fails: Annotated[
        str,
        typer.Option(
            metavar="COMMAND",
            help="a command line that fails on the model: it is run by sh with the path of a "
            "smaller and smaller model in the place of {}, and must go on ending with the same "
            "exit code, which is not 0",
        ),
    ],
    expect: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="what the command must print, too, so that no other failure counts"
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="where the small model goes; default: MODEL.small.onnx, or .small.graph for what "
            "is no ONNX file. A .graph is the model as it was imported, the right form for what "
            "fails behind the front end",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="how long the command may take each time")
    ] = 60.0,
    shapes: Shapes = None,
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Make a failing model small, and print it as a test.

    Nodes are taken away, replaced by inputs, constants and each other, then shapes, element types,
    attributes and constants become simpler, as long as the command goes on failing (delta
    debugging). The command is anything that judges a model: `brim run {} --input random` where
    compiling fails, `BRIM_CHECK=1 brim run {} --input random` where a pass is wrong, `brim compare`
    where numbers are, or a script. Ctrl-C ends the search and keeps the smallest model so far.

    \b
    Examples:
        brim reduce net.onnx --fails "brim run {} --input random"
        brim reduce net.onnx --fails "BRIM_CHECK=1 brim run {} --input random" -o small.graph
        brim reduce net.tflite --fails "python judge.py {}" --expect "NaN" > test_small.py
    """
    from brim.reduce.command import Command
    from brim.tools.reduce import reduce_file

    with progress(quiet=as_json) as report:
        found = reduce_file(
            Path(model),
            Command(fails, timeout),
            output,
            expect,
            parse_shapes(shapes or []),
            signature,
            report,
        )
    if as_json:
        show_json({**asdict(found), "destination": str(found.destination)})
    else:
        sys.stdout.write(found.test)
        before, after = found.nodes
        note(
            f"{before} nodes became {after} in {found.runs} runs of the command, "
            f"{duration(found.seconds)}; wrote {found.destination}"
        )
    if found.interrupted:
        raise KeyboardInterrupt
