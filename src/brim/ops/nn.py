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
from brim.ops.primitive import (
    absolute,
    add,
    concat,
    contract,
    div,
    gather,
    mul,
    pad,
    power,
    reduce,
    reshape,
    slice,
    sqrt,
    sub,
    transpose,
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


@composite()
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


@composite()
def conv_transpose(x, w, *, stride, dilation, low, high, groups):
    """Transposed convolution of x[N, *spatial, C] with w[*kernel, C / groups, O].

    The kernel is not flipped. low, high: how much is cut off (negative: zeros added) on each side
    of the full result, whose axes have (n - 1) * stride + (k - 1) * dilation + 1 elements.
    """
    spatial = len(x.shape) - 2
    if not 1 <= spatial <= 3 or len(w.shape) != spatial + 2:
        raise OpError(f"convolution of {x.type} with {w.type}: 1 to 3 spatial axes are supported")
    kernel, out, inner = w.shape[:spatial], _OUT[:spatial], _IN[:spatial]
    if groups == 1 and kernel == stride and set(dilation) == {1}:
        # windows do not overlap: every input pixel makes its own block of the output
        blocks = "".join(a + b for a, b in zip(out, inner))
        y = contract(x, w, spec=f"n{out}c,{inner}co->n{blocks}o")
        sizes = tuple(n * s for n, s in zip(x.shape[1:-1], stride))
        y = reshape(y, shape=(x.shape[0], *sizes, w.shape[-1]))
        return crop_or_pad(y, tuple(-n for n in low), tuple(-n for n in high))
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


def spread(x: Value, steps: Ints, value: float = 0) -> Value:
    """x with steps - 1 elements of `value` between neighbours along each axis."""
    for axis, step in enumerate(steps):
        n = x.shape[axis]
        if step == 1 or n < 2:
            continue
        shape = x.shape
        x = reshape(x, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :]))
        high = tuple(step - 1 if i == axis + 1 else 0 for i in range(len(x.shape)))
        x = pad(x, low=(0,) * len(high), high=high, value=value)
        x = reshape(x, shape=(*shape[:axis], n * step, *shape[axis + 1 :]))
        sizes = tuple(m - step + 1 if i == axis else m for i, m in enumerate(x.shape))
        x = slice(x, starts=(0,) * len(sizes), sizes=sizes, steps=(1,) * len(sizes))
    return x


# ------------------------------------------------------------------ pooling


def pooled(x: Value, op: str, size: Ints, stride: Ints, dilation: Ints) -> Value:
    spatial = len(size)
    y = _windows(x, size, stride, dilation)
    y = reduce(y, op=op, axes=tuple(range(2 + spatial, 2 + 2 * spatial)))
    return reshape(y, shape=y.shape[: 2 + spatial])


def lowest(x: Value) -> float | int:
    """The smallest value of x's element type: what a maximum starts from."""
    return -math.inf if x.dtype.is_float else int(np.iinfo(x.dtype.numpy).min)


@composite()
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


@composite()
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


@composite()
def resample(x, index, weight, *, axis):
    """y[.., o, ..] = sum over t of weight[o, t] * x[.., index[o, t], ..] along `axis`.

    What every resize with constant sizes is, axis by axis.
    """
    size, taps = index.shape
    y = gather(x, index, axis=axis)
    shape = tuple(size if i == axis else taps if i == axis + 1 else 1 for i in range(len(y.shape)))
    y = reduce(mul(y, reshape(weight, shape=shape)), op="add", axes=(axis + 1,))
    return reshape(y, shape=(*x.shape[:axis], size, *x.shape[axis + 1 :]))
