"""`brim view`: a model file at every stage of its way to kernels, as a document for its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from brim.compiler import compile_graph, load_program, sample_inputs, schedule_graph
from brim.errors import BrimError, InputError, UnsupportedError
from brim.figures import duration, printable, size
from brim.graph import Graph
from brim.model import Model
from brim.runtime.artifact import StoredProgram, open_artifact
from brim.runtime.cpu import machine, processor_name
from brim.sources import front_end, graph_file
from brim.targets.target import find_target
from brim.types import Type
from brim.view.document import Document, Kernel, Overlay
from brim.view.files import onnx_drafts, tflite_drafts
from brim.view.graphs import graph_drafts
from brim.view.overlays import of_errors, of_times
from brim.view.stages import Stages

Shapes = Mapping[str, Sequence[int]]
Progress = Callable[[str, int, int], None]
FORMATS = (".onnx", ".tflite", ".brim", ".graph", ".txt")


def view(
    path: Path,
    shapes: Shapes | None = None,
    signature: str = "",
    target: str = "host",
    measure: bool = False,
    errors: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> Document:
    """The document of a model file (.onnx, .tflite, .brim, .graph).

    shapes: of inputs with open dimensions; where they are missing, some are chosen, and the facts
    say which. What brim refuses with these, or has no operators for, is shown as a file alone.
    measure: the kernels are compiled, and timed on this machine. errors: dB of signal to noise by
    layer, as `brim compare` and reports of compression know them. Raises BrimError.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"{path} is no model that brim reads", hint=f"it reads {', '.join(FORMATS[:-1])}"
        )
    made, facts = Stages(), {"file": f"{path.name}, {size(path.stat().st_size)}"}
    graph: Graph | None
    if path.suffix.lower() == ".brim":
        program = _program(path, shapes or {}, facts)
        graph = program.graph
        why = "operators that the artifact keeps; the passes have run"
        made.add("graph", "in the artifact", why, graph_drafts(graph, made.shared))
    elif path.suffix.lower() in (".onnx", ".tflite"):
        graph = _imported(path, shapes or {}, signature, made, facts)
    else:
        graph = made.passes(graph_file(path))
    found = _finished(path.stem, made, graph, facts, target, measure, progress)
    if not errors:
        return found
    return replace(found, overlays=(*of_errors(errors, made.shared.sources), *found.overlays))


def view_graph(graph: Graph, target: str = "host") -> Document:
    """The document of a graph that no pass has seen."""
    made = Stages()
    return _finished(graph.name, made, made.passes(graph), {}, target, False, None)


def view_model(model: Model) -> Document:
    """The document of a model as it was compiled last. Raises InputError if it was not yet."""
    made, facts = Stages(), dict[str, str]()
    graph = model.graph
    made.add("graph", "as compiled", "after all passes", graph_drafts(graph, made.shared))
    return _finished(model.name, made, graph, facts, model.report().target, False, None)


def _imported(
    path: Path, shapes: Shapes, signature: str, made: Stages, facts: dict[str, str]
) -> Graph | None:
    """Adds the file and the stages of its graph; None where it cannot be imported."""
    model = front_end(path).read(path, signature=signature)
    format = "ONNX" if path.suffix.lower() == ".onnx" else "TFLite"
    graph = None
    chosen = {n: _usual(type) for n, type in model.inputs.items() if not type.is_static}
    chosen = {n: s for n, s in chosen.items() if n not in model.usual_shapes and n not in shapes}
    full = {**model.usual_shapes, **chosen, **shapes}
    try:
        fixed = {name: tuple(shape) for name, shape in full.items()}
        graph = front_end(path).import_model(model, fixed)
        if chosen:
            facts["for shapes"] = _as_options(chosen)
    except (BrimError, MemoryError) as error:
        if not chosen and not isinstance(error, UnsupportedError):
            raise
        facts["the file alone"] = getattr(error, "what", "not enough memory")
        if chosen:
            facts["the file alone"] = f"open shapes; {_as_options(chosen)} is refused"
    draw: Any = onnx_drafts if format == "ONNX" else tflite_drafts
    drafts = draw(model, graph, made.shared)
    made.add("file", "the file", f"operators as {format} has them", drafts)
    return None if graph is None else made.passes(graph)


def _usual(type: Type) -> tuple[int, ...]:
    """A shape to look at where a file leaves it open: one sample, a picture, a sequence."""
    dims = type.shape or ()
    open_ = 224 if len(dims) == 4 else 128
    return tuple(n if isinstance(n, int) else 1 if i == 0 else open_ for i, n in enumerate(dims))


def _as_options(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Shapes as the command line takes them."""
    return " ".join(f"--shape {n}={'x'.join(map(str, shape))}" for n, shape in shapes.items())


def _program(path: Path, shapes: Shapes, facts: dict[str, str]) -> StoredProgram:
    """The program of an artifact for the shapes that are given, or its first."""
    artifact = open_artifact(path)
    artifact.verify()
    wanted = {name: tuple(shape) for name, shape in shapes.items()}
    for program in artifact.programs:
        if wanted.items() <= program.shapes.items():
            if program.target.name != "host":
                facts["saved for"] = program.target.name
            return program
    known = "; ".join(str(dict(program.shapes)) for program in artifact.programs)
    raise InputError(f"{path} has no program for {wanted}", hint=f"it has {known}")


def _finished(
    name: str,
    made: Stages,
    graph: Graph | None,
    facts: dict[str, str],
    target: str,
    measure: bool,
    progress: Progress | None,
) -> Document:
    """Adds the kernels, and puts it all together. graph: optimised; None: there is none."""
    kernels: tuple[Kernel, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    if graph is not None:
        if progress:
            progress("schedule", 0, 0)
        scheduled = schedule_graph(graph, target)
        seconds = _measured(graph, target, progress) if measure else []
        kernels = made.kernels(scheduled, seconds)
        overlays = of_times(kernels)
        operations = sum(kernel.flops for kernel in kernels)
        facts |= {
            "target": processor_name() if target == "host" else scheduled.target.name,
            "kernels": f"{len(kernels)}, {operations / 1e9:.3g} GFLOP",
            "expected": f"{duration(sum(k.predicted for k in kernels))} on one thread",
        }
        if seconds:
            facts["measured"] = f"{duration(sum(seconds))} on one thread"
    return Document(
        printable(name),
        tuple((label, printable(text)) for label, text in facts.items()),
        made.shared.names,
        tuple(made.shared.blocks),
        tuple(made.shared.weights.found),
        tuple(made.stages),
        tuple(kernels),
        tuple(overlays),
    )


def _measured(graph: Graph, target: str, progress: Progress | None) -> list[float]:
    """Seconds of every kernel on one thread."""
    if find_target(target).architecture != machine():
        raise InputError(f"code for {target!r} cannot be timed on this machine")
    compiled = compile_graph(graph, target, progress, optimised=True)
    feeds = {**sample_inputs(graph), **graph.state}
    return load_program(compiled).time_calls(feeds)
