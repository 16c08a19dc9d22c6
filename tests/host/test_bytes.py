"""Bytes on every processor that this one can be, against the interpreter: epilogues that round,
tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import brim
import brim.ops.math as m
import brim.ops.primitive as p
import brim.ops.quantized as q
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.kernels.interpret import interpret
from brim.kernels.ir import Kernel
from brim.kernels.pack import pack
from brim.kernels.schedule import candidates, choose
from brim.kernels.text import print_kernel, print_schedule
from brim.ops import nn
from brim.passes.expand import expand
from brim.passes.simplify import simplify
from brim.targets.llvm import emit
from brim.targets.objects import assembly
from brim.targets.target import TARGETS, Target
from brim.types import I8, I32, U8, DType, Type
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


@pytest.mark.parametrize("target", ROWS, ids=lambda target: target.name)
@settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
@given(columns=st.integers(1, 140), dtype=st.sampled_from([U8, I8]), draw=st.data())
def test_every_byte_is_looked_up(
    target: Target, columns: int, dtype: DType, draw: st.DataObject
) -> None:
    kernel = lib.byte_table(4, columns, dtype)
    data = lib.buffers_for(kernel, np.random.default_rng(columns))
    data["x"] = np.resize(np.random.default_rng(0).permutation(256), 4 * columns).astype(np.uint8)
    agrees(kernel, data, target, draw)


@pytest.mark.parametrize(
    ("row", "features", "instruction"),
    [
        ("x86-64-v2", "", "pshufb"),
        ("x86-64-v3", "", "vpshufb\t%ymm"),
        ("x86-64-v4", "+avx512vbmi", "vpermi2b\t%zmm"),
        ("cortex-a53", "", "tbx\t"),
        ("wasm32", "+simd128", "i8x16.swizzle"),
    ],
)
def test_tables_lie_in_registers(row: str, features: str, instruction: str) -> None:
    target = replace(TARGETS[row], features=features)
    kernel = lib.byte_table(8, 512)
    schedule, _ = choose(kernel, target)
    text = assembly(emit(kernel, schedule, target), target)
    assert instruction in text.replace("vpermt2b", "vpermi2b").replace("tbx.16b", "tbx")


def network(seed: int, size: int, channels: int) -> Graph:
    """Bytes: depthwise and dense products, a sum of two scales, a pool, a table, means."""
    rng = np.random.default_rng(seed)

    def layer(x: Value, weights: tuple[int, ...], zero: int, **attrs: Any) -> Value:
        w = const(rng.integers(-127, 128, weights).astype(np.int8))
        pad = (weights[0] // 2,) * 2
        total = q.conv_i32(x, w, zero=zero, dilation=(1, 1), low=pad, high=pad, **attrs)
        total = p.add(total, const(rng.integers(-3000, 3000, weights[-1]).astype(np.int32)))
        scale = const(rng.uniform(1e-4, 4e-3, weights[-1]).astype(np.float32))
        return q.requantize(total, scale, const(np.uint8(zero)), (zero, 255) if zero < 90 else None)

    def real(x: Value, scale: float, zero: int) -> Value:
        return q.dequantize(x, const(np.float32(scale)), const(np.uint8(zero)))

    def stored(x: Value, scale: float, zero: int) -> Value:
        return q.quantize(x, const(np.float32(scale)), const(np.uint8(zero)))

    x = placeholder(Type((1, size, size, channels), U8))
    small = layer(x, (3, 3, 1, channels), 100, stride=(1, 1), groups=channels)
    wide = layer(small, (1, 1, channels, 2 * channels), 7, stride=(1, 1), groups=1)
    large = layer(wide, (5, 5, 1, 2 * channels), 0, stride=(2, 2), groups=2 * channels)
    back = layer(large, (1, 1, 2 * channels, channels), 120, stride=(1, 1), groups=1)
    pooled = nn.max_pool(
        small, size=(3, 3), stride=(2, 2), dilation=(1, 1), low=(1, 1), high=(1, 1)
    )
    added = stored(p.add(real(back, 0.05, 120), real(pooled, 0.03, 100)), 0.07, 90)
    bent = stored(m.sigmoid(real(added, 0.07, 90)), 0.004, 0)
    mean = p.reduce(p.cast(bent, to=I32), op="add", axes=(1, 2))
    last = q.requantize(mean, const(np.float32(0.03)), const(np.uint8(3)))
    return Graph({"x": x}, {"added": added, "bent": bent, "mean": last})


@pytest.mark.parametrize("channels", [8, 24, 33])
def test_networks_give_the_same_bits_everywhere(channels: int) -> None:
    graph = network(channels, 11, channels)
    x = np.random.default_rng(1).integers(0, 256, (1, 11, 11, channels)).astype(np.uint8)
    wanted = evaluate(simplify(expand(graph)), {"x": x})
    assert all(len(np.unique(array)) > 4 for array in wanted.values())
    for target in ROWS:
        got = brim.compile(graph, target=target.name).run({"x": x})
        for name, array in wanted.items():
            np.testing.assert_array_equal(got[name], array, f"{name} on {target.name}")
