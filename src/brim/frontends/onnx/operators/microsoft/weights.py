"""Weights of a few bits in blocks (com.microsoft): MatMulNBits, GatherBlockQuantized.

A byte holds several numbers, the first in its lowest bits; each block of numbers along an axis has
its own scale and zero point: real = scale * (integer - zero).
"""

from __future__ import annotations

import math

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.bounds import front, ramp
from brim.frontends.onnx.operators.microsoft.attention import columns
from brim.frontends.onnx.operators.microsoft.contrib import contrib
from brim.frontends.onnx.table import Call
from brim.graph import Value, const
from brim.ops.packed_weights import two_in_a_byte, unpack
from brim.ops.storage import decode
from brim.types import F32, I64, U8


def _wide(x: Value) -> Value:
    if x.dtype.kind == "n":
        return decode(x, to=F32)
    return x if x.dtype == F32 else p.cast(x, to=F32)


def _first(x: Value, count: int) -> Value:
    """The first `count` elements of the last axis."""
    return columns(x, (count, x.shape[-1] - count))[0]


def _unpacked(x: Value, bits: int) -> Value:
    """The numbers in the bytes x[..., n], in f32: [..., n * 8 / bits]."""
    if bits == 8:
        return _wide(x)
    mask = np.uint8((1 << bits) - 1)
    parts = [p.bit_and(p.shift_right(x, np.uint8(low)), mask) for low in range(0, 8, bits)]
    spread = p.concat(*(p.reshape(v, shape=(*x.shape, 1)) for v in parts), axis=len(x.shape))
    return _wide(p.reshape(spread, shape=(*x.shape[:-1], x.shape[-1] * len(parts))))


def _bits(call: Call) -> int:
    bits = call.int("bits", 4)
    if bits not in (2, 4, 8):
        raise call.unsupported(f"{bits} bits", "supported: 2, 4, 8")
    return bits


@contrib("MatMulNBits")
def matmul_n_bits(call: Call) -> Value:
    call.ignore("accuracy_level")  # how inexact it may be
    if call.int("weight_prepacked", 0):
        raise call.unsupported("weight_prepacked", "these weights are laid out for one GPU")
    x = call[0]
    weights = _matrix(call, _bits(call), call.int("N"), call.int("K"), call.int("block_size"))
    flat = p.reshape(_wide(x), shape=(math.prod(x.shape[:-1]), x.shape[-1]))
    y = p.contract(flat, weights, spec="mk,kn->mn")
    y = p.reshape(y, shape=(*x.shape[:-1], y.shape[1]))
    if call.given(5):
        y = p.add(y, _wide(call[5]))
    return y if y.dtype == x.dtype else p.cast(y, to=x.dtype)


def _matrix(call: Call, bits: int, rows: int, depth: int, block: int) -> Value:
    """The weights [K, N] in f32; constant ones stay as small as they are."""
    if min(rows, depth, block) < 1:
        raise ModelError(f"weights [{rows}, {depth}] in blocks of {block}")
    blocks = -(-depth // block)
    scale = p.reshape(_wide(call[2]), shape=(rows, blocks))
    zero: Value | None = call.get(3)
    if zero is None:
        zero = const(np.full((1, 1), 1 << (bits - 1), np.float32))
        zero = p.broadcast(zero, shape=(rows, blocks))
    elif zero.dtype == U8:
        if call.given(4):
            raise call.unsupported(
                "g_idx and packed zero points", "onnxruntime ignores the zero points then"
            )
        per_row = p.reshape(zero, shape=(rows, -(-blocks * bits // 8)))
        zero = _first(_unpacked(per_row, bits), blocks)
    else:
        zero = p.reshape(_wide(zero), shape=(rows, blocks))
    if not call.given(4) and (held := _held(call[1], scale, zero, bits, block, depth)) is not None:
        return held
    integers = _unpacked(p.reshape(call[1], shape=(rows, blocks, block * bits // 8)), bits)
    integers = _first(p.reshape(integers, shape=(rows, blocks * block)), depth)
    if call.given(4):
        groups = p.reshape(call[4], shape=(1, call[4].type.size))
        index = p.reshape(_first(groups, depth), shape=(depth,))
    else:
        index = const(ramp(depth) // block)
    scale, zero = (p.gather(v, index, axis=1) for v in (scale, zero))
    return p.transpose(p.mul(p.sub(integers, zero), scale), perm=(1, 0))


def _held(
    data: Value, scale: Value, zero: Value, bits: int, block: int, depth: int
) -> Value | None:
    """Constant weights [K, N] that a product unpacks as it loads them; None for others."""
    rows, blocks = scale.shape
    known = data.data is not None and scale.is_const and zero.is_const
    if not known or bits == 2 or depth % block or block % 2:
        return None
    assert data.data is not None
    codes = data.data.reshape(rows, blocks, -1)
    if bits == 4:
        numbers = np.stack([codes & 15, codes >> 4], -1).reshape(rows, blocks, block)
        codes, zero = two_in_a_byte(numbers - np.uint8(8), 2), p.sub(zero, 8.0)
    scale, zero = (p.transpose(x, perm=(1, 0)) for x in (scale, zero))
    return unpack(p.hold(const(codes.reshape(rows, -1).T)), scale, zero, axis=0, bits=bits)


@contrib("GatherBlockQuantized", gives=(2,), storage=True)
def gather_block_quantized(call: Call) -> Value:
    data, scale, zero = call[0], call[2], call.get(3)
    rank, block = len(data.shape), call.int("block_size", 128)
    axis, along = front(call.int("gather_axis", 0), rank), front(call.int("quantize_axis", 1), rank)
    bits = _bits(call) if data.dtype == U8 else 8
    if data.dtype.kind == "n" and data.dtype.name not in ("i4", "u4"):
        raise call.unsupported(f"data of {data.dtype}")
    if axis == along or block < 1 or (bits < 8 and axis == rank - 1):
        raise call.unsupported(f"gather_axis {axis} and quantize_axis {along}")
    index = p.cast(call[1], to=I64)
    size = data.shape[axis]
    index = p.select(p.lt(index, 0), p.add(index, size), index)
    inside = p.bit_and(p.ge(index, 0), p.lt(index, size))  # other rows are zeros
    index = p.select(inside, index, const(np.int64(0)))
    integers = _unpacked(p.gather(data, index, axis=axis), bits)
    along += len(index.shape) - 1 if along > axis else 0
    extent = integers.shape[along]
    blocks = const(ramp(extent) // block)

    def per_number(x: Value) -> Value:
        return p.gather(x, blocks, axis=along)

    y = integers
    if zero is not None:
        zero = _unpacked(p.gather(zero, index, axis=axis), bits)
        y = p.sub(y, per_number(zero))
    elif data.dtype == U8:
        y = p.sub(y, float(1 << (bits - 1)))
    y = p.mul(y, per_number(_wide(p.gather(scale, index, axis=axis))))
    shape = (1,) * axis + index.shape + (1,) * (rank - 1 - axis)
    y = p.select(p.reshape(inside, shape=shape), y, const(np.float32(0)))
    return y if y.dtype == scale.dtype else p.cast(y, to=scale.dtype)
