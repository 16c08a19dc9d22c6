"""How a network of any size becomes screenfuls: nested blocks, by its names or by its structure.

Exporters that name nodes after modules ("/layers.0/attn/MatMul", "block1/conv/Relu") give blocks
away. Where names are flat, and where a block of theirs holds too many parts, structure decides, one
rule after the other until few enough are left: a product and the small operators behind it; what
lies between two points that all paths go through (regions of single entry and single exit: Johnson
et al., "The program structure tree", 1994); stretches of one resolution; what repeats; branches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from brim.view.document import Block

MOST = 16  # parts that a screen shows at once
AT_MOST = 24  # where nothing but their number divides them
LEAST = 16  # a stretch that repeats is one if it is more than the 16th part of what there is
LONGEST = 128  # parts of a sequence that is looked for again
WHOLE = 0.8  # of all items: a block of more is the network itself, as in "model/..."
DEEP = 3  # blocks in each other from which on
LARGE = 0.75  # of the parts must not stay together, or dividing them goes on and on
SPREAD = 4  # users of a value that is read all over the network, such as a mask
LIGHT = ("norm", "activation", "elementwise", "move", "quantize", "folded")


@dataclass(frozen=True)
class Item:
    """A layer of the network. args: positions of earlier items; negative numbers are inputs of the
    network. size: of its result in space, such as "56×56", or "" where that is not known."""

    name: str
    op: str
    kind: str
    size: str
    args: tuple[int, ...]


@dataclass(eq=False)
class Part:
    """An item (by position), or a block of parts in order. numbered: its name is a word that says
    what it is; it gets a number where several blocks of a level have it."""

    name: str
    numbered: bool = False
    parts: list[Part] = field(default_factory=list)
    item: int | None = None


def blocks_of(items: Sequence[Item]) -> tuple[list[Block], list[int | None]]:
    """The blocks of a network, parents first, and the innermost block of each item (None: none).

    items: arguments before users. No block has one part only; no block, and no top level, has more
    than MOST, as far as names or structure give a reason, and never more than AT_MOST. Items that
    follow from no input, such as weights on their way out of storage, do not count: they stand
    beside what reads them.
    """
    counted = _following(items)
    place_of = {item: place for place, item in enumerate(counted)}
    network = [
        replace(items[i], args=tuple(place_of.get(a, a) for a in items[i].args if _is(a, place_of)))
        for i in counted
    ]
    blocks, found = _divided(network)
    places: list[int | None] = [None] * len(items)
    readers: dict[int, int] = {}
    for number, item in reversed(list(enumerate(items))):
        readers.update((arg, number) for arg in item.args)
        if number in place_of:
            places[number] = found[place_of[number]]
        elif number in readers:
            places[number] = places[readers[number]]
    return blocks, places


def _is(arg: int, place_of: Mapping[int, int]) -> bool:
    return arg < 0 or arg in place_of


def _following(items: Sequence[Item]) -> list[int]:
    """The items that follow from inputs; all, if none does."""
    found: set[int] = set()
    for number, item in enumerate(items):
        if any(arg < 0 or arg in found for arg in item.args):
            found.add(number)
    return sorted(found) or list(range(len(items)))


def _divided(items: Sequence[Item]) -> tuple[list[Block], list[int | None]]:
    top = _Splitter(items).fewer(_named(items))
    alike = _alike(top, items)
    blocks: list[Block] = []
    places: list[int | None] = [None] * len(items)
    rest: list[tuple[Part, str, int | None]] = [(*each, None) for each in _with_names(top)]
    while rest:
        part, name, parent = rest.pop()
        if part.item is not None:
            places[part.item] = parent
            continue
        rest += [(*each, len(blocks)) for each in _with_names(part.parts)]
        blocks.append(Block(name, parent, alike.get(id(part))))
    return blocks, places


def _with_names(parts: Sequence[Part]) -> list[tuple[Part, str]]:
    """The parts of a level, the last one first, with names that tell them apart."""
    times = Counter(part.name for part in parts if part.numbered)
    sofar: Counter[str] = Counter()
    found = []
    for part in parts:
        sofar[part.name] += 1
        several = part.numbered and times[part.name] > 1
        found.append((part, f"{part.name} {sofar[part.name]}" if several else part.name))
    return found[::-1]


def leaves(part: Part) -> list[int]:
    """The items in a part, in order."""
    found, rest = [], [part]
    while rest:
        each = rest.pop()
        if each.item is not None:
            found.append(each.item)
        rest += reversed(each.parts)
    return found


# ------------------------------------------------------------------ by names


def module_path(name: str) -> list[str]:
    """The modules that a node's name speaks of, outermost first. TFLite joins names of what it has
    fused with semicolons; the first one counts."""
    return [step for step in name.partition(";")[0].split("/")[:-1] if step]


def _named(items: Sequence[Item]) -> list[Part]:
    """The parts of the top level, nested as the names say."""
    root = Part("")
    known: dict[tuple[str, ...], Part] = {(): root}
    for number, item in enumerate(items):
        path: tuple[str, ...] = ()
        for step in module_path(item.name):
            outer, path = known[path], (*path, step)
            if path not in known:
                known[path] = Part(step)
                outer.parts.append(known[path])
        known[path].parts.append(Part(item.name, item=number))
    _without_singles(root)
    parts = root.parts
    while whole := [p for p in parts if len(leaves(p)) > WHOLE * len(items) and p.item is None]:
        at = parts.index(whole[0])
        parts = [*parts[:at], *whole[0].parts, *parts[at + 1 :]]
    return parts


def _without_singles(root: Part) -> None:
    """Blocks of one part become that part; of a block in a block the names are joined."""
    order, rest = [], [root]
    while rest:
        part = rest.pop()
        order.append(part)
        rest += part.parts
    for part in reversed(order):
        for i, inner in enumerate(part.parts):
            if len(inner.parts) == 1:
                (only,) = inner.parts
                if only.item is None:
                    only.name = f"{inner.name}/{only.name}"
                part.parts[i] = only


# ------------------------------------------------------------------ by structure


class _Splitter:
    """Applies rules to the parts of a block until there are at most MOST of them."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.depth = 0
        self.rules: tuple[Callable[[list[Part]], list[Part]], ...] = (
            self._layers, self._even_regions, self._sizes, self._regions, self._repeats,
            self._branches, self._chunks,
        )  # fmt: skip

    def fewer(self, parts: list[Part]) -> list[Part]:
        """The parts of a block, few enough; those of blocks in it, too."""
        self.depth += 1
        parts = self._fewer(parts)
        self.depth -= 1
        return parts

    def _fewer(self, parts: list[Part]) -> list[Part]:
        parts = sorted(parts, key=lambda part: max(leaves(part)))
        for part in parts:
            if part.item is None:
                part.parts = self.fewer(part.parts)
        for rule in self.rules:
            if len(parts) <= MOST:
                break
            parts = rule(parts)
        return parts

    def _block(self, word: str, parts: list[Part]) -> Part:
        """A block of some parts, named by a word; of one part that part."""
        return parts[0] if len(parts) == 1 else Part(word, True, self.fewer(parts))

    def _divides_little(self, groups: Sequence[Sequence], parts: Sequence[Part]) -> bool:
        """Whether to go on in this way would nest blocks as deep as the network is long."""
        return self.depth > DEEP and _one_is_large(groups, parts)

    def _layers(self, parts: list[Part]) -> list[Part]:
        """A product, and the light operators that alone read it, and one another."""
        links = _Links(parts, self.items)
        groups: list[list[int]] = []
        group_of: dict[int, int] = {}
        for i, part in enumerate(parts):
            item = None if part.item is None else self.items[part.item]
            before = links.args[i]
            if (
                item is not None
                and item.kind in LIGHT
                and len(before) == len(item.args) == 1
                and len(links.users[before[0]]) == 1
                and before[0] in group_of
            ):
                group_of[i] = group_of[before[0]]
                groups[group_of[i]].append(i)
                continue
            if item is not None and item.kind == "product":
                group_of[i] = len(groups)
            groups.append([i])
        if len(groups) == 1:
            return parts
        made = []
        for group in groups:
            inside = [parts[i] for i in group]
            ends = _from_to(inside[0].name, inside[-1].name)
            made.append(inside[0] if len(inside) == 1 else Part(ends, False, self.fewer(inside)))
        return sorted(made, key=lambda part: max(leaves(part)))

    def _even_regions(self, parts: list[Part]) -> list[Part]:
        """Regions, if none of them is nearly all: else resolutions tell more, as in a U-Net."""
        cells = _cells(parts, self.items)
        return parts if _one_is_large(cells, parts) else self._regions(parts)

    def _regions(self, parts: list[Part]) -> list[Part]:
        """What lies between two parts that all paths go through, with the second one."""
        cells = _cells(parts, self.items)
        if len(cells) == 1 or self._divides_little(cells, parts):
            return parts
        return [self._region(cell) for cell in cells]

    def _region(self, parts: list[Part]) -> Part:
        join = self.items[leaves(parts[-1])[-1]].op.lower()
        word = "residual" if join == "add" else "branches" if join.startswith("concat") else "fork"
        return self._block(word, parts)

    def _repeats(self, parts: list[Part]) -> list[Part]:
        """Sequences of parts that stand there several times in a row, the longest stretch first."""
        while len(parts) > MOST:
            tokens = [_token(part, self.items) for part in parts]
            found = _longest_repeat(tokens)
            if found is None:
                break
            start, period, times = found
            ends = range(start, start + period * times + 1, period)
            units = [self._block("unit", parts[a:b]) for a, b in pairwise(ends)]
            parts = [*parts[:start], *units, *parts[start + period * times :]]
        return parts

    def _branches(self, parts: list[Part]) -> list[Part]:
        """Sides of a fork: sets of parts that nothing connects."""
        links = _Links(parts, self.items)
        sides: list[list[int]] = []
        side_of: dict[int, int] = {}
        for start in range(len(parts)):
            if start in side_of:
                continue
            side, rest = [], [start]
            side_of[start] = len(sides)
            while rest:
                i = rest.pop()
                side.append(i)
                for other in (*links.args[i], *links.users[i]):
                    if other not in side_of:
                        side_of[other] = len(sides)
                        rest.append(other)
            sides.append(sorted(side))
        if len(sides) == 1 or self._divides_little(sides, parts):
            return parts
        made = [self._block("branch", [parts[i] for i in side]) for side in sides]
        return sorted(made, key=lambda part: max(leaves(part)))

    def _sizes(self, parts: list[Part]) -> list[Part]:
        """Stretches of one resolution, of pictures."""
        runs: list[tuple[str, list[Part]]] = []
        for part in parts:
            sizes = [self.items[item].size for item in leaves(part)]
            size = next((s for s in reversed(sizes) if set(s) - set("1×")), "")  # 1×1: a summary
            if runs and size in ("", runs[-1][0]):
                runs[-1][1].append(part)
            else:
                runs.append((size, [part]))
        if not 3 <= len(runs) <= len(parts) // 2 or not any("×" in size for size, _ in runs):
            return parts
        return [self._block(size or "flat", run) for size, run in runs]

    def _chunks(self, parts: list[Part]) -> list[Part]:
        """Stretches of equal length: nothing better is known."""
        if len(parts) <= AT_MOST:
            return parts
        count = min(MOST, round(len(parts) ** 0.5) + 1)
        edges = [i * len(parts) // count for i in range(count + 1)]
        return [self._block("part", parts[a:b]) for a, b in pairwise(edges) if a < b]


def _from_to(first: str, last: str) -> str:
    """Two names, without the modules that they share."""
    modules = list(zip(module_path(first), module_path(last)))
    shared = next((i for i, (a, b) in enumerate(modules) if a != b), len(modules))
    names = (name.partition(";")[0].strip("/").split("/")[shared:] for name in (first, last))
    return " … ".join("/".join(steps) for steps in names)


class _Links:
    """args[i], users[i]: parts that part i reads, and that read it. What is read all over the
    network connects nothing, and neither do edges backwards, which names alone can cause. entered:
    the last part that reads an input of the network."""

    def __init__(self, parts: Sequence[Part], items: Sequence[Item]) -> None:
        owner = {item: i for i, part in enumerate(parts) for item in leaves(part)}
        args: list[dict[int, None]] = [{} for _ in parts]
        readers: dict[int, set[int]] = {}
        for item, i in owner.items():
            for arg in items[item].args:
                if arg < 0 or (arg in owner and owner[arg] < i):
                    readers.setdefault(arg, set()).add(i)
        everywhere = {
            arg
            for arg, found in readers.items()
            if len(found) >= SPREAD and max(found) - min(found) > len(parts) // SPREAD
        }
        for item, i in owner.items():
            for arg in items[item].args:
                if arg >= 0 and arg in readers and arg not in everywhere and owner[arg] < i:
                    args[i][owner[arg]] = None
        entries = [
            max(found) for arg, found in readers.items() if arg < 0 and arg not in everywhere
        ]
        self.entered = max(entries, default=-1)
        self.args = [list(found) for found in args]
        self.users: list[list[int]] = [[] for _ in parts]
        for i, found in enumerate(self.args):
            for arg in found:
                self.users[arg].append(i)


def _one_is_large(groups: Sequence[Sequence], parts: Sequence[Part]) -> bool:
    return max(map(len, groups)) > LARGE * len(parts)


def _cells(parts: list[Part], items: Sequence[Item]) -> list[list[Part]]:
    """Parts between points that all paths go through: each such point ends a cell."""
    links = _Links(parts, items)
    last = [max(users, default=i) for i, users in enumerate(links.users)]
    cells: list[list[Part]] = [[]]
    open_until = links.entered  # the last reader of what came before
    for i, part in enumerate(parts):
        cells[-1].append(part)
        if open_until <= i:
            cells.append([])
        open_until = max(open_until, last[i])
    return [cell for cell in cells if cell]


Token = tuple


def _token(part: Part, items: Sequence[Item]) -> Token:
    """What parts of one structure have in common: operators and their nesting, not their sizes."""
    if part.item is not None:
        return (items[part.item].op,)
    return tuple(_token(inner, items) for inner in part.parts)


def _longest_repeat(tokens: Sequence[Token]) -> tuple[int, int, int] | None:
    """(start, period, times) of the stretch that several equal sequences of two parts or more
    cover; of equal ones that with the shortest period, then the first. None: none is worth it."""
    numbers: dict[Token, int] = {}
    word = np.array([numbers.setdefault(token, len(numbers)) for token in tokens])
    best, covered = None, len(word) // LEAST
    for period in range(2, min(len(word) // 2, LONGEST) + 1):
        again = np.concatenate(([False], word[period:] == word[:-period], [False]))
        (edges,) = np.diff(
            again.astype(np.int8)
        ).nonzero()  # where stretches begin and end, in turn
        for start, run in zip(edges[::2].tolist(), (edges[1::2] - edges[::2]).tolist()):
            times = run // period + 1
            varied = len(set(word[start : start + period].tolist())) > 1
            if times > 1 and varied and period * times > covered:
                best, covered = (start, period, times), period * times
    return best


def _alike(top: Sequence[Part], items: Sequence[Item]) -> dict[int, int]:
    """id(block) -> the number of its structure, where several have it."""
    found: dict[Token, list[Part]] = {}
    rest = list(reversed(top))
    while rest:
        part = rest.pop()
        if part.item is None:
            found.setdefault(_token(part, items), []).append(part)
            rest += reversed(part.parts)
    several = [parts for parts in found.values() if len(parts) > 1]
    return {id(part): number for number, parts in enumerate(several) for part in parts}
