"""ONNX files as they are found, compiled: random operators, external data, models in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import StringStringEntryProto, TensorProto
from onnx import load_model as load_proto

import brim
from brim.runtime.artifact import open_artifact
from tests.onnx_models import BOOL, F32, I64, graph, model, node

DATA = np.arange(6, dtype=np.float32).reshape(2, 3)
NOISY = model(
    [node("RandomNormalLike", "x", "noise"), node("Add", "x noise", "y")],
    [("x", F32, (2, 3))],
    [("y", F32, (2, 3))],
)


def test_a_model_in_memory() -> None:
    loaded = brim.load(model([node("Neg", "x", "y")], [("x", F32, ("n", 3))], [("y", F32, None)]))
    np.testing.assert_array_equal(loaded(DATA), -DATA)
    np.testing.assert_array_equal(loaded(DATA[:1]), -DATA[:1])
    with pytest.raises(brim.ModelError, match="cannot be read from dict"):
        brim.load({})


# ------------------------------------------------------------------ random numbers


def test_compiled_models_draw_anew_unless_they_are_told_not_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = brim.load(NOISY.SerializeToString())
    assert not np.array_equal(loaded(DATA), loaded(DATA))
    again = brim.load(NOISY.SerializeToString())  # from the cache: no number may be in there
    assert not np.array_equal(again(DATA), again(DATA))
    monkeypatch.setenv("BRIM_SEED", "3")
    first = loaded(DATA)
    np.testing.assert_array_equal(loaded(DATA), first)
    np.testing.assert_array_equal(again(DATA), first)


@pytest.mark.parametrize("trips", [3, 60], ids=["unrolled", "looping"])
def test_iterations_of_a_compiled_loop_draw_their_own(
    trips: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [node("RandomUniform", "", "u", shape=[2]), node("Identity", "c", "again")]
    ports = [("i", I64, []), ("c", BOOL, [])], [("again", BOOL, []), ("u", F32, [2])]
    proto = model(
        [node("Loop", "n _", "y", body=graph(parts, *ports))], [], [("y", F32, None)],
        {"n": np.int64(trips)},
    )  # fmt: skip
    loaded = brim.load(proto.SerializeToString())
    monkeypatch.setenv("BRIM_SEED", "3")
    y = loaded()
    np.testing.assert_array_equal(loaded(), y)
    assert len(np.unique(y)) == 2 * trips


def test_an_artifact_that_draws_passes_its_self_test(tmp_path: Path) -> None:
    loaded = brim.load(NOISY.SerializeToString())
    loaded.save(tmp_path / "noisy.brim")
    artifact = open_artifact(tmp_path / "noisy.brim")
    assert artifact.self_test() == {"y": 0.0}
    opened = brim.load(tmp_path / "noisy.brim")
    assert not np.array_equal(opened(DATA), opened(DATA))


def test_the_check_of_passes_knows_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIM_CHECK", "1")
    assert brim.load(NOISY.SerializeToString())(DATA).shape == (2, 3)


# ------------------------------------------------------------------ external data


def _product(folder: Path, shapes: list[tuple[int, int]]) -> Path:
    """A chain of products whose weights are in one file; the file is left to the caller."""
    nodes = [node("MatMul", f"h{i} w{i}", f"h{i + 1}") for i in range(len(shapes))]
    ports = [("h0", F32, (1, shapes[0][0]))], [(f"h{len(shapes)}", F32, None)]
    proto, offset = model(nodes, *ports), 0
    for i, shape in enumerate(shapes):
        size = 4 * shape[0] * shape[1]
        tensor = TensorProto(name=f"w{i}", dims=shape, data_type=F32)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights"), ("offset", offset), ("length", size)):
            tensor.external_data.append(StringStringEntryProto(key=key, value=str(value)))
        proto.graph.initializer.append(tensor)
        offset += size
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_compiled_and_changed(tmp_path: Path) -> None:
    """The cache of models must notice that the other file is another."""
    path = _product(tmp_path, [(3, 4), (4, 2)])
    x = np.float32([[1, 2, 3]])
    for factor in (1, 2):
        weights = factor * np.arange(20, dtype=np.float32)
        weights.tofile(tmp_path / "weights")
        a, b = weights[:12].reshape(3, 4), weights[12:].reshape(4, 2)
        np.testing.assert_array_equal(brim.load(path)(x), x @ a @ b)


def test_external_data_that_changes_under_a_loaded_model(tmp_path: Path) -> None:
    path = _product(tmp_path, [(3, 4)])
    proto = load_proto(path, load_external_data=False)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    path.write_bytes(proto.SerializeToString())
    weights = np.arange(12, dtype=np.float32)
    weights.tofile(tmp_path / "weights")
    loaded = brim.load(path)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(loaded(x), x @ weights.reshape(3, 4))
    (tmp_path / "weights").unlink()
    np.testing.assert_array_equal(loaded(x[:1]), x[:1] @ weights.reshape(3, 4))
    (tmp_path / "weights").write_bytes(b"")
    np.testing.assert_array_equal(loaded(x), x @ weights.reshape(3, 4))  # compiled: it has its own
    with pytest.raises(brim.ModelError, match="changed after it was loaded"):
        loaded(np.ones((4, 3), np.float32))


_MEASURED = """
import resource, sys
import numpy as np
import brim
model = brim.load(sys.argv[1])
y = model(np.ones((1, 8192), np.float32))
assert y.shape == (1, 8192) and y[0, 0] == 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_model_of_more_than_two_gigabytes(tmp_path: Path) -> None:
    """Its size and its packed weights are all the memory it takes: files are mapped, not read."""
    side, layers = 8192, 9
    path = _product(tmp_path, [(side, side)] * layers)
    size = 4 * side * side * layers
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(size)  # sparse: it takes no place on the disk
        for layer in range(layers):  # the first row of each is 1, 0, 0, ...
            file.seek(4 * side * side * layer)
            file.write(np.float32(1).tobytes())
    assert size > 2 << 30
    made = subprocess.run(
        (sys.executable, "-c", _MEASURED, str(path)),
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-2000:]
    peak = int(made.stdout) << 10
    assert peak < 2 * size + 2 * (size // layers), f"{peak >> 20} MiB for {size >> 20} MiB"
