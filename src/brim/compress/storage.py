"""The step `storage`: large constants are stored in 16 bits, and computed with in f32.

They are widened as they are loaded, never in memory beforehand. A product of many rows widens them
once into memory that other layers share (`brim.kernels.fuse`).
"""

from __future__ import annotations

import numpy as np

from brim.compress.recipe import Storage
from brim.compress.weights import LEAST
from brim.compress.work import Made, Work
from brim.errors import UnsupportedError
from brim.graph import Graph, Value, const, evaluate_values, placeholder, rewrite
from brim.ops import primitive as p
from brim.ops.registry import at
from brim.ops.storage import convert
from brim.types import BF16, F16, F32, DType

TOO_LARGE = 65520  # becomes infinity in f16
TYPES: dict[str, DType] = {"f16": F16, "bf16": BF16}


def storage(graph: Graph, step: Storage, work: Work) -> Made:
    """The graph with its f32 constants of LEAST elements or more in f16 or bf16.

    Tables are looked up in 16 bits. Raises UnsupportedError where there are no such constants, and
    for numbers that are too large for f16.
    """
    to = TYPES[step.dtype]
    made: dict[int, Value] = {}  # id of a widened constant -> the short one

    def rule(value: Value) -> Value | None:
        with at(value.where):
            if value.data is not None and value.dtype == F32 and value.type.size >= LEAST:
                short = _rounded(value, to)
                wide = convert(p.hold(short), F32)
                made[id(wide)] = short
                return wide
            if value.op is p.OPS["gather"] and id(value.args[0]) in made:
                rows = p.gather(made[id(value.args[0])], value.args[1], axis=value.attrs["axis"])
                return convert(rows, F32)
        return None

    stored = rewrite(graph, rule)
    if not made:
        raise UnsupportedError(f"the model has no f32 constant of {LEAST} numbers or more")
    size = 2 * sum(short.type.size for short in made.values()) / 1e6
    note = f"{len(made)} constants in {step.dtype}: {2 * size:.1f} MB became {size:.1f}"
    return Made(stored, (note,), source=graph)


def _rounded(value: Value, to: DType) -> Value:
    assert value.data is not None
    stand_in = placeholder(value.type)
    (short,) = evaluate_values([convert(stand_in, to)], {id(stand_in): value.data})
    size = np.abs(value.data[np.isfinite(value.data)]).max(initial=0)
    if to == F16 and size >= TOO_LARGE:
        raise UnsupportedError(
            f"a weight of {size:.3g} is too large for f16",
            where=value.where,
            hint='dtype = "bf16" has room for it',
        )
    return const(short, value.where)
