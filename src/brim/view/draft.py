"""Stages in the making: nodes before they have numbers, blocks and kernels, and what all share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from brim.figures import printable
from brim.graph import Graph
from brim.types import DType
from brim.view.blocks import Item, blocks_of
from brim.view.document import Block, Node
from brim.view.kinds import heaviest
from brim.view.weights import Weights
from brim.where import split_name

LONGEST = 200  # characters of an attribute
CROWD = 4  # nodes of one layer that get a block of their own

Scope = tuple[tuple[str, int, int], ...]  # (owner's where, its number, sub-graph), outermost first


@dataclass(eq=False)
class Draft:
    """A node in the making. where: as of values; role: what it is within its layer, for its
    identity; scope: the sub-graph it stands in; bodies: those that it owns, with their names;
    kernel: its number, of nodes that are kernels."""

    op: str
    kind: str
    where: str
    role: str = ""
    hint: str = ""
    size: str = ""
    inputs: list[tuple[int, int]] = field(default_factory=list)
    outputs: tuple[str, ...] = ()
    attrs: Mapping[str, str] = field(default_factory=dict)
    weights: list[tuple[int, int]] = field(default_factory=list)
    scope: Scope = ()
    bodies: list[tuple[Scope, str]] = field(default_factory=list)
    kernel: int | None = None


class Shared:
    """The tables of a document, which grow with every stage."""

    def __init__(self) -> None:
        self.weights = Weights()
        self.blocks: list[Block] = []
        self.sources: dict[str, int] = {}
        self.hints: dict[str, str] = {}  # where-string -> what tells the layer from others
        self._keys: dict[tuple, int] = {}
        self._places: dict[tuple[Scope, str], int | None] = {}
        self._bodies: dict[Scope, int] = {}
        self._crowds: dict[tuple[Scope, str], int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What each source is called in the file."""
        return tuple(printable(name_of(where)) for where in self.sources)

    def split(self, drafts: Sequence[Draft]) -> None:
        """Makes the blocks of a document, from the stage that is nearest to the file: layers are
        what blocks hold, so that nodes of all stages find theirs by their source."""
        names = {scope: name for draft in drafts for scope, name in draft.bodies}
        for scope in dict.fromkeys(draft.scope for draft in drafts):
            outer = self._named_body(scope, names[scope]) if scope else None
            wheres, items = _layers(drafts, scope)
            blocks, places = blocks_of(items)
            first = len(self.blocks)
            for block in blocks:
                parent = outer if block.parent is None else block.parent + first
                alike = None if block.alike is None else block.alike + first
                self.blocks.append(Block(printable(block.name), parent, alike))
            for where, place in zip(wheres, places):
                self._places[scope, where] = outer if place is None else place + first

    def nodes(self, drafts: Sequence[Draft]) -> list[Node]:
        """The nodes of a stage."""
        blocks = self._blocks_of(drafts)
        counts: dict[tuple, int] = {}
        nodes = []
        for draft, block in zip(drafts, blocks):
            layer = (draft.scope, draft.where, draft.role or draft.op)
            counts[layer] = counts.get(layer, 0) + 1
            key = self._keys.setdefault((*layer, counts[layer]), len(self._keys))
            if draft.hint and draft.kind == "product":
                self.hints.setdefault(draft.where, draft.hint)
            source = self.sources.setdefault(draft.where, len(self.sources))
            nodes.append(
                Node(
                    printable(draft.op),
                    draft.kind,
                    printable(draft.hint),
                    key,
                    source if draft.where else None,
                    block,
                    tuple(draft.inputs),
                    draft.outputs,
                    draft.attrs,
                    tuple(draft.weights),
                    draft.kernel,
                    tuple(self._named_body(scope, name) for scope, name in draft.bodies),
                )
            )
        return nodes

    def _blocks_of(self, drafts: Sequence[Draft]) -> list[int | None]:
        """Each node's block: its layer's, or its layer; of a layer that is unknown, that of what it
        reads, else of what reads it."""
        found: list[int | None] = []
        lost: set[int] = set()
        for number, draft in enumerate(drafts):
            key = (draft.scope, draft.where)
            beside = [i for i, _ in draft.inputs if drafts[i].scope == draft.scope]
            block = self._body(draft.scope)
            if key in self._places:
                block = self._places[key]
            elif draft.kind not in ("input", "output"):
                known = [i for i in beside if i not in lost and drafts[i].kind != "input"]
                if known:
                    block = found[known[0]]
                else:
                    lost.add(number)
            found.append(block)
        for number in range(len(drafts) - 1, -1, -1):
            for i, _ in drafts[number].inputs:
                if i in lost and drafts[number].scope == drafts[i].scope:
                    found[i] = found[number]
        layers = Counter((d.scope, d.where) for d in drafts if d.where)
        return [
            self._crowd(draft, block) if layers[draft.scope, draft.where] >= CROWD else block
            for draft, block in zip(drafts, found)
        ]

    def _crowd(self, draft: Draft, parent: int | None) -> int:
        """The block of a layer that has become many nodes, as quantized ones do."""
        key = (draft.scope, draft.where)
        if key not in self._crowds:
            self._crowds[key] = len(self.blocks)
            self.blocks.append(Block(printable(name_of(draft.where)), parent))
        return self._crowds[key]

    def _body(self, scope: Scope) -> int | None:
        return self._named_body(scope, "body") if scope else None

    def _named_body(self, scope: Scope, name: str) -> int:
        """The block that holds a sub-graph, within that of the operator that owns it."""
        if scope not in self._bodies:
            outer = scope[:-1]
            where = scope[-1][0]
            parent = self._places.get((outer, where), self._body(outer))
            self._bodies[scope] = len(self.blocks)
            self.blocks.append(Block(printable(name), parent))
        return self._bodies[scope]


def _layers(drafts: Sequence[Draft], scope: Scope) -> tuple[list[str], list[Item]]:
    """The layers of a graph, each one or several nodes of one source, arguments before users."""
    number: dict[str, int] = {}
    inside = [i for i, draft in enumerate(drafts) if draft.scope == scope]
    inside = [i for i in inside if drafts[i].where and drafts[i].kind not in ("input", "output")]
    for i in reversed(inside):  # the last node of a layer says where it stands
        number.setdefault(drafts[i].where, i)
    wheres = sorted(number, key=number.__getitem__)
    position = {where: i for i, where in enumerate(wheres)}
    args: list[dict[int, None]] = [{} for _ in wheres]
    for i in inside:
        mine = position[drafts[i].where]
        for j, _ in drafts[i].inputs:
            is_input = drafts[j].kind == "input"
            other = -1 - j if is_input else position.get(drafts[j].where, mine)
            if drafts[j].scope == scope and other < mine:
                args[mine][other] = None
    nodes: dict[str, list[Draft]] = {}
    for i in inside:
        nodes.setdefault(drafts[i].where, []).append(drafts[i])
    return wheres, [_item(where, nodes[where], tuple(found)) for where, found in zip(wheres, args)]


def _item(where: str, nodes: Sequence[Draft], args: tuple[int, ...]) -> Item:
    """A layer: known by the heaviest of its nodes."""
    kind = heaviest(node.kind for node in nodes)
    main = next(node for node in nodes if node.kind == kind)
    return Item(name_of(where), main.op, kind, main.size, args)


def name_of(where: str) -> str:
    """The source's name of a place; of the names of all that a TFLite operator was fused of, with
    semicolons between, the first one."""
    return split_name(where)[0].partition(";")[0]


def constant_name(where: str, position: int, reader: str) -> str:
    """What a constant is called: by its own name, by what it came of, or by who reads it."""
    if ": " in where:
        return f"folded into {name_of(where)}"
    return where or f"argument {position} of {name_of(reader)}"


def shown(attrs: Mapping[str, Any]) -> dict[str, str]:
    """Attributes as texts, without the graphs among them."""
    return {
        printable(name): text for name, attr in attrs.items() if (text := _text(attr)) is not None
    }


def _text(attr: Any) -> str | None:
    match attr:
        case Graph():
            return None
        case float() | np.floating():
            text = f"{attr:.8g}"
        case tuple() | list():
            parts = [_text(part) for part in attr[:64]]
            if None in parts:
                return None
            text = ", ".join(map(str, parts)) + (", ..." if len(attr) > 64 else "")
            text = f"({text})"
        case np.ndarray() if attr.size > 8:
            text = f"{attr.dtype}{list(attr.shape)}"
        case np.ndarray():
            text = str(attr.tolist())
        case bytes():
            text = f"{len(attr)} bytes"
        case DType() | str() | bool() | int() | None | np.generic():
            text = str(attr)
        case _:
            return None if hasattr(attr, "nodes") else printable(str(attr))[:LONGEST]
    text = printable(text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
