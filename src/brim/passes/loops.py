"""Loops that run the same iteration on the same values become one, with the rows of all of them.

    %1 = loop(..) body={%h -> %n}            the loop of a model
    %2 = loop(..) body={%h -> %n, %h, %t}    what its gradient reads, see `loop_gradient`
--> both are %2
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from brim.graph import Graph, Value
from brim.ops.control import loop, results_of
from brim.ops.registry import at
from brim.passes.subgraphs import inside
from brim.types import Type


def share_loops(graph: Graph) -> Graph:
    """The graph with such loops made one; in its sub-graphs, too."""
    graph = inside(graph, share_loops)
    alike: dict[Any, list[Value]] = {}
    keys: dict[int, Any] = {}
    for value in graph.values():
        if value.op is not None and value.op.name == "loop":
            keys[id(value)] = key = _key(value)
            alike.setdefault(key, []).append(value)
    if all(len(loops) == 1 for loops in alike.values()):
        return graph
    new: dict[int, Value] = {id(value): value for value in graph.inputs.values()}
    made: dict[Any, dict[int, list[Value]]] = {}
    for value in graph.values():
        of = value.args[0] if value.op is not None and value.op.name == "item" else value
        loops = alike[keys[id(of)]] if id(of) in keys else []
        if len(loops) < 2:
            new.setdefault(id(value), _moved(value, new))
            continue
        if keys[id(of)] not in made:
            made[keys[id(of)]] = _joined(loops, new)
        results = made[keys[id(of)]][id(of)]
        if value is not of:
            new[id(value)] = results[value.attrs["index"]]
        elif isinstance(value.type, Type):
            (new[id(value)],) = results
    outputs = {name: new[id(value)] for name, value in graph.outputs.items()}
    return Graph(graph.inputs, outputs, graph.name, graph.state)


def _key(value: Value) -> Any:
    """Equal for loops whose iterations are the same values, but for their rows."""
    body, carried = value.attrs["body"], value.attrs["carried"]
    if value.attrs["length"] is None or value.attrs.get("empty"):
        return id(value)
    kept = [*body.inputs.values(), *list(body.outputs.values())[: 1 + carried]]
    return (*map(id, value.args), carried, value.attrs["length"], *map(id, kept))


def _moved(value: Value, new: dict[int, Value]) -> Value:
    args = tuple(new[id(arg)] for arg in value.args)
    if all(a is b for a, b in zip(args, value.args)):
        return value
    return Value(value.op, args, value.attrs, value.type, value.data, value.where)


def _joined(loops: Sequence[Value], new: dict[int, Value]) -> dict[int, list[Value]]:
    """The results of each loop, from one that has the rows of all, by id of the loop."""
    attrs = dict(loops[0].attrs)
    body, carried = attrs["body"], attrs["carried"]
    outputs = dict(list(body.outputs.items())[: 1 + carried])
    numbers: dict[int, int] = {}
    for value in loops:
        for row in _rows(value):
            if id(row) not in numbers:
                numbers[id(row)] = len(outputs) - 1
                outputs[f"row{len(outputs)}"] = row
    with at(loops[0].where):
        args = (new[id(arg)] for arg in loops[0].args)
        found = results_of(loop(*args, **{**attrs, "body": Graph(body.inputs, outputs, body.name)}))
    return {
        id(value): [*found[:carried], *(found[numbers[id(row)]] for row in _rows(value))]
        for value in loops
    }


def _rows(value: Value) -> list[Value]:
    return list(value.attrs["body"].outputs.values())[1 + value.attrs["carried"] :]
