"""Cases with bodies: If, Loop and Scan. Their bodies are chains of elementwise operators."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.extra.fuzz_models.draft import Draft, Tensor
from tests.extra.fuzz_models.models import element_type
from tests.extra.fuzz_models.table import case

STEPS = ("Neg", "Abs", "Relu", "Tanh", "Sigmoid", "Identity")


def chain(d: Draft, source: str, result: str, other: str | None = None) -> list[onnx.NodeProto]:
    """Nodes from `source` to `result`, adding `other` on the way."""
    nodes, name = [], source
    for i in range(d.integer(0, 2)):
        nodes.append(helper.make_node(d.choose(STEPS), [name], [f"{result}_{i}"]))
        name = f"{result}_{i}"
    if other is None:
        nodes.append(helper.make_node("Identity", [name], [result]))
    else:
        nodes.append(helper.make_node(d.choose(["Add", "Sub", "Mul"]), [name, other], [result]))
    return nodes


def port(name: str, like: Tensor, shape: tuple[int, ...] | None = None) -> onnx.ValueInfoProto:
    kind = element_type(like.array.dtype)
    return helper.make_tensor_value_info(name, kind, like.shape if shape is None else shape)


@case("If")
def if_(d: Draft, name: str) -> None:
    x = d.take(("float32", "float64"))
    y = d.tensor(x.shape, x.dtype)
    d.count += 1
    branches = {}
    for branch in ("then_branch", "else_branch"):
        result = f"{branch}_{d.count}"
        nodes = chain(d, x.name, result, y.name if d.chance() else None)
        branches[branch] = helper.make_graph(nodes, branch, [], [port(result, x)])
    d.add(name, d.scalar(d.chance(), "bool"), **branches)


@case("Loop", since=11)
def loop(d: Draft, name: str) -> None:
    x = d.take(("float32",), zero=False)
    outer = d.tensor(x.shape, x.dtype, plain=True)
    tag = f"loop{d.count}"
    state, after, seen = f"{tag}_in", f"{tag}_out", f"{tag}_seen"
    nodes = chain(d, state, after, outer.name if d.chance(0.7) else None)
    nodes.append(helper.make_node("Identity", [after], [seen]))
    more, going = f"{tag}_more", f"{tag}_going"
    counter = f"{tag}_i"
    if d.chance(0.4):  # ends by its condition
        last = numpy_helper.from_array(np.array(d.integer(0, 3), np.int64), f"{tag}_last")
        nodes.append(helper.make_node("Less", [counter, f"{tag}_last"], [more]))
        constants = [last]
    else:
        nodes.append(helper.make_node("Identity", [going], [more]))
        constants = []
    inputs = [
        helper.make_tensor_value_info(counter, TensorProto.INT64, []),
        helper.make_tensor_value_info(going, TensorProto.BOOL, []),
        port(state, x),
    ]
    results = [helper.make_tensor_value_info(more, TensorProto.BOOL, []), port(after, x)]
    outputs = 1
    if d.chance(0.6):
        results.append(port(seen, x))
        outputs = 2
    body = helper.make_graph(nodes, "body", inputs, results, constants)
    count = d.scalar(d.integer(0, 4), "int64")
    condition = d.scalar(True, "bool") if d.chance(0.6) else None
    d.add(name, count, condition, x, outputs=outputs, body=body)


@case("Scan", since=9)
def scan(d: Draft, name: str) -> None:
    x = d.take(("float32",), 1, 3, zero=False)
    axis = d.integer(0, x.rank - 1) if d.chance(0.4) else 0
    row = tuple(n for i, n in enumerate(x.shape) if i != axis)
    first = d.tensor(row, x.dtype, plain=True)
    tag = f"scan{d.count}"
    state, part, after, seen = (f"{tag}_{k}" for k in ("state", "part", "after", "seen"))
    nodes = chain(d, state, after, part)
    nodes += chain(d, after, seen)
    body = helper.make_graph(
        nodes,
        "body",
        [port(state, x, row), port(part, x, row)],
        [port(after, x, row), port(seen, x, row)],
    )
    more: dict = {}
    if axis or d.chance(0.3):
        more["scan_input_axes"] = [axis]
    if d.chance(0.3):
        more["scan_input_directions"] = [d.integer(0, 1)]
    if d.chance(0.3):
        more["scan_output_directions"] = [d.integer(0, 1)]
    if d.chance(0.3):
        more["scan_output_axes"] = [d.integer(0, len(row))]
    d.add(name, first, x, outputs=2, num_scan_inputs=1, body=body, **more)
