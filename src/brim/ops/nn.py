"""Layers with windows or weights, for 1 to 3 spatial axes: all channels-last (x[N, *spatial, C]).

Front ends transpose into this layout and back; a layout pass removes what cancels. Weights are
w[*kernel, C / groups, O]. There are no biases here: a bias is an `add` that fuses by itself.
"""

from __future__ import annotations

import math

import numpy as np

from brim.errors import OpError
from brim.graph import Value, const
from brim.ops.math import matmul, reduce_mean, softmax
from brim.ops.movement import gather_grad, inverse_table, spread, window_grad
from brim.ops.primitive import (
    absolute,
    add,
    concat,
    contract,
    div,
    eq,
    gather,
    mul,
    pad,
    power,
    reduce,
    reshape,
    select,
    slice,
    sqrt,
    sub,
    transpose,
    unbroadcast,
    where,
    window,
)
from brim.ops.registry import composite

Ints = tuple[int, ...]
_OUT, _IN = "hwd", "ijl"


def crop_or_pad(x: Value, low: Ints, high: Ints, value: float = 0) -> Value:
    """`pad` on the spatial axes of x[N, *spatial, C], where negative amounts cut off instead."""
    for amounts in (low, high):
        if len(amounts) != len(x.shape) - 2:
            raise OpError(f"{amounts} needs one entry for each of {len(x.shape) - 2} spatial axes")
    before, after = (0, *low, 0), (0, *high, 0)
    if max(*before, *after) > 0:  # first: more may be cut off than was there
        x = pad(
            x,
            low=tuple(max(n, 0) for n in before),
            high=tuple(max(n, 0) for n in after),
            value=value,
        )
    if min(*before, *after) < 0:
        starts = tuple(max(-n, 0) for n in before)
        ends = tuple(size + min(n, 0) for size, n in zip(x.shape, after))
        sizes = tuple(max(end - start, 0) for start, end in zip(starts, ends))
        x = slice(x, starts=starts, sizes=sizes, steps=(1,) * len(starts))
    return x


def _windows(x: Value, size: Ints, stride: Ints, dilation: Ints) -> Value:
    return window(
        x, axes=tuple(range(1, 1 + len(size))), size=size, stride=stride, dilation=dilation
    )


def _conv_grad(
    g: Value,
    y: Value,
    x: Value,
    w: Value,
    *,
    stride: Ints,
    dilation: Ints,
    low: Ints,
    high: Ints,
    groups: int,
    exact: bool = False,
) -> list:
    """To the input a transposed convolution, to the weights products with the input's windows."""
    ends = []
    for n, k, s, d, a, b in zip(x.shape[1:-1], w.shape, stride, dilation, low, high):
        ends.append(b - (n + a + b - (k - 1) * d - 1) % s)  # of what no window reached, too
    dx = conv_transpose(
        g, turned_channels(w, groups),
        stride=stride, dilation=dilation, low=low, high=tuple(ends), groups=groups,
    )  # fmt: skip
    dw = _products_of_taps(crop_or_pad(x, low, high), g, w.shape, stride, dilation, groups)
    return [dx, dw]


def turned_channels(w: Value, groups: int) -> Value:
    """w[*kernel, C / groups, O] as w[*kernel, O / groups, C]: what a transposed layer has."""
    *kernel, per_group, outputs = w.shape
    rank, each = len(kernel), outputs // groups
    if groups > 1:
        w = reshape(w, shape=(*kernel, per_group, groups, each))
        w = transpose(w, perm=(*range(rank), rank + 2, rank + 1, rank))
        return reshape(w, shape=(*kernel, each, groups * per_group))
    return transpose(w, perm=(*range(rank), rank + 1, rank))


def _products_of_taps(
    x: Value, g: Value, shape: Ints, stride: Ints, dilation: Ints, groups: int
) -> Value:
    """The cotangent of weights[*kernel, C / groups, O] of `shape`: for each tap the sum of the
    elements of x that it met, times the cotangent g[N, *spatial, O] of what came of them."""
    kernel = shape[:-2]
    out, inner = _OUT[: len(kernel)], _IN[: len(kernel)]
    if groups == 1:
        spec = f"n{out}c{inner},n{out}o->{inner}co"
        return contract(_windows(x, kernel, stride, dilation), g, spec=spec)
    left: Ints = shape[-2:-1]
    right: Ints = (shape[-1] // groups,)
    spec = f"n{out}gc{inner},n{out}go->{inner}cgo"
    if left == right == (1,):
        left = right = ()
        spec = f"n{out}g{inner},n{out}g->{inner}g"
    x = reshape(x, shape=(*x.shape[:-1], groups, *left))
    g = reshape(g, shape=(*g.shape[:-1], groups, *right))
    return reshape(contract(_windows(x, kernel, stride, dilation), g, spec=spec), shape=shape)


@composite(grad=_conv_grad)
def conv(x, w, *, stride, dilation, low, high, groups, exact=False):
    """Convolution (cross-correlation) of x[N, *spatial, C] with w[*kernel, C / groups, O].

    low, high: zeros before and after each spatial axis. exact: of whole numbers whose sums a float
    holds exactly, so no variant may round. Result [N, *spatial', O].
    """
    spatial = len(x.shape) - 2
    if not 1 <= spatial <= 3 or len(w.shape) != spatial + 2:
        raise OpError(f"convolution of {x.type} with {w.type}: 1 to 3 spatial axes are supported")
    channels, (per_group, outputs) = x.shape[-1], w.shape[-2:]
    if groups < 1 or per_group * groups != channels or outputs % groups:
        raise OpError(
            f"{channels} channels, {outputs} outputs and {groups} groups do not fit w {w.shape}"
        )
    kernel, out, inner = w.shape[:spatial], _OUT[:spatial], _IN[:spatial]
    x = crop_or_pad(x, low, high)
    if groups == 1:
        return contract(
            _windows(x, kernel, stride, dilation), w, spec=f"n{out}c{inner},{inner}co->n{out}o"
        )
    if per_group == 1 and outputs == groups:  # depthwise
        w = reshape(w, shape=(*kernel, channels))
        return contract(
            _windows(x, kernel, stride, dilation), w, spec=f"n{out}c{inner},{inner}c->n{out}c"
        )
    x = reshape(x, shape=(*x.shape[:-1], groups, per_group))
    w = reshape(w, shape=(*kernel, per_group, groups, outputs // groups))
    y = contract(
        _windows(x, kernel, stride, dilation), w, spec=f"n{out}gc{inner},{inner}cgo->n{out}go"
    )
    return reshape(y, shape=(*y.shape[:-2], outputs))


def _conv_transpose_grad(
    g: Value,
    y: Value,
    x: Value,
    w: Value,
    *,
    stride: Ints,
    dilation: Ints,
    low: Ints,
    high: Ints,
    groups: int,
) -> list:
    """To the input a convolution, to the weights products with the cotangent's windows."""
    swapped = turned_channels(w, groups)
    dx = conv(
        g, swapped, stride=stride, dilation=dilation, low=low, high=high, groups=groups
    )  # fmt: skip
    windows = crop_or_pad(g, low, high)
    dw = _products_of_taps(windows, x, swapped.shape, stride, dilation, groups)
    return [dx, turned_channels(dw, groups)]


@composite(grad=_conv_transpose_grad)
def conv_transpose(x, w, *, stride, dilation, low, high, groups):
    """Transposed convolution of x[N, *spatial, C] with w[*kernel, C / groups, O].

    The kernel is not flipped. low, high: how much is cut off (negative: zeros added) on each side
    of the full result, whose axes have (n - 1) * stride + (k - 1) * dilation + 1 elements.
    """
    spatial = len(x.shape) - 2
    if not 1 <= spatial <= 3 or len(w.shape) != spatial + 2:
        raise OpError(f"convolution of {x.type} with {w.type}: 1 to 3 spatial axes are supported")
    kernel, out, inner = w.shape[:spatial], _OUT[:spatial], _IN[:spatial]
    apart = tuple(s - k for k, s in zip(kernel, stride))
    if groups == 1 and min(apart) >= 0 and set(dilation) == {1}:
        # windows do not overlap: every input pixel makes its own block of the output
        blocks = "".join(a + b for a, b in zip(out, inner))
        y = contract(x, w, spec=f"n{out}c,{inner}co->n{blocks}o")
        if max(apart) > 0:
            behind = (0, *(n for gap in apart for n in (0, gap)), 0)
            y = pad(y, low=(0,) * len(behind), high=behind, value=0)
        sizes = tuple(n * s for n, s in zip(x.shape[1:-1], stride))
        y = reshape(y, shape=(x.shape[0], *sizes, w.shape[-1]))
        return crop_or_pad(
            y, tuple(-n for n in low), tuple(-n - gap for n, gap in zip(high, apart))
        )
    reach = tuple((k - 1) * d for k, d in zip(kernel, dilation))
    long = all(k >= s for k, s in zip(kernel, stride))
    if max(stride) > 1 and long and set(dilation) == {1}:
        sizes = tuple(
            (n - 1) * s + r + 1 - a - b
            for n, s, r, a, b in zip(x.shape[1:-1], stride, reach, low, high)
        )
        if min(sizes) > 0:
            return _by_phase(x, w, stride, low, sizes, groups)
    x = spread(x, (1, *stride, 1))
    return conv(
        x,
        _every(w, tuple(k - 1 for k in kernel), (-1,) * spatial),
        stride=(1,) * spatial,
        dilation=dilation,
        low=tuple(r - n for r, n in zip(reach, low)),
        high=tuple(r - n for r, n in zip(reach, high)),
        groups=groups,
    )


def _by_phase(x: Value, w: Value, stride: Ints, low: Ints, sizes: Ints, groups: int) -> Value:
    """`conv_transpose` without products with zeros, of `sizes` results after `low` are cut off.

    Results `stride` apart have the same taps of the kernel, every stride-th: so many convolutions.
    (Shi 2016, "Is the deconvolution layer the same as a convolutional layer?", arXiv:1609.07009.)
    """
    spatial = len(stride)
    counts = tuple(-(-n // s) for n, s in zip(sizes, stride))
    rows = []
    for phase in np.ndindex(*stride):
        first = tuple((p + a) % s for p, a, s in zip(phase, low, stride))
        taps = tuple((k - 1 - f) // s for k, f, s in zip(w.shape, first, stride))  # but one
        last = tuple(f + t * s for f, t, s in zip(first, taps, stride))
        before = tuple(t - (p + a) // s for t, p, a, s in zip(taps, phase, low, stride))
        after = tuple(m + t - n - b for m, t, n, b in zip(counts, taps, x.shape[1:], before))
        ones = (1,) * spatial
        found = conv(
            x,
            _every(w, last, tuple(-s for s in stride)),
            stride=ones, dilation=ones, low=before, high=after, groups=groups,
        )  # fmt: skip
        blocks = [part for n in counts for part in (n, 1)]
        rows.append(reshape(found, shape=(x.shape[0], *blocks, found.shape[-1])))
    for axis, step in reversed(list(enumerate(stride))):
        rows = [
            concat(*rows[i : i + step], axis=2 + 2 * axis) if step > 1 else rows[i]
            for i in range(0, len(rows), step)
        ]
    (y,) = rows
    whole = tuple(n * s for n, s in zip(counts, stride))
    y = reshape(y, shape=(x.shape[0], *whole, w.shape[-1]))
    return crop_or_pad(y, (0,) * spatial, tuple(n - m for n, m in zip(sizes, whole)))


def _every(w: Value, first: Ints, steps: Ints) -> Value:
    """The kernel's taps from `first` on, backwards by `steps`; of the other axes all."""
    sizes = (*(f // -step + 1 for f, step in zip(first, steps)), *w.shape[-2:])
    return slice(w, starts=(*first, 0, 0), sizes=sizes, steps=(*steps, 1, 1))


# ------------------------------------------------------------------ pooling


def pooled(x: Value, op: str, size: Ints, stride: Ints, dilation: Ints) -> Value:
    spatial = len(size)
    y = _windows(x, size, stride, dilation)
    y = reduce(y, op=op, axes=tuple(range(2 + spatial, 2 + 2 * spatial)))
    return reshape(y, shape=y.shape[: 2 + spatial])


def lowest(x: Value) -> float | int:
    """The smallest value of x's element type: what a maximum starts from."""
    return -math.inf if x.dtype.is_float else int(np.iinfo(x.dtype.numpy).min)


def _max_pool_grad(
    g: Value, y: Value, x: Value, *, size: Ints, stride: Ints, dilation: Ints, low: Ints, high: Ints
) -> list:
    """To the first of equal largest elements of a window, as in torch."""
    spatial, taps = len(size), math.prod(size)
    padded = crop_or_pad(x, low, high, lowest(x))
    windows = _windows(padded, size, stride, dilation)
    number = const(np.arange(taps, dtype=np.int32).reshape(size))
    flat = (*y.shape, *(1,) * spatial)
    tied = select(eq(windows, reshape(y, shape=flat)), number, const(np.int32(taps)))
    first = reduce(tied, op="min", axes=tuple(range(2 + spatial, 2 + 2 * spatial)))
    share = where(eq(first, number), reshape(g, shape=flat))
    (dx,) = window_grad(
        share, windows, padded,
        axes=tuple(range(1, 1 + spatial)), size=size, stride=stride, dilation=dilation,
    )  # fmt: skip
    return [crop_or_pad(dx, tuple(-n for n in low), tuple(-n for n in high))]


@composite(grad=_max_pool_grad)
def max_pool(x, *, size, stride, dilation, low, high):
    """Maximum over windows of x[N, *spatial, C]; padding never wins."""
    return pooled(crop_or_pad(x, low, high, lowest(x)), "max", size, stride, dilation)


@composite()
def average_pool(x, *, size, stride, dilation, low, high, counted_low, counted_high):
    """Mean over windows of x[N, *spatial, C], zeros outside.

    counted_low, counted_high: how much of the padding low, high counts as elements of the mean
    (0: only real elements are counted).
    """
    y = pooled(crop_or_pad(x, low, high), "add", size, stride, dilation)
    for axis, n in enumerate(x.shape[1:-1]):
        counts = window_counts(
            y.shape[1 + axis],
            (stride[axis], size[axis], dilation[axis]),
            -counted_low[axis] + low[axis],
            n + counted_high[axis] + low[axis],
        )
        if (counts == counts[0]).all():
            y = mul(y, 1 / float(counts[0]))
        else:  # the counts of the axes multiply
            shape = [-1 if i == axis + 1 else 1 for i in range(len(x.shape))]
            y = mul(y, const((1 / counts).reshape(shape).astype(x.dtype.numpy)))
    return y


def window_counts(windows: int, step: Ints, begin: int, end: int) -> np.ndarray:
    """How many elements of each window lie in [begin, end), at least 1; one entry if all agree.

    step: stride, size and dilation of the windows, the first of which starts at 0.
    """
    stride, size, dilation = step
    if begin <= 0 and (windows - 1) * stride + (size - 1) * dilation < end:
        return np.array([size])
    if windows > 1 << 25:
        raise OpError(f"{windows} windows with padding are refused")
    start = np.arange(windows, dtype=np.int64) * stride
    first = np.maximum(-((start - begin) // dilation), 0)
    last = np.minimum((end - 1 - start) // dilation, size - 1)
    return np.maximum(last - first + 1, 1)


@composite()
def lp_pool(x, *, p, size, stride, dilation, low, high):
    """(sum |x|**p) ** (1/p) over windows of x[N, *spatial, C]."""

    powers = mul(x, x) if p == 2 else power(absolute(x), p)
    total = pooled(crop_or_pad(powers, low, high), "add", size, stride, dilation)
    return sqrt(total) if p == 2 else power(total, 1 / p)


# ------------------------------------------------------------------ normalisation


@composite()
def batch_norm(x, scale, shift, mean, variance, *, epsilon):
    """(x - mean) / sqrt(variance + epsilon) * scale + shift for x[..., C], all others [C]."""
    factor = div(scale, sqrt(add(variance, epsilon)))
    return add(mul(x, factor), sub(shift, mul(mean, factor)))


def _layer_norm_grad(
    g: Value, y: Value, x: Value, scale: Value, *shift: Value, axes: Ints, epsilon: float
) -> list:
    """Two sums over `axes`: of the cotangent, and of its products with the normalised numbers. Of
    a scale that is the same along `axes`, as a batch norm's, they are its own cotangents, too."""
    centred = sub(x, reduce_mean(x, axes=axes))
    variance = reduce_mean(mul(centred, centred), axes=axes)
    factor = div(1, sqrt(add(variance, epsilon)))
    normed = mul(centred, factor)
    shape = (1,) * (len(x.shape) - len(scale.shape)) + scale.shape
    if all(shape[axis] == 1 for axis in axes):
        inner, factor = g, mul(factor, scale)
    else:
        inner = mul(g, scale)
    along = mul(normed, reduce_mean(mul(inner, normed), axes=axes))
    dx = mul(factor, sub(sub(inner, reduce_mean(inner, axes=axes)), along))
    of_scale = unbroadcast(mul(g, normed), scale.shape)
    return [dx, of_scale, *(unbroadcast(g, each.shape) for each in shift)]


@composite(grad=_layer_norm_grad)
def layer_norm(x, scale, shift=None, *, axes, epsilon):
    """x brought to mean 0 and variance 1 over `axes`, times scale, plus shift (both broadcast)."""
    centred = sub(x, reduce_mean(x, axes=axes))
    variance = reduce_mean(mul(centred, centred), axes=axes)
    y = mul(div(centred, sqrt(add(variance, epsilon))), scale)
    return y if shift is None else add(y, shift)


@composite()
def rms_norm(x, scale, *, axes, epsilon):
    """x / sqrt(mean(x**2) + epsilon) over `axes`, times scale (broadcast)."""
    return mul(div(x, sqrt(add(reduce_mean(mul(x, x), axes=axes), epsilon))), scale)


@composite()
def local_response_norm(x, *, size, alpha, beta, bias):
    """x / (bias + alpha / size * squares of `size` neighbours in C, summed) ** beta, x[..., C]."""
    last = len(x.shape) - 1
    low = (0,) * last + ((size - 1) // 2,)
    high = (0,) * last + (size // 2,)
    squares = pad(mul(x, x), low=low, high=high, value=0)
    windows = window(squares, axes=(last,), size=(size,), stride=(1,), dilation=(1,))
    total = reshape(reduce(windows, op="add", axes=(last + 1,)), shape=x.shape)
    return div(x, power(add(mul(total, alpha / size), bias), beta))


@composite()
def attention(query, key, value, bias=None, *, scale):
    """softmax(query @ key^T * scale + bias) @ value over the last two axes; bias broadcasts."""
    rank = len(key.shape)
    flipped = transpose(key, perm=(*range(rank - 2), rank - 1, rank - 2))
    scores = matmul(mul(query, scale), flipped)
    if bias is not None:
        scores = add(scores, bias)
    return matmul(softmax(scores, axis=len(scores.shape) - 1), value)


# ------------------------------------------------------------------ resizing


def _resample_grad(g: Value, y: Value, x: Value, index: Value, weight: Value, *, axis: int) -> list:
    """To x a resampling by the table turned round: for each element the results it is part of, as
    many as the most asked element has; what fills the others' rows has weight 0."""
    n, (size, taps) = x.shape[axis], index.shape
    rank = len(x.shape) + 1
    sizes = tuple({axis: size, axis + 1: taps}.get(i, 1) for i in range(rank))
    wide = reshape(g, shape=(*g.shape[: axis + 1], 1, *g.shape[axis + 1 :]))
    others = tuple(i for i in range(rank) if i not in (axis, axis + 1))
    dw = reduce(mul(gather(x, index, axis=axis), wide), op="add", axes=others)
    table = None if index.data is None else inverse_table(index.data.ravel().astype(np.int64), n)
    if table is None:
        part = mul(wide, reshape(weight, shape=sizes))
        return [*gather_grad(part, y, x, index, axis=axis), reshape(dw, shape=weight.shape)]
    places = np.maximum(table, 0)
    weights = gather(reshape(weight, shape=(size * taps,)), const(places), axis=0)
    dx = resample(g, const(places // taps), where(const(table >= 0), weights), axis=axis)
    return [dx, None, reshape(dw, shape=weight.shape)]


@composite(grad=_resample_grad)
def resample(x, index, weight, *, axis):
    """y[.., o, ..] = sum over t of weight[o, t] * x[.., index[o, t], ..] along `axis`.

    What every resize with constant sizes is, axis by axis.
    """
    size, taps = index.shape
    y = gather(x, index, axis=axis)
    shape = tuple(size if i == axis else taps if i == axis + 1 else 1 for i in range(len(y.shape)))
    y = reduce(mul(y, reshape(weight, shape=shape)), op="add", axes=(axis + 1,))
    return reshape(y, shape=(*x.shape[:axis], size, *x.shape[axis + 1 :]))
