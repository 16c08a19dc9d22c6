"""A compiled graph as flat data: what `Program` runs and `artifact` saves. No code that acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from brim.graph import Graph, Value
from brim.runtime.plan import Plan
from brim.runtime.planfile import KernelShape
from brim.targets.target import Target

if TYPE_CHECKING:
    from brim.kernels.pack import Packing


@dataclass(frozen=True, eq=False)
class Stored:
    """Where a constant of the graph lies in the weights, in bytes, and how it is packed there."""

    data: np.ndarray
    offset: int
    packing: Packing | None


@dataclass(frozen=True, eq=False)
class Derived:
    """Where a constant lies in the weights that follows from those of the graph: the value is an
    expression over such ones, or one of them, packed in another way."""

    value: Value
    offset: int
    packing: Packing | None

    @property
    def bytes(self) -> int:
        """What it takes in the weights, packed."""
        size = self.packing.size if self.packing else self.value.type.size
        return size * self.value.dtype.bytes


@dataclass(frozen=True)
class Row:
    """One kernel call of a compiled model, for people: see `brim explain`.

    where: the source's node whose product it computes, else that of its result. ops: primitives,
    that of the result first. sources: all nodes that are computed in it, in order.
    """

    where: str
    ops: tuple[str, ...]
    kernel: str
    schedule: str
    predicted_seconds: float
    flops: int
    is_move: bool
    object: int  # number of its object; equal kernels share one
    sources: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Compiled:
    """Everything that is needed to run one graph on one target, as data.

    kernels: what each distinct kernel takes. objects: the entry's object, then one for each of
    these; the plan numbers them from 0. subgraphs: the compiled sub-graphs of `cond` and `loop`, by
    id(Graph). stored: which of the graph's constants the weights hold, and where. derived: which
    parts of the weights follow from these constants, by offset.
    """

    graph: Graph
    plan: Plan
    kernels: tuple[KernelShape, ...]
    weights: np.ndarray
    objects: tuple[bytes, ...]
    rows: tuple[Row, ...]
    target: Target
    seconds: float
    subgraphs: Mapping[int, Compiled] = field(default_factory=dict)
    stored: tuple[Stored, ...] = ()
    derived: tuple[Derived, ...] = ()

    @property
    def inner_rows(self) -> tuple[Row, ...]:
        """Those of all sub-graphs, whose steps run on the host."""
        inner = self.subgraphs.values()
        return tuple(row for sub in inner for row in (*sub.rows, *sub.inner_rows))

    @property
    def weight_bytes(self) -> int:
        return self.weights.nbytes

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        """What is remembered from run to run, and its first content."""
        return self.graph.state
