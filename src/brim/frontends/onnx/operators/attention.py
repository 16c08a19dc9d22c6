"""ONNX attention in its variants, rotary embeddings, and the state updates of language models."""

from __future__ import annotations

import math

import numpy as np

import brim.ops.math as m
import brim.ops.nn as nn
import brim.ops.primitive as p
import brim.ops.rnn as rnn
from brim.errors import ModelError
from brim.frontends.bounds import front, kept, ramp
from brim.frontends.onnx.operators.nn import channels_first, channels_last, kernel_last
from brim.frontends.onnx.table import Call, operator
from brim.frontends.onnx.tensors import element
from brim.graph import Value, const
from brim.types import BOOL, F16, F32, F64, I64, Type


def split_heads(x: Value, count: int | None) -> Value:
    """x[B, L, H * D] as [B, H, L, D]; rank 4 is so already."""
    if len(x.shape) == 4:
        return x
    if len(x.shape) != 3 or not count or x.shape[2] % count:
        raise ModelError(f"{x.type} does not divide into {count} heads")
    batch, length, size = x.shape
    return p.transpose(p.reshape(x, shape=(batch, length, count, size // count)), perm=(0, 2, 1, 3))


def merge_heads(x: Value) -> Value:
    """x[B, H, L, D] as [B, L, H * D]."""
    batch, heads, length, size = x.shape
    return p.reshape(p.transpose(x, perm=(0, 2, 1, 3)), shape=(batch, length, heads * size))


def repeat_heads(x: Value, heads: int) -> Value:
    """Each head of x[B, H, L, D] repeated so that there are `heads`."""
    batch, own, length, size = x.shape
    if own == heads:
        return x
    if own == 0 or heads % own:
        raise ModelError(f"{heads} query heads and {own} key heads")
    x = p.reshape(x, shape=(batch, own, 1, length, size))
    x = p.broadcast(x, shape=(batch, own, heads // own, length, size))
    return p.reshape(x, shape=(batch, heads, length, size))


def _flipped(x: Value) -> Value:
    return p.transpose(x, perm=(0, 1, 3, 2))


@operator("Attention", since=23)
def attention(call: Call) -> tuple[Value | None, ...]:
    flat = len(call[0].shape) == 3
    q_heads, kv_heads = call.int("q_num_heads", None), call.int("kv_num_heads", None)
    query, key, value = (
        split_heads(call[0], q_heads),
        split_heads(call[1], kv_heads),
        split_heads(call[2], kv_heads),
    )
    past = 0
    if call.given(4) != call.given(5):
        raise ModelError("past_key and past_value belong together")
    if call.given(4):
        past = call[4].shape[2]
        key, value = p.concat(call[4], key, axis=2), p.concat(call[5], value, axis=2)
    present = (key, value)
    heads = query.shape[1]
    key, value = repeat_heads(key, heads), repeat_heads(value, heads)
    if value.dtype != query.dtype:  # the result has the type of the queries
        value = p.cast(value, to=query.dtype)
    scale = call.float("scale", None)
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    softcap = call.float("softcap", 0.0)
    number, mode = call.int("softmax_precision", 0), call.int("qk_matmul_output_mode", 0)
    precision = element(number) if number else query.dtype
    bias = _attention_bias(call, query, key, past)
    scores_wanted = call.wants(3)
    if not softcap and not scores_wanted and precision == query.dtype == F32 and bias is None:
        y = nn.attention(query, key, value, scale=scale)
        return (merge_heads(y) if flat else y), *present
    root = math.sqrt(scale)
    scores = m.matmul(p.mul(query, root), p.mul(_flipped(key), root))
    shown = scores
    if softcap:
        scores = p.mul(p.tanh(p.div(scores, softcap)), softcap)
        shown = scores
    if bias is not None:
        scores = p.add(scores, bias)
    if mode == 2:
        shown = scores
    if precision != query.dtype:
        scores = p.cast(scores, to=precision)
    weights = _rounding_softmax(scores) if precision == F16 else m.softmax(scores, axis=3)
    if bias is not None:
        weights = _without_masked_rows(weights, bias)
    if weights.dtype != query.dtype:
        weights = p.cast(weights, to=query.dtype)
    if mode == 3:
        shown = weights
    y = m.matmul(weights, value)
    return (merge_heads(y) if flat else y), *present, shown


def _rounding_softmax(x: Value) -> Value:
    """Softmax of the last axis whose every step is rounded to f16, as softmax_precision demands.

    Spelled out, because brim computes f16 in f32 and would round only at the end.
    """

    def rounded(y: Value) -> Value:
        return p.cast(p.cast(y, to=F16), to=F32)

    axes = (len(x.shape) - 1,)
    wide = p.cast(x, to=F32)
    e = rounded(p.exp(rounded(p.sub(wide, p.reduce(wide, op="max", axes=axes)))))
    return p.cast(p.div(e, rounded(p.reduce(e, op="add", axes=axes))), to=F16)


def _without_masked_rows(weights: Value, bias: Value) -> Value:
    """A query that may look at no key gets weights 0, where a softmax would give NaN."""
    masked = p.eq(p.reduce(bias, op="max", axes=(len(bias.shape) - 1,)), -math.inf)
    if masked.is_const and not masked.data.any():  # type: ignore[union-attr]
        return weights
    return p.select(masked, const(np.zeros((), weights.dtype.numpy)), weights)


def _additive(mask: Value, like: Value) -> Value:
    """A bool mask (True: look) as numbers to add to scores."""
    if mask.dtype != BOOL:
        return mask if mask.dtype == like.dtype else p.cast(mask, to=like.dtype)
    kind = like.dtype.numpy
    return p.select(mask, const(np.zeros((), kind)), const(np.array(-np.inf, kind)))


def _attention_bias(call: Call, query: Value, key: Value, past: int) -> Value | None:
    """All masks as one value to be added to the scores [B, H, L, S]; None: nothing is masked."""
    length, total = query.shape[2], key.shape[2]
    bias: Value | None = None
    if call.given(3):
        mask = call[3]
        missing = total - mask.shape[-1]
        if missing:
            high = (0,) * (len(mask.shape) - 1) + (missing,)
            lost = False if mask.dtype == BOOL else -math.inf
            mask = p.pad(mask, low=(0,) * len(high), high=high, value=lost)
        bias = _additive(mask, query)
    left, right = call.int("left_window_size", -1), call.int("right_window_size", -1)
    if call.flag("is_causal"):
        right = 0 if right < 0 else min(right, 0)
    if left < 0 and right < 0 and not call.given(6):
        return bias
    kept(length, total)
    rows, columns = ramp(length)[:, None], ramp(total)[None, :]
    allowed: Value | None = None
    if call.given(6):  # per batch: how many keys are valid; the queries are the last of them
        valid = p.reshape(call[6], shape=(query.shape[0], 1, 1, 1))
        allowed = p.lt(const(columns), valid)
        distance = p.add(const(rows - columns), p.sub(valid, length))
    else:
        distance = const(rows + past - columns)
    for limit, holds in ((left, p.le), (right, p.ge)):
        if limit >= 0:
            part = holds(distance, limit if holds is p.le else -limit)
            allowed = part if allowed is None else p.bit_and(allowed, part)
    assert allowed is not None
    extra = _additive(allowed, query)
    return extra if bias is None else p.add(bias, extra)


def _like_first(call: Call) -> list[Type]:
    return [Type(None, call[0].dtype)]  # onnx infers nothing without shapes


@operator("FlexAttention", domain="ai.onnx.preview", types=_like_first)
def flex_attention(call: Call) -> Value:
    query, key, value = call[0], call[1], call[2]
    number, scale = call.int("softmax_precision", 0), call.float("scale", None)
    precision = element(number) if number else F64 if query.dtype == F64 else F32
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    key, value = repeat_heads(key, query.shape[1]), repeat_heads(value, query.shape[1])
    dtype = query.dtype
    if dtype != precision:
        query, key = p.cast(query, to=precision), p.cast(key, to=precision)
    scores = p.mul(m.matmul(query, _flipped(key)), scale)
    weights = m.softmax(_modified(call, "score_mod", scores), axis=3)
    weights = _modified(call, "prob_mod", weights)
    if weights.dtype != dtype:
        weights = p.cast(weights, to=dtype)
    return m.matmul(weights, value)


def _modified(call: Call, name: str, x: Value) -> Value:
    call.ignore(name)
    if name not in call.node.attributes:
        return x
    (y,) = call.scope.inline(call.graph(name), [x])
    if call.scope.is_poisoned([y]):
        raise call.unsupported(f"a {name} that is not supported")
    if not isinstance(y, Value) or y.type != x.type:
        raise ModelError(f"{name} gives {y} for {x.type}")
    return y


@operator("RotaryEmbedding", since=23)
def rotary_embedding(call: Call) -> Value:
    x, cos, sin = call[0], call[1], call[2]
    interleaved, heads = call.flag("interleaved"), call.int("num_heads", 0)
    rotated = call.int("rotary_embedding_dim", 0)
    flat = len(x.shape) == 3
    if flat:
        if heads < 1 or x.shape[2] % heads:
            raise ModelError(f"{x.type} does not divide into {heads} heads")
        y = p.reshape(x, shape=(*x.shape[:2], heads, x.shape[2] // heads))
    else:
        y = p.transpose(x, perm=(0, 2, 1, 3))
    rotated = rotated or y.shape[3]
    if call.given(3):
        cos, sin = (p.gather(table, call[3], axis=0) for table in (cos, sin))
    cos, sin = (p.reshape(t, shape=(*t.shape[:2], 1, t.shape[2])) for t in (cos, sin))
    turned = rotate(y, cos, sin, rotated, interleaved)
    return p.reshape(turned, shape=x.shape) if flat else p.transpose(turned, perm=(0, 2, 1, 3))


def rotate(y: Value, cos: Value, sin: Value, rotated: int, interleaved: bool) -> Value:
    """The first `rotated` numbers of every head of y[B, L, H, D] turned pair by pair.

    cos, sin: of the angles, [B or 1, L, 1, rotated / 2]. A pair is two neighbours if interleaved,
    else a number of the first half with its counterpart in the second.
    """
    size, half = y.shape[3], rotated // 2
    if cos.shape[3] != half:
        raise ModelError(f"angles for {cos.shape[3]} pairs of {rotated} numbers")
    if interleaved:
        first, second = (_every(y, i, 2, half) for i in (0, 1))
    else:
        first, second = _every(y, 0, 1, half), _every(y, half, 1, half)
    real = p.sub(p.mul(cos, first), p.mul(sin, second))
    imaginary = p.add(p.mul(sin, first), p.mul(cos, second))
    if interleaved:
        pairs = [p.reshape(v, shape=(*v.shape, 1)) for v in (real, imaginary)]
        turned = p.reshape(p.concat(*pairs, axis=4), shape=(*y.shape[:3], rotated))
    else:
        turned = p.concat(real, imaginary, axis=3)
    if rotated < size:
        turned = p.concat(turned, _every(y, rotated, 1, size - rotated), axis=3)
    return turned


def _every(x: Value, start: int, step: int, count: int) -> Value:
    """Elements start, start + step, ... of the last axis."""
    rank = len(x.shape) - 1
    return p.slice(
        x,
        starts=(*(0,) * rank, start),
        sizes=(*x.shape[:rank], count),
        steps=(*(1,) * rank, step),
    )


_RULES = ("linear", "gated", "delta", "gated_delta")


@operator("LinearAttention", since=27)
def linear_attention(call: Call) -> tuple[Value, Value]:
    call.ignore("chunk_size")
    rule = call.choice("update_rule", "gated_delta", _RULES)
    heads, own = call.int("q_num_heads"), call.int("kv_num_heads")
    dtype = call[0].dtype
    query, key, value = (
        _wide(split_heads(call[i], n)) for i, n in ((0, heads), (1, own), (2, own))
    )
    batch, _, _, d_k = query.shape
    d_v = value.shape[3]
    scale = call.float("scale", 0.0) or 1 / math.sqrt(d_k)
    state_type = call[3].dtype if call.given(3) else dtype
    state = _wide(call[3]) if call.given(3) else rnn.zeros((batch, own, d_k, d_v), key)
    if ("gated" in rule) != call.given(4) or ("delta" in rule) != call.given(5):
        raise ModelError(f"update rule {rule} with the wrong inputs")
    decay = p.exp(_wide(split_heads(call[4], own))) if call.given(4) else None
    beta = _wide(split_heads(call[5], call[5].shape[2])) if call.given(5) else None
    parts = [query, key, value, *(x for x in (decay, beta) if x is not None)]

    def step(x: Value, states: list[Value], weights: list[Value]) -> list[Value]:
        q, k, v, *rest = _unpacked(x, parts)
        now = states[1]
        if decay is not None:
            now = p.mul(now, p.reshape(rest[0], shape=(*rest[0].shape, 1)))
        if beta is not None:
            found = p.contract(now, k, spec="bhdm,bhd->bhm")
            v = p.mul(rest[-1], p.sub(v, found))
        outer = p.mul(p.reshape(k, shape=(*k.shape, 1)), p.reshape(v, shape=(batch, own, 1, d_v)))
        now = p.add(now, outer)
        row = p.contract(q, repeat_heads(now, heads), spec="bhd,bhdm->bhm")
        return [p.reshape(row, shape=(batch, heads * d_v)), now]

    first = rnn.zeros((batch, heads * d_v), key)
    rows, (_, state) = rnn.walk(step, _packed(parts), [first, state], [], None, False)
    y = p.transpose(rows, perm=(1, 0, 2))
    return _narrow(p.mul(y, scale), dtype), _narrow(state, state_type)


def _packed(parts: list[Value]) -> Value:
    """Values [B, H, T, D], each with its own H and D, side by side: [T, B, all of them]."""
    flat = [
        p.reshape(p.transpose(x, perm=(2, 0, 1, 3)), shape=(x.shape[2], x.shape[0], _width(x)))
        for x in parts
    ]
    return p.concat(*flat, axis=2)


def _unpacked(row: Value, parts: list[Value]) -> list[Value]:
    """One step [B, all] of what `_packed` made of `parts`, as values [B, H, D]."""
    pieces, start = [], 0
    for x in parts:
        batch, heads, _, size = x.shape
        piece = p.slice(row, starts=(0, start), sizes=(batch, _width(x)), steps=(1, 1))
        pieces.append(p.reshape(piece, shape=(batch, heads, size)))
        start += _width(x)
    return pieces


def _width(x: Value) -> int:
    return x.shape[1] * x.shape[3]


def _wide(x: Value) -> Value:
    return x if x.dtype == F32 else p.cast(x, to=F32)


def _narrow(x: Value, dtype: object) -> Value:
    return x if x.dtype == dtype else p.cast(x, to=dtype)


@operator("CausalConvWithState", since=27)
def causal_conv(call: Call) -> tuple[Value, Value]:
    x, w = call[0], call[1]
    activation = call.choice("activation", "none", ("none", "silu", "swish"))
    batch, channels, _ = x.shape
    reach = w.shape[2] - 1
    past = call.get(3)
    past = rnn.zeros((batch, channels, reach), x) if past is None else past
    padded = p.concat(past, x, axis=2)
    y = nn.conv(
        channels_last(padded),
        kernel_last(w),
        stride=(1,),
        dilation=(1,),
        low=(0,),
        high=(0,),
        groups=channels,
    )
    if call.given(2):
        y = p.add(y, call[2])
    if activation != "none":
        y = _narrow(m.swish(_wide(y), alpha=1.0), x.dtype)
    total = padded.shape[2]
    state = p.slice(
        padded, starts=(0, 0, total - reach), sizes=(batch, channels, reach), steps=(1, 1, 1)
    )
    return channels_first(y), state


@operator("SwiGLU", since=28)
def swiglu(call: Call) -> Value:
    return p.mul(m.swish(call[0], alpha=call.float("alpha", 1.0)), call[1])


@operator("TensorScatter", since=24, storage=True)
def tensor_scatter(call: Call) -> Value:
    cache, update = call[0], call[1]
    mode = call.choice("mode", "linear", ("linear", "circular"))
    axis = front(call.int("axis", -2), len(cache.shape))
    size, length, batch = cache.shape[axis], update.shape[axis], cache.shape[0]
    start = call.get(2)
    start = const(np.zeros(batch, np.int64)) if start is None else p.cast(start, to=I64)
    if axis == 0 or length > size:
        raise ModelError(f"{update.type} does not fit into {cache.type} along axis {axis}")
    # rows of (batch, position) are written; what lies between comes behind them
    perm = (0, axis, *(i for i in range(1, len(cache.shape)) if i != axis))
    moved, new = p.transpose(cache, perm=perm), p.transpose(update, perm=perm)
    index = p.add(p.reshape(start, shape=(batch, 1)), const(ramp(length)))
    if mode == "circular":
        index = p.mod(index, size)
    index = p.add(index, const(ramp(batch)[:, None] * size))
    rest = moved.shape[2:]
    y = p.scatter(
        p.reshape(moved, shape=(batch * size, *rest)),
        p.reshape(index, shape=(batch * length,)),
        p.reshape(new, shape=(batch * length, *rest)),
        axis=0,
        op="set",
    )
    return p.transpose(p.reshape(y, shape=moved.shape), perm=p.inverse(perm))
