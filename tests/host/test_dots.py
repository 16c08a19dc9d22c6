"""Code with dot instructions, on every processor that this one can be, against the interpreter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brim.kernels.dots import paired
from brim.kernels.interpret import interpret
from brim.kernels.ir import Kernel, Schedule
from brim.kernels.pack import pack
from brim.kernels.schedule import candidates, choose
from brim.kernels.text import print_kernel, print_schedule
from brim.targets.llvm import emit
from brim.targets.objects import assembly
from brim.targets.target import TARGETS, Target, host
from brim.types import I8, I16, U8, DType
from tests import kernels_library as lib
from tests.host.test_kernels import call

SIZES = {"x86-64-v2": 16, "x86-64-v3": 32, "x86-64-v4": 64}
ROWS = [host()]
if host().architecture == "x86_64":
    ROWS += [TARGETS[name] for name, size in SIZES.items() if size <= host().vector_bytes]
EXTENT = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 31, 33])


def agrees(
    kernel: Kernel,
    schedule: Schedule,
    target: Target,
    data: dict[str, np.ndarray] | None = None,
) -> None:
    data = data or lib.buffers_for(kernel, np.random.default_rng(0))
    wanted = {name: array.copy() for name, array in data.items()}
    interpret(kernel, wanted)
    packed, stored = lib.packed(kernel, schedule, data)
    got, _ = call(packed, schedule, stored, target)
    where = f"{target.name}\n{print_kernel(packed)}{print_schedule(schedule)}"
    np.testing.assert_array_equal(got["y"], wanted["y"], where)


@pytest.mark.parametrize("target", ROWS, ids=lambda target: target.name)
@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    c=EXTENT,
    o=EXTENT,
    size=st.sampled_from([1, 3]),
    stride=st.integers(1, 2),
    zero=st.sampled_from([0, 1, 127]),
    dtypes=st.sampled_from([(I8, I8), (U8, I8), (I8, I16), (U8, U8), (I16, I8)]),
    draw=st.data(),
)
def test_convolutions(
    target: Target,
    c: int,
    o: int,
    size: int,
    stride: int,
    zero: int,
    dtypes: tuple[DType, DType],
    draw: st.DataObject,
) -> None:
    dtype, weights = dtypes
    kernel = lib.quantized_convolution(
        5, 7, c, o, size, stride, zero=zero, dtype=dtype, weights=weights
    )
    found = candidates(kernel, target)
    for _ in range(2):
        agrees(kernel, draw.draw(st.sampled_from(found)), target)


@pytest.mark.parametrize("target", ROWS, ids=lambda target: target.name)
@settings(deadline=None, max_examples=8, suppress_health_check=list(HealthCheck))
@given(
    c=EXTENT,
    o=EXTENT,
    size=st.sampled_from([1, 3]),
    dtype=st.sampled_from([I8, U8]),
    limit=st.sampled_from([64, 80, 128]),
    draw=st.data(),
)
def test_pairs(
    target: Target, c: int, o: int, size: int, dtype: DType, limit: int, draw: st.DataObject
) -> None:
    """Sums of two products as large as 16 bits take, and some that do not fit: both are exact."""
    plain = lib.quantized_convolution(5, 7, c, o, size, dtype=dtype)
    data = lib.buffers_for(plain, np.random.default_rng(0))
    random, info = np.random.default_rng(1), np.iinfo(dtype.numpy)
    signs = np.where(random.random(size * size * o) < 0.5, 1, -1).reshape(-1, 1, o)
    first = random.integers(128 - limit, limit, (size * size, -(-c // 2), o), endpoint=True)
    pairs = np.stack([first, 128 - first], 2).reshape(size * size, -1, o)[:, :c] * signs
    data["k"] = np.clip(pairs, -128, 127).astype(np.int8).reshape(-1)
    data["x"] = random.choice(np.array([info.min, info.max], dtype.numpy), data["x"].size)
    data["f"][:] = 2.0**-10
    kernel = paired(plain, {"k": data["k"]})
    assert kernel.buffers["k"].paired
    agrees(kernel, draw.draw(st.sampled_from(candidates(kernel, target))), target, data)
    data["k"] = np.maximum(data["k"], -127) + np.sign(data["k"]) * (data["k"] < 127)
    kernel = paired(plain, {"k": data["k"]})
    assert kernel.buffers["k"].paired == (c == 1)
    agrees(kernel, draw.draw(st.sampled_from(candidates(kernel, target))), target, data)


@pytest.mark.parametrize("target", ROWS, ids=lambda target: target.name)
@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    channels=st.sampled_from([1, 2, 3, 4, 8, 12, 15, 16, 24, 31, 32, 33, 48, 64, 72, 100, 112]),
    size=st.integers(1, 6),
    stride=st.integers(1, 2),
    zero=st.sampled_from([0, 1, 127]),
    dtypes=st.sampled_from([(U8, I8), (U8, I8), (I8, I8), (I8, I16), (U8, U8), (I16, I8)]),
    draw=st.data(),
)
def test_depthwise_convolutions(
    target: Target,
    channels: int,
    size: int,
    stride: int,
    zero: int,
    dtypes: tuple[DType, DType],
    draw: st.DataObject,
) -> None:
    dtype, weights = dtypes
    kernel = lib.quantized_depthwise(
        6, 7, channels, size, stride, zero=zero, dtype=dtype, weights=weights
    )
    found = candidates(kernel, target)
    for _ in range(2):
        agrees(kernel, draw.draw(st.sampled_from(found)), target)


@pytest.mark.parametrize("target", ROWS, ids=lambda target: target.name)
def test_every_candidate_gives_the_same(target: Target) -> None:
    for kernel in (
        lib.quantized_convolution(5, 6, 6, 21),
        lib.quantized_convolution(3, 4, 50, 40, 1, dtype=U8),
        lib.quantized_convolution(4, 3, 10, 20, dtype=I16, weights=I16),
        lib.quantized_depthwise(5, 6, 88),
    ):
        data = lib.buffers_for(kernel, np.random.default_rng(0))
        data["k"] >>= 1 if kernel.buffers["k"].dtype == I8 else 8  # sums of 16 bits fit i32
        known = paired(kernel, {"k": data["k"]})
        for schedule in (*candidates(kernel, target)[::5], *candidates(known, target)[::5]):
            agrees(known, schedule, target, data)


def test_extremes_do_not_saturate() -> None:
    """-128 * -128 and 255 * -128 in every lane, often enough to leave 24 bits."""
    for dtype, value in ((I8, -128), (U8, 255)):
        kernel = lib.quantized_convolution(1, 1, 2000, 17, 1, dtype=dtype)
        data = lib.buffers_for(kernel, np.random.default_rng(0))
        data["x"][:], data["k"][:], data["f"][:] = value, -128, 2.0**-20
        wanted = {name: array.copy() for name, array in data.items()}
        interpret(kernel, wanted)
        for target in ROWS:
            schedule = candidates(kernel, target)[0]
            packed, stored = lib.packed(kernel, schedule, data)
            got, _ = call(packed, schedule, stored, target)
            np.testing.assert_array_equal(got["y"], wanted["y"])


@pytest.mark.parametrize(
    ("row", "features", "instruction"),
    [
        ("x86-64-v4", "+avx512vnni", "vpdpbusd\t%zmm"),
        ("x86-64-v3", "+avxvnni", "{vex}\tvpdpbusd\t%ymm"),
        ("x86-64-v3", "", "vpmaddwd"),
        ("x86-64-v3", " paired", "vpmaddubsw"),
        ("x86-64-v3", "+avxvnni words", "{vex}\tvpdpwssd\t%ymm"),
        ("x86-64-v2", "", "pmaddwd"),
        ("cortex-a76", "+dotprod", "sdot\tv"),
        ("wasm32", "+simd128", "i32x4.dot_i16x8_s"),
    ],
)
def test_the_instruction_is_in_the_code(row: str, features: str, instruction: str) -> None:
    features, _, kind = features.partition(" ")
    target = replace(TARGETS[row], features=features)
    dtype = I16 if kind == "words" else I8
    kernel = lib.quantized_convolution(9, 9, 32, 64, dtype=dtype, weights=dtype)
    if kind == "paired":
        kernel = paired(kernel, {"k": np.ones(9 * 32 * 64, np.int8)})
    schedule, _ = choose(kernel, target)
    text = assembly(emit(pack(kernel, schedule)[0], schedule, target), target)
    assert instruction in text


@pytest.mark.parametrize(
    ("row", "features", "instruction"),
    [
        ("x86-64-v4", "+avx512vnni", "vpdpbusd\t%zmm"),
        ("x86-64-v3", "+avxvnni", "{vex}\tvpdpbusd\t%ymm"),
        ("x86-64-v3", "", "vpmaddwd"),
        ("x86-64-v2", "", "pmaddwd"),
        ("cortex-a76", "+dotprod", "sdot\tv"),
        ("cortex-a76", "+dotprod,+i8mm", "usdot\tv"),
        ("wasm32", "+simd128", "i32x4.dot_i16x8_s"),
    ],
)
def test_depthwise_layers_have_it_too(row: str, features: str, instruction: str) -> None:
    target = replace(TARGETS[row], features=features)
    kernel = lib.quantized_depthwise(9, 9, 64)
    schedule, _ = choose(kernel, target)
    text = assembly(emit(pack(kernel, schedule)[0], schedule, target), target)
    assert instruction in text
    assert "vpinsr" not in text  # whole rows are loaded
