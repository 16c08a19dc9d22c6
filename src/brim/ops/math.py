"""Composite mathematics: activations, softmax, reductions with a formula, products of matrices.

Everything here is defined by its body over the primitives. Layers with weights (convolution,
pooling, normalisation) are in `brim.ops.nn`.
"""

from __future__ import annotations

import math

import numpy as np

from brim.errors import OpError
from brim.graph import Value, const
from brim.ops.primitive import (
    absolute,
    add,
    bit_and,
    bit_not,
    cast,
    contract,
    div,
    erf,
    exp,
    ge,
    gt,
    log,
    lt,
    maximum,
    minimum,
    mul,
    neg,
    reduce,
    reshape,
    select,
    sqrt,
    sub,
    tanh,
    unbroadcast,
    where,
)
from brim.ops.registry import composite
from brim.types import F32


def zero(like: Value) -> Value:
    """The scalar 0 of an element type. (x * 0 is not 0 for infinities and NaN.)"""
    return const(np.zeros((), like.dtype.numpy))


# ------------------------------------------------------------------ activations


@composite(grad=lambda g, y, x: [where(gt(y, 0), g)])
def relu(x):
    """max(x, 0)."""
    return maximum(x, 0)


@composite(grad=lambda g, y, x: [mul(g, mul(y, sub(1, y)))])
def sigmoid(x):
    """1 / (1 + e**-x)."""
    return div(1, add(exp(neg(x)), 1))


def _hard_sigmoid_grad(g: Value, y: Value, x: Value, *, alpha: float, beta: float) -> list:
    """0 at both ends, as in torch."""
    return [where(bit_and(gt(y, 0), lt(y, 1)), mul(g, alpha))]


@composite(grad=_hard_sigmoid_grad)
def hard_sigmoid(x, *, alpha, beta):
    """alpha * x + beta, limited to [0, 1]."""
    return minimum(maximum(add(mul(x, alpha), beta), 0), 1)


@composite()
def hard_swish(x):
    """x * hard_sigmoid(x) with slope 1/6 and offset 1/2."""
    return mul(x, hard_sigmoid(x, alpha=1 / 6, beta=0.5))


@composite()
def swish(x, *, alpha):
    """x * sigmoid(alpha * x); alpha 1 is SiLU."""
    return mul(x, sigmoid(x if alpha == 1 else mul(x, alpha)))


@composite(grad=lambda g, y, x: [mul(g, sigmoid(x))])
def softplus(x):
    """log(1 + e**x), without overflow."""
    # log1p(small) after Kahan: log(1 + small) alone is 0 for x below -17, where f32 has digits left
    small = exp(neg(absolute(x)))
    one = add(small, 1)
    rest = sub(one, 1)
    exact = select(gt(rest, 0), div(mul(log(one), small), maximum(rest, 1e-30)), small)
    return add(maximum(x, 0), exact)


@composite()
def softsign(x):
    """x / (1 + |x|)."""
    return div(x, add(absolute(x), 1))


@composite()
def mish(x):
    """x * tanh(softplus(x))."""
    return mul(x, tanh(softplus(x)))


@composite()
def gelu(x, *, approximate):
    """x * P(Z < x) for a normal Z; approximate: by the tanh formula of Hendrycks & Gimpel."""
    if approximate:
        inner = mul(add(mul(mul(mul(x, x), x), 0.044715), x), math.sqrt(2 / math.pi))
        return mul(mul(x, 0.5), add(tanh(inner), 1))
    return mul(mul(x, 0.5), add(erf(mul(x, math.sqrt(0.5))), 1))


@composite(grad=lambda g, y, x, *, alpha: [select(gt(x, 0), g, mul(g, alpha))])
def leaky_relu(x, *, alpha):
    """x where x >= 0, else alpha * x."""
    return select(ge(x, 0), x, mul(x, alpha))


def _prelu_grad(g: Value, y: Value, x: Value, slope: Value) -> list:
    positive = gt(x, 0)
    of_slope = where(bit_not(positive), mul(g, x))
    return [select(positive, g, mul(g, slope)), unbroadcast(of_slope, slope.shape)]


@composite(grad=_prelu_grad)
def prelu(x, slope):
    """x where x >= 0, else slope * x; slope broadcasts to x."""
    return select(lt(x, 0), mul(x, slope), x)


def _elu_grad(g: Value, y: Value, x: Value, *, alpha: float) -> list:
    return [select(gt(x, 0), g, mul(g, mul(exp(minimum(x, 0)), alpha)))]


@composite(grad=_elu_grad)
def elu(x, *, alpha):
    """x where x >= 0, else alpha * (e**x - 1)."""
    # minimum keeps exp from overflowing on the side that is not taken
    return select(ge(x, 0), x, mul(sub(exp(minimum(x, 0)), 1), alpha))


@composite()
def selu(x, *, alpha, gamma):
    """gamma * elu(x, alpha)."""
    return mul(elu(x, alpha=alpha), gamma)


def _celu_grad(g: Value, y: Value, x: Value, *, alpha: float) -> list:
    return [select(gt(x, 0), g, mul(g, exp(div(minimum(x, 0), alpha))))]


@composite(grad=_celu_grad)
def celu(x, *, alpha):
    """max(0, x) + min(0, alpha * (e**(x / alpha) - 1))."""
    negative = mul(sub(exp(div(minimum(x, 0), alpha)), 1), alpha)
    return add(maximum(x, 0), minimum(negative, 0))


@composite()
def thresholded_relu(x, *, alpha):
    """x where x > alpha, else 0."""
    return select(gt(x, alpha), x, zero(x))


@composite()
def shrink(x, *, threshold, bias):
    """x - bias above the threshold, x + bias below minus the threshold, else 0."""
    above, below = gt(x, threshold), lt(x, -threshold)
    return select(above, sub(x, bias), select(below, add(x, bias), zero(x)))


# ------------------------------------------------------------------ along an axis


def reduce_mean(x: Value, *, axes: tuple[int, ...]) -> Value:
    """Mean over `axes`, which stay with size 1; f16 is summed and divided in f32."""
    count = math.prod(x.shape[a] for a in axes)
    if x.dtype.is_float and x.dtype.bits == 16:
        return cast(reduce_mean(cast(x, to=F32), axes=axes), to=x.dtype)
    # a quotient: the reciprocal of a count is rounded, which shows where means cancel
    return div(reduce(x, op="add", axes=axes), count)


def _softmax_grad(g: Value, y: Value, x: Value, *, axis: int) -> list:
    return [mul(y, sub(g, reduce(mul(g, y), op="add", axes=(axis,))))]


@composite(grad=_softmax_grad)
def softmax(x, *, axis):
    """e**x normalised to sum 1 along `axis`, shifted by the maximum so that it cannot overflow."""
    e = exp(sub(x, reduce(x, op="max", axes=(axis,))))
    return div(e, reduce(e, op="add", axes=(axis,)))


def _log_softmax_grad(g: Value, y: Value, x: Value, *, axis: int) -> list:
    return [sub(g, mul(exp(y), reduce(g, op="add", axes=(axis,))))]


@composite(grad=_log_softmax_grad)
def log_softmax(x, *, axis):
    """Logarithm of softmax along `axis`, without underflow."""
    shifted = sub(x, reduce(x, op="max", axes=(axis,)))
    return sub(shifted, log(reduce(exp(shifted), op="add", axes=(axis,))))


def _log_sum_exp_grad(g: Value, y: Value, x: Value, *, axes: tuple[int, ...]) -> list:
    return [mul(g, exp(sub(x, minimum(maximum(y, -_largest(x)), _largest(x)))))]


@composite(grad=_log_sum_exp_grad)
def log_sum_exp(x, *, axes):
    """log(sum(e**x)) over `axes`, which stay with size 1; cannot overflow."""
    top = reduce(x, op="max", axes=axes)
    # a maximum of -inf or +inf must not make inf - inf
    limit = _largest(x)
    safe = minimum(maximum(top, -limit), limit)
    return add(log(reduce(exp(sub(x, safe)), op="add", axes=axes)), safe)


def _largest(x: Value) -> float:
    return {16: 65504.0, 32: 3.4028234663852886e38, 64: 1.7976931348623157e308}[x.dtype.bits]


# ------------------------------------------------------------------ products


def matmul(a: Value, b: Value) -> Value:
    """Matrix product of the last two axes; leading axes broadcast; a vector is a row or a column.

    The product is one `contract`: axes of size 1 that would broadcast are dropped, never repeated.
    """
    if not a.shape or not b.shape:
        raise OpError("matmul takes no scalars")
    lead_a, lead_b = a.shape[:-2], b.shape[:-2]
    rank = max(len(lead_a), len(lead_b))
    sizes_a = (1,) * (rank - len(lead_a)) + lead_a
    sizes_b = (1,) * (rank - len(lead_b)) + lead_b
    letters = "abcdefghijlopqrstuvwxyz"[:rank]
    if len(letters) < rank:
        raise OpError(f"matmul of rank {rank} is not supported")
    left = right = out = ""
    full: list[int] = []
    for letter, m, n in zip(letters, sizes_a, sizes_b):
        if m != n and 1 not in (m, n):
            raise OpError(f"leading axes {lead_a} and {lead_b} do not broadcast")
        full.append(n if m == 1 else m)
        if m == n == 1:
            continue
        left += letter if m != 1 else ""
        right += letter if n != 1 else ""
        out += letter
    row = "m" if len(a.shape) > 1 else ""
    column = "n" if len(b.shape) > 1 else ""
    small_a = tuple(n for n in lead_a if n != 1) + a.shape[-2:]
    small_b = tuple(n for n in lead_b if n != 1) + b.shape[-2:]
    a = a if a.shape == small_a else reshape(a, shape=small_a)
    b = b if b.shape == small_b else reshape(b, shape=small_b)
    y = contract(a, b, spec=f"{left}{row}k,{right}k{column}->{out}{row}{column}")
    shape = (*full, *a.shape[-2:-1], *(b.shape[-1:] if column else ()))
    return y if y.shape == shape else reshape(y, shape=shape)


def _l2_norm_grad(g: Value, y: Value, x: Value, *, axes: tuple[int, ...]) -> list:
    """0 where the norm is, as in torch."""
    return [where(gt(y, 0), div(mul(g, x), y))]


@composite(grad=_l2_norm_grad)
def l2_norm(x, *, axes):
    """Square root of the sum of squares over `axes`, which stay with size 1."""
    return sqrt(reduce(mul(x, x), op="add", axes=axes))
