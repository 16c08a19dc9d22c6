"""Looks at a region of a picture: bilinear samples, as operators that are compiled with a network.

A program takes `pixels` u8[CAPACITY,3], of which a window of the picture fills the first rows x
columns; `window` f32[5] says which: rows, columns, its left and top in the picture, and how many
pixels of the picture one of its pixels stands for; `matrix` f32[2,3] maps the network's (u, v) to
the picture (`Region.matrix`). So one program serves pictures of all sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from brim.errors import ModelError
from brim.graph import Graph, Value, const, placeholder, substitute
from brim.ops import primitive as p
from brim.types import F32, I32, U8, Type

# A picture of 1920x1080 fits, and f32 counts its pixels exactly. A larger region has over 30 pixels
# for each sample of any network here; it is made smaller first, by averaging.
CAPACITY = 1 << 21

Border = Literal["zero", "nearest"]


@dataclass(frozen=True)
class Sampling:
    """How a network sees a region: as f32[1,rows,columns,3] in low..high, where `low` is black and
    `high` white; beyond the picture is black ("zero") or what is nearest."""

    rows: int
    columns: int
    low: float
    high: float
    border: Border

    def join(self, network: Graph) -> tuple[dict[str, Value], list[Value]]:
        """The inputs of a program, and the outputs of a network (of one input) that samples them.
        Raises ModelError for a network that does not take that."""
        pixels = placeholder(Type((CAPACITY, 3), U8))
        window, matrix = placeholder(Type((5,), F32)), placeholder(Type((2, 3), F32))
        inputs = {"pixels": pixels, "window": window, "matrix": matrix}
        seen = samples(pixels, window, matrix, self.rows, self.columns, self.border)
        seen = p.add(p.mul(seen, (self.high - self.low) / 255), self.low)
        (taken,) = network.inputs.values()
        if taken.type != seen.type:
            raise ModelError(f"a network takes {taken.type}, and not the {seen.type} of a picture")
        return inputs, substitute(network.outputs.values(), {id(taken): seen})


def samples(
    pixels: Value, window: Value, matrix: Value, rows: int, columns: int, border: Border
) -> Value:
    """f32[1,rows,columns,3], 0..255: a bilinear sample at the middle of each of the cells."""
    height, width, left, top, step = (_at(window, n) for n in range(5))
    x, y = _project(matrix, *_middles(rows, columns))
    x = p.sub(p.div(p.sub(x, left), step), 0.5)  # pixels count from their centres
    y = p.sub(p.div(p.sub(y, top), step), 0.5)
    (left_of, left_share), (right_of, right_share) = _neighbours(x, width, border)
    (above, upper_share), (below, lower_share) = _neighbours(y, height, border)
    # Converting a number to an integer takes longer than all else here, so it is done once.
    first = p.cast(p.add(p.mul(above, width), left_of), to=I32)
    next_column = p.cast(p.ne(left_of, right_of), to=I32)
    next_row = p.mul(p.cast(p.ne(above, below), to=I32), p.cast(width, to=I32))
    total: Value | None = None
    for row, down in ((first, upper_share), (p.add(first, next_row), lower_share)):
        for index, across in ((row, left_share), (p.add(row, next_column), right_share)):
            colour = p.cast(p.gather(pixels, index, axis=0), to=F32)
            weight = p.reshape(p.mul(down, across), shape=(rows, columns, 1))
            part = p.mul(colour, weight)
            total = part if total is None else p.add(total, part)
    assert total is not None
    return p.reshape(total, shape=(1, rows, columns, 3))


def _project(matrix: Value, u: Value, v: Value) -> tuple[Value, Value]:
    """Network coordinates of any one shape of rank 2 to pixels of the picture."""

    def row(n: int) -> Value:
        a, b, c = (p.slice(matrix, starts=(n, k), sizes=(1, 1), steps=(1, 1)) for k in range(3))
        return p.add(p.add(p.mul(a, u), p.mul(b, v)), c)

    return row(0), row(1)


def _at(vector: Value, n: int) -> Value:
    return p.reshape(p.slice(vector, starts=(n,), sizes=(1,), steps=(1,)), shape=(1, 1))


def _middles(rows: int, columns: int) -> tuple[Value, Value]:
    u = (np.arange(columns, dtype=np.float32) + 0.5).reshape(1, -1)
    v = (np.arange(rows, dtype=np.float32) + 0.5).reshape(-1, 1)
    return const(u), const(v)


def _neighbours(x: Value, size: Value, border: Border) -> list[tuple[Value, Value]]:
    """(index, weight) of the two pixels on either side; no index is outside the window."""
    low = p.floor(x)
    share = p.sub(x, low)
    found = []
    for place, weight in ((low, p.sub(const(np.float32(1)), share)), (p.add(low, 1.0), share)):
        nearest = p.minimum(p.maximum(place, 0.0), p.sub(size, 1.0))
        if border == "zero":
            weight = p.mul(weight, p.cast(p.eq(place, nearest), to=F32))
        found.append((nearest, weight))
    return found


class Window:
    """Memory for the pixels of one region, used again for the next."""

    def __init__(self) -> None:
        self._pixels = np.zeros((CAPACITY, 3), np.uint8)

    def feeds(self, picture: np.ndarray, matrix: np.ndarray, sampling: Sampling) -> dict:
        """What a program takes, to see the region of a matrix in u8[height, width, 3].

        Valid until the next call. Only what the region covers is copied; where that is more than
        CAPACITY pixels, means of step x step of them are.
        """
        left, top, right, bottom = _covered(picture, matrix, sampling)
        part, step = picture[top:bottom, left:right], 1
        while ceil(part.shape[0] / step) * ceil(part.shape[1] / step) > CAPACITY:
            step += 1
        if step > 1:
            part = shrunk(part, step)
        rows, columns = part.shape[:2]
        np.copyto(self._pixels[: rows * columns].reshape(rows, columns, 3), part)
        window = np.array([rows, columns, left, top, step], np.float32)
        return {"pixels": self._pixels, "window": window, "matrix": matrix}


def _covered(
    picture: np.ndarray, matrix: np.ndarray, sampling: Sampling
) -> tuple[int, int, int, int]:
    """left, top, right, bottom of all pixels that samples of the region read; at least one."""
    u, v = sampling.columns, sampling.rows
    corners = np.array([[0, 0, 1], [u, 0, 1], [0, v, 1], [u, v, 1]]) @ matrix.T.astype(np.float64)
    size = np.array([picture.shape[1], picture.shape[0]])
    low = np.clip(np.floor(corners.min(0)) - 1, 0, size - 1).astype(int)
    high = np.clip(np.ceil(corners.max(0)) + 1, low + 1, size).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def shrunk(pixels: np.ndarray, step: int) -> np.ndarray:
    """u8[ceil(h / step), ceil(w / step), 3]: means of step x step pixels, the last of fewer."""
    height, width = pixels.shape[:2]
    rows, columns = ceil(height / step), ceil(width / step)
    edges = ((0, rows * step - height), (0, columns * step - width), (0, 0))
    padded = np.pad(pixels, edges, mode="edge") if any(after for _, after in edges) else pixels
    total = np.zeros((rows, columns, 3), np.uint32)
    for row in range(step):
        for column in range(step):
            total += padded[row::step, column::step]
    return ((total + step * step // 2) // (step * step)).astype(np.uint8)
