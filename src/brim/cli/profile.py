"""`brim profile`: where the time and the memory of a model go, in real runs of the real program."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brim.cli.console import (
    Inputs,
    Json,
    ModelFile,
    Open,
    Shapes,
    Signature,
    Threads,
    note,
    open_page,
    output,
    progress,
    show_json,
    show_table,
)
from brim.cli.values import parse_inputs, parse_shapes
from brim.figures import duration, json_text, percent, printable, size
from brim.files import write_text

if TYPE_CHECKING:
    from brim.tools.profile import Arena, Profile


def profile(
    model: ModelFile,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="T.json", help="write all runs for ui.perfetto.dev to this file"),
    ] = None,
    memory: Annotated[
        Path | None,
        typer.Option(metavar="PAGE.html", help="write a page: what lies where in memory, and when"),
    ] = None,
    open_: Open = False,
    runs: Annotated[int, typer.Option(min=1, metavar="N", help="how many runs to record")] = 10,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="how many layers to show")] = 10,
    inputs: Inputs = None,
    shapes: Shapes = None,
    threads: Threads = None,
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Record runs of a model with clocks around its kernels.

    The program is the one that `brim run` runs, on as many threads; inputs that are not given are
    random. Shown are the slowest layers, what each kind of layers takes, and what is lost outside
    of kernels. Runs with and without clocks alternate, so that what the clocks cost is known.
    --json has all layers. The trace holds all runs: one track for each thread, layers by name, and
    the memory of live tensors; it opens in ui.perfetto.dev or chrome://tracing.

    \b
    Examples:
        brim profile net.onnx
        brim profile net.onnx --threads 2 --trace t.json
        brim profile net.onnx --memory page.html --open
        brim profile net.onnx --shape x=1x3x224x224 --runs 50 --json
    """
    import brim
    from brim.errors import InputError
    from brim.tools import profile as tool
    from brim.tools.describe import describe
    from brim.tools.destinations import check_folders

    if open_ and memory is None:
        raise InputError("there is no page to open", hint="say where it goes: --memory page.html")
    check_folders(*filter(None, (trace, memory)))
    fixed = parse_shapes(shapes or [])
    with progress(quiet=as_json) as bars:
        told = describe(Path(model), signature)
        feeds = parse_inputs(inputs or [], told.inputs, fixed, fill=True, usual=told.usual)
        loaded = brim.load(
            model, threads=threads, progress=bars, shapes=fixed or None, signature=signature
        )
        loaded.run(feeds)  # compiles for these shapes
        bars("runs", 0, 0)
        recording = loaded.record(feeds, runs)
    found = tool.profile(recording, loaded.name, loaded.threads)
    held = tool.arena(recording.programs[0], loaded.name)
    if trace is not None:
        write_text(trace, json_text(tool.trace(recording, loaded.name)) + "\n")
    if memory is not None:
        write_text(memory, tool.memory_page(held, tool.step_seconds(recording)))
    if as_json:
        show_json({**asdict(found), "memory": {**asdict(held), "peak_step": held.peak}})
    else:
        _show(found, held, top)
    if trace is not None:
        note(f"{trace} opens in ui.perfetto.dev or chrome://tracing")
    if memory is not None and open_:
        open_page(memory)


def _show(found: Profile, held: Arena, top: int) -> None:
    """The slowest layers, the kinds, what is outside of kernels, and memory."""
    whole = found.seconds
    rows = [
        (
            printable(layer.where),
            layer.kind if layer.kernels else f"numpy: {', '.join(layer.ops)}",
            str(layer.kernels),
            duration(layer.seconds),
            percent(layer.seconds / whole),
            f"{layer.flops / max(layer.seconds, 1e-12) / 1e9:.1f}",
            f"{layer.threads:.1f}",
        )
        for layer in found.slowest(top)
    ]
    titles = ("kernels", "time", "share", "GFLOP/s", "threads")
    show_table((f"slowest of {len(found.layers)}", "kind", *titles), rows, right=titles)
    kinds = [(kind.name, str(kind.layers), kind.seconds) for kind in found.kinds]
    kinds.append(("between kernels", "", found.between))
    kinds.append(("around compiled code", "", found.around))
    show_table(
        ("kind", "layers", "time", "share"),
        [(n, count, duration(s), percent(s / whole)) for n, count, s in kinds],
        right=("layers", "time", "share"),
    )
    threads = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    cost = percent(found.overhead) if found.overhead > 0 else "less than can be seen here"
    output().print(
        f"a run takes {duration(found.plain)} on {threads}; with clocks {duration(whole)}, "
        f"as shown (half of {found.runs} runs: {duration(found.low)} to "
        f"{duration(found.high)}); clocks cost {cost}"
    )
    inner = f", {size(held.inner_bytes)} in sub-graphs" if held.inner_bytes else ""
    if held.live:
        output().print(
            f"memory: {size(held.live[held.peak])} of tensors at the peak, in "
            f"{printable(held.steps[held.peak])}; an arena of {size(held.bytes)}, "
            f"{size(held.weight_bytes)} of weights{inner}"
        )
