"""`brim view`: a model file at every stage of its way to kernels, as a document for its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from brim.compiler import compile_graph, load_program, sample_inputs, schedule_graph
from brim.errors import BrimError, InputError, UnsupportedError
from brim.figures import duration, printable, size
from brim.graph import Graph
from brim.model import Model
from brim.runtime.cpu import machine, processor_name
from brim.targets.target import find_target
from brim.tools.opened import Opened, open_model
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
    if path.is_file() and path.suffix.lower() not in FORMATS:
        raise InputError(
            f"{path} is no model that brim reads", hint=f"it reads {', '.join(FORMATS[:-1])}"
        )
    opened = open_model(path, signature)
    given = {name: tuple(shape) for name, shape in (shapes or {}).items()}
    made, facts = Stages(), {"file": f"{path.name}, {size(path.stat().st_size)}"}
    graph: Graph | None
    if opened.is_artifact:
        graph = opened.graph({**opened.usual, **given})
        why = "operators that the artifact keeps; the passes have run"
        made.add("graph", "in the artifact", why, graph_drafts(graph, made.shared))
    elif opened.parsed is None:
        graph = made.passes(opened.graph({}))
    else:
        graph = _imported(opened, given, made, facts)
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
    opened: Opened, shapes: Mapping[str, tuple[int, ...]], made: Stages, facts: dict[str, str]
) -> Graph | None:
    """Adds the file and the stages of its graph; None where it cannot be imported."""
    known = {**opened.usual, **shapes}
    chosen = {n: t.example for n, t in opened.inputs.items() if not t.is_static and n not in known}
    graph = None
    try:
        graph = opened.graph({**chosen, **known})
        if chosen:
            facts["for shapes"] = _as_options(chosen)
    except (BrimError, MemoryError) as error:
        if not chosen and not isinstance(error, UnsupportedError):
            raise
        facts["the file alone"] = getattr(error, "what", "not enough memory")
        if chosen:
            facts["the file alone"] = f"open shapes; {_as_options(chosen)} is refused"
    model, draw = opened.parsed, tflite_drafts if _is_tflite(opened) else onnx_drafts
    why = f"operators as {'TFLite' if _is_tflite(opened) else 'ONNX'} has them"
    made.add("file", "the file", why, draw(model, graph, made.shared))
    return None if graph is None else made.passes(graph)


def _is_tflite(opened: Opened) -> bool:
    return opened.path.suffix.lower() == ".tflite"


def _as_options(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Shapes as the command line takes them."""
    return " ".join(f"--shape {n}={'x'.join(map(str, shape))}" for n, shape in shapes.items())


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
            "kernels": f"{len(kernels)}, {_arithmetic(operations)}",
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


def _arithmetic(operations: int) -> str:
    """Operations as people read them."""
    factor, unit = next(((f, u) for f, u in ((1e9, "G"), (1e6, "M")) if operations >= f), (1, ""))
    return f"{operations / factor:.3g} {unit}FLOP"


def _measured(graph: Graph, target: str, progress: Progress | None) -> list[float]:
    """Seconds of every kernel on one thread."""
    if find_target(target).architecture != machine():
        raise InputError(f"code for {target!r} cannot be timed on this machine")
    compiled = compile_graph(graph, target, progress, optimised=True)
    feeds = {**sample_inputs(graph), **graph.state}
    return load_program(compiled).time_calls(feeds)
