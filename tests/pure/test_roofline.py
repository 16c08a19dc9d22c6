"""Roofs: arithmetic and bytes by hand, for kernels that are easily counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from brim.kernels.cost import memory_share, predict
from brim.kernels.ir import Schedule
from brim.kernels.roofline import peak_of, roof_of
from brim.kernels.schedule import choose
from brim.targets.target import TARGETS
from brim.types import F32, F64, I32
from tests import kernels_library as library

ROW = replace(
    TARGETS["x86-64-v4"], ghz=2.0, fma_issue=1.0, caches=(1000, 10_000, 0), bandwidth=(8, 4, 2, 1)
)


def test_arithmetic_at_the_peak() -> None:
    """Sixteen lanes that multiply and add: 64 GFLOP/s at 2 GHz."""
    kernel = library.matmul(8, 16, 4)
    roof = roof_of(kernel, Schedule(("m", "n")), ROW)
    assert roof.peak == 2e9 * 16 * 2 == ROW.peak_flops
    assert roof.flops == 8 * 16 * 4 * 2
    assert roof.arithmetic_seconds == pytest.approx(roof.flops / 64e9)


def test_bytes_come_from_where_all_of_them_fit() -> None:
    for size, level, speed in ((4, 1, 8), (32, 2, 4), (2000, 4, 1)):
        kernel = library.matmul(size, 16, 4)
        roof = roof_of(kernel, Schedule(("m", "n")), ROW)
        moved = 4 * (size * 4 + 4 * 16 + size * 16)
        assert (roof.bytes.total, roof.level) == (moved, level)
        assert roof.bandwidth == speed * 2e9
        assert roof.memory_seconds == pytest.approx(moved / (speed * 2e9))


def test_the_lower_roof_counts() -> None:
    large, small = library.matmul(8, 16, 4000), library.matmul(4, 16, 1)
    schedule = Schedule(("m", "n"))
    roofs = [roof_of(kernel, schedule, ROW) for kernel in (large, small)]
    for roof in roofs:
        assert roof.seconds == max(roof.arithmetic_seconds, roof.memory_seconds)
        assert roof.is_memory == (roof.memory_seconds > roof.arithmetic_seconds)
        assert (roof.name != "arithmetic") == roof.is_memory
    moving = roof_of(library.transpose(3, 4, 5), Schedule(("a", "b", "c")), ROW)
    assert moving.flops == moving.intensity == 0
    assert moving.is_memory


def test_elements_and_instructions_have_peaks_of_their_own() -> None:
    kernels = [library.matmul(8, 16, 4, dtype=dtype) for dtype in (F32, F64, I32)]
    single, double, whole = (peak_of(kernel, Schedule(("m", "n")), ROW) for kernel in kernels)
    assert single == 2 * double == 2 * whole  # integers multiply and add one after the other
    vnni = replace(ROW, features="+avx512vnni")
    kernel = library.quantized(64, 64, 64)
    schedule, _ = choose(kernel, vnni)
    assert schedule.dot is not None
    assert peak_of(kernel, schedule, vnni) > 3 * single


@pytest.mark.parametrize("name", TARGETS)
def test_the_price_has_two_parts(name: str) -> None:
    """Its share for memory is a share, and grows where memory is slow."""
    row = TARGETS[name]
    kernel = library.matmul(64, 512, 512)
    schedule, _ = choose(kernel, row)
    share = memory_share(kernel, schedule, row)
    slow = replace(row, bandwidth=tuple(b / 50 for b in row.bandwidth))  # type: ignore[arg-type]
    assert 0 <= share < memory_share(kernel, schedule, slow) < 1
    assert predict(kernel, schedule, slow) > predict(kernel, schedule, row)
