"""`brim compare`: where two models, or two ways to compute one, part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brim.cli.console import (
    Inputs,
    Json,
    Open,
    Shapes,
    Signature,
    note,
    open_page,
    output,
    progress,
    show_json,
    show_table,
)
from brim.cli.values import parse_inputs, parse_shapes
from brim.errors import InputError
from brim.figures import decibel, printable
from brim.where import split_name

if TYPE_CHECKING:
    from brim.divergence import Compared
    from brim.tools.compare import Comparison

SHOWN = 10  # layers, unless all are asked for
NAMED = 4  # layers in a line
FIGURES = ("difference", "SQNR", "furthest off")


def compare(
    left: Annotated[str, typer.Argument(metavar="A", help="a model file, or FILE@HOW: see below")],
    right: Annotated[
        str, typer.Argument(metavar="B", help="what is taken for right: the same, or only @HOW")
    ],
    inputs: Inputs = None,
    shapes: Shapes = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, metavar="SHARE", help="of the largest value, by which an output may be off"
        ),
    ] = 1e-4,
    all_layers: Annotated[
        bool, typer.Option("--layers", help="show every layer, not the worst ones only")
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PAGE.html", help="write a page with plots"),
    ] = None,
    browse: Open = False,
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Find the layer in which two models, or two runs, part.

    Both run on the same inputs: those given, seeded random ones for the rest. Values inside are
    matched by the names of the source file's layers. The exit code is 1 if outputs differ.

    \b
    HOW a file is computed; without it, as brim compiles it here:
        onnxruntime, litert    the runtime that the format comes from
        interpreter, f64       operator by operator in numpy; the same in double precision
        exact                  compiled, without variants that round differently
        x86-64-v2, ...         compiled for that processor
        layout, 03_layout, ... interpreted, as it is after a pass (names as BRIM_DUMP has them)

    \b
    Examples:
        brim compare net.onnx @onnxruntime
        brim compare small.brim net.onnx --input x=cat.png --tolerance 0.05 -o page.html --open
        brim compare old.onnx new.onnx --layers
        brim compare net.onnx@03_layout @import
    """
    from brim.files import write_text
    from brim.tools.compare import compare as compared
    from brim.tools.compare import comparison_page
    from brim.tools.destinations import check_folders

    if browse and page is None:
        raise InputError("there is no page to open", hint="say where it goes: --output page.html")
    if page is not None:
        check_folders(page)
    fixed = parse_shapes(shapes or [])
    with progress(quiet=as_json) as report:
        found = compared(
            left,
            right,
            lambda types, usual: parse_inputs(inputs or [], types, fixed, fill=True, usual=usual),
            tolerance=tolerance,
            signature=signature,
            progress=report,
        )
    if page is not None:
        write_text(page, comparison_page(found))
    if as_json:
        show_json({"agrees": found.agrees, **asdict(found)})
    else:
        _show(found, all_layers)
    if page is not None:
        note(f"wrote {page}")
    if browse and page is not None:
        open_page(page)
    if not found.agrees:
        raise typer.Exit(1)


def _show(found: Comparison, all_layers: bool) -> None:
    _outputs(found.outputs)
    first = found.first
    if first is not None:
        output().print(f"They part in {_short(first.layer)}", style="bold red")
        for text, layers in (
            ("all that it is computed of agrees", first.after),
            ("or in what could not be compared before it", first.between),
        ):
            if layers:
                output().print(f"  {text}: {_some(layers)}", soft_wrap=True)
    for text in found.notes:
        output().print(printable(text), soft_wrap=True)
    wrong = [each for each in found.layers if not each.agrees and not each.heals]
    shown = found.layers if all_layers else wrong[:SHOWN]
    if shown:
        _layers(shown)
    if len(wrong) > SHOWN and not all_layers:
        output().print(f"... {len(wrong) - SHOWN} more layers differ; --layers shows all")
    output().print(_summary(found, len(wrong)), soft_wrap=True)
    for name, layers in ((found.right, found.right_only), (found.left, found.left_only)):
        if layers:
            told = f"{len(layers)} not compared, as only {name} has a value of them"
            output().print(f"{printable(told)}: {_some(layers)}", soft_wrap=True)


def _outputs(rows: Sequence[Compared]) -> None:
    cells = [(printable(each.layer), " / ".join(dict.fromkeys(each.types)), *_figures(each))
             for each in rows]  # fmt: skip
    show_table(("output", "type", *FIGURES), cells, right=FIGURES[:2])


def _layers(rows: Sequence[Compared]) -> None:
    cells = [(_short(each.layer), *_figures(each), _told(each)) for each in rows]
    show_table(("layer", *FIGURES, ""), cells, right=FIGURES[:2])


def _figures(each: Compared) -> tuple[str, str, str]:
    apart = each.apart
    furthest = ""
    if apart.at is not None and apart.largest > 0:
        place = ",".join(map(str, apart.at))
        furthest = f"{apart.got:.7g} not {apart.want:.7g} at [{place}]"
    return f"{apart.largest:.1e}", decibel(apart.sqnr), furthest


def _told(each: Compared) -> str:
    codes = "codes" if "codes" in each.how else ""
    verdict = "" if each.agrees else "heals" if each.heals else "differs"
    return " ".join(filter(None, (codes, verdict)))


def _short(layer: str) -> str:
    """A layer's name as it fits into a line: TFLite's converter joins those of all that it fused
    by semicolons."""
    node, op = split_name(layer)
    name, *others = node.split(";")
    more = f" +{len(others)}" if others else ""
    return printable(f"{name}{more}" + (f" ({op})" if op else ""))


def _summary(found: Comparison, wrong: int) -> str:
    if not found.layers:
        return "no layer could be compared"
    compared = f"{len(found.layers)} layers compared"
    healed = [each for each in found.layers if each.heals]
    others = [each for each in found.layers if not each.heals]
    told = f"{compared}, {wrong or 'none'} beyond {found.tolerance:g}"
    if all(each.apart.largest == 0 for each in others):
        told = f"{compared}, all equal"
    elif others:
        worst = max(others, key=lambda each: each.apart.largest)
        told += f"; the largest difference is {worst.apart.largest:.1e}, in {_short(worst.layer)}"
    if healed:
        told += f"\n{len(healed)} more differ, but what is computed of them agrees: "
        told += _some([each.layer for each in healed])
    return told


def _some(layers: Sequence[str]) -> str:
    listed = ", ".join(map(_short, layers[:NAMED]))
    return f"{listed} and {len(layers) - NAMED} more" if layers[NAMED:] else listed
