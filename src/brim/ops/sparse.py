"""Products with sparse constant weights, of which only blocks that are not all zero are kept.

A block is a few neighbouring columns of one row: they share the input that they multiply, so one
load of it serves a vector. Each group of columns keeps equally many blocks, which makes the product
a dense one of inputs that are looked up by number:

    y[n, g * B + b] = sum over k of x[n, index[g, k]] * w[g, k, b]

Source of the blocks: E. Elsen, M. Dukhan, T. Gale and K. Simonyan, Fast Sparse ConvNets, 2019.
Which products are worth this form is not decided here.
"""

from __future__ import annotations

import numpy as np

from brim.errors import OpError
from brim.graph import const
from brim.ops.primitive import add, cast, contract, gather, reshape, scatter, transpose
from brim.ops.registry import composite, variant
from brim.types import I64

_LEAD = "nhwdt"


@composite()
def sparse_matmul(x, w, index):
    """x[.., C] times a sparse matrix [C, G * B]: [.., G * B], of x's element type.

    w[G, K, B]: K rows of each group of B columns; index[G, K]: which rows, each in [0, C). Rows
    that are named twice add up.
    """
    if len(w.shape) != 3 or index.shape != w.shape[:2] or not 1 <= len(x.shape) <= 1 + len(_LEAD):
        raise OpError(f"a sparse product of {x.type} with w {w.type} and index {index.type}")
    lead = _LEAD[: len(x.shape) - 1]
    taken = gather(x, index, axis=len(lead))
    y = contract(taken, w, spec=f"{lead}gk,gkb->{lead}gb")
    return reshape(y, shape=(*x.shape[:-1], w.shape[0] * w.shape[2]))


@variant(of=sparse_matmul, when=lambda x, w, index: True)
def dense(x, w, index):
    """`sparse_matmul` with its zeros written out."""
    (groups, rows, width), channels = w.shape, x.shape[-1]
    first = const(np.arange(groups)[:, None] * channels)
    places = reshape(add(cast(index, to=I64), first), shape=(groups * rows,))
    zeros = const(np.zeros((groups * channels, width), w.dtype.numpy))
    blocks = reshape(w, shape=(groups * rows, width))
    matrix = reshape(
        scatter(zeros, places, blocks, axis=0, op="add"), shape=(groups, channels, width)
    )
    matrix = reshape(transpose(matrix, perm=(1, 0, 2)), shape=(channels, groups * width))
    lead = _LEAD[: len(x.shape) - 1]
    return contract(x, matrix, spec=f"{lead}c,co->{lead}o")
