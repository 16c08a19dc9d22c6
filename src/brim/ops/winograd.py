"""Winograd's convolution: small windows by fewer multiplications, as variants of `conv`.

Along one axis, a tile of m results of a window of r needs n = m + r - 1 inputs. Both sides of the
product are brought into a form where it is elementwise: n products, and sums over channels, instead
of r * m. In two dimensions the transforms are done along both axes:

    y = A^T [(G w G^T) * (B^T x B)] A

An axis along which the window is 1 wide has tiles of 1 and no transform, so 1x7 and 7x1 are plain
cases. Source: A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, 2015; the
matrices are those of Toom and Cook's multiplication of polynomials at the points `POINTS`. Which
layers gain is not decided here.

Of 8-bit integers the result is exact: at whole points the matrices, times whole numbers, are whole;
tiles and weights fit 16 bits, and their i32 sums count modulo 2**32, in which y times a known
number is found. Odd factors have an inverse there, and the rest is a shift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial

import numpy as np

from brim.errors import OpError
from brim.graph import Value, const
from brim.ops.nn import conv
from brim.ops.primitive import cast, contract, reshape, transpose
from brim.ops.registry import primitive, variant
from brim.types import F32, I8, I16, I32, U8, DType, Type

Ints = tuple[int, ...]


def _with_negatives(*points: str) -> tuple[Fraction, ...]:
    """0, and every point beside its negative: their transforms share most of the arithmetic."""
    return (Fraction(0), *(sign * Fraction(point) for point in points for sign in (1, -1)))


# Where the polynomials are evaluated (and at infinity), by n: the points that err least, found by
# trying all fractions of small numbers (docs/why/012-winograd.md).
POINTS: dict[int, tuple[Fraction, ...]] = {
    1: (),
    4: _with_negatives("1"),
    6: _with_negatives("3/4", "4/3"),
    8: _with_negatives("1/2", "1", "2"),
    10: _with_negatives("1/2", "4/5", "5/4", "2"),
    12: _with_negatives("1/3", "3/4", "1", "3/2", "5/2"),
}

# The same for integers.
WHOLE_POINTS: dict[int, tuple[Fraction, ...]] = {
    1: (),
    4: _with_negatives("1"),
    6: _with_negatives("1", "2"),
}

# Results of a tile along an axis: more points err too much, and cost time at every first load.
TILES = (2, 4, 6)

# The largest n by the number of axes with a transform: all such forms stay within 1e-5 of the
# largest result (tests/pure/test_winograd.py).
MOST_POINTS = {1: 12, 2: 8}


@dataclass(frozen=True)
class Matrices:
    """input: B^T [n, n]. kernel: G [n, r]. output: A^T [m, n]. All f64.

    times: what the results are to be divided by; 1, but for integers.
    """

    input: np.ndarray
    kernel: np.ndarray
    output: np.ndarray
    times: int = 1


@cache
def matrices(tile: int, window: int, whole: bool = False) -> Matrices:
    """Toom and Cook's for m = tile, r = window: the same polynomial identity at every point.

    whole: of whole numbers, whose results are `times` too large.
    """
    points = (WHOLE_POINTS if whole else POINTS)[tile + window - 1]
    others = [[q for q in points if q != p] for p in points]
    sizes = [math.prod((p - q for q in rest), start=Fraction(1)) for p, rest in zip(points, others)]
    sizes.append(Fraction(1))
    given = [(*_with_roots(rest), Fraction(0)) for rest in others] + [_with_roots(points)]
    kernel = [[p**k for k in range(window)] for p in points]
    kernel.append([Fraction(k == window - 1) for k in range(window)])
    output = [[*(p**i for p in points), Fraction(i == tile - 1)] for i in range(tile)]
    times = 1
    if whole:  # each size's odd part goes to the weights, which then fit 16 bits
        times = math.lcm(*(int(size) for size in sizes))
        rest = [int(times / size) for size in sizes]
        odd = [abs(n) // (n & -n) for n in rest]
        kernel = [[x * n for x in row] for row, n in zip(kernel, odd)]
        output = [[x * n / o for x, n, o in zip(row, rest, odd)] for row in output]
    else:
        kernel = [[x / size for x in row] for row, size in zip(kernel, sizes)]
    a, b, c = (np.array(rows, np.float64) for rows in (given, kernel, output))
    return Matrices(a, b, c, times)


def _with_roots(roots: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Coefficients, the constant one first, of the product of (x - root)."""
    found, zero = [Fraction(1)], [Fraction(0)]
    for root in roots:
        found = [a - root * b for a, b in zip(zero + found, found + zero)]
    return tuple(found)


def point_counts(tile: Ints, window: Ints) -> tuple[int, int]:
    """n along height and width."""
    rows, columns = (m + r - 1 for m, r in zip(tile, window))
    return rows, columns


def tile_counts(height: int, width: int, tile: Ints) -> tuple[int, int]:
    """Tiles that cover height x width results."""
    return -(-height // tile[0]), -(-width // tile[1])


def result_size(shape: Ints, window: Ints, low: Ints, high: Ints) -> tuple[int, int]:
    """Height and width of the convolution of an image of `shape`, [N, H, W, C]."""
    height, width = (n + a + b - r + 1 for n, r, a, b in zip(shape[1:3], window, low, high))
    return height, width


def _check(x: Type, dtypes: tuple[DType, ...], rank: int, tile: Ints, window: Ints) -> None:
    if x.dtype not in dtypes or x.rank != rank:
        listed = " or ".join(map(str, dtypes))
        raise OpError(f"Winograd tiles are {listed} of rank {rank}, not {x}")
    if len(tile) != 2 or len(window) != 2 or min(*tile, *window) < 1:
        raise OpError(f"tile {tile} and window {window} are not two positive sizes each")
    points = POINTS if x.dtype == F32 else WHOLE_POINTS
    for n in point_counts(tile, window):
        if n not in points:
            known = ", ".join(map(str, points))
            raise OpError(f"tiles take {known} inputs along an axis, not {n}")


def _tiles(x: Type, *, tile: Ints, window: Ints, low: Ints, high: Ints, value: int = 0) -> Type:
    _check(x, (F32, I8, U8), 4, tile, window)
    if x.dtype == F32 and value:
        raise OpError("only integers are padded with another number than 0")
    if len(low) != 2 or len(high) != 2 or min(*low, *high) < 0:
        raise OpError(f"padding {low}, {high} is not two amounts on each side")
    height, width = result_size(x.dims, window, low, high)
    if height < 1 or width < 1:
        raise OpError(f"{x} is smaller than the window")
    count = x.dims[0] * math.prod(tile_counts(height, width, tile))
    dtype = F32 if x.dtype == F32 else I16
    return Type((math.prod(point_counts(tile, window)), count, x.dims[3]), dtype)


def _tiles_numpy(
    x: np.ndarray, *, tile: Ints, window: Ints, low: Ints, high: Ints, value: int = 0
) -> np.ndarray:
    images, _, _, channels = x.shape
    counts = tile_counts(*result_size(x.shape, window, low, high), tile)
    points = point_counts(tile, window)
    sizes = [count * m + r - 1 for count, m, r in zip(counts, tile, window)]
    whole = x.dtype.kind in "iu"
    x = x.astype(np.int16) if whole else x
    padded = np.full((images, *sizes, channels), value, x.dtype)
    inside = x[:, : sizes[0] - low[0], : sizes[1] - low[1]]
    padded[:, low[0] :, low[1] :][:, : inside.shape[1], : inside.shape[2]] = inside
    windows = np.lib.stride_tricks.sliding_window_view(padded, points, axis=(1, 2))
    rows, columns = (matrices(*pair, whole).input.astype(x.dtype) for pair in zip(tile, window))
    found = np.einsum("ai,nhwcij,bj->abnhwc", rows, windows[:, :: tile[0], :: tile[1]], columns)
    return found.reshape(math.prod(points), images * math.prod(counts), channels)


@primitive("tiles", _tiles, _tiles_numpy)
def winograd_input(x, *, tile, window, low, high, value=0):
    """B^T x B for the tiles of x[N, H, W, C], f32: [n * n', N * tiles, C], n = m + r - 1.

    Of 8-bit integers: i16. tile: results m along height and width. window: r. low, high: how often
    `value` stands around height and width; more where the last tiles reach beyond.
    """


def _results(x: Type, *, tile: Ints, window: Ints, shape: Ints) -> Type:
    _check(x, (F32, I32), 3, tile, window)
    if len(shape) != 3 or min(shape) < 1:
        raise OpError(f"{shape} is not (N, height, width)")
    count = shape[0] * math.prod(tile_counts(*shape[1:], tile))
    if x.dims[:2] != (math.prod(point_counts(tile, window)), count):
        raise OpError(f"{x} does not hold {count} tiles of {tile[0]} x {tile[1]}")
    return Type((*shape, x.dims[2]), x.dtype)


def _results_numpy(x: np.ndarray, *, tile: Ints, window: Ints, shape: Ints) -> np.ndarray:
    images, height, width = shape
    counts = tile_counts(height, width, tile)
    parts = x.reshape(*point_counts(tile, window), images, *counts, -1)
    whole = x.dtype.kind == "i"
    rows, columns = (matrices(*pair, whole).output.astype(x.dtype) for pair in zip(tile, window))
    found = np.einsum("pa,abnhwc,qb->nhpwqc", rows, parts, columns)
    if whole:
        inverse, shift = division(tile, window)
        found = (found * np.int32(inverse)) >> shift
    whole = found.reshape(images, counts[0] * tile[0], counts[1] * tile[1], -1)
    return np.ascontiguousarray(whole[:, :height, :width])


@primitive("untile", _results, _results_numpy)
def winograd_output(x, *, tile, window, shape):
    """A^T x A for tiles x[n * n', N * tiles, C], f32 or i32: [N, height, width, C].

    Of i32 modulo 2**32, and then divided by what makes the matrices whole (see `division`).
    tile, window: as of `winograd_input`. shape: (N, height, width); what the last tiles have beyond
    is left out.
    """


def division(tile: Ints, window: Ints) -> tuple[int, int]:
    """How i32 results are divided: (an odd factor modulo 2**32, and then a shift to the right).

    So y is found where y * 2**shift fits i32.
    """
    times = math.prod(matrices(*pair, True).times for pair in zip(tile, window))
    power = times & -times
    inverse = pow(times // power, -1, 1 << 32)
    return inverse - (inverse >> 31 << 32), power.bit_length() - 1


def winograd_weights(w: Value, tile: Ints) -> Value:
    """G w G^T for w[r, r', C, O], f32[n * n', C, O]; of i8: i16."""
    window, whole = w.shape[:2], w.dtype == I8
    rows, columns = (matrices(*pair, whole).kernel for pair in zip(tile, window))
    numbers = np.kron(rows, columns)  # [n * n', r * r']
    both = const(numbers.astype(np.int16 if whole else np.float32))
    flat = reshape(w, shape=(math.prod(window), math.prod(w.shape[2:])))
    found = contract(flat, both, spec="kx,pk->px")
    found = cast(found, to=I16) if whole else found
    return reshape(found, shape=(math.prod(point_counts(tile, window)), *w.shape[2:]))


def _lies_turned(w: Value) -> bool:
    """Whether memory is contiguous along the inputs of weights w[.., C, O], not along the outputs,
    as those of a layer whose gradient is computed are."""
    moves = []
    while w.op is not None and w.op.name in ("slice", "transpose"):
        moves.append(w)
        w = w.args[0]
    axis = len(w.shape) - 1
    for move in reversed(moves):
        axis = move.attrs["perm"].index(axis) if "perm" in move.attrs else axis
    return axis == len(w.shape) - 2


def winograd(x: Value, w: Value, *, tile: Ints, low: Ints, high: Ints, value: int = 0) -> Value:
    """The convolution of x[N, H, W, C] with w[r, r', C, O]: [N, height, width, O].

    low, high: how often `value` stands around height and width.
    """
    window = w.shape[:2]
    shape = (x.shape[0], *result_size(x.shape, window, low, high))
    pad = {} if x.dtype == F32 else {"value": value}
    tiles = winograd_input(x, tile=tile, window=window, low=low, high=high, **pad)
    if _lies_turned(w):  # brought into their form as they lie, and never turned
        turned = winograd_weights(transpose(w, perm=(0, 1, 3, 2)), tile)
        products = contract(tiles, turned, spec="pnc,poc->pno")
    else:
        products = contract(tiles, winograd_weights(w, tile), spec="pnc,pco->pno")
    return winograd_output(products, tile=tile, window=window, shape=shape)


def tile_of(m: int, window: Ints) -> Ints:
    """Tiles of m results along the axes along which the window is wider than 1."""
    return tuple(m if r > 1 else 1 for r in window)


def offered(window: Ints, whole: bool = False) -> list[int]:
    """Those of the tiles `TILES` that have points for a window, and err little enough.

    whole: of integers; their weights fit 16 bits where the window is 3 wide.
    """
    sizes = [r for r in window if r > 1]
    known = [n for n in POINTS if n <= MOST_POINTS.get(len(sizes), 0)]
    if whole:
        known = list(WHOLE_POINTS) if sizes and set(sizes) == {3} else []
    return [m for m in TILES if known and all(m + r - 1 in known for r in sizes)]


def is_winograd(
    m: int,
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
    """Whether tiles of m compute a `conv` of these types, and are worth a price: not where other
    tiles take less than two thirds of the products."""
    whole = x.dtype in (I8, U8) and w.dtype == I8
    if (exact or x.dtype != F32) and not whole:
        return False
    plain = groups == 1 and set(stride) == {1} and set(dilation) == {1} and min(*low, *high) >= 0
    if not plain or w.rank != 4 or m not in offered(w.dims[:2], whole):
        return False
    window = w.dims[:2]
    results = result_size(x.dims, window, low, high)
    if min(*results, x.dims[3], w.dims[3]) < 2:
        return False
    tiles = {other: tile_of(other, window) for other in offered(window, whole)}
    products = {
        other: math.prod((*point_counts(tile, window), *tile_counts(*results, tile)))
        for other, tile in tiles.items()
    }
    return products[m] * 2 <= min(products.values()) * 3


def is_found(m: int, x: Value, w: Value) -> bool:
    """Whether tiles of m give the sums of integers x * w themselves, and not modulo 2**32 / times:
    by the largest and smallest possible of these sums."""
    if x.dtype == F32:
        return True
    if w.data is None:
        return False
    window = w.shape[:2]
    _, shift = division(tile_of(m, window), window)
    flat = w.data.reshape(-1, w.shape[-1])
    sums = (np.maximum(flat, 0).sum(0, np.int64), -np.minimum(flat, 0).sum(0, np.int64))
    most = 255 * max(int(part.max(initial=0)) for part in sums)
    return most << shift < 1 << 31


def _by_tiles(m: int, x: Value, w: Value, low: Ints, high: Ints) -> Value:
    tile, value = tile_of(m, w.shape[:2]), 0
    if x.dtype != F32 and x.op is not None and x.op.name == "pad" and not any((*low, *high)):
        around = {side: x.attrs[side] for side in ("low", "high")}  # the tiles' own padding
        if not any(n for amounts in around.values() for n in (amounts[0], amounts[3])):
            low, high = (tuple(around[side][1:3]) for side in ("low", "high"))
            x, value = x.args[0], x.attrs["value"]
    return winograd(x, w, tile=tile, low=low, high=high, value=value)


@variant(of=conv, when=partial(is_winograd, 2), proof=partial(is_found, 2))
def winograd_2(x, w, *, stride, dilation, low, high, groups, exact=False):
    """`conv` by tiles of 2 results along each axis: 4 products for one of 3x3, instead of 9."""
    return _by_tiles(2, x, w, low, high)


@variant(of=conv, when=partial(is_winograd, 4), proof=partial(is_found, 4))
def winograd_4(x, w, *, stride, dilation, low, high, groups, exact=False):
    """`conv` by tiles of 4 results along each axis: 2.25 products for one of 3x3."""
    return _by_tiles(4, x, w, low, high)


@variant(of=conv, when=partial(is_winograd, 6), proof=partial(is_found, 6))
def winograd_6(x, w, *, stride, dilation, low, high, groups, exact=False):
    """`conv` by tiles of 6 results along each axis: 1.8 products for one of 3x3, 2 of 1x7."""
    return _by_tiles(6, x, w, low, high)
