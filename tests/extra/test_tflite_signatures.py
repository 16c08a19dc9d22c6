"""TFLite's signatures and cards, from Python and from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import flatbuffers
import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("tflite")
pytest.importorskip("typer")

import brim
from brim.cli import main
from brim.errors import InputError
from brim.frontends.tflite import read
from brim.frontends.tflite.card import read_card
from tests.tflite_models import Graph, Op, Signature, Tensor, constant, op, write

X = np.array([1, -2], np.float32)


def two_ways() -> bytes:
    """Signature `negate` of the main graph, `double` of the other, with ports of other names."""
    ports = [Tensor("x", "float32", (2,)), Tensor("y", "float32", (2,))]
    main_graph = Graph(ports, [op("NEG", "x", "y")], "x", "y")
    other = Graph(ports, [op("ADD", "x x", "y")], "x", "y", "other")
    signatures = [
        Signature("negate", {"value": "x"}, {"opposite": "y"}),
        Signature("double", {"half": "x"}, {"whole": "y"}, 1),
    ]
    return write(main_graph, other, signatures=signatures, description="two ways")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two.tflite"
    path.write_bytes(two_ways())
    return path


def test_a_signature_is_chosen_by_name(file: Path) -> None:
    for _ in range(2):  # from the file, and from the cache of models
        first, second = brim.load(file), brim.load(file, signature="double")
        assert first.run({"value": X})["opposite"].tolist() == [-1, 2]
        assert second.run({"half": X})["whole"].tolist() == [2, -4]
    assert first.metadata["description"] == "two ways"


def test_unknown_signatures_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no signature 'tripple'") as caught:
        brim.load(file, signature="tripple")
    assert "negate" in caught.value.hint and "double" in caught.value.hint
    brim.load(file).save(tmp_path / "two.brim")
    with pytest.raises(InputError, match=r"two\.brim has no signature"):
        brim.load(tmp_path / "two.brim", signature="double")


def test_the_command_line_knows_signatures(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(*words: str) -> dict:
        assert main([*words, "--json"]) == 0
        found: dict = json.loads(capsys.readouterr().out)
        return found

    found = answer("info", str(file))
    assert found["details"]["signatures"] == "negate, double"
    assert found["inputs"] == {"value": "f32[2]"} and found["operators"] == {"NEG": 1, "ADD": 1}
    chosen = ("--signature", "double")
    assert answer("info", str(file), *chosen)["inputs"] == {"half": "f32[2]"}
    ran = answer("run", str(file), "--input", "half=3,4", *chosen)
    assert ran["outputs"]["whole"]["data"] == [6, 8]
    made = str(tmp_path / "double.brim")
    assert answer("convert", str(file), made, *chosen)["differences"] == {"whole": 0}
    assert brim.load(made)(X).tolist() == [2, -4]
    assert len(answer("explain", str(file), *chosen)["kernels"]) == 1
    assert answer("bench", str(file), *chosen)["engines"][0]["runs"] > 0


def test_a_model_that_remembers_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A running sum: every command starts from the first content."""
    handle = Op("VAR_HANDLE", "", "h", {"container": "", "sharedName": "sum"})
    resource = Tensor("h", "resource", ())
    once = Graph([resource, constant("ten", np.full(2, 10, np.float32))],
                 [handle, op("ASSIGN_VARIABLE", "h ten", "")], "", "", "once")  # fmt: skip
    tensors = [resource, *(Tensor(name, "float32", (2,)) for name in ("x", "old", "y"))]
    steps = [op("CALL_ONCE", "", "", initSubgraphIndex=1), handle,
             op("READ_VARIABLE", "h", "old"), op("ADD", "old x", "y"),
             op("ASSIGN_VARIABLE", "h y", "")]  # fmt: skip
    path = tmp_path / "sum.tflite"
    path.write_bytes(write(Graph(tensors, steps, "x", "y"), once))
    for _ in range(2):
        assert main(["run", str(path), "--input", "x=1,2", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["outputs"]
        assert [*found] == ["y"] and found["y"]["data"] == [11, 12]
    made = tmp_path / "sum.brim"
    assert main(["convert", str(path), str(made), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differences"] == {"y": 0}
    model = brim.load(made)
    assert [model(X).tolist() for _ in range(2)] == [[11, 8], [12, 6]]
    assert main(["bench", str(path), "--json"]) == 0


def test_open_shapes_are_the_usual_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ports = [Tensor(name, "float32", (1, 2), dims=(-1, 2)) for name in "xy"]
    path = tmp_path / "open.tflite"
    path.write_bytes(write(Graph(ports, [op("NEG", "x", "y")], "x", "y")))
    np.save(tmp_path / "x.npy", np.ones((3, 2), np.float32))
    for given, rows in (("random", 1), (str(tmp_path / "x.npy"), 3)):
        assert main(["run", str(path), "--input", f"x={given}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["outputs"]["y"]["type"] == f"f32[{rows},2]"
    assert main(["bench", str(path), "--json"]) == 0


# ------------------------------------------------------------------ cards


def card() -> bytes:
    """A card with an input that is normalised and an output with labels."""
    b = flatbuffers.Builder(256)

    def table(*fields: tuple[int, int]) -> int:
        b.StartObject(8)
        for number, offset in fields:
            b.PrependUOffsetTRelativeSlot(number, offset, 0)
        return int(b.EndObject())

    def floats(*numbers: float) -> int:
        return int(b.CreateNumpyVector(np.array(numbers, np.float32)))

    def tables(*offsets: int) -> int:
        b.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            b.PrependUOffsetTRelative(offset)
        return int(b.EndVector())

    text = b.CreateString
    options = table((0, floats(127.5)), (1, floats(128, 64, 32)))
    b.StartObject(2)
    b.PrependUint8Slot(0, 1, 0)  # a union: NormalizationOptions
    b.PrependUOffsetTRelativeSlot(1, options, 0)
    unit = b.EndObject()
    name = text("labels.txt")
    b.StartObject(5)
    b.PrependUOffsetTRelativeSlot(0, name, 0)
    b.PrependInt8Slot(2, 2, 0)  # TENSOR_AXIS_LABELS
    file = b.EndObject()
    stats = table((0, floats(1)), (1, floats(-1)))
    inside = table((0, text("picture")), (1, text("RGB")), (4, tables(unit)), (5, stats))
    outside = table((0, text("score")), (6, tables(file)))
    graph = table((2, tables(inside)), (3, tables(outside)))
    root = table((0, text("Cats")), (2, text("v3")), (3, tables(graph)), (4, text("us")),
                 (5, text("Apache")))  # fmt: skip
    b.Finish(root, b"M001")
    return bytes(b.Output())


CARD = {
    "name": "Cats", "version": "v3", "author": "us", "license": "Apache",
    "input x name": "picture", "input x description": "RGB",
    "input x mean": "127.5", "input x std": "128 64 32", "input x max": "1", "input x min": "-1",
    "output y name": "score", "output y labels": "labels.txt",
}  # fmt: skip


def test_a_card_is_read(tmp_path: Path) -> None:
    ports = [Tensor(name, "float32", (2,)) for name in "xy"]
    model = write(Graph(ports, [op("NEG", "x", "y")], "x", "y"),
                  metadata={"TFLITE_METADATA": card()})  # fmt: skip
    assert dict(read(model).metadata) == CARD
    assert brim.load(model).metadata == CARD


def test_a_damaged_card_tells_nothing_or_less() -> None:
    whole = card()
    assert read_card(whole, 0, ["x"], ["y"]) == CARD
    assert read_card(whole, 1, ["x"], ["y"]).keys() == {"name", "version", "author", "license"}
    random = np.random.default_rng(3)
    for length in range(0, len(whole), 3):
        read_card(whole[:length], 0, ["x"], ["y"])
    for _ in range(2000):
        damaged = bytearray(whole)
        for place in random.integers(8, len(whole), 3):
            damaged[place] = random.integers(0, 256)
        found = read_card(bytes(damaged), 0, ["x"], ["y"])
        assert sum(map(len, found.values())) < 100_000


def test_reading_a_card_needs_no_schema() -> None:
    code = "import sys; sys.modules['flatbuffers'] = None; import brim.frontends.tflite.card"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
