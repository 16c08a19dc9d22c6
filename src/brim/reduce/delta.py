"""Delta debugging of sets and of prefixes: what of a list can go while something still holds.

Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input (2002). What edits are, and
what holds, callers know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def most(edits: Sequence[T], holds: Callable[[list[T]], bool]) -> list[T]:
    """As many of `edits` as can be made together, in their order.

    Halves are tried before their parts: where k of n edits are refused, that takes about
    k log2(n / k) calls of `holds`. Those refused early are not tried again.
    """
    taken: list[T] = []
    parts = [list(edits)] if edits else []
    while parts:
        part = parts.pop()
        if holds([*taken, *part]):
            taken += part
        elif len(part) > 1:
            middle = len(part) // 2
            parts += [part[middle:], part[:middle]]
    return taken


def shortest(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """By bisection a number in low..high that holds while the one before it does not.

    high: held, without being asked. The least of all, where a number above one that holds holds.
    """
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high
