"""Delta debugging: what is left still fails, is valid, and is as small as what was planted."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brim.debug import write_graph
from brim.errors import BrimError, InputError
from brim.graph import Graph, Value, const, placeholder
from brim.ops import math, nn
from brim.ops import primitive as ops
from brim.ops.control import cond, results_of
from brim.passes.verify import verify
from brim.reduce import GRAPHS, ONNX, reduced
from brim.reduce.command import Command, failure
from brim.reduce.delta import most, shortest
from brim.reduce.testcase import graph_test
from brim.sources import graph_file
from brim.text import parse_graph, print_graph
from brim.tools.reduce import reduce_file
from brim.types import BOOL, F32, Type
from tests.random_graphs import RandomGraph, graphs

# ------------------------------------------------------------------ lists


@settings(deadline=None)
@given(st.integers(0, 60), st.sets(st.integers(0, 59), max_size=5))
def test_what_is_not_needed_goes(count: int, needed: set[int]) -> None:
    calls = 0

    def holds(edits: list[int]) -> bool:
        nonlocal calls
        calls += 1
        return needed.isdisjoint(edits)

    assert sorted(most(range(count), holds)) == sorted(set(range(count)) - needed)
    assert calls <= 1 + 2 * len(needed) * 7


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 500))
def test_the_shortest_that_holds(low: int, wanted: int) -> None:
    high = max(low, wanted)
    assert shortest(min(low, wanted), high, lambda n: n >= wanted) == wanted


# ------------------------------------------------------------------ graphs

x = placeholder(Type((1, 8, 8, 4), F32))


def _conv(v: Value, seed: int) -> Value:
    w = np.random.default_rng(seed).standard_normal((3, 3, 4, 4)).astype(np.float32)
    pads = {"low": (1, 1), "high": (1, 1)}
    return nn.conv(v, const(w), stride=(1, 1), dilation=(1, 1), groups=1, **pads)


def _tower(layers: int, wrong: int) -> Graph:
    """A network of 4 operators a layer; one of them has an erf."""
    v = x
    for i in range(layers):
        y = ops.add(_conv(v, i), const(np.full(4, i, np.float32)))
        v = ops.add(v, ops.erf(y) if i == wrong else math.relu(y))
    flat = ops.reshape(v, shape=(8, 32))
    return Graph({"x": x}, {"y": math.softmax(flat, axis=1), "z": v}, "tower")


def _names(graph: Graph) -> list[str]:
    return [value.op.name for value in graph.values() if value.op is not None]


def _adds_an_erf(graph: Graph) -> bool:
    return any(
        arg.op is not None and arg.op.name == "erf"
        for value in graph.values()
        if value.op is not None and value.op.name == "add"
        for arg in value.args
    )


def test_five_hundred_nodes_become_a_handful() -> None:
    asked = 0

    def fails(graph: Graph) -> bool:
        nonlocal asked
        asked += 1
        verify(graph)
        return _adds_an_erf(graph)

    whole = _tower(125, 61)
    assert GRAPHS.nodes(whole) > 500
    small = reduced(whole, GRAPHS, fails)
    assert _names(small) == ["erf", "add"]
    assert all(value.type.size == 1 for value in small.values())
    assert asked < 60  # each takes a second where the command is `brim run`


def test_the_search_is_deterministic() -> None:
    found = [print_graph(reduced(_tower(10, 7), GRAPHS, _adds_an_erf)) for _ in range(2)]
    assert found[0] == found[1]


@settings(max_examples=25, deadline=None)
@given(graphs(), st.integers(0, 100))
def test_what_is_left_fails_and_is_a_graph(drawn: RandomGraph, number: int) -> None:
    names = _names(drawn.graph)
    if not names:
        return
    wanted = names[number % len(names)]
    small = reduced(drawn.graph, GRAPHS, lambda graph: wanted in _names(graph))
    verify(small)
    assert _names(small) == [wanted]
    again = parse_graph(*print_graph(small))
    assert print_graph(again) == print_graph(small)


def test_two_distant_nodes_stay_connected() -> None:
    """The failure takes an erf whose result arrives at a tanh, 20 nodes later."""
    v = ops.erf(x)
    for i in range(10):
        v = math.relu(_conv(v, i))
    graph = Graph({"x": x}, {"y": ops.tanh(v)}, "far")

    def fails(graph: Graph) -> bool:
        reached: set[int] = set()
        for value in graph.values():
            if value.op is not None and (
                value.op.name == "erf" or any(id(arg) in reached for arg in value.args)
            ):
                reached.add(id(value))
            if value.op is not None and value.op.name == "tanh" and id(value) in reached:
                return True
        return False

    assert _names(reduced(graph, GRAPHS, fails)) == ["erf", "tanh"]


def _branches() -> Graph:
    a = placeholder(Type((2, 6), F32))
    then = Graph({"a": a}, {"r": ops.tanh(ops.erf(math.relu(ops.neg(a))))}, "then")
    b = placeholder(Type((2, 6), F32))
    orelse = Graph({"b": b}, {"r": ops.exp(b)}, "else")
    flag, v = placeholder(Type((), BOOL)), placeholder(Type((2, 6), F32))
    (chosen,) = results_of(cond(flag, ops.neg(v), then=then, orelse=orelse))
    return Graph({"flag": flag, "v": v}, {"y": ops.exp(chosen)}, "branches")


def _all_names(graph: Graph) -> list[str]:
    inner = [
        name
        for value in graph.values()
        for attr in value.attrs.values()
        if isinstance(attr, Graph)
        for name in _all_names(attr)
    ]
    return [*_names(graph), *inner]


def test_a_graph_inside_becomes_the_model() -> None:
    small = reduced(_branches(), GRAPHS, lambda graph: "erf" in _all_names(graph))
    assert _all_names(small) == ["erf"]


def test_a_graph_inside_is_reduced_where_it_is() -> None:
    def fails(graph: Graph) -> bool:
        verify(graph)
        return {"cond", "erf"} <= set(_all_names(graph)) and "erf" not in _names(graph)

    small = reduced(_branches(), GRAPHS, fails)
    assert sorted(_all_names(small)) == ["cond", "erf"]


def test_state_stays_where_it_matters() -> None:
    h, v = placeholder(Type((4,), F32)), placeholder(Type((4,), F32))
    out = math.relu(ops.add(ops.erf(h), ops.neg(v)))
    graph = Graph(
        {"h": h, "v": v}, {"h": out, "y": ops.exp(v)}, "s", {"h": np.zeros(4, np.float32)}
    )

    def fails(graph: Graph) -> bool:
        verify(graph)
        return "h" in graph.state and "erf" in _names(graph)

    small = reduced(graph, GRAPHS, fails)
    assert _names(small) == ["erf"]
    assert list(small.state) == ["h"] and small.state["h"].shape == (1,)
    without = reduced(graph, GRAPHS, lambda graph: "erf" in _names(graph))
    assert not without.state


def test_shapes_types_attributes_and_constants_become_simple() -> None:
    v = placeholder(Type((2, 9, 9, 6), F32))
    w = np.random.default_rng(0).standard_normal((3, 3, 3, 10)).astype(np.float32)
    y = nn.conv(
        v, const(w), stride=(2, 2), dilation=(2, 1), low=(1, 2), high=(3, 1), groups=2, exact=True
    )
    graph = Graph({"v": v}, {"y": y}, "one")

    def strided(graph: Graph) -> bool:
        return any(value.attrs.get("stride", ())[:1] == (2,) for value in graph.values())

    (found,) = [v for v in reduced(graph, GRAPHS, strided).values() if v.op is not None]
    assert found.attrs == {
        "stride": (2, 1), "dilation": (1, 1), "low": (0, 0), "high": (0, 0), "groups": 1,
    }  # fmt: skip
    assert [arg.shape for arg in found.args] == [(1, 1, 1, 1), (1, 1, 1, 1)]
    assert (found.args[1].data == 1).all()


# ------------------------------------------------------------------ ONNX files


def _fails_by(op: str) -> Callable:
    return lambda model: any(node.op_type == op for node in model.graph.node)


def test_an_onnx_file_is_reduced_as_it_is() -> None:
    pytest.importorskip("onnx")
    from onnx import checker, helper, numpy_helper

    nodes, last = [], "x"
    for i in range(200):
        op = "Unheard" if i == 123 else "Relu" if i % 2 else "Conv"
        reads = [last, f"w{i}"] if op == "Conv" else [last]
        extra = {"domain": "nobody"} if op == "Unheard" else {}
        extra |= {"pads": [1, 1, 1, 1]} if op == "Conv" else {}
        nodes.append(helper.make_node(op, reads, [f"v{i}"], **extra))
        last = f"v{i}"
    w = np.random.default_rng(0).standard_normal((4, 4, 3, 3)).astype(np.float32)
    tensors = [numpy_helper.from_array(w, f"w{i}") for i in range(0, 200, 2)]
    ports = [helper.make_tensor_value_info(n, 1, [1, 4, 9, 9]) for n in ("x", last)]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nobody", 1)]
    model = helper.make_model(graph, opset_imports=opsets)

    small = reduced(model, ONNX, _fails_by("Unheard"))
    assert [node.op_type for node in small.graph.node] == ["Unheard"]
    small = reduced(model, ONNX, _fails_by("Conv"))
    (node,) = small.graph.node
    assert node.op_type == "Conv" and not node.attribute
    assert [d.dim_value for d in small.graph.input[0].type.tensor_type.shape.dim] == [1] * 4
    checker.check_model(small)


def test_branches_and_functions_of_an_onnx_file() -> None:
    pytest.importorskip("onnx")
    from onnx import parser

    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17, "own": 1]>
        g (float[2,3] x, bool b) => (float[2,3] y) {
            n = Neg(x)
            t = own.twice(n)
            r = If (b) <
                then_branch = p () => (float[2,3] u) { s = Sin(t) u = Erf(s) },
                else_branch = q () => (float[2,3] w) { w = Abs(t) }
            >
            y = Exp(r)
        }
        <domain: "own", opset_import: ["": 17]>
        twice (a) => (c) { d = Tan(a) c = Add(d, a) }
    """)
    assert ONNX.nodes(model) == 9
    small = reduced(model, ONNX, _fails_by("Sin"))
    assert [node.op_type for node in small.graph.node] == ["Sin"]
    small = reduced(model, ONNX, _fails_by("Tan"))
    assert [node.op_type for node in small.graph.node] == ["Tan"]
    assert not small.functions


# ------------------------------------------------------------------ commands


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "a tower.graph"
    write_graph(path, _tower(12, 5))
    return path


def test_a_command_ends_in_many_ways(model: Path) -> None:
    def run(line: str) -> str:
        return str(Command(line, 0.3).run(model))

    assert run("cat {}") == "exit code 0"
    assert run("cat {}; exit 3") == "exit code 3"
    assert run("kill -SEGV $$ # {}") == "signal SIGSEGV"
    assert run("sleep 60; cat {}") == "ran out of its time"
    assert "graph tower" in Command("cat {}", 5).run(model).output


def test_nothing_of_a_command_is_left_running(model: Path, tmp_path: Path) -> None:
    number = tmp_path / "number"
    Command(f"sleep 600 & echo $! > {number}; cat {{}}; wait", 0.3).run(model)
    deadline = time.monotonic() + 5
    while _is_alive(int(number.read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_alive(int(number.read_text()))


def _is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"


def test_only_the_failure_of_the_whole_model_counts(model: Path) -> None:
    wanted = failure(Command("echo NaN; exit 3 # {}", 5).run(model), "NaN")
    for line, same in {
        "echo NaN; exit 3": True,
        "exit 3": False,
        "echo NaN; exit 4": False,
    }.items():
        assert wanted.is_in(Command(f"{line} # {{}}", 5).run(model)) == same
    with pytest.raises(InputError, match="does not fail"):
        failure(Command("cat {}", 5).run(model), "")
    with pytest.raises(InputError, match="without printing"):
        failure(Command("cat {}; exit 1", 5).run(model), "NaN")
    for line, seconds in (("cat", 1), ("cat {}", 0)):
        with pytest.raises(BrimError):
            Command(line, seconds)


GREP = "! grep -q erf {}"


def test_the_printed_test_fails_as_the_command_does(model: Path, tmp_path: Path) -> None:
    stages = []
    found = reduce_file(
        model, Command(GREP, 5), progress=lambda stage, done, total: stages.append((done, total))
    )
    assert found.destination == tmp_path / "a tower.small.graph"
    assert found.nodes == (50, 1) and not found.interrupted
    assert stages[-1] == (49, 50)
    assert _names(graph_file(found.destination)) == ["erf"]
    space: dict = {}
    exec(found.test, space)
    with pytest.raises(AssertionError):
        space["test_reduced"](tmp_path)
    exec(found.test.replace("! grep", "grep"), space)
    space["test_reduced"](tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_constants_stand_in_the_printed_test(tmp_path: Path) -> None:
    v = placeholder(Type((2, 20), F32))
    table = const(np.arange(40, dtype=np.float32).reshape(2, 20) % 7)
    path = tmp_path / "table.graph"
    write_graph(path, Graph({"v": v}, {"y": ops.add(v, table)}, "table"))
    found = reduce_file(path, Command("! grep -q '@w0' {}", 5))
    space: dict = {}
    exec(found.test, space)
    with pytest.raises(AssertionError):
        space["test_reduced"](tmp_path)
    assert "np.full((2, 9), 1.0" in found.test


def test_an_interrupted_search_keeps_the_best(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, plain = [], Command.run

    def run(command: Command, path: Path) -> object:
        runs.append(path)
        if len(runs) == 6:
            raise KeyboardInterrupt
        return plain(command, path)

    monkeypatch.setattr(Command, "run", run)
    found = reduce_file(model, Command(GREP, 5))
    assert found.interrupted
    assert 1 < found.nodes[1] < 50
    assert "erf" in _names(graph_file(found.destination))


def test_the_command_line(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    from brim.cli import main

    words = ["reduce", str(model), "--fails", GREP, "-o", str(model.with_name("s.graph"))]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nodes"] == [50, 1]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("import subprocess")
    assert "50 nodes became 1" in shown.err
    assert main([*words[:3], "true # {}"]) == 1
    assert "does not fail" in capsys.readouterr().err
    assert not os.path.exists(model.with_name("a tower.small.graph"))


def test_a_conversion_is_told_by_the_suffix(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[N,3] x) => (float[N,3] y)'
    whole = onnx.parser.parse_model(text + " { a = Neg(x) b = Erf(a) y = Exp(b) }")
    path = tmp_path / "net.onnx"
    onnx.save(whole, path)
    shapes = {"x": (5, 3)}
    found = reduce_file(path, Command("! grep -q erf {}", 5), tmp_path / "n.graph", shapes=shapes)
    assert found.nodes == (3, 1)
    found = reduce_file(path, Command("! grep -q Erf {}", 5), shapes=shapes)
    assert found.destination == tmp_path / "net.small.onnx"
    assert [node.op_type for node in onnx.load(found.destination).graph.node] == ["Erf"]
    with pytest.raises(InputError, match="does not end in"):
        reduce_file(path, Command(GREP, 5), tmp_path / "net.txt")
    with pytest.raises(InputError, match="no input 'z'"):
        reduce_file(path, Command(GREP, 5), shapes={"z": (1,)})


def test_large_constants_are_read_from_the_file(tmp_path: Path) -> None:
    v = placeholder(Type((9, 9), F32))
    table = const(np.arange(81, dtype=np.float32).reshape(9, 9))
    found = Graph({"v": v}, {"y": ops.add(v, table)}, "table")
    test = graph_test(found, tmp_path / 'a "table".graph', GREP, "It fails.")
    assert 'Path(__file__).with_name("a \\"table\\".graph")' in test
    compile(test, "test", "exec")
