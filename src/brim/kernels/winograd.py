"""Winograd's two transforms as kernel stages: tiles of the input, and results of a tile.

Both multiply a small square from both sides by a constant matrix, written out: one stage for each
element, its zeros left out. The product between them is a contraction like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brim.graph import Value
from brim.kernels.affine import ZERO, axis_index, combine
from brim.kernels.ir import At, Bound, Do, Expr, Guard, Index, Num, Ref, Stage
from brim.kernels.steps import View
from brim.ops.winograd import division, matrices, result_size, tile_counts
from brim.types import F32, DType


class _Writer:
    """Stages in the making, of one dtype; every one is read through a `Ref`."""

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype
        self.stages: list[Stage] = []

    def do(self, op: str, *args: Expr | float) -> Expr:
        exprs = (Num(a, self.dtype) if isinstance(a, int | float) else a for a in args)
        return Do(op, tuple(exprs), self.dtype)

    def weighted(self, values: Sequence[Expr], row: np.ndarray) -> Expr:
        """The sum of value * weight, without those of weight 0."""
        total: Expr | None = None
        for value, weight in zip(values, row.tolist()):
            if not weight:
                continue
            size = abs(weight) if self.dtype == F32 else int(abs(weight))
            term = value if size == 1 else self.do("mul", value, size)
            if total is None:
                total = term if weight > 0 else self.do("neg", term)
            else:
                total = self.do("add" if weight > 0 else "sub", total, term)
        assert total is not None
        return total

    def add(self, expr: Expr, out: At | None = None) -> Expr:
        if isinstance(expr, Ref) and out is None:
            return expr
        name = f"w{len(self.stages)}"
        self.stages.append(Stage(name, (), expr, out=out))
        return Ref(name, self.dtype)


def _along(shape: Sequence[int]) -> tuple[dict[str, int], list[Index]]:
    """Loop axes for the extents that are not 1, and the index along each extent."""
    axes = {f"x{i}": n for i, n in enumerate(shape) if n != 1}
    return axes, [axis_index(f"x{i}") if n != 1 else ZERO for i, n in enumerate(shape)]


def _mirrored(rows: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of rows that are equal but for the signs of every second element."""
    signs = np.where(np.arange(rows.shape[1]) % 2, -1.0, 1.0)
    found, taken = [], set[int]()
    for i, row in enumerate(rows):
        for j in range(i + 1, len(rows)):
            if i not in taken and j not in taken and np.array_equal(rows[j], row * signs):
                found.append((i, j))
                taken |= {i, j}
    return found


def _input_transform(write: _Writer, matrix: np.ndarray, values: Sequence[Expr]) -> list[Expr]:
    """B^T x. The rows of a point and of its negative are a sum and a difference of the same."""
    found = {i: write.weighted(values, row) for i, row in enumerate(matrix)}
    even = np.arange(len(values)) % 2 == 0
    for i, j in _mirrored(matrix):
        parts = [
            write.add(write.weighted(values, np.where(at, matrix[i], 0))) for at in (even, ~even)
        ]
        found |= {i: write.do("add", *parts), j: write.do("sub", *parts)}
    return list(found.values())


def _output_transform(
    write: _Writer, matrix: np.ndarray, values: Sequence[Expr], count: int
) -> list[Expr]:
    """The first `count` of A^T x: each needs the sums, or the differences, of opposite points."""
    pairs = _mirrored(matrix.T)
    alone = [k for k in range(len(values)) if not any(k in pair for pair in pairs)]
    order = [*alone, *(i for i, _ in pairs)]
    both = [
        [write.add(write.do(op, values[i], values[j])) for i, j in pairs]
        for op in ("add", "sub")[:count]
    ]
    return [
        write.weighted([*(values[k] for k in alone), *both[place % 2]], row[order])
        for place, row in enumerate(matrix[:count])
    ]


def input_stages(value: Value, x: View, out: View) -> tuple[dict[str, int], tuple[Stage, ...]]:
    """`winograd_input` of x into out: the loop axes (image, row and column of tiles, channel) with
    their extents, and the stages."""
    tile, window = value.attrs["tile"], value.attrs["window"]
    low, high = value.attrs["low"], value.attrs["high"]
    images, height, width, channels = x.shape
    rows, columns = tile_counts(*result_size(x.shape, window, low, high), tile)
    axes, (image, row, column, channel) = _along((images, rows, columns, channels))
    dtype = value.dtype
    down, across = (matrices(*pair, dtype != F32).input for pair in zip(tile, window))
    write = _Writer(dtype)

    def read(i: int, j: int) -> Expr:
        bounds, places = [], []
        for at, step, offset, count, size in (
            (row, tile[0], i - low[0], rows, height),
            (column, tile[1], j - low[1], columns, width),
        ):
            place = combine([(at, step)], offset)
            places.append(place)
            if offset < 0 or (count - 1) * step + offset >= size:
                bounds.append(Bound(place, size))
        found: Expr = At(x.buffer, x.index((image, *places, channel)))
        given = value.args[0].dtype
        if bounds:
            beyond = 0.0 if dtype == F32 else value.attrs.get("value", 0)
            found = Guard(tuple(bounds), found, Num(beyond, given))
        return found if dtype == given else Do("cast", (found,), dtype)

    half = []
    for j in range(len(across)):
        line = [write.add(read(i, j)) for i in range(len(down))]
        half.append([write.add(found) for found in _input_transform(write, down, line)])
    number = combine([(image, rows * columns), (row, columns), (column, 1)])
    for a in range(len(down)):
        line = [column_of[a] for column_of in half]
        for b, found in enumerate(_input_transform(write, across, line)):
            place = out.index((Index((), a * len(across) + b), number, channel))
            write.add(found, At(out.buffer, place))
    return axes, tuple(write.stages)


@dataclass(frozen=True)
class Region:
    """Tiles that have equally many results inside: first tile, number of tiles, results, for the
    rows and for the columns."""

    rows: tuple[int, int, int]
    columns: tuple[int, int, int]


def regions(height: int, width: int, tile: Sequence[int]) -> Iterator[Region]:
    """The whole tiles, and those at the lower and the right edge that reach beyond."""

    def parts(size: int, step: int) -> list[tuple[int, int, int]]:
        full, rest = divmod(size, step)
        found = [(0, full, step), (full, 1, rest)]
        return [part for part in found if part[1] and part[2]]

    for rows in parts(height, tile[0]):
        for columns in parts(width, tile[1]):
            yield Region(rows, columns)


def result_stages(
    value: Value, tiles: View, tile_at: tuple[Index, Index, Index], channel: Index, region: Region
) -> tuple[list[Stage], Mapping[tuple[int, int], Expr]]:
    """Stages that compute the results of one tile of `winograd_output`, and each by its place.

    tile_at: image, row and column of the tile, counted from the start of the region.
    """
    image, row, column = tile_at
    tile, window = value.attrs["tile"], value.attrs["window"]
    _, height, width = value.attrs["shape"]
    rows, columns = tile_counts(height, width, tile)
    first = region.rows[0] * columns + region.columns[0]
    number = combine([(image, rows * columns), (row, columns), (column, 1)], first)
    dtype = value.dtype
    down, across = (matrices(*pair, dtype != F32).output for pair in zip(tile, window))
    write, half = _Writer(dtype), []
    for b in range(across.shape[1]):
        line = []
        for a in range(down.shape[1]):
            place = tiles.index((Index((), a * across.shape[1] + b), number, channel))
            line.append(write.add(At(tiles.buffer, place)))
        transformed = _output_transform(write, down, line, region.rows[2])
        half.append([write.add(found) for found in transformed])
    results = {}
    for p in range(region.rows[2]):
        line = [column_of[p] for column_of in half]
        for q, found in enumerate(_output_transform(write, across, line, region.columns[2])):
            if dtype != F32:
                inverse, shift = division(tile, window)
                found = write.do("shift_right", write.do("mul", found, inverse), shift)
            results[p, q] = write.add(found)
    return write.stages, results
