"""Small kernels of every family, built by hand: what interpreter, text and emitter tests share.

A builder takes extents and gives a `Kernel`; `buffers_for` draws data that suits one. Floats are
small multiples of 1/8, so that sums and products are exact and any order of them must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from brim.kernels.ir import (
    Arg,
    At,
    Bound,
    Carried,
    Do,
    Expr,
    Gather,
    Guard,
    Index,
    Iota,
    Kernel,
    Num,
    Reduce,
    Ref,
    Repeat,
    Schedule,
    Stage,
    Term,
    subexpressions,
)
from brim.kernels.pack import pack
from brim.types import BOOL, F16, F32, F64, I8, I16, I32, I64, U8, U16, DType


def index(offset: int = 0, **strides: int) -> Index:
    return Index(tuple(Term(axis, stride) for axis, stride in strides.items()), offset)


def at(buf: str, offset: int = 0, **strides: int) -> At:
    return At(buf, index(offset, **strides))


def do(op: str, *args: Expr, dtype: DType = F32) -> Do:
    return Do(op, args, dtype)


def num(value: float, dtype: DType = F32) -> Num:
    return Num(value, dtype)


def add(*axes: str) -> Reduce:
    return Reduce("add", axes)


def kernel(
    name: str,
    extent: dict[str, int],
    outer: str,
    stages: list[Stage],
    args: list[Arg],
    ordered: str = "",
) -> Kernel:
    return Kernel(
        name,
        tuple(extent.items()),
        tuple(outer.split()),
        tuple(stages),
        tuple(args),
        tuple(ordered.split()),
    )


def cdiv(a: int, b: int) -> int:
    return -(-a // b)


# ------------------------------------------------------------------ contractions


def matmul(m: int, n: int, k: int, block: int = 0, dtype: DType = F32) -> Kernel:
    """y[m, n] = x[m, k] w[k, n]; with `block` the weights are packed [n / block][k][block]."""
    size = k * (cdiv(n, block) * block if block else n)
    weight = Index((Term("k", block or n), Term("n", 1, block, k * block if block else 0)))
    value = do("mul", at("x", m=k, k=1), At("w", weight), dtype=dtype)
    return kernel(
        "matmul",
        {"m": m, "n": n, "k": k},
        "m n",
        [Stage("s", ("k",), value, add("k"), at("y", m=n, n=1))],
        [Arg("x", dtype, m * k), Arg("w", dtype, size, "const"), Arg("y", dtype, m * n, "out")],
    )


def matmul_gelu(m: int, n: int, k: int) -> Kernel:
    """The gelu of x[m, k] w[k, n]: a long expression for each sum."""
    plain = matmul(m, n, k)
    gelu = do(
        "mul", do("add", do("erf", do("div", Ref("s", F32), num(1.5))), num(1.0)), Ref("s", F32)
    )
    (product,) = plain.stages
    stages = (replace(product, out=None), Stage("g", (), gelu, out=product.out))
    return replace(plain, name="matmul_gelu", stages=stages)


def matmul_transposed(m: int, n: int, k: int) -> Kernel:
    """y[m, n] = x[m, k] w[n, k]: the reduced axis is contiguous in both."""
    value = do("mul", at("x", m=k, k=1), at("w", n=k, k=1))
    return kernel(
        "dots",
        {"m": m, "n": n, "k": k},
        "m n",
        [Stage("s", ("k",), value, add("k"), at("y", m=n, n=1))],
        [Arg("x", F32, m * k), Arg("w", F32, n * k, "const"), Arg("y", F32, m * n, "out")],
    )


def padded(
    h: int, w: int, c: int, stride: int = 1, pad: int = 1, other: float = 0, /, **extra: int
) -> Guard:
    """x[h, w, c] seen through a window with padding; `extra`: more strides of x."""
    bounds = (
        Bound(index(-pad, h=stride, i=1), h),
        Bound(index(-pad, w=stride, j=1), w),
    )
    where = at("x", -pad * (w + 1) * c, h=stride * w * c, w=stride * c, i=w * c, j=c, **extra)
    return Guard(bounds, where, num(other))


def convolution(
    h: int, w: int, c: int, o: int, size: int = 3, stride: int = 1, block: int = 0
) -> Kernel:
    """Channels-last convolution with padding, bias and relu."""
    pad = size // 2
    oh, ow = (h + 2 * pad - size) // stride + 1, (w + 2 * pad - size) // stride + 1
    width = block or o
    weight = Index(
        (
            Term("i", size * c * width),
            Term("j", c * width),
            Term("c", width),
            Term("o", 1, block, size * size * c * block if block else 0),
        )
    )
    value = do("mul", padded(h, w, c, stride, pad, c=1), At("k", weight))
    relu = do("maximum", do("add", Ref("s", F32), at("b", o=1)), num(0.0))
    return kernel(
        "conv",
        {"h": oh, "w": ow, "o": o, "i": size, "j": size, "c": c},
        "h w o",
        [
            Stage("s", ("i", "j", "c"), value, add("i", "j", "c")),
            Stage("r", (), relu, out=at("y", h=ow * o, w=o, o=1)),
        ],
        [
            Arg("x", F32, h * w * c),
            Arg("k", F32, size * size * c * cdiv(o, width) * width, "const"),
            Arg("b", F32, o, "const"),
            Arg("y", F32, oh * ow * o, "out"),
        ],
    )


def grouped(h: int, w: int, groups: int, c: int, o: int) -> Kernel:
    """3x3 convolution in groups of c inputs and o outputs; weights [group][i][j][c][o]."""
    all_in, all_out = groups * c, groups * o
    weight = at("k", g=9 * c * o, i=3 * c * o, j=c * o, c=o, o=1)
    value = do("mul", padded(h, w, all_in, g=c, c=1), weight)
    out = at("y", h=w * all_out, w=all_out, g=o, o=1)
    return kernel(
        "grouped",
        {"h": h, "w": w, "g": groups, "o": o, "i": 3, "j": 3, "c": c},
        "h w g o",
        [Stage("s", ("i", "j", "c"), value, add("i", "j", "c"), out)],
        [
            Arg("x", F32, h * w * all_in),
            Arg("k", F32, groups * 9 * c * o, "const"),
            Arg("y", F32, h * w * all_out, "out"),
        ],
    )


def depthwise(h: int, w: int, c: int) -> Kernel:
    value = do("mul", padded(h, w, c, c=1), at("k", i=3 * c, j=c, c=1))
    return kernel(
        "depthwise",
        {"h": h, "w": w, "c": c, "i": 3, "j": 3},
        "h w c",
        [Stage("s", ("i", "j"), value, add("i", "j"), at("y", h=w * c, w=c, c=1))],
        [
            Arg("x", F32, h * w * c),
            Arg("k", F32, 9 * c, "const"),
            Arg("y", F32, h * w * c, "out"),
        ],
    )


# ------------------------------------------------------------------ windows and normalisation


def max_pool(h: int, w: int, c: int) -> Kernel:
    """3x3 with stride 2 and padding that never wins."""
    oh, ow = (h - 1) // 2 + 1, (w - 1) // 2 + 1
    value = padded(h, w, c, 2, 1, float("-inf"), c=1)
    return kernel(
        "max_pool",
        {"h": oh, "w": ow, "c": c, "i": 3, "j": 3},
        "h w c",
        [Stage("s", ("i", "j"), value, Reduce("max", ("i", "j")), at("y", h=ow * c, w=c, c=1))],
        [Arg("x", F32, h * w * c), Arg("y", F32, oh * ow * c, "out")],
    )


def average_pool(h: int, w: int, c: int) -> Kernel:
    """2x2 without padding, over the number of elements."""
    out = at("y", h=w // 2 * c, w=c, c=1)
    value = at("x", h=2 * w * c, w=2 * c, i=w * c, j=c, c=1)
    return kernel(
        "average_pool",
        {"h": h // 2, "w": w // 2, "c": c, "i": 2, "j": 2},
        "h w c",
        [
            Stage("s", ("i", "j"), value, add("i", "j")),
            Stage("m", (), do("mul", Ref("s", F32), num(0.25)), out=out),
        ],
        [Arg("x", F32, h * w * c), Arg("y", F32, (h // 2) * (w // 2) * c, "out")],
    )


def softmax(rows: int, n: int, columns: bool = False) -> Kernel:
    """Over the contiguous axis, or (columns) over the other one."""
    strides = {"r": 1, "j": rows} if columns else {"r": n, "j": 1}
    x, y = at("x", **strides), at("y", **strides)
    e = do("exp", do("sub", x, Ref("m", F32)))
    return kernel(
        "softmax",
        {"r": rows, "j": n},
        "r",
        [
            Stage("m", ("j",), x, Reduce("max", ("j",))),
            Stage("s", ("j",), e, add("j"), keep=y),
            Stage("d", ("j",), do("div", y, Ref("s", F32)), out=y),
        ],
        [Arg("x", F32, rows * n), Arg("y", F32, rows * n, "out")],
    )


def layer_norm(rows: int, n: int) -> Kernel:
    x = at("x", r=n, j=1)
    mean = do("mul", Ref("s", F32), num(1 / n))
    centred = do("sub", x, mean)
    variance = do("add", do("mul", Ref("v", F32), num(1 / n)), num(1e-5))
    normal = do("div", centred, do("sqrt", variance))
    value = do("add", do("mul", normal, at("g", j=1)), at("b", j=1))
    return kernel(
        "layer_norm",
        {"r": rows, "j": n},
        "r",
        [
            Stage("s", ("j",), x, add("j")),
            Stage("v", ("j",), do("mul", centred, centred), add("j")),
            Stage("d", ("j",), value, out=at("y", r=n, j=1)),
        ],
        [
            Arg("x", F32, rows * n),
            Arg("g", F32, n, "const"),
            Arg("b", F32, n, "const"),
            Arg("y", F32, rows * n, "out"),
        ],
    )


def reduction(op: str, rows: int, n: int, dtype: DType = F32, columns: bool = False) -> Kernel:
    """Rows (or columns) of a matrix reduced by any op; arg... give i64."""
    strides = {"r": 1, "j": rows} if columns else {"r": n, "j": 1}
    result = I64 if op.startswith("arg") else dtype
    return kernel(
        f"reduce_{op}",
        {"r": rows, "j": n},
        "r",
        [Stage("s", ("j",), at("x", **strides), Reduce(op, ("j",)), at("y", r=1))],
        [Arg("x", dtype, rows * n), Arg("y", result, rows, "out")],
    )


def total(n: int, m: int) -> Kernel:
    """Everything summed: no outer axis at all."""
    return kernel(
        "total",
        {"i": n, "j": m},
        "",
        [Stage("s", ("i", "j"), at("x", i=m, j=1), add("i", "j"), at("y"))],
        [Arg("x", F32, n * m), Arg("y", F32, 1, "out")],
    )


def partial_sums(rows: int, n: int, m: int) -> Kernel:
    """A stage that keeps one of its own axes: y[r, i] = sum_j x[r, i, j]."""
    value = at("x", r=n * m, i=m, j=1)
    return kernel(
        "partial",
        {"r": rows, "i": n, "j": m},
        "r",
        [Stage("s", ("i", "j"), value, add("j"), at("y", r=n, i=1))],
        [Arg("x", F32, rows * n * m), Arg("y", F32, rows * n, "out")],
    )


# ------------------------------------------------------------------ elementwise and moves


def elementwise(op: str, n: int, arity: int, dtype: DType, result: DType | None = None) -> Kernel:
    names = ("a", "b", "c")[:arity]
    result = result or dtype
    value = do(op, *(at(name, i=1) for name in names), dtype=result)
    return kernel(
        f"each_{op}_{dtype}_{result}",
        {"i": n},
        "i",
        [Stage("s", (), value, out=at("y", i=1))],
        [*(Arg(name, dtype, n) for name in names), Arg("y", result, n, "out")],
    )


def gelu(n: int) -> Kernel:
    x = at("x", i=1)
    inner = do("add", do("erf", do("mul", x, num(0.7071067811865476))), num(1.0))
    value = do("mul", do("mul", x, num(0.5)), inner)
    return kernel(
        "gelu",
        {"i": n},
        "i",
        [Stage("s", (), value, out=at("y", i=1))],
        [Arg("x", F32, n), Arg("y", F32, n, "out")],
    )


def broadcast_add(rows: int, n: int, dtype: DType = F32) -> Kernel:
    """x[r, j] + b[j] * c[r]."""
    value = do("mul", at("b", j=1), at("c", r=1), dtype=dtype)
    value = do("add", at("x", r=n, j=1), value, dtype=dtype)
    return kernel(
        "broadcast",
        {"r": rows, "j": n},
        "r j",
        [Stage("s", (), value, out=at("y", r=n, j=1))],
        [
            Arg("x", dtype, rows * n),
            Arg("b", dtype, n),
            Arg("c", dtype, rows),
            Arg("y", dtype, rows * n, "out"),
        ],
    )


def transpose(a: int, b: int, c: int, dtype: DType = F32) -> Kernel:
    """[a, b, c] to [c, a, b]."""
    return kernel(
        "transpose",
        {"c": c, "a": a, "b": b},
        "c a b",
        [Stage("s", (), at("x", a=b * c, b=c, c=1), out=at("y", c=a * b, a=b, b=1))],
        [Arg("x", dtype, a * b * c), Arg("y", dtype, a * b * c, "out")],
    )


def normalised(points: int, channels: int) -> Kernel:
    """y[point, channel] = (x[channel, point] - m[channel]) * s[channel]."""
    value = do("mul", do("sub", at("x", p=1, c=points), at("m", c=1)), at("s", c=1))
    return kernel(
        "normalised",
        {"p": points, "c": channels},
        "p c",
        [Stage("s", (), value, out=at("y", p=channels, c=1))],
        [
            Arg("x", F32, points * channels),
            Arg("m", F32, channels, "const"),
            Arg("s", F32, channels, "const"),
            Arg("y", F32, points * channels, "out"),
        ],
    )


def matmul_into_columns(m: int, n: int, k: int) -> Kernel:
    """y[n, m] = x[m, k] w[k, n]: what is contiguous in the weights is not in the result."""
    product = matmul(m, n, k, 16)
    stage = replace(product.stages[0], out=at("y", n=m, m=1))
    return replace(product, name="into_columns", stages=(stage,))


def pool_planes(planes: int, h: int, w: int, stride: int) -> Kernel:
    """Maxima of padded 3x3 windows of [planes, h, w]."""
    oh, ow = (h - 1) // stride + 1, (w - 1) // stride + 1
    seen = padded(h, w, 1, stride, 1, float("-inf"), c=h * w)
    return kernel(
        "pool_planes",
        {"c": planes, "h": oh, "w": ow, "i": 3, "j": 3},
        "c h w",
        [Stage("s", ("i", "j"), seen, Reduce("max", ("i", "j")), at("y", c=oh * ow, h=ow, w=1))],
        [Arg("x", F32, planes * h * w), Arg("y", F32, planes * oh * ow, "out")],
    )


def strided(rows: int, n: int, step: int, reverse: bool = False) -> Kernel:
    """Every step-th element of each row, perhaps from the end."""
    width = (n - 1) * step + 1
    value = at("x", width - 1, r=width, j=-step) if reverse else at("x", r=width, j=step)
    return kernel(
        "strided",
        {"r": rows, "j": n},
        "r j",
        [Stage("s", (), value, out=at("y", r=n, j=1))],
        [Arg("x", F32, rows * width), Arg("y", F32, rows * n, "out")],
    )


def spread(n: int, step: int) -> Kernel:
    """Stores to every step-th element; the rest keeps its value."""
    return kernel(
        "spread",
        {"j": n},
        "j",
        [Stage("s", (), do("neg", at("x", j=1)), out=at("y", 1, j=step))],
        [Arg("x", F32, n), Arg("y", F32, n * step + 1, "out")],
    )


def concatenate(rows: int, a: int, b: int, c: int) -> Kernel:
    """Three operands in a row, by nested guards; then a pad with another value."""
    n = a + b + c + 2
    inner = Guard((Bound(index(-a - b, j=1), c),), at("r", -a - b, i=c, j=1), num(7.0))
    middle = Guard((Bound(index(-a, j=1), b),), at("q", -a, i=b, j=1), inner)
    value = Guard((Bound(index(j=1), a),), at("p", i=a, j=1), middle)
    return kernel(
        "concatenate",
        {"i": rows, "j": n},
        "i j",
        [Stage("s", (), value, out=at("y", i=n, j=1))],
        [
            Arg("p", F32, rows * a),
            Arg("q", F32, rows * b),
            Arg("r", F32, rows * c),
            Arg("y", F32, rows * n, "out"),
        ],
    )


def pad_rows(rows: int, n: int, low: int, dtype: DType, value: float) -> Kernel:
    """Rows of n elements with `low` of another value on either side."""
    width = n + 2 * low
    guarded = Guard((Bound(index(-low, j=1), n),), at("x", -low, r=n, j=1), num(value, dtype))
    return kernel(
        "pad",
        {"r": rows, "j": width},
        "r j",
        [Stage("s", (), guarded, out=at("y", r=width, j=1))],
        [Arg("x", dtype, rows * n), Arg("y", dtype, rows * width, "out")],
    )


def iota(rows: int, n: int, dtype: DType) -> Kernel:
    value = Iota(index(-5, r=3, j=-2), dtype)
    return kernel(
        "iota",
        {"r": rows, "j": n},
        "r j",
        [Stage("s", (), value, out=at("y", r=n, j=1))],
        [Arg("y", dtype, rows * n, "out")],
    )


def half_storage(rows: int, n: int) -> Kernel:
    """f16 in and out, computed in f32: a row's mean is taken off."""
    x = do("cast", at("x", r=n, j=1))
    mean = do("mul", Ref("s", F32), num(1 / n))
    value = do("cast", do("sub", x, mean), dtype=F16)
    return kernel(
        "half",
        {"r": rows, "j": n},
        "r",
        [
            Stage("s", ("j",), x, add("j")),
            Stage("d", ("j",), value, out=at("y", r=n, j=1)),
        ],
        [Arg("x", F16, rows * n), Arg("y", F16, rows * n, "out")],
    )


def quantized(m: int, n: int, k: int) -> Kernel:
    """i8 products summed in i32, scaled to f32, rounded and saturated to i8."""
    x, w = (do("cast", a, dtype=I32) for a in (at("x", m=k, k=1), at("w", k=n, n=1)))
    scaled = do("rint", do("mul", do("cast", Ref("s", I32)), num(0.0078125)))
    limited = do("minimum", do("maximum", scaled, num(-128.0)), num(127.0))
    return kernel(
        "quantized",
        {"m": m, "n": n, "k": k},
        "m n",
        [
            Stage("s", ("k",), do("mul", x, w, dtype=I32), add("k")),
            Stage("q", (), do("cast", limited, dtype=I8), out=at("y", m=n, n=1)),
        ],
        [Arg("x", I8, m * k), Arg("w", I8, k * n, "const"), Arg("y", I8, m * n, "out")],
    )


def quantized_convolution(
    h: int,
    w: int,
    c: int,
    o: int,
    size: int = 3,
    stride: int = 1,
    *,
    zero: int = -7,
    dtype: DType = I8,
    weights: DType = I8,
) -> Kernel:
    """Channels-last convolution of 8-bit integers, padded with `zero`, requantized."""
    seen = quantized_window(h, w, c, size, stride, zero, dtype, c=1)
    return requantized(seen, at("k", i=size * c * o, j=c * o, c=o, o=1), h, w, c, o, size, stride,
                       dtype, weights)  # fmt: skip


def quantized_depthwise(
    h: int,
    w: int,
    c: int,
    size: int = 3,
    stride: int = 1,
    *,
    zero: int = 7,
    dtype: DType = U8,
    weights: DType = I8,
) -> Kernel:
    """The same with a window for each channel by itself."""
    seen = quantized_window(h, w, c, size, stride, zero, dtype, o=1)
    own = at("k", i=size * c, j=c, o=1)
    return requantized(seen, own, h, w, 1, c, size, stride, dtype, weights)


def quantized_window(
    h: int, w: int, c: int, size: int, stride: int, zero: int, dtype: DType, /, **extra: int
) -> Expr:
    """x[h, w, c] seen through a window of `size` x `size`, padded with `zero`; see `padded`."""
    pad = size // 2
    seen = padded(h, w, c, stride, pad, **extra)
    return Guard(seen.bounds, seen.value, num(zero, dtype)) if pad else seen.value


def requantized(
    seen: Expr, own: At, h: int, w: int, c: int, o: int, size: int, stride: int,
    dtype: DType, weights: DType,
) -> Kernel:  # fmt: skip
    """Sums of products over windows of h x w points and c channels each, requantized to i8."""
    pad = size // 2
    oh, ow = (h + 2 * pad - size) // stride + 1, (w + 2 * pad - size) // stride + 1
    x, k = do("cast", seen, dtype=I32), do("cast", own, dtype=I32)
    scaled = do("mul", do("cast", do("add", Ref("s", I32), at("b", o=1), dtype=I32)), at("f", o=1))
    limited = do("minimum", do("maximum", scaled, num(-131.0)), num(124.0))
    y = do("add", do("cast", do("rint", limited), dtype=I32), num(3, I32), dtype=I32)
    inner = {"i": size, "j": size} | ({"c": c} if own.index.strides.get("c") else {})
    size_of_x = h * w * (c if "c" in inner else o)
    return kernel(
        "quantized_conv",
        {"h": oh, "w": ow, "o": o} | inner,
        "h w o",
        [
            Stage("s", tuple(inner), do("mul", x, k, dtype=I32), add(*inner)),
            Stage("q", (), do("cast", y, dtype=I8), out=at("y", h=ow * o, w=o, o=1)),
        ],
        [
            Arg("x", dtype, size_of_x),
            Arg("k", weights, size * size * c * o, "const"),
            Arg("b", I32, o, "const"),
            Arg("f", F32, o, "const"),
            Arg("y", I8, oh * ow * o, "out"),
        ],
    )


def rounded_to_bytes(
    m: int, n: int, zero: int, bounds: tuple[int, int], dtype: DType = U8, below: int | None = None
) -> Kernel:
    """y[i, j] = round(x[i, j] * f[j]) + zero, limited to `bounds`. below: known of f."""
    low, high = (num(float(bound - zero)) for bound in bounds)
    real = do("cast", at("x", i=n, j=1)) if below else at("x", i=n, j=1)
    limited = do("minimum", do("maximum", do("mul", real, at("f", j=1)), low), high)
    y = do("add", do("cast", do("rint", limited), dtype=I32), num(zero, I32), dtype=I32)
    return kernel(
        "rounded_to_bytes",
        {"i": m, "j": n},
        "i j",
        [Stage("s", (), do("cast", y, dtype=dtype), out=at("y", i=n, j=1))],
        [
            Arg("x", I32 if below else F32, m * n),
            Arg("f", F32, n, "const", below),
            Arg("y", dtype, m * n, "out"),
        ],
    )


# ------------------------------------------------------------------ gathers and ordered axes


def gather_rows(count: int, size: int, n: int, dtype: DType = I64) -> Kernel:
    """y[r, j] = x[index[r], j]."""
    value = At("x", index(j=1), (Gather(at("i", r=1), n, size),))
    return kernel(
        "gather_rows",
        {"r": count, "j": n},
        "r j",
        [Stage("s", (), value, out=at("y", r=n, j=1))],
        [Arg("x", F32, size * n), Arg("i", dtype, count), Arg("y", F32, count * n, "out")],
    )


def byte_table(m: int, n: int, dtype: DType = I8) -> Kernel:
    """y[i, j] = table[x[i, j]] for bytes x: a function of one of them."""
    value = At("t", Index(), (Gather(at("x", i=n, j=1), 1, 256),))
    return kernel(
        "byte_table",
        {"i": m, "j": n},
        "i j",
        [Stage("s", (), value, out=at("y", i=n, j=1))],
        [Arg("x", U8, m * n), Arg("t", dtype, 256, "const"), Arg("y", dtype, m * n, "out")],
    )


def gather_elements(rows: int, count: int, size: int) -> Kernel:
    """y[r, j] = x[r, index[r, j]]: another index for every lane."""
    value = At("x", index(r=size), (Gather(at("i", r=count, j=1), 1, size),))
    return kernel(
        "gather_elements",
        {"r": rows, "j": count},
        "r j",
        [Stage("s", (), value, out=at("y", r=count, j=1))],
        [
            Arg("x", F32, rows * size),
            Arg("i", I32, rows * count),
            Arg("y", F32, rows * count, "out"),
        ],
    )


def guarded_gather(count: int, size: int) -> Kernel:
    """A gather that counts only inside a guard: bad indices outside it are nobody's fault."""
    value = At("x", index(), (Gather(at("i", j=1), 1, size),))
    value = Guard((Bound(index(-2, j=1), count - 4),), value, num(-1.0))
    return kernel(
        "guarded_gather",
        {"j": count},
        "j",
        [Stage("s", (), value, out=at("y", j=1))],
        [Arg("x", F32, size), Arg("i", I64, count), Arg("y", F32, count, "out")],
    )


# ------------------------------------------------------------------ repeats


def node_table(buf: str, size: int, **strides: int) -> At:
    """What a table holds at the node so far."""
    return At(buf, index(**strides), (Gather(Carried(I32), 1, size),))


def goes_right(feature: At, threshold: At, width: int) -> Do:
    """1 where not x[r, feature] <= threshold."""
    x = At("x", index(r=width), (Gather(feature, 1, width),))
    return do("cast", do("bit_not", do("le", x, threshold, dtype=BOOL), dtype=BOOL), dtype=I32)


def complete_trees(rows: int, trees: int, depth: int, width: int, known: bool = True) -> Kernel:
    """y[r] = the sum over trees of the leaf that row r reaches; known: features need no check."""
    inner, leaves = (1 << depth) - 1, 1 << depth
    tables = (node_table(name, inner, t=inner) for name in ("f", "v"))
    first = do("add", do("mul", Carried(I32), num(2, I32), dtype=I32), num(1, I32), dtype=I32)
    step = do("add", first, goes_right(*tables, width), dtype=I32)
    leaf = do(
        "add", Repeat(num(0, I32), step, depth), Iota(index(-inner, t=leaves), I32), dtype=I32
    )
    value = At("w", index(), (Gather(leaf, 1, trees * leaves),))
    return kernel(
        "complete_trees",
        {"r": rows, "t": trees},
        "r",
        [Stage("s", ("t",), value, add("t"), at("y", r=1))],
        [
            Arg("x", F32, rows * width),
            Arg("f", U8, trees * inner, "const", width if known else None),
            Arg("v", F32, trees * inner, "const"),
            Arg("w", F32, trees * leaves, "const"),
            Arg("y", F32, rows, "out"),
        ],
    )


def linked_trees(rows: int, trees: int, nodes: int, steps: int, width: int) -> Kernel:
    """y[r, t] = the node at which row r is after some steps from root[t]."""
    tables = (node_table(name, nodes) for name in ("f", "v"))
    child = do("cast", node_table("c", nodes), dtype=I32)
    step = do("add", child, goes_right(*tables, width), dtype=I32)
    return kernel(
        "linked_trees",
        {"r": rows, "t": trees},
        "r t",
        [Stage("s", (), Repeat(at("q", t=1), step, steps), out=at("y", r=trees, t=1))],
        [
            Arg("x", F32, rows * width),
            Arg("f", U8, nodes, "const", width),
            Arg("v", F32, nodes, "const"),
            Arg("c", U16, nodes, "const", nodes - 1),
            Arg("q", I32, trees, "const", nodes),
            Arg("y", I32, rows * trees, "out"),
        ],
    )


def repeated(rows: int, n: int, times: int) -> Kernel:
    """A repeat of sums with an earlier stage's value, inside a guard by lane; all of it wraps."""
    most = Stage("m", ("k",), at("x", r=n, k=1), Reduce("max", ("k",)))
    more = do("minimum", Ref("m", I32), Iota(index(-3, r=1, j=5), I32), dtype=I32)
    step = do("add", do("mul", Carried(I32), num(3, I32), dtype=I32), more, dtype=I32)
    found = Repeat(at("x", -1, r=n, j=1), step, times)
    value = Guard((Bound(index(-1, j=1), n - 2),), found, num(7, I32))
    return kernel(
        "repeated",
        {"r": rows, "j": n, "k": n},
        "r",
        [most, Stage("s", ("j",), value, out=at("y", r=n, j=1))],
        [Arg("x", I32, rows * n), Arg("y", I32, rows * n, "out")],
    )


def scatter_add(count: int, size: int, n: int) -> Kernel:
    """y[index[r], j] += x[r, j], one r after another."""
    place = At("y", index(j=1), (Gather(at("i", r=1), n, size),))
    return kernel(
        "scatter_add",
        {"j": n, "r": count},
        "j r",
        [Stage("s", (), do("add", place, at("x", r=n, j=1)), out=place)],
        [Arg("x", F32, count * n), Arg("i", I64, count), Arg("y", F32, size * n, "out")],
        ordered="r",
    )


def cumulative(rows: int, n: int, along_rows: bool) -> Kernel:
    """Running sums of x[rows, n] along the contiguous axis or across it."""
    axis, step = ("j", 1) if along_rows else ("r", n)
    before = Guard((Bound(index(-1, **{axis: 1}), max(rows, n)),), at("y", -step, r=n, j=1), num(0))
    value = do("add", before, at("x", r=n, j=1))
    return kernel(
        "cumulative",
        {"r": rows, "j": n},
        "r j" if axis == "j" else "j r",
        [Stage("s", (), value, out=at("y", r=n, j=1))],
        [Arg("x", F32, rows * n), Arg("y", F32, rows * n, "out")],
        ordered=axis,
    )


def inner_scan(rows: int, n: int) -> Kernel:
    """A stage axis that is ordered: running sums, of which the maximum is taken off."""
    before = Guard((Bound(index(-1, j=1), n),), at("y", -1, r=n, j=1), num(0.0))
    value = do("add", before, at("x", r=n, j=1))
    return kernel(
        "inner_scan",
        {"r": rows, "j": n, "i": n},
        "r",
        [
            Stage("s", ("j",), value, Reduce("max", ("j",)), keep=at("y", r=n, j=1)),
            Stage("d", ("i",), do("sub", at("y", r=n, i=1), Ref("s", F32)), out=at("z", r=n, i=1)),
        ],
        [
            Arg("x", F32, rows * n),
            Arg("y", F32, rows * n, "out"),
            Arg("z", F32, rows * n, "out"),
        ],
        ordered="j",
    )


def constant() -> Kernel:
    """No axes at all."""
    return kernel(
        "constant",
        {},
        "",
        [Stage("s", (), do("add", at("x"), num(1.5)), out=at("y"))],
        [Arg("x", F32, 1), Arg("y", F32, 1, "out")],
    )


def library() -> Iterator[tuple[str, Kernel]]:
    """A name and a kernel for every family, with tails in most extents."""
    yield "matmul", matmul(7, 40, 19)
    yield "matmul packed", matmul(13, 48, 33, 16)
    yield "matmul with gelu", matmul_gelu(7, 40, 19)
    yield "matmul packed with a tail", matmul(5, 37, 8, 16)
    yield "matmul f64", matmul(6, 21, 10, dtype=F64)
    yield "matmul i32", matmul(6, 21, 10, dtype=I32)
    yield "vector times matrix", matmul(1, 67, 129, 32)
    yield "dots", matmul_transposed(5, 6, 83)
    yield "conv 3x3", convolution(9, 7, 5, 35)
    yield "conv 3x3 packed", convolution(6, 11, 16, 32, block=16)
    yield "conv 3x3 stride 2", convolution(9, 10, 8, 20, stride=2, block=32)
    yield "conv 5x5", convolution(6, 6, 3, 18, size=5)
    yield "conv 1x1", convolution(5, 5, 24, 48, size=1, block=16)
    yield "grouped", grouped(5, 6, 3, 4, 10)
    yield "depthwise", depthwise(7, 9, 37)
    yield "max_pool", max_pool(9, 8, 21)
    yield "average_pool", average_pool(8, 6, 19)
    yield "softmax rows", softmax(5, 83)
    yield "softmax columns", softmax(37, 11, columns=True)
    yield "layer_norm", layer_norm(6, 75)
    yield "total", total(11, 29)
    yield "partial", partial_sums(5, 7, 19)
    yield "gelu", gelu(1003)
    yield "broadcast", broadcast_add(7, 45)
    yield "broadcast i8", broadcast_add(3, 77, I8)
    yield "transpose", transpose(3, 10, 37)
    yield "transpose f64", transpose(3, 5, 9, F64)
    yield "transpose i8", transpose(4, 33, 5, I8)
    yield "transpose f16", transpose(1, 35, 22, F16)
    yield "transpose bool", transpose(1, 20, 37, BOOL)
    yield "normalised", normalised(53, 3)
    yield "normalised, many channels", normalised(37, 24)
    yield "matmul into columns", matmul_into_columns(21, 37, 19)
    yield "pool_planes stride 1", pool_planes(3, 7, 21, 1)
    yield "pool_planes stride 2", pool_planes(3, 9, 70, 2)
    yield "pool_planes stride 3", pool_planes(2, 8, 52, 3)
    yield "strided", strided(4, 39, 3)
    yield "reversed", strided(4, 39, 1, reverse=True)
    yield "spread", spread(77, 3)
    yield "concatenate", concatenate(3, 17, 5, 26)
    yield "pad f32", pad_rows(5, 30, 3, F32, -1.5)
    yield "pad i8", pad_rows(3, 70, 1, I8, 7)
    yield "pad bool", pad_rows(3, 70, 1, BOOL, 1)
    yield "iota i64", iota(3, 21, I64)
    yield "iota i8", iota(3, 90, I8)
    yield "half", half_storage(4, 51)
    yield "quantized", quantized(5, 37, 24)
    yield "quantized conv", quantized_convolution(7, 6, 3, 21)
    yield "quantized conv u8", quantized_convolution(6, 5, 18, 9, stride=2, zero=131, dtype=U8)
    yield "quantized depthwise", quantized_depthwise(7, 6, 40)
    yield "quantized depthwise 5x5", quantized_depthwise(6, 9, 23, 5, 2, dtype=I8, zero=-3)
    yield "rounded to bytes", rounded_to_bytes(3, 41, 7, (0, 255))
    yield "rounded to i8", rounded_to_bytes(3, 70, -5, (-5, 90), I8, 1)
    yield "quantized conv 1x1", quantized_convolution(5, 5, 37, 34, 1, weights=I16)
    yield "gather rows", gather_rows(9, 7, 33)
    yield "gather rows u8", gather_rows(9, 300, 5, DType("u8", "u", 8))
    yield "byte table", byte_table(3, 150)
    yield "byte table u8", byte_table(7, 21, U8)
    yield "gather elements", gather_elements(3, 37, 11)
    yield "guarded gather", guarded_gather(41, 9)
    yield "complete trees", complete_trees(21, 13, 4, 5)
    yield "complete trees, one row", complete_trees(1, 27, 3, 5)
    yield "complete trees, unknown", complete_trees(9, 3, 2, 4, known=False)
    yield "linked trees", linked_trees(11, 9, 300, 14, 6)
    yield "linked trees, short", linked_trees(3, 9, 20, 5, 6)
    yield "repeated", repeated(11, 21, 5)
    yield "repeated once", repeated(3, 9, 1)
    yield "repeated often", repeated(9, 5, 27)
    yield "scatter_add", scatter_add(20, 6, 37)
    yield "cumulative along", cumulative(5, 18, True)
    yield "cumulative across", cumulative(7, 37, False)
    yield "inner_scan", inner_scan(4, 19)
    yield "constant", constant()
    for op in ("max", "min", "add", "mul"):
        yield f"reduce {op}", reduction(op, 5, 77)
    for op in ("argmax", "argmin", "argmax_last", "argmin_last"):
        yield f"{op} rows", reduction(op, 4, 91)
        yield f"{op} columns", reduction(op, 37, 13, columns=True)
        yield f"{op} i8", reduction(op, 3, 300, I8)
    for op in ("max", "argmin"):
        yield f"{op} f16 rows", reduction(op, 5, 77, F16)
        yield f"{op} f16 columns", reduction(op, 33, 7, F16, columns=True)
    for op in ("and", "or"):
        yield f"reduce {op} bool", reduction(op, 5, 77, BOOL)
        yield f"reduce {op} i32", reduction(op, 33, 9, I32, columns=True)


# ------------------------------------------------------------------ data


def gathered_by(kernel: Kernel) -> dict[str, int]:
    """Buffer of integers that indices are made of -> the size they must stay below."""
    found: dict[str, int] = {}
    for stage in kernel.stages:
        for expr in (stage.value, stage.keep, stage.out):
            for part in subexpressions(expr) if expr is not None else ():
                for gather in getattr(part, "gathers", ()):
                    for inner in subexpressions(gather.index):
                        if isinstance(inner, At) and kernel.buffers[inner.buf].dtype.is_integer:
                            found[inner.buf] = min(gather.size, found.get(inner.buf, gather.size))
    return found


def packed(
    kernel: Kernel, schedule: Schedule, data: Mapping[str, np.ndarray]
) -> tuple[Kernel, dict[str, np.ndarray]]:
    """The kernel as it is compiled, and its constants as it reads them."""
    found, packings = pack(kernel, schedule)
    return found, {**data, **{name: how.pack(data[name]) for name, how in packings.items()}}


def draw(dtype: DType, size: int, rng: np.random.Generator) -> np.ndarray:
    """Floats: multiples of 1/8 in [-2, 2]; integers: the whole range, with its ends; bool: both."""
    if dtype.is_float:
        return (rng.integers(-16, 17, size) / 8).astype(dtype.numpy)
    if dtype == BOOL:
        return rng.random(size) < 0.5
    info = np.iinfo(dtype.numpy)
    values = rng.integers(info.min, info.max, size, dtype=dtype.numpy, endpoint=True)
    ends = np.array([0, 1, info.min, info.max, info.max - 1, info.min + 1], dtype.numpy)
    small = rng.integers(0, 9, size).astype(dtype.numpy)
    kind = rng.integers(0, 3, size)
    return np.where(kind == 0, rng.choice(ends, size), np.where(kind == 1, small, values))


def buffers_for(
    kernel: Kernel, rng: np.random.Generator, out_of_range: bool = False
) -> dict[str, np.ndarray]:
    """Data for every buffer; `out_of_range`: indices of gathers leave their range now and then."""
    limits = gathered_by(kernel)
    buffers = {}
    for arg in kernel.args:
        if arg.below is not None and arg.dtype.is_float:
            inside = rng.uniform(-0.99, 0.99, arg.size) * min(arg.below, 2 ** rng.integers(0, 40))
            buffers[arg.name] = inside.astype(np.float32)
        elif arg.below is not None:
            buffers[arg.name] = rng.integers(0, arg.below, arg.size).astype(arg.dtype.numpy)
        elif arg.name in limits:
            info, margin = np.iinfo(arg.dtype.numpy), 3 if out_of_range else 0
            low, high = max(-margin, info.min), min(limits[arg.name] + margin, info.max)
            buffers[arg.name] = rng.integers(low, high, arg.size).astype(arg.dtype.numpy)
        else:
            buffers[arg.name] = draw(arg.dtype, arg.size, rng)
    return buffers
