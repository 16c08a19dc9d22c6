"""A report as one HTML page, without any script."""

from __future__ import annotations

from collections.abc import Sequence

from brim.compress.report import Layer, Report, Times
from brim.compress.report_text import UNKNOWN, certainty, is_error
from brim.figures import duration, percent, size
from brim.pages import bullets, card, page, safe, table
from brim.pages.plots import Distribution, bar, columns, interval, labelled_histogram, meter


def report_page(report: Report) -> str:
    """The whole page."""
    name = safe(report.model)
    verdict = "accepted" if report.accepted else "refused"
    parts = [
        f'<header><h1>{name}</h1><span class="badge {verdict}">{verdict}</span></header>',
        *_messages(report),
        f'<div class="cards">{_size(report)}{_accuracy(report)}{_speed(report)}</div>',
        _steps(report),
        _layers(report) if report.layers else "",
    ]
    return page(f"{report.model}: {verdict}", parts)


def _messages(report: Report) -> list[str]:
    verdict = report.verdict
    found = []
    if verdict.reasons:
        blame = [f"<b>{safe(each.layer)}</b>: {safe(each.why)}" for each in verdict.blame]
        layers = f"<h3>Layers to blame</h3>{bullets(blame)}" if blame else ""
        reasons = bullets([safe(reason) for reason in verdict.reasons])
        found.append(f'<div class="card fault"><h3>Why it is refused</h3>{reasons}{layers}</div>')
    if report.warnings:
        warnings = bullets([safe(warning) for warning in report.warnings])
        found.append(f'<div class="card doubt"><h3>To be known</h3>{warnings}</div>')
    return found


def _size(report: Report) -> str:
    sizes = report.sizes
    most = max(sizes.before, sizes.after, 1)
    return _card(
        "Size",
        f"{sizes.ratio:.0%}",
        "of the float weights",
        bar("float", sizes.before / most, "before", size(sizes.before))
        + bar("now", sizes.after / most, "after", size(sizes.after)),
        f"now with its code; weights alone are {size(sizes.weights_after)}",
    )


def _accuracy(report: Report) -> str:
    found = report.accuracy
    most = max(found.before, found.after) or 1.0
    line = interval(found.low, found.difference, found.high, report.max_loss, 0.0)
    pairs = bar("float", found.before / most, "before", percent(found.before)) + bar(
        "now", found.after / most, "after", percent(found.after)
    )
    return _card(
        "Accuracy",
        percent(found.difference),
        found.name if is_error(found) else f"of {found.name} lost",
        line if is_error(found) else pairs + line,
        f"{certainty(found)}; {percent(report.max_loss)} allowed (dashed)",
    )


def _speed(report: Report) -> str:
    speed = report.speed
    most = max(speed.before, speed.after)
    faster = f"{1 / speed.ratio:.2f}×"
    return _card(
        "Speed",
        faster,
        "as fast as in float",
        bar("float", speed.before / most, "before", duration(speed.before))
        + bar("now", speed.after / most, "after", duration(speed.after))
        + interval(speed.low, speed.ratio, speed.high, 1.0, 1.0),
        f"{speed.ratio:.2f} of the time ({speed.low:.2f} to {speed.high:.2f}; dashed: 1); "
        f"{speed.threads} thread{'s' if speed.threads > 1 else ''} of {speed.machine}",
    )


def _card(title: str, figure: str, caption: str, plot: str, note: str) -> str:
    headline = f'<p><span class="big">{safe(figure)}</span> {safe(caption)}</p>'
    return card(title, headline + plot, safe(note))


def _steps(report: Report) -> str:
    rows = []
    for stage in report.stages:
        loss = UNKNOWN if stage.loss is None else percent(stage.loss)
        cells = (stage.step or "float", size(stage.bytes), f"{stage.flops / 1e9:.3g}", loss)
        rows.append((*map(safe, cells), "<br>".join(map(safe, stage.notes))))
    steps = table(("after", "weights", "GFLOP", "lost", ""), rows, numbers={1, 2, 3})
    return (
        f'<h2>What each step bought</h2><div class="card">{steps}'
        f"<details><summary>The recipe</summary><pre>{_lines(report.recipe)}</pre></details></div>"
    )


def _layers(report: Report) -> str:
    noise = [(f"{each.name}: {_decibel(each)}", (each.sqnr,)) for each in report.layers]
    times = [
        (f"{each.name}: {_time(each.before)} → {_time(each.after)}", _measured(each))
        for each in _with_rest(report)
    ]
    known = [t for _, pair in times for t in pair if t is not None]
    best = [each.sqnr for each in report.layers if each.sqnr is not None]
    plots = []
    if best:
        plots.append(card("Signal to noise of each layer", columns(noise, ("after",)),
                           f"up to {max(best):.0f} dB; more is better"))  # fmt: skip
    if known:
        key = '<span class="key before"></span> float <span class="key after"></span> now'
        plots.append(card("Time of each layer", columns(times, ("before", "after")),
                           f"{key}, up to {duration(max(known))} on one thread"))  # fmt: skip
    rows = "".join(_layer(each, max(known, default=0.0)) for each in report.layers)
    cards = f'<div class="cards">{"".join(plots)}</div>' if plots else ""
    return f'<h2>Layers, in order</h2>{cards}<div class="card" style="margin-top:1rem">{rows}</div>'


def _layer(layer: Layer, slowest: float) -> str:
    meters = "".join(
        meter(0.0 if each is None else each.measured / (slowest or 1.0), kind)
        for each, kind in ((layer.before, "before"), (layer.after, "after"))
        if each is not None
    )
    facts = [f"{safe(layer.op)}, computed in {safe(layer.form)}"]
    if layer.clipped is not None:
        facts.append(f"{percent(layer.clipped)} of its inputs are clipped")
    if layer.loss is not None:
        facts.append(f"compressed alone it costs {percent(layer.loss)}")
    for label, times in (("float", layer.before), ("now", layer.after)):
        if times is not None:
            facts.append(f"{label}: {_time(times)} (predicted {duration(times.predicted)})")
    pictures = "".join(
        _histogram(title, found, kind)
        for title, found, kind in (
            ("Inputs", layer.activations, "after"),
            ("Weights", layer.weights, "before"),
        )
        if found is not None
    )
    return (
        f'<details class="layer"><summary><span>{safe(layer.name)}</span>'
        f'<span class="form">{safe(layer.form)}</span><span class="number">{_decibel(layer)}</span>'
        f'<span class="times">{meters}</span></summary><div>{bullets(facts)}'
        f'<div class="cards">{pictures}</div></div></details>'
    )


def _histogram(title: str, found: Distribution, kind: str) -> str:
    kept = ""
    if found.kept is not None:
        kept = f"integers reach from {found.kept[0]:.3g} to {found.kept[1]:.3g}"
    return labelled_histogram(title, found, kind, kept)


def _with_rest(report: Report) -> Sequence[Layer]:
    rest = Layer("all else", "", "", before=report.rest_before, after=report.rest_after)
    known = rest.before is not None or rest.after is not None
    return (*report.layers, rest) if known else report.layers


def _measured(layer: Layer) -> tuple[float | None, ...]:
    return tuple(None if t is None else t.measured for t in (layer.before, layer.after))


def _decibel(layer: Layer) -> str:
    return UNKNOWN if layer.sqnr is None else f"{layer.sqnr:.1f} dB"


def _time(times: Times | None) -> str:
    return UNKNOWN if times is None else duration(times.measured)


def _lines(text: str) -> str:
    """Text of several lines as HTML."""
    return "\n".join(map(safe, text.splitlines()))
