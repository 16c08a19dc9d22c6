"""The interpreter of kernels against plain numpy: it is the specification, so it must be right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from brim.errors import CompileError, InputError
from brim.kernels import interpret as module
from brim.kernels.interpret import interpret
from brim.kernels.ir import (
    Arg,
    At,
    Carried,
    Gather,
    Index,
    Kernel,
    Num,
    Reduce,
    Ref,
    Stage,
    Term,
)
from brim.types import BOOL, F16, F32, F64, I32, I64, U8, U64
from tests import kernels_library as lib


def run(kernel: Kernel, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Random data, and the buffers afterwards."""
    before = lib.buffers_for(kernel, np.random.default_rng(seed))
    after = {name: array.copy() for name, array in before.items()}
    assert interpret(kernel, after) is False
    return before, after


def unpacked(w: np.ndarray, n: int, k: int, block: int) -> np.ndarray:
    return w.reshape(-1, k, block).transpose(1, 0, 2).reshape(k, -1)[:, :n]


@pytest.mark.parametrize("block", [0, 4, 16])
@pytest.mark.parametrize("dtype", [F32, F64, I32], ids=str)
def test_matmul(block: int, dtype) -> None:
    before, after = run(lib.matmul(5, 11, 7, block, dtype))
    w = unpacked(before["w"], 11, 7, block) if block else before["w"].reshape(7, 11)
    np.testing.assert_array_equal(after["y"].reshape(5, 11), before["x"].reshape(5, 7) @ w)


@pytest.mark.parametrize(("stride", "block"), [(1, 0), (2, 0), (1, 8), (2, 8)])
def test_convolution(stride: int, block: int) -> None:
    h, w, c, o = 6, 5, 3, 10
    before, after = run(lib.convolution(h, w, c, o, 3, stride, block))
    x = np.pad(before["x"].reshape(h, w, c), ((1, 1), (1, 1), (0, 0)))
    k = unpacked(before["k"], o, 9 * c, block) if block else before["k"]
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (0, 1))[::stride, ::stride]
    y = np.einsum("hwcij,ijco->hwo", windows, k.reshape(3, 3, c, o)) + before["b"]
    np.testing.assert_array_equal(after["y"].reshape(y.shape), np.maximum(y, 0))


def test_max_pool() -> None:
    before, after = run(lib.max_pool(7, 6, 2))
    x = np.pad(before["x"].reshape(7, 6, 2), ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (0, 1))[::2, ::2]
    y = windows.max((-1, -2))
    np.testing.assert_array_equal(after["y"].reshape(y.shape), y)


@pytest.mark.parametrize("columns", [False, True])
def test_softmax(columns: bool) -> None:
    before, after = run(lib.softmax(4, 9, columns))
    both = before["x"], after["y"]
    x, y = (v.reshape(9, 4).T if columns else v.reshape(4, 9) for v in both)
    e = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(y, e / e.sum(1, keepdims=True), rtol=1e-6)


def test_layer_norm() -> None:
    before, after = run(lib.layer_norm(3, 8))
    x = before["x"].reshape(3, 8).astype(np.float64)
    normal = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    wanted = normal * before["g"] + before["b"]
    np.testing.assert_allclose(after["y"].reshape(3, 8), wanted, rtol=1e-5, atol=1e-6)


def test_a_stage_may_keep_axes() -> None:
    before, after = run(lib.partial_sums(3, 4, 5))
    np.testing.assert_array_equal(after["y"], before["x"].reshape(12, 5).sum(1))


@pytest.mark.parametrize("op", ["argmax", "argmin", "argmax_last", "argmin_last"])
def test_arg_reductions(op: str) -> None:
    before, after = run(lib.reduction(op, 5, 40))
    x = before["x"].reshape(5, 40)
    best = x.max(1) if "max" in op else x.min(1)
    hits = [np.flatnonzero(row == value) for row, value in zip(x, best)]
    wanted = [hit[-1] if op.endswith("last") else hit[0] for hit in hits]
    assert after["y"].dtype == np.int64 and list(after["y"]) == wanted


def test_nan_wins() -> None:
    kernel = lib.reduction("argmax", 1, 4)
    buffers = {"x": np.array([1, math.nan, 9, math.nan], np.float32), "y": np.zeros(1, np.int64)}
    interpret(kernel, buffers)
    assert buffers["y"][0] == 1
    kernel = lib.reduction("max", 1, 4)
    buffers["y"] = np.zeros(1, np.float32)
    interpret(kernel, buffers)
    assert math.isnan(buffers["y"][0])


def test_moves() -> None:
    before, after = run(lib.transpose(2, 3, 4))
    wanted = before["x"].reshape(2, 3, 4).transpose(2, 0, 1)
    np.testing.assert_array_equal(after["y"].reshape(4, 2, 3), wanted)
    before, after = run(lib.strided(2, 5, 3, reverse=True))
    wanted = before["x"].reshape(2, 13)[:, ::-3]
    np.testing.assert_array_equal(after["y"].reshape(2, 5), wanted)


def test_guards_choose_and_protect() -> None:
    before, after = run(lib.concatenate(2, 3, 1, 2))
    parts = [before[n].reshape(2, -1) for n in "pqr"]
    wanted = np.pad(np.concatenate(parts, 1), ((0, 0), (0, 2)), constant_values=7)
    np.testing.assert_array_equal(after["y"].reshape(2, 8), wanted)
    before, after = run(lib.pad_rows(2, 5, 1, BOOL, 1))
    wanted = np.pad(before["x"].reshape(2, 5), ((0, 0), (1, 1)), constant_values=True)
    np.testing.assert_array_equal(after["y"].reshape(2, 7), wanted)


def test_iota_wraps() -> None:
    _, after = run(lib.iota(2, 4, U8))
    wanted = (-5 + 3 * np.arange(2)[:, None] - 2 * np.arange(4)).astype(np.uint8)
    np.testing.assert_array_equal(after["y"].reshape(2, 4), wanted)


def test_half_is_computed_in_single() -> None:
    before, after = run(lib.half_storage(2, 64))
    assert after["y"].dtype == F16.numpy
    x = before["x"].reshape(2, 64).astype(np.float32)
    wanted = (x - x.mean(1, keepdims=True)).astype(np.float16)
    np.testing.assert_array_equal(after["y"].reshape(2, 64), wanted)


def test_gathers() -> None:
    before, after = run(lib.gather_rows(6, 5, 4))
    np.testing.assert_array_equal(after["y"].reshape(6, 4), before["x"].reshape(5, 4)[before["i"]])
    before, after = run(lib.gather_elements(3, 6, 5))
    wanted = np.take_along_axis(before["x"].reshape(3, 5), before["i"].reshape(3, 6), 1)
    np.testing.assert_array_equal(after["y"].reshape(3, 6), wanted)


@pytest.mark.parametrize(("bad", "used"), [(-1, 0), (5, 4), (2**63 - 1, 4), (-(2**63), 0)])
def test_bad_indices_are_reported_and_clamped(bad: int, used: int) -> None:
    kernel = lib.gather_rows(3, 5, 2)
    buffers = lib.buffers_for(kernel, np.random.default_rng(0))
    buffers["i"][1] = bad
    assert interpret(kernel, buffers) is True
    wanted = buffers["x"].reshape(5, 2)[used]
    np.testing.assert_array_equal(buffers["y"].reshape(3, 2)[1], wanted)


def test_large_unsigned_indices() -> None:
    kernel = lib.gather_rows(2, 5, 1, U64)
    buffers = lib.buffers_for(kernel, np.random.default_rng(0))
    buffers["i"][:] = (2**64 - 1, 1)
    assert interpret(kernel, buffers) is True
    np.testing.assert_array_equal(buffers["y"], buffers["x"][[4, 1]])


def test_bad_indices_outside_a_guard_do_not_count() -> None:
    kernel = lib.guarded_gather(8, 5)
    buffers = lib.buffers_for(kernel, np.random.default_rng(0))
    buffers["i"][[0, 1, 6, 7]] = 99
    assert interpret(kernel, buffers) is False
    buffers["i"][3] = 99
    assert interpret(kernel, buffers) is True


def test_ordered_axes() -> None:
    before, after = run(lib.scatter_add(30, 4, 3))
    wanted = before["y"].reshape(4, 3).copy()
    np.add.at(wanted, before["i"], before["x"].reshape(30, 3))
    np.testing.assert_array_equal(after["y"].reshape(4, 3), wanted)
    for along in (False, True):
        before, after = run(lib.cumulative(5, 6, along))
        wanted = before["x"].reshape(5, 6).cumsum(int(along))
        np.testing.assert_array_equal(after["y"].reshape(5, 6), wanted)


def test_an_ordered_stage_axis_may_be_reduced_and_kept() -> None:
    before, after = run(lib.inner_scan(3, 7))
    sums = before["x"].reshape(3, 7).cumsum(1)
    np.testing.assert_array_equal(after["y"].reshape(3, 7), sums)
    wanted = sums - sums.max(1, keepdims=True)
    np.testing.assert_array_equal(after["z"].reshape(3, 7), wanted)


def test_no_axes_and_no_points() -> None:
    before, after = run(lib.constant())
    assert after["y"][0] == before["x"][0] + 1.5
    _, after = run(lib.reduction("add", 3, 0))
    np.testing.assert_array_equal(after["y"], 0)
    _, after = run(lib.reduction("max", 3, 0))
    np.testing.assert_array_equal(after["y"], -np.inf)
    before, after = run(lib.reduction("add", 0, 3))
    assert after["y"].size == 0


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("conv 3x3", "softmax rows", "scatter_add", "argmax rows"):
        kernel = dict(lib.library())[name]
        _, whole = run(kernel)
        with monkeypatch.context() as patch:
            patch.setattr(module, "CHUNK_POINTS", 50)
            _, parts = run(kernel)
        for arg in kernel.args:
            np.testing.assert_array_equal(parts[arg.name], whole[arg.name])


# ------------------------------------------------------------------ contradictions


def one_stage(value, args: list[Arg], out: At | None = None) -> Kernel:
    stage = Stage("s", (), value, out=out or lib.at("y", i=1))
    return lib.kernel("k", {"i": 4}, "i", [stage], args)


X, Y = Arg("x", F32, 4), Arg("y", F32, 4, "out")


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (one_stage(lib.at("x", 1, i=1), [X, Y]), "leaves buffer 'x'"),
        (one_stage(lib.at("x", -1, i=1), [X, Y]), "leaves buffer 'x'"),
        (one_stage(lib.at("x", i=1), [X, Y], lib.at("y", i=2)), "leaves buffer 'y'"),
        (one_stage(lib.at("x", i=1), [X, Arg("y", I32, 4, "out")]), "is stored to 'y'"),
        (one_stage(lib.do("lt", lib.at("x", i=1), lib.num(0)), [X, Y]), "declared f32"),
        (one_stage(lib.at("x", q=1), [X, Y]), "not in scope"),
        (one_stage(Ref("m", F32), [X, Y]), "no earlier stage 'm'"),
        (one_stage(Carried(F32), [X, Y]), "outside of any repeat"),
        (one_stage(At("x", Index(), (Gather(Num(0, I64), 1, 0),)), [X, Y]), "nothing to choose"),
    ],
)
def test_contradictions_are_errors(kernel: Kernel, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        interpret(kernel, lib.buffers_for(kernel, np.random.default_rng(0)))


def test_unfitting_buffers_are_errors() -> None:
    kernel = one_stage(lib.at("x", i=1), [X, Y])
    good = lib.buffers_for(kernel, np.random.default_rng(0))
    for bad in ({"x": good["x"]}, good | {"x": good["x"][:3]}, good | {"y": good["y"].astype(int)}):
        with pytest.raises(InputError, match="buffer"):
            interpret(kernel, bad)


def test_a_constant_beyond_its_bound_is_an_error() -> None:
    table = Arg("i", I32, 4, "const", below=4)
    value = At("x", Index(), (Gather(lib.at("i", i=1), 1, 4),))
    kernel = one_stage(value, [X, table, Y])
    buffers = lib.buffers_for(kernel, np.random.default_rng(0))
    interpret(kernel, buffers)
    for wrong in (-1, 4):
        buffers["i"][2] = wrong
        with pytest.raises(InputError, match=r"buffer i of kernel .* leaves \[0, 4\)"):
            interpret(kernel, buffers)


def test_complete_trees() -> None:
    rows, trees, depth, width = 6, 3, 4, 5
    before, after = run(lib.complete_trees(rows, trees, depth, width))
    feature, limit = (before[name].reshape(trees, -1) for name in ("f", "v"))
    for row, x in enumerate(before["x"].reshape(rows, width)):
        total = 0.0
        for tree in range(trees):
            node = 0
            for _ in range(depth):
                left = x[feature[tree, node]] <= limit[tree, node]
                node = 2 * node + (1 if left else 2)
            total += before["w"].reshape(trees, -1)[tree, node - (2**depth - 1)]
        assert after["y"][row] == total


def test_repeats_see_earlier_stages_and_stay_inside_guards() -> None:
    rows, n, times = 5, 7, 4
    before, after = run(lib.repeated(rows, n, times))
    x = before["x"].reshape(rows, n)
    for r in range(rows):
        for j in range(n):
            value = 7
            if 1 <= j < n - 1:
                value, more = int(x[r, j - 1]), min(int(x[r].max()), r + 5 * j - 3)
                for _ in range(times):
                    value = (3 * value + more + 2**31) % 2**32 - 2**31
            assert after["y"][r * n + j] == value


def test_blocked_terms() -> None:
    """axis // block * outer + axis % block * stride."""
    where = Index((Term("i", 10, 3, 1),), 2)
    kernel = lib.kernel(
        "k", {"i": 8}, "i", [Stage("s", (), At("x", where), None, lib.at("y", i=1))],
        [Arg("x", F32, 30), Arg("y", F32, 8, "out")],
    )  # fmt: skip
    before, after = run(kernel)
    i = np.arange(8)
    np.testing.assert_array_equal(after["y"], before["x"][2 + i // 3 + i % 3 * 10])


def test_reductions_of_every_kind() -> None:
    functions = {"add": np.sum, "mul": np.prod, "max": np.max, "min": np.min}
    for op, function in functions.items():
        before, after = run(lib.reduction(op, 4, 6))
        np.testing.assert_allclose(after["y"], function(before["x"].reshape(4, 6), 1), rtol=1e-6)
    before, after = run(lib.reduction("and", 4, 6, I32))
    wanted = np.bitwise_and.reduce(before["x"].reshape(4, 6), 1)
    np.testing.assert_array_equal(after["y"], wanted)
    assert Reduce("argmax", ("j",)).is_arg
