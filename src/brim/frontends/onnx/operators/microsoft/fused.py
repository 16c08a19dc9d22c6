"""What onnxruntime's optimiser makes of several nodes (com.microsoft): products with activations,
activations with biases, normalisations with sums, embeddings.

Attention is `microsoft/attention.py`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import brim.ops.math as m
import brim.ops.nn as nn
import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.errors import ModelError
from brim.frontends.bounds import ramp
from brim.frontends.onnx.operators.matrix import gemm
from brim.frontends.onnx.operators.microsoft.contrib import contrib, number, widened
from brim.frontends.onnx.operators.nn import conv
from brim.frontends.onnx.operators.rnn import ACTIVATIONS
from brim.frontends.onnx.table import Call, operator
from brim.graph import Value, const
from brim.ops.math import reduce_mean
from brim.types import F32, I32, DType

# ------------------------------------------------------------------ activations


@contrib("Gelu", "BiasGelu")
def gelu(call: Call) -> Value:
    return m.gelu(_biased(call), approximate=False)


@contrib("FastGelu")
def fast_gelu(call: Call) -> Value:
    return m.gelu(_biased(call), approximate=True)


def _biased(call: Call) -> Value:
    return p.add(call[0], call[1]) if call.given(1) else call[0]


@contrib("QuickGelu")
def quick_gelu(call: Call) -> Value:
    return m.swish(call[0], alpha=call.float("alpha", 1.702))


# ------------------------------------------------------------------ products


_SELU = (1.6732631921768188, 1.0507010221481323)


def _activated(call: Call, x: Value, parameters: tuple[float, ...]) -> Value:
    """x through the activation that the attribute names; fewer parameters: the rest by default."""
    name = call.text("activation", "")
    low, high = (*parameters, *(-np.inf, np.inf)[len(parameters) :])[:2]
    match name:
        case "":
            return x
        case "Clip":
            return p.minimum(p.maximum(x, low), high)
        case "HardSwish":
            return m.hard_swish(x)
        case "Selu":
            slope, size = (*parameters, *_SELU[len(parameters) :])
            return m.selu(x, alpha=slope, gamma=size)
        case _ if name.lower() not in ACTIVATIONS:
            raise call.unsupported(f"activation {name!r}", f"supported: {', '.join(ACTIVATIONS)}")
    *defaults, function = ACTIVATIONS[name.lower()]
    alpha, beta = (*parameters, *defaults[len(parameters) :])[:2]
    return function(x, alpha, beta)


@contrib("FusedConv")
def fused_conv(call: Call) -> Value:
    y = conv(replace(call, inputs=call.inputs[:3]))
    if call.given(3):
        y = p.add(y, call[3])
    return _activated(call, y, call.floats("activation_params", ()))


@contrib("FusedGemm")
def fused_gemm(call: Call) -> Value:
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    parameters = tuple(found for name in names if (found := call.float(name, None)) is not None)
    return _activated(call, gemm(call), parameters)


@contrib("FusedMatMul", "TransposeMatMul")
def fused_matmul(call: Call) -> Value:
    a, b = call[0], call[1]
    a = _turned(a, call.flag("transA"), call.flag("transBatchA"))
    b = _turned(b, call.flag("transB"), call.flag("transBatchB"))
    y, alpha = m.matmul(a, b), call.float("alpha", 1.0)
    return y if alpha == 1 else p.mul(y, alpha)


def _turned(x: Value, matrix: bool, batch: bool) -> Value:
    """x with its last two axes swapped, and its first axis moved behind the other batch axes."""
    order = list(range(len(x.shape)))
    if len(order) < 2:
        return x
    if batch:  # [a, b, c, M, K] is stored as [M, a, b, c, K]
        order = [*order[1:-1], 0, order[-1]]
    if matrix:
        order[-2:] = order[:-3:-1]
    return p.transpose(x, perm=tuple(order)) if order != sorted(order) else x


# ------------------------------------------------------------------ normalisation


def _narrow(x: Value, dtype: DType) -> Value:
    return x if x.dtype == dtype else p.cast(x, to=dtype)


@operator("SimplifiedLayerNormalization")
def simplified_layer_normalization(call: Call) -> tuple[Value, ...]:
    """RMSNormalization under its name before operator set 23, in ONNX's own domain."""
    x, scale = widened(call[0]), widened(call[1])
    call.ignore("stash_type")
    axes = tuple(range(call.axis("axis", -1), len(x.shape)))
    return _root_mean_square(call, x, scale, axes, call.float("epsilon", 1e-5))


def _root_mean_square(
    call: Call, x: Value, scale: Value, axes: tuple[int, ...], epsilon: float
) -> tuple[Value, ...]:
    y = _narrow(nn.rms_norm(x, scale, axes=axes, epsilon=epsilon), call[1].dtype)
    if not call.wants(1):
        return (y,)
    inverse = p.div(1.0, p.sqrt(p.add(reduce_mean(p.mul(x, x), axes=axes), epsilon)))
    return y, _narrow(inverse, F32)


@contrib("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", gives=(0, F32, F32, 0))
def skip_layer_normalization(call: Call) -> tuple[Value | None, ...]:
    dtype, simplified = call[0].dtype, call.node.op == "SkipSimplifiedLayerNormalization"
    if call.wants(1) or call.wants(2):
        raise call.unsupported("outputs mean or inv_std_var", "they are for training")
    total = p.add(widened(call[0]), widened(call[1]))
    if total.shape != call[0].shape:
        raise ModelError(f"{call[1].type} does not skip to {call[0].type}")
    bias = call.get(3 if simplified else 4)
    if bias is not None:
        total = p.add(total, widened(bias))
    axes, epsilon = (len(total.shape) - 1,), call.float("epsilon", 1e-12)
    scale = widened(call[2])
    if simplified:
        y = nn.rms_norm(total, scale, axes=axes, epsilon=epsilon)
    elif call.given(3):
        y = nn.layer_norm(total, scale, widened(call[3]), axes=axes, epsilon=epsilon)
    else:
        y = nn.layer_norm(total, scale, axes=axes, epsilon=epsilon)
    return _narrow(y, dtype), None, None, _narrow(total, dtype)


# ------------------------------------------------------------------ embeddings


@contrib("EmbedLayerNormalization", gives=(2, I32, 2))
def embed_layer_normalization(call: Call) -> tuple[Value, Value, Value]:
    call.ignore("mask_index_type")
    tables = [call.get(i) for i in (2, 3, 4)]
    y, total = _embedded(call, tables, call[5], call[6], call.get(8))
    return y, _mask_index(call, call.get(7)), total


@contrib("QEmbedLayerNormalization", gives=(F32, I32))
def quantized_embed_layer_normalization(call: Call) -> tuple[Value, Value]:
    real = [
        q.dequantize(call[i], number(call, i + 6), number(call, i + 11)) if call.given(i) else None
        for i in (2, 3, 4, 5, 6)
    ]
    scale, shift = real[3], real[4]
    assert scale is not None and shift is not None
    y, _ = _embedded(call, real[:3], scale, shift, None)
    return y, _mask_index(call, call.get(7))


def _embedded(
    call: Call, tables: list[Value | None], scale: Value, shift: Value, positions: Value | None
) -> tuple[Value, Value]:
    """Sum of the rows for words, positions and segments: normalised, and as it is."""
    words, places, segments = tables
    if words is None or places is None:
        raise ModelError(f"{call.node.op} lacks a table")
    ids = call[0]
    rows = const(ramp(ids.shape[1])) if positions is None else positions
    total = p.add(p.gather(words, ids, axis=0), p.gather(places, rows, axis=0))
    if segments is not None and call.given(1):
        total = p.add(total, p.gather(segments, call[1], axis=0))
    y = nn.layer_norm(
        total, scale, shift, axes=(len(total.shape) - 1,), epsilon=call.float("epsilon", 1e-12)
    )
    return y, total


def _mask_index(call: Call, mask: Value | None) -> Value:
    """How many words of each sentence its mask keeps, i32[B]; zeros without one."""
    batch = call[0].shape[0]
    if mask is None:
        return const(np.zeros(batch, np.int32))
    return p.reshape(p.reduce(p.cast(mask, to=I32), op="add", axes=(1,)), shape=(batch,))
