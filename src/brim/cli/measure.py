"""`brim tune` and `brim calibrate`: what is measured on this machine, and kept for the compiler."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from brim.cli.console import (
    Json,
    ModelFile,
    Shapes,
    Signature,
    note,
    output,
    progress,
    show_json,
    show_table,
)
from brim.cli.values import parse_shapes
from brim.figures import duration


def tune(
    model: ModelFile,
    seconds: Annotated[
        float, typer.Option(min=0.1, metavar="S", help="about how long to measure at most")
    ] = 60.0,
    shapes: Shapes = None,
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Measure the best candidates for a model's kernels here.

    What is found is kept in one file (see `brim cache info`); from then on every model that has
    such kernels is compiled with them. The file may be copied to machines with the same processor.
    Nothing has to be tuned: the choice without it is a few percent slower. Best done while nothing
    else runs. Ctrl-C keeps what was measured so far.

    \b
    Examples:
        brim tune net.onnx
        brim tune net.onnx --seconds 20 --shape x=1x3x224x224
        brim tune net.onnx --json
    """
    from brim import settings
    from brim.tools.tune import tune as measure

    fixed = parse_shapes(shapes or [])
    with progress(quiet=as_json) as report:
        found = measure(model, seconds, fixed or None, report, signature)
    kept = str(settings.tuned_file() or "")
    if as_json:
        show_json({"file": kept, **asdict(found)})
        return
    output().print(
        f"{duration(found.before)} so far, {duration(found.after)} tuned ({found.ratio:.2f}); "
        f"{found.changed} of {found.kernels} kernels are other ones, in {duration(found.tuning)}"
    )
    note(f"kept in {kept}" if kept else "not kept: there is no file for it (BRIM_TUNED)")


def calibrate(as_json: Json = False) -> None:
    """Measure this processor, for the prices of the compiler.

    It takes some seconds. The figures are kept and used from then on; what is compiled for this
    processor later is chosen by them. Best done while nothing else runs.

    \b
    Examples:
        brim calibrate
        brim calibrate --json
    """
    from brim.search import calibrate as calibration
    from brim.targets.target import PRICES, host, prices_file

    before = host()
    with progress(quiet=as_json) as report:
        after = calibration.calibrate(before, report)
    kept = str(prices_file() or "")
    if as_json:
        prices = {name: getattr(after, name) for name in PRICES}
        show_json({"cpu": after.cpu, "file": kept, **prices})
        return
    rows = [(name, *(_price(getattr(t, name)) for t in (before, after))) for name in PRICES]
    show_table((after.cpu, "so far", "measured"), rows, right=("so far", "measured"))
    note(f"kept in {kept}" if kept else "not kept: BRIM_CACHE=off")


def _price(value: float | tuple[float, ...]) -> str:
    return " ".join(f"{x:.7g}" for x in (value if isinstance(value, tuple) else (value,)))
