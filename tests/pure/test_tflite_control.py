"""TFLite's control flow and variables: models as plain data, run by the interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from brim.compiler import optimise
from brim.errors import ModelError, UnsupportedError
from brim.frontends.tflite import import_model
from brim.frontends.tflite.model import Operator, Signature, Subgraph, Tensor, TfliteModel
from brim.graph import Graph, evaluate
from brim.kernels.loops import is_compiled
from brim.passes.verify import verify
from brim.text import parse_graph, print_graph
from brim.types import Type, dtype_of, parse_type

ONE = np.array(1, np.int32)


def sub(
    name: str, tensors: Mapping[str, Any], inputs: str, outputs: str, *operators: tuple[str, ...]
) -> Subgraph:
    """tensors: name -> type as text, or the array of a constant, or None for a handle.
    operators: name, inputs, outputs, then options."""
    numbers = {key: i for i, key in enumerate(tensors)}
    made = tuple(_tensor(key, content) for key, content in tensors.items())
    ports = tuple(tuple(numbers[n] for n in text.split()) for text in (inputs, outputs))
    steps = []
    for op, inside, outside, *options in operators:
        taken, given = (tuple(numbers[n] for n in text.split()) for text in (inside, outside))
        plain = dict(options[0]) if options else {}  # type: ignore[arg-type]
        steps.append(Operator(op, 1, taken, given, (), MappingProxyType(plain)))
    return Subgraph(name, made, *ports, tuple(steps))


def _tensor(name: str, content: Any) -> Tensor:
    if content is None:
        return Tensor(name, "RESOURCE", None, (), (), None, None, False)
    if isinstance(content, str):
        type: Type = parse_type(content)
        return Tensor(name, "", type.dtype, type.dims, type.dims, None, None, False)
    array = np.asarray(content)
    return Tensor(name, "", dtype_of(array), array.shape, array.shape, array, None, False)


def imported(*graphs: Subgraph) -> Graph:
    """The graph of a model, which passes, prints and parses without a change of meaning."""
    main = graphs[0]
    ports = ({main.tensors[i].name: i for i in side} for side in (main.inputs, main.outputs))
    signature = Signature("", 0, *ports)
    model = TfliteModel("m", graphs, {"": signature}, signature, {}, 1000)
    graph = import_model(model)
    verify(graph)
    text, data = print_graph(graph)
    assert print_graph(parse_graph(text, data))[0] == text
    return graph


def runs(graph: Graph, *feeds: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """One run after another, of the graph and of what the passes make of it."""
    found = []
    for form in (graph, optimise(graph)):
        state: dict[str, Any] = {}
        results = []
        for feed in feeds:
            results.append(evaluate(form, {**feed, **state}))
            state = {name: results[-1][name] for name in graph.state}
        found.append(results)
    for plain, better in zip(*found, strict=True):
        for name, array in plain.items():
            np.testing.assert_allclose(better[name], array, rtol=1e-5)
    return found[0]


def ops_of(graph: Graph) -> list[str]:
    return [value.op.name for value in graph.values() if value.op is not None]


X = np.array([1, 2, 4], np.float32)
PAIR = {"a": "f32[3]", "b": "f32[3]", "c": "f32[3]"}
ADD = sub("add", PAIR, "a b", "c", ("ADD", "a b", "c"))
MUL = sub("mul", PAIR, "a b", "c", ("MUL", "a b", "c"))
IF = {"then_subgraph_index": 1, "else_subgraph_index": 2}


def branched(predicate: Any, *others: Subgraph) -> Graph:
    tensors = {"p": predicate, "x": "f32[3]", "y": "f32[3]"}
    inputs = "p x" if isinstance(predicate, str) else "x"
    main = sub("main", tensors, inputs, "y", ("IF", "p x x", "y", IF))  # type: ignore[arg-type]
    return imported(main, *others)


def test_a_condition_of_the_run_chooses_when_it_runs() -> None:
    graph = branched("bool[]", ADD, MUL)
    assert ops_of(graph) == ["cond"]
    found = runs(graph, {"p": True, "x": X}, {"p": False, "x": X})
    assert [f["y"].tolist() for f in found] == [[2, 4, 8], [1, 4, 16]]


@pytest.mark.parametrize(("predicate", "op"), [(True, "add"), (False, "mul")])
def test_a_condition_that_is_known_leaves_no_trace(predicate: bool, op: str) -> None:
    assert ops_of(branched(np.array(predicate), ADD, MUL)) == [op]


def test_branches_may_give_different_shapes() -> None:
    longer = sub("longer", {**PAIR, "c": "f32[6]"}, "a b", "c",
                 ("CONCATENATION", "a b", "c", {"axis": 0}))  # fmt: skip
    graph = branched("bool[1]", ADD, longer)
    assert str(graph.outputs["y"].type) == "f32[?]"
    found = [evaluate(graph, {"p": np.array([p]), "x": X})["y"] for p in (True, False)]
    assert [f.tolist() for f in found] == [[2, 4, 8], [1, 2, 4, 1, 2, 4]]


def test_what_is_not_supported_in_a_branch_is_named_once() -> None:
    odd = sub("odd", PAIR, "a b", "c", ("ODD_ONE", "a b", "c"))
    with pytest.raises(UnsupportedError, match=r"^1 thing is not supported: operator ODD_ONE\b"):
        branched("bool[]", ADD, odd)


# ------------------------------------------------------------------ loops

STATE = {"i": "i32[]", "x": "f32[3]"}
WHILE = {"cond_subgraph_index": 1, "body_subgraph_index": 2}
BODY = sub("body", {**STATE, "one": ONE, "j": "i32[]", "y": "f32[3]"}, "i x", "j y",
           ("ADD", "x x", "y"), ("ADD", "i one", "j"))  # fmt: skip


def until(limit: int, state: Mapping[str, Any] = STATE) -> Subgraph:
    tensors = {**state, "n": np.array(limit, np.int32), "go": "bool[]"}
    return sub("cond", tensors, " ".join(state), "go", ("LESS", "i n", "go"))


def looped(start: Any, limit: int, body: Subgraph = BODY) -> Graph:
    tensors = {"i": start, "x": "f32[3]", "n": "i32[]", "y": "f32[3]"}
    inputs = "i x" if isinstance(start, str) else "x"
    main = sub("main", tensors, inputs, "n y", ("WHILE", "i x", "n y", WHILE))  # type: ignore[arg-type]
    return imported(main, until(limit), body)


def test_a_loop_ends_when_its_condition_says() -> None:
    graph = looped("i32[]", 5)
    found = runs(graph, *({"i": np.array(i, np.int32), "x": X} for i in (0, 4, 9)))
    assert [int(f["n"]) for f in found] == [5, 5, 9]
    assert [f["y"][0] for f in found] == [32, 2, 1]


@pytest.mark.parametrize("start", [0, 3])
def test_a_loop_whose_counter_is_known_is_compiled(start: int) -> None:
    graph = looped(np.array(start, np.int32), 40)
    (loop,) = (v for v in graph.values() if v.op is not None and v.op.name == "loop")
    assert loop.attrs["length"] == 40 - start and loop.attrs["carried"] == 1
    assert all(is_compiled(v) for v in optimise(graph).values() if v.op and v.op.name == "loop")
    (found,) = runs(graph, {"x": X})
    assert found["n"] == 40 and found["y"][0] == 2.0 ** (40 - start)


def test_a_loop_that_does_not_begin_leaves_no_trace() -> None:
    graph = looped(np.array(7, np.int32), 5)
    assert not ops_of(graph) and graph.outputs["y"] is graph.inputs["x"]


def test_the_iteration_is_what_the_counter_says() -> None:
    tensors = {**STATE, "one": np.array(3, np.int32), "f": "f32[]", "j": "i32[]", "y": "f32[3]"}
    body = sub("body", tensors, "i x", "j y",
               ("CAST", "i", "f"), ("ADD", "x f", "y"), ("ADD", "i one", "j"))  # fmt: skip
    graph = looped(np.array(-2, np.int32), 200, body)  # -2, 1, 4, ... 199
    (found,) = runs(graph, {"x": X})
    assert found["n"] == 202 and found["y"][0] == 1 + sum(range(-2, 200, 3))


def test_a_short_loop_whose_shapes_grow_is_unrolled() -> None:
    body = sub("body", {**STATE, "one": ONE, "j": "i32[]", "y": "f32[6]"}, "i x", "j y",
               ("CONCATENATION", "x x", "y", {"axis": 0}), ("ADD", "i one", "j"))  # fmt: skip
    graph = looped(np.array(0, np.int32), 3, body)
    assert graph.outputs["y"].shape == (24,)
    free = looped("i32[]", 3, body)
    assert str(free.outputs["y"].type) == "f32[?]"
    found = evaluate(free, {"i": np.array(1, np.int32), "x": X})
    assert found["y"].tolist() == X.tolist() * 4


def test_what_a_body_hands_on_is_not_carried() -> None:
    state = {**STATE, "w": "f32[3]"}
    body = sub("body", {**state, "one": ONE, "j": "i32[]", "y": "f32[3]"}, "i x w", "j y w",
               ("MUL", "x w", "y"), ("ADD", "i one", "j"))  # fmt: skip
    tensors = {"i": np.array(0, np.int32), "x": "f32[3]", "w": "f32[3]",
               "n": "i32[]", "y": "f32[3]", "v": "f32[3]"}  # fmt: skip
    main = sub("main", tensors, "x w", "y v", ("WHILE", "i x w", "n y v", WHILE))  # type: ignore[arg-type]
    graph = imported(main, until(50, state), body)
    (loop,) = (v for v in graph.values() if v.op is not None and v.op.name == "loop")
    assert loop.attrs["carried"] == 1 and graph.outputs["v"] is graph.inputs["w"]
    (found,) = runs(graph, {"x": X, "w": np.full(3, 1.1, np.float32)})
    np.testing.assert_allclose(found["y"], X * 1.1**50, rtol=1e-5)


# ------------------------------------------------------------------ variables

HANDLE = ("VAR_HANDLE", "", "h", {"container": b"", "shared_name": b"v"})
ONCE = sub("once", {"h": None, "first": np.array([5, 0, 0], np.float32)}, "", "",
           HANDLE, ("ASSIGN_VARIABLE", "h first", ""))  # fmt: skip
CALL_ONCE = ("CALL_ONCE", "", "", {"init_subgraph_index": 3})


def adding(name: str) -> Subgraph:
    """v += a; gives v."""
    return sub(name, {"h": None, **PAIR}, "a b", "c", HANDLE, ("READ_VARIABLE", "h", "b"),
               ("ADD", "a b", "c"), ("ASSIGN_VARIABLE", "h c", ""))  # fmt: skip


def test_a_branch_may_change_a_variable() -> None:
    tensors = {"p": "bool[]", "x": "f32[3]", "y": "f32[3]", "h": None, "z": "f32[3]"}
    main = sub("main", tensors, "p x", "y z", CALL_ONCE, ("IF", "p x x", "y", IF), HANDLE,
               ("READ_VARIABLE", "h", "z"))  # type: ignore[arg-type] # fmt: skip
    graph = imported(main, adding("add"), MUL, ONCE)
    assert {name: array.tolist() for name, array in graph.state.items()} == {"/v": [5, 0, 0]}
    found = runs(graph, *({"p": p, "x": X} for p in (True, False, True)))
    assert [f["z"].tolist() for f in found] == [[6, 2, 4], [6, 2, 4], [7, 4, 8]]
    assert [f["y"].tolist() for f in found] == [[6, 2, 4], [1, 4, 16], [7, 4, 8]]


@pytest.mark.parametrize("start", ["i32[]", np.array(0, np.int32)])
def test_a_loop_may_change_a_variable(start: Any) -> None:
    body = sub("body", {**STATE, "h": None, "v": "f32[3]", "w": "f32[3]", "one": ONE, "j": "i32[]"},
               "i x", "j v", HANDLE, ("READ_VARIABLE", "h", "v"), ("ADD", "v x", "w"),
               ("ASSIGN_VARIABLE", "h w", ""), ("ADD", "i one", "j"))  # fmt: skip
    tensors = {"i": start, "x": "f32[3]", "n": "i32[]", "y": "f32[3]"}
    inputs = "i x" if isinstance(start, str) else "x"
    main = sub("main", tensors, inputs, "y", CALL_ONCE, ("WHILE", "i x", "n y", WHILE))  # type: ignore[arg-type]
    graph = imported(main, until(4), body, ONCE)
    feed = {"i": np.array(0, np.int32), "x": X}
    feed = feed if isinstance(start, str) else {"x": X}
    v, want = np.array([5, 0, 0], np.float32), []
    for _ in range(2):
        x = X
        for _ in range(4):
            v, x = v + x, v
        want.append((x.tolist(), v.tolist()))
    assert [(f["y"].tolist(), f["/v"].tolist()) for f in runs(graph, feed, feed)] == want


def test_a_variable_may_be_called_as_an_input_is() -> None:
    tensors = {"/v": "f32[3]", "h": None, "y": "f32[3]"}
    main = sub("main", tensors, "/v", "y", HANDLE, ("READ_VARIABLE", "h", "y"),
               ("ASSIGN_VARIABLE", "h /v", ""))  # fmt: skip
    once = ("CALL_ONCE", "", "", {"init_subgraph_index": 1})
    main = Subgraph("main", main.tensors, main.inputs, main.outputs,
                    (*sub("o", {}, "", "", once).operators, *main.operators))  # fmt: skip
    graph = imported(main, ONCE)
    assert [*graph.state] == ["state /v"]
    found = runs(graph, {"/v": X}, {"/v": X})
    assert [f["y"].tolist() for f in found] == [[5, 0, 0], [1, 2, 4]]


def test_a_variable_that_never_had_a_value_is_refused() -> None:
    main = sub("main", {"h": None, "y": "f32[3]"}, "", "y", HANDLE, ("READ_VARIABLE", "h", "y"))
    with pytest.raises(ModelError, match="before it has a value"):
        imported(main)


def test_a_variable_keeps_its_shape() -> None:
    tensors = {"h": None, "x": "f32[3]", "y": "f32[6]"}
    longer = ("CONCATENATION", "x x", "y", {"axis": 0})
    main = sub("main", tensors, "x", "y", CALL_ONCE, HANDLE, longer, ("ASSIGN_VARIABLE", "h y", ""))
    with pytest.raises(UnsupportedError, match=r"f32\[3\] and becomes f32\[6\]"):
        imported(main, ADD, MUL, ONCE)


def test_sub_graphs_that_call_each_other_are_refused() -> None:
    main = sub(
        "main", {"x": "f32[3]", "y": "f32[3]"}, "x", "y", ("CALL", "x", "y", {"subgraph": 0})
    )
    with pytest.raises(ModelError, match="nest deeper"):
        imported(main)
