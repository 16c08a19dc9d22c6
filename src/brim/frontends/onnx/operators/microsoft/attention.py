"""onnxruntime's attention (com.microsoft): Attention, QAttention, MultiHeadAttention.

All of them prepare query, key and value as [B, H, L, D] and an additive bias, then attend. ONNX's
own Attention is `operators/attention.py`; that of language models is `microsoft/decoder.py`.
"""

from __future__ import annotations

import math

import numpy as np

import brim.ops.math as m
import brim.ops.nn as nn
import brim.ops.primitive as p
import brim.ops.rnn as rnn
from brim.errors import ModelError
from brim.frontends.bounds import kept, ramp
from brim.frontends.onnx.operators.attention import (
    merge_heads,
    split_heads,
)
from brim.frontends.onnx.operators.integer import matmul_sums, of_columns
from brim.frontends.onnx.operators.microsoft.contrib import contrib
from brim.frontends.onnx.table import Call
from brim.graph import Value, const
from brim.types import F32

Three = tuple[Value, Value, Value]


def columns(x: Value, sizes: tuple[int, ...]) -> list[Value]:
    """x[..., sum(sizes)] cut along its last axis."""
    if sum(sizes) != x.shape[-1]:
        raise ModelError(f"{x.type} does not divide into {sizes}")
    parts, start = [], 0
    for size in sizes:
        lead = x.shape[:-1]
        starts, steps = (*(0,) * len(lead), start), (1,) * (len(lead) + 1)
        parts.append(p.slice(x, starts=starts, sizes=(*lead, size), steps=steps))
        start += size
    return parts


# ------------------------------------------------------------------ masks


def _mask_bias(call: Call, mask: Value, batch: int, length: int, total: int) -> Value:
    """A mask as numbers to add to the scores [B, H, L, T]: 0, or mask_filter_value where hidden.

    mask: [B, T] or [B, L, T] (0: hidden); or lengths [B], perhaps with their running sums
    [3 B + 2]; or ends, then starts [2 B].
    """
    shape: tuple[int, ...]
    match mask.shape:
        case (size,) if size in (batch, 2 * batch, 3 * batch + 2):
            kept(total)
            ends = p.reshape(rnn.part(mask, 0, batch), shape=(batch, 1))
            columns = const(ramp(total)[None].astype(mask.dtype.numpy))
            shown = p.lt(columns, ends)
            if size == 2 * batch:
                starts = p.reshape(rnn.part(mask, 1, batch), shape=(batch, 1))
                shown = p.bit_and(shown, p.ge(columns, starts))
            shape = (batch, 1, 1, total)
        case (b, t) if (b, t) == (batch, total):
            shown, shape = p.gt(mask, 0), (batch, 1, 1, total)
        case (b, s, t) if (b, s, t) == (batch, length, total):
            shown, shape = p.gt(mask, 0), (batch, 1, length, total)
        case _:
            raise call.unsupported(
                f"a mask {mask.type} for {batch} x {length} queries and {total} keys",
                "onnxruntime's CPU refuses it, too",
            )
    hidden = np.float32(call.float("mask_filter_value", -10000.0))
    return p.reshape(p.select(shown, const(np.float32(0)), const(hidden)), shape=shape)


def _causal(length: int, total: int) -> Value:
    """Query i, the (total - length + i)-th token, sees no key behind itself."""
    kept(length, total)
    hidden = ramp(total)[None] > ramp(length)[:, None] + (total - length)
    return const(np.where(hidden, np.finfo(np.float32).min, 0).astype(np.float32))


def _sum(*parts: Value | None) -> Value | None:
    total: Value | None = None
    for part in parts:
        if part is not None:
            total = part if total is None else p.add(total, part)
    return total


def _attend(call: Call, query: Value, key: Value, value: Value, bias: Value | None) -> Value:
    scale = call.float("scale", 0.0) or 1 / math.sqrt(query.shape[3])
    rest = () if bias is None else (bias,)
    return merge_heads(nn.attention(query, key, value, *rest, scale=scale))


# ------------------------------------------------------------------ merged projection


@contrib("Attention", gives=(0, 0))
def attention(call: Call) -> tuple[Value, ...]:
    sizes = call.ints("qkv_hidden_sizes", (call[1].shape[1] // 3,) * 3)
    projected = m.matmul(call[0], call[1])
    if call.given(2):
        projected = p.add(projected, call[2])
    if call.given(6):
        raise call.unsupported("past_sequence_length", "buffers are not shared here")
    return _self_attention(call, projected, sizes, call.get(3), call.get(4), call.get(5))


@contrib("QAttention", gives=(F32, F32))
def quantized_attention(call: Call) -> tuple[Value, ...]:
    x, w, scale = call[0], call[1], p.reshape(call[3], shape=())
    total = p.cast(matmul_sums(x, call.get(6), w, call.get(7)), to=F32)
    projected = p.add(p.mul(total, p.mul(scale, of_columns(call[4]))), call[2])
    sizes = (w.shape[1] // 3,) * 3
    return _self_attention(call, projected, sizes, call.get(5), call.get(8), None)


def _self_attention(
    call: Call,
    projected: Value,
    sizes: tuple[int, ...],
    mask: Value | None,
    past: Value | None,
    extra: Value | None,
) -> tuple[Value, ...]:
    """Attention over projected[B, L, Q + K + V]. Results: output, present[2, B, H, T, D]."""
    if call.flag("do_rotary") or call.flag("past_present_share_buffer"):
        raise call.unsupported("do_rotary or shared buffers", "onnxruntime's CPU lacks them, too")
    call.ignore("rotary_embedding_dim")
    heads = call.int("num_heads")
    query, key, value = (split_heads(part, heads) for part in columns(projected, sizes))
    if past is not None:
        old_key, old_value = (
            p.reshape(rnn.part(past, i, 1, 0), shape=past.shape[1:]) for i in (0, 1)
        )
        key, value = p.concat(old_key, key, axis=2), p.concat(old_value, value, axis=2)
    batch, _, length, _ = query.shape
    total = key.shape[2]
    bias = None if mask is None else _mask_bias(call, mask, batch, length, total)
    if call.flag("unidirectional"):
        bias = _sum(bias, _causal(length, total))
    y = _attend(call, query, key, value, _sum(bias, extra))
    if not call.wants(1):
        return (y,)
    rows = [p.reshape(v, shape=(1, *v.shape)) for v in (key, value)]
    return y, p.concat(*rows, axis=0)


# ------------------------------------------------------------------ separate projections


@contrib("MultiHeadAttention", "DecoderMaskedMultiHeadAttention", gives=(0, 0, 0))
def multi_head_attention(call: Call) -> tuple[Value | None, ...]:
    masked = call.node.op == "DecoderMaskedMultiHeadAttention"
    # both take query, key, value; then the rest in another order
    bias_at, mask_at, extra_at, past_at = (10, 3, 4, 5) if masked else (3, 4, 5, 6)
    late = (7, 8, 9) if masked else (8, 9)
    if any(call.given(i) for i in late) or call.flag("past_present_share_buffer"):
        raise call.unsupported("buffers shared between past and present, or beams")
    heads = call.int("num_heads")
    query, key, value = _projections(call, heads, call.get(bias_at))
    if call.given(past_at) != call.given(past_at + 1):
        raise ModelError("past_key and past_value belong together")
    if call.given(past_at):
        key = p.concat(call[past_at], key, axis=2)
        value = p.concat(call[past_at + 1], value, axis=2)
    batch, _, length, _ = query.shape
    total = key.shape[2]
    mask = call.get(mask_at)
    bias = None if mask is None else _mask_bias(call, mask, batch, length, total)
    if call.flag("unidirectional"):
        bias = _sum(bias, _causal(length, total))
    bias = _sum(bias, call.get(extra_at))
    call.ignore("output_qk")
    if call.wants(3):
        raise call.unsupported("its output qk")
    return _attend(call, query, key, value, bias), key, value


def _projections(call: Call, heads: int, bias: Value | None) -> Three:
    """Query, key and value [B, H, L, D] with their biases."""
    query, key, value = call[0], call.get(1), call.get(2)
    if len(query.shape) == 5 and key is None:  # packed [B, L, H, 3, D]
        parts = [_part_of_packed(query, i) for i in range(3)]
    elif key is not None and len(key.shape) == 5:  # packed [B, L, H, 2, D]
        parts = [split_heads(query, heads), *(_part_of_packed(key, i) for i in range(2))]
    elif key is None or value is None:
        raise call.unsupported("a packed query of rank 3")
    else:
        parts = [split_heads(part, heads) for part in (query, key, value)]
    if bias is not None:
        sizes = tuple(heads * part.shape[3] for part in parts)
        shapes = [(1, heads, 1, part.shape[3]) for part in parts]
        biases = [p.reshape(b, shape=s) for b, s in zip(columns(bias, sizes), shapes)]
        # keys and values that come as [B, H, L, D] are another layer's: projected already
        own = (call.get(0), call.get(1), call.get(2))
        parts = [
            part if given is not None and len(given.shape) == 4 else p.add(part, b)
            for part, given, b in zip(parts, own, biases)
        ]
    return parts[0], parts[1], parts[2]


def _part_of_packed(x: Value, index: int) -> Value:
    """x[B, L, H, n, D] at `index` of its fourth axis, as [B, H, L, D]."""
    y = rnn.part(x, index, 1, 3)
    return p.transpose(p.reshape(y, shape=(*x.shape[:3], x.shape[4])), perm=(0, 2, 1, 3))
