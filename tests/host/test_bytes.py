"""Bytes on every processor that this one can be, against the interpreter: epilogues that round."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brim.kernels.interpret import interpret
from brim.kernels.ir import Kernel
from brim.kernels.pack import pack
from brim.kernels.schedule import candidates, choose
from brim.kernels.text import print_kernel, print_schedule
from brim.targets.llvm import emit
from brim.targets.objects import assembly
from brim.targets.target import TARGETS, Target
from brim.types import I8, U8, DType
from tests import kernels_library as lib
from tests.host.test_dots import ROWS
from tests.host.test_kernels import call

BITS = st.sampled_from(["nan", "inf", "-inf", "0.5", "-0.5", "1.5", "2.5", "-0.0", "3e9", "-3e9"])
NUMBERS = st.one_of(BITS.map(float), st.floats(-400, 400, width=32), st.floats(width=32))


def agrees(
    kernel: Kernel, data: dict[str, np.ndarray], target: Target, draw: st.DataObject
) -> None:
    wanted = {name: array.copy() for name, array in data.items()}
    interpret(kernel, wanted)
    schedule = draw.draw(st.sampled_from(candidates(kernel, target)))
    packed, packings = pack(kernel, schedule)
    stored = {**data, **{name: how.pack(data[name]) for name, how in packings.items()}}
    got, _ = call(packed, schedule, stored, target)
    where = f"{target.name}\n{print_kernel(packed)}{print_schedule(schedule)}"
    np.testing.assert_array_equal(got["y"], wanted["y"], where)


@pytest.mark.parametrize("target", ROWS, ids=lambda target: target.name)
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    columns=st.integers(1, 140),
    zero=st.integers(0, 255),
    ends=st.tuples(st.integers(0, 255), st.integers(0, 255)),
    dtype=st.sampled_from([U8, I8]),
    numbers=st.lists(NUMBERS, min_size=1, max_size=20),
    draw=st.data(),
)
def test_any_number_is_rounded_and_limited(
    target: Target,
    columns: int,
    zero: int,
    ends: tuple[int, int],
    dtype: DType,
    numbers: list[float],
    draw: st.DataObject,
) -> None:
    least = -128 if dtype == I8 else 0
    low, high = (least + end for end in sorted(ends))
    kernel = lib.rounded_to_bytes(3, columns, least + zero, (low, high), dtype)
    x = np.resize(np.array(numbers, np.float32), 3 * columns)
    data = {"x": x, "f": np.ones(columns, np.float32), "y": np.zeros(3 * columns, dtype.numpy)}
    agrees(kernel, data, target, draw)


@pytest.mark.parametrize("target", ROWS, ids=lambda target: target.name)
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    columns=st.integers(1, 140),
    zero=st.integers(0, 255),
    below=st.sampled_from([1, 1 << 61]),
    dtype=st.sampled_from([U8, I8]),
    draw=st.data(),
)
def test_what_is_known_of_constants_changes_nothing(
    target: Target, columns: int, zero: int, below: int, dtype: DType, draw: st.DataObject
) -> None:
    least = -128 if dtype == I8 else 0
    kernel = lib.rounded_to_bytes(3, columns, least + zero, (least, least + 255), dtype, below)
    data = lib.buffers_for(kernel, np.random.default_rng(columns))
    data["f"][::3] = np.float32(1 - 2.0**-24) * np.float32(below / 2 if below > 1 else 1)
    agrees(kernel, data, target, draw)


def test_nothing_is_limited_twice() -> None:
    """Where the numbers are known to be numbers, packing is all that limits them."""
    for below, clamps in ((1, False), (1 << 61, True)):
        kernel = lib.rounded_to_bytes(8, 512, 7, (0, 255), below=below)
        for row in ("x86-64-v3", "x86-64-v4"):
            schedule, _ = choose(kernel, TARGETS[row])
            text = assembly(emit(kernel, schedule, TARGETS[row]), TARGETS[row])
            assert "vpackuswb" in text and ("vmaxps" in text) == ("vminps" in text) == clamps
            assert clamps or ("vcmp" not in text and "vpaddd\t" not in text)
