"""`brim ops`, `brim info`, `brim explain`: what brim knows and what it did. No inference here."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brim.cli.console import (
    Json,
    ModelFile,
    Shapes,
    duration,
    note,
    output,
    progress,
    show_json,
    show_table,
    size,
)
from brim.cli.values import check_shapes, parse_shapes
from brim.errors import InputError

if TYPE_CHECKING:
    from brim.runtime.compiled import Row


def ops(
    search: Annotated[
        str | None, typer.Option(metavar="WORD", help="only those whose name or text holds it")
    ] = None,
    format: Annotated[
        str | None, typer.Option(metavar="NAME", help="operators of a file format: onnx")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the operators that brim has, or those of a format that it converts.

    \b
    Examples:
        brim ops
        brim ops --search pool
        brim ops --format onnx --json
    """
    rows = _own_operators() if format is None else _format_operators(format)
    if search:
        word = search.lower()
        rows = [row for row in rows if word in " ".join(row.values()).lower()]
    if as_json:
        show_json(rows)
    elif not rows:
        raise InputError(f"no operator has {search!r} in its name or text", hint="brim ops")
    else:
        show_table(tuple(rows[0]), [tuple(row.values()) for row in rows])
        output().print(f"{len(rows)} operators")


def _own_operators() -> list[dict[str, str]]:
    import brim

    return [
        {"name": op.name, "kind": op.kind, "what it computes": _first_sentence(op.doc)}
        for op in sorted(brim.OPS.values(), key=lambda op: op.name)
    ]


def _format_operators(format: str) -> list[dict[str, str]]:
    if format != "onnx":
        raise InputError(f"brim does not read the format {format!r}", hint="--format onnx")
    from brim.frontends import onnx  # noqa: F401 - fills the table
    from brim.frontends.onnx.table import TABLE

    return [
        {
            "operator": f"{domain}.{name}" if domain else name,
            "since version": ", ".join(str(row.since) for row in rows),
            "runs": "between compiled steps" if rows[-1].on_host else "compiled",
        }
        for (domain, name), rows in sorted(TABLE.items())
    ]


def _first_sentence(doc: str) -> str:
    return " ".join(doc.split("\n\n")[0].split())


def info(model: ModelFile, as_json: Json = False) -> None:
    """Show what a model takes, gives and consists of. It is read, not compiled.

    \b
    Examples:
        brim info net.onnx
        brim info net.brim --json
    """
    from brim.tools.describe import describe

    found = describe(Path(model))
    inputs = {name: str(type) for name, type in found.inputs.items()}
    outputs = {name: str(type or "?") for name, type in found.outputs.items()}
    if as_json:
        plain = asdict(replace(found, inputs={}, outputs={}))
        show_json({**plain, "inputs": inputs, "outputs": outputs})
        return
    sizes = f"{size(found.bytes)}, of which weights {size(found.weight_bytes)}"
    facts = {"format": found.format, "name": found.name, "size": sizes, **found.details}
    ports = [("input", *port) for port in inputs.items()]
    ports += [("output", *port) for port in outputs.items()]
    show_table(("", model), [(label, _shortened(text)) for label, text in facts.items() if text])
    show_table(("", "name", "type"), ports)
    counts = [(name, str(count)) for name, count in found.operators.items()]
    show_table(("operator", "times"), counts, right=("times",))
    if found.unsupported:
        note(f"brim has no {', '.join(found.unsupported)}: it will refuse to compile this model")


def _shortened(text: str, length: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[:length]}... ({len(text)} characters)"


def explain(
    model: ModelFile,
    measure: Annotated[
        bool, typer.Option("--measure", help="time every kernel too, on one thread")
    ] = False,
    shapes: Shapes = None,
    as_json: Json = False,
) -> None:
    """Compile a model and show what became of it: one row per kernel.

    Where it comes from, what is fused in it, how it runs, and what the cost model expects of it.
    --json has the text of the kernels as well.

    \b
    Examples:
        brim explain net.onnx
        brim explain net.onnx --measure --shape x=1x3x224x224
        brim explain net.onnx --json
    """
    import brim

    fixed = parse_shapes(shapes or [])
    with progress(quiet=as_json) as bars:
        loaded = brim.load(model, progress=bars, shapes=fixed or None)
        check_shapes(loaded.inputs, fixed)
        report = loaded.compile(fixed)
        measured = loaded.time_kernels() if measure else []
    if as_json:
        show_json({**asdict(report), "measured_seconds": measured})
        return
    titles = ("#", "where", "operators", "schedule", "predicted", *(["measured"] * measure))
    rows = [
        (str(i), *_kernel_cells(row, loaded.name), duration(row.predicted_seconds))
        for i, row in enumerate(report.kernels)
    ]
    cells: list[tuple[str, ...]] = list(rows)
    if measure:
        cells = [(*row, duration(seconds)) for row, seconds in zip(rows, measured)]
    show_table(titles, cells, right=("#", *titles[4:]))
    lines = [
        f"{len(report.kernels)} kernels, {report.flops / 1e9:.3g} GFLOP: "
        f"{duration(report.predicted_seconds)} expected"
        + (f", {duration(sum(measured))} measured" if measure else ""),
        f"compiled in {duration(report.compile_seconds)}",
        f"memory: {size(report.arena_bytes)} for {size(report.tensor_bytes)} of tensors, and "
        f"{size(report.weight_bytes)} of weights",
    ]
    if report.host_steps:
        lines.append(f"between compiled steps, in numpy: {', '.join(report.host_steps)}")
    for line in lines:
        output().print(line)


def _kernel_cells(row: Row, model: str) -> tuple[str, str, str]:
    schedule = row.schedule.strip().removeprefix("schedule {").removesuffix("}")
    return row.where.removeprefix(f"{model}: "), ", ".join(row.ops), schedule.strip()
