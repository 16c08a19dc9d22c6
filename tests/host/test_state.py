"""Models that remember: state from run to run, reset, artifacts, threads."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import brim
from brim.errors import InputError
from brim.graph import Graph, placeholder
from brim.model import Model
from brim.ops import primitive as p
from brim.runtime.artifact import open_artifact
from brim.state import State
from brim.text import parse_graph
from brim.types import F32, I64, Dim, Type
from tests.pure.test_state import SUM, XS, steps

WANT = steps(parse_graph(SUM, {}), XS)


def answers(model: Model) -> list[np.ndarray]:
    return [model(x) for x in XS]


def test_a_model_carries_its_state_and_forgets_it() -> None:
    model = brim.compile(parse_graph(SUM, {}))
    assert [*model.inputs] == ["x"] and [*model.outputs] == ["y"]
    assert np.array_equal(answers(model), WANT)
    assert model.state["total"].tolist() == [11, -20]
    model.reset()
    assert model.state["total"].tolist() == [1, 0]
    assert np.array_equal(answers(model), WANT)


def test_state_is_copied_out_and_set() -> None:
    model = brim.compile(parse_graph(SUM, {}))
    model(XS[1])
    before = model.state
    before["total"] += 100  # a copy
    assert model.state["total"].tolist() == [2, -2]
    given = np.array([3, 4], np.float32)
    model.state = {"total": given}
    given += 1
    assert model(XS[0]).tolist() == [9, 16]


@pytest.mark.parametrize(
    ("contents", "what"),
    [
        ({"x": XS[0]}, "no state 'x'"),
        ({"total": np.zeros(3, np.float32)}, "has shape"),
        ({"total": np.zeros(2)}, "is float64"),
    ],
)
def test_state_that_does_not_fit_is_refused(contents: dict[str, np.ndarray], what: str) -> None:
    model = brim.compile(parse_graph(SUM, {}))
    with pytest.raises(InputError, match=what):
        model.state = contents
    assert np.array_equal(answers(model), WANT)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_run_that_fails_changes_nothing(in_place: bool) -> None:
    table, h = placeholder(Type((4,), F32)), placeholder(Type((), F32))
    index = placeholder(Type((), I64))
    after = p.add(h, p.gather(table, index, axis=0))
    y = p.mul(after, 1.5) if in_place else after
    inputs, outputs = {"table": table, "i": index, "h": h}, {"y": y, "h": after}
    graph = Graph(inputs, outputs, "g", {"h": np.zeros((), np.float32)})
    model = brim.compile(graph)
    ones = np.ones(4, np.float32)
    factor = 1.5 if in_place else 1  # an output that is the state itself is copied
    for total in (1, 2, 3):
        assert model(ones, np.array(3)) == total * factor
        with pytest.raises(InputError, match="out of range"):
            model(ones, np.array(9))
        assert model.state["h"] == total


def test_threads_take_turns() -> None:
    """Sums of ones: no run may start from the state that another run started from."""
    model = brim.compile(parse_graph(SUM, {}))
    one = np.ones(2, np.float32)

    def work() -> None:
        for _ in range(200):
            model(one)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert model.state["total"].tolist() == [801, 800]


def test_an_artifact_starts_from_the_first_content(tmp_path: Path) -> None:
    path = tmp_path / "sum.brim"
    model = brim.compile(parse_graph(SUM, {}))
    model(XS[1])
    model.save(path)
    artifact = open_artifact(path)
    artifact.verify()
    assert artifact.self_test() == {"y": 0.0, "total": 0.0}
    for trust in (None, False):  # its code, and its graph compiled again
        loaded = brim.load(path, trust=trust)
        assert [*loaded.inputs] == ["x"] and [*loaded.outputs] == ["y"]
        assert np.array_equal(answers(loaded), WANT)
    loaded.save(tmp_path / "again.brim")
    assert np.array_equal(answers(brim.load(tmp_path / "again.brim")), WANT)


def test_an_artifact_with_state_runs_without_llvm(tmp_path: Path) -> None:
    path = tmp_path / "sum.brim"
    brim.compile(parse_graph(SUM, {})).save(path)
    code = f"""
import sys
sys.modules["llvmlite"] = None
import numpy as np, brim
model = brim.load({str(path)!r}, trust=True)
model(np.ones(2, np.float32))
assert model(np.ones(2, np.float32)).tolist() == [9, 4]
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_a_graph_file_with_state_runs_and_converts(tmp_path: Path) -> None:
    from brim.tools.convert import convert_file

    path = tmp_path / "sum.graph"
    path.write_text(SUM)
    assert np.array_equal(answers(brim.load(path)), WANT)
    made = tmp_path / "sum.brim"
    found = convert_file(path, made, lambda model: {"x": XS[2]})
    assert [*found.differences] == ["y"]
    assert np.array_equal(answers(brim.load(made)), WANT)


class _Growing:
    """A source of programs for any length of x; what it remembers is of x's shape, or a sum."""

    name, metadata, usual = "growing", {}, {}

    def __init__(self, whole: bool) -> None:
        self.inputs, self.outputs = {"x": Type((Dim("n"),), F32)}, {"y": None}
        self.whole = whole

    def made(self, shapes, progress):  # type: ignore[no-untyped-def]
        from brim.compiler import compile_graph

        x = placeholder(Type(shapes["x"], F32))
        added = x if self.whole else p.reduce(x, op="add", axes=(0,))
        h = placeholder(added.type)
        after = p.add(h, added)
        state = {"h": np.zeros(h.shape, np.float32)}
        y = p.mul(after, 2.0)
        return compile_graph(Graph({"x": x, "h": h}, {"y": y, "h": after}, "g", state))


def test_programs_of_one_model_share_its_state() -> None:
    model = Model(_Growing(whole=False), threads=1)
    found = [model(np.ones(n, np.float32)).item() for n in (2, 2, 3, 3, 3, 2)]
    assert found == [4, 8, 14, 20, 26, 30]


def test_state_of_another_shape_is_refused() -> None:
    model = Model(_Growing(whole=True), threads=1)
    assert model(np.ones(2, np.float32)).tolist() == [2, 2]
    with pytest.raises(InputError, match="f32\\[3\\] for these shapes, f32\\[2\\] so far"):
        model(np.ones(3, np.float32))
    assert model(np.ones(2, np.float32)).tolist() == [4, 4]


def test_state_is_not_copied() -> None:
    """Kernels write it where they read it: no step copies, and the arena has no room for it."""
    model = brim.compile(parse_graph(SUM, {}))
    model(XS[1])
    plan = model._last().compiled.plan
    assert plan.state.keys() == {"total"} and plan.arena_bytes == 0
    assert not any(row.is_move for row in model.report().kernels)
    assert model._state.arrays["total"].tolist() == [2, -2]


def test_kernels_of_a_stateful_model_are_timed() -> None:
    model = brim.compile(parse_graph(SUM, {}))
    assert all(seconds > 0 for seconds in model.time_kernels({"x": XS[0]}, rounds=1))
    assert model.state["total"].tolist() == [1, 0]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX only")
def test_an_interrupt_tears_no_state_apart() -> None:
    """All names get their new content, or none does, whenever Ctrl-C comes."""
    names = [f"s{i}" for i in range(400)]
    state = State()
    state.admit({name: np.zeros(8, np.float32) for name in names})

    def one_more(feeds: Mapping[str, Any]) -> dict[str, Any]:
        return {name: feeds[name] + 1 for name in names}

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def work_until_interrupted(seconds: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        while True:
            state.step(one_more, names, {})

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(300):
            with pytest.raises(KeyboardInterrupt):
                work_until_interrupted(1e-3 + number * 7e-6)
            assert len({float(array[0]) for array in state.contents().values()}) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
