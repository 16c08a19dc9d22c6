"""How much a model computes, and the memory that it takes meanwhile: known before any code is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from brim.compiler import optimise, schedule_graph
from brim.sources import Shapes
from brim.tools.opened import open_model

TARGET = "x86-64-v3"  # a row of the table: the figures hardly depend on it, and need no LLVM


@dataclass(frozen=True)
class Work:
    """shapes: of the inputs, which the figures are for. flops: arithmetic operations of one run, a
    multiply and add counting as two. memory: bytes of temporaries, beside the weights. host: the
    operators that run in numpy, whose work is not counted."""

    shapes: Shapes
    flops: int
    memory: int
    host: tuple[str, ...]


def work_of(path: Path, shapes: Shapes | None = None, signature: str = "") -> Work | None:
    """The work of one run; every operator as it is defined, without variants that compute less.

    None where the shape of an input is open, and neither given nor usual. Raises BrimError for
    models that cannot be compiled.
    """
    opened = open_model(path, signature)
    fixed = {name: type.dims for name, type in opened.inputs.items() if type.is_static}
    full = {**fixed, **opened.usual, **(shapes or {})}
    if full.keys() < opened.inputs.keys():
        return None
    graph = opened.graph(full)
    found = schedule_graph(graph if opened.is_artifact else optimise(graph), TARGET, exact=True)
    host = {v.op.name for v in found.settled.values() if v.op and v.op.kind in ("host", "control")}
    flops = sum(row.flops for row in found.rows)
    return Work(full, flops, found.arena_bytes, tuple(sorted(host - {"item"})))
