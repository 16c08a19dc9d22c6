"""The document of `brim view`: each stage is a graph of its own, all speak of the same layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from brim.compiler import PIPELINE
from brim.errors import BrimError, InputError
from brim.graph import Graph, const, placeholder
from brim.ops import primitive as p
from brim.text import print_graph
from brim.tools.view import view, view_graph
from brim.types import parse_type
from brim.view.document import KINDS, Document, Stage
from brim.view.weights import BINS, describe
from tests import tflite_models as tfl
from tests.onnx_models import F32, graph, model, node

TARGET = "x86-64-v3"


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolution, norm, activation, a residual sum, a product: with what passes fold and move."""
    nodes = [
        node("Conv", "x w0", "c0", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c0 s b m v", "n0"),
        node("Relu", "n0", "r0"),
        node("Conv", "r0 w1", "c1", pads=[1, 1, 1, 1]),
        node("Add", "c1 r0", "a0"),
        node("GlobalAveragePool", "a0", "p0"),
        node("Flatten", "p0", "f0"),
        node("Gemm", "f0 w2 b2", "y"),
    ]
    given = {
        "w0": weights(8, 3, 3, 3), "s": weights(8), "b": weights(8), "m": weights(8),
        "v": np.abs(weights(8)) + 1, "w1": weights(8, 8, 3, 3, seed=1), "w2": weights(8, 4),
        "b2": np.zeros(4, np.float32),
    }  # fmt: skip
    made = model(nodes, [("x", F32, [1, 3, 8, 8])], [("y", F32, [1, 4])], given)
    path = tmp_path_factory.mktemp("view") / "net.onnx"
    path.write_bytes(made.SerializeToString())
    return path


@pytest.fixture(scope="module")
def document(network: Path) -> Document:
    return view(network, target=TARGET)


def stage(document: Document, name: str) -> Stage:
    found = next(stage for stage in document.stages if stage.name == name)
    return found if found.same is None else document.stages[found.same]


def check(document: Document) -> None:
    """What must hold of every document: all numbers point at something."""
    for block in document.blocks:
        assert block.parent is None or 0 <= block.parent < len(document.blocks)
    for number, each in enumerate(document.stages):
        assert each.same is None or (each.same < number and each.nodes == ())
        assert len({node.key for node in each.nodes}) == len(each.nodes), "keys are unique"
        for place, found in enumerate(each.nodes):
            assert found.kind in KINDS
            assert found.source is None or found.source < len(document.sources)
            assert found.block is None or found.block < len(document.blocks)
            assert found.kernel is None or found.kernel < len(document.kernels)
            assert all(weight < len(document.weights) for _, weight in found.weights)
            assert all(block < len(document.blocks) for block in found.body)
            for argument, port in found.inputs:
                assert argument < place, "arguments before users"
                assert port < len(each.nodes[argument].outputs)
            assert (found.op == "input") == (found.kind == "input")
    for overlay in document.overlays:
        table = document.kernels if overlay.by == "kernel" else document.sources
        assert all(0 <= index < len(table) for index, _ in overlay.values)
    text = json.dumps(document.plain(), allow_nan=False)
    assert json.loads(text)["name"] == document.name


def test_a_document_is_whole(document: Document) -> None:
    check(document)


def test_stages_are_the_file_the_passes_and_the_kernels(document: Document) -> None:
    names = [stage.name for stage in document.stages]
    assert names == ["file", "import", *(name for name, _ in PIPELINE), "settle", "kernels"]
    assert all(stage.why for stage in document.stages)


def test_the_file_is_shown_as_it_is(document: Document) -> None:
    ops = [node.op for node in stage(document, "file").nodes]
    assert ops == [
        "input", "Conv", "BatchNormalization", "Relu", "Conv", "Add", "GlobalAveragePool",
        "Flatten", "Gemm", "output",
    ]  # fmt: skip
    conv = stage(document, "file").nodes[1]
    assert document.sources[conv.source or 0] == "Conv_c0"
    assert (conv.kind, conv.hint, conv.attrs["pads"]) == ("product", "3×3 → 8", "(1, 1, 1, 1)")
    assert conv.outputs == ("f32[1,8,8,8]",)
    (position, weight), *_ = conv.weights
    assert (position, document.weights[weight].type) == (1, "f32[8,3,3,3]")


def test_layers_keep_their_place_while_passes_change_them(document: Document) -> None:
    """The second convolution is the same thing from the file to the kernel."""
    number = document.sources.index("Conv_c1")
    found = [
        {n.key for n in each.nodes if n.source == number and n.kind == "product"}
        for each in document.stages
        if each.same is None
    ]
    assert all(len(keys) == 1 for keys in found) and len(set.union(*found)) == 1


def test_passes_do_what_they_say(document: Document) -> None:
    """The norm is there until its pass has run, and then no stage has one."""
    names = [stage.name for stage in document.stages]
    norms = [any(n.op == "batch_norm" for n in stage(document, s).nodes) for s in names[1:-1]]
    last = names.index("batchnorm") - 1
    assert norms == [True] * last + [False] * (len(norms) - last)


def test_all_that_computes_has_its_kernel(document: Document) -> None:
    last = document.stages[-1].nodes
    assert [n.kernel for n in last if n.kernel is not None] == list(range(len(document.kernels)))
    for each in document.stages:
        for found in each.nodes:
            computes = found.kind not in ("input", "output", "folded")
            assert (found.kernel is not None) == computes, found
    first = last[next(i for i, n in enumerate(last) if n.kind == "product")]
    assert first.op == "Conv + BatchNormalization + Relu"
    norm = stage(document, "file").nodes[2]
    assert norm.kernel == first.kernel


def test_predictions_are_those_of_the_compiler(document: Document) -> None:
    (times,) = document.overlays
    assert (times.name, times.by, times.unit) == ("predicted", "kernel", "s")
    assert [value for _, value in times.values] == [k.predicted for k in document.kernels]
    assert all(kernel.measured is None for kernel in document.kernels)


def test_the_same_file_gives_the_same_document(network: Path, document: Document) -> None:
    assert view(network, target=TARGET) == document


def test_shapes_that_a_file_leaves_open_are_chosen(tmp_path: Path) -> None:
    made = model([node("Relu", "x", "y")], [("x", F32, ["n", 4])], [("y", F32, ["n", 4])])
    path = tmp_path / "open.onnx"
    path.write_bytes(made.SerializeToString())
    found = view(path, target=TARGET)
    assert dict(found.facts)["for shapes"] == "--shape x=1x4"
    assert stage(found, "import").nodes[0].outputs == ("f32[1,4]",)
    given = view(path, {"x": (2, 4)}, target=TARGET)
    assert stage(given, "import").nodes[0].outputs == ("f32[2,4]",)
    assert "for shapes" not in dict(given.facts)
    with pytest.raises(InputError):
        view(path, {"x": (2, 5)}, target=TARGET)


def test_a_file_whose_shapes_cannot_be_guessed_is_shown_alone(tmp_path: Path) -> None:
    open_ = [("x", F32, ["n", "k"])]
    w = {"w": weights(4, 3)}
    made = model([node("MatMul", "x w", "y")], open_, [("y", F32, ["n", 3])], w)
    path = tmp_path / "open.onnx"
    path.write_bytes(made.SerializeToString())
    found = view(path, target=TARGET)
    check(found)
    assert [stage.name for stage in found.stages] == ["file"]
    assert "--shape x=1x128" in dict(found.facts)["the file alone"]
    assert found.stages[0].nodes[1].kind == "product"
    assert len(view(path, {"x": (2, 4)}, target=TARGET).stages) > 10


def test_operators_that_brim_has_not_are_shown_all_the_same(tmp_path: Path) -> None:
    made = model([node("Nonsense", "x", "y")], [("x", F32, [4])], [("y", F32, [4])])
    path = tmp_path / "odd.onnx"
    path.write_bytes(made.SerializeToString())
    found = view(path, target=TARGET)
    assert [node.op for node in found.stages[0].nodes] == ["input", "Nonsense", "output"]
    assert "Nonsense" in dict(found.facts)["the file alone"]


def test_branches_stand_in_blocks_of_their_own(tmp_path: Path) -> None:
    def branch(op: str) -> Any:
        return graph([node(op, "x", f"{op}_out")], [], [(f"{op}_out", F32, [4])])

    nodes = [
        node("ReduceSum", "x", "s", keepdims=0),
        node("Less", "s zero", "c"),
        node("If", "c", "y", then_branch=branch("Relu"), else_branch=branch("Neg")),
    ]
    zero = {"zero": np.zeros((), np.float32)}
    made = model(nodes, [("x", F32, [4])], [("y", F32, [4])], zero)
    path = tmp_path / "if.onnx"
    path.write_bytes(made.SerializeToString())
    found = view(path, target=TARGET)
    check(found)
    for name in ("file", "import"):
        nodes_ = stage(found, name).nodes
        (owner,) = [n for n in nodes_ if n.body]
        assert owner.kind == "control" and len(owner.body) == 2
        inside = [{n.op.lower() for n in nodes_ if n.block == body} for body in owner.body]
        assert "neg" in inside[0] and "relu" in inside[1]
    blocks = {n.op: n.block for n in stage(found, "file").nodes}
    assert blocks["Relu"] == {n.op: n.block for n in stage(found, "import").nodes}["relu"]


def test_a_loop_of_kernels_holds_them(tmp_path: Path) -> None:
    nodes = [node("GRU", "x w r", "y _", hidden_size=4)]
    given = {"w": weights(1, 12, 3), "r": weights(1, 12, 4)}
    made = model(nodes, [("x", F32, [5, 1, 3])], [("y", F32, [5, 1, 1, 4])], given)
    path = tmp_path / "gru.onnx"
    path.write_bytes(made.SerializeToString())
    found = view(path, target=TARGET)
    check(found)
    last = found.stages[-1].nodes
    (loop,) = [n for n in last if n.body]
    assert loop.hint == "5 times"
    assert {n.kernel for n in last if n.block == loop.body[0]} == {
        i for i, kernel in enumerate(found.kernels) if kernel.times == 5
    }


def test_tflite_files_are_shown_with_their_options(tmp_path: Path) -> None:
    tensors = (
        tfl.Tensor("x", "float32", (1, 6, 6, 2)),
        tfl.Tensor("y", "float32", (1, 4, 4, 4)),
        tfl.constant("w", weights(4, 3, 3, 2)),
        tfl.constant("b", weights(4)),
    )
    conv = tfl.op("CONV_2D", "x w b", "y", padding=1, strideW=1, strideH=1,
                  fusedActivationFunction=1, dilationWFactor=1, dilationHFactor=1)  # fmt: skip
    made = tfl.Graph(tensors, (conv,), "x", "y")
    path = tmp_path / "net.tflite"
    path.write_bytes(tfl.write(made))
    found = view(path, target=TARGET)
    check(found)
    drawn = found.stages[0].nodes[1]
    assert (drawn.op, drawn.kind, drawn.hint) == ("CONV_2D", "product", "3×3 → 4")
    assert (drawn.attrs["padding"], drawn.attrs["fused_activation_function"]) == ("valid", "relu")


def test_graph_text_is_shown_from_its_import_on(tmp_path: Path) -> None:
    x = placeholder(parse_type("f32[4,8]"))
    y = p.exp(p.contract(x, const(weights(8, 2)), spec="ab,bc->ac"))
    text, data = print_graph(Graph({"x": x}, {"y": y}, "small"))
    path = tmp_path / "small.graph"
    path.write_text(text)
    np.savez(tmp_path / "small.npz", **data)
    found = view(path, target=TARGET)
    check(found)
    assert found.stages[0].name == "import"
    assert [n.op for n in found.stages[0].nodes] == ["input", "contract", "exp", "output"]
    assert len(found.kernels) == 1


def test_errors_colour_the_layers_that_they_are_of(network: Path, document: Document) -> None:
    """By the name in the file, with its operator or without; what no file can show is capped."""
    errors = {"Conv_c0 (Conv)": 31.5, "Add_a0": np.inf, "Gemm_y (Gemm)": -np.inf, "nobody": 1.0}
    found = view(network, target=TARGET, errors=errors)
    check(found)
    overlay = found.overlays[0]
    named = {found.sources[number]: value for number, value in overlay.values}
    assert named == {"Conv_c0": 31.5, "Add_a0": 140.0, "Gemm_y": -20.0}
    assert (overlay.unit, overlay.by, overlay.bad) == ("dB", "source", "low")
    assert found.overlays[1:] == document.overlays


def test_layers_of_many_nodes_are_blocks_of_their_own(tmp_path: Path) -> None:
    """One quantized convolution of a file is a dozen operators of brim's."""
    int8 = tfl.Quantization((0.05,), (0,))
    tensors = (
        tfl.Tensor("x", "int8", (1, 6, 6, 2), quantization=int8),
        tfl.Tensor("y", "int8", (1, 4, 4, 4), quantization=int8),
        tfl.constant("w", np.ones((4, 3, 3, 2), np.int8), quantization=int8),
        tfl.constant("b", np.ones(4, np.int32), quantization=tfl.Quantization((0.0025,), (0,))),
    )
    conv = tfl.op("CONV_2D", "x w b", "y", padding=1, strideW=1, strideH=1,
                  dilationWFactor=1, dilationHFactor=1)  # fmt: skip
    path = tmp_path / "int8.tflite"
    path.write_bytes(tfl.write(tfl.Graph(tensors, (conv,), "x", "y")))
    found = view(path, target=TARGET)
    check(found)
    file, imported = stage(found, "file").nodes, stage(found, "import").nodes
    assert [n.block for n in file] == [None] * 3
    inside = [n for n in imported if n.op not in ("input", "output")]
    assert len(inside) > 5 and len({n.block for n in inside}) == 1
    assert found.blocks[inside[0].block or 0].name == "y"


def test_kernels_that_write_parts_of_a_buffer_meet_in_its_concat(tmp_path: Path) -> None:
    nodes = [
        node("Exp", "x", "a"),
        node("Softmax", "x", "b"),
        node("Concat", "a b", "c", axis=0),
        node("Softmax", "c", "y"),
        node("ReduceMax", "c", "z", keepdims=0),
    ]
    made = model(nodes, [("x", F32, [4, 8])], [("y", F32, [8, 8]), ("z", F32, [])])
    path = tmp_path / "concat.onnx"
    path.write_bytes(made.SerializeToString())
    found = view(path, target=TARGET)
    check(found)
    last = found.stages[-1].nodes
    (concat,) = [n for n in last if n.op == "concat"]
    assert (concat.hint, concat.outputs) == ("in place", ("f32[8,8]",))
    assert found.sources[concat.source or 0] == "Concat_c"
    made_of = {found.sources[last[i].source or 0] for i, _ in concat.inputs}
    assert made_of == {"Exp_a", "Softmax_b"}
    readers = [n for n in last if any(last[i] is concat for i, _ in n.inputs)]
    assert {found.sources[n.source or 0] for n in readers} == {"Softmax_y", "ReduceMax_z"}


def test_names_from_a_file_are_printable() -> None:
    x = placeholder(parse_type("f32[4]"))
    y = p.exp(x)
    bad = "net.onnx: a\x1b[31m\u202eb (Exp)"
    y = type(y)(y.op, y.args, y.attrs, y.type, None, bad)
    found = view_graph(Graph({"x\u202e": x}, {"y\n": y}, "n\x07"), TARGET)
    check(found)
    assert json.dumps(found.plain(), ensure_ascii=False).isprintable()


@pytest.mark.parametrize(
    "array",
    [
        np.linspace(-1, 3, 1000, dtype=np.float32),
        np.arange(100, dtype=np.int8),
        np.array([np.nan, np.inf, 1.0, 2.0] * 20, np.float32),
        np.zeros((0, 4), np.float32),
        np.full(50, 7, np.int64),
        np.array([True, False] * 20),
        np.array([3.4e38, -3.4e38] * 20, np.float32),
    ],
    ids=["ramp", "bytes", "not finite", "none", "equal", "bools", "extremes"],
)
def test_histograms_count_every_finite_number(array: np.ndarray) -> None:
    found = describe(array, "w")
    finite = array[np.isfinite(array.astype(np.float64))]
    assert found.bytes == array.nbytes
    if not finite.size:
        assert (found.low, found.counts) == (None, None)
        return
    assert found.counts is not None and len(found.counts) in (1, BINS)
    assert sum(found.counts) == finite.size and not found.sampled
    assert found.low == pytest.approx(float(finite.min()), rel=1e-5)
    assert found.high == pytest.approx(float(finite.max()), rel=1e-5)
    assert found.zeros == pytest.approx(float((finite == 0).mean()), abs=1e-5)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrimError, match="there is no file"):
        view(tmp_path / "none.onnx")
    (tmp_path / "net.pt").write_bytes(b"")
    with pytest.raises(InputError, match="no model that brim reads"):
        view(tmp_path / "net.pt")


def test_few_numbers_are_told_one_by_one() -> None:
    assert describe(np.array([1, -1], np.int64), "shape").values == ("1", "-1")
