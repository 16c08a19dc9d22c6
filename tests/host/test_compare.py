"""brim compare: planted faults are found in the layer, and the pass, that they were planted in."""

from __future__ import annotations

import json
import random as dice
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer")
onnx = pytest.importorskip("onnx")

from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

import brim
from brim import compiler
from brim.cli import main
from brim.divergence import Apart, Compared, First
from brim.errors import InputError
from brim.graph import Graph, Value, rewrite
from brim.runtime.cpu import machine
from brim.targets.target import TARGETS
from brim.tools.compare import Comparison, compare, comparison_page, sides
from brim.tools.compare.meet import _meeting
from brim.types import Type
from tests.html_pages import NASTY, Page
from tests.onnx_models import F32, model, node

Captured = pytest.CaptureFixture[str]
WEIGHTS = ("w1", "w2", "w3")


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes that tests break are not part of the cache's keys."""
    monkeypatch.setenv("BRIM_CACHE", "off")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions, one of them with a norm and a sum around it, a product at the end."""
    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    weights = {"w1": normal(8, 3, 3, 3), "w2": normal(8, 8, 3, 3), "w3": normal(8, 5)}
    weights |= {n: random.uniform(0.5, 1.5, 8).astype(np.float32) for n in "sbmv"}
    nodes = [
        node("Conv", "x w1", "c1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c1 s b m v", "n1"),
        node("Relu", "n1", "r1"),
        node("Conv", "r1 w2", "c2", pads=[1, 1, 1, 1]),
        node("Sigmoid", "c2", "g"),
        node("Mul", "c2 g", "swish"),
        node("Add", "r1 swish", "sum"),
        node("GlobalAveragePool", "sum", "pool"),
        node("Flatten", "pool", "flat"),
        node("MatMul", "flat w3", "y"),
    ]
    made = model(nodes, [("x", F32, [1, 3, 8, 8])], [("y", F32, [1, 5])], weights)
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    onnx.save(made, path)
    return path


def changed(net: Path, folder: Path, weight: str) -> Path:
    """The same file with one number of a weight changed."""
    proto = onnx.load(net)
    for tensor in proto.graph.initializer:
        if tensor.name == weight:
            array = numpy_helper.to_array(tensor).copy()
            array.flat[array.size // 2] += 1
            tensor.CopyFrom(numpy_helper.from_array(array, weight))
    path = folder / f"{weight}.onnx"
    onnx.save(proto, path)
    return path


def feeds(types: Mapping[str, Type], usual: object) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {n: random.standard_normal(t.dims).astype(np.float32) for n, t in types.items()}


def found(left: object, right: object, **options: Any) -> Comparison:
    return compare(str(left), str(right), feeds, **options)


# ------------------------------------------------------------------ planted faults


@pytest.mark.parametrize(
    ("weight", "layer"), [("w1", "Conv_c1"), ("w2", "Conv_c2"), ("w3", "MatMul_y")]
)
@pytest.mark.parametrize("how", ["", "@interpreter", "@f64", "@03_layout"])
def test_a_changed_weight_is_found(
    net: Path, tmp_path: Path, weight: str, layer: str, how: str
) -> None:
    left, right = f"{changed(net, tmp_path, weight)}{how}", f"{net}{how}"
    result = found(left, right)
    assert not result.agrees and result.first is not None
    op = layer.partition("_")[0]
    # the graph after `layout` has what follows of a convolution in other places: see First.between
    assert f"{layer} ({op})" in (result.first.layer, *result.first.between)
    if how != "@03_layout":
        assert result.first.layer == f"{layer} ({op})"
    first = next(each for each in result.layers if not each.agrees)
    assert first.layer == f"{layer} ({op})"
    assert first.apart.at is not None and first.apart.sqnr < 40


def without(op: str, layer: str = "") -> Any:
    def broken(graph: Graph) -> Graph:
        def rule(value: Value) -> Value | None:
            mine = value.op is not None and value.op.name == op and layer in value.where
            return value.args[0] if mine else None

        return rewrite(graph, rule)

    return broken


@pytest.mark.usefixtures("no_cache")
def test_a_broken_pass_is_found(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    careless = ("careless", without("sigmoid"))
    passes = (*compiler.PIPELINE[:4], careless, *compiler.PIPELINE[4:])
    monkeypatch.setattr(compiler, "PIPELINE", passes)
    compiled = found(net, f"{net}@interpreter")
    assert not compiled.agrees and compiled.first is not None
    assert "Sigmoid_g (Sigmoid)" in (compiled.first.layer, *compiled.first.between)
    agree, blamed = compiled.notes
    assert agree.endswith("agree: compiling makes the difference")
    assert blamed == "net.onnx is right after 04_simplify_again, and wrong after 05_careless"
    stage = found(f"{net}@careless", "@import")
    assert stage.first is not None  # the Sigmoid itself has no value any more
    assert "Sigmoid_g (Sigmoid)" in (stage.first.layer, *stage.first.between)
    assert stage.left == "net.onnx@careless"
    assert found(f"{net}@04_simplify_again", "@import").agrees


@pytest.mark.usefixtures("no_cache")
def test_broken_kernels_are_found(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = compiler.lower
    careless = without("maximum", "Relu")
    monkeypatch.setattr(compiler, "lower", lambda graph: right(careless(graph)))
    result = found(net, "@import")
    assert not result.agrees and result.first is not None
    assert "Relu_r1 (Relu)" in (result.first.layer, *result.first.between)
    assert "net.onnx is right after every pass" in result.notes[-1]


@pytest.mark.parametrize(
    "how", ["interpreter", "f64", "exact", "host", "import", "00_import", "layout", "settle"]
)
def test_every_way_to_compute_a_model_agrees(net: Path, how: str) -> None:
    result = found(net, f"@{how}")
    assert result.agrees and result.first is None and result.notes == ()
    assert {"Relu_r1 (Relu)", "MatMul_y (MatMul)"} <= {each.layer for each in result.layers}
    assert all(each.agrees for each in result.layers)


def test_a_value_with_another_meaning_is_not_accused(net: Path, tmp_path: Path) -> None:
    """The norm's scale is moved into the convolution: its result is another, and all is right."""
    result = found(f"{net}@settle", "@import")
    assert result.agrees and result.first is None
    assert [each.layer for each in result.layers if not each.agrees] == ["Conv_c1 (Conv)"]
    assert [each.layer for each in result.layers if each.heals] == ["Conv_c1 (Conv)"]
    wrong = found(f"{changed(net, tmp_path, 'w2')}@settle", f"{net}@import")
    assert wrong.first is not None and wrong.first.layer == "Conv_c2 (Conv)"
    assert [each.layer for each in wrong.layers if each.heals] == ["Conv_c1 (Conv)"]
    lasting = [each.layer for each in wrong.layers if not each.agrees and not each.heals]
    assert lasting[0] == "Conv_c2 (Conv)" and lasting[-1] == "MatMul_y (MatMul)"


def test_an_artifact_beside_its_file(net: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "net.brim"
    brim.load(net).save(artifact)
    result = found(artifact, net)
    assert result.agrees and len(result.layers) >= 4
    assert not found(artifact, changed(net, tmp_path, "w2")).agrees
    with pytest.raises(InputError, match="holds the graph after all passes"):
        found(f"{artifact}@layout", net)


@pytest.mark.slow
def test_a_quantized_twin(net: Path, tmp_path: Path) -> None:
    """Its codes are read as numbers; noise grows, and stays far below the signal."""
    random = np.random.default_rng(2)
    data = {"x": random.standard_normal((64, 3, 8, 8)).astype(np.float32)}
    twin = tmp_path / "small.brim"
    small, _ = brim.quantize(net, data, force=True)
    small.save(twin)
    result = found(twin, net, tolerance=0.2)
    assert result.agrees
    codes = [each for each in result.layers if "codes" in each.how]
    assert codes and all(each.types[0].startswith(("u8", "i8")) for each in codes)
    assert all(20 < each.apart.sqnr < 70 for each in codes)
    turned = found(net, twin, tolerance=0.2)
    assert [each.layer for each in turned.layers] == [each.layer for each in result.layers]


# ------------------------------------------------------------------ what it takes


def test_values_come_in_parts_where_there_are_many(
    net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = found(net, "@import")
    monkeypatch.setattr(sides, "AT_ONCE", 3000)
    assert found(net, "@import").layers == whole.layers


@given(st.integers(0, 30), st.randoms(use_true_random=False))
def test_values_meet_in_any_order(count: int, order: dice.Random) -> None:
    """Sides compute their layers in orders of their own."""

    def stream() -> Iterator[tuple[int, int]]:
        numbers = list(range(count))
        order.shuffle(numbers)
        yield from ((number, number) for number in numbers)

    met = list(_meeting(stream(), stream()))
    assert sorted(met) == [(number, number, number) for number in range(count)]


def test_inputs_of_other_names_go_by_their_places(net: Path, tmp_path: Path) -> None:
    proto = onnx.load(net)
    proto.graph.input[0].name = proto.graph.node[0].input[0] = "image"
    proto.graph.output[0].name = proto.graph.node[-1].output[0] = "logits"
    onnx.save(proto, tmp_path / "other.onnx")
    assert found(tmp_path / "other.onnx", net).agrees


def test_outputs_that_one_side_alone_gives(net: Path, tmp_path: Path) -> None:
    proto = onnx.load(net)
    proto.graph.output.append(onnx.helper.make_tensor_value_info("r1", F32, None))
    onnx.save(proto, tmp_path / "more.onnx")
    for left, right in ((tmp_path / "more.onnx", net), (net, tmp_path / "more.onnx")):
        result = found(f"{left}@interpreter", f"{right}@interpreter")
        assert result.agrees and [each.layer for each in result.outputs] == ["y"]
        assert result.notes == ("one side alone gives 'r1': not compared",)


def test_models_with_nothing_in_common(net: Path, tmp_path: Path) -> None:
    add = model([node("Add", "a b", "y")], [("a", F32, [2]), ("b", F32, [2])], [("y", F32, [2])])
    onnx.save(add, tmp_path / "add.onnx")
    with pytest.raises(InputError, match="the two models have other inputs"):
        found(tmp_path / "add.onnx", net)
    same = model([node("Tanh", "x", "y")], [("x", F32, [1, 3, 8, 8])], [("y", F32, None)])
    onnx.save(same, tmp_path / "same.onnx")
    result = found(tmp_path / "same.onnx", net)
    assert not result.agrees and not result.layers
    assert "no names are the same" in result.notes[0]


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        ("NET@nonsense", "NET", "nothing that computes models is called 'nonsense'"),
        ("@f64", "NET", "names no file"),
        ("gone.onnx", "NET", "there is no file"),
        ("NET@litert", "NET", "litert does not read net.onnx"),
    ],
)
def test_what_cannot_be_compared_is_said(net: Path, left: str, right: str, message: str) -> None:
    with pytest.raises(brim.BrimError, match=message):
        found(left.replace("NET", str(net)), right.replace("NET", str(net)))


def test_code_for_another_processor_is_not_run(net: Path) -> None:
    other = "cortex-a76" if machine() == "x86_64" else "x86-64-v3"
    assert other in TARGETS
    with pytest.raises(InputError, match=f"code for {other} cannot be run here"):
        found(net, f"@{other}")


# ------------------------------------------------------------------ the command and its page


def test_the_command_says_where(net: Path, tmp_path: Path, capsys: Captured) -> None:
    bad, page = changed(net, tmp_path, "w2"), tmp_path / "page.html"
    assert main(["compare", str(bad), str(net), "-o", str(page)]) == 1
    out = capsys.readouterr().out
    assert "They part in Conv_c2 (Conv)" in out
    assert "all that it is computed of agrees: Relu_r1 (Relu)" in out
    text = Page(page.read_text())
    assert text.left_open() == [] and text.requests() == []
    assert "Conv_c2 (Conv)" in text.text
    assert main(["compare", str(net), "@interpreter"]) == 0
    assert "none beyond 0.0001" in capsys.readouterr().out


def test_the_command_as_json(net: Path, tmp_path: Path, capsys: Captured) -> None:
    bad = changed(net, tmp_path, "w1")
    assert main(["compare", str(bad), str(net), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["agrees"] is False
    assert told["first"]["layer"] == "Conv_c1 (Conv)"
    assert {"layer", "types", "apart", "agrees", "how"} <= told["layers"][0].keys()
    assert main(["compare", str(bad), str(net), "--tolerance", "10", "--json"]) == 0
    assert main(["compare", str(bad), str(net), "--open"]) == 1


def test_names_in_pages_are_text_only() -> None:
    plain = Page(comparison_page(named(tuple("abcdefghi"))))
    nasty = Page(comparison_page(named(NASTY)))
    assert plain.left_open() == [] and plain.requests() == []
    assert nasty.tags == plain.tags and not nasty.comments


def named(names: tuple[str, ...]) -> Comparison:
    """A comparison in which these are the names of everything."""
    wrong = Apart(0.5, 3.0, (0,), 1.0, 2.0, (3, *range(10)))
    rows = tuple(Compared(name, (name, name), wrong, False, name) for name in names)
    first = First(names[0], names, names)
    return Comparison(names[1], names[2], 1e-4, rows, rows, first, names, names, names)


def test_a_page_of_nothing_but_outputs() -> None:
    equal = Compared("y", ("f32[2]", "f32[2]"), Apart(0.0, np.inf), True)
    page = Page(comparison_page(Comparison("a", "b", 1e-4, (equal,), (), None, (), (), ())))
    assert page.left_open() == [] and page.requests() == []
