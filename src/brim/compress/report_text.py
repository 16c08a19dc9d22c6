"""A report for the terminal: what counts in lines, then tables of steps and of layers."""

from __future__ import annotations

from collections.abc import Sequence

from brim.compress.metric import Accuracy
from brim.compress.report import Layer, Report
from brim.figures import duration, percent, printable, size

UNKNOWN = "-"
LONGEST = 60  # letters of a layer's name in a table


def report_text(report: Report) -> str:
    """The whole report. Names are a model's, which nobody vouches for: no control characters."""
    lines = [
        f"{report.model}: {'accepted' if report.accepted else 'refused'}",
        *_pairs(summary(report)),
        "",
        *_table(("step", "weights", "GFLOP", "lost"), _stages(report), {1, 2, 3}),
        *(f" {stage.step}: {note}" for stage in report.stages for note in stage.notes),
    ]
    if report.layers:
        heads = ("layer", "op", "form", "SQNR", "clipped", "float", "now")
        lines += ["", *_table(heads, _layers(report), {3, 4, 5, 6})]
    return "\n".join(map(printable, lines)) + "\n"


def summary(report: Report) -> list[tuple[str, str]]:
    """What counts: labels and a sentence each."""
    sizes, speed = report.sizes, report.speed
    threads = f"{speed.threads} thread{'s' if speed.threads > 1 else ''}"
    rows = [
        (
            "size",
            f"{size(sizes.before)} of float weights -> artifact of {size(sizes.after)}, "
            f"{sizes.ratio:.1%}",
        ),
        ("accuracy", f"{lost(report.accuracy)}; {percent(report.max_loss)} allowed"),
        (
            "speed",
            f"{duration(speed.before)} -> {duration(speed.after)}, {speed.ratio:.2f} of float "
            f"({speed.low:.2f} to {speed.high:.2f}); {threads} of {speed.machine}",
        ),
    ]
    rows += [("refused", reason) for reason in report.verdict.reasons]
    rows += [("to blame", f"{shortened(each.layer)}: {each.why}") for each in report.verdict.blame]
    return rows + [("warning", warning) for warning in report.warnings]


def lost(found: Accuracy) -> str:
    """What the metric lost, with its interval."""
    if is_error(found):
        return f"{found.name} {percent(found.after)} ({certainty(found)})"
    change = f"{percent(found.before)} -> {percent(found.after)}"
    return f"{found.name} {change}, {percent(found.difference)} lost ({certainty(found)})"


def is_error(found: Accuracy) -> bool:
    """Whether the metric is an error, of which the float model has none."""
    return found.before == 0 and found.after == found.difference


def certainty(found: Accuracy) -> str:
    """The interval of a loss, and what it is from."""
    return f"{percent(found.low)} to {percent(found.high)}, {found.samples} samples"


def _stages(report: Report) -> list[tuple[str, ...]]:
    return [
        (
            stage.step or "float",
            size(stage.bytes),
            f"{stage.flops / 1e9:.3g}",
            UNKNOWN if stage.loss is None else percent(stage.loss),
        )
        for stage in report.stages
    ]


def _layers(report: Report) -> list[tuple[str, ...]]:
    rest = Layer("(all else)", "", "", before=report.rest_before, after=report.rest_after)
    known = rest.before is not None or rest.after is not None
    return [
        (
            shortened(layer.name),
            layer.op,
            layer.form,
            UNKNOWN if layer.sqnr is None else f"{layer.sqnr:.1f} dB",
            UNKNOWN if layer.clipped is None else percent(layer.clipped),
            *(UNKNOWN if t is None else duration(t.measured) for t in (layer.before, layer.after)),
        )
        for layer in (*report.layers, *([rest] * known))
    ]


def shortened(name: str) -> str:
    """A long name's end: TFLite names a layer after all nodes that were fused, the product last."""
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"


def _pairs(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(label) for label, _ in rows)
    return [f"  {label:<{width}}  {text}" for label, text in rows]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    """Columns as wide as their longest cell; those numbered in `right` hold numbers."""
    cells = [[printable(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [
        "   ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in cells
    ]
    rule = "─" * (sum(widths) + 3 * (len(widths) - 1) + 2)
    return [f" {lines[0]}", rule, *(f" {line}" for line in lines[1:])]
