"""`brim zoo` and `brim demo`: real models and samples. The only commands that use a network."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from brim.cli.console import Json, Threads, command, output, progress, show_json, show_table, size

zoo_commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Real models and samples that ordinary packages carry.",
)


def list_(as_json: Json = False) -> None:
    """List the models and samples: pinned package, licence, what goes in and out.

    \b
    Examples:
        brim zoo list
        brim zoo list --json
    """
    from brim.tools import zoo

    entries = zoo.list()
    if as_json:
        show_json([asdict(entry) for entry in entries])
        return
    show_table(
        ("name", "kind", "size", "licence", "package", "about"),
        [
            (
                entry.name,
                entry.kind,
                size(entry.bytes),
                entry.licence,
                entry.requirement,
                entry.about,
            )
            for entry in entries
        ],
        right=("size",),
    )


def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="as `brim zoo list` names it")],
    output_directory: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="default: the cache's zoo folder")
    ] = None,
    as_json: Json = False,
) -> None:
    """Get a model or sample and print its path.

    Your own pip or npm downloads the pinned package; brim reads one file out of it, runs nothing
    of it, and checks its SHA-256. What is there already is not downloaded again.

    \b
    Examples:
        brim zoo get silero-vad
        brim info "$(brim zoo get ppocr-detect)"
    """
    from brim.tools import zoo

    with progress(quiet=as_json) as report:
        path = zoo.get(name, output_directory, report)
    if as_json:
        show_json({"name": name, "path": str(path)})
    else:
        output().print(str(path), soft_wrap=True)


command(zoo_commands)(list_)
command(zoo_commands)(get)


def demo(
    output_directory: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="where the annotated picture goes")
    ] = Path("."),
    threads: Threads = None,
) -> None:
    """Read a photo of a page with real networks, compiled here and now.

    Gets PP-OCR and the photo from the zoo, prints the lines that it reads, writes the annotated
    picture, and shows what compiling and running each network took.

    \b
    Examples:
        brim demo
        brim demo --threads 2 --output results
    """
    from brim import settings
    from brim.tools.demo import run_demo

    run_demo(output_directory, settings.get("threads") if threads is None else threads)
