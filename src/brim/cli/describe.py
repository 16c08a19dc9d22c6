"""`brim ops`, `brim info`: what brim knows and what a model says about itself. Nothing is run."""

from __future__ import annotations

import difflib
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brim.cli.completion import names, operator_names, words
from brim.cli.console import (
    Json,
    ModelFile,
    Shapes,
    Signature,
    note,
    output,
    show_json,
    show_table,
)
from brim.cli.values import parse_shapes
from brim.errors import BrimError, InputError
from brim.figures import operations, size

if TYPE_CHECKING:
    from brim.sources import Shapes as Fixed
    from brim.tools.work import Work


def ops(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="one operator, in full", autocompletion=names(operator_names)
        ),
    ] = "",
    search: Annotated[
        str | None, typer.Option(metavar="WORD", help="only those whose name or text holds it")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="operators of a file format: onnx, tflite",
            autocompletion=words("onnx", "tflite"),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the operators of brim, or those of a file format.

    Of one NAME all is shown that is known of it.

    For onnx: every operator of the standard and of the domains that exporters use, the operator
    sets that are handled, the element types that the standard gives its first input, and whether
    it is compiled or a host step (numpy, between compiled steps). "Compiled, or a host step": the
    second where it needs the contents of an input, such as a shape, and the model computes them.
    What is missing is listed, too. For tflite: every operator of the schema and the custom ones
    that brim knows, and how each computes where its numbers are quantized.

    \b
    Examples:
        brim ops
        brim ops conv
        brim ops Conv --format onnx
        brim ops --search pool
        brim ops --format onnx --search softmax
        brim ops --format onnx --search "not supported"
        brim ops --format onnx --json
        brim ops --format tflite --search pool
    """
    if name and format is None:
        _show_operator(name, as_json)
        return
    rows = _own_operators() if format is None else _format_operators(format, not as_json)
    if name:
        found = [row for row in rows if row["name"].lower() == name.lower()]
        if not found:
            known = [row["name"] for row in rows]
            raise InputError(f"{format} has no operator {name!r}", hint=_similar(name, known))
        if as_json:
            show_json(found[0])
        else:
            show_table(("", found[0]["name"]), [(k, _cell(v)) for k, v in found[0].items()][1:])
        return
    if search:
        word = search.lower()
        known = [row["name"] for row in rows]
        rows = [row for row in rows if word in " ".join(map(_cell, row.values())).lower()]
        if not rows:
            raise InputError(
                f"no operator has {search!r} in its name or text", hint=_similar(search, known)
            )
    if as_json:
        show_json(rows)
    else:
        show_table(tuple(rows[0]), [tuple(map(_cell, row.values())) for row in rows])
        output().print(f"{len(rows)} operators")


def _show_operator(name: str, as_json: bool) -> None:
    """One operator of brim's own."""
    from brim.tools.operators import operator

    found = operator(name)
    if as_json:
        show_json(asdict(found))
        return
    facts = {
        "kind": found.kind,
        "gradient": found.gradient or "none",
        "variants": ", ".join(found.variants),
        "declared in": found.module,
    }
    output().print(f"{found.signature}\n\n{found.doc}", soft_wrap=True)
    show_table(("", name), [(label, fact) for label, fact in facts.items() if fact])


def _cell(value: str | tuple) -> str:
    return value if isinstance(value, str) else ", ".join(map(str, value))


def _similar(word: str, names: list[str]) -> str:
    """A hint with the names that resemble `word`, whatever the case and the domain."""
    short = {name.rpartition(".")[2].lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), short, 3)
    return f"similar: {', '.join(short[name] for name in near)}" if near else "brim ops"


def _own_operators() -> list[dict[str, Any]]:
    import brim

    return [
        {"name": op.name, "kind": op.kind, "what it computes": _first_sentence(op.doc)}
        for op in sorted(brim.OPS.values(), key=lambda op: op.name)
    ]


def _format_operators(format: str, short: bool) -> list[dict[str, Any]]:
    match format:
        case "onnx":
            return _onnx_operators(short)
        case "tflite":
            return _tflite_operators()
    raise InputError(
        f"brim does not read the format {format!r}", hint="--format onnx, or --format tflite"
    )


def _tflite_operators() -> list[dict[str, Any]]:
    from brim.tools.tflite_operators import tflite_operators

    return [
        {
            "name": operator.name,
            "kind": "custom" if operator.custom else "builtin",
            "quantized numbers": operator.quantized,
            "runs": operator.runs or f"not supported: {operator.missing}",
        }
        for operator in tflite_operators()
    ]


def _onnx_operators(short: bool) -> list[dict[str, Any]]:
    from brim.tools.onnx_operators import onnx_operators, short_types

    return [
        {
            "name": operator.full_name,
            "operator sets": operator.sets,
            "element types": short_types(operator.types) if short else operator.types,
            "runs": operator.runs or f"not supported: {operator.missing}",
        }
        for operator in onnx_operators()
    ]


def _first_sentence(doc: str) -> str:
    return " ".join(doc.split("\n\n")[0].split())


def info(
    model: ModelFile,
    weights: Annotated[
        bool, typer.Option("--weights", help="the names of what `brim train` changes, instead")
    ] = False,
    shapes: Shapes = None,
    signature: Signature = "",
    as_json: Json = False,
) -> None:
    """Show what a model takes, gives and consists of.

    It is read, not compiled, and nothing of it is run. Where the shapes of its inputs are known or
    given by --shape, the arithmetic and the memory of one run are told as well.

    \b
    Examples:
        brim info net.onnx
        brim info net.onnx --shape x=1x3x224x224
        brim info net.onnx --weights
        brim info net.tflite --signature encode
        brim info net.brim --json
    """
    from brim.tools.describe import describe, weights_of

    if weights:
        rows = weights_of(Path(model), parse_shapes(shapes or []), signature)
        if as_json:
            show_json([asdict(row) for row in rows])
            return
        cells = [(row.name, "x".join(map(str, row.shape)), row.learned_by) for row in rows]
        show_table(("weight", "shape", "learned by"), cells, right=("shape",))
        return
    fixed = parse_shapes(shapes or [])
    found = describe(Path(model), signature)
    inputs = {name: str(type) for name, type in found.inputs.items()}
    outputs = {name: str(type or "?") for name, type in found.outputs.items()}
    if as_json:
        plain = asdict(replace(found, inputs={}, outputs={}))
        work, why = (None, "") if found.unsupported else _work(Path(model), fixed, signature)
        known = {"work": work and asdict(work), "work_unknown": why}
        show_json({**plain, "inputs": inputs, "outputs": outputs, **known})
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
        return
    work, why = _work(Path(model), fixed, signature)
    if work is None:
        note(why)
        return
    shown = ", ".join(f"{name}: {_shape(dims)}" for name, dims in work.shapes.items())
    output().print(
        f"one run, with {shown}: {operations(work.flops)} (a multiply and add counts as two), "
        f"{size(work.memory)} of temporaries beside the weights",
        soft_wrap=True,
    )
    if work.host:
        note(f"not counted is what numpy computes between compiled steps: {', '.join(work.host)}")


def _work(path: Path, shapes: Fixed, signature: str) -> tuple[Work | None, str]:
    """What one run takes; or why that is not known."""
    from brim.tools.work import work_of

    try:
        work = work_of(path, shapes, signature)
    except BrimError as error:  # the model is described all the same
        return None, f"what a run takes is not known: {error.what}"
    return (
        work,
        "" if work else "what a run takes depends on the shapes that are open; --shape fixes one",
    )


def _shape(dims: tuple[int, ...]) -> str:
    return "x".join(map(str, dims)) or "one number"


def _shortened(text: str, length: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[:length]}... ({len(text)} characters)"
