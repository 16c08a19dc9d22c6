"""Reading ONNX files: what is damaged, hostile or too new is refused with a typed error."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import ModelProto, TensorProto, numpy_helper

from brim.errors import BrimError, ModelError, UnsupportedError
from brim.frontends.onnx import import_model, read
from brim.types import F32 as BRIM_F32
from brim.types import Dim, Type
from tests.onnx_models import F32, graph, model, node

RELU = node("Relu", "x", "y")
X, Y = ("x", F32, (2, 3)), ("y", F32, (2, 3))


def test_symbolic_dimensions_keep_their_names() -> None:
    parsed = read(model([RELU], [("x", F32, ("batch", 3, "a-b"))], [Y]))
    assert parsed.inputs == {"x": Type((Dim("batch"), 3, Dim("a_b")), BRIM_F32)}


@pytest.mark.parametrize("data", [b"", b"\x00\x01\x02", b"not a model", b"\x08\x01"])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        read(data)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="cannot read"):
        read(Path("missing.onnx"))


@pytest.mark.parametrize("version", [0, 29, 99])
def test_operator_sets_outside_the_supported_range(version: int) -> None:
    with pytest.raises(UnsupportedError, match=f"operator set {version}"):
        read(model([RELU], [X], [Y], opset=version))


def _with_tensor(tensor: TensorProto) -> ModelProto:
    found = model([node("Add", "x w", "y")], [X], [Y])
    found.graph.initializer.append(tensor)
    return found


def test_raw_data_of_the_wrong_length() -> None:
    tensor = numpy_helper.from_array(np.zeros((2, 3), np.float32), "w")
    tensor.raw_data = tensor.raw_data[:-1]
    with pytest.raises(ModelError, match="23 bytes for shape"):
        read(_with_tensor(tensor))


@pytest.mark.parametrize("dims", [(-1, 3), (1 << 40, 1 << 40), (1 << 62,), (1,) * 70])
def test_absurd_shapes_are_refused_before_anything_is_allocated(dims: tuple[int, ...]) -> None:
    tensor = TensorProto(name="w", data_type=F32, dims=dims, raw_data=b"1234")
    with pytest.raises(ModelError, match="absurd shape"):
        read(_with_tensor(tensor))


@pytest.mark.parametrize("number", [TensorProto.COMPLEX64, TensorProto.COMPLEX128])
def test_element_types_that_brim_lacks(number: int) -> None:
    with pytest.raises(UnsupportedError, match="not supported"):
        read(_with_tensor(TensorProto(name="w", data_type=number, dims=[1], raw_data=b"12")))


def _external(location: str, **entries: int) -> ModelProto:
    tensor = TensorProto(name="w", data_type=F32, dims=(2, 3))
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return _with_tensor(tensor)


def _saved(folder: Path, found: ModelProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(found.SerializeToString())
    return path


def test_external_data_is_read_from_the_models_folder(tmp_path: Path) -> None:
    weights = np.arange(6, dtype=np.float32)
    (tmp_path / "w.bin").write_bytes(b"1234" + weights.tobytes())
    parsed = read(_saved(tmp_path, _external("w.bin", offset=4, length=24)))
    np.testing.assert_array_equal(parsed.initializers["w"], weights.reshape(2, 3))


@pytest.mark.parametrize(
    "location",
    ["../w.bin", "/etc/hostname", "", "a/../../w.bin", "..\\w.bin", "C:w.bin", "missing"],
)
def test_external_data_cannot_leave_the_folder(tmp_path: Path, location: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(24))
    with pytest.raises(ModelError, match="not a file inside the model's folder"):
        read(_saved(inner, _external(location)))


def test_external_data_cannot_leave_through_a_link(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(24))
    os.symlink(tmp_path / "w.bin", inner / "w.bin")
    with pytest.raises(ModelError, match="not a file inside the model's folder"):
        read(_saved(inner, _external("w.bin")))


@pytest.mark.parametrize(
    "entries", [{"offset": 8}, {"length": 8}, {"offset": -4}, {"offset": 1 << 70}]
)
def test_external_data_that_does_not_fit_its_file(tmp_path: Path, entries: dict[str, int]) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(24))
    with pytest.raises(ModelError, match="does not fit"):
        read(_saved(tmp_path, _external("w.bin", **entries)))


def test_external_data_needs_a_folder() -> None:
    with pytest.raises(ModelError, match="another file"):
        read(_external("w.bin").SerializeToString())


def test_sub_graphs_that_nest_too_deep() -> None:
    inner = graph([node("Identity", "x", "r")], [], [("r", F32, None)])
    for _ in range(30):
        inner = graph([node("If", "c", "r", then_branch=inner)], [], [("r", F32, None)])
    found = model([], [X], [Y])
    found.graph.CopyFrom(inner)
    with pytest.raises(ModelError, match="nest deeper"):
        read(found)


def test_every_bit_flip_ends_in_a_typed_error_or_a_graph() -> None:
    data = model(
        [node("Conv", "x w", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "y")],
        [("x", F32, (1, 2, 4, 4))],
        [("y", F32, None)],
        {"w": np.ones((3, 2, 3, 3), np.float32)},
    ).SerializeToString()
    header = [i for i in range(len(data)) if i < 60 or i > len(data) - 120]
    for position in header:
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with contextlib.suppress(BrimError):  # anything untyped is a bug and ends the test
                import_model(bytes(damaged), {"x": (1, 2, 4, 4)})
