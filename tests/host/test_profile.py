"""Recorded runs: everything that runs is there, in order, on its thread, and the times add up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import brim
from brim.graph import Graph, placeholder
from brim.runtime.clocks import RECORD, parts
from brim.runtime.plan import Call, Commit, Loop, Segment
from brim.runtime.recording import Recording, _Log, _Recorder
from brim.tools.profile import arena, memory_page, profile, step_seconds, trace
from brim.tools.profile.summary import _shares
from brim.types import type_of
from tests import control_cases, loop_cases, state_cases
from tests.html_pages import NASTY, Page
from tests.networks import convolution, network, normal, weight

LOOP, TRIPS = "products, whose temporaries share memory", 7


def recorded(graph: Graph, feeds: dict, threads: int = 1, runs: int = 3) -> Recording:
    return brim.compile(graph, threads=threads).record(feeds, runs)


def wide() -> tuple[Graph, dict[str, np.ndarray]]:
    """Layers that are worth several threads."""
    x = normal(1, 64, 64, 16)
    v = placeholder(type_of(x), "x")
    y = convolution(convolution(v, weight(3, 3, 16, 32)), weight(3, 3, 32, 16))
    return Graph({"x": v}, {"y": y}, "wide"), {"x": x}


def control() -> brim.Model:
    (case,) = (c for c in control_cases.CASES if c.name == "loop_until_a_condition")
    return brim.load(case.model)


GRAPHS = {
    "attention": lambda: network("attention"),
    "wide": wide,
    "loop": lambda: loop_cases.case(LOOP, TRIPS),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", GRAPHS)
def test_clocks_change_no_result(name: str, threads: int) -> None:
    graph, feeds = GRAPHS[name]()
    model = brim.compile(graph, threads=threads)
    clocked = _Recorder(model._last().compiled, threads, _Log()).run(feeds)
    for output, array in model.run(feeds).items():
        np.testing.assert_array_equal(clocked[output], array)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_call_is_recorded_in_its_order(name: str, threads: int) -> None:
    found = recorded(*GRAPHS[name](), threads)
    (compiled,) = found.programs
    expected = [
        (number, trip)
        for number, (_, trips) in enumerate(compiled.plan.segments[0].each())
        for trip in range(trips)
    ]
    for run in found.runs:
        kernels = [span for span in run.spans if span.kind == "kernel"]
        assert {(s.number, s.iteration) for s in kernels} == set(expected)
        (native,) = (span for span in run.spans if span.kind == "native")
        assert run.start <= native.start and native.end <= run.end
        assert all(native.start <= s.start <= s.end <= native.end for s in kernels)
        assert all(0 < s.busy <= s.end - s.start for s in kernels)
        assert {s.thread for s in kernels} <= set(found.threads) and len(found.threads) <= threads


def test_calls_on_threads_share_all_iterations_and_end_before_the_next() -> None:
    found = recorded(*wide(), threads=2, runs=20)
    calls = [call for call, _ in found.programs[0].plan.segments[0].each()]
    assert any(s.tasks > 1 for run in found.runs for s in run.spans)
    for run in found.runs:
        before = 0
        for number in range(len(calls)):
            mine = [s for s in run.spans if s.kind == "kernel" and s.number == number]
            assert len({s.thread for s in mine}) == len(mine)
            assert min(s.start for s in mine) >= before
            before = max(s.end for s in mine)


def test_host_steps_and_their_subgraphs_are_told_apart() -> None:
    model = control()
    feeds = {"x": np.array([1, 3], np.float32), "limit": np.array(100, np.float32)}
    model.run(feeds)
    found = model.record(feeds, 2)
    assert len(found.programs) > 1
    summary = profile(found, model.name, 1)
    (loop,) = (layer for layer in summary.layers if layer.ops == ("loop",))
    assert loop.kind == "numpy" and loop.times == 1 and loop.kernels == 0
    inner_bytes = sum(each.plan.arena_bytes + each.weight_bytes for each in found.programs[1:])
    assert arena(found.programs[0], "x").inner_bytes == inner_bytes
    inner = [layer for layer in summary.layers if layer.kind != "numpy"]
    assert any(layer.times == 6 for layer in inner)  # 3 * 2 ** 6 is the first above 100
    assert 0 < loop.seconds < summary.seconds


@pytest.mark.parametrize("name", [*GRAPHS, "control"])
def test_times_add_up_to_the_run(name: str) -> None:
    """To the nanosecond: what is in no layer is between or around them."""
    if name == "control":
        model = control()
        feeds = {"x": np.array([1, 3], np.float32), "limit": np.array(100, np.float32)}
        model.run(feeds)
        found = model.record(feeds, 3)
    else:
        found = recorded(*GRAPHS[name](), threads=2)
    for run in found.runs:
        layers, between, around = _shares(run)
        assert between >= 0 and around > 0
        assert sum(each.wall for each in layers.values()) + between + around == run.end - run.start
    summary = profile(found, "x", 2)
    assert all(layer.seconds > 0 and layer.threads <= 2 for layer in summary.layers)
    assert summary.low <= summary.seconds <= summary.high
    for parts_ in (summary.layers, summary.kinds):
        whole = sum(part.seconds for part in parts_) + summary.between + summary.around
        assert whole == pytest.approx(summary.seconds)


def test_state_starts_anew_and_stays() -> None:
    case = state_cases.STATE_CASES["momentum"]
    model = brim.compile(case.graph())
    model.run(case.inputs)
    before = model.state
    model.record(case.inputs, 2)
    for name, array in before.items():
        np.testing.assert_array_equal(model.state[name], array)


def test_artifacts_are_recorded_with_their_own_code(tmp_path: Path) -> None:
    graph, feeds = network("attention")
    model = brim.compile(graph)
    model.save(tmp_path / "a.brim")
    loaded = brim.load(tmp_path / "a.brim", trust=True)
    found = loaded.record(feeds, 2)
    assert found.programs[0].objects == model._last().compiled.objects
    assert arena(found.programs[0], "a") == arena(model._last().compiled, "a")


# ------------------------------------------------------------------ records and calls


def _segment() -> Segment:
    first, second = Call(0, (), 4, 0.0), Call(1, (), 2, 0.0)
    return Segment((first, Commit(), Loop(2, (second, Call(0, (), 0, 0.0))), second))


def _records(*rows: tuple[int, int, int, int, int, int]) -> np.ndarray:
    found = np.zeros(len(rows), RECORD)
    for place, row in zip(found, rows):
        for field, value in zip(RECORD.names or (), row):
            place[field] = value
    return found


FIRST = ((0, 2, 4, 8, 11, 14), (0, 0, 2, 7, 10, 15))  # they are left by whoever ends first
REST = (
    (1, 0, 2, 7, 20, 21),
    (0, 0, 0, 7, 22, 23),
    (1, 0, 1, 7, 24, 25),
    (1, 1, 2, 7, 26, 28),
    (0, 0, 0, 7, 29, 30),
    (1, 0, 2, 7, 31, 32),
)


def test_records_find_their_calls() -> None:
    found = parts(_segment(), _records(*FIRST, *REST))
    assert [(p.call, p.iteration, p.thread, p.start, p.end, p.busy, p.tasks) for p in found] == [
        (0, 0, 7, 10, 15, 5, 1),
        (0, 0, 8, 11, 14, 3, 1),
        (1, 0, 7, 20, 21, 1, 1),
        (2, 0, 7, 22, 23, 1, 1),
        (1, 1, 7, 24, 28, 3, 2),
        (2, 1, 7, 29, 30, 1, 1),
        (3, 0, 7, 31, 32, 1, 1),
    ]


def test_a_run_that_ended_early_has_fewer_calls() -> None:
    assert [p.call for p in parts(_segment(), _records(*FIRST))] == [0, 0]
    assert parts(_segment(), _records()) == []


# ------------------------------------------------------------------ the trace


def check_trace(document: dict, threads: int) -> list[dict]:
    """What the format asks for; its slices."""
    events = json.loads(json.dumps(document))["traceEvents"]
    named = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert len(named) <= threads and named[0] == "calling thread"
    slices = [e for e in events if e["ph"] == "X"]
    for event in events:
        assert event["ph"] in "MXC" and event["pid"] == 1 and event["tid"] in named
        if event["ph"] != "M":
            assert event["ts"] >= 0
        if event["ph"] == "C":
            assert set(event["args"]) == {"bytes"} and event["args"]["bytes"] >= 0
    for track in named:  # slices of a track are within each other, or apart
        open_: list[float] = []
        mine = [e for e in slices if e["tid"] == track]
        for event in sorted(mine, key=lambda e: (e["ts"], -e["dur"])):
            assert event["dur"] >= 0 and event["name"]
            end = event["ts"] + event["dur"]
            while open_ and open_[-1] <= event["ts"] + 1e-4:
                open_.pop()
            assert not open_ or end <= open_[-1] + 1e-4, event
            open_.append(end)
    return slices


@pytest.mark.parametrize("name", GRAPHS)
def test_the_trace_is_one(name: str) -> None:
    found = recorded(*GRAPHS[name](), threads=2, runs=2)
    document = trace(found, found.programs[0].graph.name)
    slices = check_trace(document, 2)
    kernels = [e for e in slices if e["cat"] == "kernel"]
    spans = [s for run in found.runs for s in run.spans if s.kind == "kernel"]
    assert len(kernels) == len(spans)
    assert sum(e["dur"] for e in kernels) == pytest.approx(
        sum(s.end - s.start for s in spans) / 1e3
    )
    assert [e["name"] for e in slices if e["cat"] == "run"] == [
        "run without clocks", "run 0", "run without clocks", "run 1",
    ]  # fmt: skip
    memory = [e["args"]["bytes"] for e in document["traceEvents"] if e["ph"] == "C"]
    held = arena(found.programs[0], "x")
    assert max(memory) == max(held.live) and memory[-1] == 0


def test_a_trace_of_host_steps() -> None:
    model = control()
    feeds = {"x": np.array([1, 3], np.float32), "limit": np.array(100, np.float32)}
    model.run(feeds)
    slices = check_trace(trace(model.record(feeds, 2), model.name), 1)
    assert {e["cat"] for e in slices} == {"run", "host", "native", "kernel"}


# ------------------------------------------------------------------ memory


@pytest.mark.parametrize("name", [*GRAPHS, "dense", "convolution", "residual"])
def test_the_arena_is_what_the_program_uses(name: str) -> None:
    graph, _ = GRAPHS[name]() if name in GRAPHS else network(name)
    model = brim.compile(graph)
    compiled = model._last().compiled
    held = arena(compiled, model.name)
    assert len(held.steps) == len(held.live) == len(compiled.plan.numbered())
    assert max(held.live, default=0) <= held.bytes
    assert sum(each.bytes for each in held.held) == held.tensor_bytes
    for a in held.held:
        assert a.writers and a.first <= a.writers[0].step <= a.last
        assert a.offset >= 0 and a.offset + a.bytes <= held.bytes
        for b in held.held:
            together = a.first <= b.last and b.first <= a.last
            if a is not b and together:
                assert a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset


def test_the_page_of_memory() -> None:
    found = recorded(*network("attention"))
    held, seconds = arena(found.programs[0], "net"), step_seconds(found)
    assert len(seconds) == len(held.steps) and all(s > 0 for s in seconds)
    page = Page(memory_page(held, seconds))
    assert page.left_open() == page.requests() == []
    assert "There at the peak" in page.text
    assert sum(tag == "g" for tag, _ in page.tags) >= 2 * len(held.held)  # by step and by time


@pytest.mark.parametrize("nasty", NASTY)
def test_names_of_models_are_text(nasty: str) -> None:
    compiled = brim.compile(network("attention")[0])._last().compiled

    def named(name: str) -> Page:
        rows = tuple(replace(row, where=name) for row in compiled.rows)
        held = arena(replace(compiled, rows=rows), name)
        return Page(memory_page(held, [1e-6] * len(held.steps)))

    plain, found = named("plain"), named(nasty)
    assert found.tags == plain.tags and found.comments == []


def test_a_model_without_temporaries_has_a_page_too() -> None:
    found = recorded(*network("softmax"))
    assert "no temporaries" in memory_page(arena(found.programs[0], "net"), step_seconds(found))


# ------------------------------------------------------------------ the command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    from brim.cli import main
    from brim.text import print_graph

    graph, _ = network("attention")
    text, data = print_graph(graph)
    np.savez(tmp_path / "net.npz", **data)
    (tmp_path / "net.graph").write_text(text)
    model, page, times = tmp_path / "net.graph", tmp_path / "m.html", tmp_path / "t.json"
    line = ["profile", str(model), "--runs", "2", "--memory", str(page), "--trace", str(times)]
    assert main([*line, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["runs"] == 2 and len(document["layers"]) > 3
    assert document["memory"]["bytes"] > 0
    check_trace(json.loads(times.read_text()), 1)
    assert page.read_text().startswith("<!doctype html>")
    assert main([*line, "--top", "1"]) == 0
    shown = capsys.readouterr().out
    assert "slowest of" in shown and "between kernels" in shown and "clocks cost" in shown
