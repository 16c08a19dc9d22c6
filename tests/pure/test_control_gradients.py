"""Gradients through cond and loop: equal to slopes in f64, without products of weights in loops."""

from __future__ import annotations

import numpy as np
import pytest

from brim.errors import UnsupportedError
from brim.frontends.onnx import import_model
from brim.graph import Graph, Value, const, evaluate, placeholder
from brim.kernels.loops import loop_body
from brim.ops import primitive as p
from brim.ops.control import loop
from brim.ops.registry import apply
from brim.passes.autodiff import gradient
from brim.passes.loops import share_loops
from brim.tools.in_double import in_double
from brim.types import BOOL, F32, I64, Type
from tests.control_gradients import CONTROL, Feeds, lstm, with_gradients
from tests.loop_cases import CASES, case
from tests.random_control import feeds_of, random_model


def check(graph: Graph, feeds: Feeds) -> None:
    """<gradient, direction> is the slope along random directions, in f64."""
    wide = in_double(graph)
    feeds = {n: x.astype(np.float64) if x.dtype == np.float32 else x for n, x in feeds.items()}
    both = with_gradients(wide)
    found = evaluate(both, feeds)
    only = Graph(both.inputs, {"loss": both.outputs["loss"]})
    random, step = np.random.default_rng(1), 1e-6
    for name in list(both.outputs)[1:]:
        direction = random.normal(size=feeds[name].shape)
        ends = [
            evaluate(only, {**feeds, name: feeds[name] + sign * step * direction})["loss"]
            for sign in (1, -1)
        ]
        slope = float(ends[0] - ends[1]) / (2 * step)
        assert np.isclose(slope, np.sum(found[name] * direction), rtol=1e-6, atol=1e-7), name


@pytest.mark.parametrize("trips", [1, 2, 7])
@pytest.mark.parametrize("name", CASES)
def test_loops_of_known_length(name: str, trips: int) -> None:
    check(*case(name, trips))


@pytest.mark.parametrize("name", CONTROL)
def test_control_flow(name: str) -> None:
    check(*CONTROL[name]())


# the others of the first ones give nothing but results whose shape only the run knows
@pytest.mark.parametrize("number", [1, 2, 3, 4, 6, 7, 8, *range(10, 16), *range(17, 24)])
def test_random_control_flow(number: int) -> None:
    pytest.importorskip("onnx")
    graph = import_model(random_model(number, tensors=True))
    outputs = {name: value for name, value in graph.outputs.items() if value.type.is_static}
    assert outputs, "none whose shape is known"
    for feeds in feeds_of(number):
        check(Graph(graph.inputs, outputs), feeds)


def _loops(graph: Graph) -> list[Value]:
    return [v for v in graph.values() if v.op is not None and v.op.name == "loop"]


def test_products_of_weights_are_made_after_the_loop() -> None:
    """No iteration adds to the gradient of a weight, nor contracts rows to its shape."""
    graph, _ = lstm(5)
    both = with_gradients(graph)
    for value in _loops(both):
        carried = value.args[2 : 2 + value.attrs["carried"]]
        assert all(arg.type.size < graph.inputs["w"].type.size for arg in carried)
        inside = value.attrs["body"].values()
        products = [v for v in inside if v.op is not None and v.op.name == "contract"]
        assert len(products) == 1, "of the state, or of its cotangent, with the weights"


def test_second_derivatives_of_loops() -> None:
    graph, feeds = lstm(3)
    once = with_gradients(graph)
    slopes = {name: value for name, value in once.outputs.items() if name in ("w", "x")}
    check(Graph(graph.inputs, slopes), feeds)


def test_rows_of_a_loop_of_unknown_length_have_no_gradient() -> None:
    x, trips = placeholder(Type((2,), F32)), placeholder(Type((), I64))
    index, alive, inner = (placeholder(v) for v in (Type((), I64), Type((), BOOL), x.type))
    body = Graph({"i": index, "go": alive, "x": inner}, {"go": alive, "row": p.exp(inner)}, "body")
    rows = loop(trips, const(np.bool_(True)), x, body=body, carried=0, length=None)
    y = apply(
        "foreign", rows, format="onnx", op="ReduceSum", domain="", version=13, present=(True,),
        wanted=(True,), attributes=(), tensors=(), results=("f32[]",),
    )  # fmt: skip
    with pytest.raises(UnsupportedError, match="loop, whose shape is known at run time only"):
        gradient(y, [x])


def test_what_loops_read_again_is_stacked_once() -> None:
    """The loop of the model and that of its gradient are one; h before is h after, moved by one."""
    graph, _ = lstm(5)
    shared = share_loops(with_gradients(graph))
    forward, backward = _loops(shared)
    assert forward.attrs["carried"] == 2
    stacked = loop_body(forward).stacked
    assert stacked.count((0, 0)) == stacked.count((0, 1)) == stacked.count((1, 0)) == 1
    body = loop_body(backward)
    assert all((first, step) == (4, -1) for _, _, first, step in body.rows)
    ops = [v.op.name for v in body.graph.values() if v.op is not None]
    assert "gather" not in ops, "rows are read where they lie"
    assert "pad" not in ops, "cotangents of the gates are put side by side"
