"""Plots as inline SVG: shapes only, stretched to whatever room a page gives them.

All text stands beside them in HTML, so that it keeps its size on a phone; colours are classes of
the page's style sheet. Nothing from a model gets in here but numbers and, escaped, names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brim.pages.page import safe

WIDE, HIGH = 1000, 100  # the coordinates of every picture


@dataclass(frozen=True)
class Distribution:
    """How many numbers fall into each of the equal bins between low and high.

    kept: a range to be marked, such as that which a layer's integers cover; None: nothing is.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    kept: tuple[float, float] | None = None


def meter(share: float, kind: str) -> str:
    """A bar that fills a share of the width."""
    return _svg(_rect(0, 0, WIDE * min(max(share, 0.0), 1.0), HIGH, kind), "meter")


def bar(label: str, share: float, kind: str, figure: str) -> str:
    """A meter between what it is of and its figure."""
    return (
        f'<div class="pair"><span>{safe(label)}</span>{meter(share, kind)}'
        f"<span>{safe(figure)}</span></div>"
    )


def interval(low: float, middle: float, high: float, limit: float, zero: float) -> str:
    """An estimate with its interval on a line that also shows zero and what is allowed."""
    ends = [x for x in (low, middle, high, limit, zero) if np.isfinite(x)]
    start, stop = min(ends), max(ends)
    room = (stop - start) * 0.08 or abs(start) * 0.08 or 1.0
    start, stop = start - room, stop + room

    def at(x: float) -> float:
        x = float(np.nan_to_num(x, nan=stop, posinf=stop, neginf=start))
        return WIDE * (min(max(x, start), stop) - start) / (stop - start)

    parts = [
        _rect(at(limit), 0, WIDE - at(limit), HIGH, "beyond"),
        _line(at(zero), "zero"),
        _rect(at(low), 35, max(at(high) - at(low), 2), 30, "range"),
        _rect(at(middle) - 3, 15, 6, 70, "after"),
        _line(at(limit), "limit"),
    ]
    return _svg("".join(parts), "interval")


def columns(groups: Sequence[tuple[str, Sequence[float | None]]], kinds: Sequence[str]) -> str:
    """Groups of columns side by side, each group with a title; None leaves a gap. The tallest
    column is as high as the picture."""
    known = [v for _, values in groups for v in values if v is not None and np.isfinite(v)]
    top = max((v for v in known if v > 0), default=1.0)
    step = WIDE / max(len(groups), 1)
    width = step * 0.8 / len(kinds)
    parts = []
    for i, (title, values) in enumerate(groups):
        bars = []
        for j, (value, kind) in enumerate(zip(values, kinds)):
            if value is not None:
                height = HIGH * min(max(float(np.nan_to_num(value, posinf=top)), 0.0) / top, 1.0)
                left = i * step + step * 0.1 + j * width
                bars.append(_rect(left, HIGH - height, width, height, kind))
        # an invisible column of full height, so that small ones have a title to point at as well
        whole = _rect(i * step, 0, step, HIGH, "hover")
        parts.append(f"<g><title>{safe(title)}</title>{whole}{''.join(bars)}</g>")
    return _svg("".join(parts), "columns")


def histogram(found: Distribution, kind: str) -> str:
    """Columns of logarithmic height; what lies beyond the kept range is shaded."""
    start, stop = view(found)
    width = stop - start

    def at(x: float) -> float:
        return WIDE * min(max((x - start) / width, 0.0), 1.0)

    logs = np.log1p(np.array(found.counts, float))
    heights = HIGH * logs / max(float(logs.max(initial=0.0)), 1e-9)
    edges = np.linspace(found.low, found.high, len(found.counts) + 1)
    path = [f"M{at(found.low):.0f} {HIGH}"]
    path += [f"V{HIGH - h:.0f}H{at(float(x)):.0f}" for h, x in zip(heights, edges[1:])]
    parts = [f'<path class="{kind}" d="{"".join(path)}V{HIGH}Z"/>']
    if found.kept is not None:
        low, high = map(at, found.kept)
        shaded = _rect(0, 0, low, HIGH, "beyond") + _rect(high, 0, WIDE - high, HIGH, "beyond")
        parts = [shaded, *parts, _line(low, "limit"), _line(high, "limit")]
    return _svg("".join(parts), "histogram")


def labelled_histogram(title: str, found: Distribution, kind: str, note: str = "") -> str:
    """A histogram with its title, the numbers at its ends, and below how many numbers it is of."""
    low, high = view(found)
    more = f"; {note}" if note else ""
    return (
        f'<div><h3>{safe(title)}</h3>{histogram(found, kind)}<p class="ends">'
        f"<span>{low:.3g}</span><span>{high:.3g}</span></p>"
        f'<p class="soft">{sum(found.counts)} numbers, logarithmic height{safe(more)}</p></div>'
    )


def view(found: Distribution) -> tuple[float, float]:
    """The ends of a histogram's picture: the numbers and the kept range are in it."""
    low, high = found.low, found.high
    if found.kept is not None:
        low, high = min(low, found.kept[0]), max(high, found.kept[1])
    return low, high


def _svg(content: str, kind: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {WIDE} {HIGH}" preserveAspectRatio="none" '
        f'aria-hidden="true">{content}</svg>'
    )


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return (
        f'<rect class="{kind}" x="{x:.4g}" y="{y:.4g}" width="{max(width, 0):.4g}" '
        f'height="{max(height, 0):.4g}"/>'
    )


def _line(x: float, kind: str) -> str:
    return f'<path class="{kind}" d="M{x:.4g} 0V{HIGH}" vector-effect="non-scaling-stroke"/>'
