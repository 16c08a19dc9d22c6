"""Dot instructions: which reductions they take, and what packing makes of their constants."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brim.errors import InputError
from brim.kernels.cost import predict
from brim.kernels.dots import DOTS, dot_of, find_dot, is_paired, paired
from brim.kernels.interpret import interpret
from brim.kernels.ir import Kernel, Schedule
from brim.kernels.pack import Packing, pack
from brim.kernels.schedule import candidates, choose
from brim.kernels.text import parse_kernel, parse_schedule, print_kernel, print_schedule
from brim.targets.target import TARGETS, Target
from brim.types import F32, I8, I16, I32, U8, U16, DType
from tests import kernels_library as lib

VNNI = replace(TARGETS["x86-64-v4"], features="+avx512vnni")
I8MM = replace(TARGETS["cortex-a76"], features="+dotprod,+i8mm")
BYTES = st.sampled_from([I8, U8])


@pytest.mark.parametrize(
    ("target", "dtype", "weights", "name"),
    [
        (VNNI, I8, I8, "vpdpbusd"),
        (VNNI, U8, I8, "vpdpbusd"),
        (VNNI, I8, I16, "vpdpwssd"),
        (VNNI, U8, U8, "pmaddwd_bytes"),
        (VNNI, I16, I8, "vpdpwssd"),
        (VNNI, I16, I16, "vpdpwssd"),
        (replace(TARGETS["x86-64-v3"], features="+sse2,+avxvnni"), I8, I8, "vpdpbusd"),
        (TARGETS["x86-64-v3"], I8, I8, "pmaddwd_bytes"),
        (TARGETS["x86-64-v3"], I16, I16, "pmaddwd"),
        (TARGETS["x86-64-v2"], U8, I8, "pmaddwd_bytes"),
        (TARGETS["cortex-a76"], I8, I8, "sdot"),
        (TARGETS["cortex-a76"], U8, I8, "sdot"),
        (I8MM, U8, I8, "usdot"),
        (I8MM, I8, I8, "sdot"),
        (TARGETS["wasm32"], I8, I8, "dot_i16x8"),
        (TARGETS["cortex-a76"], I8, I16, None),
        (TARGETS["cortex-a53"], I8, I8, None),
        (TARGETS["riscv64"], I8, I8, None),
        (VNNI, U16, I8, None),
        (VNNI, I8, I32, None),
    ],
)
def test_what_a_target_has(target: Target, dtype: DType, weights: DType, name: str | None) -> None:
    kernel = lib.quantized_convolution(7, 6, 5, 40, dtype=dtype, weights=weights, zero=1)
    assert find_dot(kernel, "o", target) == (name and ("c", name))
    assert choose(kernel, target)[0].dot == (name and ("c", name))
    kernel = lib.quantized_depthwise(7, 6, 40, dtype=dtype, weights=weights, zero=1)
    if name == "pmaddwd_bytes":  # bytes of rows are words as soon as they are interleaved
        name = "vpdpwssd" if target is VNNI else "pmaddwd"
    assert find_dot(kernel, "o", target) == (name and ("i", name))


def test_only_sums_of_products_of_short_integers() -> None:
    for name, kernel in lib.library():
        dots = {schedule.dot for schedule in candidates(kernel, VNNI)}
        assert (dots == {None}) != name.startswith("quantized"), name
    real = lib.convolution(7, 6, 5, 40)
    assert find_dot(real, "o", VNNI) is None and real.buffers["x"].dtype == F32


def test_it_is_priced() -> None:
    """Four products at once are about four times as fast where nothing else counts."""
    kernel = lib.quantized_convolution(14, 14, 256, 256)
    schedule = choose(kernel, VNNI)[0]
    plain = predict(kernel, replace(schedule, dot=None), VNNI)
    assert 3 < plain / predict(kernel, schedule, VNNI) < 12


def test_weights_are_padded_little() -> None:
    """160 outputs in blocks of 64 would take 192: where 32 or 80 are as fast, these are taken."""
    for target in (VNNI, TARGETS["x86-64-v3"]):
        schedule = choose(lib.quantized_convolution(7, 7, 960, 160, 1), target)[0]
        assert -160 % schedule.step("o") <= 8, schedule


def test_what_proves_more_is_faster() -> None:
    kernel = lib.quantized_convolution(14, 14, 256, 256, 1)
    target = TARGETS["x86-64-v3"]
    known = paired(kernel, {"k": np.ones(1 << 16, np.int8)})
    assert 1.3 < choose(kernel, target)[1][0][0] / choose(known, target)[1][0][0] < 2


def test_text() -> None:
    for dot in (None, ("c", "sdot")):
        schedule = Schedule(("h", "o"), "o", 4, (("o", 2),), ("i",), dot)
        assert parse_schedule(print_schedule(schedule)) == schedule


# ------------------------------------------------------------------ pairs


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(1, 5), st.integers(1, 128), st.randoms())
def test_pairs_fit_sixteen_bits(depth: int, columns: int, largest: int, random: Random) -> None:
    """By all of the worst inputs: each is 0 or 255."""
    numbers = [random.randint(-largest, min(largest, 127)) for _ in range(columns * depth)]
    weights = np.array(numbers, np.int8).reshape(columns, depth)
    padded = np.pad(weights.astype(int), ((0, 0), (0, depth % 2))).reshape(columns, -1, 2)
    inputs = np.array([(0, 0), (0, 255), (255, 0), (255, 255)])
    sums = np.einsum("ckp,ip->cki", padded, inputs)
    assert is_paired(weights) == bool(sums.min() >= -(1 << 15) and sums.max() < 1 << 15)


def test_pairs_lie_along_the_axis_of_the_instruction() -> None:
    """Large weights of one output beside each other, or of two outputs."""
    kernel = lib.quantized_convolution(4, 4, 6, 5)
    for large, wanted in ((slice(0, 6, 2), True), (slice(1, 3), True), (slice(2, 4), False)):
        weights = np.zeros(270, np.int8)
        weights.reshape(9, 6, 5)[4, large] = 120
        assert paired(kernel, {"k": weights}).buffers["k"].paired == wanted
    known = paired(kernel, {"k": np.zeros(270, np.int8)})
    assert find_dot(known, "o", TARGETS["x86-64-v3"]) == ("c", "pmaddubsw")
    assert find_dot(known, "o", VNNI) == ("c", "vpdpbusd")
    assert parse_kernel(print_kernel(known)) == known
    assert paired(lib.convolution(4, 4, 6, 5), {}) == lib.convolution(4, 4, 6, 5)
    with pytest.raises(InputError, match="buffer k of kernel quantized_conv is not paired"):
        results(known, {**lib.buffers_for(known, np.random.default_rng(0)), "k": weights})


# ------------------------------------------------------------------ packing


def results(kernel: Kernel, data: dict[str, np.ndarray]) -> np.ndarray:
    buffers = {name: array.copy() for name, array in data.items()}
    interpret(kernel, buffers)
    return buffers["y"]


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 19), st.sampled_from([1, 3]), BYTES, st.data())
def test_packed_kernels_mean_the_same(
    c: int, o: int, size: int, dtype: DType, draw: st.DataObject
) -> None:
    kernel = lib.quantized_convolution(4, 3, c, o, size, dtype=dtype, zero=5)
    target = draw.draw(st.sampled_from([VNNI, TARGETS["x86-64-v2"], TARGETS["cortex-a76"]]))
    schedule = draw.draw(st.sampled_from(candidates(kernel, target)))
    data = lib.buffers_for(kernel, np.random.default_rng(0))
    found, packed = lib.packed(kernel, schedule, data)
    np.testing.assert_array_equal(results(found, packed), results(kernel, data))


@settings(deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 12),
    st.sampled_from([1, 2, 4]), st.sampled_from([0, 128, -128]),
)  # fmt: skip
def test_groups_and_sums_and_back(
    lead: int, depth: int, columns: int, block: int, group: int, shift: int
) -> None:
    source = np.random.default_rng(0).integers(-128, 128, lead * depth * columns).astype(np.int8)
    axes = ((lead, depth * columns), (depth, columns))
    packing = Packing(axes, 1, columns, 1, block, 0, group, shift)
    packed = packing.pack(source)
    assert packed.size == packing.size and packed.dtype == np.int8
    np.testing.assert_array_equal(packing.unpack(packed), source)
    if shift:
        blocks = packed.reshape(lead, -1, packing.shape[-1])[..., : 4 * block]
        starts = np.ascontiguousarray(blocks).view(np.int32).reshape(lead, -1)[:, :columns]
        sums = source.reshape(lead, depth, columns).sum(1, np.int32)
        np.testing.assert_array_equal(starts, -shift * sums)


def test_what_a_kernel_reads_is_found_again() -> None:
    """The operands and the shift are those of the kernel before packing, whose constant moved."""
    for dtype, shift in ((I8, 128), (U8, 0)):
        kernel = lib.quantized_convolution(4, 3, 6, 5, dtype=dtype)
        schedule = choose(kernel, VNNI)[0]
        before, after = dot_of(kernel, schedule), dot_of(pack(kernel, schedule)[0], schedule)
        assert before is not None and after is not None
        assert (before.shared, before.shift) == (after.shared, after.shift)
        assert after.shift == shift and after.dot is DOTS["vpdpbusd"]
