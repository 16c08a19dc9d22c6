"""Reaching the graphs that control operators (cond, loop) carry in their attributes.

A sub-graph is closed: it sees only its own inputs. So a pass that is right for a graph is right for
a sub-graph, as long as it keeps the inputs and the types of the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brim.graph import Graph, Value, rewrite


def inside(graph: Graph, change: Callable[[Graph], Graph]) -> Graph:
    """`graph` with `change` applied to each graph that its values carry; itself if none changes."""
    found = rewrite(graph, lambda value: within(value, change))
    same = all(a is b for a, b in zip(graph.outputs.values(), found.outputs.values()))
    return graph if same else found


def within(value: Value, change: Callable[[Graph], Graph]) -> Value | None:
    """`value` with `change` applied to every graph among its attributes; None if it has none."""
    attrs = {name: _change(attr, change) for name, attr in value.attrs.items()}
    if all(attrs[name] is attr for name, attr in value.attrs.items()):
        return None
    return Value(value.op, value.args, attrs, value.type, value.data, value.where)


def _change(attr: Any, change: Callable[[Graph], Graph]) -> Any:
    if isinstance(attr, Graph):
        changed = change(attr)
        same = all(a is b for a, b in zip(attr.outputs.values(), changed.outputs.values()))
        return attr if same else changed
    if isinstance(attr, tuple) and any(isinstance(part, Graph) for part in attr):
        return tuple(_change(part, change) for part in attr)
    return attr
