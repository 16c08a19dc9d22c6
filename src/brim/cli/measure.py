"""`brim bench`, `brim tune` and `brim calibrate`: what is measured on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brim.cli.console import (
    Inputs,
    Json,
    ModelFile,
    Shapes,
    Signature,
    Threads,
    note,
    output,
    progress,
    show_json,
    show_table,
)
from brim.cli.values import parse_inputs, parse_shapes
from brim.figures import duration, size

if TYPE_CHECKING:
    from brim.tools.predict import Prediction

_SECONDS = ("predicted_seconds", "measured_seconds")
_WORST = 5  # kernels shown


def bench(
    model: ModelFile,
    versus: Annotated[
        str | None,
        typer.Option("--vs", metavar="ENGINE", help="compare with it: onnxruntime, litert"),
    ] = None,
    predict: Annotated[
        bool, typer.Option("--predict", help="and compare each kernel with the cost model")
    ] = False,
    inputs: Inputs = None,
    shapes: Shapes = None,
    threads: Threads = None,
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Time a model here, alone or against another engine.

    Each engine runs in a process of its own, in rounds that alternate, so that a busy machine slows
    both alike. Inputs that are not given are random. The first load finds an empty cache. With
    --predict, every kernel is timed alone, on one thread, beside what the cost model expects.

    \b
    Examples:
        brim bench net.onnx
        brim bench net.onnx --vs onnxruntime --threads 2
        brim bench net.tflite --vs litert
        brim bench net.onnx --shape x=1x3x224x224 --json
        brim bench net.onnx --predict
    """
    import brim
    from brim import settings
    from brim.tools.bench import bench as measure
    from brim.tools.describe import describe
    from brim.tools.predict import prediction

    fixed = parse_shapes(shapes or [])
    count = settings.get("threads") if threads is None else threads
    with progress(quiet=as_json) as report:
        told = describe(Path(model), signature)
        feeds = parse_inputs(inputs or [], told.inputs, fixed, fill=True, usual=told.usual)
        ours, theirs, ratio = measure(
            Path(model), feeds, fixed or None, count, versus, report, signature
        )
        expected = None
        if predict:
            loaded = brim.load(model, progress=report, shapes=fixed or None, signature=signature)
            loaded.run(feeds)  # compiles for these shapes
            expected = prediction(loaded, feeds)
    timed = [each for each in (ours, theirs) if each]
    if as_json:
        engines = [{**asdict(each), "median": each.median} for each in timed]
        against = {**asdict(ratio), "agrees": ratio.agrees} if ratio else None
        measured = {"threads": count, "engines": engines, "versus": against}
        if expected:
            seconds = {name: getattr(expected, name) for name in _SECONDS}
            measured["prediction"] = {**asdict(expected), **seconds}
        show_json(measured)
    else:
        titles = ("median", "fastest", "load", "load again", "memory")
        show_table(
            ("engine", "version", *titles),
            [
                (
                    each.engine,
                    each.version,
                    *map(duration, (each.median, each.fastest, each.load, each.load_again)),
                    size(each.peak_bytes),
                )
                for each in timed
            ],
            right=titles,
        )
        if ratio:
            output().print(
                f"brim takes {ratio.ratio:.2f} of {ratio.peer}'s time "
                f"(half of the rounds: {ratio.low:.2f} to {ratio.high:.2f}); "
                f"outputs differ by {ratio.difference:.1e}"
            )
        if expected:
            _show(expected)
    if ratio and not ratio.agrees:
        note(f"error: the outputs of brim and {ratio.peer} differ by {ratio.difference:.1e}")
        raise typer.Exit(1)


def _show(expected: Prediction) -> None:
    """The kernels that are wrong by most, and the sums."""
    titles = ("predicted", "measured")
    rows = [
        (kernel.where, ", ".join(kernel.ops), *(duration(getattr(kernel, s)) for s in _SECONDS))
        for kernel in expected.worst(_WORST)
    ]
    show_table(("furthest off", "operators", *titles), rows, right=titles)
    output().print(
        f"{len(expected.kernels)} kernels on one thread: "
        f"{duration(expected.predicted_seconds)} predicted, "
        f"{duration(expected.measured_seconds)} measured; "
        f"the median kernel is off by {expected.median_error:.0%}"
    )


def tune(
    model: ModelFile,
    seconds: Annotated[
        float, typer.Option(min=0.1, metavar="S", help="about how long to measure at most")
    ] = 60.0,
    shapes: Shapes = None,
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Measure the best few candidates of a model's kernels here, and keep the fastest.

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
    """Measure this processor, so that the compiler's prices fit it (some seconds).

    The figures are kept and used from then on; what is compiled for this processor later is
    chosen by them. Best done while nothing else runs.

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
