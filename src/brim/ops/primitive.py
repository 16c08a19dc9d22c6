"""All primitives under one name, and the two that fit nowhere else: iota and item.

Arithmetic is in `elementwise`, sums and products in `reduction`, index maps in `movement`. Each
primitive states its type rule, numpy reference and gradient; its lowering is `brim.kernels.lower`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from brim.errors import OpError
from brim.ops.elementwise import (
    absolute,
    add,
    atan,
    atan2,
    bit_and,
    bit_not,
    bit_or,
    bit_xor,
    bitcast,
    cast,
    cast_array,
    ceil,
    cos,
    div,
    eq,
    erf,
    exp,
    floor,
    fmod,
    ge,
    gt,
    is_inf,
    is_nan,
    le,
    log,
    logical_not,
    lt,
    maximum,
    minimum,
    mod,
    mul,
    ne,
    neg,
    power,
    rint,
    select,
    shift_left,
    shift_right,
    sign,
    sin,
    sqrt,
    sub,
    tanh,
    trunc,
    unbroadcast,
    where,
)
from brim.ops.movement import (
    broadcast,
    concat,
    gather,
    hold,
    inverse,
    pad,
    reshape,
    scatter,
    slice,
    transpose,
    window,
)
from brim.ops.reduction import (
    argreduce,
    contract,
    cumulate,
    parse_spec,
    reduce,
)
from brim.ops.registry import OPS, apply, primitive
from brim.types import Type

__all__ = [
    "OPS",
    "absolute",
    "add",
    "apply",
    "argreduce",
    "atan",
    "atan2",
    "bit_and",
    "bit_not",
    "bit_or",
    "bit_xor",
    "bitcast",
    "broadcast",
    "cast",
    "cast_array",
    "ceil",
    "concat",
    "contract",
    "cos",
    "cumulate",
    "div",
    "eq",
    "erf",
    "exp",
    "floor",
    "fmod",
    "gather",
    "ge",
    "gt",
    "hold",
    "inverse",
    "iota",
    "is_inf",
    "is_nan",
    "item",
    "le",
    "log",
    "logical_not",
    "lt",
    "maximum",
    "minimum",
    "mod",
    "mul",
    "ne",
    "neg",
    "pad",
    "parse_spec",
    "power",
    "reduce",
    "reshape",
    "rint",
    "scatter",
    "select",
    "shift_left",
    "shift_right",
    "sign",
    "sin",
    "slice",
    "sqrt",
    "sub",
    "tanh",
    "transpose",
    "trunc",
    "unbroadcast",
    "where",
    "window",
]


@primitive(
    "source",
    lambda *, size, dtype: Type((size,), dtype),
    lambda *, size, dtype: np.arange(size).astype(dtype.numpy),
)
def iota(*, size, dtype):
    """0, 1, ..., size-1."""


def _item(x: Any, *, index: int) -> Type:
    if not isinstance(x, tuple) or not 0 <= index < len(x):
        raise OpError(f"there is no result {index}")
    return x[index]


@primitive("control", _item, lambda x, *, index: x[index])
def item(x, *, index):
    """One result of an operator that has several."""
