"""An explanation as one HTML page, without any script."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from brim.figures import duration, percent, size
from brim.kernels.roofline import LEVELS
from brim.pages import Line, Points, bullets, card, chart, page, safe, spanning, table
from brim.pages.charts import Layer
from brim.pages.plots import bar, columns, meter
from brim.search.explain import Rivals
from brim.tools.explain.facts import ABOVE, INNER, Explained, Explanation

SHARES = (0.05, 0.01)  # of the time: what the roofline plot tells apart
TOLD = 3  # kernels whose reasons are at the top of the page

STYLE = """
details.layer > summary { grid-template-columns: 2.5rem 1fr 6rem 4rem 5rem 7rem; }
@media (max-width: 34rem) {
  details.layer > summary { grid-template-columns: 2rem 1fr 3rem 4.5rem; }
  details.layer > summary > .roof { display: none; }
}
"""


def explain_page(found: Explanation) -> str:
    """The whole page."""
    ports = ", ".join(f"{name}: {kind}" for name, kind in found.inputs.items())
    parts = [
        f'<header><h1>{safe(found.model)}</h1><span class="soft">{safe(ports)}</span></header>',
        f'<div class="cards">{_time(found)}{_work(found)}{_memory(found)}</div>',
        _roofline(found) if any(each.roof.flops for each in found.kernels) else "",
        "<h2>Where most is lost</h2>" + _furthest(found) if found.kernels else "",
        "<h2>Kernels, in order</h2>" + _kernels(found) if found.kernels else "",
        _variants(found),
    ]
    return page(f"{found.model}: explained", parts, style=STYLE)


def _time(found: Explanation) -> str:
    what = "measured" if found.is_measured else "expected"
    longest = max(found.seconds, found.roof_seconds, 1e-12)
    pairs = [(what, found.seconds, "after"), ("roofs", found.roof_seconds, "before")]
    if found.is_measured:
        predicted = sum(each.predicted for each in found.kernels)
        longest = max(longest, predicted)
        pairs.insert(1, ("predicted", predicted, "range"))
    bars = "".join(bar(name, t / longest, kind, duration(t)) for name, t, kind in pairs)
    note = f"one thread of {found.target.cpu}; roofs: every kernel as fast as it could be"
    if found.prediction_error is not None:
        note += f"; the median kernel's price is off by {found.prediction_error:.0%}"
    return card("Time", _big(duration(found.seconds), f"{what} for a run") + bars, safe(note))


def _work(found: Explanation) -> str:
    moved = sum(each.roof.bytes.total * each.times for each in found.kernels)
    flop = f"{found.flops / 1e9:.3g} GFLOP"
    rate = found.flops / max(found.seconds, 1e-12) / 1e9
    facts = [
        f"{rate:.3g} GFLOP/s on the whole",
        f"{size(moved)} moved by {len(found.kernels)} kernels",
    ]
    inner = sum(each.inner for each in found.kernels)
    if inner:
        facts.append(f"{inner} of them {INNER}")
    if found.host_steps:
        facts.append(f"between compiled steps, in numpy: {', '.join(found.host_steps)}")
    return card("Work", _big(flop, "") + bullets(map(safe, facts)))


def _memory(found: Explanation) -> str:
    rows = (
        ("arena", found.arena_bytes, "after"),
        ("tensors", found.tensor_bytes, "before"),
        ("weights", found.weight_bytes, "range"),
    )
    most = max(*(count for _, count, _ in rows), 1)
    bars = "".join(bar(name, count / most, kind, size(count)) for name, count, kind in rows)
    note = f"tensors share the arena; side by side they would take {size(found.tensor_bytes)}"
    return card("Memory", _big(size(found.arena_bytes), "of temporaries") + bars, safe(note))


def _big(figure: str, caption: str) -> str:
    return f'<p><span class="big">{safe(figure)}</span> {safe(caption)}</p>'


# ---------------------------------------------------------------- the roofline


def _roofline(found: Explanation) -> str:
    """Every kernel that computes, under the roofs that are above any of them."""
    shown = [(i, each) for i, each in enumerate(found.kernels) if each.roof.flops]
    peaks = sorted({each.roof.peak for _, each in shown})
    levels = sorted({each.roof.level for _, each in shown})
    bands = {each.roof.level: each.roof.bandwidth for _, each in shown}
    marks = [(each.roof.intensity, _rate(each), _title(i, each)) for i, each in shown]
    ridges = [peaks[-1] / bands[level] for level in levels]
    x = spanning("FLOP per byte moved", [m[0] for m in marks] + ridges, log=True)
    y = spanning("GFLOP/s", [m[1] / 1e9 for m in marks] + [p / 1e9 for p in peaks], log=True)
    layers: list[Layer] = [
        Line(
            f"{LEVELS[level - 1]}, {size(round(bands[level]))}/s",
            [
                (x.low, bands[level] * x.low / 1e9),
                (peaks[-1] / bands[level], peaks[-1] / 1e9),
            ],
            kind=f"s{3 + level}",
            dashed=True,
        )
        for level in levels
    ]
    layers += [
        Line(
            f"arithmetic, {peak / 1e9:.3g} GFLOP/s",
            [(x.low, peak / 1e9), (x.high, peak / 1e9)],
            kind="limit",
            dashed=True,
        )
        for peak in peaks
    ]
    layers += _by_share(found, marks, [each.seconds for _, each in shown])
    moves = len(found.kernels) - len(shown)
    note = "Point at a kernel for its name. The nearer it is to the roof above it, the better."
    if moves:
        note += f" {moves} that only move data are not shown."
    if found.is_above_roofs:
        note += f" {ABOVE}."
    plot = chart(x, y, layers, note=note)
    return f'<h2>The roofline</h2><section class="card">{plot}</section>'


def _by_share(
    found: Explanation, marks: list[tuple[float, float, str]], seconds: list[float]
) -> Iterator[Layer]:
    """The marks of kernels, those that take most of the time apart from the others."""
    names = (f"under {percent(SHARES[-1])} of the time", f"over {percent(SHARES[1])}")
    for name, low, high, kind in (
        (names[0], 0.0, SHARES[1], "before"),
        (names[1], SHARES[1], SHARES[0], "s0"),
        (f"over {percent(SHARES[0])}", SHARES[0], 2.0, "s3"),
    ):
        some = [
            (across, up / 1e9, title)
            for (across, up, title), taken in zip(marks, seconds)
            if low <= taken / max(found.seconds, 1e-12) < high
        ]
        if some:
            yield Points(name, some, kind)


def _rate(each: Explained) -> float:
    return each.roof.flops * each.times / max(each.seconds, 1e-12)


def _title(number: int, each: Explained) -> str:
    return (
        f"#{number} {each.layer} ({' '.join(each.fused)}): {duration(each.seconds)}, "
        f"{_rate(each) / 1e9:.3g} GFLOP/s, {each.of_roof:.0%} of its roof ({each.roof.name})"
    )


# ---------------------------------------------------------------- kernels


def _furthest(found: Explanation) -> str:
    cards = []
    for numbers, lost in found.furthest()[:TOLD]:
        each = found.kernels[numbers[0]]
        share = percent(lost / max(found.seconds, 1e-12))
        head = _big(duration(lost), f"beyond the roof, {share} of a run")
        if len(numbers) > 1:
            places = " ".join(f"#{number}" for number in numbers)
            head += f'<p class="soft">{len(numbers)} kernels have this code: {places}</p>'
        cards.append(card(f"#{numbers[0]} {each.layer}", head + bullets(map(safe, each.why))))
    return f'<div class="cards">{"".join(cards)}</div>'


def _kernels(found: Explanation) -> str:
    slowest = max(each.seconds for each in found.kernels)
    both = found.is_measured
    times = [
        (
            _title(i, each),
            (each.predicted, each.measured) if both else (each.predicted,),
        )
        for i, each in enumerate(found.kernels)
    ]
    kinds = ("before", "after") if both else ("after",)
    key = '<span class="key before"></span> predicted <span class="key after"></span> measured, '
    most = max(value or 0.0 for _, pair in times for value in pair)
    plot = card(
        "Time of each kernel", columns(times, kinds), f"{key if both else ''}up to {duration(most)}"
    )
    first: dict[str, int] = {}
    rows = []
    for number, each in enumerate(found.kernels):
        twin = first.setdefault(each.kernel + each.schedule, number)
        rows.append(_kernel(number, each, twin, slowest))
    said = "which roof is above it, how near it is to that, and its time"
    return (
        f'{plot}<div class="card" style="margin-top:1rem"><p class="soft">Each kernel: {said}.</p>'
        f"{''.join(rows)}</div>"
    )


def _kernel(number: int, each: Explained, twin: int, slowest: float) -> str:
    names = [f"{name} ({op})" if op != name else op for name, op in zip(each.sources, each.fused)]
    moved = each.roof.bytes
    facts = [
        f"fused: {', '.join(names)}",
        f"operators: {', '.join(each.operators)}",
        f"moved: {size(moved.read)} read, {size(moved.weights)} of weights, "
        f"{size(moved.written)} written",
        f"predicted {duration(each.predicted)}"
        + ("" if each.measured is None else f", measured {duration(each.measured)}"),
    ]
    if each.times > 1:
        facts.append(f"it runs {each.times} times, and all of them are counted")
    text = f"<pre>{'<br>'.join(map(safe, each.kernel.splitlines()))}</pre>"
    if twin != number:
        text = f'<p class="soft">The same code as #{twin}.</p>'
    return (
        f'<details class="layer"><summary><span class="form">{number}</span>'
        f'<span>{safe(each.layer)} <span class="form">{safe(" ".join(each.fused))}</span></span>'
        f'<span class="form roof">{safe(each.roof.name)}</span>'
        f'<span class="number">{each.of_roof:.0%}</span>'
        f'<span class="number">{safe(duration(each.seconds))}</span>'
        f'<span class="times">{meter(each.seconds / max(slowest, 1e-12), "after")}</span>'
        f"</summary><div>{bullets(map(safe, facts))}<h3>Why</h3>{bullets(map(safe, each.why))}"
        f"{_candidates(each) if twin == number else ''}{text}</div></details>"
    )


def _candidates(each: Explained) -> str:
    if not each.candidates:
        return ""
    least = each.candidates[0].seconds
    measured = any(candidate.measured is not None for candidate in each.candidates)
    rows = []
    for candidate in each.candidates:
        cells = [candidate.schedule, duration(candidate.predicted)]
        if measured:
            cells.append("" if candidate.measured is None else duration(candidate.measured))
        rows.append([*map(safe, cells), f"{candidate.seconds / least:.2f}"])
    heads = ("schedule", "predicted", *["measured"] * measured, "times")
    return (
        f"<h3>The best {len(rows)} of {each.considered} schedules</h3>"
        f"{table(heads, rows, numbers={1, 2, 3})}"
    )


def _variants(found: Explanation) -> str:
    """What each operator could have been computed by."""
    several = [each for each in found.variants if len(each.prices) > 1]
    if not several:
        return ""
    cards = "".join(_bodies(each) for each in several)
    return f'<h2>Ways to compute an operator</h2><div class="cards">{cards}</div>'


def _bodies(bodies: Rivals) -> str:
    known = [seconds for _, seconds in bodies.prices if isfinite(seconds)]
    rows = [
        bar(name, seconds / max(known), "after", duration(seconds))
        if isfinite(seconds)
        else bar(name, 0.0, "after", "no memory")
        for name, seconds in bodies.prices
    ]
    places = f"{len(bodies.where)} of this kind, such as {bodies.where[0]}"
    return card(bodies.op, "".join(rows), safe(places))
