"""Winograd's convolution: 3x3 windows by fewer multiplications, as variants of `conv`.

A tile of m x m results needs n x n inputs, n = m + 2. Both sides of the product are brought into a
form where it is elementwise: n * n products, and sums over channels, instead of 9 m * m.

    y = A^T [(G w G^T) * (B^T x B)] A

Source: A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, 2015; the matrices
are those of Toom and Cook's multiplication of polynomials at the points `POINTS`. Which layers gain
is not decided here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

from brim.errors import OpError
from brim.graph import Value, const
from brim.ops.nn import conv
from brim.ops.primitive import contract, reshape
from brim.ops.registry import primitive, variant
from brim.types import F32, Type

Ints = tuple[int, ...]

# Where the polynomials are evaluated (and at infinity), for each m. The usual 0, 1, -1, 2, -2 err
# five times as much as these, whose powers stay near 1: 1.4e-6 of the largest result, where the
# direct sum of 128 channels errs by 0.8e-6 (tests/pure/test_winograd.py).
POINTS: dict[int, tuple[Fraction, ...]] = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(4, 3), Fraction(-4, 3)),
}


@dataclass(frozen=True)
class Matrices:
    """input: B^T [n, n]. kernel: G [n, 3]. output: A^T [m, n]. All f64."""

    input: np.ndarray
    kernel: np.ndarray
    output: np.ndarray


@cache
def matrices(tile: int) -> Matrices:
    """Toom and Cook's matrices for m = tile: the same polynomial identity at every point."""
    points = POINTS[tile]
    others = [[q for q in points if q != p] for p in points]
    sizes = [math.prod((p - q for q in rest), start=Fraction(1)) for p, rest in zip(points, others)]
    given = [(*_with_roots(rest), Fraction(0)) for rest in others] + [_with_roots(points)]
    kernel = [[p**k / size for k in range(3)] for p, size in zip(points, sizes)] + [[0, 0, 1]]
    output = [[*(p**i for p in points), int(i == tile - 1)] for i in range(tile)]
    return Matrices(*(np.array(rows, np.float64) for rows in (given, kernel, output)))


def _with_roots(roots: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Coefficients, the constant one first, of the product of (x - root)."""
    found, zero = [Fraction(1)], [Fraction(0)]
    for root in roots:
        found = [a - root * b for a, b in zip(zero + found, found + zero)]
    return tuple(found)


def tile_counts(height: int, width: int, tile: int) -> tuple[int, int]:
    """Tiles that cover height x width results."""
    return -(-height // tile), -(-width // tile)


def result_size(shape: Ints, low: Ints, high: Ints) -> tuple[int, int]:
    """Height and width of the convolution of an image of `shape`, [N, H, W, C]."""
    height, width = (n + a + b - 2 for n, a, b in zip(shape[1:3], low, high))
    return height, width


def _check(x: Type, rank: int, tile: int) -> None:
    if x.dtype != F32 or x.rank != rank:
        raise OpError(f"Winograd tiles are f32 of rank {rank}, not {x}")
    if tile not in POINTS:
        raise OpError(f"tiles are {' or '.join(map(str, POINTS))} wide, not {tile}")


def _tiles(x: Type, *, tile: int, low: Ints, high: Ints) -> Type:
    _check(x, 4, tile)
    if len(low) != 2 or len(high) != 2 or min(*low, *high) < 0:
        raise OpError(f"padding {low}, {high} is not two amounts on each side")
    height, width = result_size(x.dims, low, high)
    if height < 1 or width < 1:
        raise OpError(f"{x} is smaller than the window")
    points = math.prod(tile_counts(height, width, tile))
    return Type(((tile + 2) ** 2, x.dims[0] * points, x.dims[3]), F32)


def _tiles_numpy(x: np.ndarray, *, tile: int, low: Ints, high: Ints) -> np.ndarray:
    images, _, _, channels = x.shape
    rows, columns = tile_counts(*result_size(x.shape, low, high), tile)
    sizes = (rows * tile + 2, columns * tile + 2)
    padded = np.zeros((images, *sizes, channels), x.dtype)
    inside = x[:, : sizes[0] - low[0], : sizes[1] - low[1]]
    padded[:, low[0] :, low[1] :][:, : inside.shape[1], : inside.shape[2]] = inside
    windows = np.lib.stride_tricks.sliding_window_view(padded, (tile + 2,) * 2, axis=(1, 2))
    matrix = matrices(tile).input.astype(x.dtype)
    found = np.einsum("ai,nhwcij,bj->abnhwc", matrix, windows[:, ::tile, ::tile], matrix)
    return found.reshape((tile + 2) ** 2, images * rows * columns, channels)


@primitive("tiles", _tiles, _tiles_numpy)
def winograd_input(x, *, tile, low, high):
    """B^T x B for the tiles of x[N, H, W, C], f32: [n * n, N * tiles, C], n = tile + 2.

    low, high: zeros around height and width; more where the last tiles reach beyond.
    """


def _results(x: Type, *, tile: int, shape: Ints) -> Type:
    _check(x, 3, tile)
    if len(shape) != 3 or min(shape) < 1:
        raise OpError(f"{shape} is not (N, height, width)")
    points = shape[0] * math.prod(tile_counts(*shape[1:], tile))
    if x.dims[:2] != ((tile + 2) ** 2, points):
        raise OpError(f"{x} does not hold {points} tiles of {tile} x {tile}")
    return Type((*shape, x.dims[2]), F32)


def _results_numpy(x: np.ndarray, *, tile: int, shape: Ints) -> np.ndarray:
    images, height, width = shape
    rows, columns = tile_counts(height, width, tile)
    parts = x.reshape(tile + 2, tile + 2, images, rows, columns, -1)
    matrix = matrices(tile).output.astype(x.dtype)
    found = np.einsum("pa,abnhwc,qb->nhpwqc", matrix, parts, matrix)
    whole = found.reshape(images, rows * tile, columns * tile, -1)
    return np.ascontiguousarray(whole[:, :height, :width])


@primitive("untile", _results, _results_numpy)
def winograd_output(x, *, tile, shape):
    """A^T x A for tiles x[n * n, N * tiles, C], f32: [N, height, width, C]. shape: (N, height,
    width); what the last tiles have beyond is left out."""


def winograd_weights(w: Value, tile: int) -> Value:
    """G w G^T for w[3, 3, C, O], f32[n * n, C, O]."""
    matrix = matrices(tile).kernel
    both = const(np.kron(matrix, matrix).astype(np.float32))  # [n * n, 9]
    flat = reshape(w, shape=(9, math.prod(w.shape[2:])))
    found = contract(flat, both, spec="kx,pk->px")
    return reshape(found, shape=((tile + 2) ** 2, *w.shape[2:]))


def winograd(x: Value, weights: Value, *, tile: int, low: Ints, high: Ints) -> Value:
    """The convolution of x[N, H, W, C] by `winograd_weights`: [N, height, width, O]."""
    shape = (x.shape[0], *result_size(x.shape, low, high))
    tiles = winograd_input(x, tile=tile, low=low, high=high)
    products = contract(tiles, weights, spec="pnc,pco->pno")
    return winograd_output(products, tile=tile, shape=shape)


def is_winograd(
    x: Type,
    w: Type,
    *,
    stride: Ints,
    dilation: Ints,
    low: Ints,
    high: Ints,
    groups: int,
    exact: bool = False,
) -> bool:
    """Whether a `conv` of these types has the form that Winograd's variants compute."""
    if exact:
        return False
    plain = groups == 1 and set(stride) == {1} and set(dilation) == {1} and min(*low, *high) >= 0
    if not plain or x.dtype != F32 or w.rank != 4 or w.dims[:2] != (3, 3):
        return False
    return min(*result_size(x.dims, low, high), x.dims[3], w.dims[3]) >= 2


@variant(of=conv, when=is_winograd)
def winograd_2(x, w, *, stride, dilation, low, high, groups, exact=False):
    """`conv` by tiles of 2 x 2: 4 products for a result instead of 9."""
    return winograd(x, winograd_weights(w, 2), tile=2, low=low, high=high)


@variant(of=conv, when=is_winograd)
def winograd_4(x, w, *, stride, dilation, low, high, groups, exact=False):
    """`conv` by tiles of 4 x 4: 2.25 products for a result instead of 9."""
    return winograd(x, winograd_weights(w, 4), tile=4, low=low, high=high)
