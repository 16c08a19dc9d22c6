"""The document of `brim view`: a model's structure at every stage of its way, as plain data.

Python writes it, the page draws it. As JSON it has the fields below under the same names; tuples
are arrays, mappings objects, None is null. What is said once is in one table for all stages:
`sources`, `blocks` and `weights`; nodes refer to these tables, and to each other, by number. So a
layer keeps its name, its block and its place while passes change what is around it.

All texts come from a file that nobody vouches for: they are `printable`, and must be drawn as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERSION = 1

# What nodes are, for their colours. folded: an operator of the file of which import leaves nothing.
KINDS = (
    "input", "output", "product", "norm", "activation", "elementwise", "reduce", "index", "move",
    "quantize", "source", "control", "host", "folded",
)  # fmt: skip


@dataclass(frozen=True)
class Weight:
    """Numbers that a node reads. type: as of values; low, high, mean, zeros (a share) and counts
    (equal bins from low to high) of its finite numbers, None where there are none, or no numbers.
    values: all of them as texts, of few. sampled: counts, mean and zeros are of a part of them."""

    name: str
    type: str
    bytes: int
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    zeros: float | None = None
    counts: tuple[int, ...] | None = None
    values: tuple[str, ...] | None = None
    sampled: bool = False


@dataclass(frozen=True)
class Node:
    """An operator, a port of the graph (op "input" or "output"), or a kernel; all arguments before
    their users.

    kind: one of KINDS. hint: what else tells it from others of its kind, shortly. key: identity
    over all stages, unique in each. source: number of its name in the file; block: the innermost.
    inputs: (node, port) of each argument that is no constant; outputs: types. weights: (position of
    the argument, number of the weight). kernel: number of the kernel that computes it. body: of
    control operators, the blocks that hold their sub-graphs, with input and output nodes of their
    own.
    """

    op: str
    kind: str
    hint: str
    key: int
    source: int | None
    block: int | None
    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, str]
    weights: tuple[tuple[int, int], ...] = ()
    kernel: int | None = None
    body: tuple[int, ...] = ()


@dataclass(frozen=True)
class Block:
    """Nodes that are drawn as one until it is opened. parent: a block with a lower number. alike:
    blocks of one number have the same structure; None: no other has."""

    name: str
    parent: int | None
    alike: int | None = None


@dataclass(frozen=True)
class Stage:
    """The graph after a step. same: number of the earlier stage that it equals; then it has no
    nodes of its own."""

    name: str
    title: str
    why: str
    nodes: tuple[Node, ...]
    same: int | None = None


@dataclass(frozen=True)
class Kernel:
    """One kernel call. predicted, measured: seconds of a run on one thread; measured None: was not.
    times: how often it is called in one, all of them counted in the seconds and in flops."""

    ops: tuple[str, ...]
    where: str
    schedule: str
    predicted: float
    measured: float | None
    flops: int
    times: int


@dataclass(frozen=True)
class Overlay:
    """A number for each kernel, or for each source (`by`), to colour nodes by. bad: high or low."""

    name: str
    title: str
    unit: str
    by: str
    bad: str
    values: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Document:
    """A model, stage after stage. facts: labels and texts for people."""

    name: str
    facts: tuple[tuple[str, str], ...]
    sources: tuple[str, ...]
    blocks: tuple[Block, ...]
    weights: tuple[Weight, ...]
    stages: tuple[Stage, ...]
    kernels: tuple[Kernel, ...] = ()
    overlays: tuple[Overlay, ...] = ()

    def plain(self) -> dict[str, Any]:
        """All of it as dictionaries, lists, texts and finite numbers."""
        return {"version": VERSION, **_plain(self)}


def _plain(part: Any) -> dict[str, Any]:
    """A dataclass as a dictionary; an empty `body`, which nearly all nodes have, is left out."""
    found = {}
    for name in part.__dataclass_fields__:
        value = getattr(part, name)
        if isinstance(value, tuple) and value and hasattr(value[0], "__dataclass_fields__"):
            value = [_plain(each) for each in value]
        elif name == "body" and not value:
            continue
        elif isinstance(value, Mapping):
            value = dict(value)
        found[name] = value
    return found
