"""Containers as values: what fits them, their operators, their types in ONNX and in text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brim.containers import box, checked, checked_box, fits, is_box, unbox
from brim.errors import BrimError, InputError, ModelError, OpError
from brim.graph import Graph, Value, evaluate, placeholder
from brim.ops import containers as ops
from brim.text import parse_graph, print_graph
from brim.types import F32, find_dtype, parse_type

ONE, TWO, THREE = (np.arange(n, dtype=np.float32) for n in (1, 2, 3))


def _input(kind: str) -> Value:
    return placeholder(parse_type(kind))


def _run(value: Value, **feeds: Any) -> Any:
    """A value's content, where its inputs are named by their types' order in the graph."""
    return evaluate(Graph({n: v for n, v in INPUTS.items() if n in feeds}, {"y": value}), feeds)[
        "y"
    ]


INPUTS = {
    "s": _input("seq.f32[]"),
    "o": _input("opt.f32[]"),
    "x": _input("f32[2]"),
    "i": _input("i64[]"),
    "sizes": _input("i64[2]"),
}
SEQ, OPT, ARRAY, INDEX = INPUTS["s"], INPUTS["o"], INPUTS["x"], INPUTS["i"]


# ------------------------------------------------------------------ what fits


@pytest.mark.parametrize(
    "content", [[ONE, TWO], [], {}, {"a": 1.0}, None, ONE, [[ONE], []], np.array("a", object)]
)
def test_boxes_hold_anything(content: Any) -> None:
    cell = box(content)
    assert cell.shape == () and is_box(cell) and unbox(cell) is content
    assert unbox(np.asarray(cell)) is content


def test_text_is_no_box() -> None:
    assert not is_box(np.array("a", object))
    assert not is_box(np.array(["a"], object))


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        ("seq.f32", [[1, 2], TWO], [[1, 2], [0, 1]]),
        ("seq.f32", (), []),
        ("seq.i64", [3], [3]),
        ("seq.str", [["a", "b"]], [["a", "b"]]),
        ("opt.f32", None, None),
        ("opt.seq.f32", [ONE], [[0]]),
        ("map.i64.f32", {1: 2, np.int64(3): np.float32(0.5)}, {1: 2.0, 3: 0.5}),
        ("map.str.i64", {"a": np.array([7])}, {"a": 7}),
        ("map.str.bool", {"a": True}, {"a": True}),
        ("map.str.seq.f32", {"a": [ONE]}, {"a": [[0]]}),
        ("seq.map.i64.str", [{1: "x"}], [{1: "x"}]),
    ],
)
def test_what_users_give_is_checked_and_copied(kind: str, given: Any, wanted: Any) -> None:
    dtype = find_dtype(kind)
    found = checked(given, dtype, "x")
    assert fits(found, dtype)
    assert _plain(found) == wanted
    assert checked_box(box(found), dtype, "x").item() is found


def _plain(content: Any) -> Any:
    match content:
        case np.ndarray():
            return content.tolist()
        case list():
            return [_plain(part) for part in content]
        case dict():
            return {key: _plain(part) for key, part in content.items()}
    return content


def test_what_is_checked_shares_no_memory() -> None:
    given = [TWO.copy()]
    found = checked(given, find_dtype("seq.f32"), "x")
    found[0][:] = 9
    assert given[0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("seq.f32", TWO, "x is float32, the model wants seq.f32"),
        ("seq.f32", None, "x is NoneType, the model wants seq.f32"),
        ("seq.f32", [TWO, np.zeros(1)], r"x\[1\] is float64, the model wants f32"),
        ("seq.f32", [{}], r"x\[0\] is dict, the model wants f32"),
        ("seq.seq.f32", [TWO], r"x\[0\] is float32, the model wants seq.f32"),
        ("seq.i8", [[300]], r"x\[0\] is no array of i8"),
        ("opt.i64", TWO, "x is float32, the model wants i64"),
        ("map.i64.f32", [1], "x is list, the model wants map.i64.f32"),
        ("map.i64.f32", {"a": 1.0}, "x has the key 'a'"),
        ("map.i64.f32", {True: 1.0}, "x has the key True"),
        ("map.str.f32", {1: 1.0}, "x has the key 1"),
        ("map.str.f32", {"a": "1"}, r"x\['a'\] is str, the model wants f32"),
        ("map.str.f32", {"a": True}, r"x\['a'\] is bool, the model wants f32"),
        ("map.str.i64", {"a": 1.0}, r"x\['a'\] is float, the model wants i64"),
        ("map.str.i8", {"a": 300}, r"x\['a'\] does not fit i8"),
        ("map.str.f32", {"a": TWO}, r"x\['a'\] is float32, the model wants f32"),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked(given, find_dtype(kind), "x")


def test_a_box_of_the_wrong_thing_is_refused() -> None:
    with pytest.raises(InputError, match="float64"):
        checked_box(box([np.zeros(1)]), find_dtype("seq.f32"), "x")


# ------------------------------------------------------------------ operators


@pytest.mark.parametrize(
    ("value", "feeds", "wanted"),
    [
        (ops.sequence(ARRAY, ARRAY, of=F32), {"x": TWO}, [[0, 1], [0, 1]]),
        (ops.sequence(of=F32), {}, []),
        (ops.sequence(SEQ, of=find_dtype("seq.f32")), {"s": [ONE]}, [[[0]]]),
        (ops.sequence_at(SEQ, INDEX), {"s": [ONE, TWO], "i": -1}, [0, 1]),
        (ops.sequence_insert(SEQ, ARRAY), {"s": [ONE], "x": TWO}, [[0], [0, 1]]),
        (ops.sequence_insert(SEQ, ARRAY, INDEX), {"s": [ONE], "x": TWO, "i": 0}, [[0, 1], [0]]),
        (ops.sequence_insert(SEQ, ARRAY, INDEX), {"s": [ONE], "x": TWO, "i": 1}, [[0], [0, 1]]),
        (ops.sequence_insert(SEQ, ARRAY, INDEX), {"s": [ONE], "x": TWO, "i": -1}, [[0, 1], [0]]),
        (ops.sequence_erase(SEQ), {"s": [ONE, TWO]}, [[0]]),
        (ops.sequence_erase(SEQ, INDEX), {"s": [ONE, TWO], "i": -2}, [[0, 1]]),
        (ops.sequence_length(SEQ), {"s": [ONE, TWO]}, 2),
        (ops.sequence_concat(SEQ, axis=0, stack=False), {"s": [ONE, TWO]}, [0, 0, 1]),
        (ops.sequence_concat(SEQ, axis=1, stack=True), {"s": [TWO, TWO]}, [[0, 0], [1, 1]]),
        (ops.sequence_split(ARRAY, axis=0, keep=True), {"x": TWO}, [[0], [1]]),
        (ops.sequence_split(ARRAY, axis=0, keep=False), {"x": TWO}, [0, 1]),
        (ops.sequence_split(ARRAY, INDEX, axis=0, keep=True), {"x": TWO, "i": 3}, [[0, 1]]),
        (
            ops.sequence_split(ARRAY, INPUTS["sizes"], axis=0, keep=True),
            {"x": TWO, "sizes": [2, 0]},
            [[0, 1], []],
        ),
        (ops.optional(ARRAY, of=F32), {"x": TWO}, [0, 1]),
        (ops.optional(of=F32), {}, None),
        (ops.has_element(OPT), {"o": None}, False),
        (ops.has_element(OPT), {"o": TWO}, True),
        (ops.get_element(OPT), {"o": TWO}, [0, 1]),
        (ops.get_element(ops.optional(SEQ, of=SEQ.dtype)), {"s": [ONE]}, [[0]]),
    ],
    ids=lambda x: x.op.name if isinstance(x, Value) else "",
)
def test_operators(value: Value, feeds: dict[str, Any], wanted: Any) -> None:
    assert _plain(_run(value, **feeds)) == wanted


@pytest.mark.parametrize(
    ("value", "feeds", "message"),
    [
        (ops.sequence_at(SEQ, INDEX), {"s": [ONE], "i": 1}, "position 1 in a sequence of 1"),
        (ops.sequence_insert(SEQ, ARRAY, INDEX), {"s": [], "x": TWO, "i": -1}, "position -1"),
        (ops.sequence_erase(SEQ), {"s": []}, "nothing can be taken"),
        (ops.sequence_concat(SEQ, axis=0, stack=False), {"s": []}, "nothing to join"),
        (ops.sequence_split(ARRAY, INDEX, axis=0, keep=True), {"x": TWO, "i": 0}, "parts of 0"),
        (
            ops.sequence_split(ARRAY, INPUTS["sizes"], axis=0, keep=True),
            {"x": TWO, "sizes": [3, -1]},
            "do not make up 2",
        ),
        (ops.get_element(OPT), {"o": None}, "an empty optional"),
    ],
    ids=lambda x: x.op.name if isinstance(x, Value) else "",
)
def test_contents_that_operators_refuse(value: Value, feeds: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _run(value, **feeds)


@pytest.mark.parametrize(
    "apply",
    [
        lambda: ops.sequence(ARRAY, INDEX, of=F32),
        lambda: ops.sequence_at(ARRAY, INDEX),
        lambda: ops.sequence_at(SEQ, ARRAY),
        lambda: ops.sequence_insert(SEQ, INDEX),
        lambda: ops.sequence_insert(SEQ, ARRAY, INDEX, INDEX),
        lambda: ops.sequence_erase(OPT),
        lambda: ops.sequence_length(ARRAY),
        lambda: ops.sequence_concat(_input("seq.seq.f32[]"), axis=0, stack=False),
        lambda: ops.sequence_split(SEQ, axis=0, keep=True),
        lambda: ops.optional(INDEX, of=F32),
        lambda: ops.has_element(SEQ),
        lambda: ops.get_element(ARRAY),
    ],
)
def test_types_that_operators_refuse(apply: Any) -> None:
    with pytest.raises(OpError):
        apply()


def test_what_comes_out_of_a_container_has_its_type() -> None:
    assert str(ops.sequence_at(SEQ, INDEX).type) == "f32[?]"
    assert str(ops.sequence_at(_input("seq.map.i64.f32[]"), INDEX).type) == "map.i64.f32[]"
    assert str(ops.get_element(_input("opt.seq.str[]")).type) == "seq.str[]"
    assert str(ops.optional(SEQ, of=SEQ.dtype).type) == "opt.seq.f32[]"


# ------------------------------------------------------------------ text


def test_graphs_with_containers_print_and_parse() -> None:
    inner = ops.sequence_insert(SEQ, ARRAY)
    outputs = {"t": inner, "p": ops.optional(inner, of=inner.dtype), "e": ops.optional(of=F32)}
    graph = Graph({"s": SEQ, "x": ARRAY}, outputs, "g")
    text, data = print_graph(graph)
    assert "%3: opt.seq.f32[] = optional(%2) of=seq.f32" in text
    again = parse_graph(text, data)
    assert print_graph(again)[0] == text
    assert _plain(evaluate(again, {"s": [ONE], "x": TWO})) == {
        "t": [[0], [0, 1]],
        "p": [[0], [0, 1]],
        "e": None,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('graph g\nconst %0: seq.f32[] [1.0]\noutput %0 "y"', "is no container"),
        ('graph g\ninput %0: seq.f33[] "x"\noutput %0 "x"', "no type 'f33'"),
        ('graph g\ninput %0: map.f32.f32[] "x"\noutput %0 "x"', "no type"),
        ('graph g\n%0: opt.f32[] = optional() of=opt.\noutput %0 "x"', "there is no type ''"),
    ],
    ids=["constant", "element", "key", "attribute"],
)
def test_faults_in_the_text_of_containers(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        parse_graph(text, {})


# ------------------------------------------------------------------ ONNX


@pytest.mark.parametrize(
    "kind",
    [
        "seq.f32[]",
        "opt.i64[]",
        "opt.seq.str[]",
        "map.i64.f32[]",
        "seq.map.str.f64[]",
        "map.str.seq.f32[]",
        "f32[2,3]",
        "bool[]",
        "i8[?]",
    ],
)
def test_types_survive_the_way_through_onnx(kind: str) -> None:
    pytest.importorskip("onnx")
    from brim.frontends.onnx.typeprotos import read_type, write_type

    type = parse_type(kind)
    assert read_type(write_type(type), "x", "") == type


def test_types_that_brim_lacks_are_refused() -> None:
    onnx = pytest.importorskip("onnx")
    from brim.frontends.onnx.typeprotos import read_type

    helper = onnx.helper
    number = helper.make_tensor_type_proto(1, None)
    deep = number
    for _ in range(20):
        deep = helper.make_sequence_type_proto(deep)
    odd = onnx.TypeProto()
    odd.map_type.key_type = 1
    odd.map_type.value_type.CopyFrom(number)
    narrow = onnx.TypeProto()
    narrow.map_type.key_type = 3
    narrow.map_type.value_type.CopyFrom(number)
    sparse = helper.make_sparse_tensor_type_proto(1, [2])
    for proto, message in (
        (deep, "types nest deeper"),
        (odd, "cannot have keys of f32"),
        (narrow, "maps with keys of i8"),
        (sparse, "values of sparse_tensor_type"),
        (helper.make_sequence_type_proto(onnx.TypeProto()), "values of no type"),
    ):
        with pytest.raises(BrimError, match=message):
            read_type(proto, "x", "here")
