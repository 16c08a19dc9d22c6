"""Bytes that kernels move: as many as counting every single access finds."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brim.kernels.footprint import footprint
from brim.kernels.ir import Arg, At, Gather, Kernel, Stage, subexpressions
from brim.types import F32, I8, I64
from tests import kernels_library as library


def addresses(at: At, stage: Stage, kernel: Kernel) -> set[int]:
    """Every element that an access can lead to, point by point, within its buffer."""
    axes = (*kernel.outer, *stage.axes)
    found = set()
    for point in itertools.product(*(range(kernel.sizes[a]) for a in axes)):
        where = dict(zip(axes, point))
        place = at.index.offset
        for term in at.index.terms:
            at_axis = where.get(term.axis, 0)
            block = term.block
            place += (
                at_axis // block * term.outer + at_axis % block * term.stride
                if block
                else at_axis * term.stride
            )
        if 0 <= place < kernel.buffers[at.buf].size:
            found.add(place)
    return found


def counted(kernel: Kernel) -> int:
    """Bytes of what is read but was not written before in the kernel, and of what is written."""
    read: dict[str, set[int]] = {}
    written: dict[str, set[int]] = {}
    for stage in kernel.stages:
        for part in subexpressions(stage.value):
            if isinstance(part, At) and part.buf not in written:
                read.setdefault(part.buf, set()).update(addresses(part, stage, kernel))
        for at in (stage.keep, stage.out):
            if at is not None:
                written.setdefault(at.buf, set()).update(addresses(at, stage, kernel))
    every = [*read.items(), *written.items()]
    return sum(len(places) * kernel.buffers[name].dtype.bytes for name, places in every)


KERNELS: dict[str, Callable[[], Kernel]] = {
    "matmul": lambda: library.matmul(7, 16, 9),
    "packed": lambda: library.matmul(7, 16, 9, block=8),
    "gelu": lambda: library.matmul_gelu(5, 8, 6),
    "transposed": lambda: library.matmul_transposed(5, 8, 6),
    "depthwise": lambda: library.depthwise(6, 5, 4),
    "max_pool": lambda: library.max_pool(6, 6, 4),
    "average_pool": lambda: library.average_pool(6, 6, 4),
    "softmax": lambda: library.softmax(5, 12),
    "columns": lambda: library.softmax(5, 12, columns=True),
    "layer_norm": lambda: library.layer_norm(5, 12),
    "total": lambda: library.total(9, 5),
    "broadcast": lambda: library.broadcast_add(4, 9),
    "transpose": lambda: library.transpose(3, 4, 5),
    "strided": lambda: library.strided(4, 6, 3),
    "reversed": lambda: library.strided(4, 6, 2, reverse=True),
    "spread": lambda: library.spread(6, 3),
    "concatenate": lambda: library.concatenate(4, 3, 5, 2),
    "bytes": lambda: library.quantized(4, 8, 12),
}


@pytest.mark.parametrize("name", KERNELS)
def test_every_element_counts_once(name: str) -> None:
    kernel = KERNELS[name]()
    assert footprint(kernel).total == counted(kernel)


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(-7, 12)), min_size=1, max_size=4),
    st.lists(st.integers(0, 9), min_size=1, max_size=2, unique=True),
)
def test_never_too_few(walks: list[tuple[int, int]], offsets: list[int]) -> None:
    """Any strides, any overlap: what is touched is never more than what is told."""
    base = sum(-stride * (extent - 1) for extent, stride in walks if stride < 0)
    size = base + sum(abs(stride) * (extent - 1) for extent, stride in walks) + 20
    axes = {f"x{i}": extent for i, (extent, _) in enumerate(walks)}
    strides = {f"x{i}": stride for i, (_, stride) in enumerate(walks) if stride}
    parts = [library.at("a", base + offset, **strides) for offset in offsets]
    value = parts[0] if len(parts) == 1 else library.do("add", *parts)
    total = int(np.prod(list(axes.values())))
    stage = Stage("s", (), value, out=library.at("y", **row_major(axes)))
    args = [Arg("a", F32, size), Arg("y", F32, total, "out")]
    kernel = library.kernel("walks", axes, " ".join(axes), [stage], args)
    assert footprint(kernel).total >= counted(kernel)


def row_major(axes: dict[str, int]) -> dict[str, int]:
    strides, step = {}, 1
    for axis in reversed(axes):
        strides[axis], step = step, step * axes[axis]
    return strides


def test_a_gather_moves_what_it_looks_up() -> None:
    """Rows of a table by number: as many as there are numbers, or all of a short table."""
    for rows, moved in ((1000, 6), (4, 4)):
        number = At("i", library.index(n=1))
        source = At("x", library.index(c=1), (Gather(number, 8, rows),))
        kernel = library.kernel(
            "gather",
            {"n": 6, "c": 8},
            "n c",
            [Stage("s", (), source, out=library.at("y", n=8, c=1))],
            [Arg("x", F32, rows * 8, "const"), Arg("i", I64, 6), Arg("y", F32, 48, "out")],
        )
        found = footprint(kernel)
        assert (found.read, found.weights, found.written) == (6 * 8, moved * 8 * 4, 48 * 4)


def test_weights_are_told_apart() -> None:
    found = footprint(library.matmul(7, 16, 9))
    assert (found.read, found.weights, found.written) == (7 * 9 * 4, 9 * 16 * 4, 7 * 16 * 4)
    assert footprint(library.quantized(4, 8, 12)).weights >= 8 * 12 * I8.bytes
