"""Which smaller extents are worth a try, in any format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations, product
from typing import Any

LEAST = 4  # extents up to here are tried, and the half, and one less
PAIRED = (1, 2)  # for two at once, such as channels and channels of a group


def smaller_extents(extents: Iterable[int]) -> Iterator[list[Mapping[int, int]]]:
    """Maps of extents to smaller ones, the least first: of each, the largest first; then of two
    together."""
    found = sorted((n for n in extents if n > 1), reverse=True)
    for n in found:
        least = range(1, min(n, LEAST + 1))
        yield [{n: less} for less in dict.fromkeys((*least, n // 2, n - 1)) if less < n]
    for pair in combinations(found, 2):
        lesser = product(PAIRED, PAIRED)
        yield [dict(zip(pair, less)) for less in lesser if less[0] < pair[0] and less[1] < pair[1]]


def swapped(attr: Any, smaller: Mapping[int, int]) -> Any:
    """An extent, or a tuple of them, with smaller ones in it; anything else as it is."""
    if isinstance(attr, tuple):
        return tuple(swapped(part, smaller) for part in attr)
    return smaller.get(attr, attr) if type(attr) is int else attr
