"""Random small graphs (Hypothesis): valid, of mixed dtypes and shapes, and fair to compare.

Fair means: values whose rounding may differ between two correct implementations never reach an
operator that would turn a rounding into a jump (comparisons, floor, casts to integers, argmax), and
magnitudes stay bounded. So whatever a pass or a back end does, results must agree within
`RandomGraph.tolerance`. No test lives in this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from brim.graph import Graph, Value, const, placeholder
from brim.ops import math as maths
from brim.ops import nn, quantized
from brim.ops import primitive as ops
from brim.text import print_graph
from brim.types import BOOL, F32, F64, I8, I32, I64, U8, DType, Type

MAX_ELEMENTS = 600
EXACT_LIMIT = 2**20  # whole numbers below this, and their sums, are exact in f32
BOUND_LIMIT = 1e6


@dataclass(frozen=True)
class Known:
    """A value and what is known of it: is it exact whole numbers, and |value| <= bound."""

    value: Value
    exact: bool
    bound: float


@dataclass(frozen=True, repr=False)
class RandomGraph:
    """A graph, arrays to feed it with, and the absolute tolerance of each output (0: exact).

    Prints as text that `parse_graph` reads: what Hypothesis shows of a failure is the bug report.
    """

    graph: Graph
    feeds: dict[str, np.ndarray]
    tolerance: dict[str, float]

    def __repr__(self) -> str:
        text, data = print_graph(self.graph)
        arrays = {name: array.tolist() for name, array in (data | self.feeds).items()}
        return f"\n{text}{arrays}\n"

    def check(self, found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
        """Raises AssertionError unless the outputs agree."""
        for name, tolerance in self.tolerance.items():
            assert found[name].shape == wanted[name].shape
            assert found[name].dtype == wanted[name].dtype
            np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=tolerance)


Draw = Callable[[st.SearchStrategy], Any]
Step = Callable[[Draw, list[Known]], Known | None]


def _whole(
    draw: Draw, shape: tuple[int, ...], dtype: DType, low: int = -3, high: int = 4
) -> np.ndarray:
    """Small whole numbers; the seed shrinks, the numbers need not."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    if dtype == BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    return rng.integers(0 if dtype.kind == "u" else low, high, shape).astype(dtype.numpy)


def _pick(draw: Draw, pool: list[Known], fits: Callable[[Known], bool]) -> Known | None:
    """One of the pool that fits, the newest first."""
    found = [known for known in reversed(pool) if fits(known)]
    return draw(st.sampled_from(found)) if found else None


def _is_float(known: Known) -> bool:
    return known.value.dtype in (F32, F64)


def _is_number(known: Known) -> bool:
    return known.value.dtype != BOOL


def _shape(draw: Draw, rank: int | None = None) -> tuple[int, ...]:
    rank = draw(st.integers(0, 4)) if rank is None else rank
    return tuple(draw(st.integers(1, 5)) for _ in range(rank))


# ------------------------------------------------------------------ elementwise


def _partner(draw: Draw, pool: list[Known], a: Known) -> Known:
    """Another operand that broadcasts with `a`: from the pool, or a constant."""
    shape, dtype = a.value.shape, a.value.dtype

    def broadcasts(b: Known) -> bool:
        if b.value.dtype != dtype:
            return False
        try:
            full = np.broadcast_shapes(b.value.shape, shape)
        except ValueError:
            return False
        return math.prod(full) <= MAX_ELEMENTS

    found = _pick(draw, pool, broadcasts)
    if found is not None and draw(st.booleans()):
        return found
    kept = shape[draw(st.integers(0, len(shape))) :]
    kept = tuple(n if draw(st.booleans()) else 1 for n in kept)
    return Known(const(_whole(draw, kept, dtype)), True, 3)


def binary(draw: Draw, pool: list[Known]) -> Known | None:
    a = _pick(draw, pool, _is_number)
    if a is None:
        return None
    b = _partner(draw, pool, a)
    if draw(st.booleans()):
        a, b = b, a
    name = draw(st.sampled_from(["add", "sub", "mul", "maximum", "minimum"]))
    bound = {"add": a.bound + b.bound, "sub": a.bound + b.bound, "mul": a.bound * b.bound}.get(
        name, max(a.bound, b.bound)
    )
    value = ops.apply(name, a.value, b.value)
    return Known(value, a.exact and b.exact, bound)


def unary(draw: Draw, pool: list[Known]) -> Known | None:
    x = _pick(draw, pool, lambda k: k.value.dtype in (F32, F64, I32, I64))
    if x is None:
        return None
    name = draw(st.sampled_from(["neg", "absolute", "relu"]))
    function = maths.relu if name == "relu" else lambda v: ops.apply(name, v)
    return Known(function(x.value), x.exact, x.bound)


def smooth(draw: Draw, pool: list[Known]) -> Known | None:
    """Functions with a slope near 1, whose rounding may differ."""
    x = _pick(draw, pool, _is_float)
    if x is None:
        return None
    functions: list[Callable[[Value], Value]] = [
        ops.tanh,
        ops.sin,
        ops.atan,
        ops.erf,
        maths.sigmoid,
        maths.hard_swish,
        lambda v: maths.gelu(v, approximate=draw(st.booleans())),
        lambda v: maths.leaky_relu(v, alpha=0.25),
        lambda v: ops.exp(ops.minimum(v, 2.0)),
        lambda v: ops.sqrt(ops.add(ops.mul(v, v), 1.0)),
        lambda v: ops.div(v, 3.0),
        lambda v: ops.mul(ops.mul(v, 0.3), 2.5),
    ]
    if x.value.type.rank:
        axis = draw(st.integers(0, x.value.type.rank - 1))
        functions += [
            lambda v: maths.softmax(v, axis=axis),
            lambda v: maths.reduce_mean(v, axes=(axis,)),
            lambda v: nn.layer_norm(
                v, const(_whole(draw, v.shape[axis:], v.dtype)), axes=_from(axis, v), epsilon=0.5
            ),
        ]
    value = draw(st.sampled_from(functions))(x.value)
    return Known(value, False, max(3 * x.bound, 12))


def _from(axis: int, value: Value) -> tuple[int, ...]:
    return tuple(range(axis, value.type.rank))


def compare(draw: Draw, pool: list[Known]) -> Known | None:
    a = _pick(draw, pool, lambda k: k.exact and _is_number(k))
    if a is None:
        return None
    b = _partner(draw, [k for k in pool if k.exact], a)
    name = draw(st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"]))
    return Known(ops.apply(name, a.value, b.value), True, 1)


def choose(draw: Draw, pool: list[Known]) -> Known | None:
    condition = compare(draw, pool)
    if condition is None:
        return None
    a = _pick(draw, pool, lambda k: k.value.shape == condition.value.shape)
    if a is None:
        return None
    b = _partner(draw, pool, a)
    if np.broadcast_shapes(b.value.shape, condition.value.shape) != condition.value.shape:
        return None
    value = ops.select(condition.value, a.value, b.value)
    return Known(value, a.exact and b.exact, max(a.bound, b.bound))


def convert(draw: Draw, pool: list[Known]) -> Known | None:
    x = _pick(draw, pool, lambda k: k.exact)
    if x is None:
        return None
    to = draw(st.sampled_from([F32, F64, I32, I64, I8, U8, BOOL]))
    limit = {I8: 128.0, U8: 255.0, BOOL: 1.0}.get(to, x.bound)
    return Known(ops.cast(x.value, to=to), True, limit)


# ------------------------------------------------------------------ movement


def move(draw: Draw, pool: list[Known]) -> Known | None:
    name = draw(st.sampled_from(["transpose", "reshape", "slice", "pad", "broadcast", "concat"]))
    x = _pick(draw, pool, lambda k: k.value.type.rank > 0)
    if x is None:
        return None
    shape, rank, bound = x.value.shape, x.value.type.rank, x.bound
    match name:
        case "transpose":
            value = ops.transpose(x.value, perm=tuple(draw(st.permutations(range(rank)))))
        case "reshape":
            value = ops.reshape(x.value, shape=_other_shape(draw, shape))
        case "slice":
            value = _slice(draw, x.value)
        case "pad":
            low = tuple(draw(st.integers(0, 2)) for _ in shape)
            high = tuple(draw(st.integers(0, 1)) for _ in shape)
            fill: Any = draw(st.booleans()) if x.value.dtype == BOOL else draw(st.integers(0, 2))
            value, bound = ops.pad(x.value, low=low, high=high, value=fill), max(bound, 2)
        case "broadcast":
            lead = _shape(draw, draw(st.integers(0, 1)))
            value = ops.broadcast(
                x.value, shape=(*lead, *(draw(st.integers(1, 4)) if n == 1 else n for n in shape))
            )
        case _:
            y = _pick(draw, pool, lambda k: k.value.type == x.value.type)
            assert y is not None
            value = ops.concat(x.value, y.value, axis=draw(st.integers(0, rank - 1)))
            return Known(value, x.exact and y.exact, max(bound, y.bound))
    return Known(value, x.exact, bound)


def _other_shape(draw: Draw, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Merges neighbours, splits axes, adds and drops ones."""
    sizes = list(shape)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["merge", "split", "one"]))
        at = draw(st.integers(0, max(len(sizes) - 1, 0)))
        if kind == "merge" and at + 1 < len(sizes):
            sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
        elif kind == "split" and sizes:
            factor = draw(st.sampled_from([f for f in (1, 2, 3, 4, 5) if sizes[at] % f == 0]))
            sizes[at : at + 1] = [factor, sizes[at] // factor]
        elif kind == "one":
            sizes.insert(at, 1)
    return tuple(sizes[:5]) if len(sizes) <= 5 else shape


def _slice(draw: Draw, x: Value) -> Value:
    starts, sizes, steps = [], [], []
    for n in x.shape:
        size = draw(st.integers(1, n))
        step = draw(st.integers(1, (n - 1) // (size - 1))) if size > 1 else 1
        start = draw(st.integers(0, n - 1 - (size - 1) * step))
        if draw(st.booleans()):
            start, step = start + (size - 1) * step, -step
        starts.append(start)
        sizes.append(size)
        steps.append(step)
    return ops.slice(x, starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps))


def gather(draw: Draw, pool: list[Known]) -> Known | None:
    x = _pick(draw, pool, lambda k: k.value.type.rank > 0)
    if x is None:
        return None
    axis = draw(st.integers(0, x.value.type.rank - 1))
    index = _whole(draw, _shape(draw, draw(st.integers(0, 2))), I64, 0, x.value.shape[axis])
    return Known(ops.gather(x.value, const(index), axis=axis), x.exact, x.bound)


def scatter(draw: Draw, pool: list[Known]) -> Known | None:
    x = _pick(draw, pool, lambda k: k.value.type.rank > 0 and _is_number(k))
    if x is None:
        return None
    axis = draw(st.integers(0, x.value.type.rank - 1))
    count = draw(st.integers(1, 4))
    index = _whole(draw, (count,), I64, 0, x.value.shape[axis])
    shape = (*x.value.shape[:axis], count, *x.value.shape[axis + 1 :])
    update = const(_whole(draw, shape, x.value.dtype))
    op = draw(st.sampled_from(["set", "add", "max"]))
    value = ops.apply("scatter", x.value, const(index), update, axis=axis, op=op)
    return Known(value, x.exact, x.bound + 3 * count)


# ------------------------------------------------------------------ reductions and products


def reduce(draw: Draw, pool: list[Known]) -> Known | None:
    x = _pick(draw, pool, lambda k: k.value.type.rank > 0 and _is_number(k))
    if x is None:
        return None
    axes = tuple(sorted(draw(st.sets(st.integers(0, x.value.type.rank - 1), min_size=1))))
    name = draw(st.sampled_from(["add", "max", "min", "arg", "cumulate"]))
    count = math.prod(x.value.shape[a] for a in axes)
    if name == "arg":
        if not x.exact:
            return None
        kind = draw(st.sampled_from(["max", "min"]))
        last = draw(st.booleans())
        return Known(ops.argreduce(x.value, op=kind, axis=axes[0], last=last), True, 600)
    if name == "cumulate":
        exclusive, reverse = draw(st.booleans()), draw(st.booleans())
        value = ops.apply(
            "cumulate", x.value, op="add", axis=axes[0], exclusive=exclusive, reverse=reverse
        )
        return Known(value, x.exact, x.bound * x.value.shape[axes[0]])
    value = ops.reduce(x.value, op=name, axes=axes)
    return Known(value, x.exact, x.bound * count if name == "add" else x.bound)


def window(draw: Draw, pool: list[Known]) -> Known | None:
    x = _pick(draw, pool, lambda k: 0 < k.value.type.rank < 4)
    if x is None:
        return None
    axis = draw(st.integers(0, x.value.type.rank - 1))
    size = draw(st.integers(1, x.value.shape[axis]))
    stride = draw(st.integers(1, 2))
    value = ops.window(x.value, axes=(axis,), size=(size,), stride=(stride,), dilation=(1,))
    return Known(value, x.exact, x.bound)


def product(draw: Draw, pool: list[Known]) -> Known | None:
    """Matrix products with constants or with another value, contracted over any axis."""
    x = _pick(draw, pool, lambda k: k.value.type.rank > 0 and k.value.dtype in (F32, F64, I32))
    if x is None:
        return None
    letters = "abcd"[: x.value.type.rank] if x.value.type.rank <= 4 else None
    if letters is None:
        return None
    summed = draw(st.sampled_from(letters))
    size = x.value.shape[letters.index(summed)]
    outputs = draw(st.integers(1, 5))
    weights = const(_whole(draw, (size, outputs), x.value.dtype))
    out = "".join(draw(st.permutations(letters.replace(summed, "") + "z")))
    value = ops.contract(x.value, weights, spec=f"{letters},{summed}z->{out}")
    return Known(value, x.exact, 3 * x.bound * size)


def convolution(draw: Draw, pool: list[Known]) -> Known | None:
    """Convolutions and pools as a front end writes them for a channels-first model."""
    x = _pick(draw, pool, lambda k: k.value.type.rank == 4 and k.value.dtype in (F32, F64))
    if x is None:
        return None
    y = ops.transpose(x.value, perm=(0, 2, 3, 1))
    _, height, width, channels = y.shape
    size = (draw(st.integers(1, min(3, height))), draw(st.integers(1, min(3, width))))
    stride = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    low = (draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1)))
    attrs: dict[str, Any] = {"stride": stride, "dilation": (1, 1), "low": low, "high": (0, 0)}
    kinds = ["conv", "grouped", "depthwise", "transposed", "max", "mean", "norm"]
    kind = draw(st.sampled_from(kinds))
    bound = 3 * x.bound * math.prod(size) * channels
    exact = x.exact
    match kind:
        case "conv":
            weights = const(_whole(draw, (*size, channels, draw(st.integers(1, 5))), y.dtype))
            y = nn.conv(y, weights, groups=1, **attrs)
        case "depthwise":
            weights = const(_whole(draw, (*size, 1, channels), y.dtype))
            y = nn.conv(y, weights, groups=channels, **attrs)
        case "grouped":
            groups = draw(st.sampled_from([g for g in (1, 2, 3, 5) if channels % g == 0]))
            outputs = groups * draw(st.integers(1, 3))
            weights = const(_whole(draw, (*size, channels // groups, outputs), y.dtype))
            y = nn.conv(y, weights, groups=groups, **attrs)
        case "transposed":
            weights = const(_whole(draw, (*size, channels, draw(st.integers(1, 3))), y.dtype))
            y = nn.conv_transpose(y, weights, groups=1, **attrs)
        case "mean":
            y = nn.average_pool(y, size=size, counted_low=(0, 0), counted_high=(0, 0), **attrs)
            bound, exact = x.bound, False
        case "max":
            attrs["low"] = (0, 0)
            y, bound = nn.max_pool(y, size=size, **attrs), x.bound
        case _:
            numbers = [const(_whole(draw, (channels,), y.dtype, 1, 4)) for _ in range(4)]
            y, bound, exact = nn.batch_norm(y, *numbers, epsilon=0.1), 10 * x.bound + 20, False
    return Known(ops.transpose(y, perm=(0, 3, 1, 2)), exact, bound)


def quantization(draw: Draw, pool: list[Known]) -> Known | None:
    """To 8 bits and back, by a power of two, so that rounding is the same everywhere."""
    x = _pick(draw, pool, lambda k: k.exact and k.value.dtype == F32)
    if x is None:
        return None
    scale, zero = const(np.float32(0.5)), const(draw(st.sampled_from([np.int8(-3), np.uint8(9)])))
    y = quantized.quantize(x.value, scale, zero)
    if draw(st.booleans()):
        return Known(y, True, 255)
    return Known(quantized.dequantize(y, const(np.float32(2.0)), zero), True, 600)


STEPS: tuple[Step, ...] = (
    binary, unary, smooth, compare, choose, convert, move, move, gather, scatter, reduce, window,
    product, convolution, convolution, quantization,
)  # fmt: skip


# ------------------------------------------------------------------ graphs


@st.composite
def graphs(draw: Draw, most: int = 12) -> RandomGraph:
    """A graph of up to `most` steps, with one to three inputs and outputs of any dtypes."""
    inputs: dict[str, Value] = {}
    feeds: dict[str, np.ndarray] = {}
    for i in range(draw(st.integers(1, 3))):
        dtype = draw(st.sampled_from([F32, F32, F32, F64, I32, U8, I64, BOOL]))
        shape = _shape(draw, 4) if draw(st.booleans()) else _shape(draw)
        inputs[f"x{i}"] = placeholder(Type(shape, dtype))
        feeds[f"x{i}"] = _whole(draw, shape, dtype)
    pool = [Known(value, True, 3) for value in inputs.values()]
    for _ in range(draw(st.integers(min(3, most), most))):
        made = draw(st.sampled_from(STEPS))(draw, pool)
        if made is None or made.value.type.size > MAX_ELEMENTS or made.value.type.rank > 6:
            continue
        narrow = {U8: 255.0, I8: 128.0}.get(made.value.dtype)
        bound = narrow if narrow else made.bound
        if bound < (EXACT_LIMIT if made.exact else BOUND_LIMIT):
            pool.append(Known(made.value, made.exact, bound))
    made_here = pool[len(inputs) :] or pool
    ends = [made_here[-1], *draw(st.lists(st.sampled_from(made_here), max_size=2))]
    outputs = {f"y{i}": known.value for i, known in enumerate(ends)}
    tolerance = {
        f"y{i}": 0.0 if known.exact else 1e-4 * max(known.bound, 1) for i, known in enumerate(ends)
    }
    return RandomGraph(Graph(inputs, outputs), feeds, tolerance)
