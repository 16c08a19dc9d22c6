"""What makes generated code fast, checked in its text: never a time, so never a flaky one.

The inner loop of every contraction must be multiply-adds and their loads, without spills, branches
or guards; its text must stay short enough to compile soon; and the choice among schedules must see
what a register tile, a cache and a stride cost.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from brim.kernels.cost import predict
from brim.kernels.ir import Kernel, Schedule
from brim.kernels.pack import pack
from brim.kernels.schedule import candidates, choose
from brim.targets.llvm import emit
from brim.targets.objects import assembly
from brim.targets.target import TARGETS, Target
from tests import kernels_library as lib

WIDE, NARROW = TARGETS["x86-64-v4"], TARGETS["x86-64-v3"]

CONTRACTIONS = {
    "conv 3x3 64, padded": lambda: lib.convolution(56, 56, 64, 64),
    "conv 3x3 512 on 7x7, padded": lambda: lib.convolution(7, 7, 512, 512),
    "conv 1x1 24-144": lambda: lib.convolution(56, 56, 24, 144, size=1),
    "conv 1x1 160-960": lambda: lib.convolution(7, 7, 160, 960, size=1),
    "conv 3x3 stride 2": lambda: lib.convolution(28, 28, 128, 128, stride=2),
    "matmul 128x384x1536": lambda: lib.matmul(128, 1536, 384),
    "matmul 128x384x1536, gelu": lambda: lib.matmul_gelu(128, 1536, 384),
    "matmul with prime extents": lambda: lib.matmul(127, 193, 211),
}


def hottest(kernel: Kernel, target: Target) -> list[str]:
    """The loop of the largest register tile that the chosen schedule gives."""
    schedule, _ = choose(kernel, target)
    loops: list[list[str]] = [[]]
    label, block = "", []
    for line in assembly(emit(pack(kernel, schedule)[0], schedule, target), target).splitlines():
        if found := re.match(r"(\.LBB\d+_\d+):", line):
            label, block = found[1], []
        elif line.startswith("\t") and not line.startswith("\t."):
            block.append(line.strip())
            if line.startswith("\tj"):
                if label and line.endswith(label):
                    loops.append(block)
                label, block = "", []
    return max(loops, key=lambda loop: len(accumulators(loop)))


def accumulators(loop: list[str]) -> set[str]:
    """The registers that vector multiply-adds sum into."""
    return {line.rsplit(",", 1)[1] for line in loop if is_product(line)}


def is_product(line: str) -> bool:
    return bool(re.match(r"vfmadd\d+ps", line))


@pytest.mark.parametrize("target", [WIDE, NARROW], ids=lambda target: target.name)
@pytest.mark.parametrize("name", CONTRACTIONS)
def test_inner_loop_is_multiply_adds(name: str, target: Target) -> None:
    loop = hottest(CONTRACTIONS[name](), target)
    products = [line for line in loop if is_product(line)]
    assert len(accumulators(loop)) >= 8, "too few to hide the latency"
    assert len(products) >= 0.45 * len(loop), "\n".join(loop)
    assert not [line for line in loop if "(%rsp)" in line], "spills"
    assert not [line for line in loop if line.startswith(("cmov", "vcmp", "vblend"))], "guards"


def test_the_next_rows_are_asked_for() -> None:
    """A tile's rows share pages, where no stream is seen: they come late unless asked for."""
    for shape in ((784, 256, 256), (3136, 64, 128), (128, 384, 1536)):
        loop = hottest(lib.matmul(*shape), WIDE)
        asked = [line for line in loop if line.startswith("prefetch")]
        assert 1 <= len(asked) <= 2, "\n".join(loop)
    one_row = hottest(lib.matmul(1, 1024, 1024), WIDE)  # weights are a stream anyway
    assert not [line for line in one_row if line.startswith("prefetch")]


@pytest.mark.parametrize("name", CONTRACTIONS)
def test_whole_vectors(name: str) -> None:
    assert any("%zmm" in line for line in hottest(CONTRACTIONS[name](), WIDE))
    assert any("%ymm" in line for line in hottest(CONTRACTIONS[name](), NARROW))


@pytest.mark.parametrize("name", [n for n, _ in lib.library()])
def test_text_stays_short(name: str) -> None:
    kernel = dict(lib.library())[name]
    for target in (WIDE, NARROW, TARGETS["cortex-a76"]):
        schedule, _ = choose(kernel, target)
        assert emit(pack(kernel, schedule)[0], schedule, target).count("\n") < 4000


@pytest.mark.parametrize("name", CONTRACTIONS)
def test_few_candidates(name: str) -> None:
    assert 4 <= len(candidates(CONTRACTIONS[name](), WIDE)) <= 80


def test_price_sees_tiles_and_lanes() -> None:
    kernel = lib.matmul(128, 512, 512)
    whole = Schedule(("m", "n"), "n", 16, (("m", 8), ("n", 2)))
    for worse in (
        replace(whole, tile=()),  # one accumulator: loads bound it
        replace(whole, tile=(("m", 24), ("n", 4))),  # far more accumulators than registers
        replace(whole, lanes=4),
        Schedule(("m", "n"), None, 1),
    ):
        assert predict(kernel, worse, WIDE) > 1.3 * predict(kernel, whole, WIDE), worse


def test_price_sees_competing_cache_lines() -> None:
    """14 rows 4096 bytes apart do not fit 8 ways; measured: 76 % of the speed of 7 rows."""
    fits, competes = lib.convolution(14, 14, 1000, 256, 1), lib.convolution(14, 14, 1024, 256, 1)
    tall = Schedule(("o", "h", "w"), "o", 16, (("w", 14), ("o", 2)))
    assert predict(competes, tall, WIDE) > 1.2 * predict(fits, tall, WIDE)


@pytest.mark.parametrize(("vector", "other"), [("b", "c"), ("c", "b")])
def test_price_sees_squares(vector: str, other: str) -> None:
    """Lanes that are picked (b) or scattered (c) one by one cost more than rows of a square."""
    kernel = lib.transpose(1, 512, 512)
    square = Schedule(("a", vector, other), vector, 16, ((other, 16),))
    assert predict(kernel, replace(square, tile=()), WIDE) > 1.3 * predict(kernel, square, WIDE)


def test_long_expressions_are_not_repeated() -> None:
    """A tile of a softmax or gelu would repeat its exponential without making it faster."""
    for kernel in (lib.softmax(512, 256), lib.gelu(10000)):
        schedule, _ = choose(kernel, WIDE)
        cells = 1
        for _, count in schedule.tile:
            cells *= count
        assert cells <= 4
