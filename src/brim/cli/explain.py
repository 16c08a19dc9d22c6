"""`brim explain`: what became of a model, kernel by kernel, and what was considered for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Annotated

import typer

from brim.cli.console import (
    Json,
    ModelFile,
    Shapes,
    Signature,
    output,
    progress,
    show_json,
    show_table,
)
from brim.cli.values import check_shapes, parse_shapes
from brim.compress.recipe import split_name
from brim.figures import duration, size

if TYPE_CHECKING:
    from brim.runtime.compiled import Row
    from brim.tools.explain import Considered


def explain(
    model: ModelFile,
    measure: Annotated[
        bool, typer.Option("--measure", help="time every kernel too, on one thread")
    ] = False,
    losers: Annotated[
        bool, typer.Option("--candidates", help="the schedules and variants that lost, too")
    ] = False,
    shapes: Shapes = None,
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Compile a model and show what became of it: one row per kernel.

    Where it comes from, what is fused in it, how it runs, what the cost model expects of it, and
    how much of the processor's peak that is. --json has the text of the kernels as well.

    \b
    Examples:
        brim explain net.onnx
        brim explain net.onnx --measure --shape x=1x3x224x224
        brim explain net.onnx --candidates
        brim explain net.onnx --json
    """
    import brim
    from brim.tools.explain import explain as choices

    fixed = parse_shapes(shapes or [])
    with progress(quiet=as_json) as bars:
        loaded = brim.load(model, progress=bars, shapes=fixed or None, signature=signature)
        check_shapes(loaded.inputs, loaded.usual_shapes | fixed)
        report = loaded.compile(fixed)
        measured = loaded.time_kernels() if measure else []
        considered = choices(loaded) if losers else None
    if as_json:
        found = {**asdict(report), "measured_seconds": measured}
        show_json(found | (asdict(considered) if considered else {}))
        return
    times = ("predicted", *(["measured"] * measure), "GFLOP/s", "of peak")
    rows = []
    for i, row in enumerate(report.kernels):
        taken = [row.predicted_seconds, *measured[i : i + 1]]
        rate = row.flops / max(taken[-1], 1e-12)
        speed = (f"{rate / 1e9:.1f}", f"{rate / report.peak_flops:.0%}")
        rows.append((str(i), *_kernel_cells(row, loaded.name), *map(duration, taken), *speed))
    show_table(("#", "where", "operators", "schedule", *times), rows, right=("#", *times))
    if considered:
        _show_losers(considered, loaded.name)
    timed = ""
    if measure:
        error = report.prediction_error(measured)
        timed = f", {duration(sum(measured))} measured; the median kernel is off by {error:.0%}"
    lines = [
        f"{len(report.kernels)} kernels, {report.flops / 1e9:.3g} GFLOP: "
        f"{duration(report.predicted_seconds)} expected{timed}",
        f"compiled in {duration(report.compile_seconds)}",
        f"memory: {size(report.arena_bytes)} for {size(report.tensor_bytes)} of tensors, and "
        f"{size(report.weight_bytes)} of weights",
    ]
    if report.host_steps:
        lines.append(f"between compiled steps, in numpy: {', '.join(report.host_steps)}")
    for line in lines:
        output().print(line)


def _show_losers(considered: Considered, model: str) -> None:
    """The variants of operators, then the schedules of every kernel: what each would have cost."""
    bodies = [
        (_place(each.where[0], model), str(len(each.where)), *_against(each.prices))
        for each in considered.variants
    ]
    if bodies:
        show_table(
            ("variants for", "times", "taken", "seconds", "others"), bodies, right=("times",)
        )
    schedules = [
        (str(number), *_against([(_schedule(c.schedule), c.seconds) for c in found]))
        for number, found in enumerate(considered.schedules)
    ]
    show_table(("#", "taken", "seconds", "others"), schedules, right=("#",))


def _against(choices: Sequence[tuple[str, float]]) -> tuple[str, str, str]:
    """What was taken, its time, and the others with theirs as multiples of it."""
    (name, least), *others = choices
    costs = [f"{n} {seconds / least:.2f}x" if isfinite(seconds) else n for n, seconds in others]
    return name, duration(least), "; ".join(costs)


def _kernel_cells(row: Row, model: str) -> tuple[str, str, str]:
    fused = [split_name(source)[1] or source for source in row.sources]
    return _place(row.where, model), ", ".join(fused), _schedule(row.schedule)


def _place(where: str, model: str) -> str:
    return where.removeprefix(f"{model}: ")


def _schedule(text: str) -> str:
    return text.strip().removeprefix("schedule {").removesuffix("}").strip()
