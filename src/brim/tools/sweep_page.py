"""A sweep as a page: time and rate over what was varied, and all numbers in a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from brim.figures import count_text, duration, size
from brim.pages import Line, card, chart, page, safe, spanning, table
from brim.pages.charts import Axis
from brim.tools.bench import Timed
from brim.tools.sweep import Point, Setting, rate_unit, shape_text


def sweep_page(model: str, points: Sequence[Point], machine: str) -> str:
    """The whole page. model: its name; machine: the processor's name."""
    label, of = varied([point.setting for point in points])
    across = spanning(label, [of(point.setting) for point in points])
    rate = rate_unit(points)
    pictures = [
        card("Time of a run", _chart(points, across, of, lambda s, t: t, "time", duration)),
        card("Rate", _chart(points, across, of, _rate, rate, count_text)),
    ]
    return page(
        f"{model}: benchmark",
        [
            f'<header><h1>{safe(model)}</h1><span class="soft">{safe(machine)}</span></header>',
            *pictures,
            card("All settings", _table(points)),
        ],
    )


def varied(settings: Sequence[Setting]) -> tuple[str, Callable[[Setting], float]]:
    """What goes along the axis: the batch if there are several, else the size of the inputs, else
    the threads."""
    if len({each.batch for each in settings}) > 1:
        return "batch", lambda each: each.batch or 0
    if len({each.shapes for each in settings}) > 1:
        return "numbers in the inputs", _elements
    return "threads", lambda each: each.threads


def _elements(setting: Setting) -> float:
    return float(sum(prod(shape) for _, shape in setting.shapes))


def _rate(setting: Setting, seconds: float) -> float:
    return (setting.batch or 1) / seconds


def _chart(
    points: Sequence[Point],
    across: Axis,
    of: Callable[[Setting], float],
    value: Callable[[Setting, float], float],
    label: str,
    text: Callable[[float], str],
) -> str:
    """A line for each engine and each combination of what is not along the axis; bands are half of
    the rounds."""
    lines: dict[str, list[tuple[float, float, float, float]]] = {}
    for point in points:
        for timed in filter(None, (point.ours, point.theirs)):
            low, middle, high = np.quantile(timed.rounds, (0.25, 0.5, 0.75)).tolist()
            ends = sorted((value(point.setting, low), value(point.setting, high)))
            name = _series(point.setting, points, timed, across.label)
            found = (of(point.setting), value(point.setting, middle), ends[0], ends[1])
            lines.setdefault(name, []).append(found)
    layers = [
        Line(
            name,
            [(x, y) for x, y, _, _ in sorted(found)],
            band=[(low, high) for _, _, low, high in sorted(found)],
        )
        for name, found in lines.items()
    ]
    numbers = [n for found in lines.values() for _, *three in found for n in three]
    return chart(across, spanning(label, numbers, zero=True, text=text), layers)


def _series(setting: Setting, points: Sequence[Point], timed: Timed, along: str) -> str:
    """What a line is called: all that varies but what is along the axis."""
    parts = [timed.engine] if any(point.theirs for point in points) else []
    if along != "threads":
        parts.append(f"{setting.threads} thread{'s' if setting.threads > 1 else ''}")
    if along == "batch" and len({point.setting.shapes for point in points}) > 1:
        parts += [f"{name}={shape_text(shape)}" for name, shape in setting.shapes]
    return ", ".join(parts) or timed.engine


def _table(points: Sequence[Point]) -> str:
    heads = ("setting", "engine", "median", "fastest", rate_unit(points), "memory")
    rows = [
        (
            safe(str(point.setting)),
            safe(timed.engine),
            safe(duration(timed.median)),
            safe(duration(timed.fastest)),
            safe(count_text(_rate(point.setting, timed.median))),
            safe(size(timed.peak_bytes)),
        )
        for point in points
        for timed in (point.ours, point.theirs)
        if timed is not None
    ]
    return table(heads, rows, {2, 3, 4, 5})
