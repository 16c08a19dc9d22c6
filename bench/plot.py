"""A bench run as a picture: a bar for each network, its fastest peer being 1. SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

ROW, LEFT, WIDTH, TOP = 30, 190, 420, 56  # pixels
FULL = 1.5  # the ratio at the right edge
OURS, SLOWER, GRID, TEXT = "#2f7f6f", "#b5542c", "#9aa3a0", "#3c4643"


def draw(results: Sequence[Mapping[str, Any]], title: str) -> str:
    """results: as in the JSON file, each with comparisons; that with the fastest peer is drawn."""
    found = [(r["net"], [c for c in r["comparisons"] if c["ratio"] is not None]) for r in results]
    rows = [(net, max(c, key=lambda c: c["ratio"])) for net, c in found if c]
    height = TOP + ROW * len(rows) + 34
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 70}" height="{height}" '
        f'font-family="sans-serif" font-size="14" fill="{TEXT}">',
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="14" y="26" font-size="16">{escape(title)}</text>',
    ]
    for tick in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
        x = LEFT + WIDTH * tick / FULL
        dash = "" if tick == 1 else ' stroke-dasharray="2 4"'
        lines.append(
            f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{TOP - 8}" y2="{height - 28}" '
            f'stroke="{GRID}"{dash}/><text x="{x:.0f}" y="{height - 10}" font-size="12" '
            f'text-anchor="middle">{tick:g}</text>'
        )
    for number, (net, fastest) in enumerate(rows):
        y, ratio = TOP + ROW * number, fastest["ratio"]
        length = WIDTH * min(ratio, FULL) / FULL
        colour = OURS if ratio <= 1 else SLOWER
        lines.append(
            f'<text x="{LEFT - 12}" y="{y + 16}" text-anchor="end">{escape(net)}</text>'
            f'<rect x="{LEFT}" y="{y}" width="{length:.0f}" height="22" fill="{colour}"/>'
            f'<text x="{LEFT + length - 8:.0f}" y="{y + 16}" text-anchor="end" '
            f'fill="#ffffff">{ratio:.2f}</text>'
            f'<text x="{LEFT + WIDTH + 60}" y="{y + 16}" text-anchor="end" font-size="12">'
            f"{escape(fastest['peer'])}</text>"
        )
    return "\n".join([*lines, "</svg>\n"])
