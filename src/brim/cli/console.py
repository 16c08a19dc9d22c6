"""What all commands share: how they print, report errors, show progress and name their options.

No command is here, and nothing of models: `brim.cli.values` turns command-line text into arrays.
"""

from __future__ import annotations

import functools
import sys
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from brim.cli.completion import files
from brim.errors import BrimError, InputError
from brim.figures import json_text
from brim.settings import SETTINGS

PIPE_WIDTH = 200  # columns where no terminal says how wide it is; tables are not to be cut there

Json = Annotated[bool, typer.Option("--json", help="print one JSON document, errors included")]
MODELS = files(".onnx", ".tflite", ".brim", ".graph")
ModelFile = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="an .onnx, .tflite, .brim or .graph file", autocompletion=MODELS
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help=f"{SETTINGS['threads'].doc} [env: BRIM_THREADS]"),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=1x3x224x224", help="fix the shape of an input"),
]
Signature = Annotated[
    str,
    typer.Option(
        "--signature",
        metavar="KEY",
        help="which way to call a TFLite model that has several (`brim info` lists them)",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=VALUE",
        help="a .npy file, a picture, numbers such as 3 or 1,2,3 or [[1,2],[3,4]] (one number "
        "fills the input), or the word random; NAME= may be left out if there is one input, and "
        "before random: it fills all inputs that are not named",
    ),
]

Open = Annotated[bool, typer.Option("--open", help="open the page in a browser")]


def command(group: typer.Typer, name: str | None = None) -> Callable[[Callable], Callable]:
    """Adds a function to `group`; its BrimErrors become messages and exit code 1.

    With a true argument `as_json` that is the JSON of `BrimError.as_dict`, on standard output.
    """

    def register(function: Callable) -> Callable:
        @functools.wraps(function)
        def guarded(**arguments: Any) -> None:
            try:
                function(**arguments)
            except BrimError as error:
                show_error(error, arguments.get("as_json", False))
                raise typer.Exit(1) from None
            except KeyboardInterrupt:
                raise typer.Exit(130) from None
            except BrokenPipeError:
                raise  # the reader has enough; typer ends quietly
            except OSError as error:
                subject = error.filename or "the operating system"
                reason = error.strerror or str(error)
                show_error(InputError(f"{subject}: {reason}"), arguments.get("as_json", False))
                raise typer.Exit(1) from None

        return group.command(name or function.__name__.removesuffix("_"))(guarded)

    return register


def output() -> Console:
    """Standard output."""
    return _console(stderr=False)


def messages() -> Console:
    """Standard error."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    # Types such as f32[batch,3] look like rich's markup, and paths like its emoji: both are off.
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def show_error(error: BrimError, as_json: bool) -> None:
    """A BrimError as people read it (standard error) or as scripts do (standard output)."""
    if as_json:
        show_json(error.as_dict())
        return
    text = Text()
    text.append("error: ", style="bold red")
    text.append(error.what, style="bold")
    rows = (("because", error.why, ""), ("at", error.where, "cyan"), ("try", error.hint, "green"))
    for label, content, style in rows:
        if content:
            text.append(f"\n  {label}: ", style="dim")
            text.append(content.replace("\n", "\n    "), style=style)
    messages().print(text, soft_wrap=True)


def note(text: str) -> None:
    """One line for the person at the terminal; standard output stays clean."""
    messages().print(text, soft_wrap=True)


def open_page(path: Path) -> None:
    """Shows a page that was just written in the person's browser."""
    if not webbrowser.open(path.resolve().as_uri()):
        note(f"there is no browser here; the page is {path}")


def show_json(document: Any) -> None:
    """One JSON document on standard output; numbers that JSON has not become nan, inf, -inf."""
    sys.stdout.write(json_text(document, indent=1) + "\n")
    sys.stdout.flush()


def show_json_rows(rows: Sequence[Any]) -> None:
    """One JSON document, a list with a line for each row: for rows of many numbers."""
    lines = ",\n".join(map(json_text, rows))
    sys.stdout.write(f"[\n{lines}\n]\n")
    sys.stdout.flush()


def show_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[str] = (),
    title: str = "",
) -> None:
    """A table on standard output; columns named in `right` hold numbers."""
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        number = column in right
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(column, justify=justify, no_wrap=number, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    output().print(table)


@contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Yields `report(stage, done, total)`: one live bar per stage on a terminal, else nothing.

    A total of 0 means that nobody knows how much there is.
    """
    console = messages()
    if quiet or not console.is_terminal:
        yield lambda stage, done, total: None
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None)

        yield report
