"""The page of a comparison: where the two part, how far apart every layer is, and how it is spread.

Everything in one file; see `brim.pages`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from brim.divergence import BOUNDS, Compared, First
from brim.figures import decibel
from brim.pages import (
    Axis,
    Distribution,
    Line,
    Points,
    bullets,
    card,
    chart,
    page,
    safe,
    spanning,
    table,
)  # fmt: skip
from brim.pages.charts import Layer
from brim.pages.plots import labelled_histogram
from brim.tools.compare.compare import Comparison

LEAST, MOST = 1e-9, 1e3  # of the plot's differences; what is beyond stands there, too
KINDS = {"agrees": "s2", "heals": "s6", "differs": "s3"}  # what is said of a layer -> its colour
HEALS = (
    "What heals differs, but what is computed of it agrees: it has another meaning on one side, "
    "such as a convolution into whose weights a scale was moved, or the difference gets lost."
)
DIFFERENCE = "largest difference over the largest value"
STYLE = """
details.layer > summary { grid-template-columns: 1fr 6rem 6rem; }
details.layer.differs > summary > span:nth-child(2) { color: var(--bad); font-weight: 600; }
"""


def comparison_page(found: Comparison) -> str:
    """HTML that fetches nothing. Names come from files that nobody vouches for."""
    verdict = "they agree" if found.agrees else "they differ"
    kind = "accepted" if found.agrees else "refused"
    return page(
        f"{found.left} and {found.right}",
        [
            f"<header><h1>{safe(found.left)} <span class=soft>beside</span> {safe(found.right)}"
            f'</h1><span class="badge {kind}">{verdict}</span></header>',
            _first(found.first) if found.first else "",
            bullets(map(safe, found.notes)) if found.notes else "",
            _card("Outputs", _rows("output", found.outputs)),
            _differences(found),
            _noise(found),
            _layers(found),
            _unseen(found),
        ],
        style=STYLE,
    )


def _card(title: str, content: str, note: str = "") -> str:
    return card(title, content, note) if content else ""


def _first(first: First) -> str:
    parts = [f'They part in <span class="big">{safe(first.layer)}</span>']
    if first.after:
        parts.append(f"All that it is computed of agrees: {_names(first.after)}")
    if first.between:
        parts.append(f"Or in what could not be compared before it: {_names(first.between)}")
    return f'<section class="card fault">{"".join(f"<p>{part}</p>" for part in parts)}</section>'


def _names(layers: Sequence[str]) -> str:
    return ", ".join(map(safe, layers))


def _rows(what: str, rows: Sequence[Compared]) -> str:
    heads = (what, "type", "difference", "signal to noise", "furthest off", "is", "should be")
    return table(
        heads,
        (
            map(
                safe,
                (each.layer, _types(each), f"{each.apart.largest:.2g}", decibel(each.apart.sqnr),
                 *_worst(each)),
            )
            for each in rows
        ),
        numbers={2, 3, 5, 6},
    )  # fmt: skip


def _types(each: Compared) -> str:
    return each.types[0] if each.types[0] == each.types[1] else " / ".join(each.types)


def _worst(each: Compared) -> tuple[str, str, str]:
    at = each.apart.at
    if at is None:
        return "", "", ""
    return f"[{', '.join(map(str, at))}]", f"{each.apart.got:.6g}", f"{each.apart.want:.6g}"


def _differences(found: Comparison) -> str:
    if len(found.layers) < 2:
        return ""
    points = [(n, _height(each), _title(each)) for n, each in enumerate(found.layers)]
    groups: dict[str, list[tuple[float, float, str]]] = {}
    for point, each in zip(points, found.layers):
        groups.setdefault(_verdict(each), []).append(point)
    end = len(points) - 0.5
    heights = [found.tolerance, *(y for _, y, _ in points)]
    x = Axis("layer, in order of computation", -0.5, end)
    y = spanning(DIFFERENCE, heights, log=True, text="{:.0e}".format)
    allowed = [(-0.5, found.tolerance), (end, found.tolerance)]
    layers: list[Layer] = [Line(f"{found.tolerance:g} is allowed", allowed, "limit", dashed=True)]
    layers += [Points(name, groups[name], kind) for name, kind in KINDS.items() if name in groups]
    return card("How far apart", chart(x, y, layers), HEALS if "heals" in groups else "")


def _verdict(each: Compared) -> str:
    return "agrees" if each.agrees else "heals" if each.heals else "differs"


def _height(each: Compared) -> float:
    """A difference as the plot has it: what is equal, or infinitely far, is at its ends."""
    return min(max(each.apart.largest, LEAST), MOST)


def _title(each: Compared) -> str:
    return f"{each.layer}: {each.apart.largest:.2g}, {decibel(each.apart.sqnr)}"


def _noise(found: Comparison) -> str:
    points = [
        (n, each.apart.sqnr, _title(each))
        for n, each in enumerate(found.layers)
        if math.isfinite(each.apart.sqnr)
    ]
    if len(points) < 2:
        return ""
    x = Axis("layer, in order of computation", -0.5, len(found.layers) - 0.5)
    y = spanning("dB", [sqnr for _, sqnr, _ in points], zero=True)
    line = Line("signal to noise", [(n, sqnr) for n, sqnr, _ in points])
    note = "More is better; what is equal has no noise, and no point."
    return card("Signal to noise", chart(x, y, [line, Points("a layer", points, "s0")]), note)


def _layers(found: Comparison) -> str:
    rows = []
    for each in found.layers:
        kind = f"layer {_verdict(each)}"
        heads = (each.layer, f"{each.apart.largest:.2g}", decibel(each.apart.sqnr))
        head, *figures = map(safe, heads)
        numbers = "".join(f'<span class="number">{text}</span>' for text in figures)
        place, got, want = _worst(each)
        facts = [f"{_types(each)}{f'; {each.how}' if each.how else ''}"]
        if place:
            facts.append(f"furthest off at {place}: {got}, should be {want}")
        rows.append(
            f'<details class="{kind}"><summary><span>{head}</span>{numbers}</summary>'
            f"<div>{bullets(map(safe, facts))}{_spread(each)}</div></details>"
        )
    return _card("Layers", "".join(rows)) if rows else ""


def _spread(each: Compared) -> str:
    """How many elements are how far off; those that are equal are told, not drawn."""
    equal, *counts = each.apart.counts or (0,)
    if not sum(counts):
        return ""
    low, step = math.log10(BOUNDS[0]), math.log10(BOUNDS[1] / BOUNDS[0])
    spread = Distribution(low - step, low + step * (len(counts) - 1), tuple(counts))
    return labelled_histogram(
        "Elements by log10 of their difference over the largest value",
        spread,
        "after",
        f"{equal} are equal",
    )


def _unseen(found: Comparison) -> str:
    parts = [
        f"<details><summary>{len(layers)} that only {safe(name)} has a value of</summary>"
        f"<p>{_names(layers)}</p></details>"
        for name, layers in ((found.left, found.left_only), (found.right, found.right_only))
        if layers
    ]
    return _card("Not compared", "".join(parts))
