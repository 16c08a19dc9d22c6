"""brim's tools on TFLite files: what a file holds, artifacts proved, LiteRT beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("tflite")

pytest.importorskip("typer")

from flatbuffers import flexbuffers

import brim
from brim.cli import main
from brim.errors import InputError, ModelError, UnsupportedError
from brim.frontends.tflite import import_model, read
from brim.frontends.tflite.custom import custom_options
from brim.tools.bench import bench
from brim.tools.convert import convert_file
from brim.tools.describe import describe
from brim.tools.judge import differences, quantized_outputs
from brim.tools.litert import LiteRt
from brim.types import Dim
from tests.tflite_models import Graph, Op, Quantization, Signature, Tensor, constant, op, write

pytestmark = pytest.mark.peer("ai_edge_litert")
Q = Quantization(0.05, 3)
RNG = np.random.default_rng(11)
WEIGHTS = RNG.standard_normal((2, 3)).astype(np.float32)
OPEN = Graph(
    [Tensor("x", "float32", (1, 3), dims=(-1, 3)), constant("w", WEIGHTS),
     Tensor("y", "float32", (1, 2), dims=(-1, 2))],
    [op("FULLY_CONNECTED", "x w _", "y")],
    "x", "y",
)  # fmt: skip
WHOLE = Graph(
    [Tensor("x", "int8", (1, 4), quantization=Q), Tensor("y", "int8", (1, 4), quantization=Q)],
    [op("RELU", "x", "y")],
    "x", "y",
)  # fmt: skip


def stored(folder: Path, *graphs: Graph, **more: object) -> Path:
    path = folder / "net.tflite"
    path.write_bytes(write(*graphs, **more))  # type: ignore[arg-type]
    return path


def test_what_a_file_says_of_itself(tmp_path: Path) -> None:
    signature = Signature("serve", {"image": "x"}, {"score": "y"})
    found = describe(stored(tmp_path, OPEN, signatures=[signature], description="a layer"))
    assert (found.format, found.operators) == ("tflite", {"FULLY_CONNECTED": 1})
    assert found.inputs["image"].shape == (Dim("d0"), 3)
    assert found.outputs["score"] is not None
    assert found.usual == {"image": (1, 3)}
    assert found.weight_bytes == WEIGHTS.nbytes
    assert found.details == {"signatures": "serve", "description": "a layer"}
    assert describe(stored(tmp_path, WHOLE)).details["quantized to"] == "int8"


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    tensors = [Tensor(name, "float32", (2,)) for name in "xyz"]
    steps = [
        Op("CUSTOM", "x", "y", {}, 1, "Warble"),
        Op("CUSTOM", "y", "z", {}, 1, "MaxPoolingWithArgmax3D"),
    ]
    path = stored(tmp_path, Graph(tensors, steps, "x", "z"))
    assert describe(path).unsupported == ("MaxPoolingWithArgmax3D", "Warble")
    wanted = "2 things .*MaxPoolingWithArgmax3D, similar: MaxPoolingWithArgmax2D.*Warble"
    with pytest.raises(UnsupportedError, match=wanted):
        brim.load(path)


def test_artifacts_of_floats_are_judged_by_litert(tmp_path: Path) -> None:
    made = convert_file(
        stored(tmp_path, OPEN),
        tmp_path / "net.brim",
        lambda model: {"x": RNG.standard_normal(model.usual_shapes["x"]).astype(np.float32)},
    )
    assert (made.reference, made.differences.keys()) == ("LiteRT", {"y"})


def test_artifacts_of_integers_are_judged_by_the_interpreter(tmp_path: Path) -> None:
    x = RNG.integers(-128, 128, (1, 4)).astype(np.int8)
    made = convert_file(stored(tmp_path, WHOLE), tmp_path / "net.brim", lambda model: {"x": x})
    assert (made.reference, made.differences) == ("brim's interpreter", {"y": 0.0})


def test_quantized_outputs_may_differ_by_one(tmp_path: Path) -> None:
    names = quantized_outputs(stored(tmp_path, WHOLE))
    assert names == {"y"}
    assert not quantized_outputs(stored(tmp_path, OPEN))
    one, two, three = ({"y": np.array([n, 5], np.int8)} for n in (1, 2, 3))
    assert differences(one, two, names) == {"y": 0}
    assert differences(one, three, names) == {"y": np.inf}
    assert differences(one, two) == {"y": np.inf}
    assert differences({}, two, names) == {"y": np.inf}


@pytest.mark.parametrize("signature", [[], [Signature("serve", {"image": "x"}, {"score": "y"})]])
def test_litert_takes_brims_names_and_other_shapes(
    tmp_path: Path, signature: list[Signature]
) -> None:
    path = stored(tmp_path, OPEN, signatures=signature)
    name = next(iter(read(path).inputs))
    engine, model = LiteRt(str(path), 1, {name: (2, 3)}), brim.load(path)
    for rows in (2, 5):
        feed = {name: RNG.standard_normal((rows, 3)).astype(np.float32)}
        ours, theirs = model.run(feed), engine.run(feed)
        assert ours.keys() == theirs.keys()
        assert differences(ours, theirs).popitem()[1] < 1e-6


@pytest.mark.slow  # seconds of measuring
def test_litert_is_a_peer(tmp_path: Path) -> None:
    path = stored(tmp_path, OPEN)
    feeds = {"x": RNG.standard_normal((1, 3)).astype(np.float32)}
    ours, theirs, found = bench(path, feeds, peer="litert")
    assert (ours.engine, theirs and theirs.engine) == ("brim", "litert")
    assert found is not None
    assert found.agrees


def test_a_peer_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"onnxruntime does not read \.tflite"):
        bench(stored(tmp_path, OPEN), {}, peer="onnxruntime")


def test_every_command_takes_files_with_open_dimensions(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where nobody names a size it is that of the file's own example."""
    path = str(stored(tmp_path, OPEN))
    for arguments in (
        ["info", path],
        ["run", path, "--input", "x=random"],
        ["run", path, "--input", "x=random", "--shape", "x=4x3"],
        ["explain", path],
        ["convert", path, str(tmp_path / "net.brim")],
    ):
        assert main(arguments) == 0, capfd.readouterr().err
    assert "f32[4,2]" in capfd.readouterr().out


# ------------------------------------------------------------------ options of custom operators


def test_options_are_read_from_flexbuffers() -> None:
    given = {"size": 5, "scale": 0.5, "on": True, "name": "x", "many": [1, -2], "half": [0.5, 2.0]}
    found = custom_options(bytes(flexbuffers.Dumps(given)))
    assert dict(found) == {**given, "many": (1, -2), "half": (0.5, 2.0)}


def test_bytes_that_are_no_options_give_none() -> None:
    good = bytes(flexbuffers.Dumps({"a": 1, "b": [1, 2]}))
    rng = np.random.default_rng(3)
    for raw in (b"", b"\1", bytes(24), good[:-4], bytes(flexbuffers.Dumps([1, 2]))):
        assert dict(custom_options(raw)) == {}
    for _ in range(500):  # never an error, whatever is damaged
        damaged = bytearray(good)
        damaged[rng.integers(len(good))] = rng.integers(256)
        custom_options(bytes(damaged))


def test_a_custom_operator_with_damaged_options_is_refused() -> None:
    tensors = [Tensor("x", "float32", (1, 4, 4, 1)), Tensor("y", "float32", (1, 4, 4, 1))]
    step = Op("CUSTOM", "x", "y", {}, 1, "Convolution2DTransposeBias", b"\1\2")
    with pytest.raises(ModelError, match=r"Convolution2DTransposeBias"):
        import_model(write(Graph(tensors, [step], "x", "y")))
