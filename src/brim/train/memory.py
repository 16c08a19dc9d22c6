"""Training within a limit: steps that keep less for the backward pass, and compute more."""

from __future__ import annotations

from brim.compiler import arena_bytes, optimise
from brim.errors import InputError
from brim.graph import Graph
from brim.passes.recompute import choices, recompute
from brim.types import F32, DType

LOSS = ("loss",)


def limit_memory(step: Graph, limit: int, kept: DType = F32, target: str = "host") -> Graph:
    """A training step whose arena, the memory of all that a step computes but its state, has at
    most `limit` bytes; it computes again as little as it can (`brim.passes.recompute`).

    kept: F32, which gives the same numbers; or BF16 or F16, in which the backward pass then finds
    what the forward pass computed: half the memory, and gradients that are near. Weights, gradients
    and state are f32 all the same, so a loss needs no scaling. (f16 ends at 65504.)

    Raises InputError where no way that is tried fits, which says what the smallest one takes.
    """
    graph = optimise(step)
    best = arena_bytes(graph, target)
    if best <= limit and kept == F32:
        return graph
    for chosen in choices(graph, LOSS):
        made = optimise(recompute(graph, LOSS, chosen, kept))
        size = arena_bytes(made, target)
        if size <= limit:
            return made
        best = min(best, size)
    raise InputError(
        f"a step of {step.name!r} does not fit into {limit:,} bytes of temporaries",
        why=f"the least that was found are {best:,}",
        hint="smaller batches, and `accumulate` of training_step",
    )
