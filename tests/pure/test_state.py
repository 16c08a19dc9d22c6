"""State of graphs: what it means, how it prints and parses, what passes and checks make of it."""

from __future__ import annotations

import numpy as np
import pytest

from brim.compiler import optimise
from brim.errors import ModelError
from brim.graph import Graph, evaluate, placeholder, rewrite, visible
from brim.ops import control
from brim.ops import primitive as p
from brim.passes.verify import verify
from brim.text import parse_graph, print_graph
from brim.tools.in_double import evaluate_in_double
from brim.types import BOOL, F32, Type, parse_type

SUM = """\
graph sum
input %0: f32[2] "x"
input %1: f32[2] "total"
%2: f32[2] = add(%1, %0)
%3: f32[2] = mul(%2, %2)
output %3 "y"
output %2 "total"
state "total" [1.0, 0.0]
"""


def steps(graph: Graph, xs: list[np.ndarray]) -> list[np.ndarray]:
    """Output y of one run after another, by the interpreter."""
    state: dict[str, np.ndarray] = {}
    found = []
    for x in xs:
        results = evaluate(graph, {"x": x, **state})
        state = {name: results[name] for name in graph.state}
        found.append(results["y"])
    return found


XS = [np.array([i, -2 * i], np.float32) for i in range(5)]


def test_a_run_goes_on_where_the_last_one_ended() -> None:
    found = steps(parse_graph(SUM, {}), XS)
    totals = np.array([1, 0], np.float32) + np.cumsum(XS, axis=0)
    assert np.array_equal(found, totals * totals)


def test_state_prints_and_parses() -> None:
    graph = parse_graph(SUM, {})
    assert print_graph(graph)[0] == SUM
    assert graph.state["total"].tolist() == [1, 0]
    verify(graph)


def test_large_state_stands_beside_the_text() -> None:
    x = placeholder(Type((5, 5), F32))
    first = np.arange(25, dtype=np.float32).reshape(5, 5)
    graph = Graph({"h": x}, {"h": p.neg(x)}, "g", {"h": first})
    text, data = print_graph(graph)
    assert 'state "h" @w0' in text
    assert np.array_equal(parse_graph(text, data).state["h"], first)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('state "x" [0.0, 0.0]', "not one input and output"),
        ('state "y" [0.0, 0.0]', "not one input and output"),
        ('state "total" [0.0, 0.0]', "not one input and output"),  # twice
        ('state "total"', "data expected"),
    ],
)
def test_state_that_fits_nothing_is_refused(line: str, what: str) -> None:
    text = SUM if line.startswith('state "total" [') else SUM.replace(SUM.splitlines()[-1], "")
    with pytest.raises(ModelError, match=what):
        parse_graph(f"{text}{line}\n", {})
    with pytest.raises(ModelError, match="elements"):
        parse_graph(SUM.replace("[1.0, 0.0]", "[1.0]"), {})


def test_verify_compares_state_with_its_ports() -> None:
    graph = parse_graph(SUM, {})
    for state in ({"total": np.zeros(3, np.float32)}, {"total": np.zeros(2)}):
        with pytest.raises(ModelError, match="should be"):
            verify(Graph(graph.inputs, graph.outputs, "g", state))
    with pytest.raises(ModelError, match="not an input and an output"):
        verify(Graph(graph.inputs, graph.outputs, "g", {"y": np.zeros(2, np.float32)}))
    inner = Graph({}, {}, "inner")
    inner = Graph({"h": graph.inputs["x"]}, {"h": graph.inputs["x"]}, "inner", {"h": XS[0]})
    predicate, x = placeholder(Type((), BOOL)), placeholder(Type((2,), F32))
    outer = control.cond(predicate, x, then=inner, orelse=inner)
    with pytest.raises(ModelError, match="inside another has state"):
        verify(Graph({"p": predicate, "x": x}, {"y": outer}))


def test_the_pipeline_keeps_state() -> None:
    graph = parse_graph(SUM, {})
    better = optimise(rewrite(graph, lambda value: None))
    verify(better)
    assert better.state.keys() == {"total"}
    assert np.array_equal(steps(better, XS), steps(graph, XS))


def test_state_in_double_starts_as_it_is() -> None:
    graph = parse_graph(SUM, {})
    found = evaluate_in_double(graph, {"x": XS[1]})
    assert found["total"].dtype == np.float64 and found["total"].tolist() == [2, -2]


def test_callers_see_the_other_ports() -> None:
    graph = parse_graph(SUM, {})
    assert [*visible(graph.inputs, graph.state)] == ["x"]
    assert [*visible(graph.outputs, graph.state)] == ["y"]
    assert graph.inputs["total"].type == parse_type("f32[2]")
