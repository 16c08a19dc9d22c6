"""Measured refinement: what is timed is kept, decides from then on, and changes no results."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import brim
from brim.errors import InputError
from brim.graph import Graph, const, evaluate, placeholder
from brim.kernels.ir import At, Index, Kernel
from brim.kernels.lower import lower
from brim.kernels.steps import KernelStep
from brim.kernels.text import print_kernel, print_schedule
from brim.objects import objects_of
from brim.ops.nn import conv
from brim.ops.primitive import contract, gather
from brim.search.choice import Search, by_price
from brim.search.store import Store
from brim.search.timing import is_timeable, job_of, time_schedules
from brim.search.tune import least_seconds, refine
from brim.search.variants import kernels_of, settle
from brim.targets.target import host
from brim.types import F32, I64, Type

SAME = {"stride": (1, 1), "dilation": (1, 1), "low": (1, 1), "high": (1, 1), "groups": 1}


@pytest.fixture(autouse=True)
def tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own, which is not there yet."""
    path = tmp_path / "tuned.sqlite"
    monkeypatch.setenv("BRIM_TUNED", str(path))
    return path


def product(m: int = 48, k: int = 40, n: int = 56) -> Graph:
    weights = np.random.default_rng(0).standard_normal((k, n)).astype(np.float32)
    x = placeholder(Type((m, k), F32))
    return Graph({"x": x}, {"y": contract(x, const(weights), spec="mk,kn->mn")})


def layer(size: int = 28, channels: int = 32, outputs: int = 48) -> Graph:
    random = np.random.default_rng(0)
    w = random.standard_normal((3, 3, channels, outputs)).astype(np.float32) / channels
    x = placeholder(Type((1, size, size, channels), F32))
    return Graph({"x": x}, {"y": conv(x, const(w), **SAME)})


def kernel_of(graph: Graph) -> Kernel:
    (step,) = lower(graph).steps
    assert isinstance(step, KernelStep)
    return step.kernel


# ------------------------------------------------------------------ the store


def test_times_come_back(tuned: Path) -> None:
    Store(tuned, host()).put("k", [("a", 1.0, 0.5), ("b", 2.0, None)])
    assert Store(tuned, host()).times("k") == {"a": 0.5}
    assert Store(tuned, host()).times("other") == {}
    with closing(sqlite3.connect(tuned)) as file:
        rows = file.execute("SELECT schedule, predicted, measured FROM candidate").fetchall()
        assert sorted(rows) == [("a", 1.0, 0.5), ("b", 2.0, None)]  # all candidates are kept
        assert file.execute("SELECT text FROM kernel").fetchall() == [("k",)]


def test_what_was_measured_is_not_forgotten(tuned: Path) -> None:
    store = Store(tuned, host())
    store.put("k", [("a", 1.0, 0.5)])
    store.put("k", [("a", 1.0, None), ("b", 1.5, 0.4)])
    assert store.times("k") == Store(tuned, host()).times("k") == {"a": 0.5, "b": 0.4}


def test_times_count_for_one_kind_of_machine(tuned: Path) -> None:
    Store(tuned, host()).put("k", [("a", 1.0, 0.5)])
    other = Store(tuned, replace(host(), cpu="another"))
    assert not other.has_times
    other.put("k", [("a", 1.0, 0.25)])
    assert Store(tuned, host()).times("k") == {"a": 0.5}


def test_prices_do_not_make_another_machine(tuned: Path) -> None:
    Store(tuned, host()).put("k", [("a", 1.0, 0.5)])
    assert Store(tuned, replace(host(), ghz=1.0)).times("k") == {"a": 0.5}


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" * 40])
def test_a_damaged_file_is_told_and_not_used(tuned: Path, content: bytes) -> None:
    tuned.write_bytes(content)
    if content:
        with pytest.warns(RuntimeWarning, match=r"remove it"):
            store = Store(tuned, host())
    else:  # as SQLite makes them
        store = Store(tuned, host())
    store.put("k", [("a", 1.0, 0.5)])
    assert store.times("k") == {"a": 0.5}
    if content:
        assert tuned.read_bytes() == content


def test_other_tables_are_told_and_not_used(tuned: Path) -> None:
    with closing(sqlite3.connect(tuned)) as file:
        file.executescript("CREATE TABLE candidate (x); PRAGMA user_version = 1;")
    with pytest.warns(RuntimeWarning):
        assert not Store(tuned, host()).has_times


def test_a_newer_file_is_told_and_left_alone(tuned: Path) -> None:
    with closing(sqlite3.connect(tuned)) as file:
        file.execute("PRAGMA user_version = 7")
    before = tuned.read_bytes()
    with pytest.warns(RuntimeWarning, match="its format is 7"):
        Store(tuned, host()).put("k", [("a", 1.0, 0.5)])
    assert tuned.read_bytes() == before


def test_rows_that_are_not_times_are_refused(tuned: Path) -> None:
    Store(tuned, host()).put("k", [("a", 1.0, 0.5)])
    with closing(sqlite3.connect(tuned)) as file, file:
        file.execute("UPDATE candidate SET measured = 'fast'")
    with pytest.warns(RuntimeWarning):
        assert not Store(tuned, host()).has_times


def test_processes_may_write_side_by_side(tuned: Path) -> None:
    program = (
        "import sys; from brim.search.store import Store; from brim.targets.target import host\n"
        "store = Store(__import__('pathlib').Path(sys.argv[1]), host())\n"
        "for i in range(30): store.put(f'{sys.argv[2]} {i}', [('a', 1.0, 0.5)])"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(tuned)]
    children = [subprocess.Popen([*command, str(i)]) for i in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    store = Store(tuned, host())
    assert all(store.times(f"{i} {j}") for i in range(3) for j in range(30))


# ------------------------------------------------------------------ what decides


def test_a_measured_time_decides() -> None:
    kernel, search = kernel_of(product()), by_price(host())
    first, second, *others = search.candidates(kernel)
    text = print_kernel(kernel)
    search.store.put(text, [(print_schedule(others[-1].schedule), 1.0, second.predicted)])
    assert search.best(kernel).schedule == others[-1].schedule
    assert search.best(kernel).seconds == second.predicted
    search.store.put(text, [(print_schedule(first.schedule), 1.0, second.predicted / 2)])
    assert search.best(kernel).schedule == first.schedule


def test_schedules_that_are_no_candidates_are_not_taken() -> None:
    """A file of measured times may come from anywhere."""
    kernel, search = kernel_of(product()), by_price(host())
    best = search.best(kernel)
    strange = print_schedule(replace(best.schedule, vector=None, lanes=64, tile=()))
    search.store.put(print_kernel(kernel), [(strange, 1e-9, 1e-9), ("schedule {", 1e-9, 1e-9)])
    assert search.best(kernel) == best


def test_measured_times_choose_variants() -> None:
    def used(search: Search) -> bool:
        settled = settle(layer(), search)
        return any(v.op and v.op.name == "winograd_output" for v in settled.values())

    search = by_price(host())
    assert used(search)
    (direct,) = kernels_of(layer().outputs["y"], None) or ()
    schedule = print_schedule(search.best(direct).schedule)
    search.store.put(print_kernel(direct), [(schedule, 1.0, 1e-7)])
    assert not used(search)


# ------------------------------------------------------------------ measuring


def test_times_are_those_of_the_code() -> None:
    """Scalar code is slower than vectors, and twice the work takes longer."""
    target, times = host(), []
    for kernel in (kernel_of(product(96, 96, 96)), kernel_of(product(384, 96, 96))):
        best = by_price(target).best(kernel).schedule
        schedules = [best, replace(best, lanes=1, tile=(), unroll=())]
        objects = objects_of([job_of(kernel, s, target) for s in schedules], target)
        times.append(time_schedules(kernel, schedules, objects))
        assert times[-1][0] < times[-1][1]
    assert times[1][0] > 2 * times[0][0]


def test_what_data_decides_is_not_timed() -> None:
    table, index = placeholder(Type((9, 8), F32)), placeholder(Type((5,), I64))
    looked_up = Graph({"t": table, "i": index}, {"y": gather(table, index, axis=0)})
    assert not is_timeable(kernel_of(looked_up))
    kernel = kernel_of(product())
    assert is_timeable(kernel)
    indirect = At("x", Index(), (Index(),))  # type: ignore[arg-type]
    stage = replace(kernel.stages[-1], out=indirect)
    assert not is_timeable(replace(kernel, stages=(stage,)))


def test_nothing_is_faster_than_possible() -> None:
    kernel = kernel_of(product(512, 512, 512))
    assert least_seconds(kernel, host()) == 2 * 512**3 / host().peak_flops
    small = kernel_of(product(1, 2048, 2048))  # reads 16 MB once
    assert least_seconds(small, host()) > 2 * 2048**2 / host().peak_flops


def test_refining_times_the_rivals_and_keeps_them(tuned: Path) -> None:
    search = Search(host(), Store(tuned, host()))
    heard: list[tuple[str, int, int]] = []
    refine(layer(), search, 20.0, False, lambda *report: heard.append(report))
    assert {stage for stage, _, _ in heard} <= {"time variants", "time kernels"}
    assert all(0 <= done <= total for _, done, total in heard)
    steps = lower(settle(layer(), search)).steps
    kernels = [step.kernel for step in steps if isinstance(step, KernelStep)]
    assert kernels
    for kernel in kernels:
        timed = [c for c in search.candidates(kernel) if c.measured is not None]
        near = timed[0].seconds <= 1.05 * least_seconds(kernel, search.target)
        assert timed == sorted(timed, key=lambda c: c.seconds)
        assert near or len(timed) > 1


def test_no_time_means_no_measuring(tuned: Path) -> None:
    search = Search(host(), Store(tuned, host()))
    start = time.monotonic()
    refine(layer(), search, 1e-9, False)
    assert not search.store.has_times
    assert time.monotonic() - start < 20


# ------------------------------------------------------------------ for users


def test_a_tuned_model_computes_the_same(tuned: Path) -> None:
    graph = layer()
    x = np.random.default_rng(1).standard_normal((1, 28, 28, 32)).astype(np.float32)
    model = brim.compile(graph, tune=10.0)
    wanted = evaluate(graph, {"x": x})["y"]
    assert np.abs(model(x) - wanted).max() < 5e-6 * np.abs(wanted).max()
    assert tuned.is_file()
    again = brim.compile(graph)  # what is known is used without asking
    assert [(r.kernel, r.schedule) for r in again.report().kernels] == [
        (r.kernel, r.schedule) for r in model.report().kernels
    ]


def test_a_loaded_model_is_tuned_and_stays_so(tmp_path: Path, tuned: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from tests import onnx_models as make

    w = np.random.default_rng(0).standard_normal((64, 48)).astype(np.float32)
    path = tmp_path / "net.onnx"
    ports = [("x", make.F32, (80, 64))], [("y", make.F32, (80, 48))]
    onnx.save(make.model([make.node("MatMul", "x w", "y")], *ports, {"w": w}), path)
    x = np.random.default_rng(1).standard_normal((80, 64)).astype(np.float32)
    plain = brim.load(path)(x)
    quick = brim.load(path, tune=5.0)
    np.testing.assert_allclose(quick(x), plain, rtol=1e-4, atol=1e-4)
    later = brim.load(path)
    assert later.report().kernels[0].schedule == quick.report().kernels[0].schedule
    np.testing.assert_array_equal(later(x), quick(x))


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_seconds_are_checked(seconds: float) -> None:
    with pytest.raises(InputError, match="no number of seconds"):
        brim.compile(product(), tune=seconds)


def test_only_this_machine_is_measured(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be tuned here"):
        brim.compile(product(), tune=1.0, target="cortex-a53")
    brim.compile(product()).save(tmp_path / "net.brim")
    with pytest.raises(InputError, match="an artifact cannot be tuned"):
        brim.load(tmp_path / "net.brim", tune=1.0)


def test_the_command(tmp_path: Path, tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    from brim.cli import main
    from brim.text import print_graph

    x = placeholder(Type((32, 40), F32))
    path = tmp_path / "net.graph"
    text, _ = print_graph(Graph({"x": x}, {"y": contract(x, x, spec="mk,nk->mn")}))
    path.write_text(text)
    # at most: all candidates get their times, or the second run would find others
    assert main(["tune", str(path), "--seconds", "100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"] == str(tuned)
    assert 0 < found["after"] < 1
    assert 0.2 < found["ratio"] < 5
    assert found["kernels"] == 1
    assert main(["tune", str(path), "--seconds", "100"]) == 0
    assert "0 of 1 kernels are other ones" in capsys.readouterr().out
    assert main(["cache", "info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tuned"]["files"] == 1
    assert main(["cache", "clear"]) == 0
    assert tuned.is_file()
    assert main(["cache", "clear", "--tuned"]) == 0
    assert not tuned.exists()
