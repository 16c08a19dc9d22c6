"""What notebooks show: a model's ports, figures and structure, a graph, a report, a training.

The parts that have styles or scripts are pages in frames of their own: nothing of theirs gets into
the notebook, nothing of the notebook into them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from brim.errors import BrimError
from brim.figures import duration, size
from brim.graph import Graph
from brim.model import Model, Report
from brim.pages import frame, safe, table
from brim.tools.view import view_graph, view_model
from brim.types import Type
from brim.view import Document, view_page
from brim.where import split_name

MOST = 20_000  # nodes of all stages of a graph that is drawn
ROWS = 10  # kernels of a report


def model_html(model: Model) -> str:
    """Ports, what is compiled, and the structure, which can be walked through."""
    parts = [f"<p><b>{safe(model.name)}</b></p>", _ports(model.inputs, model.outputs)]
    try:
        report = model.report()
    except BrimError:  # its shapes are open, and it was not called yet
        return "".join([*parts, "<p>It is compiled when it is called.</p>"])
    parts.append(f"<p>{safe(_figures(report))}</p>")
    return "".join([*parts, _structure(view_model(model))])


def graph_html(graph: Graph) -> str:
    """Ports, how many of which operators, and the structure."""
    counts = Counter(value.op.name for value in graph.values() if value.op is not None)
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    inputs = {name: value.type for name, value in graph.inputs.items()}
    outputs = {name: value.type for name, value in graph.outputs.items()}
    head = f"<p><b>{safe(graph.name)}</b></p>{_ports(inputs, outputs)}<p>{safe(listed)}</p>"
    if not all(value.type.is_static for value in graph.inputs.values()):
        return head
    return head + _structure(view_graph(graph))


def report_html(report: Report) -> str:
    """Figures, and the kernels that are expected to take most time."""
    slowest = sorted(report.kernels, key=lambda row: -row.predicted_seconds)[:ROWS]
    rows = [
        (
            safe(split_name(row.where)[0]),
            safe(" ".join(split_name(source)[1] or source for source in row.sources)),
            safe(duration(row.predicted_seconds)),
            f"{row.flops / max(row.predicted_seconds, 1e-12) / 1e9:.1f}",
        )
        for row in slowest
    ]
    heads = (f"slowest of {len(report.kernels)}", "fused", "predicted", "GFLOP/s")
    return f"<p>{safe(_figures(report))}</p>{table(heads, rows, numbers={2, 3})}"


def _figures(report: Report) -> str:
    return (
        f"{len(report.kernels)} kernels for {report.target}, {report.flops / 1e9:.3g} GFLOP: "
        f"{duration(report.predicted_seconds)} expected on one thread; "
        f"{size(report.arena_bytes)} of temporaries, {size(report.weight_bytes)} of weights"
    )


def _ports(inputs: Mapping[str, Type], outputs: Mapping[str, Type]) -> str:
    def rows(kind: str, ports: Mapping[str, Type]) -> Iterable[tuple[str, str, str]]:
        return ((kind, safe(name), safe(str(type))) for name, type in ports.items())

    return table(("", "name", "type"), [*rows("input", inputs), *rows("output", outputs)])


def _structure(document: Document) -> str:
    nodes = sum(len(stage.nodes) for stage in document.stages)
    if nodes > MOST:
        return f"<p>{nodes} nodes: <code>brim view</code> draws them.</p>"
    page = view_page(document.plain())
    return frame(page, f"the structure of {document.name}", scripts=True)
