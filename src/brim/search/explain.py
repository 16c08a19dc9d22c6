"""The bodies that composites of a graph could have, and what each would cost."""

from __future__ import annotations

from dataclasses import dataclass

from brim.graph import Graph
from brim.passes.expand import variants
from brim.search.choice import Search
from brim.search.variants import bodies, kind, price


@dataclass(frozen=True)
class Rivals:
    """The bodies that a composite could have. where: all places of composites of this kind.

    prices: (name, seconds), the cheapest first, which was taken; infinite: needs too much memory.
    """

    op: str
    where: tuple[str, ...]
    prices: tuple[tuple[str, float], ...]


def rivals(graph: Graph, search: Search) -> list[Rivals]:
    """The composites of a graph that have several bodies; equal ones together."""
    alike: dict[tuple, list] = {}
    for value in graph.values():
        if variants(value):
            alike.setdefault(kind(value), []).append(value)
    found = []
    for values in alike.values():
        first = values[0]
        priced = [((body or first.op).name, price(first, body, search)) for body in bodies(first)]
        priced.sort(key=lambda pair: pair[1])
        places = tuple(value.where for value in values)
        found.append(Rivals(first.op.name, places, tuple(priced)))
    return found
