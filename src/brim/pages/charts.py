"""Charts: plots with axes. The numbers along them, labels and the legend are HTML around the SVG.

A chart is a frame of two axes and the layers drawn in it, the first one undermost. Layers get the
page's colours in their order; `kind` names another class of the style sheet instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from brim.pages.page import safe
from brim.pages.plots import WIDE

HIGH = 1000  # of a chart's coordinates
COLOURS = 8  # classes s0 to s7 of the style sheet
_TICKS = 6  # about as many numbers along an axis


def plain(number: float) -> str:
    """A number as it stands along an axis."""
    return f"{number:.4g}"


@dataclass(frozen=True)
class Axis:
    """What lies along one side. text: writes a number of it. log: logarithmic, low is above 0.

    Raises ValueError for ends between which nothing can be placed.
    """

    label: str
    low: float
    high: float
    log: bool = False
    text: Callable[[float], str] = plain

    def __post_init__(self) -> None:
        finite = math.isfinite(self.low) and math.isfinite(self.high)
        if not finite or self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"an axis cannot reach from {self.low} to {self.high}")

    def place(self, number: float) -> float | None:
        """Where a number lies: 0 at the low end, 1 at the high one, beyond them outside of the
        frame; None for what is not finite, or not positive on a logarithmic axis."""
        if not math.isfinite(number) or (self.log and number <= 0):
            return None
        if self.log:
            low = math.log(self.low)  # quotients could overflow
            return (math.log(number) - low) / (math.log(self.high) - low)
        return (number - self.low) / (self.high - self.low)


def spanning(
    label: str,
    numbers: Iterable[float],
    *,
    log: bool = False,
    zero: bool = False,
    text: Callable[[float], str] = plain,
) -> Axis:
    """An axis with room for all numbers that it can show. zero: it begins there."""
    known = [x for x in numbers if math.isfinite(x) and (x > 0 or not log)]
    low, high = min(known, default=1.0), max(known, default=1.0)
    if log:
        return Axis(label, low / 1.3, high * 1.3, True, text)
    low = min(low, 0.0) if zero else low
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return Axis(label, low if zero and low == 0 else low - room, high + room, False, text)


@dataclass(frozen=True)
class Line:
    """Points (x, y) joined in their order; one that cannot be placed leaves a gap. dashed: such as
    a limit. band: (low, high) around each point, such as what was measured in half of the rounds.
    """

    name: str
    points: Sequence[tuple[float, float]]
    kind: str = ""
    dashed: bool = False
    band: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Points:
    """A round mark at each (x, y, title); the title is shown when it is pointed at."""

    name: str
    points: Sequence[tuple[float, float, str]]
    kind: str = ""


@dataclass(frozen=True)
class Boxes:
    """Rectangles (x from, x to, y from, y to, title)."""

    name: str
    boxes: Sequence[tuple[float, float, float, float, str]]
    kind: str = ""


Layer = Line | Points | Boxes


def chart(x: Axis, y: Axis, layers: Sequence[Layer], *, note: str = "") -> str:
    """A figure: layers within two axes, with a legend of those that have names. note: text."""
    kinds = [layer.kind or f"s{i % COLOURS}" for i, layer in enumerate(layers)]
    drawn = "".join(_drawn(layer, kind, x, y) for layer, kind in zip(layers, kinds))
    across, up = ticks(x), ticks(y)
    grid = "".join(
        f'<path class="grid" d="{d}" vector-effect="non-scaling-stroke"/>'
        for d in (
            *(f"M{_x(x, number)} 0V{HIGH}" for number in across),
            *(f"M0 {_y(y, number)}H{WIDE}" for number in up),
        )
    )
    named = [(layer.name, kind) for layer, kind in zip(layers, kinds) if layer.name]
    legend = "".join(
        f'<span><span class="key {kind}"></span> {safe(name)}</span>' for name, kind in named
    )
    below = f'<p class="soft">{safe(note)}</p>' if note else ""
    label = f'<p class="soft">{safe(y.label)}</p>' if y.label else ""
    return (
        f'<figure class="chart">{label}<div class="plot">'
        f'<div class="up">{_numbers(y, up, "bottom")}</div>'
        f'<svg viewBox="0 0 {WIDE} {HIGH}" preserveAspectRatio="none">{grid}{drawn}</svg>'
        f'<div class="across">{_numbers(x, across, "left")}</div></div>'
        f'<p class="soft middle">{safe(x.label)}</p><p class="legend">{legend}</p>{below}</figure>'
    )


def ticks(axis: Axis) -> list[float]:
    """The numbers that are written along an axis: round ones, within it."""
    if axis.log:
        decades = math.log10(axis.high / axis.low)
        every = max(1, math.ceil(decades / _TICKS))
        first, last = math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high))
        factors = (1, 2, 5) if decades < 2 else (1,)
        found = [f * 10.0**e for e in range(first, last + 1) if e % every == 0 for f in factors]
        found = [number for number in found if axis.low <= number <= axis.high]
        if len(found) > 1:
            return found
    rough = (axis.high - axis.low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough)
    first, last = math.ceil(axis.low / step), math.floor(axis.high / step)
    return [number * step for number in range(first, last + 1)]


def _numbers(axis: Axis, numbers: Sequence[float], side: str) -> str:
    return "".join(
        f'<span style="{side}:{100 * (axis.place(number) or 0.0):.4g}%">'
        f"{safe(axis.text(number))}</span>"
        for number in numbers
    )


def _drawn(layer: Layer, kind: str, x: Axis, y: Axis) -> str:
    match layer:
        case Line():
            dash = " dashed" if layer.dashed else ""
            lows = [(across, low) for (across, _), (low, _) in zip(layer.points, layer.band)]
            highs = [(across, high) for (across, _), (_, high) in zip(layer.points, layer.band)]
            band = _path([*lows, *reversed(highs)], x, y)
            around = f'<path class="band {kind}" d="{band}Z"/>' if band else ""
            return (
                f'{around}<path class="line {kind}{dash}" d="{_path(layer.points, x, y)}" '
                'vector-effect="non-scaling-stroke"/>'
            )
        case Points():
            # a line without length has round ends that no stretching turns into ellipses
            return "".join(
                f"<g><title>{safe(title)}</title>"
                f'<path class="mark {kind}" d="{_path([(across, up)], x, y)}h0" '
                'vector-effect="non-scaling-stroke"/></g>'
                for across, up, title in layer.points
                if _path([(across, up)], x, y)
            )
        case Boxes():
            return "".join(_box(box, kind, x, y) for box in layer.boxes)


def _box(box: tuple[float, float, float, float, str], kind: str, x: Axis, y: Axis) -> str:
    left, right, low, high, title = box
    if any(axis.place(v) is None for axis, v in ((x, left), (x, right), (y, low), (y, high))):
        return ""
    return (
        f'<g><title>{safe(title)}</title><path class="box {kind}" '
        f'd="M{_x(x, left)} {_y(y, low)}H{_x(x, right)}V{_y(y, high)}H{_x(x, left)}Z" '
        'vector-effect="non-scaling-stroke"/></g>'
    )


def _path(points: Iterable[tuple[float, float]], x: Axis, y: Axis) -> str:
    found, joined = [], False
    for across, up in points:
        if x.place(across) is None or y.place(up) is None:
            joined = False
            continue
        found.append(f"{'L' if joined else 'M'}{_x(x, across)} {_y(y, up)}")
        joined = True
    return "".join(found)


def _x(axis: Axis, number: float) -> str:
    return f"{WIDE * (axis.place(number) or 0.0):.5g}"


def _y(axis: Axis, number: float) -> str:
    return f"{HIGH * (1 - (axis.place(number) or 0.0)):.5g}"
