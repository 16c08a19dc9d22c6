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
from brim.ops.winograd import matrices, result_size, tile_counts
from brim.types import F32


class _Writer:
    """Stages in the making; every one is read through a `Ref`."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

    def add(self, expr: Expr, out: At | None = None) -> Expr:
        name = f"w{len(self.stages)}"
        self.stages.append(Stage(name, (), expr, out=out))
        return Ref(name, F32)


def _weighted(values: Sequence[Expr], row: np.ndarray) -> Expr:
    """The sum of value * weight, without those of weight 0."""
    total: Expr | None = None
    for value, weight in zip(values, row.tolist()):
        if not weight:
            continue
        size = abs(weight)
        term = value if size == 1 else Do("mul", (value, Num(size, F32)), F32)
        if total is None:
            total = term if weight > 0 else Do("neg", (term,), F32)
        else:
            total = Do("add" if weight > 0 else "sub", (total, term), F32)
    assert total is not None
    return total


def _along(shape: Sequence[int]) -> tuple[dict[str, int], list[Index]]:
    """Loop axes for the extents that are not 1, and the index along each extent."""
    axes = {f"x{i}": n for i, n in enumerate(shape) if n != 1}
    return axes, [axis_index(f"x{i}") if n != 1 else ZERO for i, n in enumerate(shape)]


def input_stages(value: Value, x: View, out: View) -> tuple[dict[str, int], tuple[Stage, ...]]:
    """`winograd_input` of x into out: the loop axes (image, row and column of tiles, channel) with
    their extents, and the stages."""
    tile, low, high = value.attrs["tile"], value.attrs["low"], value.attrs["high"]
    images, height, width, channels = x.shape
    rows, columns = tile_counts(*result_size(x.shape, low, high), tile)
    axes, (image, row, column, channel) = _along((images, rows, columns, channels))
    write, points = _Writer(), tile + 2

    def read(i: int, j: int) -> Expr:
        bounds, places = [], []
        for at, offset, count, size in (
            (row, i - low[0], rows, height),
            (column, j - low[1], columns, width),
        ):
            place = combine([(at, tile)], offset)
            places.append(place)
            if offset < 0 or (count - 1) * tile + offset >= size:
                bounds.append(Bound(place, size))
        load = At(x.buffer, x.index((image, *places, channel)))
        return Guard(tuple(bounds), load, Num(0.0, F32)) if bounds else load

    matrix, half = matrices(tile).input, {}
    for j in range(points):
        line = [write.add(read(i, j)) for i in range(points)]
        for a in range(points):
            half[a, j] = write.add(_weighted(line, matrix[a]))
    number = combine([(image, rows * columns), (row, columns), (column, 1)])
    for a in range(points):
        for b in range(points):
            place = out.index((Index((), a * points + b), number, channel))
            found = _weighted([half[a, j] for j in range(points)], matrix[b])
            write.add(found, At(out.buffer, place))
    return axes, tuple(write.stages)


@dataclass(frozen=True)
class Region:
    """Tiles that have equally many results inside: first tile, number of tiles, results, for the
    rows and for the columns."""

    rows: tuple[int, int, int]
    columns: tuple[int, int, int]


def regions(height: int, width: int, tile: int) -> Iterator[Region]:
    """The whole tiles, and those at the lower and the right edge that reach beyond."""

    def parts(size: int) -> list[tuple[int, int, int]]:
        full, rest = divmod(size, tile)
        found = [(0, full, tile), (full, 1, rest)]
        return [part for part in found if part[1] and part[2]]

    for rows in parts(height):
        for columns in parts(width):
            yield Region(rows, columns)


def result_stages(
    value: Value, tiles: View, tile_at: tuple[Index, Index, Index], channel: Index, region: Region
) -> tuple[list[Stage], Mapping[tuple[int, int], Expr]]:
    """Stages that compute the results of one tile of `winograd_output`, and each by its place.

    tile_at: image, row and column of the tile, counted from the start of the region.
    """
    image, row, column = tile_at
    tile, (_, height, width) = value.attrs["tile"], value.attrs["shape"]
    rows, columns = tile_counts(height, width, tile)
    write, points = _Writer(), tile + 2
    first = region.rows[0] * columns + region.columns[0]
    number = combine([(image, rows * columns), (row, columns), (column, 1)], first)
    matrix, half = matrices(tile).output, {}
    for b in range(points):
        line = []
        for a in range(points):
            place = tiles.index((Index((), a * points + b), number, channel))
            line.append(write.add(At(tiles.buffer, place)))
        for p in range(region.rows[2]):
            half[p, b] = write.add(_weighted(line, matrix[p]))
    results = {}
    for p in range(region.rows[2]):
        for q in range(region.columns[2]):
            results[p, q] = write.add(_weighted([half[p, b] for b in range(points)], matrix[q]))
    return write.stages, results
