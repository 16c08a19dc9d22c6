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
from brim.types import (
    BF16,
    BOOL,
    F8E4M3FN,
    F8E5M2,
    F8E8M0,
    F16,
    F32,
    F64,
    I4,
    I8,
    I32,
    I64,
    STORAGE,
    U2,
    U8,
    U16,
    Type,
    parse_type,
    type_of,
)
from tests.storage_numbers import FLOATS, WHOLE, codes, edges

Ints = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One row: what goes in, and optionally what must come out.

    inputs: "f32[2,3]" or "f32[2,3] 0.5..2" (a half-open range of values), or an array as it is.
    expect: (*arrays) -> array, an independent reference. smooth: finite differences make sense.
    """

    inputs: tuple[str | np.ndarray | np.generic, ...]
    attrs: dict[str, Any]
    expect: Callable[..., np.ndarray] | None = None
    smooth: bool = True

    def arrays(self, seed: int = 0) -> list[np.ndarray]:
        """The same numbers for the same seed."""
        rng = np.random.default_rng(seed)
        return [draw(x, rng) if isinstance(x, str) else np.asarray(x) for x in self.inputs]

    def types(self) -> list[Type]:
        return [
            parse_type(x.split()[0]) if isinstance(x, str) else type_of(np.asarray(x))
            for x in self.inputs
        ]


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


def row(
    *inputs: str | np.ndarray | np.generic,
    expect: Callable | None = None,
    smooth: bool = True,
    **attrs: Any,
) -> Case:
    """A case; no attribute of an operator may be called `expect` or `smooth`."""
    return Case(inputs, attrs, expect, smooth)


def graph_of(name: str, case: Case) -> Graph:
    """The operator alone in a graph with inputs x0, x1, ..."""
    inputs = {f"x{i}": placeholder(t) for i, t in enumerate(case.types())}
    result: Value = emit(OPS[name], *inputs.values(), **case.attrs)
    return Graph(inputs, {"y": result}, name)


def _binary(*dtypes: str, limits: str = "-2..3") -> list[Case]:
    shapes = (("3,4", "4"), ("3,1", "1,4"), ("", "0,4"))
    rows = [row(f"f32[{a}] {limits}", f"f32[{b}] {limits}") for a, b in shapes]
    return rows + [row(f"{t}[2,3] {limits}", f"{t}[2,3] {limits}") for t in dtypes]


def _ints(*dtypes: str, limits: str = "-3..4") -> list[Case]:
    return [row(f"{t}[4,3] {limits}", f"{t}[3] {limits}") for t in dtypes]


def _unary(*dtypes: str, limits: str = "-2..3", expect: Callable | None = None) -> list[Case]:
    return [row(f"{t}[3,4] {limits}", expect=expect) for t in ("f32", *dtypes)]


_ALL_INTS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
_SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e-30, 1.5], np.float32)
_MASK = np.eye(6, 4, dtype=np.float32)
_WHOLE_RANGE = {
    t: np.array([np.iinfo(t).min, np.iinfo(t).max, 0, 1, 5], t)
    for t in ("int8", "int32", "int64", "uint8")
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
    "rint": [
        *_special(_unary("f64")),
        row(np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32), smooth=False),
    ],
    "is_nan": _special([]),
    "is_inf": _special([]),
    "bit_not": [row(f"{t}[3,4]") for t in ("bool", *_ALL_INTS)],
    "cast": [
        row("f32[3,4] -300..300", to=I8),
        row("f32[3,4] -300..300", to=U8),
        row("f32[3,4]", to=F64),
        row("f64[3,4]", to=F32),
        row("f64[50] -70000..70000", to=F16),
        row(np.array([1 + 2**-11 + 2**-40, 1 + 2**-11 - 2**-40, 65519.9999]), to=F16),
        row("i32[3,4] -300..300", to=I8),
        row("i32[3,4] -300..300", to=U8),
        row("u8[5] 0..255", to=F32),
        row("i64[5]", to=BOOL),
        row("f32[5]", to=BOOL),
        row("bool[5]", to=F32),
        row(_SPECIAL, to=I32),
        row(np.array([np.nan, np.inf, -1e30, 9.3e18, -0.9], np.float64), to=I64),
    ],
    "bitcast": [
        row("f32[3,4]", to=I32),
        row("i64[3]", to=F64),
        row("u8[3]", to=I8),
        row("f32[]", to=I32),
        row("f16[2,3]", to=U16),
        row(np.arange(0, 0x7C00, 97).astype(np.uint16), to=F16),
        *(row(codes(dtype), to=dtype.carrier) for dtype in (BF16, F8E5M2, I4)),
        *(row(codes(dtype).view(dtype.carrier.numpy), to=dtype) for dtype in (BF16, F8E5M2, I4)),
    ],
    "reduce": [
        row("f32[3,4,5]", op="add", axes=(1,)),
        row("f32[3,4,5]", op="add", axes=(0, 2)),
        row("f32[3,4,5]", op="add", axes=()),
        row("f32[3,0,5]", op="add", axes=(1,)),
        row("f16[3,40]", op="add", axes=(1,)),
        row("f32[3,4]", op="max", axes=(1,)),
        row("f32[3,4]", op="min", axes=(0, 1)),
        row("f32[2,3] 0.5..2", op="mul", axes=(1,)),
        row(np.float32([[0, 2, 3], [0, 0, 4], [5, 6, 7]]), op="mul", axes=(1,)),
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
        row("f32[3,4]", op="mul", axis=1, exclusive=False, reverse=False),
        row("f32[4,2,3]", op="mul", axis=0, exclusive=True, reverse=False),
        row(np.float32([2, 0, 3, 0, 4]), op="mul", axis=0, exclusive=False, reverse=True),
        row("f32[2,4]", op="mul", axis=1, exclusive=True, reverse=True),
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
        row("i8[3,40] -128..127", "i16[40,5] -300..300", spec="nk,ko->no"),
        row("f32[2,3,4,5]", "f32[4,5,6]", spec="nhci,cio->nho"),
    ],
    "transpose": [
        row("f32[2,3,4]", perm=(2, 0, 1)),
        row("u8[2,3]", perm=(1, 0)),
        row("f32[]", perm=()),
    ],
    "reshape": [
        row("f32[2,6]", shape=(3, 4)),
        row("f32[1]", shape=()),
        row("i8[0,3]", shape=(3, 0)),
    ],
    "broadcast": [
        row("f32[3,1]", shape=(2, 3, 4)),
        row("f32[]", shape=(2,)),
        row("i8[1]", shape=(0,)),
    ],
    "hold": [row("f32[3,4]"), row("u8[2,5] 0..255"), row("f16[0]")],
    "slice": [
        row("f32[4,5]", starts=(1, 0), sizes=(2, 5), steps=(1, 1)),
        row("f32[6,5]", starts=(5, 1), sizes=(3, 2), steps=(-2, 3)),
        row("f32[4]", starts=(0,), sizes=(0,), steps=(1,)),
        row("f32[4,3]", starts=(2, 0), sizes=(5, 3), steps=(0, 1)),
        row("f32[]", starts=(), sizes=(), steps=()),
    ],
    "pad": [
        row("f32[2,3]", low=(1, 0), high=(0, 2), value=0),
        row("f32[2,3]", low=(1, 0), high=(0, 2), value=-math.inf, smooth=False),
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
        row("f32[2,11]", axes=(1,), size=(3,), stride=(2,), dilation=(2,)),
        row("f32[3,90]", axes=(1,), size=(40,), stride=(1,), dilation=(1,)),
        row("f32[90]", axes=(0,), size=(40,), stride=(16,), dilation=(1,)),
        row("f32[5,4]", axes=(0, 1), size=(5, 2), stride=(3, 2), dilation=(1, 1)),
    ],
    "gather": [
        row("f32[5,3]", "i64[2,4] 0..5", axis=0),
        row("f32[2,5]", "i32[3] 0..5", axis=1),
        row("u8[5]", "i64[] 0..5", axis=0),
        row("f32[2,5]", "u8[3] 0..5", axis=1),
        row("f32[2,7]", np.array([[5], [3], [1]]), axis=1),
        row("f32[5,2]", np.int64(3), axis=0),
        row("f32[2,3]", np.array([2, 2, 2], np.int32), axis=1),
        row("f32[4,3]", np.array([[2, 0, 2], [1, 1, 2]]), axis=0),
        row("f32[9]", np.array([8, 0, 8]), axis=0),
    ],
    "scatter": [
        row("f32[5,3]", np.array([4, 1]), "f32[2,3]", axis=0, op="set"),
        row("f32[5]", np.array([1, 1, 3, 1]), "f32[4]", axis=0, op="add"),
        row("i32[2,5]", np.array([1, 1, 3]), "i32[2,3]", axis=1, op="set"),
        row("i32[2,5]", np.array([1, 1, 3]), "i32[2,3]", axis=1, op="mul"),
        row("f32[2,5]", np.array([1, 1, 3], np.int32), "f32[2,3]", axis=1, op="max"),
        row("f32[5,2]", np.array([0, 4, 0]), "f32[3,2]", axis=0, op="min"),
        row("f32[2,5]", "i64[4] 0..5", "f32[2,4]", axis=1, op="set"),
        row("f32[2,5]", np.array([1, 1, 3]), "f32[2,3]", axis=1, op="mul"),
        row(np.float32([2, 0, 3]), np.array([0, 1, 0]), np.float32([0, 5, 7]), axis=0, op="mul"),
    ],
    "descend": [
        row("f32[7,3]", "u8[4,7] 0..3", "f32[4,7]", depth=3),
        row("f64[1,3]", "i32[1,1] 0..3", "f64[1,1]", depth=1),
    ],
    "follow": [
        row("f32[7,3]", "u8[30] 0..3", "f32[30]", "i32[30] 0..29", "i32[4] 0..30", steps=5),
        row("f64[2,3]", "i64[9] 0..3", "f64[9]", "u8[9] 0..8", "i64[2] 0..9", steps=17),
    ],
    "winograd_input": [
        row("f32[2,5,6,3]", tile=(2, 2), window=(3, 3), low=(1, 1), high=(1, 1)),
        row("f32[1,7,4,2]", tile=(4, 2), window=(3, 5), low=(0, 2), high=(1, 0)),
        row("f32[2,3,9,2]", tile=(1, 4), window=(1, 7), low=(1, 3), high=(0, 3)),
        row("u8[1,7,5,3]", tile=(4, 4), window=(3, 3), low=(1, 1), high=(1, 1), value=7),
        row("i8[2,4,9,2]", tile=(2, 1), window=(3, 1), low=(0, 0), high=(1, 0)),
    ],
    "winograd_output": [
        row("f32[16,12,3]", tile=(2, 2), window=(3, 3), shape=(2, 4, 5)),
        row("f32[36,4,5]", tile=(4, 2), window=(3, 5), shape=(1, 3, 8)),
        row("f32[10,8,2]", tile=(4, 1), window=(7, 1), shape=(1, 7, 4)),
        row("i32[36,6,5]", tile=(4, 4), window=(3, 3), shape=(1, 7, 9)),
        row("i32[4,10,2]", tile=(1, 2), window=(1, 3), shape=(1, 2, 9)),
    ],
    "iota": [row(size=5, dtype=F32), row(size=3, dtype=I64), row(size=0, dtype=U8)],
}


# ------------------------------------------------------------------ composites


def _softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def _conv(x: np.ndarray, w: np.ndarray, stride: tuple, dilation: tuple, low: tuple, high: tuple,
          groups: int) -> np.ndarray:  # fmt: skip
    """Convolution in the plainest loops: x[N, *spatial, C], w[*kernel, C / groups, O]."""
    x = np.pad(x, ((0, 0), *zip(low, high), (0, 0)))
    kernel, outputs = w.shape[:-2], w.shape[-1]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
    sizes = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:-1], reach, stride)]
    y = np.zeros((x.shape[0], *sizes, outputs), np.float64)
    per_group, out_group = w.shape[-2], outputs // groups
    for position in np.ndindex(*sizes):
        for tap in np.ndindex(*kernel):
            place = tuple(p * s + t * d for p, s, t, d in zip(position, stride, tap, dilation))
            for group in range(groups):
                pixel = x[(slice(None), *place)][:, group * per_group : (group + 1) * per_group]
                columns = slice(group * out_group, (group + 1) * out_group)
                y[(slice(None), *position, columns)] += pixel @ w[tap][:, columns]
    return y


def _spread_conv(
    x: np.ndarray, w: np.ndarray, stride: tuple, low: tuple, high: tuple
) -> np.ndarray:
    """Transposed convolution with one group as sums into the full result."""
    kernel, outputs = w.shape[:-2], w.shape[-1]
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[1:-1], stride, kernel)]
    y = np.zeros((x.shape[0], *full, outputs), np.float64)
    for position in np.ndindex(*x.shape[1:-1]):
        for tap in np.ndindex(*kernel):
            place = tuple(p * s + t for p, s, t in zip(position, stride, tap))
            y[(slice(None), *place)] += x[(slice(None), *position)] @ w[tap]
    kept = (slice(lo, n - hi) for lo, n, hi in zip(low, full, high))
    return y[(slice(None), *kept)]


def _conv_row(*inputs: str, **attrs: Any) -> Case:
    return row(*inputs, expect=lambda x, w: _conv(x, w, **attrs), **attrs)


def _conv_i32_row(*inputs: str, zero: int, **attrs: Any) -> Case:
    def expect(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return _conv(x.astype(np.float64) - zero, w.astype(np.float64), **attrs)

    return row(*inputs, expect=expect, zero=zero, **attrs)


def _integer_pool_row(given: str, **attrs: Any) -> Case:
    return row(given, expect=lambda x: _mean_of_integers(x, **attrs), **attrs)


def _matmul_i32_row(*inputs: str, zero: int) -> Case:
    def expect(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return (x.astype(np.float64) - zero) @ w

    return row(*inputs, expect=expect, zero=zero)


def _mean_of_integers(
    x: np.ndarray, size: Ints, stride: Ints, dilation: Ints, low: Ints, high: Ints
) -> np.ndarray:
    """Means over windows of real elements, by integers: halves away from zero."""
    counts = [
        -(-(n + a + b - (k - 1) * d) // s)
        for n, a, b, k, d, s in zip(x.shape[1:-1], low, high, size, dilation, stride)
    ]
    y = np.zeros((x.shape[0], *counts, x.shape[-1]), np.int32)
    for place in np.ndindex(*counts):
        taps = [
            [at for t in range(k) if 0 <= (at := o * s + t * d - a) < n]
            for o, s, k, d, a, n in zip(place, stride, size, dilation, low, x.shape[1:-1])
        ]
        total = x.astype(np.int64)[np.ix_(range(len(x)), *taps)].sum(tuple(range(1, x.ndim - 1)))
        count = math.prod(map(len, taps))
        y[(slice(None), *place)] = np.sign(total) * ((2 * abs(total) + count) // (2 * count))
    return y


def _normalised(x: np.ndarray, axes: tuple[int, ...], epsilon: float) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


_POOL: dict[str, Any] = {"size": (3, 2), "stride": (2, 1), "dilation": (1, 1)}
_POOL |= {"low": (1, 0), "high": (1, 1)}
_ONE: dict[str, Any] = {"stride": (1,), "dilation": (1,), "low": (0,), "high": (0,), "groups": 1}
_TWO: dict[str, Any] = {"dilation": (1, 1), "groups": 1}

COMPOSITES: dict[str, list[Case]] = {
    "relu": _unary("f64", "i32", expect=lambda x: np.maximum(x, 0)),
    "sigmoid": _special(_unary("f64", expect=lambda x: 1 / (1 + np.exp(-x)))),
    "hard_sigmoid": [
        row("f32[9] -5..5", alpha=0.2, beta=0.5, expect=lambda x: np.clip(0.2 * x + 0.5, 0, 1))
    ],
    "hard_swish": [row("f32[9] -5..5", expect=lambda x: x * np.clip(x / 6 + 0.5, 0, 1))],
    "swish": [
        row("f32[9]", alpha=1.0, expect=lambda x: x / (1 + np.exp(-x))),
        row("f32[9]", alpha=1.7, expect=lambda x: x / (1 + np.exp(-1.7 * x))),
    ],
    "softplus": _special(_unary("f64", expect=lambda x: np.log1p(np.exp(x)))),
    "softsign": _unary("f64", expect=lambda x: x / (1 + np.abs(x))),
    "mish": _unary("f64", expect=lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "gelu": [
        row("f32[3,4]", approximate=False, expect=lambda x: x * _normal_below(x)),
        row("f32[3,4]", approximate=True),
    ],
    "leaky_relu": [row("f32[9]", alpha=0.1, expect=lambda x: np.where(x >= 0, x, 0.1 * x))],
    "prelu": [row("f32[3,4]", "f32[4]", expect=lambda x, s: np.where(x >= 0, x, s * x))],
    "elu": [row("f32[9]", alpha=0.7, expect=lambda x: np.where(x >= 0, x, 0.7 * np.expm1(x)))],
    "selu": [row("f32[9]", alpha=1.67, gamma=1.05)],
    "celu": [row("f32[9]", alpha=1.5)],
    "thresholded_relu": [row("f32[9]", alpha=0.5, expect=lambda x: np.where(x > 0.5, x, 0))],
    "shrink": [row("f32[9]", threshold=0.5, bias=0.25)],
    "softmax": [
        row("f32[3,5]", axis=1, expect=lambda x: _softmax(x, 1)),
        row("f32[3,5]", axis=0, expect=lambda x: _softmax(x, 0)),
        row("f32[2,3,4] 80..120", axis=2, expect=lambda x: _softmax(x, 2)),
    ],
    "log_softmax": [row("f32[3,5]", axis=1, expect=lambda x: np.log(_softmax(x, 1)))],
    "log_sum_exp": [
        row("f32[3,5]", axes=(0, 1)),
        row("f32[3,5]", axes=(1,), expect=lambda x: np.log(np.exp(x).sum(1, keepdims=True))),
    ],
    "l2_norm": [
        row("f32[3,4]", axes=(1,), expect=lambda x: np.linalg.norm(x, axis=1, keepdims=True)),
        row("f32[2,3,2]", axes=(0, 2)),
    ],
    "conv": [
        _conv_row("f32[2,7,3]", "f32[3,3,4]", **_ONE),
        _conv_row("f32[2,6,5,3]", "f32[3,2,3,4]", stride=(2, 1), low=(1, 0), high=(1, 1), **_TWO),
        _conv_row(
            "f32[2,6,5,4]", "f32[3,3,4,3]", stride=(1, 1), dilation=(1, 1), low=(1, 0), high=(1, 2),
            groups=1,
        ),
        _conv_row(
            "f32[1,3,9,4]", "f32[1,7,4,3]", stride=(1, 1), dilation=(1, 1), low=(0, 3), high=(0, 2),
            groups=1,
        ),
        _conv_row(
            "f32[1,8,7,2]", "f32[5,5,2,3]", stride=(1, 1), dilation=(1, 1), low=(2, 2), high=(2, 2),
            groups=1,
        ),
        _conv_row(
            "f32[1,4,6,2]", "f32[3,1,2,3]", stride=(1, 1), dilation=(1, 1), low=(0, 0), high=(0, 0),
            groups=1,
        ),
        _conv_row(
            "f32[1,6,5,4]", "f32[3,3,1,4]", stride=(1, 1), dilation=(1, 1), low=(1, 1), high=(1, 1),
            groups=4,
        ),
        _conv_row(
            "f32[1,6,5,4]", "f32[1,3,2,6]", stride=(1, 2), dilation=(1, 2), low=(0, 2), high=(0, 2),
            groups=2,
        ),
        _conv_row(
            "f32[1,3,4,5,2]", "f32[2,2,2,2,3]", stride=(1, 1, 2), dilation=(1, 1, 1),
            low=(0, 1, 0), high=(0, 0, 1), groups=1,
        ),
        _conv_row(
            "f32[2,8,7,3]", "f32[3,3,3,4]", stride=(2, 3), dilation=(1, 1), low=(1, 0), high=(1, 0),
            groups=1,
        ),
        _conv_row(
            "f32[1,9,8,4]", "f32[3,2,2,4]", stride=(2, 2), dilation=(2, 1), low=(2, 0), high=(1, 0),
            groups=2,
        ),
        _conv_row("f32[1,9,2]", "f32[2,2,3]", stride=(3,), dilation=(1,), low=(0,), high=(0,),
                  groups=1),
    ],
    "conv_transpose": [
        row(
            "f32[1,3,4,2]", "f32[2,2,2,3]", stride=(2, 2), low=(0, 0), high=(0, 0), **_TWO,
            expect=lambda x, w: _spread_conv(x, w, (2, 2), (0, 0), (0, 0)),
        ),
        row(
            "f32[2,3,4,2]", "f32[3,3,2,3]", stride=(2, 1), low=(1, 0), high=(0, 1), **_TWO,
            expect=lambda x, w: _spread_conv(x, w, (2, 1), (1, 0), (0, 1)),
        ),
        row(
            "f32[1,4,4]", "f32[3,1,4]", stride=(2,), dilation=(2,), low=(0,), high=(-1,), groups=4
        ),
        row(
            "f32[1,4,3,4]", "f32[3,3,2,6]", stride=(2, 1), dilation=(1, 1), low=(1, 0),
            high=(0, 1), groups=2,
        ),
        row(
            "f32[2,3,4,2]", "f32[1,2,2,3]", stride=(2, 3), low=(0, 1), high=(-1, 0), **_TWO,
            expect=lambda x, w: np.pad(
                _spread_conv(x, w, (2, 3), (0, 1), (0, 0)), ((0, 0), (0, 1), (0, 0), (0, 0))
            ),
        ),
    ],
    "max_pool": [
        row("f32[2,6,5,3]", **_POOL),
        row("i8[1,6,5,1]", **_POOL),
        row("f32[1,7,6,2]", size=(2, 2), stride=(2, 2), dilation=(1, 1), low=(0, 0), high=(0, 0)),
        row("f32[1,9,2]", size=(3,), stride=(2,), dilation=(2,), low=(1,), high=(1,)),
    ],
    "average_pool": [
        row("f32[2,6,5,3]", **_POOL, counted_low=(0, 0), counted_high=(0, 0)),
        row("f32[2,6,5,3]", **_POOL, counted_low=(1, 0), counted_high=(1, 0)),
    ],
    "lp_pool": [row("f32[1,6,5,2] 0.1..2", p=2, **_POOL), row("f32[1,6,5,2] 0.1..2", p=3, **_POOL)],
    "batch_norm": [
        row(
            "f32[2,3,4]", "f32[4]", "f32[4]", "f32[4]", "f32[4] 0.5..2", epsilon=1e-3,
            expect=lambda x, s, t, m, v: (x - m) / np.sqrt(v + 1e-3) * s + t,
        )
    ],
    "adapted_product": [
        row(
            "f32[4,6]", "f32[6,5]", "f32[6,2]", "f32[2,5]", spec="mk,kn->mn", scale=0.5,
            expect=lambda x, w, a, b: x @ (w + 0.5 * a @ b),
        ),
        row(
            "f32[2,4,6]", "f32[3,6,5]", "f32[6,2]", "f32[2,3,5]", spec="bmk,hkn->bhmn", scale=2.0,
            expect=lambda x, w, a, b: np.einsum(
                "bmk,hkn->bhmn", x, w + 2 * np.einsum("kr,rhn->hkn", a, b)
            ),
        ),
    ],
    "dropout": [row("f32[3,4]", rate=0.5, expect=lambda x: x)],
    "random_bits": [
        row(np.array(key, np.uint32), size=9, stream=3) for key in ((0, 0), (7, 2**32 - 1))
    ],
    "layer_norm": [
        row(
            "f32[3,6]", "f32[6]", "f32[6]", axes=(1,), epsilon=1e-3,
            expect=lambda x, s, t: _normalised(x, (1,), 1e-3) * s + t,
        ),
        row(
            "f32[2,3,4]", "f32[3,4]", axes=(1, 2), epsilon=1e-3,
            expect=lambda x, s: _normalised(x, (1, 2), 1e-3) * s,
        ),
    ],
    "rms_norm": [
        row(
            "f32[3,6]", "f32[6]", axes=(1,), epsilon=1e-3,
            expect=lambda x, s: x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-3) * s,
        )
    ],
    "local_response_norm": [row("f32[1,2,2,7]", size=3, alpha=0.1, beta=0.75, bias=1.0)],
    "resample": [
        row(
            "f32[2,4,3]", np.array([[0, 1], [1, 2], [3, 3]]), "f32[3,2]", axis=1,
            expect=lambda x, i, w: np.einsum("ntkc,tk->ntc", x[:, i], w),
        ),
        row("f32[4]", np.array([[0], [3], [1], [1], [2]]), "f32[5,1]", axis=0),
        row("f32[2,6,2]", np.array([[0, 0], [5, 0]]), "f32[2,2]", axis=1),
        row("f32[5,2]", "i64[3,2] 0..5", "f32[3,2]", axis=0),
    ],
    "conv_i32": [
        _conv_i32_row(
            "i8[1,5,6,3] -128..127", "i8[3,2,3,4] -128..127", zero=-7, stride=(2, 1),
            dilation=(1, 2), low=(1, 0), high=(1, 2), groups=1,
        ),
        _conv_i32_row(
            "u8[2,7,4] 0..255", "i16[3,1,4] -255..255", zero=130, stride=(1,), dilation=(1,),
            low=(1,), high=(1,), groups=4,
        ),
        _conv_i32_row(
            "u8[1,4,3,6] 0..255", "i8[2,2,3,4] -128..127", zero=0, stride=(1, 1), dilation=(1, 1),
            low=(0, 1), high=(1, 0), groups=2,
        ),
    ],
    "average_pool_i32": [
        _integer_pool_row("i8[2,6,5,3] -128..127", **_POOL),
        _integer_pool_row(
            "u8[1,7,6,2] 0..255", size=(2, 3), stride=(1, 2), dilation=(2, 1), low=(1, 1),
            high=(0, 2),
        ),
        _integer_pool_row(
            "i16[2,9,2] -2..2", size=(4,), stride=(1,), dilation=(1,), low=(1,), high=(2,)
        ),
    ],
    "matmul_i32": [
        _matmul_i32_row("i8[3,7] -128..127", "i8[7,5] -128..127", zero=-128),
        _matmul_i32_row("u8[2,3,4] 0..255", "i16[2,4,5] -255..255", zero=9),
        _matmul_i32_row("i8[4] -128..127", "i8[4,5] -128..127", zero=3),
        _matmul_i32_row("i8[4] -128..127", "i8[2,4,5] -128..127", zero=3),
    ],
    "unpack": [
        row(
            "i8[6,3] -127..127", "f32[2,3] 0.1..0.3", "f32[2,1] -9..9", axis=0, bits=8,
            expect=lambda q, s, z: (q - np.repeat(z, 3, 0)) * np.repeat(s, 3, 0),
        ),
        row("u8[2,5] 0..255", "f32[2,1] 0.1..0.3", "f32[1,1] 0..255", axis=1, bits=8),
        row(
            "u8[4,3] 0..255", "f32[2,3] 0.1..0.3", "f32[2,3] -3..3", axis=0, bits=4,
            expect=lambda b, s, z: (_nibbles(b, 2) - np.repeat(z, 4, 0)) * np.repeat(s, 4, 0),
        ),
        row("u8[2,3,6] 0..255", "f32[1,1,3] 0.1..0.3", "f32[1,1,1]", axis=2, bits=4),
    ],
    "quantize": [
        row(
            "f32[3,4] -9..9", np.float32(0.05), np.uint8(7),
            expect=lambda x, s, z: np.clip(np.rint(x / s) + z, 0, 255),
        ),
        row("f32[3,4] -9..9", "f32[4] 0.1..0.3", np.zeros(4, np.int8)),
        row("f32[3,4] -99..99", np.float32(0.5), np.int8(-3)),
        row(
            "f32[3,4] -9..9", np.float32(0.8), np.ones((), I4.numpy),
            expect=lambda x, s, z: np.clip(np.rint(x / s) + 1, -8, 7),
        ),
        row(
            np.linspace(-9, 9, 40).astype(BF16.numpy), np.asarray(0.7, BF16.numpy), np.uint8(9),
            expect=lambda x, s, z: np.clip(np.rint((x / s).astype(np.float32)) + 9, 0, 255),
        ),
        row("f16[3,4] -9..9", np.float16(0.1), np.zeros((), U2.numpy)),
    ],
    "quantize_float": [
        row(
            "f32[3,4] -9..9", np.float32(0.3), np.zeros((), to.numpy), saturate=saturate,
            expect=lambda x, s, z: (x / s).astype(z.dtype),
        )
        for to in (F8E4M3FN, F8E5M2) for saturate in (True, False)
    ],
    "dequantize": [
        row(
            "u8[3,4] 0..255", np.float32(0.1), np.uint8(128),
            expect=lambda x, s, z: (x.astype(np.int32) - 128) * np.float32(0.1),
        ),
        row("i8[3,4] -99..99", "f32[4] 0.1..0.3", "i8[4]"),
        row("i32[3,4] -99..99", "f32[4] 0.1..0.3", "i32[4]"),
        row(
            codes(I4), np.float16(0.3), np.ones((), I4.numpy),
            expect=lambda x, s, z: (x.astype(np.float32) - 1) * np.float32(s),
        ),
        row(
            codes(F8E4M3FN)[:120], np.asarray(0.5, BF16.numpy), np.zeros((), F8E4M3FN.numpy),
            expect=lambda x, s, z: x.astype(np.float32) * 0.5,
        ),
    ],
    "fake_quant": [
        row(
            "f32[3,4] -9..9", np.float32(0.05), np.float32(7), low=0, high=255, smooth=False,
            expect=lambda x, s, z: (np.clip(np.rint(x / s) + z, 0, 255) - z) * s,
        ),
        row(
            "f32[2,3,4] -9..9", "f32[1,3,1] 0.03..0.1", np.float32(0), low=-127, high=127,
            smooth=False, expect=lambda x, s, z: np.clip(np.rint(x / s), -127, 127) * s,
        ),
        row("f64[5] -9..9", "f64[5] 0.03..0.1", "f64[5] -9..300", low=0, high=255, smooth=False),
        row(_SPECIAL, np.float32(0.5), np.float32(2), low=0, high=15, smooth=False),
    ],
    "pruned": [
        row(
            "f32[6,4]", _MASK, np.zeros((3, 1), np.float32), share=0.5, begin=0, steps=9,
            smooth=False, expect=lambda w, m, s: w * m,
        ),
        row(
            "f32[6,12]", _MASK, np.zeros((3, 4), np.float32), "f32[6,12]",
            share=0.5, begin=0, steps=9, smooth=False,
            expect=lambda w, m, s, z: w * np.repeat(m, 3, 1),
        ),
    ],
    "scaled_gradient": [
        row("f32[3,4]", "f32[3,1]", smooth=False, expect=lambda x, f: x),
        row("f64[2]", "f64[]", smooth=False),
    ],
    "decode": [
        *(
            row(codes(dtype), to=F32, expect=lambda x: x.astype(np.float32))
            for dtype in STORAGE
        ),
        row(codes(F8E4M3FN), to=F16), row(codes(I4), to=I64), row(codes(U2), to=BOOL),
    ],
    "encode": [
        *(
            row(edges(dtype), to=dtype, saturate=saturate, rounding="up")
            for dtype in FLOATS for saturate in (True, False)
        ),
        *(row(edges(F8E8M0), to=F8E8M0, saturate=True, rounding=r) for r in ("down", "nearest")),
        *(row("f32[50] -20..20", to=t, saturate=True, rounding="up") for t in WHOLE),
        *(
            row(np.arange(-99, 99).astype(t), to=to, saturate=True, rounding="up")
            for t in ("int64", "uint8", "float16", "float64", "bool") for to in (I4, F8E5M2, BF16)
        ),
    ],
    "sparse_matmul": [
        row(
            "f32[5,6]", "f32[2,3,4]", np.array([[0, 2, 5], [1, 1, 3]], np.uint8),
            expect=lambda x, w, i: np.einsum("ngk,gkb->ngb", x[:, i], w).reshape(5, 8),
        ),
        row("f32[2,3,9]", "f32[1,2,8]", np.array([[7, 0]], np.int32)),
        row("f32[7]", "f32[3,1,4]", np.array([[6], [0], [0]], np.uint16)),
    ],
    "attention": [
        row("f32[2,3,4]", "f32[2,5,4]", "f32[2,5,6]", scale=0.5),
        row(
            "f32[3,4]", "f32[5,4]", "f32[5,6]", "f32[3,5]", scale=0.5,
            expect=lambda q, k, v, b: _softmax(q @ k.T * 0.5 + b, 1) @ v,
        ),
    ],
}  # fmt: skip


def _normal_below(x: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))(x)


def _nibbles(data: np.ndarray, groups: int) -> np.ndarray:
    """The signed numbers of 4 bits in bytes[n, columns]: of each group first all lower ones."""
    parts = np.split(data.astype(np.int32), groups)
    whole = np.concatenate([half for b in parts for half in (b & 15, b >> 4)])
    return (whole ^ 8) - 8


CASES: dict[str, list[Case]] = {**PRIMITIVES, **COMPOSITES}

EXEMPT: dict[str, str] = {
    "item": "takes a tuple, so it has no row of arrays; test_graph covers it",
    "cond": "its attributes are graphs; test_graph covers it",
    "loop": "its attributes are graphs; test_graph covers it",
}

# Primitives without gradient, and why. All others have one; composites have that of their body.
_NO_SLOPE = "its results are integers or bools"
_CONTAINER = "containers are Python objects, not tensors"
_CHOSEN_LATER = "stands for a convolution only after gradients were taken"
NO_GRADIENT: dict[str, str] = {
    **dict.fromkeys(("bit_and", "bit_or", "bit_xor", "bit_not"), _NO_SLOPE),
    **dict.fromkeys(("shift_left", "shift_right", "argreduce"), _NO_SLOPE),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge", "is_nan", "is_inf"), _NO_SLOPE),
    **dict.fromkeys(("descend", "follow"), _NO_SLOPE),
    "bitcast": "bits have no slope",
    "iota": "nothing goes in",
    "random": "nothing goes in",
    "winograd_input": _CHOSEN_LATER,
    "winograd_output": _CHOSEN_LATER,
    "item": "passes.autodiff follows results one by one",
    "cond": "passes.cond_gradient makes the graph of its gradient",
    "loop": "passes.loop_gradient makes the graph of its gradient",
    **{f"sequence{part}": _CONTAINER for part in ("", "_at", "_insert", "_erase", "_length")},
    **dict.fromkeys(("sequence_concat", "sequence_split", "optional"), _CONTAINER),
    **dict.fromkeys(("has_element", "get_element"), _CONTAINER),
    "fail": "it has no results",
    "forget_shape": "what follows has no static type",
}


def has_slope(name: str, case: Case) -> bool:
    """Whether finite differences of a row make sense: floats go in and come out, all finite."""
    result = OPS[name].infer(*case.types(), **case.attrs)
    floats = [a for a in case.arrays() if a.dtype.kind == "f"]
    known = bool(floats) and all(np.isfinite(a).all() for a in floats)
    some = result.dtype.is_float and result.size > 0 and name not in NO_GRADIENT
    return case.smooth and known and some
