"""ONNX files as they are found: external data, sparse tensors, graphs that are odd but legal.

Every model here is evaluated by numpy; that compiled code agrees is tested elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import (
    ModelProto,
    StringStringEntryProto,
    TensorProto,
    helper,
    numpy_helper,
)
from onnx.external_data_helper import load_external_data_for_model

from brim.errors import BrimError, InputError, ModelError, UnsupportedError
from brim.frontends.onnx import import_model, read
from brim.graph import evaluate
from tests.onnx_models import BOOL, F32, I64, graph, interpret, model, node

X, Y = ("x", F32, (2, 3)), ("y", F32, (2, 3))
DATA = np.arange(6, dtype=np.float32).reshape(2, 3)
RELU = node("Relu", "x", "y")


# ------------------------------------------------------------------ external data


def outside(name: str, array: np.ndarray, location: str, **entries: object) -> TensorProto:
    """A tensor whose bytes are in a file."""
    tensor = TensorProto(name=name, dims=array.shape, data_location=TensorProto.EXTERNAL)
    tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.append(StringStringEntryProto(key=key, value=str(value)))
    return tensor


def saved(folder: Path, proto: ModelProto, **files: bytes) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return path


def two_files(**entries: object) -> tuple[ModelProto, dict[str, bytes]]:
    """x * a + b - c: a at an odd place of one file, b in another, c in a node's attribute."""
    a, b, c = DATA + 1, DATA[0] * 2, np.float32([[5], [7]])
    nodes = [
        node("Constant", "", "c", value=outside("", c, "second", offset=12, length=8)),
        node("Mul", "x a", "xa"),
        node("Add", "xa b", "xab"),
        node("Sub", "xab c", "y"),
    ]
    proto = model(nodes, [X], [Y])
    proto.graph.initializer.append(outside("a", a, "first", offset=3, **entries))
    proto.graph.initializer.append(outside("b", b, "second", length=12))
    return proto, {"first": b"odd" + a.tobytes(), "second": b.tobytes() + c.tobytes()}


def test_external_data_in_several_files_and_in_attributes(tmp_path: Path) -> None:
    proto, files = two_files()
    assert len(proto.graph.initializer[0].external_data) == 2  # without its length
    (result,) = interpret(saved(tmp_path, proto, **files), x=DATA)
    np.testing.assert_array_equal(result, DATA * (DATA + 1) + DATA[0] * 2 - [[5], [7]])
    assert read(tmp_path / "net.onnx").external == ("first", "second")


def test_external_data_is_mapped_and_not_copied(tmp_path: Path) -> None:
    proto, files = two_files()
    parsed = read(saved(tmp_path, proto, **files))
    array = parsed.initializers["b"]
    while isinstance(array.base, np.ndarray):
        array = array.base
    assert isinstance(array, np.memmap)
    assert not parsed.initializers["b"].flags.writeable


def test_a_model_in_memory_whose_external_data_is_loaded(tmp_path: Path) -> None:
    proto, files = two_files()
    saved(tmp_path, proto, **files)
    with pytest.raises(ModelError, match="load the model from its path"):
        read(proto)
    load_external_data_for_model(proto, str(tmp_path))
    (result,) = interpret(proto, x=DATA)
    np.testing.assert_array_equal(result, DATA * (DATA + 1) + DATA[0] * 2 - [[5], [7]])


def test_the_checksum_of_external_data(tmp_path: Path) -> None:
    _, files = two_files()
    right = hashlib.sha1(files["first"]).hexdigest()
    proto, _ = two_files(checksum=right.upper())
    assert read(saved(tmp_path, proto, **files)).size > len(files["first"])
    proto, _ = two_files(checksum=right.replace(right[0], "_"))
    with pytest.raises(ModelError, match="not the file that belongs to the model"):
        read(saved(tmp_path, proto, **files))


def test_tensors_cannot_use_one_file_without_end(tmp_path: Path) -> None:
    proto = model([RELU], [X], [Y])
    for i in range(65):
        proto.graph.initializer.append(outside(f"w{i}", DATA, "w"))
    with pytest.raises(ModelError, match="more than 64 times"):
        read(saved(tmp_path, proto, w=DATA.tobytes()))


# ------------------------------------------------------------------ sparse tensors


def sparse(name: str, values: Any, indices: Any, dims: tuple[int, ...]) -> Any:
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.asarray(values), name),
        numpy_helper.from_array(np.asarray(indices, np.int64), "indices"),
        dims,
    )


DENSE = np.float32([[0, 4, 0], [0, 0, -2]])


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]], ids=["flat", "coordinates"])
def test_sparse_tensors_become_dense(indices: Any) -> None:
    tensor = sparse("w", np.float32([4, -2]), indices, (2, 3))
    proto = model([node("Add", "x w", "y")], [X], [Y])
    proto.graph.sparse_initializer.append(tensor)
    np.testing.assert_array_equal(interpret(proto, x=DATA)[0], DATA + DENSE)
    constant = node("Constant", "", "w", sparse_value=tensor)
    proto = model([constant, node("Add", "x w", "y")], [X], [Y])
    np.testing.assert_array_equal(interpret(proto, x=DATA)[0], DATA + DENSE)


def test_a_sparse_tensor_without_values_is_zero() -> None:
    proto = model([node("Add", "x w", "y")], [X], [Y])
    empty = np.zeros((0,), np.float32)
    proto.graph.sparse_initializer.append(sparse("w", empty, empty, (2, 3)))
    np.testing.assert_array_equal(interpret(proto, x=DATA)[0], DATA)


@pytest.mark.parametrize(
    ("indices", "dims", "message"),
    [
        ([5, 1], (2, 3), "ascending"),
        ([1, 1], (2, 3), "ascending"),
        ([1, 6], (2, 3), "outside"),
        ([-1, 2], (2, 3), "outside"),
        ([[0, 1], [1, 3]], (2, 3), "outside"),
        ([[0], [1]], (2, 3), "indices of shape"),
        ([1], (2, 3), "do not fit"),
        ([1, 2], (1 << 14, 1 << 13), "refused"),
    ],
)
def test_sparse_tensors_that_make_no_sense(indices: Any, dims: Any, message: str) -> None:
    proto = model([node("Add", "x w", "y")], [X], [Y])
    proto.graph.sparse_initializer.append(sparse("w", np.float32([4, -2]), indices, dims))
    with pytest.raises(ModelError, match=message):
        read(proto)


def test_all_forms_of_a_constant() -> None:
    forms = {
        "value_float": (2.5, np.float32(2.5)),
        "value_floats": ([1.0, np.inf], np.float32([1, np.inf])),
        "value_int": (-3, np.int64(-3)),
        "value_ints": ([1 << 40, 2], np.int64([1 << 40, 2])),
        "value_string": ("bär", np.array("bär", object)),
        "value_strings": (["a", ""], np.array(["a", ""], object)),
    }
    nodes = [node("Constant", "", f"y{i}", **{k: v}) for i, (k, (v, _)) in enumerate(forms.items())]
    kinds = [F32, F32, I64, I64, TensorProto.STRING, TensorProto.STRING]
    outputs = [(f"y{i}", kind, None) for i, kind in enumerate(kinds)]
    for result, (_, wanted) in zip(interpret(model(nodes, [], outputs)), forms.values()):
        assert result.shape == wanted.shape
        assert result.tolist() == wanted.tolist()


def test_texts_among_the_weights() -> None:
    words = np.array([["ein", ""], ["zwei", "größer"]], object)
    proto = model([], [], [("w", TensorProto.STRING, (2, 2))])
    proto.graph.initializer.append(helper.make_tensor("w", 8, (2, 2), [*words.ravel()]))
    assert interpret(proto)[0].tolist() == words.tolist()


# ------------------------------------------------------------------ odd graphs that are legal


def test_nodes_in_any_order_with_empty_and_equal_names() -> None:
    nodes = [node("Neg", "b", "y"), node("Exp", "a", "b"), node("Relu", "x", "a")]
    for name in ("", "same"):
        for part in nodes:
            part.name = name
        found = interpret(model(nodes, [X], [Y]), x=DATA)[0]
        np.testing.assert_allclose(found, -np.exp(DATA), 1e-6)


def test_dead_nodes_are_not_even_looked_at() -> None:
    dead = [node("Unheard", "x", "dead"), node("Add", "dead x", "dead2")]
    np.testing.assert_array_equal(interpret(model([*dead, RELU], [X], [Y]), x=DATA)[0], DATA)


def test_outputs_that_are_inputs_weights_or_each_other() -> None:
    outputs = [("x", F32, (2, 3)), ("w", F32, (3,)), Y, ("z", F32, (2, 3))]
    nodes = [node("Add", "x w", "y"), node("Identity", "y", "z")]
    w = np.float32([1, 2, 3])
    x, found, y, z = interpret(model(nodes, [X], outputs, {"w": w}), x=DATA)
    np.testing.assert_array_equal(x, DATA)
    np.testing.assert_array_equal(found, w)
    np.testing.assert_array_equal(y, DATA + w)
    np.testing.assert_array_equal(z, y)


def test_weights_that_are_listed_as_inputs() -> None:
    """Before IR version 4 all were; they may be overridden, and need not."""
    w = np.float32([1, 2, 3])
    proto = model([node("Add", "x w", "y")], [X, ("w", F32, (3,))], [Y], {"w": w})
    proto.ir_version = 3
    assert list(read(proto).inputs) == ["x"]
    np.testing.assert_array_equal(interpret(proto, x=DATA)[0], DATA + w)
    given = import_model(proto, {"w": (3,)})
    result = evaluate(given, {"x": DATA, "w": -w})["y"]
    np.testing.assert_array_equal(result, DATA - w)


def _explicit_domain(proto: ModelProto) -> None:
    proto.graph.node[0].domain = "ai.onnx"
    proto.opset_import[0].domain = "ai.onnx"


def _metadata(proto: ModelProto) -> None:
    proto.metadata_props.append(StringStringEntryProto(key="author", value="nobody"))
    proto.graph.node[0].metadata_props.append(StringStringEntryProto(key="a", value="b"))
    proto.graph.doc_string = proto.doc_string = "words"


def _training(proto: ModelProto) -> None:
    proto.training_info.add().algorithm.CopyFrom(graph([node("Neg", "x", "q")], [X], []))


def _quantization(proto: ModelProto) -> None:
    note = proto.graph.quantization_annotation.add()
    note.tensor_name = "x"
    note.quant_parameter_tensor_names.append(StringStringEntryProto(key="SCALE", value="s"))


def _wrong_shapes(proto: ModelProto) -> None:
    wrong = helper.make_tensor_value_info("y", F32, (7, 7, 7))
    proto.graph.output[0].CopyFrom(wrong)
    proto.graph.value_info.append(helper.make_tensor_value_info("x", I64, (9,)))


def _no_shapes(proto: ModelProto) -> None:
    proto.graph.output[0].ClearField("type")


def _long_names(proto: ModelProto) -> None:
    proto.graph.node[0].name = "n" * 100_000
    proto.graph.output[0].name = proto.graph.node[0].output[0] = "y/" * 50_000


@pytest.mark.parametrize(
    "change",
    [
        _explicit_domain, _metadata, _training, _quantization, _wrong_shapes, _no_shapes,
        _long_names,
    ],
)  # fmt: skip
def test_what_does_not_change_the_meaning(change: Callable[[ModelProto], None]) -> None:
    proto = model([RELU], [X], [Y])
    change(proto)
    np.testing.assert_array_equal(interpret(proto, x=DATA)[0], DATA)


def test_value_info_is_not_believed() -> None:
    """A wrong shape of a hidden value would decide what Reshape does with its -1."""
    nodes = [node("Relu", "x", "h"), node("Shape", "h", "s"), node("Reshape", "h s", "y")]
    proto = model(nodes, [X], [Y])
    proto.graph.value_info.append(helper.make_tensor_value_info("h", F32, (6, 1)))
    assert interpret(proto, x=DATA)[0].shape == (2, 3)


def test_attributes_that_are_not_finite() -> None:
    for alpha in (np.inf, -np.inf, np.nan):
        proto = model([node("ThresholdedRelu", "x", "y", alpha=alpha)], [X], [Y])
        wanted = np.where(alpha < DATA, DATA, np.float32(0))
        np.testing.assert_array_equal(interpret(proto, x=DATA)[0], wanted)


def test_a_branch_that_gives_one_value_twice() -> None:
    """A sub-graph's results go by place, and files have been seen that name one at two places."""
    branches = [
        graph([node(op, "x", "r")], [], [("r", F32, None), ("r", F32, None)])
        for op in ("Neg", "Exp")
    ]
    chosen = node("If", "c", "y z", then_branch=branches[0], else_branch=branches[1])
    ports = [("c", BOOL, ()), X], [Y, ("z", F32, (2, 3))]
    for found in interpret(model([chosen], *ports), c=np.array(True), x=DATA):
        np.testing.assert_array_equal(found, -DATA)


# ------------------------------------------------------------------ and what is refused


def _two_outputs(proto: ModelProto) -> None:
    proto.graph.output.append(proto.graph.output[0])


def _two_inputs(proto: ModelProto) -> None:
    proto.graph.input.append(proto.graph.input[0])


def _two_weights(proto: ModelProto) -> None:
    for number in (1, 2):
        proto.graph.initializer.append(numpy_helper.from_array(np.float32(number), "w"))


def _two_producers(proto: ModelProto) -> None:
    proto.graph.node.append(node("Neg", "x", "y"))


def _computed_input(proto: ModelProto) -> None:
    proto.graph.node.append(node("Neg", "y", "x"))


def _two_attributes(proto: ModelProto) -> None:
    for axis in (0, 1):
        proto.graph.node[0].attribute.append(helper.make_attribute("axis", axis))


def _other_type(proto: ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.elem_type = I64


def _nobody_computes_it(proto: ModelProto) -> None:
    proto.graph.output[0].name = "nothing"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_two_outputs, "two outputs have the name 'y'"),
        (_two_inputs, "two inputs have the name 'x'"),
        (_two_weights, "two initializers have the name 'w'"),
        (_two_producers, "'y' is computed twice"),
        (_computed_input, "'x' is computed twice"),
        (_two_attributes, "two attributes have the name 'axis'"),
        (_other_type, r"output 'y' is f32\[2,3\], but it is declared as i64\[2,3\]"),
        (_nobody_computes_it, "nothing computes 'nothing'"),
    ],
)
def test_contradictions(change: Callable[[ModelProto], None], message: str) -> None:
    proto = model([RELU], [X], [Y])
    change(proto)
    with pytest.raises(ModelError, match=message):
        interpret(proto, x=DATA)


def test_a_model_that_imports_no_operator_set() -> None:
    proto = model([RELU], [X], [Y])
    del proto.opset_import[:]
    with pytest.raises(UnsupportedError, match="imports no operator set ai.onnx"):
        interpret(proto, x=DATA)
    proto.ir_version = 2  # from before operator sets had numbers
    np.testing.assert_array_equal(interpret(proto, x=DATA)[0], DATA)


def test_operator_sets_from_the_future() -> None:
    proto = model([RELU], [X], [Y])
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 99))
    with pytest.raises(UnsupportedError, match=r"operator set 99 of ai\.onnx\.ml"):
        read(proto)


# ------------------------------------------------------------------ open shapes


def test_dimensions_of_one_name_are_one_number() -> None:
    inputs = [("x", F32, ("n", 3)), ("z", F32, ("n", "m"))]
    proto = model([node("Concat", "x z", "y", axis=1)], inputs, [("y", F32, None)])
    assert interpret(proto, x=DATA, z=DATA)[0].shape == (2, 6)
    with pytest.raises(InputError, match="dimension 'n' is 2 for input 'x', 4 for 'z'"):
        import_model(proto, {"x": (2, 3), "z": (4, 3)})


@pytest.mark.parametrize("name", ["?", "-1", "None", "unk__7", "*"])
def test_dimensions_that_have_no_real_name_are_free(name: str) -> None:
    inputs = [("x", F32, (name, 3)), ("z", F32, (name, 3))]
    proto = model([node("Concat", "x z", "y", axis=0)], inputs, [("y", F32, None)])
    assert interpret(proto, x=DATA, z=DATA[:1])[0].shape == (3, 3)


def test_a_condition_of_unknown_shape() -> None:
    branches = [graph([node(op, "x", "r")], [], [("r", F32, None)]) for op in ("Neg", "Exp")]
    chosen = node("If", "c", "y", then_branch=branches[0], else_branch=branches[1])
    proto = model([chosen], [("c", BOOL, None), ("x", F32, None)], [("y", F32, None)])
    np.testing.assert_array_equal(interpret(proto, c=np.array([True]), x=DATA)[0], -DATA)


# ------------------------------------------------------------------ damage


def _with_sparse_weights() -> ModelProto:
    proto = model([node("Add", "x w", "y")], [X], [Y])
    proto.graph.sparse_initializer.append(sparse("w", np.float32([4, -2]), [1, 5], (2, 3)))
    return proto


def _with_random_numbers() -> ModelProto:
    drawn = node("RandomUniformLike", "x", "r", seed=2.5, high=3.0)
    return model([drawn, node("Add", "x r", "y")], [X], [Y])


@pytest.mark.parametrize("make", [_with_sparse_weights, _with_random_numbers])
def test_every_bit_flip_is_a_typed_error_or_a_graph(make: Callable[[], ModelProto]) -> None:
    data = make().SerializeToString()
    for position in range(len(data)):
        for bit in (0, 3, 6, 7):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with contextlib.suppress(BrimError):  # anything untyped is a bug and ends the test
                import_model(bytes(damaged), {"x": (2, 3)})


def test_damaged_external_data_is_a_typed_error_or_a_graph(tmp_path: Path) -> None:
    proto, files = two_files()
    data = saved(tmp_path, proto, **files).read_bytes()
    for position in range(0, len(data), 2):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        (tmp_path / "damaged.onnx").write_bytes(damaged)
        with contextlib.suppress(BrimError):
            import_model(tmp_path / "damaged.onnx", {"x": (2, 3)})
