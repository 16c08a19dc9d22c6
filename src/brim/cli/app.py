"""The table of commands. What they do is in the files beside this one, a group in each."""

from __future__ import annotations

from typing import Annotated

import typer

from brim.cli.bench import bench
from brim.cli.caches import cache_commands
from brim.cli.compare import compare
from brim.cli.console import command
from brim.cli.convert import convert
from brim.cli.describe import info, ops
from brim.cli.doctor import doctor
from brim.cli.examples import demo, zoo_commands
from brim.cli.explain import explain
from brim.cli.measure import calibrate, tune
from brim.cli.profile import profile
from brim.cli.quantize import quantize
from brim.cli.reduce import reduce
from brim.cli.run import run
from brim.cli.train import train
from brim.cli.view import view
from brim.cli.vision import vision_commands

app = typer.Typer(
    name="brim",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback is a bug: plain, to be pasted into a report
    rich_markup_mode=None,  # types such as f32[batch,3] look like markup
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        import brim

        typer.echo(f"brim {brim.__version__}")
        raise typer.Exit


@app.callback()
def brim(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Compile neural networks to machine code and run them here.

    \b
    Start with:
        brim demo                         real networks read a page, find a face
        brim info net.onnx                what a model takes and gives
        brim run net.onnx --input x=random
        brim convert net.onnx net.brim    compile once, check, keep
        brim compare net.onnx @onnxruntime
        brim quantize net.onnx small.brim --data pictures/
        brim train net.onnx --data pictures/ --epochs 5 --out tuned.brim
        brim doctor                       is anything wrong with this machine?

    Every command explains itself with --help. Settings are environment variables (BRIM_THREADS,
    BRIM_CACHE, BRIM_DEBUG, ...). Nothing is sent anywhere; only `zoo get`, `demo` and
    the first use of a kit of `vision` use a network.

    The exit code is 0 if all is done, 1 if it failed and said why, 2 if the command line is wrong,
    130 if it was interrupted. `brim --install-completion` lets the tab key complete commands, model
    files and names.
    """


COMMANDS = (
    run, convert, quantize, train, info, view, explain, compare,
    profile, bench, reduce, ops, tune, calibrate, doctor, demo,
)  # fmt: skip
for function in COMMANDS:
    command(app)(function)
app.add_typer(vision_commands, name="vision")
app.add_typer(zoo_commands, name="zoo")
app.add_typer(cache_commands, name="cache")
