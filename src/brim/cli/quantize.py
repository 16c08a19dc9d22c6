"""`brim quantize`: a float model becomes a small artifact that keeps its accuracy, or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brim.cli.completion import files, words
from brim.cli.console import Json, Shapes, Signature, Threads, note, output, progress, show_json
from brim.cli.values import parse_numbers, parse_shapes
from brim.errors import InputError
from brim.figures import size

if TYPE_CHECKING:
    from brim.compress.recipe import Recipe


def quantize(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="a float .onnx or .tflite file",
            autocompletion=files(".onnx", ".tflite"),
        ),
    ],
    destination: Annotated[Path, typer.Argument(metavar="DST.brim", help="the artifact")],
    data: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="what the model will see: a folder of pictures, an .npz file of arrays by input "
            "name (and `labels`, if there are any), or an .npy file",
        ),
    ],
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml", help="what is done; default: int8", autocompletion=files(".toml")
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="4|8",
            help="only weights become integers, of so many bits",
            autocompletion=words("4", "8"),
        ),
    ] = None,
    effort: Annotated[
        str | None,
        typer.Option(
            metavar="high",
            help="learn which way to round: slower, closer",
            autocompletion=words("high"),
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="layers that stay in float, such as 'head*'"),
    ] = None,
    max_loss: Annotated[
        float,
        typer.Option(metavar="SHARE", help="what may be lost; 0.01 is a point of accuracy, or 1 %"),
    ] = 0.01,
    samples: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="use at most so many samples of the data")
    ] = None,
    mean: Annotated[
        str, typer.Option(metavar="R,G,B", help="pictures are (0..1 - mean) / std; one number or 3")
    ] = "0",
    std: Annotated[str, typer.Option(metavar="R,G,B", help="see --mean")] = "1",
    page: Annotated[
        Path | None, typer.Option("--report", metavar="PAGE.html", help="the report, with plots")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="write the artifact even if it misses the contract")
    ] = False,
    shapes: Shapes = None,
    threads: Threads = None,
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Make a model smaller and faster, if it keeps its accuracy.

    Part of the data sets the scales, the rest judges: top-1 accuracy where there are labels, else
    the squared error of the outputs, relative to those in float. A model that loses more than
    --max-loss, or is slower than in float, is not written: the exit code is 1, and the message
    names the layers to blame. --report is written in any case.

    \b
    Examples:
        brim quantize net.onnx small.brim --data pictures/
        brim quantize net.onnx small.brim --data pictures/ --mean 0.5 --std 0.25
        brim quantize net.onnx small.brim --data test.npz --effort high --report page.html
        brim quantize bert.onnx small.brim --data ids.npz --weights 4
        brim quantize net.onnx small.brim --data test.npz --recipe recipe.toml --max-loss 0.005
    """
    from brim.tools.quantize import quantize_file

    made = _recipe(recipe, weights, effort, tuple(keep or ()))
    with progress(quiet=as_json) as bars:
        report = quantize_file(
            Path(source),
            destination,
            data,
            made,
            max_loss=max_loss,
            mean=parse_numbers("--mean", mean),
            std=parse_numbers("--std", std),
            samples=samples,
            page=page,
            force=force,
            shapes=parse_shapes(shapes or []) or None,
            threads=threads,
            signature=signature,
            progress=bars,
        )
    if as_json:
        show_json(json.loads(report.to_json()) | {"destination": str(destination)})
        return
    output().print(str(report), end="", soft_wrap=True)
    note(f"wrote {destination}, {size(destination.stat().st_size)}")


def _recipe(
    file: Path | None, weights: str | None, effort: str | None, keep: tuple[str, ...]
) -> Recipe:
    """The recipe in a file, or that of the shortcuts. Raises InputError for both at once."""
    from brim.compress.recipe import Int8, Recipe, Weights, read_recipe

    shortcuts = {"--weights": weights, "--effort": effort, "--keep": keep}
    given = [option for option, value in shortcuts.items() if value]
    if file is not None and given:
        raise InputError(
            f"{given[0]} does not go with --recipe",
            hint=f"say it in {file}: a step has keys for it",
        )
    if file is not None:
        return read_recipe(file)
    if weights is None:
        return Recipe((Int8(effort=effort or "normal", keep=keep),))  # type: ignore[arg-type]
    if len(given) > 1:
        raise InputError(
            f"{given[1]} does not go with --weights", hint="write a recipe: --recipe FILE.toml"
        )
    bits = int(weights) if weights.isdigit() else weights
    return Recipe((Weights(bits=bits),))  # type: ignore[arg-type]
