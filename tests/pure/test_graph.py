"""Values, graphs, the loops over them, control flow, and verification."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from brim.errors import InputError, ModelError, OpError
from brim.graph import (
    Graph,
    Op,
    Value,
    const,
    evaluate,
    placeholder,
    rewrite,
    rewrite_values,
    substitute,
    topo,
    users,
)
from brim.ops import control
from brim.ops import math as maths
from brim.ops import primitive as ops
from brim.ops.registry import at
from brim.passes.expand import expand
from brim.passes.simplify import simplify
from brim.passes.verify import verify
from brim.text import parse_graph, print_graph
from brim.types import BOOL, F32, I64, Type, parse_type


def value(text: str) -> Value:
    return placeholder(parse_type(text))


def test_topo_puts_arguments_first_and_each_once() -> None:
    x = value("f32[2]")
    a = ops.exp(x)
    b = ops.add(a, a)
    assert topo([b, a]) == [x, a, b]


def test_deep_graphs_need_no_recursion() -> None:
    x = y = value("f32[2]")
    for _ in range(5000):
        y = ops.neg(y)
    graph = Graph({"x": x}, {"y": y})
    assert evaluate(graph, {"x": np.ones(2)})["y"].tolist() == [1, 1]
    assert simplify(graph).outputs["y"] is x
    text, data = print_graph(graph)
    assert print_graph(parse_graph(text, data))[0] == text


def test_users() -> None:
    x = value("f32[2]")
    a = ops.exp(x)
    b = ops.add(a, x)
    found = users(Graph({"x": x}, {"y": b}))
    assert found[id(x)] == [a, b]
    assert found[id(a)] == [b]
    assert id(b) not in found


def test_rewrite_keeps_what_does_not_change() -> None:
    x = value("f32[2]")
    a, b = ops.exp(x), ops.neg(x)
    graph = Graph({"x": x}, {"a": a, "b": ops.floor(b)})
    new = rewrite(graph, lambda v: ops.absolute(v.args[0]) if v.op is b.op else None)
    assert new.outputs["a"] is a
    assert [v.op.name for v in topo([new.outputs["b"]]) if v.op] == ["absolute", "floor"]
    assert new.inputs["x"] is x


def test_substitute() -> None:
    x, z = value("f32[2]"), value("f32[2]")
    found = substitute([ops.exp(ops.neg(x))], {id(x): z})[0]
    assert topo([found])[0] is z


def test_evaluate_names_the_missing_input() -> None:
    x = value("f32[2]")
    with pytest.raises(InputError, match="'x' is missing"):
        evaluate(Graph({"x": x}, {"y": ops.exp(x)}), {})


def test_constants_cannot_be_written() -> None:
    found = const(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="read-only"):
        found.data[0] = 1  # type: ignore[index]


def test_values_remember_where_they_are_from() -> None:
    with at("net.onnx:Exp_1"):
        y = ops.exp(value("f32[2]"))
        with pytest.raises(OpError) as caught:
            ops.add(y, value("f32[3]"))
    assert y.where == "net.onnx:Exp_1"
    assert caught.value.where == "net.onnx:Exp_1"


# ------------------------------------------------------------------ control flow


def _branch(name: str, function: Callable[[Value], Value]) -> Graph:
    x = value("f32[2]")
    return Graph({"x": x}, {"y": function(x)}, name)


def test_cond_runs_one_branch() -> None:
    p, x = value("bool[]"), value("f32[2]")
    y = control.cond(p, x, then=_branch("a", ops.neg), orelse=_branch("b", maths.relu))
    graph = Graph({"p": p, "x": x}, {"y": y})
    verify(graph)
    for change in (lambda g: g, simplify, expand):
        changed = change(graph)
        for choice, wanted in ((True, [-1, 2]), (False, [1, 0])):
            fed = {"p": np.array(choice), "x": np.array([1, -2])}
            assert evaluate(changed, fed)["y"].tolist() == wanted
    inner = expand(graph).outputs["y"].attrs["orelse"].outputs["y"]
    assert inner.op.name == "maximum"
    text, data = print_graph(graph)
    again = parse_graph(text, data)
    assert print_graph(again)[0] == text
    fed = {"p": np.array(False), "x": np.array([1, -2])}
    assert evaluate(again, fed)["y"].tolist() == [1, 0]


def test_decided_choices_vanish() -> None:
    x = value("f32[2]")
    inner = value("f32[2]")
    two = Graph({"x": inner}, {"a": ops.neg(inner), "b": ops.exp(inner)}, "two")
    y = control.cond(const(np.array(True)), x, then=two, orelse=two)
    results = {f"y{i}": ops.item(y, index=i) for i in range(2)}
    one = control.cond(
        const(np.array(False)), x, then=_branch("a", ops.neg), orelse=_branch("b", maths.relu)
    )
    graph = Graph({"x": x}, {**results, "z": one})
    found = simplify(graph)
    verify(found)
    assert [v.op.name for v in found.values() if v.op] == ["neg", "exp", "relu"]
    fed = {"x": np.array([1.0, -2.0])}
    for name, array in evaluate(graph, fed).items():
        np.testing.assert_array_equal(evaluate(found, fed)[name], array)


def test_loop_carries_and_stacks() -> None:
    i, c, s = placeholder(Type((), I64)), placeholder(Type((), BOOL)), value("f32[2]")
    twice = ops.add(s, s)
    body = Graph({"i": i, "c": c, "s": s}, {"c": c, "s": twice, "row": s})
    x = value("f32[2]")
    trips, start = const(np.array(3)), const(np.array(True))
    found = control.loop(trips, start, x, body=body, carried=1, length=3)
    last, rows = (ops.item(found, index=k) for k in range(2))
    graph = Graph({"x": x}, {"last": last, "rows": rows})
    verify(graph)
    assert rows.type == Type((3, 2), F32)
    for change in (lambda g: g, simplify, expand):
        got = evaluate(change(graph), {"x": np.array([1, 2])})
        assert got["last"].tolist() == [8, 16]
        assert got["rows"].tolist() == [[1, 2], [2, 4], [4, 8]]
    text, data = print_graph(graph)
    assert "(f32[2], f32[3,2])" in text
    assert print_graph(parse_graph(text, data))[0] == text


# ------------------------------------------------------------------ verify


def _forged(v: Value, **changes: object) -> Value:
    fields = {"op": v.op, "args": v.args, "attrs": v.attrs, "type": v.type, "data": v.data}
    return Value(**{**fields, **changes})  # type: ignore[arg-type]


def test_verify_accepts_graphs() -> None:
    x = value("f32[2]")
    verify(Graph({"x": x, "unused": value("i8[?]")}, {"y": maths.softmax(x, axis=0)}))


def test_verify_finds_a_wrong_type_and_shows_it() -> None:
    x = y = value("f32[2]")
    for _ in range(20):
        y = ops.exp(y)
    bad = _forged(ops.neg(y), type=Type((3,), F32))
    z = bad
    for _ in range(20):
        z = _forged(ops.exp(x), args=(z,), type=Type((3,), F32))
    with pytest.raises(ModelError, match=r"should be f32\[2\], not f32\[3\]") as caught:
        verify(Graph({"x": x}, {"y": z}))
    lines = caught.value.where.split("\n")
    assert len(lines) == 11
    marked = [line for line in lines if line.startswith("  >")]
    assert len(marked) == 1
    assert "neg" in marked[0]


def test_verify_finds_foreign_placeholders() -> None:
    x = value("f32[2]")
    with pytest.raises(ModelError, match="placeholder is not among"):
        verify(Graph({"x": x}, {"y": ops.add(x, value("f32[2]"))}))
    with pytest.raises(ModelError, match="not a placeholder"):
        verify(Graph({"x": ops.exp(x)}, {}))


def test_verify_finds_unregistered_ops_and_odd_constants() -> None:
    x = value("f32[2]")
    rogue = Op("rogue", "elementwise", lambda t: t, lambda a: a, "Nothing.")
    with pytest.raises(ModelError, match="not registered"):
        verify(Graph({"x": x}, {"y": Value(rogue, (x,), {}, x.type)}))
    with pytest.raises(ModelError, match="is typed"):
        verify(Graph({}, {"y": _forged(const(np.zeros(3)), type=x.type)}))


def test_verify_looks_into_branches() -> None:
    p, x = value("bool[]"), value("f32[2]")
    bad = _branch("bad", lambda v: _forged(ops.neg(v), type=v.type, args=(value("f32[2]"),)))
    y = control.cond(p, x, then=bad, orelse=_branch("b", ops.neg))
    with pytest.raises(ModelError, match="placeholder"):
        verify(Graph({"p": p, "x": x}, {"y": y}))


def test_rewriting_stops_at_values_that_are_kept() -> None:
    """What lies below them is not looked at again: bodies of composites are rewritten one by one,
    and each would take as long as the whole graph."""
    x = placeholder(Type((4,), F32))
    below = [x]
    for _ in range(20):
        below.append(ops.exp(below[-1]))
    seen: list[Value] = []
    (found,) = rewrite_values([ops.neg(ops.tanh(below[-1]))], seen.append, keep=[below[-1]])
    assert [value.op.name for value in seen if value.op] == ["tanh", "neg"]
    assert found.args[0].args[0] is below[-1]
    assert topo([below[-1]], map(id, below[:-1])) == below[-1:]
