"""`brim view`: a model's structure as a page, from its file through every pass to the kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from brim.cli.console import (
    Inputs,
    Json,
    ModelFile,
    Open,
    Shapes,
    Signature,
    note,
    open_page,
    progress,
    show_json,
)
from brim.cli.values import parse_inputs, parse_shapes
from brim.figures import size


def view(
    model: ModelFile,
    page: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PAGE.html", help="default: the model's name"),
    ] = None,
    open_: Open = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="time every kernel too, on one thread")
    ] = False,
    against: Annotated[
        str,
        typer.Option(metavar="MODEL", help="colour layers by how far they are from this model's"),
    ] = "",
    inputs: Inputs = None,
    shapes: Shapes = None,
    target: Annotated[
        str, typer.Option(metavar="NAME", help="processor to compile for; default: this one")
    ] = "host",
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Write a page that shows a model, and what becomes of it.

    Operators and what passes between them, in blocks that open with a click; a slider from the file
    through every pass to the kernels; weights with their histograms; search; colours by kind, or by
    the time that kernels take. The page is one file that fetches nothing: it can be sent, and
    opened years later. --json prints what it shows and writes no page.

    --against runs both models on the same inputs, those given and seeded random ones for the rest,
    as `brim compare` does, and colours each layer by its signal to noise ratio: what a quantized
    model loses, and where.

    \b
    Examples:
        brim view net.onnx --open
        brim view net.tflite -o net.html --measure
        brim view net.onnx --shape x=1x3x224x224
        brim view small.brim --against net.onnx --input x=cat.png --open
        brim view net.brim --json
    """
    from brim.errors import InputError
    from brim.files import write_text
    from brim.tools.destinations import check_folders
    from brim.tools.view import view as document_of
    from brim.view import view_page

    source = Path(model)
    destination = page or Path(f"{source.stem}.html")
    if as_json and (page or open_):
        raise InputError("--json writes no page", hint="leave out --json, or -o and --open")
    if inputs and not against:
        raise InputError(
            "there is nothing to run on inputs", hint="--against MODEL compares with it"
        )
    check_folders(destination)
    with progress(quiet=as_json) as bars:
        fixed = parse_shapes(shapes or [])
        errors = _errors(model, against, inputs or [], fixed, signature, bars) if against else None
        document = document_of(source, fixed, signature, target, measure, errors, bars)
    if as_json:
        show_json(document.plain())
        return
    text = view_page(document.plain())
    write_text(destination, text)
    facts = dict(document.facts)
    if "the file alone" in facts:
        note(f"no passes and kernels are shown: {facts['the file alone']}")
    elif "for shapes" in facts:
        note(f"the model leaves shapes open; shown for {facts['for shapes']}")
    note(f"wrote {destination}, {size(len(text.encode()))}")
    if open_:
        open_page(destination)


def _errors(
    model: str,
    against: str,
    inputs: list[str],
    fixed: Mapping[str, tuple[int, ...]],
    signature: str,
    bars: Callable[[str, int, int], None],
) -> dict[str, float]:
    """dB of signal to noise of each layer that both models have; of those that mean something else
    on one side, none."""
    from brim.tools.compare import compare

    found = compare(
        model,
        against,
        lambda types, usual: parse_inputs(inputs, types, fixed, fill=True, usual=usual),
        signature=signature,
        progress=bars,
    )
    if not found.layers:
        note(f"no layer could be compared: {'; '.join(found.notes)}")
    return {each.layer: each.apart.sqnr for each in found.layers if not each.heals}
