"""How brim writes figures: bytes and seconds for people, JSON for scripts."""

from __future__ import annotations

import json
import math
from typing import Any


def size(count: int) -> str:
    """Bytes as people read them."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.2f} GB"


def operations(count: int) -> str:
    """Arithmetic operations as people read them."""
    units = ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP")
    power = min((len(str(count)) - 1) // 3, len(units) - 1)
    return f"{count / 1000**power:.3g} {units[power]}"


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def count_text(number: float) -> str:
    """A number of things, such as runs a second, as people read it."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def json_text(document: Any, indent: int | None = None) -> str:
    """JSON; numbers that it has not become the texts nan, inf, -inf."""
    return json.dumps(_finite(document), indent=indent, allow_nan=False)


def _finite(node: Any) -> Any:
    match node:
        case float():
            return node if math.isfinite(node) else str(node)
        case dict():
            return {key: _finite(value) for key, value in node.items()}
        case list() | tuple():
            return [_finite(value) for value in node]
        case _:
            return node


def percent(share: float) -> str:
    """A share as people read it, to three digits: 0.0123 is 1.23 %."""
    return f"{share * 100:.3g} %"


def decibel(sqnr: float) -> str:
    """Signal over noise as people read it: infinite where two things are equal."""
    if sqnr == math.inf:
        return "equal"
    return f"{sqnr:.1f} dB" if math.isfinite(sqnr) else "none"


def printable(text: str) -> str:
    """A name out of a model, which nobody vouches for: what controls a terminal, or turns the
    direction of writing, becomes a replacement character."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
