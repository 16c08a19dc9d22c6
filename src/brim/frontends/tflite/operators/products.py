"""Products of matrices: batched ones, and the rotation that some quantized models begin with."""

from __future__ import annotations

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError
from brim.frontends.tflite.table import Call, operator
from brim.graph import Value, const
from brim.ops.math import matmul


@operator("BATCH_MATMUL")
def batch_matmul(call: Call) -> Value:
    call.ignore("asymmetric_quantize_inputs")
    a = _flipped(call[0]) if call.flag("adj_x") else call[0]
    b = _flipped(call[1]) if call.flag("adj_y") else call[1]
    to = call.result_dtype()
    if a.dtype != b.dtype or (a.dtype.is_whole and a.dtype != to):
        a, b = (p.cast(x, to=to) for x in (a, b))
    return matmul(a, b)


def _flipped(x: Value) -> Value:
    rank = len(x.shape)
    return p.transpose(x, perm=(*range(rank - 2), rank - 1, rank - 2))


@operator("aeq.hadamard_rotation")
def hadamard_rotation(call: Call) -> Value:
    """Blocks of the last axis times a normalised Hadamard matrix (Sylvester's, 1867)."""
    call.ignore("random_binary_vector")  # LiteRT reads it and does not use it
    x, size = call[0], call.int("hadamard_size")
    if size < 1 or size & (size - 1) or size > 1 << 12 or x.shape[-1] % size:
        raise ModelError(f"a Hadamard rotation of {x.type} by blocks of {size}")
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    blocks = p.reshape(x, shape=(x.type.size // size, size))
    y = p.mul(matmul(blocks, const(matrix)), float(1 / np.sqrt(np.float32(size))))
    return p.reshape(y, shape=x.shape)
