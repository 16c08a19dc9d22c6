"""A lowered graph as flat data: buffers, and the steps that read and write them, in order.

Made by `brim.kernels.lower`; given memory by `brim.runtime.plan`. Knows nothing of machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from brim.graph import Value
from brim.kernels.affine import Position, combine, row_major
from brim.kernels.ir import Index, Kernel
from brim.types import DType


@dataclass(frozen=True)
class Buffer:
    """`size` elements of memory. kind: input, output, const (with `data`), temp, host (object).

    Kernels see the carrier's elements in place of those of a storage type.
    """

    name: str
    dtype: DType
    size: int
    kind: str
    data: np.ndarray | None = None


@dataclass(frozen=True)
class View:
    """A tensor inside a buffer; strides and offset in elements."""

    buffer: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def is_contiguous(self) -> bool:
        return self.strides == row_major(self.shape)

    def index(self, position: Position) -> Index:
        return combine(list(zip(position, self.strides)), self.offset)


@dataclass(frozen=True)
class Fused:
    """What a kernel is made of, for people.

    ops: names of operators, that of the result first. where: the place of its product, if it has
    one; else of its result. sources: the places of all that is computed in it, in order.
    """

    ops: tuple[str, ...]
    where: str
    sources: tuple[str, ...]

    @staticmethod
    def of(values: Iterable[Value], product: Value | None = None) -> Fused:
        """Of values in the order in which they are computed. Moves have a place only where nothing
        is computed. product: what counts as one though it is no `contract`."""
        every = list(values)
        found = [value for value in every if value.op and value.op.kind != "move"] or every[-1:]
        products = [v for v in found if v is product or (v.op and v.op.kind == "contract")]
        return Fused(
            tuple(dict.fromkeys(value.op.name for value in reversed(every) if value.op)),
            (products or found)[-1].where,
            tuple(dict.fromkeys(value.where for value in found)),
        )


@dataclass(frozen=True)
class KernelStep:
    """One kernel, the buffers bound to its args, and what is fused in it."""

    kernel: Kernel
    buffers: tuple[str, ...]
    fused: Fused
    is_move: bool


@dataclass(frozen=True)
class HostStep:
    """One operator run by numpy between kernels. Args are views, or names of host buffers."""

    value: Value
    args: tuple[View | str, ...]
    result: View | str


@dataclass(frozen=True)
class Moving:
    """The part of a buffer that iteration i of a loop sees: from element
    `stride * ((first + step * i) % period)` on."""

    buffer: str
    stride: int
    first: int
    period: int
    step: int = 1


@dataclass(frozen=True)
class LoopStep:
    """Kernels that run `trips` times, in order.

    Of the names in their `buffers`, `moving` are not buffers but parts of one, and `own` are those
    that are written and read again in each iteration; all others are what they are outside.
    """

    trips: int
    steps: tuple[KernelStep, ...]
    moving: Mapping[str, Moving]
    own: frozenset[str]


@dataclass(frozen=True)
class Commit:
    """From here on state is written where it was read: a run that had a bad index ends here."""


Step = KernelStep | HostStep | LoopStep | Commit


def accesses(step: Step) -> tuple[dict[str, None], dict[str, None]]:
    """Names of the buffers that a step reads, and that it writes, in order; what a kernel writes it
    may read, too."""
    read: dict[str, None] = {}
    written: dict[str, None] = {}
    match step:
        case KernelStep():
            for arg, name in zip(step.kernel.args, step.buffers):
                (written if arg.role == "out" else read)[name] = None
        case HostStep():
            read.update((v if isinstance(v, str) else v.buffer, None) for v in step.args)
            result = step.result
            written[result if isinstance(result, str) else result.buffer] = None
        case LoopStep():
            for inner in step.steps:
                for found, names in zip((read, written), accesses(inner)):
                    found.update(
                        (step.moving[n].buffer if n in step.moving else n, None) for n in names
                    )
    return read, written


@dataclass(frozen=True)
class Lowered:
    """A whole graph as steps over buffers."""

    buffers: Mapping[str, Buffer]
    steps: tuple[Step, ...]
    inputs: Mapping[str, str]
    outputs: Mapping[str, View | str]

    def kernel_steps(self) -> Iterator[tuple[KernelStep, int]]:
        """All kernels, in order, and how often each runs."""
        for step in self.steps:
            match step:
                case KernelStep():
                    yield step, 1
                case LoopStep():
                    yield from ((inner, step.trips) for inner in step.steps)
