"""`brim cache`: what brim keeps on disk, how much it is, and how to be rid of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from brim import settings
from brim.cli.console import Json, command, note, show_json, show_table
from brim.errors import InputError
from brim.figures import size

cache_commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What brim keeps on disk: compiled kernels and models, measured times, and the zoo.",
)

# What the cache names its files. BRIM_CACHE may point at any folder: other files are not ours.
ENTRY = re.compile(r"[0-9a-f]{16,128}(\.intact)?|\.new-.*")
COMPILED = ("kernels", "models", "digests")
PARTS = (*COMPILED, "zoo")


def info(as_json: Json = False) -> None:
    """Show where the cache is and how much it holds.

    \b
    Examples:
        brim cache info
        brim cache info --json
    """
    folder = _folder()
    held = {part: [file.stat().st_size for file in _files(folder, part)] for part in PARTS}
    held["tuned"] = [file.stat().st_size for file in _tuned()]
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
    files = [file for part in (PARTS if zoo else COMPILED) for file in _files(folder, part)]
    for file in [*files, *(_tuned() if tuned else ())]:
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


def _tuned() -> list[Path]:
    """The file of measured times, if there is one; it may lie elsewhere."""
    path = settings.tuned_file()
    return [path] if path and path.is_file() else []


def _files(folder: Path, part: str) -> Iterator[Path]:
    """The files of one part that brim made, in no order."""
    if not (folder / part).is_dir():
        return
    from brim import zoo

    names = {entry.file_name for entry in zoo.list()}
    for file in (folder / part).iterdir():
        ours = file.name in names if part == "zoo" else ENTRY.fullmatch(file.name)
        if ours and file.is_file():
            yield file
