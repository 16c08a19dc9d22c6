"""The benchmark's networks are what they claim to be, and its command measures and reports.

How fast anything is stays out of the tests: a ratio depends on the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

import brim
from bench import __main__ as command
from bench import int8, measure, nets, peers, static_int8

pytestmark = pytest.mark.peer
SMALL = "squeezenet_1_1"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nets")


def run(model: onnx.ModelProto, inputs: peers.Arrays) -> peers.Arrays:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def declared(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


@pytest.mark.parametrize("name", nets.NETS)
def test_network(name: str) -> None:
    model = nets.NETS[name]()
    onnx.checker.check_model(model, full_check=True)
    mega, parameters = nets.PUBLISHED[name]
    assert nets.multiply_accumulates(model) / 1e6 == pytest.approx(mega, rel=0.03)
    assert nets.parameters(model) == parameters

    (argument,) = model.graph.input
    random = np.random.default_rng(0)
    first, second = (
        run(model, {argument.name: random.standard_normal(declared(argument), np.float32)})
        for _ in range(2)
    )
    for output in model.graph.output:
        one, other = first[output.name], second[output.name]
        assert one.shape == declared(output)
        assert np.isfinite(one).all()
        # Neither exploded nor vanished, and still depending on the input: otherwise an engine that
        # computes the middle wrongly would agree at the end.
        scale = one.mean() if (one >= 0).all() else 1  # of probabilities
        assert 0.1 < one.std() / scale < 10
        assert np.abs(one - other).max() > 0.1 * np.abs(one).max()


@pytest.mark.parametrize("name", ["blazeface", "ppocr_detect", "ppocr_recognise"])
def test_brim_agrees(name: str, directory: Path) -> None:
    size = 128 if nets.resizable(name) else None
    path = nets.build(name, directory, batch=2, size=size)
    inputs = measure.random_inputs(path)
    expected = run(onnx.load(path), inputs)
    assert measure.difference(brim.load(path, threads=1).run(inputs), expected) < 1e-5


@pytest.mark.parametrize("name", nets.NETS)
def test_batch(name: str) -> None:
    size = {"size": 96} if nets.resizable(name) else {}
    one, two = (nets.NETS[name](batch=batch, **size) for batch in (1, 2))
    onnx.checker.check_model(two, full_check=True)
    assert nets.multiply_accumulates(two) == 2 * nets.multiply_accumulates(one)
    assert nets.parameters(two) == nets.parameters(one)


def test_weights_are_seeded() -> None:
    assert nets.squeezenet_1_1() == nets.squeezenet_1_1()


def test_build_reuses_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = nets.build(SMALL, tmp_path)
    written = path.stat().st_mtime_ns
    assert nets.build(SMALL, tmp_path) == path
    assert path.stat().st_mtime_ns == written
    assert list(tmp_path.iterdir()) == [path]


def test_build_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(batch: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(nets.NETS, SMALL, interrupted)
    with pytest.raises(KeyboardInterrupt):
        nets.build(SMALL, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_command(directory: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    options = ["--nets", f"transformer,{SMALL}", "--batch", "2", "--size", "96", "--rounds", "2"]
    options += ["--engines", "onnxruntime,onnxruntime", "--json", str(report)]
    code = command.main([*options, "--directory", str(directory)])
    captured = capfd.readouterr()
    assert code == 0, captured.err
    assert "onnxruntime#2" in captured.out
    assert "transformer is left out" in captured.out

    found = json.loads(report.read_text())
    assert (found["batch"], found["size"]) == (2, 96)
    (result,) = found["results"]
    small = nets.NETS[SMALL](batch=2, size=96)
    assert result["multiply_accumulates"] == nets.multiply_accumulates(small)
    for engine in result["engines"]:
        assert engine["state"] == "ok"
        assert engine["version"] == onnxruntime.__version__
        assert len(engine["rounds"]) == 2
        assert 0 < engine["fastest"] <= engine["median"]
        assert engine["cold_load"] > 0
        assert engine["warm_load"] > 0
        assert 0 < engine["cores"] < 1.3  # one thread was asked for
        assert engine["peak_bytes"] > 4 * nets.PUBLISHED[SMALL][1]
    (comparison,) = result["comparisons"]
    assert comparison["difference"] == 0
    assert comparison["agrees"]
    assert comparison["low"] <= comparison["ratio"] <= comparison["high"]


def test_entries_of_a_race_have_their_own_environment(directory: Path) -> None:
    path = nets.build(SMALL, directory, size=64)
    entries = [
        measure.Entry("plain", "brim", path),
        measure.Entry("broken", "brim", path, {"BRIM_TARGET": "abacus"}),
    ]
    inputs = measure.random_inputs(path)
    (plain, broken), _ = measure.race("small", entries, inputs, rounds=1)
    assert plain.state == "ok" and plain.median > 0
    assert broken.state == "failed" and "abacus" in broken.why


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_static_int8(form: static_int8.Form, directory: Path, tmp_path: Path) -> None:
    path = nets.build("mobilenet_v2", directory, size=64)
    samples = int8.samples(path)
    made = static_int8.static_int8(path, tmp_path / "int8.onnx", form, samples)
    assert list(tmp_path.iterdir()) == [made]
    assert made.stat().st_size < 0.3 * path.stat().st_size
    (found,), (want,) = (run(onnx.load(p), samples[0]).values() for p in (made, path))
    assert 0 < np.square(found - want).sum() < 0.02 * np.square(want).sum()


@pytest.mark.slow  # it compiles a network of full size
def test_int8_command(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = [SMALL, "--rows", "host", "--rounds", "1", "--directory", str(directory)]
    code = int8.main(options)
    captured = capfd.readouterr()
    assert code == int("faster" in captured.err or "openvino" in captured.err)
    (line,) = (line for line in captured.out.splitlines() if line.startswith(SMALL))
    assert line.count("(") >= 3  # ratios of f32 and of onnxruntime's two


def test_missing_engine_is_reported(
    directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # An entry of None makes `import brim` fail as if it were absent; the child reads this file.
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['brim'] = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    options = ["--nets", SMALL, "--engines", "brim,onnxruntime", "--rounds", "1"]
    assert command.main([*options, "--directory", str(directory)]) == 1
    captured = capfd.readouterr()
    assert f"{SMALL}: brim not installed" in captured.err
    assert "onnxruntime" in captured.out


def test_failures_of_a_child_are_errors(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"no model")
    with peers.Peer("onnxruntime", {}) as peer:
        with pytest.raises(peers.PeerError, match="load: InvalidProtobuf"):
            peer.ask("load", model=str(garbage), threads=1)
        os.kill(peer._child.pid, signal.SIGABRT)
        with pytest.raises(peers.PeerError, match="SIGABRT"):
            peer.ask("memory")


def test_hung_child_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "LIMIT_SECONDS", 0.2)
    with peers.Peer("onnxruntime", {}) as peer:
        os.kill(peer._child.pid, signal.SIGSTOP)
        with pytest.raises(peers.PeerError, match="no answer"):
            peer.ask("memory")


def _engines(children: Path) -> list[str]:
    """The processes among `children` that run an engine."""
    found = []
    for child in children.read_text().split():
        with contextlib.suppress(OSError):
            if b"bench.peers" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def test_interrupt_ends_the_children(directory: Path) -> None:
    nets.build(SMALL, directory)
    options = ["--nets", SMALL, "--engines", "onnxruntime", "--rounds", "1000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *options, "--directory", str(directory)],
        env={**os.environ, "PYTHONPATH": peers._child_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not Path("/proc/self/task").exists():
        process.kill()
        pytest.skip("children are looked up in /proc")
    deadline = time.monotonic() + 120
    # `uname` is a child for a moment, too
    while process.poll() is None and not (child := _engines(children)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert process.returncode is None, process.communicate()[1]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "interrupted" in errors
    # One that was just being started is not killed: it ends when it finds nobody to talk to.
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child[0]}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child[0]}").exists()


def test_difference() -> None:
    reference = {"y": np.array([1.0, -4.0])}
    assert measure.difference({"y": np.array([1.0, -4.0])}, reference) == 0
    assert measure.difference({"y": np.array([1.0, -3.0])}, reference) == 0.25
    assert np.isnan(measure.difference({"y": np.array([np.nan, -4.0])}, reference))
    assert measure.difference({"y": np.zeros((1, 2))}, reference) == np.inf
    assert measure.difference({"z": np.zeros(2)}, reference) == np.inf
    assert not measure.Comparison("peer", 1.0, 1.0, 1.0, np.nan).agrees
