"""`.brim` artifacts and the cache of models: what is saved runs again, if it is trusted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import brim
from brim.compiler import compile_graph
from brim.errors import BrimError, InputError, ModelError, TrustError, UnsupportedError
from brim.graph import Graph, const, evaluate, placeholder
from brim.ops import primitive as p
from brim.ops.control import cond, loop, results_of
from brim.runtime import artifact as artifact_module
from brim.runtime.artifact import open_artifact
from brim.runtime.container import read_container, write_container
from brim.text import print_graph
from brim.types import BOOL, F16, F32, I64, Type
from tests.networks import NETWORKS, network, normal

REPOSITORY = Path(brim.__file__).parents[2]


def control() -> tuple[Graph, dict[str, np.ndarray]]:
    """A loop whose body multiplies by a packed matrix, a choice, and constants in both."""
    x = placeholder(Type((4, 40), F32), "x")
    count, go = placeholder(Type((), I64)), placeholder(Type((), BOOL))
    state, seen = placeholder(Type((4, 40), F32)), placeholder(Type((4, 40), F32))
    matrix = const(normal(40, 40) / 7)
    step = p.add(p.contract(state, matrix, spec="mk,kn->mn"), seen)
    body = Graph(
        {"i": count, "go": go, "state": state, "seen": seen},
        {"go": go, "next": step, "row": p.reduce(step, op="add", axes=(1,))},
        "body",
    )
    trips, start = const(np.array(3, np.int64)), const(np.array(True))
    found = results_of(loop(trips, start, x, x, body=body, carried=1, length=3))
    a, b = placeholder(Type((4, 40), F32)), placeholder(Type((4, 40), F32))
    then = Graph({"a": a}, {"y": p.mul(a, const(normal(4, 40)))}, "then")
    orelse = Graph({"b": b}, {"y": p.add(b, 1.0)}, "orelse")
    positive = p.gt(p.reduce(x, op="add", axes=(0, 1)), 0.0)
    chosen = cond(positive, found[0], then=then, orelse=orelse)
    graph = Graph({"x": x}, {"rows": found[1], "chosen": p.add(chosen, 2.0)}, "control")
    return graph, {"x": normal(4, 40)}


def saved(graph: Graph, path: Path) -> brim.Model:
    model = brim.compile(graph)
    model.save(path)
    return model


def rewritten(path: Path, change: dict[str, bytes | None], to: Path) -> Path:
    """A copy with members replaced (None: removed); the manifest is taken as it is."""
    members = read_container(memoryview(path.read_bytes()), path.name)
    plain = {name: bytes(member.read()) for name, member in members.items()} | change
    with to.open("wb") as file:
        write_container(file, [(n, d) for n, d in plain.items() if d is not None])
    return to


def manifest_of(path: Path) -> dict:
    return json.loads(
        bytes(read_container(memoryview(path.read_bytes()), "")["manifest.json"].read())
    )


@pytest.mark.parametrize("name", [*NETWORKS, "control"])
def test_what_is_saved_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    graph, feeds = control() if name == "control" else network(name)
    want = saved(graph, tmp_path / "m.brim").run(feeds)
    artifact = open_artifact(tmp_path / "m.brim")
    artifact.verify()
    model = brim.load(tmp_path / "m.brim")
    assert model.run(feeds).keys() == want.keys()
    for output, array in model.run(feeds).items():
        np.testing.assert_array_equal(array, want[output])
    again = tmp_path / "again.brim"
    model.save(again)
    assert again.read_bytes() == (tmp_path / "m.brim").read_bytes()


@pytest.mark.parametrize("name", [*NETWORKS, "control"])
def test_the_graph_can_be_compiled_from_the_packed_weights(name: str, tmp_path: Path) -> None:
    graph, feeds = control() if name == "control" else network(name)
    want = saved(graph, tmp_path / "m.brim").run(feeds)
    stored = open_artifact(tmp_path / "m.brim").programs[0]
    for output, array in evaluate(stored.graph, feeds).items():
        np.testing.assert_allclose(array, want[output], rtol=2e-4, atol=2e-5)
    model = brim.load(tmp_path / "m.brim", trust=False)
    assert not isinstance(model._last().compiled, artifact_module.StoredProgram)
    for output, array in model.run(feeds).items():
        np.testing.assert_array_equal(array, want[output])


def test_packed_constants_are_stored_once(tmp_path: Path) -> None:
    x = placeholder(Type((8, 256), F32))
    matrix = normal(256, 256)
    saved(
        Graph({"x": x}, {"y": p.contract(x, const(matrix), spec="mk,kn->mn")}), tmp_path / "m.brim"
    )
    assert matrix.nbytes < (tmp_path / "m.brim").stat().st_size < 1.3 * matrix.nbytes


def test_threads_use_the_pool_of_the_artifact(tmp_path: Path) -> None:
    graph, feeds = network("attention")
    want = saved(graph, tmp_path / "m.brim").run(feeds)["y0"]
    np.testing.assert_array_equal(brim.load(tmp_path / "m.brim", threads=2).run(feeds)["y0"], want)


def test_report_and_timing_of_a_loaded_model(tmp_path: Path) -> None:
    graph, _ = network("attention")
    model = saved(graph, tmp_path / "m.brim")
    loaded = brim.load(tmp_path / "m.brim")
    assert loaded.report() == model.report()
    assert len(loaded.time_kernels(rounds=1)) == len(model.report().kernels)
    assert (loaded.inputs, loaded.outputs) == (model.inputs, model.outputs)


def test_half_floats(tmp_path: Path) -> None:
    x = placeholder(Type((3,), F16))
    saved(Graph({"x": x}, {"y": p.add(x, x)}), tmp_path / "m.brim")
    found = brim.load(tmp_path / "m.brim")(np.array([1, 2, 3], np.float16))
    np.testing.assert_array_equal(found, np.array([2, 4, 6], np.float16))


def test_text_and_results_of_unknown_shape(tmp_path: Path) -> None:
    """Host steps: a constant of text among their arguments, and results without a shape."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("StringConcat", ["words", "end"], ["marked"]),
            onnx.helper.make_node("NonZero", ["x"], ["where"]),
            onnx.helper.make_node("Add", ["x", "x"], ["twice"]),
        ],
        "host",
        [make("words", onnx.TensorProto.STRING, [2]), make("x", 1, [4])],
        [
            make("marked", onnx.TensorProto.STRING, [2]),
            make("where", 7, [1, "n"]),
            make("twice", 1, [4]),
        ],
        [onnx.helper.make_tensor("end", onnx.TensorProto.STRING, [1], [b"!"])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    feeds = {"words": np.array(["a", "ß"], object), "x": np.array([0, 1, 0, 2], np.float32)}
    model = brim.load(model.SerializeToString())
    model.save(tmp_path / "m.brim", samples=[feeds])
    loaded = brim.load(tmp_path / "m.brim")
    for name, array in model.run(feeds).items():
        np.testing.assert_array_equal(loaded.run(feeds)[name], array)
    sample = open_artifact(tmp_path / "m.brim").programs[0].sample
    assert not isinstance(sample, str) and list(sample.outputs["marked"]) == ["a!", "ß!"]
    assert open_artifact(tmp_path / "m.brim").self_test()["where"] == 0


# ------------------------------------------------------------------ trust


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An artifact that another machine made."""
    monkeypatch.setenv("BRIM_CACHE", str(tmp_path / "theirs"))
    saved(network("convolution")[0], tmp_path / "m.brim")
    monkeypatch.setenv("BRIM_CACHE", str(tmp_path / "mine"))
    return tmp_path / "m.brim"


def test_foreign_code_is_not_run_unless_the_caller_vouches_for_it(foreign: Path) -> None:
    artifact = open_artifact(foreign)
    program = artifact.programs[0]
    for trust in (None, False):
        with pytest.raises(TrustError, match="not made by this machine"):
            artifact.load(program, trust)
    with pytest.raises(TrustError, match="not the one that was pinned"):
        artifact.load(program, "0" * 64)
    with pytest.raises(InputError, match="SHA-256"):
        artifact.load(program, "abc")
    _, feeds = network("convolution")
    for trust in (True, artifact.code_digest, artifact.code_digest.upper()):
        assert artifact.load(program, trust).run(feeds)["y0"].size
    with pytest.raises(TrustError, match="pinned"):
        brim.load(foreign, trust="0" * 64)


def test_foreign_code_is_compiled_from_the_graph(foreign: Path) -> None:
    model = brim.load(foreign)
    assert not isinstance(model._last().compiled, artifact_module.StoredProgram)
    own = brim.load(foreign, trust=True)
    assert isinstance(own._last().compiled, artifact_module.StoredProgram)


def test_a_borrowed_seal_does_not_fit_other_code(foreign: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.brim"
    saved(network("attention")[0], mine)
    manifest = manifest_of(foreign) | {"seal": manifest_of(mine)["seal"]}
    forged = rewritten(
        foreign, {"manifest.json": json.dumps(manifest).encode()}, tmp_path / "f.brim"
    )
    artifact = open_artifact(forged)
    assert artifact.why_not(artifact.programs[0])


def test_code_that_was_exchanged_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "m.brim"
    saved(network("convolution")[0], path)
    other = tmp_path / "other.brim"
    saved(network("attention")[0], other)
    name = "program0/code/x86_64/objects.bin"
    members = read_container(memoryview(other.read_bytes()), "")
    name = next(n for n in members if n.endswith("objects.bin"))
    changed = rewritten(path, {name: bytes(members[name].read())}, tmp_path / "changed.brim")
    with pytest.raises(ModelError, match=r"objects\.bin"):
        open_artifact(changed)


def test_code_for_another_processor_is_never_run(tmp_path: Path) -> None:
    graph, feeds = network("convolution")
    model = brim.compile(graph, target="cortex-a76")
    model.save(tmp_path / "arm.brim")
    artifact = open_artifact(tmp_path / "arm.brim")
    with pytest.raises(TrustError, match="aarch64|lacks"):
        artifact.load(artifact.programs[0], trust=True)
    found = brim.load(tmp_path / "arm.brim", trust=True).run(feeds)
    np.testing.assert_allclose(found["y0"], evaluate(graph, feeds)["y0"], rtol=2e-4, atol=2e-5)


def test_the_machine_key_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIM_CACHE", str(tmp_path / "cache"))
    saved(network("elementwise")[0], tmp_path / "m.brim")
    key = tmp_path / "cache" / "machine.key"
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_bytes()) == 32
    key.chmod(0o644)
    with pytest.raises(TrustError, match="others can read"):
        brim.load(tmp_path / "m.brim")


def test_without_a_cache_directory_nothing_is_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRIM_CACHE", "off")
    saved(network("elementwise")[0], tmp_path / "m.brim")
    artifact = open_artifact(tmp_path / "m.brim")
    assert artifact.why_not(artifact.programs[0])
    assert brim.load(tmp_path / "m.brim").run(network("elementwise")[1])


BARE = """
import sys
from importlib.machinery import PathFinder
class Others:
    @staticmethod
    def find_spec(name, path=None, target=None):
        missing = name.split(".")[0] in ("llvmlite", "onnx", "google")
        return None if missing else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Others if finder is PathFinder else finder for finder in sys.meta_path]
import numpy as np, brim
{code}
assert not {{"llvmlite", "onnx"}} & set(sys.modules)
"""


def bare(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs code where neither llvmlite nor onnx is installed."""
    path = os.pathsep.join((str(REPOSITORY / "src"), str(REPOSITORY)))
    return subprocess.run(
        [sys.executable, "-c", BARE.format(code=code)],
        env={**os.environ, "PYTHONPATH": path, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_artifact_runs_without_llvm(tmp_path: Path) -> None:
    graph, feeds = control()
    want = saved(graph, tmp_path / "m.brim").run(feeds)
    np.savez(tmp_path / "io.npz", **feeds, **want)
    code = f"""
io = np.load({str(tmp_path / "io.npz")!r})
for threads in (1, 2):
    found = brim.load({str(tmp_path / "m.brim")!r}, threads=threads).run({{"x": io["x"]}})
    assert all((found[name] == io[name]).all() for name in ("rows", "chosen"))
from brim.runtime.artifact import open_artifact
open_artifact({str(tmp_path / "m.brim")!r}).self_test()
"""
    ran = bare(code)
    assert ran.returncode == 0, ran.stderr


def test_without_llvm_foreign_code_is_refused_with_the_reason(foreign: Path) -> None:
    code = f"""
try:
    brim.load({str(foreign)!r})
except brim.TrustError as error:
    assert "not made by this machine" in error.why and "llvmlite" in error.why, error
else:
    raise SystemExit("it was run")
brim.load({str(foreign)!r}, trust=True)
"""
    ran = bare(code)
    assert ran.returncode == 0, ran.stderr


# ------------------------------------------------------------------ checks and refusals


def test_the_self_test_finds_wrong_numbers(tmp_path: Path) -> None:
    path = tmp_path / "m.brim"
    model = saved(network("convolution")[0], path)
    artifact = open_artifact(path)
    assert artifact.self_test() == {"y0": 0.0}
    with pytest.raises(BrimError, match="self-test failed"):
        artifact.self_test(run=lambda feeds: {n: a * 1.01 for n, a in model.run(feeds).items()})


def test_why_there_is_no_sample(tmp_path: Path) -> None:
    """Random indices are 0 and 1, and here only 0 exists."""
    table, index = placeholder(Type((1, 4), F32)), placeholder(Type((64,), I64))
    graph = Graph({"table": table, "index": index}, {"y": p.gather(table, index, axis=0)})
    saved(graph, tmp_path / "m.brim")
    with pytest.raises(InputError, match="no sample") as caught:
        open_artifact(tmp_path / "m.brim").self_test()
    assert "out of range" in caught.value.why


def test_migrations_are_applied_and_newer_formats_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.brim"
    saved(network("elementwise")[0], path)
    manifest = manifest_of(path)
    old = {k: v for k, v in manifest.items() if k != "name"} | {"format": 0, "title": "old"}
    aged = rewritten(path, {"manifest.json": json.dumps(old).encode()}, tmp_path / "old.brim")
    with pytest.raises(UnsupportedError, match="format 0"):
        open_artifact(aged)
    migrations = {**artifact_module.MIGRATIONS, 0: lambda m: {**m, "name": m["title"]}}
    monkeypatch.setattr(artifact_module, "MIGRATIONS", migrations)
    assert open_artifact(aged).name == "old"
    first = {"manifest.json": json.dumps({**manifest, "format": 1}).encode()}
    assert open_artifact(rewritten(path, first, tmp_path / "first.brim")).programs
    newer = {**manifest, "format": 99}
    with pytest.raises(UnsupportedError, match="format 99") as caught:
        open_artifact(
            rewritten(path, {"manifest.json": json.dumps(newer).encode()}, tmp_path / "n")
        )
    assert "upgrade" in caught.value.hint


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.brim"
    model = saved(network("elementwise")[0], path)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("brim.runtime.artifact_save.write_container", full)
    with pytest.raises(BrimError, match="cannot be written"):
        model.save(path)
    assert path.read_bytes() == before and [f.name for f in tmp_path.iterdir()] == ["m.brim"]


def test_shapes_that_are_not_in_the_artifact(tmp_path: Path) -> None:
    saved(network("elementwise")[0], tmp_path / "m.brim")
    artifact = open_artifact(tmp_path / "m.brim")
    assert artifact.find({"x0": (9, 9)}) is None
    with pytest.raises(InputError, match="nothing is compiled"):
        brim.load(tmp_path / "m.brim").__class__(
            brim.load(tmp_path / "m.brim")._source, threads=1
        ).save(tmp_path / "empty.brim")


def test_a_graph_text_runs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, feeds = network("convolution")
    text, data = print_graph(graph)
    (tmp_path / "g.graph").write_text(text)
    np.savez(tmp_path / "g.npz", **data)
    found = brim.load(tmp_path / "g.graph").run(feeds)["y0"]
    np.testing.assert_allclose(found, evaluate(graph, feeds)["y0"], rtol=2e-4, atol=2e-5)
    np.savez_compressed(tmp_path / "g.npz", **data)
    with pytest.raises(ModelError, match="compressed"):
        brim.load(tmp_path / "g.graph")


def test_dumps_of_every_pass_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, feeds = network("residual")
    monkeypatch.setenv("BRIM_DUMP", str(tmp_path))
    want = brim.compile(graph).run(feeds)
    monkeypatch.delenv("BRIM_DUMP")
    dumps = sorted(tmp_path.rglob("*.graph"))
    assert len(dumps) > 3
    for dump in dumps:
        for name, array in brim.load(dump).run(feeds).items():
            np.testing.assert_allclose(array, want[name], rtol=2e-4, atol=2e-5)


# ------------------------------------------------------------------ the cache of models

onnx = pytest.importorskip("onnx")


def perceptron(path: Path, scale: float = 1.0, external: bool = False, batch: str = "N") -> Path:
    """y = relu(x @ w), x: f32[N,16]."""
    w = (np.arange(256, dtype=np.float32).reshape(16, 16) / 100 - 1) * scale
    make = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("MatMul", ["x", "w"], ["h"]),
            onnx.helper.make_node("Relu", ["h"], ["y"]),
        ],
        "mlp",
        [make("x", 1, [batch, 16])],
        [make("y", 1, [batch, 16])],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 9
    options = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
    onnx.save(model, path, **(options if external else {}))
    old = time.time() - 60  # the cache does not remember files that are being written
    for file in path.parent.glob("*"):
        if file.is_file():
            os.utime(file, (old, old))
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BRIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


X = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)


def is_stored(model: brim.Model) -> bool:
    return isinstance(model._last().compiled, artifact_module.StoredProgram)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the graphs that have been compiled."""
    names: list[str] = []

    def noted(graph: Graph, *args: Any, **options: Any) -> Any:
        names.append(graph.name)
        return compile_graph(graph, *args, **options)

    monkeypatch.setattr("brim.compiler.compile_graph", noted)
    return names


def test_a_second_load_comes_from_the_cache(
    tmp_path: Path, cache: Path, compilations: list[str]
) -> None:
    path = perceptron(tmp_path / "m.onnx")
    first = brim.load(path)
    want = first(X)
    second = brim.load(path)
    np.testing.assert_array_equal(second(X), want)
    assert len(compilations) == 1
    assert is_stored(first) and is_stored(second)  # both map the entry
    assert (second.inputs, second.name) == (first.inputs, first.name)
    assert len(list(cache.iterdir())) == 2
    third = brim.load(path.read_bytes(), shapes={"x": (2, 16)})
    np.testing.assert_array_equal(third(X), want)
    assert second.report().kernels == first.report().kernels


def test_a_warm_load_needs_neither_onnx_nor_llvm(tmp_path: Path, cache: Path) -> None:
    path = perceptron(tmp_path / "m.onnx")
    want = brim.load(path)(X)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", want)
    code = f"""
import pathlib
folder = pathlib.Path({str(tmp_path)!r})
assert (brim.load(folder / "m.onnx")(np.load(folder / "x.npy")) == np.load(folder / "y.npy")).all()
heavy = {{"brim.compiler", "brim.frontends", "brim.kernels.ir", "brim.ops"}}  # 100 ms together
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    # The stamp of a cached model holds LLVM's version, so llvmlite must be there, but not imported.
    program = code + '\nassert not {"llvmlite", "onnx"} & set(sys.modules)'
    ran = subprocess.run(
        [sys.executable, "-c", "import sys, numpy as np, brim\n" + program],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr


def test_a_changed_file_is_another_model(tmp_path: Path, cache: Path) -> None:
    path = perceptron(tmp_path / "m.onnx")
    before = brim.load(path)(X)
    perceptron(path, scale=2.0)
    np.testing.assert_allclose(brim.load(path)(X), before * 2, rtol=1e-5)


def test_changed_external_data_is_another_model(tmp_path: Path, cache: Path) -> None:
    path = perceptron(tmp_path / "m.onnx", external=True)
    before = brim.load(path)(X)
    assert len(list(cache.iterdir())) == 2 and is_stored_after(path)
    weights = np.fromfile(tmp_path / "w.bin", np.float32)
    (weights * 2).tofile(tmp_path / "w.bin")
    np.testing.assert_allclose(brim.load(path)(X), before * 2, rtol=1e-5)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelError, match=r"w\.bin"):
        brim.load(path)(X)


def is_stored_after(path: Path) -> bool:
    model = brim.load(path)
    model(X)
    return is_stored(model)


def test_no_cache_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIM_CACHE", "off")
    path = perceptron(tmp_path / "m.onnx")
    brim.load(path)(X)
    assert not is_stored_after(path)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_damaged_entries_are_made_again(
    tmp_path: Path, cache: Path, compilations: list[str]
) -> None:
    path = perceptron(tmp_path / "m.onnx")
    want = brim.load(path)(X)
    for entry in cache.iterdir():
        content = bytearray(entry.read_bytes())
        content[len(content) // 2] ^= 1
        entry.write_bytes(content)
    for _ in range(2):
        np.testing.assert_array_equal(brim.load(path)(X), want)
    assert len(compilations) == 2


def test_processes_may_share_the_cache_and_be_killed(tmp_path: Path, cache: Path) -> None:
    path = perceptron(tmp_path / "m.onnx")
    code = (
        "import brim, numpy as np, sys\n"
        f"x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)\n"
        f"print(float(brim.load({str(path)!r})(x).sum()))"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "BRIM_JOBS": "1"}
    start = [
        subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    time.sleep(0.7)  # somewhere between import and the last write
    start[0].send_signal(signal.SIGKILL)
    results = [child.communicate(timeout=60)[0] for child in start]
    want = float(brim.load(path)(X).sum())
    assert [float(text) for text in results[1:]] == [want, want]


def test_a_model_of_several_shapes_is_one_file(tmp_path: Path, cache: Path) -> None:
    path = perceptron(tmp_path / "m.onnx")
    model = brim.load(path)
    ys = [model(X[:n]) for n in (1, 2)]
    model.save(tmp_path / "m.brim")
    artifact = open_artifact(tmp_path / "m.brim")
    assert [dict(q.shapes) for q in artifact.programs] == [{"x": (1, 16)}, {"x": (2, 16)}]
    assert artifact.inputs == model.inputs and str(artifact.inputs["x"]) == "f32[N,16]"
    assert len(artifact.self_test()) == 1
    loaded = brim.load(tmp_path / "m.brim")
    for n, y in zip((1, 2), ys):
        np.testing.assert_array_equal(loaded(X[:n]), y)
    with pytest.raises(InputError, match="was not made for"):
        loaded(np.zeros((3, 16), np.float32))


def test_made_for_one_set_of_shapes_it_needs_none_named(tmp_path: Path, cache: Path) -> None:
    model = brim.load(perceptron(tmp_path / "m.onnx"))
    model(X)
    model.save(tmp_path / "one.brim")
    one = brim.load(tmp_path / "one.brim")
    assert one.usual_shapes == {"x": (2, 16)} and one.outputs == model.outputs
    model(X[:1])
    model.save(tmp_path / "two.brim")
    two = brim.load(tmp_path / "two.brim")
    assert two.usual_shapes == {}
    with pytest.raises(InputError, match="is open"):
        two.compile()
