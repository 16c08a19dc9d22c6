"""Sequences, optionals and maps through compiled models: what goes in, comes out and is kept.

That the operators compute the right thing is the business of `test_control_reference`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import brim
from brim.frontends.onnx import import_model
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.ops import OPS, containers, control, host, primitive
from brim.text import print_graph
from brim.types import F32, Type, parse_type
from tests.control_cases import CASES, ControlCase, f32, flag, i64
from tests.extra.onnx_nodes import difference
from tests.sequence_cases import SEQUENCE_CASES

ALL = (*CASES, *SEQUENCE_CASES)
SAMPLE = ALL[::5]
INSERT = next(case for case in SEQUENCE_CASES if case.name == "sequence_operators_on_an_input")


def _agrees(case: ControlCase) -> None:
    model, graph = brim.load(case.model), import_model(case.model)
    for feeds in case.feeds:
        found, wanted = model.run(feeds), evaluate(graph, feeds)
        assert not difference(list(found.values()), list(wanted.values()), 1e-5, 1e-5)


@pytest.mark.parametrize("case", SAMPLE, ids=str)
def test_compiled_control_flow_equals_the_interpreter(case: ControlCase) -> None:
    _agrees(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in ALL if case not in SAMPLE], ids=str)
def test_all_compiled_control_flow_equals_the_interpreter(case: ControlCase) -> None:
    _agrees(case)


# ------------------------------------------------------------------ inputs and outputs


def _insert() -> tuple[brim.Model, dict[str, Any]]:
    return brim.load(INSERT.model), dict(INSERT.feeds[0])


def test_the_types_of_a_model_name_its_containers() -> None:
    model, _ = _insert()
    assert str(model.inputs["s"]) == "seq.f32[]"
    assert str(model.outputs["t"]) == "seq.f32[]"


def test_what_is_no_sequence_of_the_right_type_is_refused() -> None:
    model, feeds = _insert()
    for bad, message in (
        ([np.zeros(2)], r"input 's'\[0\] is float64, the model wants f32"),
        ([f32(1, 2), None], r"input 's'\[1\] is NoneType, the model wants f32"),
        (f32(1, 2), "input 's' is float32, the model wants seq.f32"),
        (None, "input 's' is NoneType, the model wants seq.f32"),
        ([["a"]], r"input 's'\[0\] is no array of f32"),
    ):
        with pytest.raises(brim.InputError, match=message):
            model.run({**feeds, "s": bad})


def test_plain_lists_of_numbers_become_arrays() -> None:
    model, feeds = _insert()
    found = model.run({**feeds, "s": [[1, 2], [3.5]]})["t"]
    assert [part.dtype for part in found] == [np.float32] * 3
    assert found[-1].tolist() == [3.5]


def test_results_own_their_memory() -> None:
    case = next(case for case in SEQUENCE_CASES if case.name == "sequence_passed_on")
    given = [f32(1, 2), f32([3])]
    found = brim.load(case.model).run({"s": given})["t"]
    found[0][:] = 9
    found.append(f32(0))
    assert [part.tolist() for part in given] == [[1, 2], [3]]


def test_a_position_outside_the_sequence_is_an_input_error() -> None:
    model, feeds = _insert()
    with pytest.raises(brim.InputError, match="position 4 in a sequence of 2"):
        model.run({**feeds, "i": i64(4)})


def test_maps_and_nested_containers_go_through() -> None:
    kinds = {"m": "map.str.f32[]", "n": "map.i64.str[]", "q": "seq.map.i64.f64[]"}
    inputs = {name: placeholder(parse_type(kind)) for name, kind in kinds.items()}
    first = containers.sequence_at(inputs["q"], np.int64(0))
    model = brim.compile(Graph(inputs, {**inputs, "first": first}))
    feeds = {"m": {"a": 1, "b": 0.1}, "n": {3: "x"}, "q": [{1: 0.5}, {}]}
    found = model.run(feeds)
    assert found["m"] == {"a": 1.0, "b": float(np.float32(0.1))}
    assert (found["n"], found["q"], found["first"]) == ({3: "x"}, feeds["q"], {1: 0.5})
    for name, bad in (("m", {1: 1.0}), ("m", {"a": "x"}), ("n", {"3": "x"}), ("q", [{1: None}])):
        with pytest.raises(brim.InputError):
            model.run({**feeds, name: bad})


def test_text_that_is_passed_on() -> None:
    x = placeholder(parse_type("str[2]"))
    model = brim.compile(Graph({"x": x}, {"y": x, "z": x}))
    given = np.array(["a", "b"], object)
    found = model.run({"x": given})
    found["y"][0] = "changed"
    assert (found["z"].tolist(), given.tolist()) == (["a", "b"], ["a", "b"])


def test_two_names_of_one_output_are_two_arrays() -> None:
    y = host.forget_shape(x := placeholder(parse_type("f32[2]")))
    found = brim.compile(Graph({"x": x}, {"y": y, "z": y})).run({"x": f32(1, 2)})
    found["y"][:] = 9
    assert found["z"].tolist() == [1, 2]


# ------------------------------------------------------------------ memory


def test_a_value_of_unknown_shape_outlives_the_memory_that_it_came_from() -> None:
    """A loop without iterations gives what it was given, which the arena is about to reuse."""
    x, n = placeholder(parse_type("f32[64]")), placeholder(parse_type("i64[]"))
    carried = placeholder(parse_type("f32[?]"))
    names = {
        "iteration": placeholder(parse_type("i64[]")),
        "condition": placeholder(parse_type("bool[]")),
        "carried": carried,
    }
    body = Graph(names, {"again": names["condition"], "carried": carried}, "body")
    early = host.forget_shape(primitive.exp(x))
    y = control.loop(n, flag(True), early, body=body, carried=1, length=None)
    z = x
    for _ in range(3):  # each in memory of its own, one after the other
        z = primitive.cumulate(
            primitive.add(z, x), op="add", axis=0, exclusive=False, reverse=False
        )
    model = brim.compile(Graph({"x": x, "n": n}, {"y": y, "z": z}))
    given = np.linspace(0, 1, 64, dtype=np.float32)
    first = model.run({"x": given, "n": i64(0)})["y"]
    np.testing.assert_allclose(first, np.exp(given), rtol=1e-6)
    model.run({"x": -given, "n": i64(0)})  # another call with the same arena
    np.testing.assert_allclose(first, np.exp(given), rtol=1e-6)


def test_constants_in_results_are_copies() -> None:
    weight = const(np.arange(64, dtype=np.float32))
    y = Value(OPS["forget_shape"], (weight,), {}, Type(None, weight.dtype))
    s = containers.sequence(weight, of=weight.dtype)
    model = brim.compile(Graph({}, {"y": y, "s": s}))
    for _ in range(2):
        found = model.run({})
        assert found["y"].tolist() == found["s"][0].tolist() == list(range(64))
        found["y"][:] = 7
        found["s"][0][:] = 8


# ------------------------------------------------------------------ files


def test_a_loop_that_carries_a_sequence_in_an_artifact(tmp_path: Path) -> None:
    case = next(case for case in SEQUENCE_CASES if case.name == "loop_that_fills_a_sequence")
    model = brim.load(case.model)
    model.save(tmp_path / "m.brim")
    again = brim.load(tmp_path / "m.brim")
    for feeds in case.feeds:
        found, wanted = again.run(feeds), model.run(feeds)
        assert not difference(list(found.values()), list(wanted.values()), 0, 0)


def test_artifacts_of_models_with_containers(tmp_path: Path) -> None:
    model, feeds = _insert()
    model.save(tmp_path / "m.brim")
    again = brim.load(tmp_path / "m.brim")
    assert again.inputs["s"] == Type((), parse_type("seq.f32[]").dtype)
    found, wanted = again.run(feeds), model.run(feeds)
    assert not difference(list(found.values()), list(wanted.values()), 0, 0)
    with pytest.raises(brim.UnsupportedError, match="samples of sequences"):
        model.save(tmp_path / "n.brim", samples=[feeds])


# ------------------------------------------------------------------ the command line


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x: f32[2] as a sequence of two, in an optional, and an empty optional."""
    path = tmp_path_factory.mktemp("parts") / "parts.graph"
    x = placeholder(parse_type("f32[2]"))
    s = containers.sequence_split(x, axis=0, keep=True)
    outputs = {"s": s, "o": containers.optional(s, of=s.dtype), "e": containers.optional(of=F32)}
    path.write_text(print_graph(Graph({"x": x}, outputs))[0])
    return path


def test_outputs_of_containers_are_printed(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    from brim.cli import main

    assert main(["run", str(parts), "--input", "x=1,2"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["s", "seq.f32[]", "2", "parts:", "f32[1]", "f32[1]"] in lines
    assert ["e", "opt.f32[]", "empty"] in lines
    assert main(["run", str(parts), "--input", "x=1,2", "--json"]) == 0
    outputs = json.loads(capsys.readouterr().out)["outputs"]
    assert outputs["o"] == {"type": "opt.seq.f32[]", "data": [[1.0], [2.0]]}
    assert outputs["e"]["data"] is None


def test_the_command_line_refuses_what_it_cannot_give_and_keep(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("typer")
    from brim.cli import main

    net = tmp_path / "m.onnx"
    net.write_bytes(INSERT.model)
    commands = {
        ("run", str(parts), "--input", "x=1,2", "--output", str(tmp_path)): "is no array but",
        ("run", str(net), "--input", "s=1", "--input", "x=1,2", "--input", "i=0"): "arrays only",
        ("convert", str(net), str(tmp_path / "m.brim")): "'s' is seq.f32[], and only arrays",
        ("convert", str(parts), str(tmp_path / "p.brim")): "'s' is seq.f32[], and only arrays",
    }
    for command, message in commands.items():
        assert main(list(command)) == 1
        assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
