"""What language models are exported with (com.microsoft): RotaryEmbedding, GroupQueryAttention.

A cache of keys and values goes in and comes out; sharing one buffer is the caller's business.
Weights of a few bits are `microsoft/weights.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

import brim.ops.math as m
import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import kept, ramp
from brim.frontends.onnx.operators.attention import merge_heads, repeat_heads, rotate, split_heads
from brim.frontends.onnx.operators.microsoft.attention import columns
from brim.frontends.onnx.operators.microsoft.contrib import contrib, widened
from brim.frontends.onnx.table import Call
from brim.graph import Value, const
from brim.types import F32, I64

# ------------------------------------------------------------------ rotary embeddings


@contrib("RotaryEmbedding")
def rotary_embedding(call: Call) -> Value:
    x, positions, cos, sin = (call[i] for i in range(4))
    interleaved, heads = call.flag("interleaved"), call.int("num_heads", 0)
    rotated = call.int("rotary_embedding_dim", 0) or 2 * cos.shape[1]
    if call.flag("is_packed_batching") or call.float("scale", 1.0) != 1:
        raise call.unsupported("packed batches or a scale", "onnxruntime's CPU ignores them")
    if len(x.shape) == 4:
        y = p.transpose(x, perm=(0, 2, 1, 3))
    else:
        batch, length, hidden = x.shape
        heads = heads or hidden // rotated
        if heads < 1 or hidden % heads:
            raise ModelError(f"{x.type} does not divide into {heads} heads")
        y = p.reshape(x, shape=(batch, length, heads, hidden // heads))
    if positions.type.size == 1 and len(positions.shape) < 2:  # where the first token stands
        positions = p.add(p.reshape(positions, shape=(1, 1)), const(ramp(y.shape[1])[None]))
    y = rotate(y, *_angles(cos, sin, positions), rotated, interleaved)
    return p.transpose(y, perm=(0, 2, 1, 3)) if len(x.shape) == 4 else p.reshape(y, shape=x.shape)


def _angles(cos: Value, sin: Value, positions: Value) -> tuple[Value, Value]:
    """Rows of the tables for positions[B or 1, L], as [B or 1, L, 1, rotated / 2]."""
    shape = (*positions.shape, 1, cos.shape[1])
    cosines, sines = (p.reshape(p.gather(t, positions, axis=0), shape=shape) for t in (cos, sin))
    return cosines, sines


# ------------------------------------------------------------------ grouped queries


@dataclass(frozen=True)
class _Step:
    """Where the new tokens of one step stand.

    past: how many came before, i64[B, 1], or 0 for all. length: how many are new; rows: of the
    cache after the step.
    """

    past: Value
    length: int
    rows: int


_REFUSED = {
    12: "a quantized cache", 13: "a quantized cache", 14: "q_norm_weight", 15: "k_norm_weight",
    16: "query_seqlens",
}  # fmt: skip


@contrib("GroupQueryAttention", gives=(0, 0, 0))
def group_query_attention(call: Call) -> tuple[Value, Value, Value]:
    _refuse_parts(call)
    query, key, value = _heads(call)
    step = _step(call, query)
    if call.flag("do_rotary"):
        query, key = _rotated(call, query, step), _rotated(call, key, step)
    cached = [_appended(call.get(i), new, step) for i, new in ((3, key), (4, value))]
    heads = query.shape[1]
    keys, values = (repeat_heads(part, heads) for part in cached)
    flipped = p.transpose(keys, perm=(0, 1, 3, 2))
    scale = call.float("scale", 0.0) or 1 / math.sqrt(query.shape[3])
    dtype = query.dtype
    scores = m.matmul(widened(p.mul(query, scale)), widened(flipped))
    if softcap := call.float("softcap", 0.0):
        scores = p.mul(p.tanh(p.div(scores, softcap)), softcap)
    if call.given(10):
        scores = p.add(scores, widened(call[10]))
    scores = p.select(_shown(call, step), scores, const(np.float32(np.finfo(np.float32).min)))
    y = m.matmul(_weights(call, scores), widened(values))
    return merge_heads(y if dtype == F32 else p.cast(y, to=dtype)), cached[0], cached[1]


def _refuse_parts(call: Call) -> None:
    for index, what in _REFUSED.items():
        if call.given(index):
            raise call.unsupported(what)
    if not call.flag("causal", True) or call.flag("sliding_window_cache") or call.wants(3):
        raise call.unsupported("causal=0, sliding_window_cache or its output output_qk")
    for name in ("k_quant_type", "v_quant_type"):
        call.choice(name, "NONE", ("NONE",))
    call.ignore("kv_cache_bit_width", "qk_norm_epsilon", "q_norm_epsilon", "k_norm_epsilon")
    call.ignore("qk_output")


def _heads(call: Call) -> tuple[Value, Value, Value]:
    """Query, key and value as [B, H, L, D]."""
    heads, own = call.int("num_heads"), call.int("kv_num_heads")
    if call.given(1):
        return split_heads(call[0], heads), split_heads(call[1], own), split_heads(call[2], own)
    size = call[0].shape[2] // max(heads + 2 * own, 1)
    parts = columns(call[0], (heads * size, own * size, own * size))
    query, key, value = (split_heads(x, n) for x, n in zip(parts, (heads, own, own)))
    return query, key, value


def _step(call: Call, query: Value) -> _Step:
    batch, _, length, _ = query.shape
    total = int(call.array(6).reshape(-1)[0])
    buffer = call[3].shape[2] if call.given(3) else 0
    kept(length, max(total, buffer))
    if total == length:  # a prompt: nothing came before
        call.ignore(5)  # lengths then say only which rows behind the end are padding
        past = const(np.zeros((batch, 1), np.int64))
    else:
        ends = p.add(p.cast(p.reshape(call[5], shape=(batch, 1)), to=I64), 1)
        past = p.sub(ends, length)
    return _Step(past, length, max(total, buffer))


def _positions(call: Call, step: _Step) -> Value:
    """Of the new tokens, i64[B, L]."""
    if call.given(9):
        return call[9]
    return p.add(step.past, const(ramp(step.length)[None]))


def _rotated(call: Call, x: Value, step: _Step) -> Value:
    y = p.transpose(x, perm=(0, 2, 1, 3))
    cos, sin = call[7], call[8]
    angles = _angles(cos, sin, _positions(call, step))
    y = rotate(y, *angles, 2 * cos.shape[1], call.flag("rotary_interleaved"))
    return p.transpose(y, perm=(0, 2, 1, 3))


def _appended(past: Value | None, new: Value, step: _Step) -> Value:
    """The cache [B, H, rows, D]: what was there, the new tokens behind it, zeros behind those."""
    batch, heads, length, size = new.shape
    zeros = const(np.zeros((batch, heads, 1, size), new.dtype.numpy))
    parts = (new, zeros) if past is None else (past, new, zeros)
    buffer = 0 if past is None else past.shape[2]
    every = p.transpose(p.concat(*parts, axis=2), perm=(0, 2, 1, 3))
    count = every.shape[1]
    row = const(ramp(step.rows)[None])
    behind = p.sub(row, step.past)  # which new token stands in a row
    index = p.add(behind, buffer)
    index = p.select(p.lt(behind, 0), p.broadcast(row, shape=index.shape), index)
    index = p.select(p.lt(behind, length), index, const(np.int64(count - 1)))
    index = p.add(index, const(ramp(batch)[:, None] * count))
    flat = p.gather(p.reshape(every, shape=(batch * count, heads, size)), index, axis=0)
    return p.transpose(flat, perm=(0, 2, 1, 3))


def _shown(call: Call, step: _Step) -> Value:
    """Which rows of the cache a new token looks at: itself, those before, in its window."""
    rows = const(ramp(step.rows)[None, None, None])
    own = p.add(
        p.reshape(step.past, shape=(step.past.shape[0], 1, 1, 1)),
        const(ramp(step.length)[None, None, :, None]),
    )
    shown = p.le(rows, own)
    window = call.int("local_window_size", -1)
    return p.bit_and(shown, p.gt(rows, p.sub(own, window))) if window > 0 else shown


def _weights(call: Call, scores: Value) -> Value:
    """Softmax over keys; a sink is one more score of each head, which takes weight and no value."""
    sink = call.get(11)
    if sink is None and call.int("smooth_softmax", -1) != 1:
        return m.softmax(scores, axis=3)
    if sink is None:
        extra = const(np.zeros((1, 1, 1, 1), np.float32))
    else:
        extra = widened(p.reshape(sink, shape=(1, scores.shape[1], 1, 1)))
    top = p.maximum(p.reduce(scores, op="max", axes=(3,)), extra)
    e = p.exp(p.sub(scores, top))
    return p.div(e, p.add(p.reduce(e, op="add", axes=(3,)), p.exp(p.sub(extra, top))))
