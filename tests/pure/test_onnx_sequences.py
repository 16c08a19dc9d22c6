"""ONNX control flow and sequences during import: what disappears, what becomes a value, what fails.

What they compute is compared with other engines in `test_control_reference`.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import parser

from brim.errors import InputError, ModelError, OpError, UnsupportedError
from brim.frontends.onnx import import_model
from brim.graph import Graph, evaluate
from tests.control_cases import CASES, f32, flag, i64
from tests.sequence_cases import SEQUENCE_CASES

MODELS = {case.name: case.model for case in (*CASES, *SEQUENCE_CASES)}


def _model(text: str, opset: int = 18) -> bytes:
    head = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    return parser.parse_model(f"{head}\n{text}").SerializeToString()


def _ops(graph: Graph) -> set[str]:
    return {value.op.name for value in graph.values() if value.op}


# ------------------------------------------------------------------ what disappears


def test_sequences_of_known_length_leave_no_trace() -> None:
    graph = import_model(MODELS["loop_of_known_length_that_fills_a_sequence"])
    graph = Graph(graph.inputs, {"y": graph.outputs["y"]})
    assert _ops(graph) <= {"mul", "cast", "reshape", "concat"}


def test_branches_with_sequences_of_one_length_keep_their_parts_apart() -> None:
    graph = import_model(MODELS["if_that_gives_sequences_of_one_length"])
    assert _ops(graph) == {"cond", "item", "concat"}
    assert graph.outputs["z"].type.dims == (4, 3)


def test_a_loop_that_carries_a_sequence_of_one_length_carries_its_parts() -> None:
    graph = import_model(MODELS["loop_that_carries_a_sequence_of_one_length"])
    loop = next(v for v in graph.values() if v.op and v.op.name == "loop")
    assert [str(type) for type in loop.type] == ["f32[2]", "f32[3]"]  # type: ignore[attr-defined]


def test_a_known_part_at_an_unknown_position_keeps_its_shape() -> None:
    graph = import_model(MODELS["sequence_of_known_parts_at_a_position_from_outside"])
    assert str(graph.outputs["y"].type) == "f32[2]"


def test_inputs_that_are_constant_decide_at_import() -> None:
    data = MODELS["optional_input"]
    empty = import_model(data, constants={"o": None})
    assert _ops(empty) == {"neg"}
    full = import_model(data, constants={"o": f32(3, 4)})
    assert _ops(full) == {"add"}
    with pytest.raises(InputError, match="input 'o' is float64, the model wants f32"):
        import_model(data, constants={"o": np.zeros(2)})


def test_sequences_that_are_constant_inputs() -> None:
    data = MODELS["sequence_operators_on_an_input"]
    graph = import_model(data, constants={"s": [f32(1, 2, 3), f32([4])], "i": i64(0)})
    assert set(graph.inputs) == {"x"}
    assert graph.outputs["y"] is graph.inputs["x"]
    with pytest.raises(InputError, match=r"input 's'\[0\]"):
        import_model(data, constants={"s": [np.zeros(2)], "i": i64(0)})


def test_long_sequences_become_values() -> None:
    text = """g (float[1024] x, float[1] z) => (int64 n, int64 m) {
      s = SplitToSequence (x)
      n = SequenceLength (s)
      t = SequenceInsert (s, z)
      m = SequenceLength (t)
    }"""
    graph = import_model(_model(text))
    assert graph.outputs["n"].is_const and not graph.outputs["m"].is_const
    found = evaluate(graph, {"x": np.zeros(1024, np.float32), "z": f32([1])})
    assert (found["n"], found["m"]) == (1024, 1025)


# ------------------------------------------------------------------ unrolling


NEST = """g (float[2] x) => (float[2] y) {{
  n = Constant <value = int64 {{{trips}}}> ()
  yes = Constant <value = bool {{1}}> ()
  y = Loop <body = a (int64 i, bool go, float[2] v) => (bool again, float[2] w) {{
    w = Loop <body = b (int64 j, bool on, float[2] u) => (bool more, float[2] t) {{
      t = Loop <body = c (int64 k, bool up, float[2] r) => (bool still, float[2] s) {{
        s = Add (r, x)
        still = Identity (up)
      }}> (n, yes, u)
      more = Identity (on)
    }}> (n, yes, v)
    again = Identity (go)
  }}> (n, yes, x)
}}"""


@pytest.mark.parametrize(("trips", "unrolled"), [(3, True), (20, False), (32, False)])
def test_nested_loops_are_unrolled_only_as_long_as_they_stay_small(
    trips: int, unrolled: bool
) -> None:
    graph = import_model(_model(NEST.format(trips=trips)))
    assert ("loop" in _ops(graph)) is not unrolled
    assert len(graph.values()) < 2000
    (y,) = evaluate(graph, {"x": f32(1, 3)}).values()
    np.testing.assert_allclose(y, f32(1, 3) * (trips**3 + 1), rtol=1e-6)


# ------------------------------------------------------------------ captures


def test_a_part_of_a_captured_sequence_is_not_a_value_of_a_similar_name() -> None:
    """Parts have no names in a model, so no name in it may be taken for theirs."""
    text = """g (float[2] x, float[2] z, bool c) => (float[2] y) {
      s = SequenceConstruct (x, x)
      p = Neg (z)
      y = If (c) <
        then_branch = t () => (float[2] a) {
          one = Constant <value = int64 {1}> ()
          q = SequenceAt (s, one)
          a = Sub (q, p)
        },
        else_branch = e () => (float[2] b) { b = Identity (p) }
      >
    }"""
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]>\n{text}')
    for node in proto.graph.node:  # "s#1" cannot be written in the text form
        node.output[:] = ["s#1" if name == "p" else name for name in node.output]
        for attribute in node.attribute:
            for inner in attribute.g.node:
                inner.input[:] = ["s#1" if name == "p" else name for name in inner.input]
    graph = import_model(proto)
    feeds = {"x": f32(1, 2), "z": f32(5, 7)}
    for c, wanted in ((True, [6, 9]), (False, [-5, -7])):
        assert evaluate(graph, {**feeds, "c": flag(c)})["y"].tolist() == wanted


# ------------------------------------------------------------------ what fails


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "g (float[2] x) => (float[2] y) { s = SequenceConstruct (x) y = Neg (s) }",
            ModelError,
            "input 0 of Neg is a sequence",
        ),
        (
            """g (float[2] x, int64[2] z) => (float[2] y) {
              s = SequenceConstruct (x, z) n = SequenceLength (s) y = Identity (x)
              }""",
            None,
            "",
        ),
        (
            """g (float[2] x, int64[2] z) => (int64 n) {
              s = SequenceConstruct (x, z) n = SequenceLength (s)
              }""",
            ModelError,
            "a sequence of f32 cannot hold i64",
        ),
        (
            """g (float[2] x) => (float[2] y) {
              s = SequenceConstruct (x) i = Constant <value = int64 {1}> () y = SequenceAt (s, i)
              }""",
            ModelError,
            "position 1 in a sequence of 1",
        ),
        (
            """g (float[2] x) => (float[2] y) {
              s = SequenceEmpty () t = SequenceErase (s) y = ConcatFromSequence <axis = 0> (t)
              }""",
            ModelError,
            "nothing can be taken from an empty sequence",
        ),
        (
            "g (float[2] x) => (float[2] y) { y = ConcatFromSequence <axis = 0> (x) }",
            ModelError,
            "input 0 of ConcatFromSequence is not a sequence",
        ),
        (
            """g (float[2] x) => (float[2] y) {
              o = Optional <type = float[2]> () y = OptionalGetElement (o)
              }""",
            ModelError,
            "an empty optional has no element",
        ),
        (
            "g (float[2] x) => (optional(float[2]) o) { o = Optional () }",
            ModelError,
            "without a type",
        ),
        (
            """g (float[2] x, bool c) => (float[2] y) {
              y = If (c) <
                then_branch = a () => (float[2] u) { u = Neg (x) },
                else_branch = b () => (seq(float[2]) v) { v = SequenceConstruct (x) }
              >
              }""",
            ModelError,
            r"f32\[2\] in one case and seq.f32\[\] in another",
        ),
        (
            """g (float[2] x, int64 n) => (float[2] y) {
              y = Loop <body = b (int64 i, bool go, float[2] v) => (bool again, int64[2] w) {
                w = Cast <to = 7> (v) again = Identity (go)
              }> (n, , x)
              }""",
            ModelError,
            r"f32\[2\] in one case and i64\[2\] in another",
        ),
        (
            """g (float[2] x, int64 n) => (seq(float[2]) rows) {
              rows = Loop <body = b (int64 i, bool go) => (bool again, seq(float[2]) r) {
                r = SequenceConstruct (x) again = Identity (go)
              }> (n, )
              }""",
            OpError,
            "stacks tensors only",
        ),
        (
            """g (seq(float[2]) s, float[2] x) => (seq(float[2]) t) {
              t = SequenceMap <body = b (float[2] a) => (float[2] c) { c = NoSuchThing (a) }> (s)
              }""",
            UnsupportedError,
            "NoSuchThing",
        ),
    ],
    ids=[
        "tensor",
        "unused",
        "mixed",
        "position",
        "erase",
        "concat",
        "empty",
        "untyped",
        "branches",
        "carried",
        "rows",
        "map",
    ],
)
def test_models_that_make_no_sense(text: str, error: type[Exception] | None, message: str) -> None:
    if error is None:  # what nobody needs is not looked at
        import_model(_model(text))
        return
    with pytest.raises(error, match=message):
        import_model(_model(text))


def test_an_empty_optional_at_run_time_is_an_input_error() -> None:
    graph = import_model(
        _model(
            "g (optional(float[2]) o) => (float[2] y) {\
        v = OptionalGetElement (o) y = Neg (v) }"
        )
    )
    with pytest.raises(InputError, match="an empty optional has no element"):
        evaluate(graph, {"o": None})


def test_the_type_of_an_input_must_be_known() -> None:
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (seq(float[2]) s) => (int64 n)'
        "{ n = SequenceLength (s) }"
    )
    proto.graph.input[0].type.Clear()
    with pytest.raises(UnsupportedError, match="the type of input 's' is not known"):
        import_model(proto)


def test_lengths_of_a_scan_must_fit() -> None:
    data = MODELS["scan_8_of_different_lengths"]
    with pytest.raises(ModelError, match="sequence_lens"):
        import_model(data, constants={"n": i64([5, 1, 1])})
    known = import_model(data, constants={"n": i64([4, 1, 3])})
    (case,) = [case for case in CASES if case.name == "scan_8_of_different_lengths"]
    wanted = evaluate(import_model(data), case.feeds[0])
    feeds = {name: array for name, array in case.feeds[0].items() if name != "n"}
    for name, array in evaluate(known, feeds).items():
        np.testing.assert_allclose(array, wanted[name], rtol=1e-6)
