"""`brim explain`: what became of a model, kernel by kernel, why, and how near it is to its roof."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brim.cli.console import (
    Json,
    ModelFile,
    Open,
    Shapes,
    Signature,
    note,
    open_page,
    output,
    progress,
    show_json,
    show_table,
)
from brim.cli.values import check_shapes, parse_shapes
from brim.compress.report_text import shortened
from brim.errors import InputError
from brim.figures import duration, percent, printable, size

if TYPE_CHECKING:
    from brim.search.explain import Rivals
    from brim.tools.explain import Explained, Explanation

TELLING = 3  # kernels that are told of below the table


def explain(
    model: ModelFile,
    measure: Annotated[
        bool, typer.Option("--measure", help="time every kernel too, on one thread")
    ] = False,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="tell all of the kernels whose layers or operators contain this: why, the "
            "schedules that lost, the kernel's text",
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PAGE.html", help="write all of it as a page"),
    ] = None,
    open_: Open = False,
    shapes: Shapes = None,
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Compile a model and show what became of it: one row per kernel.

    Which layers are fused in it, how it runs, what the cost model expects, what it moves, and how
    near that is to its roof: a kernel can be no faster than its arithmetic at the processor's peak,
    nor than its bytes at the bandwidth of the cache that holds them (the lower of both is its
    roof). Below the table: the kernels that lose most time beyond their roofs, and why they are as
    they are. --json and the page have everything.

    \b
    Examples:
        brim explain net.onnx
        brim explain net.onnx --measure --shape x=1x3x224x224
        brim explain net.onnx --layer Conv_12
        brim explain net.onnx --measure -o page.html --open
        brim explain net.onnx --json
    """
    import brim
    from brim.files import write_text
    from brim.tools.destinations import check_folders
    from brim.tools.explain import explain as facts

    if open_ and page is None:
        raise InputError("there is no page to open", hint="say where it goes: -o page.html")
    check_folders(*filter(None, (page,)))
    fixed = parse_shapes(shapes or [])
    with progress(quiet=as_json) as bars:
        loaded = brim.load(model, progress=bars, shapes=fixed or None, signature=signature)
        check_shapes(loaded.inputs, loaded.usual_shapes | fixed)
        loaded.compile(fixed)
        bars("explain", 0, 0)
        found = facts(loaded, measure)
    chosen = [i for i, each in enumerate(found.kernels) if layer is None or _named(each, layer)]
    if not chosen and layer is not None:
        raise InputError(f"no kernel has {layer!r} in the names of its layers or operators")
    if page is not None:
        write_text(page, found.to_html())
    if as_json:
        show_json(found.to_json())
    else:
        _show_kernels(found, chosen)
        if layer is not None:
            for number in chosen:
                _tell(found, number)
        else:
            _show_furthest(found)
            _show_sums(found)
    if page is not None and open_:
        open_page(page)
    elif page is not None:
        note(f"written: {page}")


def _named(kernel: Explained, text: str) -> bool:
    names = (*kernel.sources, *kernel.fused, *kernel.operators)
    return any(text.lower() in name.lower() for name in names)


def _show_kernels(found: Explanation, numbers: list[int]) -> None:
    measured = ("measured",) if found.is_measured else ()
    right = ("#", "predicted", *measured, "GFLOP/s", "moved", "of roof")
    columns = ("#", "layer", "fused", "schedule", *right[1:], "roof")
    rows = []
    for number in numbers:
        each = found.kernels[number]
        times = [duration(each.predicted)]
        if found.is_measured:
            times.append("" if each.measured is None else duration(each.measured))
        roof = each.roof
        rows.append(
            (
                str(number),
                printable(shortened(each.layer)),
                printable(" ".join(each.fused)),
                each.short,
                *times,
                f"{roof.flops * each.times / max(each.seconds, 1e-12) / 1e9:.1f}",
                size(roof.bytes.total * each.times),
                f"{each.of_roof:.0%}",
                roof.name,
            )
        )
    show_table(columns, rows, right=right)


def _show_furthest(found: Explanation) -> None:
    """Where better code could win most."""
    far = [(numbers, lost) for numbers, lost in found.furthest()[:TELLING] if lost > 0]
    if far:
        output().print("Most is lost here, beside the roofs:")
    for numbers, lost in far:
        each = found.kernels[numbers[0]]
        name = printable(shortened(each.layer))
        alike = f" and {len(numbers) - 1} with the same code" if len(numbers) > 1 else ""
        share = percent(lost / found.seconds)
        output().print(f"  #{numbers[0]} {name}{alike}: {duration(lost)}, {share} of a run")
        for reason in each.why:
            output().print(f"     {printable(reason)}", soft_wrap=True)


def _show_sums(found: Explanation) -> None:
    from brim.tools.explain.facts import ABOVE, INNER

    what = "measured" if found.is_measured else "expected"
    lines = [
        f"{len(found.kernels)} kernels, {found.flops / 1e9:.3g} GFLOP: {duration(found.seconds)} "
        f"{what} on one thread; their roofs: {duration(found.roof_seconds)}, "
        f"{found.roof_seconds / max(found.seconds, 1e-12):.0%}",
    ]
    if found.prediction_error is not None:
        lines[0] += f"; the median kernel's price is off by {found.prediction_error:.0%}"
    inner = sum(each.inner for each in found.kernels)
    if inner:
        lines.append(f"{inner} of the kernels {INNER}")
    if found.is_above_roofs:
        lines.append(ABOVE)
    lines += [
        f"compiled in {duration(found.compile_seconds)}",
        f"memory: {size(found.arena_bytes)} for {size(found.tensor_bytes)} of tensors, and "
        f"{size(found.weight_bytes)} of weights",
    ]
    if found.host_steps:
        lines.append(f"between compiled steps, in numpy: {', '.join(found.host_steps)}")
    for line in lines:
        output().print(line)


def _tell(found: Explanation, number: int) -> None:
    """All that is known of one kernel."""
    each = found.kernels[number]
    output().print(f"#{number} {printable(each.layer)}", style="bold")
    names = (f"{name} ({op})" if name != op else name for name, op in zip(each.sources, each.fused))
    output().print(f"  fused: {printable(', '.join(names))}", soft_wrap=True)
    for reason in each.why:
        output().print(f"  {printable(reason)}", soft_wrap=True)
    bodies = found.bodies_of(each)
    if bodies is not None:
        _show_bodies(bodies)
    if each.candidates:
        rows = [
            (c.schedule, *_against(c.seconds, each.candidates[0].seconds)) for c in each.candidates
        ]
        title = f"best {len(rows)} of {each.considered} schedules"
        show_table((title, "seconds", "times"), rows, right=("seconds", "times"))
    output().print(each.kernel.rstrip(), soft_wrap=True)


def _show_bodies(bodies: Rivals) -> None:
    rows = [(name, *_against(seconds, bodies.prices[0][1])) for name, seconds in bodies.prices]
    show_table((f"ways to compute {bodies.op}", "seconds", "times"), rows, ("seconds", "times"))


def _against(seconds: float, least: float) -> tuple[str, str]:
    if not isfinite(seconds):
        return "needs too much memory", ""
    return duration(seconds), f"{seconds / least:.2f}"
