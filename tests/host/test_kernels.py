"""Compiled kernels of every family, under many schedules, against the interpreter."""

from __future__ import annotations

import ctypes
import itertools
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import brim
from brim.graph import Graph, Value, evaluate, placeholder
from brim.kernels.interpret import interpret
from brim.kernels.ir import Kernel, Schedule, trips
from brim.kernels.schedule import candidates, choose
from brim.kernels.text import print_kernel, print_schedule
from brim.ops import primitive as ops
from brim.runtime.loader import load_object
from brim.targets.llvm import emit
from brim.targets.objects import compile_kernel
from brim.targets.target import Target, find_target, host
from brim.types import BOOL, COMPUTED, DTYPES, F16, F32, F64, I8, I32, I64, DType, Type, dtype_of
from tests import kernels_library as lib

CASES = dict(lib.library())
# Everything else must agree to the last bit: the data is exact.
INEXACT = {"softmax rows", "softmax columns", "layer_norm", "gelu", "matmul with gelu"}
INEXACT |= {"reduce mul", "half"}
PADDING = 64  # bytes on either side of every buffer, which nobody may write


def call(
    kernel: Kernel,
    schedule: Schedule,
    data: dict[str, np.ndarray],
    target: Target,
    pieces: int = 1,
) -> tuple[dict[str, np.ndarray], bool]:
    """The buffers after the compiled kernel, and its status. `pieces`: calls it is split into."""
    blob = compile_kernel(kernel, schedule, target)
    types = [ctypes.c_void_p] * len(kernel.args) + [ctypes.c_int64] * 2 + [ctypes.c_void_p]
    function = load_object(blob).function(kernel.name, None, *types)
    status = ctypes.c_int32(0)
    raw, buffers = {}, {}
    for arg in kernel.args:  # at an address that only its elements align
        size, shift = data[arg.name].nbytes, PADDING + arg.dtype.bytes
        raw[arg.name] = np.full(size + 2 * shift, 0xA5, np.uint8)
        view = raw[arg.name][shift : shift + size]
        view[:] = np.frombuffer(data[arg.name].tobytes(), np.uint8)
        buffers[arg.name] = view.view(data[arg.name].dtype)
    count = trips(kernel, schedule)
    marks = [count * i // pieces for i in range(pieces + 1)]
    for begin, end in itertools.pairwise(marks):
        pointers = [buffers[arg.name].ctypes.data for arg in kernel.args]
        function(*pointers, begin, end, ctypes.addressof(status))
    for arg in kernel.args:
        shift = PADDING + arg.dtype.bytes
        around = np.concatenate([raw[arg.name][:shift], raw[arg.name][-shift:]])
        assert (around == 0xA5).all(), f"{arg.name} is written outside"
        if arg.role != "out":
            np.testing.assert_array_equal(buffers[arg.name], data[arg.name], f"{arg.name} changed")
    return buffers, bool(status.value)


def agrees(
    kernel: Kernel,
    schedule: Schedule,
    data: dict[str, np.ndarray],
    exact: bool = True,
    pieces: int = 1,
) -> None:
    wanted = {name: array.copy() for name, array in data.items()}
    status = interpret(kernel, wanted)
    packed, stored = lib.packed(kernel, schedule, data)
    got, got_status = call(packed, schedule, stored, host(), pieces)
    where = f"\n{print_kernel(kernel)}{print_schedule(schedule)}"
    assert got_status == status, f"status {got_status}{where}"
    for arg in kernel.args:
        if arg.role != "out":
            continue
        if exact:
            np.testing.assert_array_equal(got[arg.name], wanted[arg.name], where)
        else:
            close = {"rtol": 2e-3} if arg.dtype == F16 else {"rtol": 2e-5, "atol": 1e-6}
            np.testing.assert_allclose(got[arg.name], wanted[arg.name], **close, err_msg=where)


def schedules(kernel: Kernel, limit: int) -> Iterator[Schedule]:
    """The best, a sample of the other candidates, and some that nobody would choose."""
    best, _ = choose(kernel, host())
    yield best
    found = candidates(kernel, host())
    rng = np.random.default_rng(len(found))
    for i in sorted(rng.permutation(len(found))[:limit]):
        if found[i] != best:
            yield found[i]
    yield Schedule(kernel.outer)
    if best.vector is not None and best.lanes > 2:
        yield replace(best, lanes=2)
        yield replace(best, lanes=best.lanes // 2, unroll=())


@pytest.mark.parametrize("name", CASES)
def test_library(name: str) -> None:
    kernel = CASES[name]
    data = lib.buffers_for(kernel, np.random.default_rng(0))
    for number, schedule in enumerate(schedules(kernel, 5)):
        agrees(kernel, schedule, data, name not in INEXACT, pieces=1 + number % 3)


@pytest.mark.parametrize("name", [n for n, k in CASES.items() if lib.gathered_by(k)])
def test_bad_indices_give_a_status(name: str) -> None:
    kernel = CASES[name]
    data = lib.buffers_for(kernel, np.random.default_rng(1), out_of_range=True)
    for schedule in schedules(kernel, 3):
        agrees(kernel, schedule, data)


@pytest.mark.parametrize("index", [-(2**63), 2**63 - 1, -1, 7, 2**32])
def test_extreme_indices(index: int) -> None:
    kernel = lib.gather_rows(9, 7, 33)
    data = lib.buffers_for(kernel, np.random.default_rng(1))
    data["i"][4] = index
    agrees(kernel, choose(kernel, host())[0], data)


# ------------------------------------------------------------------ scalar operations

FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.7, -3.7, 100.25, -7.0, 1e10, -1e10, 3e9]
FLOATS += [math.inf, -math.inf, math.nan, 1e-40, 1e-30, 127.5, 128.0, -128.5, 255.9, 65536.0, 1e19]
NUMERIC = ("add", "sub", "mul", "maximum", "minimum")
COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")


def pairs(dtype: DType, arity: int) -> dict[str, np.ndarray]:
    """Every combination of telling values of a dtype, for `arity` arguments."""
    if dtype.is_float:
        with np.errstate(over="ignore"):
            values = np.array(FLOATS, dtype.numpy)
    elif dtype == BOOL:
        values = np.array([False, True])
    else:
        info = np.iinfo(dtype.numpy)
        listed = [0, 1, 2, 3, 7, 8, 31, 63, 100, 127, info.max, info.max - 1, info.max // 2]
        if dtype.kind == "i":
            listed += [-1, -2, -3, -7, -8, -100, info.min, info.min + 1, info.min // 2]
        values = np.array(listed, dtype.numpy)
    grids = np.meshgrid(*[values] * arity)
    return {name: grid.ravel().copy() for name, grid in zip("abc", grids)}


def each(op: str, arity: int, dtype: DType, result: DType, exact: bool = True) -> None:
    columns = pairs(dtype, arity)
    n = len(columns["a"])
    kernel = lib.elementwise(op, n, arity, dtype, result)
    data = {**columns, "y": np.zeros(n, result.numpy)}
    agrees(kernel, choose(kernel, host())[0], data, exact)
    agrees(kernel, Schedule(kernel.outer), data, exact)


INTEGERS = [t for t in DTYPES.values() if t.is_integer]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_operations(dtype: DType) -> None:
    for op in (*NUMERIC, "div", "mod", "fmod", "bit_and", "bit_or", "bit_xor"):
        each(op, 2, dtype, dtype)
    for op in ("shift_left", "shift_right"):
        each(op, 2, dtype, dtype)
    for op in ("absolute", "sign", "bit_not", *(("neg",) if dtype.kind == "i" else ())):
        each(op, 1, dtype, dtype)
    for op in COMPARE:
        each(op, 2, dtype, BOOL)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_float_operations(dtype: DType) -> None:
    for op in (*NUMERIC, "div", "fmod", "mod"):
        each(op, 2, dtype, dtype)
    for op in ("neg", "absolute", "sign", "sqrt", "floor", "ceil", "trunc", "rint"):
        each(op, 1, dtype, dtype)
    for op in ("exp", "log", "tanh", "erf", "atan"):
        each(op, 1, dtype, dtype, exact=False)
    for op in COMPARE:
        each(op, 2, dtype, BOOL)
    for op in ("is_nan", "is_inf"):
        each(op, 1, dtype, BOOL)


def test_bool_operations() -> None:
    for op in ("bit_and", "bit_or", "bit_xor"):
        each(op, 2, BOOL, BOOL)
    each("bit_not", 1, BOOL, BOOL)
    for op in ("eq", "ne", "lt", "le", "gt", "ge"):
        each(op, 2, BOOL, BOOL)


@pytest.mark.parametrize("of", COMPUTED, ids=str)
def test_casts(of: DType) -> None:
    for to in COMPUTED:
        each("cast", 1, of, to)


def test_bitcasts() -> None:
    for of, to in ((F32, I32), (I32, F32), (F64, I64), (I64, F64), (I8, DTYPES["u8"])):
        each("bitcast", 1, of, to)


def test_select() -> None:
    value = lib.do("select", lib.at("c", i=1), lib.at("a", i=1), lib.num(2.0))
    args = [lib.Arg("c", BOOL, 45), lib.Arg("a", F32, 45), lib.Arg("y", F32, 45, "out")]
    stage = lib.Stage("s", (), value, out=lib.at("y", i=1))
    kernel = lib.kernel("choose", {"i": 45}, "i", [stage], args)
    for schedule in schedules(kernel, 3):
        agrees(kernel, schedule, lib.buffers_for(kernel, np.random.default_rng(5)))


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("op", ["max", "min", "argmax", "argmin", "argmax_last", "argmin_last"])
def test_nan_in_reductions(op: str, columns: bool) -> None:
    kernel = lib.reduction(op, 37, 45, F32, columns)
    data = lib.buffers_for(kernel, np.random.default_rng(6))
    rng = np.random.default_rng(7)
    x = data["x"].reshape((45, 37) if columns else (37, 45))
    rows = x.T if columns else x
    for r in range(0, 37, 2):
        rows[r, rng.integers(0, 45, rng.integers(1, 4))] = math.nan
    rows[3] = -math.inf
    rows[5] = math.inf
    for schedule in schedules(kernel, 3):
        agrees(kernel, schedule, data)


@pytest.mark.parametrize("op", ["add", "mul", "max", "min", "and", "or"])
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_reductions(dtype: DType, op: str) -> None:
    kernel = lib.reduction(op, 3, 130, dtype)
    agrees(kernel, choose(kernel, host())[0], lib.buffers_for(kernel, np.random.default_rng(8)))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine, treated as if it lacked what other targets lack."""
    lacking = replace(host(), lacks=("half", "rounding", "long"), nan_extremes=(), fma=False)
    monkeypatch.setattr(sys.modules[__name__], "host", lambda: lacking)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("name", ["half", "conv 3x3", "softmax rows", "max_pool", "layer_norm"])
def test_library_without_instructions(name: str) -> None:
    test_library(name)


@pytest.mark.usefixtures("bare")
def test_operations_without_instructions() -> None:
    for dtype in (I64, DTYPES["u64"]):
        for op in ("div", "mod", "fmod"):
            each(op, 2, dtype, dtype)
    for dtype in (F32, F64):
        for op in ("floor", "ceil", "trunc", "rint"):
            each(op, 1, dtype, dtype)
        for op in ("mod", "fmod"):
            each(op, 2, dtype, dtype)
    for dtype in (F16, F32, F64):
        for other in INTEGERS:
            each("cast", 1, dtype, other)
            each("cast", 1, other, dtype)


def cast(values: np.ndarray, to: DType) -> None:
    kernel = lib.elementwise("cast", len(values), 1, dtype_of(values), to)
    data = {"a": values, "y": np.zeros(len(values), to.numpy)}
    agrees(kernel, choose(kernel, host())[0], data)


@pytest.mark.usefixtures("bare")
def test_conversions_without_instructions() -> None:
    rng = np.random.default_rng(10)
    bits = rng.integers(0, 2**64, 20_000, np.uint64) >> rng.integers(0, 64, 20_000, np.uint64)
    for dtype in (F32, F64):
        cast(bits, dtype)
        cast(bits.view(np.int64), dtype)
        scale = np.exp2(rng.uniform(-30, 66, 20_000))
        floats = (rng.normal(size=20_000) * scale).astype(dtype.numpy)
        cast(floats, I64)
        cast(floats, DTYPES["u64"])
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    cast(every, F32)
    cast((rng.normal(size=20_000) * np.exp2(rng.uniform(-28, 17, 20_000))).astype(np.float32), F16)
    halfway = every[np.isfinite(every)].astype(np.float32)
    cast(np.nextafter(halfway, np.float32(np.inf)), F16)
    cast((halfway[:-1] + halfway[1:]) / 2, F16)


# ------------------------------------------------------------------ transposes in registers

SIDES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33]


@pytest.mark.parametrize("vector", ["b", "c"])
@pytest.mark.parametrize("dtype", [F32, F64, F16, I8, BOOL], ids=str)
def test_squares(vector: str, dtype: DType) -> None:
    """Vectors along what is contiguous in the source (b: loads cross them) or in the result."""
    other = "c" if vector == "b" else "b"
    sides = SIDES if dtype == F32 else SIDES[4::4]
    rng = np.random.default_rng(0)
    for b, c, lanes, count in itertools.product(sides, sides, (4, 16), (2, 8, 13)):
        if (b + c + lanes + count) % 3 == 0 and count <= {"b": b, "c": c}[other]:
            kernel = lib.transpose(1, b, c, dtype)
            schedule = Schedule(("a", other, vector), vector, lanes, ((other, count),))
            agrees(kernel, schedule, lib.buffers_for(kernel, rng))


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "cortex-a53", "wasm32"])
def test_plain_transposes_take_squares(target: str, bits: int) -> None:
    """No element is moved by itself: all loads and stores are vectors."""
    dtype = {8: I8, 16: F16, 32: F32, 64: F64}[bits]
    kernel = lib.transpose(1, 512, 512, dtype)
    row = find_target(target)
    text = emit(kernel, choose(kernel, row)[0], row)
    moved = re.findall(r"load (\S+)|store (\S+)", text)
    assert moved and all("<" in load + store for load, store in moved)


@pytest.mark.parametrize("step", [2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 33, 100])
def test_every_few_elements(step: int, n: int) -> None:
    kernel = lib.strided(2, n, step)
    for lanes in (1, 2, 4, 16):
        schedule = Schedule(kernel.outer, kernel.outer[-1], lanes)
        agrees(kernel, schedule, lib.buffers_for(kernel, np.random.default_rng(0)))


# ------------------------------------------------------------------ drawn extents

EXTENT = st.sampled_from([1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33, 64, 65])
FAMILIES = {
    "matmul": lambda a, b, c: lib.matmul(a, b, c),
    "packed": lambda a, b, c: lib.matmul(a, b, c, 16),
    "dots": lib.matmul_transposed,
    "conv": lambda a, b, c: lib.convolution(min(a, 9), min(b, 9), min(c, 8), 20),
    "strided conv": lambda a, b, c: lib.convolution(min(a, 9), min(b, 9), min(c, 8), 32, 3, 2, 16),
    "depthwise": lambda a, b, c: lib.depthwise(min(a, 9), min(b, 17), c),
    "grouped": lambda a, b, c: lib.grouped(min(a, 7), min(b, 7), min(c, 5), 3, 6),
    "max_pool": lambda a, b, c: lib.max_pool(min(a, 13), min(b, 13), c),
    "partial": lib.partial_sums,
    "transpose": lib.transpose,
    "concatenate": lambda a, b, c: lib.concatenate(3, a, b, c),
    "gather": lib.gather_rows,
    "scatter": lib.scatter_add,
    "cumulative": lambda a, b, c: lib.cumulative(a, b, c % 2 == 0),
    "argmax": lambda a, b, c: lib.reduction("argmax", a, b, F32, c % 2 == 0),
    "quantized": lib.quantized,
    "f16": lambda a, b, c: lib.reduction(("max", "argmin")[c % 2], a, b, F16, a % 2 == 0),
    "gather elements": lib.gather_elements,
    "guarded gather": lambda a, b, c: lib.guarded_gather(a + 4, b),
    "inner scan": lambda a, b, c: lib.inner_scan(a, min(b, 20)),
    "normalised": lambda a, b, c: lib.normalised(a, b),
    "into columns": lib.matmul_into_columns,
    "planes": lambda a, b, c: lib.pool_planes(min(a, 5), min(b, 13), c, 1 + a % 4),
    "strided": lambda a, b, c: lib.strided(a, b, 1 + c % 5, c % 2 == 0),
    "total": lambda a, b, c: lib.total(a, b),
    "pad": lambda a, b, c: lib.pad_rows(a, b, min(c, 40), I8, 3),
    "broadcast": lambda a, b, c: lib.broadcast_add(a, b),
}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.sampled_from(sorted(FAMILIES)), EXTENT, EXTENT, EXTENT, st.data())
def test_drawn_extents(family: str, a: int, b: int, c: int, data: st.DataObject) -> None:
    kernel = FAMILIES[family](a, b, c)
    schedule = data.draw(st.sampled_from(candidates(kernel, host())))
    pieces = data.draw(st.integers(1, 3))
    agrees(kernel, schedule, lib.buffers_for(kernel, np.random.default_rng(9)), pieces=pieces)


def compiled_equals_numpy(y: Value, x: Value) -> None:
    graph = Graph({"x": x}, {"y": y}, "deep")
    feeds = {"x": np.linspace(-1, 1, x.type.size, dtype=np.float32).reshape(x.shape)}
    wanted = evaluate(graph, feeds)["y"]
    np.testing.assert_allclose(brim.compile(graph).run(feeds)["y"], wanted, rtol=1e-5)


def test_long_chains_and_diamonds_compile() -> None:
    """Fusion must cut what would recurse too deeply or grow without bound."""
    x = placeholder(Type((3, 17), F32))
    chain = diamond = x
    for _ in range(300):
        chain = ops.absolute(ops.sub(chain, 0.25))
    compiled_equals_numpy(chain, x)
    for _ in range(40):
        diamond = ops.mul(diamond, ops.cos(diamond))
    compiled_equals_numpy(diamond, x)


# ------------------------------------------------------------------ memory

GUARDED = """
import ctypes, mmap, sys
import numpy as np
from brim.kernels.ir import trips
from brim.kernels.schedule import candidates, choose
from brim.runtime.loader import load_object
from brim.targets.llvm import emit
from brim.targets.objects import compile_kernel
from brim.targets.target import find_target, host
from tests import kernels_library as lib

libc = ctypes.CDLL(None)
page = mmap.PAGESIZE
keep = []

def guarded(array, at_end):
    size = -(-max(array.nbytes, 1) // page) * page
    memory = mmap.mmap(-1, size + 2 * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for edge in (base, base + page + size):
        assert libc.mprotect(ctypes.c_void_p(edge), ctypes.c_size_t(page), 0) == 0
    begin = base + page + (size - array.nbytes if at_end else 0)
    ctypes.memmove(begin, array.ctypes.data, array.nbytes)
    keep.append(memory)
    return begin

for name, kernel in lib.library():
    data = lib.buffers_for(kernel, np.random.default_rng(0))
    found = candidates(kernel, host())
    for schedule in [choose(kernel, host())[0], found[len(found) // 3], found[-1]]:
        print(name, schedule, file=sys.stderr, flush=True)
        packed, stored = lib.packed(kernel, schedule, data)
        blob = compile_kernel(packed, schedule, host())
        types = [ctypes.c_void_p] * len(kernel.args) + [ctypes.c_int64] * 2 + [ctypes.c_void_p]
        function = load_object(blob).function(kernel.name, None, *types)
        status = ctypes.c_int32(0)
        for at_end in (False, True):
            pointers = [guarded(stored[arg.name], at_end) for arg in kernel.args]
            function(*pointers, 0, trips(kernel, schedule), ctypes.addressof(status))
            keep.clear()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")
def test_nothing_outside_the_buffers_is_touched() -> None:
    """Every buffer lies between two pages that nobody may touch (in a child: a touch kills it)."""
    done = subprocess.run(
        [sys.executable, "-c", GUARDED],
        capture_output=True,
        text=True,
        timeout=300,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-800:]}"
