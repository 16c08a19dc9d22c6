"""Products whose constant weights are mostly zero become sparse ones, stored without the zeros.

    %2: f32[49,64] = contract(%0, %w) spec="nc,co->no"      # three of four blocks of %w are zero
-->
    %2: f32[49,64] = sparse_matmul(%0, %blocks, %index)

Which weights are zero was decided before. The new form takes less arithmetic and less memory; a
target on which it is slower all the same computes its dense variant (`brim.search.variants`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from brim.graph import Graph, Value, const, rewrite
from brim.ops import primitive as ops
from brim.ops.primitive import parse_spec
from brim.ops.registry import at
from brim.ops.sparse import sparse_matmul
from brim.types import F32

WIDTHS = (4, 8, 16)  # columns of a block: vectors or halves of them
_VECTOR = 8  # narrower blocks take as long as those
_MOST = 0.75  # of the dense product's work


def sparsify(graph: Graph) -> Graph:
    """Makes products sparse that take three quarters of the work or less in this form."""
    return rewrite(graph, _sparse)


@dataclass(frozen=True)
class Blocks:
    """The parts of a matrix [C, G * B] that are kept: w f32[G, K, B], index[G, K]."""

    w: np.ndarray
    index: np.ndarray

    @property
    def work(self) -> int:
        """Multiplications for each row of the other operand, of halves of vectors too."""
        groups, rows, width = self.w.shape
        return groups * rows * max(width, _VECTOR)

    @property
    def bytes(self) -> int:
        return self.w.nbytes + self.index.nbytes


def blocks_of(matrix: np.ndarray, width: int) -> Blocks:
    """The blocks of `width` columns that are not all zero; width divides the columns.

    Groups that have fewer of them than others get blocks of zeros.
    """
    channels, columns = matrix.shape
    split = matrix.reshape(channels, columns // width, width).swapaxes(0, 1)
    used = split.any(axis=2)
    count = max(1, int(used.sum(axis=1).max(initial=0)))
    order = np.argsort(~used, axis=1, kind="stable")[:, :count]  # those in use first, by number
    index = np.sort(order, axis=1)
    kept = np.take_along_axis(split, index[:, :, None], axis=1)
    small = np.uint8 if channels <= 1 << 8 else np.uint16 if channels <= 1 << 16 else np.int32
    return Blocks(kept, index.astype(small))


def _sparse(value: Value) -> Value | None:
    matrix = _matrix(value)
    if matrix is None or np.count_nonzero(matrix) > _MOST * matrix.size:
        return None
    widths = [width for width in WIDTHS if matrix.shape[1] % width == 0]
    choices = [blocks_of(matrix, n) for n in widths]
    found = min(choices, key=lambda blocks: (blocks.work, blocks.bytes), default=None)
    if found is None or found.work > _MOST * matrix.size:
        return None
    with at(value.where):
        x = _rows(value.args[0], value.shape[:-1])
        return sparse_matmul(x, const(found.w), const(found.index))


def _matrix(value: Value) -> np.ndarray | None:
    """The weights [C, O] of a product of f32 rows [.., C] with a constant matrix, else None."""
    if value.op is None or value.op.name != "contract" or value.dtype != F32:
        return None
    x, w = value.args
    own, other, out = parse_spec(value.attrs["spec"])
    sizes = dict(zip(own + other, (*x.shape, *w.shape)))
    lead, column = out[:-1], out[-1:]
    plain = "".join(c for c in own if c in lead or sizes[c] > 1)
    row = plain[len(lead) :]
    fits = plain.startswith(lead) and len(row) == 1 and len(lead) < 6 and column not in own
    if not fits or w.data is None or not {row, column} <= set(other):
        return None
    if any(sizes[c] > 1 for c in other if c not in (row, column)):
        return None
    axes = other.index(row), other.index(column)
    return np.moveaxis(w.data, axes, (-2, -1)).reshape(sizes[row], sizes[column])


def _rows(x: Value, lead: tuple[int, ...]) -> Value:
    """The operand as [.., C]; windows of one point are what they look at."""
    window = x.op is not None and x.op.name == "window"
    if window and set(x.attrs["size"]) == set(x.attrs["stride"]) == {1}:
        x = x.args[0]
    shape = (*lead, x.type.size // math.prod(lead))
    return x if x.shape == shape else ops.reshape(x, shape=shape)
