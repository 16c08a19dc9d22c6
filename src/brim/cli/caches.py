"""`brim cache`: what brim keeps on disk, how much it is, and how to be rid of it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from brim import settings
from brim.cli.console import Json, command, note, show_json, show_table
from brim.errors import InputError
from brim.figures import size
from brim.tools.caches import COMPILED, PARTS, cache_files

cache_commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show and clear what brim keeps on disk.",
)


def info(as_json: Json = False) -> None:
    """Show where the cache is and how much it holds.

    \b
    Examples:
        brim cache info
        brim cache info --json
    """
    folder = _folder()
    held = {part: [file.stat().st_size for file in cache_files(part)] for part in PARTS}
    if as_json:
        parts = {part: {"files": len(sizes), "bytes": sum(sizes)} for part, sizes in held.items()}
        show_json({"folder": str(folder), **parts})
        return
    rows = [(part, str(len(sizes)), size(sum(sizes))) for part, sizes in held.items()]
    show_table(("part", "files", "size"), rows, right=("files", "size"), title=str(folder))


def clear(
    zoo: Annotated[
        bool, typer.Option("--zoo", help="the downloaded models and samples too")
    ] = False,
    tuned: Annotated[bool, typer.Option("--tuned", help="the measured times too")] = False,
    as_json: Json = False,
) -> None:
    """Remove what was compiled; it is made again when it is needed.

    \b
    Examples:
        brim cache clear
        brim cache clear --zoo --tuned
    """
    folder = _folder()
    count = freed = 0
    parts = (*COMPILED, *(["zoo"] * zoo), *(["tuned"] * tuned))
    for file in [file for part in parts for file in cache_files(part)]:
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            bytes_ = file.stat().st_size
            file.unlink()
            count, freed = count + 1, freed + bytes_
    if as_json:
        show_json({"folder": str(folder), "files": count, "bytes": freed})
    else:
        note(f"removed {count} files, {size(freed)}, from {folder}")


command(cache_commands)(info)
command(cache_commands)(clear)


def _folder() -> Path:
    if settings.get("cache") == "off":
        raise InputError("there is no cache", why="BRIM_CACHE=off", hint="set it to a folder")
    return settings.cache_directory()
