"""What int8 costs on Fashion-MNIST: the contract on real pictures, and the bench that shows it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import brim
from bench import accuracy, fashion
from brim.errors import InputError

pytestmark = pytest.mark.peer
RANDOM = np.random.default_rng(5)


def test_the_network_is_what_its_trainer_says() -> None:
    model = onnx.load(fashion.MODEL)
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    trained = [a for name, a in arrays.items() if "running" not in name and "num_b" not in name]
    assert sum(array.size for array in trained) == 18_826
    assert sum(node.op_type == "BatchNormalization" for node in model.graph.node) == 9
    x = RANDOM.random((3, 1, fashion.SIDE, fashion.SIDE), np.float32)
    wanted = accuracy.OnnxRuntime(fashion.MODEL).run({"x": x})
    found = brim.load(fashion.MODEL).run({"x": x})
    np.testing.assert_allclose(found["logits"], wanted["logits"], rtol=1e-4, atol=1e-4)


def test_idx_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIM_FASHION_MNIST", str(tmp_path))
    monkeypatch.setattr(fashion, "PARTS", {"test": ("t10k", 2)})
    with pytest.raises(InputError, match="there is no Fashion-MNIST"):
        fashion.load("test")
    pictures = RANDOM.integers(0, 256, (2, 28, 28)).astype(np.uint8)
    header = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28])
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(header + pictures.tobytes()))
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 3])
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    found, named = fashion.load("test")
    np.testing.assert_array_equal(found, (pictures[:, None] / np.float32(255)))
    assert found.dtype == np.float32 and named.tolist() == [7, 3]
    file.write_bytes(gzip.compress(header + pictures.tobytes()[1:]))
    with pytest.raises(InputError, match="is not Fashion-MNIST's"):
        fashion.load("test")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, accuracy.Row]:
    try:
        pictures, _ = fashion.load("train")
    except InputError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("int8")
    return {row.name: row for row in accuracy.rows(pictures[:512], folder)}


@pytest.mark.slow
def test_int8_keeps_what_the_network_knows(rows: dict[str, accuracy.Row]) -> None:
    assert all(row.accuracy.samples == 10_000 for row in rows.values())
    assert rows["brim"].accuracy.before == pytest.approx(0.9125, abs=0.001)
    assert rows["brim"].accuracy.difference <= 0.003
    assert rows["brim, per tensor, effort high"].accuracy.difference <= 0.01


@pytest.mark.slow
def test_one_scale_for_all_channels_needs_more_than_rounding(rows: dict[str, accuracy.Row]) -> None:
    """The network is one that rounding alone ruins, so that keeping it means something."""
    assert rows["brim, per tensor, nothing more"].accuracy.difference > 0.1
    assert rows["onnxruntime, per tensor"].accuracy.difference > 0.1


@pytest.mark.slow
def test_our_logits_are_nearer_to_float_than_onnxruntimes(rows: dict[str, accuracy.Row]) -> None:
    """By half at least. The lost pictures of both are too few to tell them apart."""
    assert rows["brim"].error.after <= rows["onnxruntime"].error.after / 2
    assert rows["brim"].accuracy.low <= rows["onnxruntime"].accuracy.high


@pytest.mark.slow
def test_the_command_prints_json(
    rows: dict[str, accuracy.Row],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["accuracy", "--json", "--only", "onnxruntime, per"])
    assert accuracy.main() == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["accuracy"]["after"] == rows["onnxruntime, per tensor"].accuracy.after
