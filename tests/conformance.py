"""The conformance table: operator -> cases. One row drives every check of an operator.

`tests/pure/test_ops.py` checks types, bodies, variants and gradients against numpy; back ends run
the same rows. A new operator needs a row here (or a reason in EXEMPT). No test lives in this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from brim.graph import Graph, Value, placeholder
from brim.ops import OPS
from brim.ops.registry import emit
from brim.types import BOOL, F32, F64, I8, I32, I64, U8, Type, parse_type


@dataclass(frozen=True)
class Case:
    """One row: what goes in, and optionally what must come out.

    inputs: "f32[2,3]" or "f32[2,3] 0.5..2" (a half-open range of values), or an array as it is.
    expect: (*arrays) -> array, an independent reference.
    """

    inputs: tuple[str | np.ndarray, ...]
    attrs: dict[str, Any]
    expect: Callable[..., np.ndarray] | None = None

    def arrays(self, seed: int = 0) -> list[np.ndarray]:
        """The same numbers for the same seed."""
        rng = np.random.default_rng(seed)
        return [draw(x, rng) if isinstance(x, str) else x for x in self.inputs]

    def types(self) -> list[Type]:
        return [parse_type(x.split()[0]) if isinstance(x, str) else Type(x.shape, _dtype(x)) for x in self.inputs]


def _dtype(array: np.ndarray) -> Any:
    from brim.types import dtype_of

    return dtype_of(array)


def draw(spec: str, rng: np.random.Generator) -> np.ndarray:
    """An array of random numbers for "f32[2,3]" or "f32[2,3] 0.5..2"."""
    kind, _, limits = spec.partition(" ")
    found = parse_type(kind)
    low, high = (float(x) for x in (limits or "-2..3").split(".."))
    if found.dtype.is_float:
        return rng.uniform(low, high, found.dims).astype(found.dtype.numpy)
    if found.dtype == BOOL:
        return rng.integers(0, 2, found.dims).astype(bool)
    low = max(low, 0) if found.dtype.kind == "u" else low
    return rng.integers(int(low), int(high), found.dims).astype(found.dtype.numpy)


def row(*inputs: str | np.ndarray, expect: Callable | None = None, **attrs: Any) -> Case:
    """A case; an operator's attribute may not be called `expect`."""
    return Case(inputs, attrs, expect)


def graph_of(name: str, case: Case) -> Graph:
    """The operator alone in a graph with inputs x0, x1, ..."""
    inputs = {f"x{i}": placeholder(t) for i, t in enumerate(case.types())}
    result: Value = emit(OPS[name], *inputs.values(), **case.attrs)
    return Graph(inputs, {"y": result}, name)


def _binary(*dtypes: str, limits: str = "-2..3") -> list[Case]:
    rows = [row(f"f32[3,4] {limits}", f"f32[4] {limits}"), row(f"f32[3,1] {limits}", f"f32[1,4] {limits}")]
    rows += [row(f"f32[] {limits}", f"f32[0,4] {limits}")]
    return rows + [row(f"{t}[2,3] {limits}", f"{t}[2,3] {limits}") for t in dtypes]


def _ints(*dtypes: str, limits: str = "-3..4") -> list[Case]:
    return [row(f"{t}[4,3] {limits}", f"{t}[3] {limits}") for t in dtypes]


def _unary(*dtypes: str, limits: str = "-2..3", expect: Callable | None = None) -> list[Case]:
    return [row(f"{t}[3,4] {limits}", expect=expect) for t in ("f32", *dtypes)]


_ALL_INTS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
_SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e-30, 1.5], np.float32)
_WHOLE_RANGE = {
    t: np.array([np.iinfo(t).min, np.iinfo(t).max, 0, 1, 5], t) for t in ("int8", "int32", "int64", "uint8")
}


def _special(extra: list[Case]) -> list[Case]:
    return [row(_SPECIAL), *extra]


PRIMITIVES: dict[str, list[Case]] = {
    "add": _binary("f64", "f16", *_ALL_INTS),
    "sub": _binary("f64", "f16", *_ALL_INTS),
    "mul": _binary("f64", "f16", *_ALL_INTS),
    "div": [*_binary("f64", "f16", limits="0.5..3"), *_ints(*_ALL_INTS)],
    "maximum": [*_binary("f64", *_ALL_INTS), row(_SPECIAL, _SPECIAL[::-1].copy())],
    "minimum": [*_binary("f64", *_ALL_INTS), row(_SPECIAL, _SPECIAL[::-1].copy())],
    "power": _binary("f64", limits="0.5..3"),
    "mod": [*_ints("f32", *_ALL_INTS)],
    "fmod": [*_ints("f32", "f64", *_ALL_INTS), row("f32[3,4] 1..9", "f32[4] 1..3")],
    "atan2": _binary("f64"),
    "bit_and": _ints("bool", *_ALL_INTS),
    "bit_or": _ints("bool", *_ALL_INTS),
    "bit_xor": _ints("bool", *_ALL_INTS),
    "shift_left": _ints(*_ALL_INTS, limits="0..9"),
    "shift_right": [
        *_ints(*_ALL_INTS, limits="0..9"),
        *(row(a, np.array([1, 7, 3, 0, 2], a.dtype)) for a in _WHOLE_RANGE.values()),
    ],
    **{
        name: [*_ints("f32", "bool", *_ALL_INTS), row(_SPECIAL, _SPECIAL[::-1].copy())]
        for name in ("eq", "ne", "lt", "le", "gt", "ge")
    },
    "select": [
        row("bool[3,4]", "f32[3,4]", "f32[4]"),
        row("bool[3,1]", "i32[4]", "i32[1]"),
        row("bool[]", "u8[2]", "u8[2]"),
    ],
    "neg": [*_unary("f64", "i8", "i16", "i32", "i64"), row(_WHOLE_RANGE["int8"])],
    "absolute": [*_unary("f64", *_ALL_INTS), row(_WHOLE_RANGE["int32"])],
    "sign": _special(_unary("f64", *_ALL_INTS)),
    "exp": _special(_unary("f64", "f16")),
    "log": _special(_unary("f64", limits="0.1..3")),
    "sqrt": _special(_unary("f64", limits="0.1..3")),
    "tanh": _special(_unary("f64")),
    "erf": _special(_unary("f64")),
    "sin": _unary("f64"),
    "cos": _unary("f64"),
    "atan": _special(_unary("f64")),
    "floor": _special(_unary("f64")),
    "ceil": _special(_unary("f64")),
    "trunc": _special(_unary("f64")),
    "rint": [*_special(_unary("f64")), row(np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32))],
    "is_nan": _special([]),
    "is_inf": _special([]),
    "bit_not": [row(f"{t}[3,4]") for t in ("bool", *_ALL_INTS)],
    "cast": [
        row("f32[3,4] -300..300", to=I8),
        row("f32[3,4] -300..300", to=U8),
        row("f32[3,4]", to=F64),
        row("f64[3,4]", to=F32),
        row("i32[3,4] -300..300", to=I8),
        row("i32[3,4] -300..300", to=U8),
        row("u8[5] 0..255", to=F32),
        row("i64[5]", to=BOOL),
        row("f32[5]", to=BOOL),
        row("bool[5]", to=F32),
        row(_SPECIAL, to=I32),
        row(_SPECIAL * np.float32(1e10), to=I64),
    ],
    "bitcast": [row("f32[3,4]", to=I32), row("i64[3]", to=F64), row("u8[3]", to=I8), row("f32[]", to=I32)],
    "reduce": [
        row("f32[3,4,5]", op="add", axes=(1,)),
        row("f32[3,4,5]", op="add", axes=(0, 2)),
        row("f32[3,4,5]", op="add", axes=()),
        row("f32[3,0,5]", op="add", axes=(1,)),
        row("f16[3,40]", op="add", axes=(1,)),
        row("f32[3,4]", op="max", axes=(1,)),
        row("f32[3,4]", op="min", axes=(0, 1)),
        row("f32[2,3] 0.5..2", op="mul", axes=(1,)),
        row("i32[3,4]", op="add", axes=(0,)),
        row("u8[3,4] 0..255", op="add", axes=(0,)),
        row("i8[3,4]", op="max", axes=(0,)),
        row("bool[3,4]", op="and", axes=(1,)),
        row("bool[3,4]", op="or", axes=(0,)),
    ],
    "argreduce": [
        row("f32[3,4]", op="max", axis=1, last=False),
        row("f32[3,4]", op="min", axis=0, last=False),
        row("i32[3,9]", op="max", axis=1, last=True),
        row("i32[3,9]", op="min", axis=1, last=False),
    ],
    "cumulate": [
        row("f32[3,4]", op="add", axis=1, exclusive=False, reverse=False),
        row("f32[3,4]", op="add", axis=0, exclusive=True, reverse=False),
        row("f32[3,4]", op="add", axis=1, exclusive=False, reverse=True),
        row("i32[3,4]", op="add", axis=1, exclusive=True, reverse=True),
        row("f32[0,4]", op="add", axis=0, exclusive=True, reverse=False),
    ],
    "contract": [
        row("f32[3,4]", "f32[4,5]", spec="nk,ko->no"),
        row("f32[2,3,4]", "f32[2,5,4]", spec="bik,bjk->bij"),
        row("f32[3,4]", "f32[3,4]", spec="ij,ij->"),
        row("f32[3,4]", "f32[5]", spec="ij,k->ik"),
        row("f32[3]", "f32[5]", spec="i,k->ki"),
        row("f16[3,4]", "f16[4,5]", spec="nk,ko->no"),
        row("i32[3,4]", "i32[4,5]", spec="nk,ko->no"),
        row("u8[3,4] 0..200", "u8[4,5] 0..200", spec="nk,ko->no"),
        row("f32[2,3,4,5]", "f32[4,5,6]", spec="nhci,cio->nho"),
    ],
    "transpose": [
        row("f32[2,3,4]", perm=(2, 0, 1)),
        row("u8[2,3]", perm=(1, 0)),
        row("f32[]", perm=()),
    ],
    "reshape": [row("f32[2,6]", shape=(3, 4)), row("f32[1]", shape=()), row("i8[0,3]", shape=(3, 0))],
    "broadcast": [row("f32[3,1]", shape=(2, 3, 4)), row("f32[]", shape=(2,)), row("i8[1]", shape=(0,))],
    "slice": [
        row("f32[4,5]", starts=(1, 0), sizes=(2, 5), steps=(1, 1)),
        row("f32[6,5]", starts=(5, 1), sizes=(3, 2), steps=(-2, 3)),
        row("f32[4]", starts=(0,), sizes=(0,), steps=(1,)),
        row("f32[]", starts=(), sizes=(), steps=()),
    ],
    "pad": [
        row("f32[2,3]", low=(1, 0), high=(0, 2), value=0),
        row("f32[2,3]", low=(1, 0), high=(0, 2), value=-math.inf),
        row("i8[3]", low=(2,), high=(0,), value=-7),
        row("bool[3]", low=(1,), high=(1,), value=False),
    ],
    "concat": [
        row("f32[2,3]", "f32[2,1]", "f32[2,0]", axis=1),
        row("u8[2]", "u8[3]", axis=0),
        row("f32[2]", axis=0),
    ],
    "window": [
        row("f32[7]", axes=(0,), size=(3,), stride=(2,), dilation=(1,)),
        row("f32[2,6,7,3]", axes=(1, 2), size=(3, 2), stride=(1, 2), dilation=(1, 3)),
        row("i8[5,5]", axes=(1, 0), size=(2, 3), stride=(1, 1), dilation=(2, 1)),
    ],
    "gather": [
        row("f32[5,3]", "i64[2,4] 0..5", axis=0),
        row("f32[2,5]", "i32[3] 0..5", axis=1),
        row("u8[5]", "i64[] 0..5", axis=0),
        row("f32[2,5]", "u8[3] 0..5", axis=1),
    ],
    "scatter": [
        row("f32[5,3]", np.array([4, 1]), "f32[2,3]", axis=0, op="set"),
        row("f32[5]", np.array([1, 1, 3, 1]), "f32[4]", axis=0, op="add"),
        row("i32[2,5]", np.array([1, 1, 3]), "i32[2,3]", axis=1, op="set"),
        row("i32[2,5]", np.array([1, 1, 3]), "i32[2,3]", axis=1, op="mul"),
        row("f32[2,5]", np.array([1, 1, 3], np.int32), "f32[2,3]", axis=1, op="max"),
    ],
    "iota": [row(size=5, dtype=F32), row(size=3, dtype=I64), row(size=0, dtype=U8)],
}
