"""`brim bench`: a model's times here, beside another engine's, with several settings, and since."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brim.cli.completion import words
from brim.cli.console import (
    Inputs,
    Json,
    ModelFile,
    Open,
    Signature,
    note,
    open_page,
    output,
    progress,
    show_json,
    show_table,
)
from brim.cli.values import parse_counts, parse_inputs, parse_shape_lists
from brim.figures import count_text, duration, json_text, size
from brim.files import write_text
from brim.settings import SETTINGS

if TYPE_CHECKING:
    from brim.tools.bench import Progress
    from brim.tools.predict import Prediction
    from brim.tools.since import Comparison
    from brim.tools.sweep import Point

_SECONDS = ("predicted_seconds", "measured_seconds")
_WORST = 5  # kernels shown


def bench(
    model: ModelFile,
    versus: Annotated[
        str | None,
        typer.Option(
            "--vs",
            metavar="ENGINE",
            help="compare with it: onnxruntime, litert",
            autocompletion=words("onnxruntime", "litert"),
        ),
    ] = None,
    predict: Annotated[
        bool, typer.Option("--predict", help="and compare each kernel with the cost model")
    ] = False,
    threads: Annotated[
        str | None,
        typer.Option(
            metavar="N,...", help=f"{SETTINGS['threads'].doc}; several [env: BRIM_THREADS]"
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="samples in inputs whose first axis is open; several"),
    ] = None,
    shapes: Annotated[
        list[str] | None,
        typer.Option(
            "--shape",
            metavar="NAME=1x3x224x224,...",
            help="fix the shape of an input; of several inputs, shapes in one place go together",
        ),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="B.json", help="keep the times in this file")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="compare with times that were kept")
    ] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="RATIO",
            help="exit with 1 where the model takes more than so many times as long as kept, "
            "beyond the noise",
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PAGE.html", help="write a page with plots"),
    ] = None,
    open_: Open = False,
    inputs: Inputs = None,
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Time a model here, alone, against others or since last time.

    Each engine runs in a process of its own, in rounds that alternate, so that a busy machine slows
    both alike. Inputs that are not given are random. The first load finds an empty cache. With
    --predict, every kernel is timed alone, on one thread, beside what the cost model expects.

    Several numbers of threads, batches or shapes are measured in all combinations.

    --compare gives the ratio of times now and then, and an interval: rounds are resampled, and a
    yardstick that has nothing to do with brim tells how much slower or faster the machine itself
    has become. Of several settings one is enough for --fail-above.

    \b
    Examples:
        brim bench net.onnx
        brim bench net.onnx --vs onnxruntime --threads 2
        brim bench net.tflite --vs litert
        brim bench net.onnx --threads 1,2 --batch 1,4,8 -o page.html --open
        brim bench net.onnx --shape x=1x3x224x224,1x3x320x320 --json
        brim bench net.onnx --save before.json
        brim bench net.onnx --compare before.json --fail-above 1.05
        brim bench net.onnx --predict
    """
    from brim import settings
    from brim.errors import InputError
    from brim.model import thread_count
    from brim.runtime.cpu import processor_name
    from brim.tools import since
    from brim.tools import sweep as tool
    from brim.tools.describe import describe
    from brim.tools.destinations import check_folders
    from brim.tools.sweep_page import sweep_page

    if open_ and page is None:
        raise InputError("there is no page to open", hint="say where it goes: -o page.html")
    if fail_above is not None and compare is None:
        raise InputError("--fail-above needs times to compare with", hint="--compare OLD.json")
    check_folders(*filter(None, (save, page)))
    before = since.read(compare) if compare else None
    given = settings.get("threads") if threads is None else threads
    counts = [thread_count(n) for n in parse_counts("--threads", str(given), 0)]
    batches = [] if batch is None else parse_counts("--batch", batch, 1)
    alternatives = parse_shape_lists(shapes or [])
    with progress(quiet=as_json) as report:
        told = describe(Path(model), signature)
        wanted = [
            (setting, tool.shapes_of(setting, told.inputs, told.usual))
            for setting in tool.settings(counts, batches, alternatives)
        ]
        if predict and len(wanted) > 1:
            raise InputError("--predict is of one setting", f"{len(wanted)} are given")

        def feeds(fixed: tool.Shapes) -> dict[str, Any]:
            return parse_inputs(inputs or [], told.inputs, fixed, fill=True, usual=told.usual)

        points = tool.sweep(Path(model), wanted, feeds, versus, report, signature)
        expected = _predicted(model, feeds, wanted[0][1], report, signature) if predict else None
    kept = since.kept(Path(model), points)
    changes = since.compare(before, kept) if before else None
    if save is not None:
        write_text(save, json_text(since.document(kept), indent=1) + "\n")
    if page is not None:
        write_text(page, sweep_page(Path(model).name, points, processor_name()))
    if as_json:
        show_json(_document(points, expected, changes))
    else:
        (_show_one if len(points) == 1 else _show_all)(points)
        if expected:
            _show_prediction(expected)
        if changes:
            _show_changes(changes)
    if page is not None and open_:
        open_page(page)
    _judge(points, changes, fail_above)


def _predicted(
    model: str, feeds: Callable, shapes: Mapping, report: Progress, signature: str
) -> Prediction:
    import brim
    from brim.tools.predict import prediction

    loaded = brim.load(model, progress=report, shapes=shapes or None, signature=signature)
    arrays = feeds(shapes)
    loaded.run(arrays)  # compiles for these shapes
    return prediction(loaded, arrays)


def _judge(points: Sequence[Point], changes: Comparison | None, fail_above: float | None) -> None:
    """Exits with 1 where outputs differ from a peer's, or a setting is too slow."""
    bad = False
    for ratio in filter(None, (point.versus for point in points)):
        if not ratio.agrees:
            note(f"error: the outputs of brim and {ratio.peer} differ by {ratio.difference:.1e}")
            bad = True
    if changes and fail_above is not None:
        for change in changes.changes:
            if change.is_slower(fail_above):
                note(f"error: {change.setting}: {change.ratio:.2f} times as long as kept")
                bad = True
            elif change.ratio > fail_above:
                note(f"{change.setting}: above {fail_above:g}, but within the noise")
    if bad:
        raise typer.Exit(1)


def _document(
    points: Sequence[Point], expected: Prediction | None, changes: Comparison | None
) -> dict[str, Any]:
    """What --json prints: of one setting its fields, of several a list of such."""
    each = [_fields(point) for point in points]
    found: dict[str, Any] = each[0] if len(each) == 1 else {"settings": each}
    if expected:
        seconds = {name: getattr(expected, name) for name in _SECONDS}
        found["prediction"] = {**asdict(expected), **seconds}
    if changes:
        found["since"] = asdict(changes)
    return found


def _fields(point: Point) -> dict[str, Any]:
    setting, ratio = point.setting, point.versus
    timed = filter(None, (point.ours, point.theirs))
    return {
        "threads": setting.threads,
        "batch": setting.batch,
        "shapes": {name: list(shape) for name, shape in setting.shapes},
        "engines": [{**asdict(each), "median": each.median} for each in timed],
        "versus": {**asdict(ratio), "agrees": ratio.agrees} if ratio else None,
    }


def _show_one(points: Sequence[Point]) -> None:
    (point,) = points
    titles = ("median", "fastest", "load", "load again", "memory")
    rows = [
        (
            each.engine,
            each.version,
            *map(duration, (each.median, each.fastest, each.load, each.load_again)),
            size(each.peak_bytes),
        )
        for each in (point.ours, point.theirs)
        if each
    ]
    show_table(("engine", "version", *titles), rows, right=titles)
    if ratio := point.versus:
        output().print(
            f"brim takes {ratio.ratio:.2f} of {ratio.peer}'s time "
            f"(half of the rounds: {ratio.low:.2f} to {ratio.high:.2f}); "
            f"outputs differ by {ratio.difference:.1e}"
        )


def _show_all(points: Sequence[Point]) -> None:
    """A row for each setting."""
    from brim.tools.sweep import rate_unit

    peer = next((point.theirs.engine for point in points if point.theirs), "")
    titles = ("median", "noise", rate_unit(points), *((peer, "ratio") if peer else ()))
    rows = []
    for point in points:
        row = [
            str(point.setting),
            duration(point.ours.median),
            f"{point.ours.noise:.1%}",
            count_text(point.rate),
        ]
        if point.theirs and point.versus:
            row += [duration(point.theirs.median), f"{point.versus.ratio:.2f}"]
        rows.append(row)
    show_table(("setting", *titles), rows, right=titles)


def _show_changes(found: Comparison) -> None:
    titles = ("kept", "now", "ratio", "between", "machine")
    rows = [
        (
            str(each.setting),
            duration(each.before),
            duration(each.now),
            f"{each.ratio:.3f}",
            f"{each.low:.3f} and {each.high:.3f}",
            f"{each.drift:.3f}",
        )
        for each in found.changes
    ]
    show_table(("since", *titles), rows, right=titles)
    output().print(
        "above 1 is slower; machine: the ratio for work that has nothing to do with brim"
    )
    for text in found.notes:
        note(text)
    for setting in found.unmatched:
        note(f"only on one side: {setting}")


def _show_prediction(expected: Prediction) -> None:
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
